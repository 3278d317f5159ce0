//! The thread of the adverts: drains the sockets, lets the router decide, does what it says. No tokio, no file, nothing
//! that could wait for somebody.
//!
//! The order of a turn is the promise of `vrrp`: every packet that has arrived is brought before a timer runs.
// size: the turn of one thread, and what each of its steps does

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use harbor_ha_ebpf::decide::filter::{self, Reject};
use harbor_ha_ebpf::records::{Config, Secrets, Stats};
use harbor_ha_ebpf::units::{Nanos, Priority};
use harbor_ha_ebpf::wire::cursor::Cursor;
use harbor_ha_ebpf::wire::{ipv4, vrrp as wire};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::desk::Desk;
use super::{Bell, Message, status};
use crate::clock;
use crate::core::cloud::Told;
use crate::daemon::cloud::Beside;
use crate::daemon::outside::Others;
use crate::daemon::repeated::Repeated;
use crate::net::garp::Garp;
use crate::net::vrrp::{Batch, GROUP, Port};
use crate::observe::router::About;
use crate::vrrp::{Action, Actions, Heard, Input, InstanceId, Router, Said, State};

/// Without a deadline: a sign of life all the same.
const IDLE: Nanos = Nanos::from_secs(1);
/// Batches of one socket in one turn: a flood must not keep the timers from running.
const BATCHES: usize = 64;

/// An instance, as its adverts need it.
#[derive(Clone, Debug)]
pub(super) struct Speaker {
    pub name: String,
    /// Index of its interface.
    pub port: usize,
    pub source: Ipv4Addr,
    /// None: multicast.
    pub peers: Vec<Ipv4Addr>,
    pub ttl: u8,
    pub min_ttl: u8,
    pub check_source: bool,
    pub addresses: Vec<[u8; 4]>,
    pub interval: u16,
    pub password: Option<[u8; 8]>,
    /// The form that is sent; the form that is asked for, unless both are taken.
    pub checksum: (wire::Checksum, Option<wire::Checksum>),
    pub config: Config,
    /// By interface: what is announced there, excluded addresses too.
    pub announced: Vec<(usize, Vec<Ipv4Addr>)>,
}

/// One interface.
#[derive(Debug)]
pub(super) struct Place {
    pub name: String,
    /// `None` where addresses are put up and no instance speaks.
    pub port: Option<Port>,
    pub garp: Garp,
    /// Of router ids that nobody here has.
    pub strangers: u64,
    /// Not to be told apart by router id.
    pub rejects: Stats,
}

/// Whether the addresses of an instance are up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Up {
    serial: u64,
    pub is_up: bool,
    /// Since when.
    since: Nanos,
    /// Gratuitous ARPs that wait for them.
    deferred: u32,
}

/// The instance whose address is a HaVip.
pub(super) struct Followed {
    pub instance: InstanceId,
    /// How many gratuitous ARPs while the HaVip has not followed.
    pub repeat: u32,
    pub beside: Beside,
    /// Told last: the lock is taken for news only, as this thread must not wait for another's.
    pub told: Told,
}

/// The thread's own.
pub(super) struct Engine {
    pub router: Router,
    pub places: Vec<Place>,
    pub speakers: Vec<Speaker>,
    pub up: Vec<Up>,
    /// By instance: its addresses that are here and not by us, as `ADDRESS dev INTERFACE`.
    pub not_ours: Vec<Vec<String>>,
    pub about: About,
    pub others: Others,
    /// `None` without `[cloud]`.
    pub followed: Option<Followed>,
    desk: Arc<Desk>,
    messages: Receiver<Message>,
    bell: Arc<Bell>,
    /// By interface and router id.
    index: HashMap<(usize, u8), Vec<InstanceId>>,
    out: Actions,
    batch: Batch,
    unsent: Repeated,
    unread: Repeated,
}

