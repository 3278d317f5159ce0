//! What `status` shows.

use std::net::Ipv4Addr;

use harbor_ha_ebpf::decide::filter::Reject;
use harbor_ha_ebpf::units::Nanos;
use serde::Serialize;

use super::instance::{Counters, Instance, Peer};
use super::track::{Effect, Health, Level, Track, Tracker, effect};
use super::{Router, State};

/// The router at a glance.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// Nothing is heard and nothing said before this instant (a start-up delay); 0 once it has begun.
    pub silent_until_ns: u64,
    /// Its virtual routers.
    pub instances: Vec<InstanceView>,
    /// Its sync groups.
    pub groups: Vec<GroupView>,
}

/// One virtual router.
#[derive(Clone, Debug, Serialize)]
pub struct InstanceView {
    /// Its name.
    pub name: String,
    /// Its number on the wire.
    pub vrid: u8,
    /// 2 or 3.
    pub version: u8,
    /// What it is.
    pub state: State,
    /// Since when, `CLOCK_MONOTONIC` nanoseconds.
    pub since_ns: u64,
    /// In a sentence.
    pub why: String,
    /// On the wire.
    pub priority: u8,
    /// Before trackers moved it.
    pub configured_priority: u8,
    /// Between two adverts of ours.
    pub interval_ns: u64,
    /// The master's own, which its silence is judged by.
    pub master_interval_ns: u64,
    /// Who is master, as far as known.
    pub master: Option<Ipv4Addr>,
    /// Its priority.
    pub master_priority: Option<u8>,
    /// A backup: when the master counts as dead, `CLOCK_MONOTONIC` nanoseconds.
    pub down_at_ns: Option<u64>,
    /// The sync group that it is in.
    pub group: Option<String>,
    /// It would be master and waits for the others of its group.
    pub waits_for_group: bool,
    /// Counts since the start.
    pub counters: Counters,
    /// Adverts that did not count, by reason; only what occurred.
    pub rejects: Vec<RejectCount>,
    /// What is tracked.
    pub trackers: Vec<TrackView>,
    /// Who sends adverts.
    pub peers: Vec<Peer>,
}

/// Dropped adverts of one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RejectCount {
    /// The reason.
    pub reason: &'static str,
    /// How many.
    pub count: u64,
}

/// Something that is tracked, as one instance sees it.
#[derive(Clone, Debug, Serialize)]
pub struct TrackView {
    /// Its name.
    pub name: String,
    /// What is thought of it.
    pub level: Level,
    /// Its weight here; 0: it stops the instance.
    pub weight: i16,
    /// Turned round.
    pub reverse: bool,
    /// What it adds to the priority now.
    pub adds: i16,
    /// It stops the instance now.
    pub stops: bool,
}

impl TrackView {
    /// What a use of a tracker comes to now.
    pub fn new(track: &Track, name: &str, tracker: &Tracker) -> Self {
        let level = tracker.level();
        let effect = effect(level, track.weight, track.reverse);
        Self {
            name: name.to_owned(),
            level,
            weight: track.weight,
            reverse: track.reverse,
            adds: if let Effect::Adds(adds) = effect { adds } else { 0 },
            stops: effect == Effect::Stops,
        }
    }
}

/// A sync group.
#[derive(Clone, Debug, Serialize)]
pub struct GroupView {
    /// Its name.
    pub name: String,
    /// What all of its members are.
    pub state: State,
    /// Their names.
    pub instances: Vec<String>,
}

impl Router {
    /// The router at a glance.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            silent_until_ns: if self.started { 0 } else { self.silent_until.0 },
            instances: self.instances.iter().map(|instance| self.view(instance)).collect(),
            groups: self
                .groups
                .iter()
                .map(|group| GroupView {
                    name: group.name.clone(),
                    state: group.state,
                    instances: group
                        .members
                        .iter()
                        .map(|id| self.instances[usize::from(id.0)].rules.name.clone())
                        .collect(),
                })
                .collect(),
        }
    }

    /// What an instance is, its priority on the wire, and what it was configured to.
    pub fn state(&self, id: super::InstanceId) -> State {
        self.instances[usize::from(id.0)].state
    }

    /// Who is master of it, as far as was heard; ourselves included.
    pub fn master(&self, id: super::InstanceId) -> Option<Ipv4Addr> {
        self.instances[usize::from(id.0)].master.map(|(address, _)| address)
    }

    fn view(&self, instance: &Instance) -> InstanceView {
        let rules = &instance.rules;
        let mut rejects = instance.rejects;
        let counts =
            Reject::ALL.map(|reject| RejectCount { reason: reject.name(), count: *reject.counter(&mut rejects) });
        let waits = match instance.health {
            Health::Waits(tracker) if instance.state == State::Init => {
                Some(format!("waits for the first look at `{}`", self.watched[usize::from(tracker.0)].name))
            }
            Health::Waits(_) | Health::Fault(_) | Health::Well => None,
        };
        let trackers = rules.tracks.iter().map(|track| {
            let index = usize::from(track.tracker.0);
            TrackView::new(track, &self.watched[index].name, &self.trackers[index])
        });
        InstanceView {
            name: rules.name.clone(),
            vrid: rules.vrid.as_u8(),
            version: rules.protocol.version(),
            state: instance.state,
            since_ns: instance.since.0,
            why: waits.unwrap_or_else(|| instance.why.clone()),
            priority: instance.priority.0,
            configured_priority: rules.priority.priority().0,
            interval_ns: rules.protocol.interval().0,
            master_interval_ns: instance.master_interval.0,
            master: instance.master.map(|(address, _)| address),
            master_priority: instance.master.map(|(_, priority)| priority.0),
            down_at_ns: instance.down_at.map(|Nanos(at)| at),
            group: instance.group.map(|id| self.groups[usize::from(id.0)].name.clone()),
            waits_for_group: instance.wants && instance.state == State::Backup,
            counters: instance.counters,
            rejects: counts.into_iter().filter(|reject| reject.count > 0).collect(),
            trackers: trackers.collect(),
            peers: instance.peers.clone(),
        }
    }
}
