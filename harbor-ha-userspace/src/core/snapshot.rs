//! What `status` shows.

use std::collections::BTreeMap;

use harbor_ha_ebpf::units::Nanos;
use harbor_ha_ebpf::wire::pulse::flag;
use serde::Serialize;

use super::facts::PgFacts;
use super::health::Stays;
use super::lag::Lag;
use super::peer::PeerRole;
use super::promotable::NotPromotable;
use super::rules::Isolated;
use super::tally::Answers;
use super::{Core, Handover, Local, Op, Terms, VrrpState};
use crate::vrrp::snapshot::TrackView;

/// Every [`Snapshot::role`].
pub const ROLES: [&str; 6] = ["init", "fault", "starting", "waiting", "standby", "primary"];
/// Every [`Takeover::why`].
pub const ENDS: [&str; 5] = ["silence", "resigned", "hung", "nobody serves", "ordered"];
/// Every [`LeaseView::right`].
pub const RIGHTS: [&str; 5] = ["none", "leased", "solo", "witness", "serve"];
/// Every [`PostgresView::state`].
pub const SERVERS: [&str; 6] = ["unknown", "starting", "down", "hung", "standby", "primary"];

/// Stamps of the last takeover, `CLOCK_MONOTONIC` nanoseconds; 0: not reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Takeover {
    /// `silence`, `resigned`, `hung`, `nobody serves`, or `ordered` by an operator.
    pub why: &'static str,
    /// The last packet before the silence; 0 when it did not end by silence.
    pub last_heard_ns: u64,
    /// The kernel's verdict.
    pub verdict_ns: u64,
    /// The core decided.
    pub begun_ns: u64,
    /// `pg_promote` was sent.
    pub promote_ns: u64,
    /// PostgreSQL accepts writes.
    pub promoted_ns: u64,
    /// The addresses were on the interface.
    pub vip_ns: u64,
    /// The first gratuitous ARP was sent.
    pub garp_ns: u64,
}

/// This node at a glance.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// `primary`, `standby`, `fault`, `init`, or `starting`/`waiting` for a node without a running PostgreSQL.
    pub role: &'static str,
    /// VRRP state.
    pub vrrp: VrrpState,
    /// What is stored of terms.
    pub terms: Option<Terms>,
    /// Since when, `CLOCK_MONOTONIC` nanoseconds.
    pub since_ns: u64,
    /// In a sentence.
    pub why: String,
    /// The other node.
    pub peer: PeerView,
    /// This node's PostgreSQL; `None` when none is managed.
    pub postgres: Option<PostgresView>,
    /// The virtual addresses are on the interface.
    pub vip: bool,
    /// What runs now.
    pub operation: &'static str,
    /// Why this node would not take over if the peer died now, if it would not.
    pub refusal: Option<String>,
    /// The same reason, by name.
    pub refusal_name: Option<&'static str>,
    /// How often a takeover was refused, by reason.
    pub refusals: BTreeMap<&'static str, u64>,
    /// The priority on the wire, as what is tracked makes it.
    pub priority: u8,
    /// Before that.
    pub configured_priority: u8,
    /// What is tracked.
    pub trackers: Vec<TrackView>,
    /// What of it stops this node from taking over, or is a reason to hand over.
    pub tracked: Option<String>,
    /// Something of it has failed, not only was it never looked at.
    pub tracked_failed: bool,
    /// Why this primary serves on although it has.
    pub stays: Option<String>,
    /// The same, by name.
    pub stays_name: Option<&'static str>,
    /// Takeovers of this run, by [`Takeover::why`].
    pub takeovers: BTreeMap<&'static str, u64>,
    /// Hand-overs of this run after which the peer served.
    pub handovers: u64,
    /// The witness's answers in this run, by question.
    pub witness_answers: BTreeMap<&'static str, Answers>,
    /// A standby: how far it is behind its primary, as far as both have said.
    pub lag: Option<Lag>,
    /// By what right this node serves, or may take over; `None` without a lease.
    pub lease: Option<LeaseView>,
    /// An operator has paused automatic action.
    pub paused: bool,
    /// An operator's `failover --force` is under way.
    pub forced: bool,
    /// An operator's `reinit` is under way.
    pub reinit: bool,
    /// The last takeover of this node.
    pub takeover: Option<Takeover>,
    /// The last time that this node handed over.
    pub handover: Option<Handover>,
}