impl Engine {
    #[expect(clippy::too_many_arguments, reason = "made once, from parts that have nothing else in common")]
    pub fn new(
        router: Router,
        places: Vec<Place>,
        speakers: Vec<Speaker>,
        about: About,
        desk: Arc<Desk>,
        others: Others,
        followed: Option<Followed>,
        messages: Receiver<Message>,
        bell: Arc<Bell>,
    ) -> Self {
        let mut index: HashMap<(usize, u8), Vec<InstanceId>> = HashMap::new();
        for (number, speaker) in speakers.iter().enumerate() {
            index.entry((speaker.port, speaker.config.vrid)).or_default().push(InstanceId(number as u16));
        }
        let every = || Repeated::new(Duration::from_secs(60));
        Self {
            router,
            places,
            up: vec![Up::default(); speakers.len()],
            not_ours: vec![Vec::new(); speakers.len()],
            speakers,
            about,
            others,
            followed,
            desk,
            messages,
            bell,
            index,
            out: Actions::default(),
            batch: Batch::default(),
            unsent: every(),
            unread: every(),
        }
    }

    /// Runs until it is told to stop, or nobody is left who could tell it.
    pub fn run(mut self) {
        self.feed(clock::now(), Input::Wake);
        loop {
            self.wait();
            self.bell.answer(clock::now());
            self.drain();
            loop {
                match self.messages.try_recv() {
                    Ok(Message::Stop) | Err(TryRecvError::Disconnected) => {
                        self.feed(clock::now(), Input::Stop);
                        return;
                    }
                    Ok(message) => self.take(message),
                    Err(TryRecvError::Empty) => break,
                }
            }
            if self.out.wake_at().is_some_and(|at| at <= clock::now()) {
                // What came while the messages were read.
                self.drain();
                self.feed(clock::now(), Input::Wake);
            }
            self.announce();
            self.tell_cloud();
        }
    }

    /// How the instance of the HaVip is now. Nobody is fenced by what is told: of a peer it is only said that it serves,
    /// and that only where there is one peer.
    fn tell_cloud(&mut self) {
        let Some(Followed { instance, beside, told, .. }) = &mut self.followed else { return };
        let (index, state) = (usize::from(instance.0), self.router.state(*instance));
        let up = self.up[index];
        let another = state == State::Backup && self.router.master(*instance).is_some();
        let now = Told {
            serves: state == State::Master && up.is_up,
            served_at: up.since,
            peer_serves: another && self.speakers[index].peers.len() == 1,
            ..Told::default()
        };
        if *told != now {
            *told = now;
            beside.tell(now);
        }
    }

