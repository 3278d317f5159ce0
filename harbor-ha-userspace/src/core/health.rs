//! What this node tracks (interfaces, scripts, processes, files), and what follows from it for a pair.
//!
//! Facts are counted and weighed by [`crate::vrrp::track`], as those of the router form are. What a failure of weight 0
//! means is another thing here, where data are at stake:
//!
//! | this node | what a tracked failure does |
//! | --- | --- |
//! | has no PostgreSQL | FAULT, as keepalived's: it resigns at once |
//! | is a standby | it refuses a takeover (`NotPromotable::Tracked`) and goes on following |
//! | is the primary, and its standby would succeed it without loss | it hands over, as `switchover` does |
//! | is the primary otherwise | it serves on and says why ([`Stays`]) |
//!
//! A check never stops the last server: whoever wrote it knows of Harbor, not of where the data are.

use harbor_ha_ebpf::records::State;
use harbor_ha_ebpf::units::{Nanos, Priority};
use harbor_ha_ebpf::wire::pulse::flag;
use serde::Serialize;

use super::{Action, Actions, Core, Leave, Local, Report, VrrpState};
use crate::vrrp::rules::Base;
use crate::vrrp::snapshot::TrackView;
use crate::vrrp::track::{self, Track, TrackValue, Tracker, TrackerRules};
use crate::vrrp::{Event, InstanceId, Subject, TrackerId, What};

/// How long a primary whose check fails waits for the same to fail at its standby: what both nodes need (a Redis, an
/// NFS) fails on both within their checks' intervals, and moving the service would mend nothing.
const COMPANY: Nanos = Nanos::from_secs(2);
/// Between two hand-overs for a tracked failure: a standby that did not take over will not do so a moment later.
const AGAIN: Nanos = Nanos::from_secs(60);

/// What is tracked, and what each of it is worth.
#[derive(Clone, Debug, Default)]
pub struct Tracking {
    /// Everything that is watched; a [`TrackerId`] is an index into it.
    pub trackers: Vec<TrackerRules>,
    /// What this node makes of it.
    pub tracks: Vec<Track>,
}

/// Why a primary with a tracked failure serves on. Each has a sentence for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stays {
    /// Without pulses and a lease nothing is known of the standby.
    NoPulses,
    /// It is not heard.
    PeerSilent,
    /// Something that it tracks has failed too, or its link is down.
    PeerTracked,
    /// Its PostgreSQL is down, or is being made a standby.
    PeerNotReady,
    /// A daemon is about to be restarted.
    Held,
    /// It does not stream.
    NotStreaming,
    /// Commits do not wait for it yet.
    NotSynchronous,
    /// It has no right to take over in this term, or does not confirm it at this moment.
    NoRight,
    /// It is further behind than `postgres.max_lag`.
    Behind,
    /// The failure is new.
    Young,
    /// A hand-over was tried a moment ago.
    JustTried,
}

impl Stays {
    /// Every name, in the order of the enum.
    pub const NAMES: [&'static str; 11] = [
        "no_pulses",
        "peer_silent",
        "peer_tracked",
        "peer_not_ready",
        "held",
        "not_streaming",
        "not_synchronous",
        "no_right",
        "behind",
        "young",
        "just_tried",
    ];

    /// Its name in tables, metrics and `status`.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

impl std::fmt::Display for Stays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoPulses => "without pulses nothing is known of the standby; run `harbor-ha switchover`",
            Self::PeerSilent => "the other node is not heard",
            Self::PeerTracked => "the other node could not serve either: something that it tracks has failed there",
            Self::PeerNotReady => "the other node's PostgreSQL is no standby yet",
            Self::Held => "a daemon is about to be restarted (`harbor-ha hold`)",
            Self::NotStreaming => "the other node does not stream from this one, and would lack the last writes",
            Self::NotSynchronous => "commits do not wait for the other node yet, so it could lack acknowledged writes",
            Self::NoRight => "the other node has no right to take over in this term, or does not confirm it just now",
            Self::Behind => "the other node is further behind than `postgres.max_lag`",
            Self::Young => "the failure is new, and may be one of both nodes",
            Self::JustTried => "a hand-over was tried a moment ago",
        })
    }
}

