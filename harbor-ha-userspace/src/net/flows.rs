//! The connections of the virtual addresses: the node that serves tells the other one, which resets them if it takes over.
//!
//! A plain thread: it reads a map of thousands of elements and sends as many packets, which the loop of the core has no
//! time for. Who serves and when clients are asked is the core's word. The peer confirms each whole table, with an empty
//! datagram of no parts under the table's sequence, so that a node that leaves the service knows what the other one will
//! reset.

mod table;

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use harbor_ha_ebpf::records::{Flow, FlowKey};
use harbor_ha_ebpf::units::Nanos;
use harbor_ha_ebpf::wire::flows::{self, Entry, Head, LENGTH_MAX};
use harbor_ha_ebpf::wire::siphash::Key;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use self::table::Learnt;
use super::pulse::Identity;
use super::tickle::Tickler;
use crate::clock;
use crate::config::settings::Pulse as Settings;
use crate::core::flows::SeesFlows;

/// Between two looks at the map, five a second: what is opened in between is not known to the peer.
const LOOK: Nanos = Nanos::from_millis(200);
/// A look may take this share of the time: the map of a busy host has thousands of elements, and each costs two calls.
const SHARE: u64 = 50;
/// A table that did not change is sent this often all the same: the peer may be new.
const REFRESH: Nanos = Nanos::from_secs(1);
/// What the peer confirmed counts for so long.
const CONFIRMED: Nanos = Nanos::from_secs(3);
/// When the clients are asked after a takeover. Once more soon, as a packet can be lost or come before the network knows
/// where the address went; then as often as a client answers at all (`tcp_invalid_ratelimit`, 500 ms).
const ROUNDS: [Nanos; 6] = [
    Nanos(0),
    Nanos::from_millis(100),
    Nanos::from_millis(600),
    Nanos::from_millis(1200),
    Nanos::from_millis(2200),
    Nanos::from_millis(3200),
];

/// All memory of the daemon is locked, also what a thread's stack never touches.
const STACK: usize = 256 << 10;

/// What the threads share.
#[derive(Debug)]
struct Shared {
    /// The term in which this node serves, if it does.
    serving: Mutex<Option<u64>>,
    /// What the peer has confirmed to know, and when.
    confirmed: Mutex<(Nanos, BTreeSet<FlowKey>)>,
    tickle: AtomicBool,
    stop: AtomicBool,
    /// Something of the above changed.
    bell: EventFd,
}

/// The running thread; stops when dropped.
#[derive(Debug)]
pub struct Flows {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Flows {
    /// Opens the sockets and starts the thread; needs `CAP_NET_RAW`. `identity.sequence` is above that of every table ever
    /// sent.
    ///
    /// # Errors
    ///
    /// A socket or the thread cannot be made.
    pub fn start(settings: &Settings, identity: Identity, kernel: Box<dyn SeesFlows>) -> io::Result<Self> {
        let socket = UdpSocket::bind(SocketAddrV4::new(identity.source, settings.flows_port))?;
        // The kernel keeps away what does not come from there.
        socket.connect(SocketAddrV4::new(identity.peer, settings.flows_port))?;
        socket.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            serving: Mutex::default(),
            confirmed: Mutex::default(),
            tickle: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            bell: EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK)?,
        });
        let worker = Worker {
            socket,
            tickler: Tickler::open()?,
            kernel,
            shared: Arc::clone(&shared),
            key: Key::from_bytes(*settings.key.reveal()),
            other: Key::from_bytes(*settings.other_key.as_ref().unwrap_or(&settings.key).reveal()),
            head: Head {
                vrid: identity.vrid,
                cluster_id: settings.cluster_id,
                sequence: identity.sequence,
                ..Head::default()
            },
            learnt: Learnt::default(),
            sent: BTreeSet::new(),
            sent_at: Nanos(0),
            look_at: Nanos(0),
            rounds: VecDeque::new(),
            asked: BTreeSet::new(),
            begun: Nanos(0),
        };
        let thread =
            std::thread::Builder::new().name("flows".to_owned()).stack_size(STACK).spawn(move || worker.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Whether this node serves, and in which term: then it tells the peer.
    pub fn serving(&self, term: Option<u64>) {
        let mut serving = held(&self.shared.serving);
        if *serving != term {
            *serving = term;
            self.ring();
        }
    }

    /// Asks every known connection where it stands, now and a few times more.
    pub fn tickle(&self) {
        self.shared.tickle.store(true, Ordering::Release);
        self.ring();
    }

    /// What the peer has confirmed to know, of late.
    pub fn confirmed(&self) -> BTreeSet<FlowKey> {
        let confirmed = held(&self.shared.confirmed);
        if clock::now().since(confirmed.0).0 < CONFIRMED.0 { confirmed.1.clone() } else { BTreeSet::new() }
    }

    fn ring(&self) {
        // Full means that it rings already.
        let _rings = self.shared.bell.write(1);
    }
}