    fn wait(&self) {
        let now = clock::now();
        let garp = self.places.iter().filter_map(|place| place.garp.deadline());
        let next = garp.chain(self.out.wake_at()).min().map_or(IDLE, |at| at.since(now)).min(IDLE);
        let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(self.bell.as_fd(), PollFlags::POLLIN)];
        let ports = self.places.iter().filter_map(|place| place.port.as_ref());
        fds.extend(ports.map(|port| PollFd::new(port.as_fd(), PollFlags::POLLIN)));
        // Interrupted by a signal: look again.
        let _interrupted = ppoll(&mut fds, Some(TimeSpec::from_duration(Duration::from_nanos(next.0))), None);
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Tracked(tracker, value) => self.feed(clock::now(), Input::Tracked { tracker, value }),
            Message::Gone(instance) => {
                tracing::warn!(instance = self.speakers[usize::from(instance.0)].name, "somebody took addresses away");
                self.feed(clock::now(), Input::AddressesGone(instance));
            }
            Message::Addresses { instance, serial } => {
                let up = &mut self.up[usize::from(instance.0)];
                // Of a wish that has been overtaken otherwise.
                if up.serial == serial && self.router.state(instance) == State::Master {
                    (up.is_up, up.since) = (true, clock::now());
                    let count = std::mem::take(&mut up.deferred);
                    self.garp(instance, count);
                }
            }
            Message::NotOurs(instance, addresses) => self.not_ours(instance, addresses),
            Message::Unfollowed => {
                if let Some(&Followed { instance, repeat, .. }) = self.followed.as_ref()
                    && self.up[usize::from(instance.0)].is_up
                {
                    self.garp(instance, repeat);
                }
            }
            // A client that left does not want it.
            Message::Status(answer) => drop(answer.send(status::status(self))),
            Message::Stop => {}
        }
    }

    fn not_ours(&mut self, instance: InstanceId, addresses: Vec<String>) {
        let name = &self.speakers[usize::from(instance.0)].name;
        let known = &mut self.not_ours[usize::from(instance.0)];
        if !addresses.is_empty() {
            tracing::error!(
                instance = name,
                "this node is not master and has {}, which somebody else put there, so it stays, and two nodes may have \
                 it: if nobody here needs it, `ip address del {}`",
                addresses.join(", "),
                addresses.join("`, `ip address del ")
            );
        } else if self.router.state(instance) != State::Master {
            tracing::info!(instance = name, "no address of it is here any more");
        }
        *known = addresses;
    }

    fn feed(&mut self, now: Nanos, input: Input) {
        let mut out = std::mem::take(&mut self.out);
        self.router.handle(now, input, &mut out);
        for action in out.drain() {
            self.perform(action);
        }
        self.out = out;
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Advert { instance, priority } => self.advertise(instance, priority),
            Action::AddAddresses(instance) => {
                let serial = self.desk.want(instance, true);
                self.up[usize::from(instance.0)] = Up { serial, ..Up::default() };
            }
            Action::RemoveAddresses(instance) => {
                let serial = self.desk.want(instance, false);
                self.up[usize::from(instance.0)] = Up { serial, ..Up::default() };
                for (place, addresses) in &self.speakers[usize::from(instance.0)].announced {
                    self.places[*place].garp.forget(addresses);
                }
            }
            Action::Announce { instance, count } => {
                let up = &mut self.up[usize::from(instance.0)];
                if up.is_up {
                    self.garp(instance, count);
                } else {
                    up.deferred = up.deferred.max(count);
                }
            }
            Action::Notify(event) => (self.others.tell)(&event),
            Action::Report(report) => {
                let name = &self.speakers[usize::from(report.instance.0)].name;
                tracing::info!(instance = name, from = %report.from, to = %report.to, why = report.why, "state changed");
            }
            Action::Warn { instance, what } => {
                tracing::warn!(instance = self.speakers[usize::from(instance.0)].name, "{what}");
            }
        }
    }

    fn garp(&mut self, instance: InstanceId, count: u32) {
        for (place, addresses) in &self.speakers[usize::from(instance.0)].announced {
            self.places[*place].garp.announce(addresses, count);
        }
    }

    fn announce(&mut self) {
        for place in &mut self.places {
            if let Err(error) = place.garp.run(clock::now())
                && self.unsent.is_due()
            {
                tracing::warn!(%error, interface = place.name, "gratuitous ARP not sent");
            }
        }
    }

    fn advertise(&mut self, instance: InstanceId, priority: Priority) {
        let speaker = &self.speakers[usize::from(instance.0)];
        let Some(port) = &self.places[speaker.port].port else { return };
        let advert = wire::Outgoing {
            version: speaker.config.vrrp_version,
            vrid: speaker.config.vrid,
            priority,
            interval: speaker.interval,
            addresses: &speaker.addresses,
            password: speaker.password,
            checksum: speaker.checksum.0,
        };
        let group = [GROUP];
        let to: &[Ipv4Addr] = if speaker.peers.is_empty() { &group } else { &speaker.peers };
        let mut buffer = [0; wire::LENGTH_MAX];
        let mut failed = None;
        for &peer in to {
            // The checksum of version 3 knows whom it is for.
            let length = wire::emit(&advert, speaker.source.octets(), peer.octets(), &mut buffer);
            if let Err(error) = port.send(&buffer[..length], speaker.source, peer, speaker.ttl) {
                failed = Some((peer, error));
            }
        }
        match failed {
            None => self.unsent.over(),
            Some((peer, error)) if self.unsent.is_due() => {
                tracing::warn!(instance = speaker.name, %peer, %error, "advert not sent");
            }
            Some(_) => {}
        }
    }

    /// Brings everything that has arrived.
    fn drain(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        for place in 0..self.places.len() {
            for _ in 0..BATCHES {
                let Some(port) = &self.places[place].port else { break };
                match port.receive(&mut batch, clock::now()) {
                    Ok([]) => break,
                    Ok(packets) => packets.iter().for_each(|packet| self.packet(place, packet.bytes(), packet.at)),
                    Err(error) => {
                        self.unreadable(place, &error);
                        break;
                    }
                }
            }
        }
        self.batch = batch;
    }

    /// `ENETDOWN` is said once when an interface goes down; anything else is worth a line.
    fn unreadable(&mut self, place: usize, error: &io::Error) {
        if error.raw_os_error() != Some(libc::ENETDOWN) && self.unread.is_due() {
            tracing::warn!(%error, interface = self.places[place].name, "adverts cannot be received");
        }
    }

    fn packet(&mut self, place: usize, bytes: &[u8], at: Nanos) {
        let mut cursor = Cursor::new(bytes);
        let Some(header) = ipv4::parse(&mut cursor) else { return };
        // The router id, which every version has in the same place, tells whose it is before anything else is judged.
        let start = bytes.len().min(usize::from(bytes[0] & 0x0f) * 4);
        let message = &bytes[start..bytes.len().min(start + usize::from(header.payload))];
        let Some(&vrid) = message.get(1) else {
            *Reject::Length.counter(&mut self.places[place].rejects) += 1;
            return;
        };
        let (from, to) = (Ipv4Addr::from(header.source), Ipv4Addr::from(header.destination));
        let Some(instance) = self.whose(place, vrid, from, to) else {
            self.places[place].strangers += 1;
            return;
        };
        let speaker = &self.speakers[usize::from(instance.0)];
        let judged = speaker.judge(&header, cursor, message);
        let input = match judged {
            Ok(advert) => {
                let same_addresses = speaker.lists_ours(message, advert.count);
                Input::Advert(Heard { instance, from, at, advert, same_addresses })
            }
            Err((why, said)) => Input::Refused { instance, from, at, why, said },
        };
        self.feed(clock::now(), input);
    }

    /// Of several instances with one router id, which unicast allows, the one whose peer it is.
    fn whose(&self, place: usize, vrid: u8, from: Ipv4Addr, to: Ipv4Addr) -> Option<InstanceId> {
        let candidates = self.index.get(&(place, vrid))?;
        let fits = |id: &&InstanceId| {
            let speaker = &self.speakers[usize::from(id.0)];
            if speaker.peers.is_empty() { to == GROUP } else { to == speaker.source && speaker.peers.contains(&from) }
        };
        candidates.iter().find(fits).or_else(|| candidates.first()).copied()
    }
}

