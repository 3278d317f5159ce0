//! Events of the detector, in the ring buffer `verdicts`.

/// What happened; [`Verdict::kind`] holds the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum VerdictKind {
    /// First valid packet after silence or death.
    Alive = 1,
    /// A later packet that says something new (adverts: every one; pulses: changed flags, term, priority, timeline).
    Said = 2,
    /// Another interval went by without a packet.
    Missed = 3,
    /// The deadline passed.
    Dead = 4,
    /// The peer gave up by itself: priority 0, or the resign flag.
    Resigned = 5,
    /// An expiry ran so late that our own host must have stood still; nothing is concluded from it.
    Stalled = 6,
    /// The peer's kernel answers, and its userspace has been silent for longer than `hang`.
    Hung = 7,
    /// The userspace of a peer that hung gives signs again.
    Awake = 8,
}

impl VerdictKind {
    /// From the number in the record.
    pub const fn from_u32(kind: u32) -> Option<Self> {
        Some(match kind {
            1 => Self::Alive,
            2 => Self::Said,
            3 => Self::Missed,
            4 => Self::Dead,
            5 => Self::Resigned,
            6 => Self::Stalled,
            7 => Self::Hung,
            8 => Self::Awake,
            _ => return None,
        })
    }
}

/// One event, stamped by the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// `CLOCK_MONOTONIC` of the event.
    pub at_ns: u64,
    /// Last valid packet before it.
    pub last_arrival_ns: u64,
    /// Adverts: the sender's interval.
    pub interval_ns: u64,
    /// Pulses: the sender's term.
    pub term: u64,
    /// Pulses: WAL position.
    pub lsn: u64,
    /// Pulses: PostgreSQL system identifier.
    pub system_identifier: u64,
    /// A [`VerdictKind`].
    pub kind: u32,
    /// Index of the peer.
    pub peer: u32,
    /// A [`super::Source`].
    pub source: u32,
    /// Missed in a row, at [`VerdictKind::Missed`] and [`VerdictKind::Dead`].
    pub missed: u32,
    /// Pulses: flags.
    pub flags: u32,
    /// The sender's priority.
    pub priority: u32,
    /// Pulses: PostgreSQL timeline.
    pub timeline: u32,
    /// Keeps the size a multiple of eight.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Verdict>() == 6 * 8 + 8 * 4);
