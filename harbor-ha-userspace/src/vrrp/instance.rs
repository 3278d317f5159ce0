//! One virtual router: its state, its timers, and what it knows of the others.

use std::net::Ipv4Addr;
use std::sync::Arc;

use harbor_ha_ebpf::records::Stats;
use harbor_ha_ebpf::units::{Nanos, Priority};
use serde::Serialize;

use super::input::Heard;
use super::rules::{GroupId, InstanceId, InstanceRules};
use super::table::{Preempt, State};
use super::track::Health;

/// Senders that are remembered: on a multicast network anybody can send.
const PEERS_MAX: usize = 16;

/// One virtual router.
#[derive(Debug)]
pub(super) struct Instance {
    pub rules: InstanceRules,
    /// Those that move with it, itself among them.
    pub fellows: Arc<[InstanceId]>,
    pub group: Option<GroupId>,
    pub state: State,
    pub since: Nanos,
    pub why: String,
    /// As trackers make it.
    pub priority: Priority,
    pub health: Health,
    /// The interval of the master that is followed; else our own.
    pub master_interval: Nanos,
    /// Who was last heard as master; ourselves when we are.
    pub master: Option<(Ipv4Addr, Priority)>,
    /// The advert that counted last; `None` when there was none since FAULT, or since its group made it backup.
    pub word: Option<Word>,
    /// Its timer ran out, and it waits for its fellows.
    pub wants: bool,
    /// The timer ran out so late that this host must have stood still: the master got one more interval.
    pub graced: bool,
    /// Until then a weaker master is borne with.
    pub preempt_at: Option<Nanos>,
    pub down_at: Option<Nanos>,
    pub advert_at: Option<Nanos>,
    pub second_burst_at: Option<Nanos>,
    pub refresh_at: Option<Nanos>,
    pub lower_burst_at: Option<Nanos>,
    pub peers: Vec<Peer>,
    pub counters: Counters,
    pub rejects: Stats,
}

/// What an advert said, for the reason that is told when nobody is followed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub from: Ipv4Addr,
    pub priority: Priority,
    pub at: Nanos,
    pub interval: Nanos,
    /// Master_Down_Interval was counted from it.
    pub followed: bool,
}

/// A sender of adverts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// Its address.
    pub address: Ipv4Addr,
    /// When it was last heard, `CLOCK_MONOTONIC` nanoseconds.
    pub last_ns: u64,
    /// Its priority then.
    pub priority: u8,
    /// Between its adverts, as they say.
    pub interval_ns: u64,
    /// Which is not what we say; with v2 its adverts are dropped for that.
    pub interval_differs: bool,
    /// It lists other addresses than ours.
    pub addresses_differ: bool,
    /// How many of its adverts counted.
    pub adverts: u64,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Adverts that we sent, resignations among them.
    pub adverts_sent: u64,
    /// Adverts that counted.
    pub adverts_received: u64,
    /// Resignations that we sent.
    pub priority_zero_sent: u64,
    /// Resignations that counted.
    pub priority_zero_received: u64,
    /// How often it became master.
    pub became_master: u64,
    /// How often it was master no more.
    pub released_master: u64,
    /// Adverts with another list of addresses.
    pub address_list_differs: u64,
    /// Adverts with another interval that counted all the same (v3).
    pub interval_differs: u64,
    /// Adverts in INIT and FAULT, in the time of a start-up delay, or from our own address.
    pub ignored: u64,
    /// Timers that ran out so late that nothing was concluded.
    pub stalls: u64,
    /// Addresses that somebody took away and that were put up again.
    pub addresses_restored: u64,
}

impl Instance {
    pub fn new(rules: InstanceRules, fellows: Arc<[InstanceId]>, group: Option<GroupId>, now: Nanos) -> Self {
        Self {
            fellows,
            group,
            state: State::Init,
            since: now,
            why: "just started".to_owned(),
            priority: rules.priority.priority(),
            health: Health::Well,
            master_interval: rules.protocol.interval(),
            master: None,
            word: None,
            wants: false,
            graced: false,
            preempt_at: None,
            down_at: None,
            advert_at: None,
            second_burst_at: None,
            refresh_at: None,
            lower_burst_at: None,
            peers: Vec::new(),
            counters: Counters::default(),
            rejects: Stats::default(),
            rules,
        }
    }

