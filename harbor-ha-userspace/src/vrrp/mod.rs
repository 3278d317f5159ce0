//! The plain-VRRP router: `handle(now, input) -> actions`. No clock, no socket, no tokio, no file.
//!
//! Any number of instances (RFC 3768 and RFC 9568, with keepalived's extensions), each alone or in a sync group, with
//! trackers that move their priorities or stop them. Driven by `daemon::router`; the pair form has its own machine in
//! `core`, which minds a PostgreSQL.
//!
//! ```text
//!          tracked things known        Master_Down, or owner
//!   ┌──────┐ ───────────► ┌────────┐ ─────────────────────► ┌────────┐
//!   │ Init │              │ Backup │                        │ Master │
//!   └──────┘   ┌────────► └────────┘ ◄───────────────────── └────────┘
//!        │     │ well again   │ fault     stronger advert       │ fault: priority 0 first
//!        │   ┌───────┐ ◄──────┴─────────────────────────────────┘
//!        └─► │ Fault │
//!            └───────┘
//! ```
//!
//! What it keeps: a timer runs only at a wake, and the adapter brings every packet that has arrived before it wakes; so a
//! daemon that is late takes over from nobody who advertised in time. A group is master with all of its members or not
//! at all.

mod action;
mod input;
mod instance;
mod member;
mod queue;
pub mod rules;
pub mod snapshot;
mod table;
#[cfg(test)]
mod tests;
pub mod track;

use std::sync::Arc;

use harbor_ha_ebpf::units::{Nanos, Priority};

pub use action::{Action, Actions, Event, Report, Subject, What};
pub use input::{Heard, Input, Said};
pub use instance::{Counters, Peer};
use instance::{Instance, Word};
use queue::Queue;
pub use rules::{GroupId, InstanceId, Rules, TrackerId};
pub use table::State;
use table::{Preempt, Rank, Then, rank, then};
pub use track::TrackValue;
use track::Tracker;

/// The machine.
#[derive(Debug)]
pub struct Router {
    instances: Vec<Instance>,
    groups: Vec<Group>,
    trackers: Vec<Tracker>,
    /// Beside `trackers`: the name, and who uses it.
    watched: Vec<Watched>,
    queue: Queue,
    /// Until then nothing is heard and nothing said.
    silent_until: Nanos,
    started: bool,
    ended: bool,
}

/// A sync group.
#[derive(Debug)]
struct Group {
    name: String,
    members: Arc<[InstanceId]>,
    /// What was last said of it.
    state: State,
}

#[derive(Debug)]
struct Watched {
    name: String,
    users: Vec<InstanceId>,
}

impl Router {
    /// A router that knows nothing yet. It begins with a first [`Input::Wake`].
    pub fn new(rules: Rules, now: Nanos) -> Self {
        let mut watched: Vec<Watched> =
            rules.trackers.iter().map(|tracker| Watched { name: tracker.name.clone(), users: Vec::new() }).collect();
        let mut groups = Vec::with_capacity(rules.groups.len());
        let mut belongs = vec![None; rules.instances.len()];
        for group in &rules.groups {
            for member in &group.instances {
                belongs[usize::from(member.0)] = Some(groups.len());
            }
            let members = Arc::from(group.instances.as_slice());
            groups.push(Group { name: group.name.clone(), members, state: State::Init });
        }
        let mut instances = Vec::with_capacity(rules.instances.len());
        for (index, mut instance) in rules.instances.into_iter().enumerate() {
            let (id, group) = (InstanceId(index as u16), belongs[index]);
            if let Some(group) = group.map(|group| &rules.groups[group]) {
                instance.tracks.extend(&group.tracks);
                if !group.tracking_weight {
                    instance.tracks.iter_mut().for_each(|track| track.weight = 0);
                }
            }
            for track in &instance.tracks {
                let users = &mut watched[usize::from(track.tracker.0)].users;
                if !users.contains(&id) {
                    users.push(id);
                }
            }
            let fellows = group.map_or_else(|| Arc::from([id]), |group: usize| Arc::clone(&groups[group].members));
            instances.push(Instance::new(instance, fellows, group.map(|group| GroupId(group as u16)), now));
        }
        Self {
            queue: Queue::new(instances.len()),
            instances,
            groups,
            trackers: rules.trackers.iter().map(|tracker| Tracker::new(tracker.kind)).collect(),
            watched,
            silent_until: now.after(rules.startup_delay).max(rules.delay_after_boot),
            started: false,
            ended: false,
        }
    }

