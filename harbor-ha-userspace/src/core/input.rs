//! What comes into the core.

use harbor_ha_ebpf::records::{Order, Source, VerdictKind};
use harbor_ha_ebpf::units::Nanos;

use super::facts::{AtRest, Lsn, PgFacts};
use super::witness::{Answer, WitnessCall};
use crate::vrrp::{TrackValue, TrackerId};

/// Everything that can happen to a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The detector's event.
    Verdict(Verdict),
    /// The instant that [`super::Actions::wake_at`] asked for, or any other: spurious wakes are harmless.
    Wake,
    /// The interface is up and has carrier, or not.
    Link(bool),
    /// A fact about something that is tracked.
    Tracked {
        /// Of what.
        tracker: TrackerId,
        /// What was seen.
        value: TrackValue,
    },
    /// Which virtual addresses are on the interface; somebody else may have put or removed them.
    Addresses {
        /// When that was asked: what was done since then is not in it.
        asked: Nanos,
        /// Every one.
        all: bool,
        /// At least one.
        any: bool,
    },
    /// News of this node's PostgreSQL.
    Postgres {
        /// When it was asked: what was read before the last action on the server ended is out of date.
        asked: Nanos,
        /// The news.
        news: Postgres,
    },
    /// Where the WAL of a living primary ends, by its last pulse: no news by itself, so no verdict says it.
    PeerWal {
        /// Its timeline.
        timeline: u32,
        /// Its position.
        lsn: Lsn,
    },
    /// Until when the peer's kernel grants service.
    Lease(Nanos),
    /// What the peer's PostgreSQL says of itself; `None`: it does not answer.
    PeerPostgres(Option<PgFacts>),
    /// Somebody who follows announcements (a HaVip) did not follow: say them again.
    Unfollowed,
    /// An action ended.
    Done(Done),
    /// An operator, or the system, wants something.
    Command(Command),
}

/// A verdict of the kernel, or of the fallback.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// When, by the kernel's clock (`CLOCK_MONOTONIC`).
    pub at: Nanos,
    /// What.
    pub kind: VerdictKind,
    /// Which heartbeat.
    pub source: Source,
    /// The packet before the silence, for a verdict of death; else this one's own instant.
    pub last_heard: Nanos,
    /// The sender's priority.
    pub priority: u8,
    /// Pulses: flags.
    pub flags: u16,
    /// Pulses: term.
    pub term: u64,
    /// Pulses: PostgreSQL timeline.
    pub timeline: u32,
    /// Pulses: WAL position.
    pub lsn: u64,
    /// Pulses: system identifier, 0 when not known.
    pub system_identifier: u64,
}

/// News of this node's PostgreSQL.
#[derive(Clone, Debug, PartialEq)]
pub enum Postgres {
    /// It answers.
    Facts(PgFacts),
    /// It does not run.
    AtRest(AtRest),
    /// The postmaster ended (its pidfd says so).
    Exited,
    /// A probe got no answer within its deadline.
    NoAnswer,
    /// It runs and refuses connections for now (starting, stopping, or full): neither health nor death.
    NotReady(String),
}

/// How an action ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    /// The addresses are on the interface and announced.
    Serve(Result<Served, String>),
    /// PostgreSQL accepts writes.
    Promote(Result<Promoted, String>),
    /// The addresses are off, PostgreSQL and every child of it are gone.
    Stop(Result<(), String>),
    /// A checkpoint ended, well or not: it only makes the stop after it shorter.
    Checkpoint,
    /// PostgreSQL was started.
    Start(Result<(), String>),
    /// The node is a streaming standby again.
    Rejoin(Result<(), String>),
    /// The order is in force.
    Ordered {
        /// Which.
        order: Order,
        /// This node's promise to its peer, read after it was in force.
        promise_until: Nanos,
    },
    /// The witness was asked.
    Witness {
        /// What.
        call: WitnessCall,
        /// The instant before.
        asked: Nanos,
        /// Its answer.
        answer: Answer,
    },
    /// These terms are on disk.
    StoreTerms(Result<super::Terms, String>),
    /// This `synchronous_standby_names` is in force.
    SetSync(Result<String, String>),
}

/// Stamps of [`Done::Serve`], `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// The last address was on the interface.
    pub vip: Nanos,
    /// The first gratuitous ARP was sent.
    pub garp: Nanos,
}

/// Stamps of [`Done::Promote`], `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promoted {
    /// `pg_promote` was sent.
    pub asked: Nanos,
    /// `pg_is_in_recovery()` said false.
    pub promoted: Nanos,
}

/// What an operator, or the system, wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Hand the service to the peer and stay as its standby.
    Switchover,
    /// Hand the service to the peer if it can take it, then end (SIGTERM).
    Terminate,
    /// Take over whatever the peer does and whatever is lost (`failover --force`).
    Failover,
    /// No automatic action from now on; the gate goes on.
    Pause,
    /// Act again.
    Resume,
    /// The daemon will be silent for a while: the peer shall wait.
    Hold,
    /// Make this standby anew from the primary.
    Reinit,
}
