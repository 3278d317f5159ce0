//! What goes out of the core: effects as plain data.

use harbor_ha_ebpf::records::Order;
use harbor_ha_ebpf::units::{Nanos, Priority};

use super::flows::Reset;
use super::witness::WitnessCall;
use crate::vrrp::Event;

/// One effect.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send one advert.
    Advert(Priority),
    /// What the pulses say from now on; one goes out at once when the flags changed.
    Pulse(PulseState),
    /// Put the virtual addresses on the interface and announce them. Ends with [`super::Done::Serve`].
    Serve,
    /// Announce the virtual addresses this many times each.
    Announce(u32),
    /// Ask each known connection of the virtual addresses where it stands: its client learns that this node has none.
    Tickle,
    /// Reset connections of the virtual addresses, which are still on the interface.
    Reset(Reset),
    /// Take the virtual addresses off the interface.
    Withdraw,
    /// Make PostgreSQL a primary. Ends with [`super::Done::Promote`].
    Promote,
    /// Write a checkpoint while still serving, so that the stop is short. Ends with [`super::Done::Checkpoint`].
    Checkpoint,
    /// Take the addresses off, then stop PostgreSQL with every child. Ends with [`super::Done::Stop`].
    Stop(StopMode),
    /// Start PostgreSQL. Ends with [`super::Done::Start`].
    Start {
        /// As a standby, else as the primary it was.
        standby: bool,
    },
    /// Make this data directory a streaming standby of the peer. Ends with [`super::Done::Rejoin`].
    Rejoin {
        /// By a base backup, whatever could be rewound.
        anew: bool,
    },
    /// Set `synchronous_standby_names`. Ends with [`super::Done::SetSync`].
    SetSync {
        /// Whether the peer's WAL receiver is named, or nobody.
        peer: bool,
    },
    /// Store the terms. Ends with [`super::Done::StoreTerms`].
    StoreTerms(super::Terms),
    /// What the gate and the echo shall be; in force when the next action begins. Ends with [`super::Done::Ordered`].
    Order(Order),
    /// Read the kernel's lease. Ends with [`super::Input::Lease`].
    ReadLease,
    /// Put the virtual addresses on the interface and tell nobody: the gate is shut.
    Prepare,
    /// Ask the witness. Ends with [`super::Done::Witness`].
    Witness(WitnessCall),
    /// Keep over restarts whether automatic action is paused.
    StorePause(bool),
    /// Ask the peer's PostgreSQL for its facts. Ends with [`super::Input::PeerPostgres`].
    AskPeer,
    /// The role changed: log it, count it.
    Report(Report),
    /// Tell scripts and mail; nobody waits for them.
    Notify(Event),
    /// End the daemon.
    Exit,
}

/// How PostgreSQL is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Fast shutdown within its limit, then immediate, then kill.
    Fast,
    /// Kill every process at once: the postmaster is dead or hung, and its children can still commit.
    Kill,
}

/// What the pulses carry, besides what the pulse thread knows itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PulseState {
    /// Bits of `wire::pulse::flag`.
    pub flags: u16,
    /// Term: a primary's or a former one's own, else the highest heard of.
    pub term: u64,
    /// PostgreSQL timeline.
    pub timeline: u32,
    /// WAL position.
    pub lsn: u64,
    /// System identifier.
    pub system_identifier: u64,
    /// Priority, as what is tracked makes it; 0 before the core's first word.
    pub priority: u8,
}

/// A change of role, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// State before.
    pub from: super::VrrpState,
    /// State after.
    pub to: super::VrrpState,
    /// Why, in a sentence.
    pub why: String,
}

/// Collects what one input causes.
#[derive(Debug, Default)]
pub struct Actions {
    list: Vec<Action>,
    wake_at: Option<Nanos>,
}

impl Actions {
    pub(super) fn push(&mut self, action: Action) {
        self.list.push(action);
    }

    pub(super) fn set_wake(&mut self, at: Option<Nanos>) {
        self.wake_at = at;
    }

    /// The effects, in the order in which they must begin.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Action> {
        self.list.drain(..)
    }

    /// When the core wants to be called with [`super::Input::Wake`].
    pub const fn wake_at(&self) -> Option<Nanos> {
        self.wake_at
    }
}