    /// Takes one input in, at the instant `now` (`CLOCK_MONOTONIC`), and says what to do.
    pub fn handle(&mut self, now: Nanos, input: Input, out: &mut Actions) {
        if !self.ended {
            match input {
                Input::Advert(heard) => self.heard(now, &heard, out),
                Input::Refused { instance, from, at, why, said } => {
                    let instance = &mut self.instances[usize::from(instance.0)];
                    *why.counter(&mut instance.rejects) += 1;
                    if let Some(said) = said {
                        let own = instance.rules.protocol.interval();
                        let peer = instance.peer(from, at.min(now));
                        (peer.last_ns, peer.priority) = (at.min(now).0, said.priority);
                        (peer.interval_ns, peer.interval_differs) = (said.interval.0, said.interval != own);
                    }
                }
                Input::Tracked { tracker, value } => self.tracked(now, tracker, value, out),
                Input::AddressesGone(id) => self.addresses_gone(id, out),
                Input::Wake => self.woken(now, out),
                Input::Stop => self.stop(now, out),
            }
        }
        let start = (!self.started && !self.ended).then_some(self.silent_until);
        out.set_wake(start.or_else(|| self.queue.next()));
        self.check_invariants();
    }

    /// An advert that counts.
    fn heard(&mut self, now: Nanos, heard: &Heard, out: &mut Actions) {
        let instance = &mut self.instances[usize::from(heard.instance.0)];
        let from_us = heard.from == instance.rules.source;
        if !self.started || from_us || matches!(instance.state, State::Init | State::Fault) {
            instance.counters.ignored += 1;
            return;
        }
        let at = heard.at.min(now);
        let theirs = heard.advert.priority;
        instance.counters.adverts_received += 1;
        instance.counters.priority_zero_received += u64::from(theirs == Priority::RESIGN);
        if let Some(what) = instance.meet(heard, at) {
            out.push(Action::Warn { instance: heard.instance, what });
        }
        let rank = rank(theirs, heard.from, instance.priority, instance.rules.source);
        let preempt = match rank {
            Rank::Weaker if instance.state == State::Backup => instance.preempt(at),
            // Somebody stronger: a delay that has begun is void.
            Rank::Stronger | Rank::EqualAbove | Rank::EqualBelow => {
                instance.preempt_at = None;
                Preempt::Never
            }
            Rank::Weaker | Rank::Resigned => Preempt::Never,
        };
        let then = then(instance.state, rank, preempt);
        instance.word = Some(Word {
            from: heard.from,
            priority: theirs,
            at,
            interval: heard.advert.interval,
            followed: matches!(then, Then::Follow | Then::Yield),
        });
        match then {
            Then::Ignore | Then::Discard => {}
            Then::Follow => {
                instance.follow(heard);
                instance.wants = false;
                instance.down_at = Some(at.after(instance.master_down()));
            }
            Then::Skew => {
                let skew = instance.rules.protocol.skew(instance.priority, instance.master_interval);
                instance.down_at = Some(at.after(skew));
                (instance.master, instance.graced) = (None, false);
            }
            Then::Advertise => self.advertise(now, heard.instance, out),
            Then::Answer => self.answer(now, heard.instance, out),
            Then::Yield => self.yield_to(now, heard, at, out),
        }
        let instance = &self.instances[usize::from(heard.instance.0)];
        self.queue.by(heard.instance, instance.next_deadline());
    }

    /// A fact about something that is watched.
    fn tracked(&mut self, now: Nanos, tracker: TrackerId, value: TrackValue, out: &mut Actions) {
        let index = usize::from(tracker.0);
        if !self.trackers[index].take(value) || !self.started {
            return;
        }
        for user in 0..self.watched[index].users.len() {
            let id = self.watched[index].users[user];
            self.weigh(id, out);
            self.settle(now, id, out);
        }
    }

    /// Time has passed, and every packet that had arrived was brought.
    fn woken(&mut self, now: Nanos, out: &mut Actions) {
        if !self.started {
            if now < self.silent_until {
                return;
            }
            self.started = true;
            let ids = 0..self.instances.len() as u16;
            ids.clone().for_each(|id| self.weigh(InstanceId(id), out));
            ids.for_each(|id| self.settle(now, InstanceId(id), out));
        }
        while let Some(id) = self.queue.due(now) {
            self.run_timers(now, id, out);
            self.queue.by(id, self.instances[usize::from(id.0)].next_deadline());
        }
    }

    /// What must hold after every input.
    fn check_invariants(&self) {
        if cfg!(debug_assertions) {
            for instance in &self.instances {
                let is_master = instance.state == State::Master;
                assert_eq!(instance.advert_at.is_some(), is_master, "adverts in state {}", instance.state);
                assert_eq!(instance.down_at.is_some(), instance.state == State::Backup, "{}", instance.state);
                let fellows = instance.fellows.iter().map(|id| self.instances[usize::from(id.0)].state);
                assert!(
                    !is_master || fellows.into_iter().all(|state| state == State::Master),
                    "half a group is master"
                );
            }
        }
    }
}