impl Drop for Flows {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.ring();
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's own.
struct Worker {
    socket: UdpSocket,
    tickler: Tickler,
    kernel: Box<dyn SeesFlows>,
    shared: Arc<Shared>,
    key: Key,
    /// Accepted too, while keys are changed.
    other: Key,
    /// Of the last table that was sent.
    head: Head,
    learnt: Learnt,
    sent: BTreeSet<FlowKey>,
    sent_at: Nanos,
    look_at: Nanos,
    /// When the clients are asked next.
    rounds: VecDeque<Nanos>,
    /// Whom.
    asked: BTreeSet<FlowKey>,
    /// Since when.
    begun: Nanos,
}

impl Worker {
    fn run(mut self) {
        loop {
            let serving = *held(&self.shared.serving);
            let due = self.rounds.front().copied().into_iter().chain(serving.map(|_| self.look_at)).min();
            self.wait(due);
            if self.shared.stop.load(Ordering::Acquire) {
                return;
            }
            let _rang = self.shared.bell.read();
            if self.shared.tickle.swap(false, Ordering::AcqRel) {
                self.begin();
            }
            while self.rounds.front().is_some_and(|&at| at <= clock::now()) {
                self.rounds.pop_front();
                self.ask();
            }
            self.hear();
            let serving = *held(&self.shared.serving);
            if let Some(term) = serving.filter(|_| self.look_at <= clock::now()) {
                self.share(term);
            }
        }
    }

    /// Until something comes in, the bell rings, or it is `due`.
    fn wait(&self, due: Option<Nanos>) {
        let mut fds = [
            PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.shared.bell.as_fd(), PollFlags::POLLIN),
        ];
        // Rounded up: a turn too early would do nothing and come again.
        let limit = due.map(|due| due.since(clock::now()).0.div_ceil(1_000_000));
        let limit = limit.map_or(PollTimeout::NONE, |ms| PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX));
        // Interrupted by a signal: look again.
        let _looks = poll(&mut fds, limit);
    }

    /// This node serves from now on, and knows of these: what the peer told, and what this node knew when it served last.
    fn begin(&mut self) {
        self.begun = clock::now();
        let ours = self.kernel.flows(self.begun).into_iter().filter(|(_, flow)| flow.closed == 0).map(|(key, _)| key);
        self.asked = self.learnt.flows().chain(ours).collect();
        self.rounds = ROUNDS.map(|after| self.begun.after(after)).into();
        let age_ms = self.learnt.heard().map(|heard| self.begun.since(heard).0 / 1_000_000);
        tracing::info!(connections = self.asked.len(), age_ms, "asking the clients of open connections");
    }

    fn ask(&mut self) {
        if self.rounds.len() + 1 < ROUNDS.len() {
            // A client that knows nothing of its connection any more has said so.
            let over = |flow: &Flow| flow.closed != 0 && flow.last_seen_ns >= self.begun.0;
            let flows = self.kernel.flows(clock::now());
            for (key, _) in flows.iter().filter(|(_, flow)| over(flow)) {
                self.asked.remove(key);
            }
        }
        let mut failed = None;
        for flow in &self.asked {
            failed = self.tickler.send(flow).err().or(failed);
        }
        if let Some(error) = failed {
            tracing::debug!(%error, "not every client was asked in this round");
        }
    }

    /// Tells the peer what is open.
    fn share(&mut self, term: u64) {
        let now = clock::now();
        let open = self.kernel.flows(now).into_iter().filter(|(_, flow)| flow.closed == 0);
        let age = |flow: &Flow| (now.since(Nanos(flow.last_seen_ns)).0 / 1_000_000_000) as u32;
        let entries: Vec<Entry> = open.map(|(key, flow)| Entry { key, age_s: age(&flow) }).collect();
        let keys = entries.iter().map(|entry| entry.key).collect();
        let confirmed = held(&self.shared.confirmed).0 >= self.sent_at;
        if keys != self.sent || !confirmed || now.since(self.sent_at).0 >= REFRESH.0 {
            (self.sent, self.sent_at) = (keys, now);
            self.head.term = term;
            self.head.sequence += 1;
            let (parts, list) = table::parts(&entries);
            for (part, entries) in list {
                self.send(&Head { part, parts, ..self.head }, entries);
            }
        }
        let took = clock::now().since(now);
        self.look_at = now.after(Nanos(LOOK.0.max(took.times(SHARE).0)));
    }

    fn send(&self, head: &Head, entries: &[Entry]) {
        let mut bytes = [0; LENGTH_MAX];
        let length = flows::emit(head, entries, self.key, &mut bytes);
        // A peer whose port was closed for a while answers with an error, which the next call reports instead of sending.
        let sent = match self.socket.send(&bytes[..length]) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => self.socket.send(&bytes[..length]),
            sent => sent,
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "the table of connections was not sent");
        }
    }

    fn hear(&mut self) {
        // One more than the largest: a longer datagram is seen to be one.
        let mut bytes = [0; LENGTH_MAX + 1];
        loop {
            let length = match self.socket.recv(&mut bytes) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(_) => return,
            };
            let (head, entries) = match flows::parse(&bytes[..length], self.key)
                .or_else(|_| flows::parse(&bytes[..length], self.other))
            {
                Ok(read) => read,
                Err(reject) => {
                    tracing::debug!(reason = reject.name(), "a datagram that is no table of the peer");
                    continue;
                }
            };
            if (head.vrid, head.cluster_id) != (self.head.vrid, self.head.cluster_id) {
                continue;
            }
            if head.parts == 0 {
                self.confirmed(&head);
            } else if self.learnt.hear(&head, entries, clock::now()) {
                self.send(&Head { part: 0, parts: 0, ..head }, &[]);
            }
        }
    }

    /// The peer has the whole table.
    fn confirmed(&self, head: &Head) {
        if head.sequence == self.head.sequence {
            *held(&self.shared.confirmed) = (clock::now(), self.sent.clone());
        }
    }
}

#[cfg(test)]
mod tests;
