//! What the detector keeps of one heartbeat of one peer.

use super::PEERS_MAX;

/// Which heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Source {
    /// VRRP adverts: sent by a primary only.
    Advert = 0,
    /// Pulses: sent by both nodes.
    Pulse = 1,
}

impl Source {
    /// From the number in a record.
    pub const fn from_u32(source: u32) -> Option<Self> {
        match source {
            0 => Some(Self::Advert),
            1 => Some(Self::Pulse),
            _ => None,
        }
    }
}

/// Heartbeats per peer.
pub const SOURCES: usize = 2;

/// The element of map `peers` for one heartbeat of one peer.
pub const fn slot(peer: u32, source: Source) -> u32 {
    peer * SOURCES as u32 + source as u32
}

/// What is known of the peer through this heartbeat; [`Detector::state`] holds the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// Never heard.
    Unknown = 0,
    /// Heard within the deadline.
    Alive = 1,
    /// The deadline passed.
    Dead = 2,
    /// It gave up by itself.
    Resigned = 3,
}

impl State {
    /// From the number in a record; [`State::Unknown`] for a number that means nothing.
    pub const fn from_u32(state: u32) -> Self {
        match state {
            1 => Self::Alive,
            2 => Self::Dead,
            3 => Self::Resigned,
            _ => Self::Unknown,
        }
    }
}

/// Slots of the jitter histogram; slot n counts deviations below 2^n µs, the last one all that are larger.
pub const JITTER_SLOTS: usize = 20;

/// Detector record without its timer: the part on which [`crate::decide::detector`] works.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detector {
    /// When the armed timer is due, `CLOCK_MONOTONIC`; 0: not armed.
    pub deadline_ns: u64,
    /// Last valid packet.
    pub last_arrival_ns: u64,
    /// Between packets, by the setting that counts (the slower node's).
    pub interval_ns: u64,
    /// Added to the last interval before the verdict (VRRP's Skew_Time).
    pub skew_ns: u64,
    /// Valid packets.
    pub arrivals: u64,
    /// Intervals without a packet.
    pub missed_total: u64,
    /// Expiries that ran more than an interval late.
    pub stalled: u64,
    /// Verdicts of death.
    pub deaths: u64,
    /// Longest distance between two packets.
    pub gap_max_ns: u64,
    /// Last pulse: sequence.
    pub sequence: u64,
    /// Last pulse: term.
    pub term: u64,
    /// Last pulse: the sender's stamp.
    pub stamp_ns: u64,
    /// Last pulse: WAL position.
    pub lsn: u64,
    /// Last pulse: PostgreSQL system identifier.
    pub system_identifier: u64,
    /// Last pulse, no reflection: when it came.
    pub last_pulse_ns: u64,
    /// Reflections: answers of the peer's kernel.
    pub answers: u64,
    /// Our newest pulse that was answered: its sequence.
    pub answered: u64,
    /// Questions asked ([`super::Signs::asked`]) when the last sign came.
    pub asked: u64,
    /// Expiries at which silence was long enough, and too few questions had been asked.
    pub unasked: u64,
    /// Last pulse: the sender's boot.
    pub boot: u64,
    /// Last packet: age of the sender's userspace.
    pub age_ns: u64,
    /// Last packet: priority.
    pub priority: u32,
    /// Last pulse: flags.
    pub flags: u32,
    /// Last pulse: PostgreSQL timeline.
    pub timeline: u32,
    /// Missed in a row.
    pub missed: u32,
    /// Missed in a row that make a verdict.
    pub threshold: u32,
    /// A [`State`].
    pub state: u32,
    /// Non-zero: the last expiry was late, the next one counts whatever its lateness.
    pub stalling: u32,
    /// Non-zero: the peer's userspace is silent for too long.
    pub hung: u32,
    /// Distance of each pulse or advert from its expected instant, by powers of two of a microsecond.
    pub jitter: [u32; JITTER_SLOTS],
}
const _: () = assert!(size_of::<Detector>() == 21 * 8 + 8 * 4 + JITTER_SLOTS * 4);

/// A record as userspace reads it from map `peers`: the kernel's timer first, opaque (and read as zeros).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TimedDetector {
    /// `struct bpf_timer`.
    pub timer: [u64; 2],
    /// The rest.
    pub detector: Detector,
}
const _: () = assert!(size_of::<TimedDetector>() == 16 + size_of::<Detector>());
const _: () = assert!(PEERS_MAX * SOURCES == 8);