impl Speaker {
    /// The checks of RFC 9568 §7.1 and RFC 3768 §7.1.
    pub fn judge(
        &self,
        header: &ipv4::Header,
        cursor: Cursor<'_>,
        message: &[u8],
    ) -> Result<wire::Advert, (Reject, Option<Said>)> {
        let bare = |why| (why, None);
        let multicast = self.peers.is_empty();
        let from = Ipv4Addr::from(header.source);
        // A unicast advert to a multicast instance, or the other way round, is of another network.
        let to = if multicast { GROUP } else { self.source };
        if header.destination != to.octets() || !multicast && self.check_source && !self.peers.contains(&from) {
            return Err(bare(Reject::Source));
        }
        if header.ttl < self.min_ttl {
            return Err(bare(Reject::Ttl));
        }
        if header.fragment {
            return Err(bare(Reject::Length));
        }
        let advert = wire::parse(cursor, header.payload, header.source, header.destination).map_err(bare)?;
        if let Some(form) = self.checksum.1
            && advert.version == 3
            && !wire::has_checksum(form, message, header.source, header.destination)
        {
            return Err(bare(Reject::Checksum));
        }
        let secrets = Secrets { password: self.password.unwrap_or_default(), ..Secrets::default() };
        let said = Said { priority: advert.priority.0, interval: advert.interval };
        filter::advert(&advert, &self.config, &secrets).map_err(|why| (why, Some(said)))?;
        Ok(advert)
    }

    /// As sets: keepalived lists them in its own order.
    pub fn lists_ours(&self, message: &[u8], count: u8) -> bool {
        let listed = message.get(8..8 + 4 * usize::from(count)).unwrap_or_default();
        let listed = listed.as_chunks::<4>().0;
        listed.len() == self.addresses.len() && listed.iter().all(|address| self.addresses.contains(address))
    }
}