/// The lease protocol at a glance (docs/protocol.md).
#[derive(Clone, Debug, Serialize)]
pub struct LeaseView {
    /// What a primary does whose standby grants nothing.
    pub isolated: Isolated,
    /// A primary's right: `leased`, `solo`, `witness`, `serve` or `none`.
    pub right: &'static str,
    /// The term in which the gate is ordered open; 0: it is shut.
    pub serving_term: u64,
    /// The gate waits until the standby has the tail of the WAL.
    pub waits_for_tail: bool,
    /// The peer's stamps are echoed: it may serve.
    pub echo: bool,
    /// A standby: it may succeed a primary that falls silent.
    pub may_succeed: bool,
    /// A standby has given up its right for this term; 0: none.
    pub waived: u64,
    /// A primary: its standby has given up its right, and says so.
    pub peer_waived: bool,
    /// The peer is asked to bear with our silence.
    pub hold: bool,
    /// Until when, `CLOCK_MONOTONIC` nanoseconds; 0: it is not asked.
    pub hold_until_ns: u64,
    /// The peer has agreed.
    pub hold_agreed: bool,
    /// What the witness last complained about.
    pub witness_trouble: Option<String>,
}

/// The other node.
#[derive(Clone, Debug, Serialize)]
pub struct PeerView {
    /// Heard within its deadline.
    pub alive: bool,
    /// What it does.
    pub role: PeerRole,
    /// Its priority on the wire.
    pub priority: u8,
    /// Its timeline, as far as known.
    pub timeline: Option<u32>,
    /// Something that it tracks with weight 0 has failed there: it would not take over.
    pub unwell: bool,
}

/// This node's PostgreSQL.
#[derive(Clone, Debug, Serialize)]
pub struct PostgresView {
    /// `primary`, `standby`, `down`, `starting`, `hung` or `unknown`.
    pub state: &'static str,
    /// What it last said.
    pub facts: Option<PgFacts>,
    /// Why it is not ready, in its own words.
    pub detail: Option<String>,
}

impl Core {
    /// This node at a glance.
    pub fn snapshot(&self) -> Snapshot {
        let role = self.peer.role();
        Snapshot {
            role: self.role(),
            vrrp: self.state,
            terms: self.rules.postgres.then_some(self.terms),
            since_ns: self.since.0,
            why: self.why.clone(),
            peer: PeerView {
                alive: matches!(role, PeerRole::Primary | PeerRole::Standby | PeerRole::Resigned),
                role,
                priority: self.peer.priority(),
                timeline: self.peer.timeline(),
                unwell: self.peer.is_unwell(),
            },
            postgres: self.rules.postgres.then(|| self.postgres_view()),
            vip: self.serving,
            operation: match self.op {
                None => "none",
                Some(Op::Promote) => "promote",
                Some(Op::Serve) => "serve",
                Some(Op::Checkpoint(_)) => "checkpoint",
                Some(Op::Stop(_)) => "stop",
                Some(Op::Start) => "start",
                Some(Op::Rejoin { .. }) => "rejoin",
            },
            refusal: self.would_refuse().map(|refusal| self.in_words(refusal)),
            refusal_name: self.would_refuse().map(|refusal| refusal.name()),
            refusals: self.tally.refusals.clone(),
            priority: self.priority().0,
            configured_priority: self.rules.priority.0,
            trackers: self.health.views(),
            tracked: self.health.complaint(),
            tracked_failed: self.health.is_failed(),
            stays: self.stays().map(|why| why.to_string()),
            stays_name: self.stays().map(Stays::name),
            takeovers: self.tally.takeovers.clone(),
            handovers: self.tally.handovers,
            witness_answers: self.tally.witness.clone(),
            lag: self.lag(),
            lease: self.lease_view(),
            paused: self.paused,
            forced: self.forced,
            reinit: self.reinit,
            takeover: self.takeover,
            handover: self.handover,
        }
    }