/// What is known of what is tracked.
#[derive(Debug)]
pub(super) struct Health {
    names: Vec<String>,
    trackers: Vec<Tracker>,
    tracks: Vec<Track>,
    /// As the weights make it.
    pub priority: Priority,
    verdict: track::Health,
    /// Since when something of weight 0 fails.
    failed_since: Option<Nanos>,
    /// No hand-over for it before.
    not_before: Nanos,
    /// Why this primary serves on.
    pub stays: Option<Stays>,
    /// Reasons that this failure was reported with: they come and go with every pulse.
    reported: u16,
    /// What scripts were told last.
    pub told: Option<What>,
}

impl Health {
    pub fn new(priority: Priority, now: Nanos) -> Self {
        Self {
            names: Vec::new(),
            trackers: Vec::new(),
            tracks: Vec::new(),
            priority,
            verdict: track::Health::Well,
            failed_since: None,
            not_before: now,
            stays: None,
            reported: 0,
            told: None,
        }
    }

    fn weigh(&mut self, priority: Priority) {
        // The configuration allows no 0.
        let Some(base) = Base::new(priority.0) else { return };
        (self.priority, self.verdict) = track::weigh(base, self.tracks.iter(), &self.trackers);
    }

    /// Something of weight 0 fails.
    pub const fn is_failed(&self) -> bool {
        matches!(self.verdict, track::Health::Fault(_))
    }

    /// Nothing of weight 0 fails, and each was looked at; of weighted scripts that is not asked.
    pub const fn is_well(&self) -> bool {
        matches!(self.verdict, track::Health::Well)
    }

    /// Something was not looked at yet that has no weight, or is no script.
    pub const fn is_unknown(&self) -> bool {
        matches!(self.verdict, track::Health::Waits(_))
    }

    /// What is not well, in words; `None`: everything that counts is.
    pub fn complaint(&self) -> Option<String> {
        let name = |id: TrackerId| self.names.get(usize::from(id.0)).map_or("?", String::as_str);
        match self.verdict {
            track::Health::Well => None,
            track::Health::Fault(id) => Some(format!("`{}`, which this node tracks, has failed", name(id))),
            track::Health::Waits(id) => Some(format!("`{}`, which this node tracks, was not looked at yet", name(id))),
        }
    }

    /// Each use of a tracker, for `status`.
    pub fn views(&self) -> Vec<TrackView> {
        let view = |track: &Track| {
            let index = usize::from(track.tracker.0);
            Some(TrackView::new(track, self.names.get(index)?, self.trackers.get(index)?))
        };
        self.tracks.iter().filter_map(view).collect()
    }
}

impl Core {
    /// With this to be tracked. To be called before the first input.
    #[must_use]
    pub fn tracking(mut self, tracking: Tracking) -> Self {
        let health = &mut self.health;
        health.trackers = tracking.trackers.iter().map(|rules| Tracker::new(rules.kind)).collect();
        health.names = tracking.trackers.into_iter().map(|rules| rules.name).collect();
        health.tracks = tracking.tracks;
        health.weigh(self.rules.priority);
        self
    }

    pub(super) fn on_tracked(&mut self, now: Nanos, tracker: TrackerId, value: TrackValue) {
        let health = &mut self.health;
        let Some(tracked) = health.trackers.get_mut(usize::from(tracker.0)) else { return };
        if !tracked.take(value) {
            return;
        }
        health.weigh(self.rules.priority);
        if !health.is_failed() {
            (health.failed_since, health.stays, health.reported) = (None, None, 0);
        } else if health.failed_since.is_none() {
            health.failed_since = Some(now);
        }
    }

    /// Why this node cannot be a virtual router at all, if it cannot. With a PostgreSQL a tracked failure is no reason.
    pub(super) fn fault(&self) -> Option<String> {
        if self.link == Some(false) {
            return Some("the interface is down".to_owned());
        }
        if self.rules.postgres || !self.health.is_failed() { None } else { self.health.complaint() }
    }

    /// Until the link is up and, without a PostgreSQL, what is tracked is well.
    pub(super) fn settle_fault(&mut self, now: Nanos, out: &mut Actions) {
        if self.may_exit() {
            self.exit(out);
        } else if self.link == Some(true) && self.fault().is_none() && self.op.is_none() {
            self.enter_backup(now, "what was at fault is well again", out);
        }
    }

