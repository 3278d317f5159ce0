//! The table of states and adverts (RFC 3768 §6.4, RFC 9568 §6.4), total and without a default.

use std::net::Ipv4Addr;

use harbor_ha_ebpf::units::Priority;
use serde::Serialize;

/// The states of the RFCs, and keepalived's Fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not started, or something that is tracked is not known yet.
    Init,
    /// Somebody else is master, or nobody is yet.
    Backup,
    /// This node has the addresses.
    Master,
    /// This node cannot have them.
    Fault,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Init, Self::Backup, Self::Master, Self::Fault];
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Init => "init",
            Self::Backup => "backup",
            Self::Master => "master",
            Self::Fault => "fault",
        })
    }
}

/// An advert, seen from our own priority and address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Rank {
    /// Priority 0.
    Resigned,
    /// A lower priority.
    Weaker,
    /// Our priority and a smaller address.
    EqualBelow,
    /// Our priority and a greater address.
    EqualAbove,
    /// A higher priority.
    Stronger,
}

/// Compares as RFC 9568 §6.4.3 does: addresses as unsigned numbers in network order.
pub(super) const fn rank(theirs: Priority, from: Ipv4Addr, mine: Priority, source: Ipv4Addr) -> Rank {
    if theirs.0 == Priority::RESIGN.0 {
        Rank::Resigned
    } else if theirs.0 < mine.0 {
        Rank::Weaker
    } else if theirs.0 > mine.0 {
        Rank::Stronger
    } else if from.to_bits() > source.to_bits() {
        Rank::EqualAbove
    } else {
        Rank::EqualBelow
    }
}

/// What a backup does with a living master that is weaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Preempt {
    /// It bears with it.
    Never,
    /// It bears with it for now.
    Later,
    /// It does not hear it.
    Now,
}

/// What follows from an advert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing.
    Ignore,
    /// The master lives: its interval is adopted and the timer set anew.
    Follow,
    /// The master is gone: the timer is set to the skew.
    Skew,
    /// Not heard, so that the timer runs out.
    Discard,
    /// Advertise at once.
    Advertise,
    /// Advertise at once, and announce: somebody weaker may have been believed.
    Answer,
    /// Become backup.
    Yield,
}

/// What follows from an advert in a state.
pub(super) const fn then(state: State, rank: Rank, preempt: Preempt) -> Then {
    match (state, rank) {
        (State::Init | State::Fault, _) => Then::Ignore,
        (State::Backup, Rank::Resigned) => Then::Skew,
        // §6.4.2 (450): of our own priority too, whatever the address.
        (State::Backup, Rank::Stronger | Rank::EqualAbove | Rank::EqualBelow) => Then::Follow,
        (State::Backup, Rank::Weaker) => match preempt {
            Preempt::Never | Preempt::Later => Then::Follow,
            Preempt::Now => Then::Discard,
        },
        (State::Master, Rank::Resigned) => Then::Advertise,
        (State::Master, Rank::Weaker | Rank::EqualBelow) => Then::Answer,
        (State::Master, Rank::Stronger | Rank::EqualAbove) => Then::Yield,
    }
}