    /// Master_Down_Interval against the master that is followed.
    pub fn master_down(&self) -> Nanos {
        self.rules.protocol.master_down(self.priority, self.master_interval, self.rules.down_adverts)
    }

    /// Why nobody is followed at the end of Master_Down_Interval.
    pub fn why_nobody(&self, now: Nanos) -> String {
        let Some(word) = self.word else { return "nobody is master".to_owned() };
        let down = self.rules.protocol.master_down(self.priority, word.interval, self.rules.down_adverts);
        match word.priority {
            Priority::RESIGN => format!("{} resigned", word.from),
            // A weaker master that speaks is not followed, and the interval runs out all the same.
            weaker if !word.followed && now.since(word.at) < down => {
                format!("{} advertises priority {}, ours is {}", word.from, weaker.0, self.priority.0)
            }
            _ => format!("{} is silent", word.from),
        }
    }

    /// The earliest of its timers.
    pub fn next_deadline(&self) -> Option<Nanos> {
        [self.down_at, self.advert_at, self.second_burst_at, self.refresh_at, self.lower_burst_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// No timer of a master runs on.
    pub const fn stop_master_timers(&mut self) {
        self.advert_at = None;
        self.second_burst_at = None;
        self.refresh_at = None;
        self.lower_burst_at = None;
    }

    /// How a weaker master is met that was heard at an instant.
    pub fn preempt(&mut self, at: Nanos) -> Preempt {
        // §6.1: an owner preempts whatever is configured.
        if self.rules.priority.is_owner() {
            return Preempt::Now;
        }
        if !self.rules.preempt {
            return Preempt::Never;
        }
        if self.rules.preempt_delay == Nanos(0) {
            return Preempt::Now;
        }
        let until = *self.preempt_at.get_or_insert(at.after(self.rules.preempt_delay));
        if at < until { Preempt::Later } else { Preempt::Now }
    }

    /// Keeps what an advert says of its sender; the complaint is new.
    pub fn meet(&mut self, heard: &Heard, at: Nanos) -> Option<String> {
        let own = self.rules.protocol.interval();
        // `skip_check_adv_addr`: the list of the master that is followed was looked at when it became that.
        let known = self.rules.skip_check_adv_addr && self.master.is_some_and(|(master, _)| master == heard.from);
        let (interval, priority) = (heard.advert.interval, heard.advert.priority.0);
        let differs = interval != own;
        self.counters.interval_differs += u64::from(differs);
        self.counters.address_list_differs += u64::from(!heard.same_addresses && !known);
        let peer = self.peer(heard.from, at);
        let complains = differs && !peer.interval_differs;
        let lists = !known && !heard.same_addresses && !peer.addresses_differ;
        (peer.last_ns, peer.priority, peer.interval_ns, peer.interval_differs) = (at.0, priority, interval.0, differs);
        if !known {
            peer.addresses_differ = !heard.same_addresses;
        }
        peer.adverts += 1;
        match (complains, lists) {
            (_, true) => Some(format!("{} lists other addresses than ours: both nodes need the same", heard.from)),
            (true, false) => Some(format!(
                "{} advertises every {} ms and we every {} ms: both nodes need the same",
                heard.from,
                interval.0 / 1_000_000,
                own.0 / 1_000_000
            )),
            (false, false) => None,
        }
    }

    /// The record of a sender; the one that was silent for longest makes room.
    pub fn peer(&mut self, address: Ipv4Addr, at: Nanos) -> &mut Peer {
        let index = match self.peers.iter().position(|peer| peer.address == address) {
            Some(index) => index,
            None => {
                let new = Peer {
                    address,
                    last_ns: at.0,
                    priority: 0,
                    interval_ns: 0,
                    interval_differs: false,
                    addresses_differ: false,
                    adverts: 0,
                };
                let oldest = self.peers.iter().enumerate().min_by_key(|(_, peer)| peer.last_ns).map(|(index, _)| index);
                match oldest.filter(|_| self.peers.len() >= PEERS_MAX) {
                    Some(index) => {
                        self.peers[index] = new;
                        index
                    }
                    None => {
                        self.peers.push(new);
                        self.peers.len() - 1
                    }
                }
            }
        };
        &mut self.peers[index]
    }
}
