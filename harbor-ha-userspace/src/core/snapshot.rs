//! What `status` shows.

use harbor_ha_ebpf::units::Nanos;
use serde::Serialize;

use super::facts::PgFacts;
use super::peer::PeerRole;
use super::promotable::NotPromotable;
use super::{Core, Local, Op, Terms, VrrpState};

/// Stamps of the last takeover, `CLOCK_MONOTONIC` nanoseconds; 0: not reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Takeover {
    /// `silence`, `resigned` or `nobody serves`.
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
    /// The last takeover of this node.
    pub takeover: Option<Takeover>,
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
                Some(Op::Rejoin) => "rejoin",
            },
            refusal: self.would_refuse().map(|refusal| refusal.to_string()),
            takeover: self.takeover,
        }
    }

    /// Why this standby would not take over if the peer died now; the last refusal for a node that is none.
    fn would_refuse(&self) -> Option<NotPromotable> {
        if self.paused && !self.forced {
            return Some(NotPromotable::Hold);
        }
        match &self.local {
            Local::Up(facts) if facts.in_recovery && self.state == VrrpState::Backup => self.may_promote(facts).err(),
            Local::Unknown | Local::NotReady(_) | Local::Rest(_) | Local::Up(_) => self.refusal,
        }
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

    /// When the state last changed.
    pub const fn since(&self) -> Nanos {
        self.since
    }
}