    /// A primary with a PostgreSQL, something that it tracks has failed, and nothing else is to be done.
    pub(super) fn settle_tracked(&mut self, now: Nanos, out: &mut Actions) {
        if !self.health.is_failed() || !self.serving {
            return;
        }
        let Err(why) = self.successor(now).and_then(|()| self.is_time(now)) else {
            self.health.stays = None;
            self.health.not_before = now.after(AGAIN);
            self.hand_over(now, Leave::Tracked, out);
            return;
        };
        self.health.stays = Some(why);
        let bit = 1 << why as u16;
        if self.health.reported & bit == 0 {
            self.health.reported |= bit;
            let text = format!("{}; this node serves on: {why}", self.health.complaint().unwrap_or_default());
            out.push(Action::Report(Report { from: self.state, to: self.state, why: text }));
        }
    }

    /// Its checkpoint is written: whether the hand-over for a tracked failure is still right.
    pub(super) fn still_leaves(&mut self, now: Nanos, leave: Leave) -> bool {
        if leave != Leave::Tracked || (self.health.is_failed() && self.successor(now).is_ok()) {
            return true;
        }
        self.why = "no hand-over: it was prepared, and is not needed or not possible any more".to_owned();
        self.handover_failed();
        false
    }

    /// Whether the standby is known to succeed this primary, if it resigns, without loss and at once.
    fn successor(&self, now: Nanos) -> Result<(), Stays> {
        let says = |bits: u16| self.peer.pulse.flags & bits != 0;
        let Local::Up(facts) = &self.local else { return Err(Stays::PeerNotReady) };
        if self.rules.lease.is_none() {
            return Err(Stays::NoPulses);
        }
        if self.peer.pulse.state != State::Alive || !self.peer_lives() {
            return Err(Stays::PeerSilent);
        }
        if says(flag::UNWELL | flag::FAULT) {
            return Err(Stays::PeerTracked);
        }
        if !says(flag::PG_UP) || says(flag::PG_PRIMARY | flag::REJOIN | flag::FORMER | flag::UNFIT) {
            return Err(Stays::PeerNotReady);
        }
        if now < self.hold_until || says(flag::HOLD) {
            return Err(Stays::Held);
        }
        if !facts.streaming {
            return Err(Stays::NotStreaming);
        }
        if self.rules.sync.names_standby() && !(facts.peer_is_sync && self.peer_synced) {
            return Err(Stays::NotSynchronous);
        }
        if !self.standby_could_take_over(now) || self.lease.solo {
            return Err(Stays::NoRight);
        }
        if facts.lsn.0.saturating_sub(facts.peer_lsn.0) > self.rules.max_lag {
            return Err(Stays::Behind);
        }
        Ok(())
    }

    fn is_time(&self, now: Nanos) -> Result<(), Stays> {
        if self.health.failed_since.is_none_or(|since| now < since.after(COMPANY)) {
            Err(Stays::Young)
        } else if now < self.health.not_before {
            Err(Stays::JustTried)
        } else {
            Ok(())
        }
    }

    /// When a primary with a tracked failure looks again.
    pub(super) fn tracked_deadline(&self) -> Option<Nanos> {
        let since = self.health.failed_since.filter(|_| self.state == VrrpState::Master)?;
        let young = since.after(COMPANY);
        Some(if young > self.now { young } else { self.health.not_before })
    }

    /// What scripts and mails hear: what this node is to the world, once it is so, and each thing once.
    ///
    /// MASTER comes after the addresses were announced; BACKUP not before it is certain that an earlier run's gate is
    /// not to stay open, as a script that is told BACKUP may stop what a primary needs.
    pub(super) fn tell_others(&mut self, out: &mut Actions) {
        let primary = matches!(&self.local, Local::Up(facts) if !facts.in_recovery);
        let what = match self.state {
            // Whoever reads it goes on: kernel and PostgreSQL do.
            _ if self.silent => return,
            _ if self.ended => What::Stop,
            VrrpState::Init => return,
            VrrpState::Master if self.serving => What::Master,
            VrrpState::Master => return,
            VrrpState::Fault => What::Fault,
            VrrpState::Backup if self.lease.resuming || (self.rules.postgres && primary) => return,
            VrrpState::Backup if self.health.is_failed() => What::Fault,
            VrrpState::Backup => What::Backup,
        };
        if self.health.told != Some(what) {
            self.health.told = Some(what);
            self.notify(what, out);
        }
    }

    /// A weaker node was heard to claim the addresses: a cloud may have been told that they are there.
    pub(super) fn heard_weaker(&self, out: &mut Actions) {
        self.notify(What::LowerPriority, out);
    }

    fn notify(&self, what: What, out: &mut Actions) {
        let event = Event { subject: Subject::Instance(InstanceId(0)), what, priority: self.priority() };
        out.push(Action::Notify(event));
    }
}
