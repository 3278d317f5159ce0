//! What the core asks a witness, and what it keeps of the answers; the third parties themselves are adapters.

use harbor_ha_ebpf::units::Nanos;

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WitnessCall {
    /// The solo key, for a new holder or once more.
    Acquire {
        /// The term in which the holder serves.
        term: u64,
        /// The term of the primary that it wants to succeed; 0: its own key once more.
        follows: u64,
    },
    /// Give the key back, if it is ours.
    Release {
        /// The term in which it was held.
        term: u64,
    },
    /// For good: no standby may succeed the primary of this term.
    Revoke {
        /// The term.
        term: u64,
    },
    /// The standby may succeed again.
    Restore {
        /// The term.
        term: u64,
    },
}

impl WitnessCall {
    /// Of every kind, in the order of the enum.
    pub const NAMES: [&'static str; 4] = ["acquire", "release", "revoke", "restore"];

    /// Its name in metrics and `status`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Acquire { .. } => "acquire",
            Self::Release { .. } => "release",
            Self::Revoke { .. } => "revoke",
            Self::Restore { .. } => "restore",
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Granted {
        /// How long the key lasts, from an instant after it was asked for; zero where nothing lasts.
        ttl: Nanos,
    },
    /// No; in words.
    Refused(String),
    /// No: a later term was granted to the other node. Whether it ever promoted in it, the witness does not know.
    Outrun {
        /// That term.
        term: u64,
        /// In words.
        why: String,
    },
    /// Nobody answered within the deadline; in words.
    Unreachable(String),
}

/// What is kept of the answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Witness {
    /// A question for the key is under way.
    pub asking: bool,
    /// It was given back, and whether the witness has heard of that is not known: a key that is asked for meanwhile would
    /// be of the same term, and given back by the same words.
    pub releasing: bool,
    /// The next one, at the earliest.
    pub ask_at: Nanos,
    /// The key is ours until then.
    pub held_until: Nanos,
    /// In this term.
    pub term: u64,
    /// The standby's right is revoked for this term.
    pub revoked: u64,
    /// The next try to revoke, at the earliest.
    pub revoke_at: Nanos,
    /// The highest term that it said was granted to the other node: nothing is granted to this one below it.
    pub outrun: u64,
    /// What it last complained about.
    pub trouble: Option<String>,
}

impl Witness {
    /// Something about the key is under way.
    pub const fn is_asked(&self) -> bool {
        self.asking || self.releasing
    }
}