    /// Why this standby would not take over if the peer died now; the last refusal for a node that is none.
    fn would_refuse(&self) -> Option<NotPromotable> {
        if self.paused && !self.forced {
            return Some(NotPromotable::Hold);
        }
        match &self.local {
            Local::Up(facts) if facts.in_recovery && self.state == VrrpState::Backup => {
                if self.paused {
                    return Some(NotPromotable::Hold);
                }
                let witness = self
                    .refusal
                    .filter(|why| matches!(why, NotPromotable::WitnessRefused | NotPromotable::WitnessUnreachable));
                self.may_promote(facts).and_then(|()| self.rights(PeerRole::Dead, false)).err().or(witness)
            }
            _ if self.state == VrrpState::Backup && self.is_down() => Some(NotPromotable::Down),
            Local::Unknown | Local::NotReady(_) | Local::Rest(_) | Local::Up(_) => self.refusal,
        }
    }

    fn stays(&self) -> Option<Stays> {
        self.health.stays.filter(|_| self.state == VrrpState::Master)
    }

    /// Why the last look at a tracked failure led to no hand-over.
    pub fn stayed(&self) -> Option<Stays> {
        self.stays()
    }

    fn lease_view(&self) -> Option<LeaseView> {
        let rules = self.rules.lease?;
        let lease = &self.lease;
        let right = match rules.isolated {
            _ if self.state != VrrpState::Master => "none",
            _ if lease.solo => "solo",
            _ if lease.limit.0 == 0 => "leased",
            Isolated::Witness => "witness",
            Isolated::Serve | Isolated::Hold => "serve",
        };
        Some(LeaseView {
            isolated: rules.isolated,
            right,
            serving_term: lease.order.serving_term,
            waits_for_tail: lease.tail,
            echo: lease.order.echo != 0,
            may_succeed: self.has_right(),
            waived: self.terms.waived,
            peer_waived: self.state == VrrpState::Master && self.peer_waived(),
            hold: self.now < self.hold_until,
            hold_until_ns: if self.now < self.hold_until { self.hold_until.0 } else { 0 },
            hold_agreed: self.peer.pulse.flags & flag::HOLDS != 0,
            witness_trouble: self.witness.trouble.clone(),
        })
    }

    fn role(&self) -> &'static str {
        match self.state {
            VrrpState::Init => "init",
            VrrpState::Fault => "fault",
            VrrpState::Master => "primary",
            VrrpState::Backup if !self.rules.postgres => "standby",
            VrrpState::Backup => match &self.local {
                Local::Up(facts) if facts.in_recovery => "standby",
                Local::Up(_) => "waiting",
                Local::Unknown | Local::NotReady(_) => "starting",
                Local::Rest(_) => "waiting",
            },
        }
    }

    fn postgres_view(&self) -> PostgresView {
        let (state, facts) = match &self.local {
            Local::Unknown => ("unknown", None),
            Local::NotReady(_) => ("starting", None),
            Local::Rest(_) => ("down", None),
            Local::Up(_) if self.no_answers >= self.rules.probe_fall => ("hung", None),
            Local::Up(facts) if facts.in_recovery => ("standby", Some(facts.clone())),
            Local::Up(facts) => ("primary", Some(facts.clone())),
        };
        let detail = match &self.local {
            Local::NotReady(reason) => Some(reason.clone()),
            Local::Unknown | Local::Up(_) | Local::Rest(_) => None,
        };
        PostgresView { state, facts, detail }
    }

    /// Why the last takeover was refused; `None` once none is wanted.
    pub const fn refusal(&self) -> Option<NotPromotable> {
        self.refusal
    }

    /// The right with which this run goes on serving what an earlier one left in force: `leased` or `solo`.
    pub const fn resumes(&self) -> Option<&'static str> {
        match (self.lease.resuming, self.lease.solo) {
            (false, _) => None,
            (true, true) => Some("solo"),
            (true, false) => Some("leased"),
        }
    }

    /// When the state last changed.
    pub const fn since(&self) -> Nanos {
        self.since
    }
}
