//! The pulse: harbor-ha's own authenticated heartbeat, UDP, 104 bytes, big endian.
//!
//! ```text
//!  0 magic "HHAP"      4 version   5 vrid   6 priority   7 threshold
//!  8 flags (16)       10 zero (16)         12 interval, µs (32)
//! 16 cluster id (64)                       24 term (64)
//! 32 sequence (64)                         40 stamp, sender's monotonic ns (64)
//! 48 echo, last stamp heard (64)           56 userspace age, µs (32)   60 timeline (32)
//! 64 WAL position (64)                     72 system identifier (64)
//! 80 boot of the sender (64)               88 boot whose stamp is echoed (64)
//! 96 SipHash-2-4 over the 96 bytes before
//! ```

use super::siphash::{Key, State};
use crate::decide::filter::Reject;
use crate::units::{Nanos, Priority};

/// "HHAP".
pub const MAGIC: u32 = 0x4848_4150;
/// Of this layout.
pub const VERSION: u8 = 1;
/// Payload of the UDP datagram.
pub const LENGTH: usize = 104;
/// What the MAC covers.
const COVERED: usize = 96;

/// Bits of the flags word.
pub mod flag {
    /// The sender serves the virtual addresses.
    pub const PRIMARY: u16 = 0x0001;
    /// The sender is a synchronous standby (standby) or has one (primary).
    pub const SYNC: u16 = 0x0002;
    /// The sender cannot serve.
    pub const FAULT: u16 = 0x0004;
    /// The sender has stopped serving: take over at once.
    pub const RESIGN: u16 = 0x0008;
    /// The sender's PostgreSQL is a primary.
    pub const PG_PRIMARY: u16 = 0x0010;
    /// The sender's PostgreSQL answers.
    pub const PG_UP: u16 = 0x0020;
    /// The sender has begun to rejoin the receiver and not ended: it is no primary, and cannot become one before.
    pub const REJOIN: u16 = 0x0040;
    /// The sender's PostgreSQL is at rest, and was a primary when it ended; `term` is the one in which it was.
    pub const FORMER: u16 = 0x0080;
    /// Not sent by a daemon: the kernel of the peer turned our own pulse round. `sequence` is ours, the rest is its.
    pub const REFLECTION: u16 = 0x0100;
    /// Primary: it serves by the receiver's echoes alone, and does so until the receiver waives its right.
    pub const LEASED: u16 = 0x0200;
    /// Standby: it will not take over in this term, also after a crash.
    pub const WAIVED: u16 = 0x0400;
    /// Primary: it would like the standby to waive its right, to stop waiting for it.
    pub const ASKS_WAIVER: u16 = 0x0800;
    /// The sender's userspace will be silent for a while, at most as long as `hold` says.
    pub const HOLD: u16 = 0x1000;
    /// The sender has heard [`HOLD`] and waits as long.
    pub const HOLDS: u16 = 0x2000;
    /// Standby: the receiver resigned, and the sender does not take over, for a reason that lasts (its data, a check that
    /// fails): the receiver shall not wait for it.
    pub const UNFIT: u16 = 0x4000;
    /// The sender does not serve and would not take over: something that it tracks has failed.
    pub const UNWELL: u16 = 0x8000;
}

/// A pulse that is authentic; whether it is fresh and from the right peer is the filter's business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Virtual router id.
    pub vrid: u8,
    /// The sender's priority, as what it tracks makes it.
    pub priority: u8,
    /// Missed pulses after which the sender would be declared dead.
    pub threshold: u8,
    /// Bits of [`flag`].
    pub flags: u16,
    /// Between pulses, µs.
    pub interval_us: u32,
    /// Tells clusters apart.
    pub cluster_id: u64,
    /// Grows at each takeover.
    pub term: u64,
    /// Grows with each pulse, also over restarts.
    pub sequence: u64,
    /// Sender's `CLOCK_MONOTONIC`.
    pub stamp_ns: u64,
    /// The last stamp that the sender heard from us.
    pub echo_ns: u64,
    /// Age of the sender's older userspace sign, µs.
    pub userspace_age_us: u32,
    /// PostgreSQL timeline.
    pub timeline: u32,
    /// Flushed (primary) or received (standby) WAL position.
    pub lsn: u64,
    /// PostgreSQL system identifier; 0: not known.
    pub system_identifier: u64,
    /// Tells the sender's boots apart: a stamp means nothing in another one.
    pub boot: u64,
    /// The receiver's boot in which `echo_ns` was its stamp.
    pub echo_boot: u64,
}

impl Pulse {
    /// Whether the sender's kernel turned our own pulse round.
    pub const fn is_reflection(&self) -> bool {
        self.flags & flag::REFLECTION != 0
    }

    /// Age of the sender's userspace.
    pub const fn age(&self) -> Nanos {
        Nanos(self.userspace_age_us as u64 * 1000)
    }

    /// The sender's priority.
    pub const fn priority(&self) -> Priority {
        Priority(self.priority)
    }

    /// Time between the sender's pulses.
    pub const fn interval(&self) -> Nanos {
        Nanos(self.interval_us as u64 * 1000)
    }
}

macro_rules! be {
    ($bytes:ident, $at:literal, u16) => {
        u16::from_be_bytes([$bytes[$at], $bytes[$at + 1]])
    };
    ($bytes:ident, $at:literal, u32) => {
        u32::from_be_bytes([$bytes[$at], $bytes[$at + 1], $bytes[$at + 2], $bytes[$at + 3]])
    };
    ($bytes:ident, $at:literal, u64) => {
        (be!($bytes, $at, u32) as u64) << 32
            | u32::from_be_bytes([$bytes[$at + 4], $bytes[$at + 5], $bytes[$at + 6], $bytes[$at + 7]]) as u64
    };
}

/// Writes the MAC of the first 96 bytes.
#[inline(always)]
pub fn seal(bytes: &mut [u8; LENGTH], key: Key) {
    let mac = mac(bytes, key).to_be_bytes();
    let [.., m0, m1, m2, m3, m4, m5, m6, m7] = bytes;
    [*m0, *m1, *m2, *m3, *m4, *m5, *m6, *m7] = mac;
}

/// The MAC of the first 96 bytes. Written out, as a loop over packet bytes makes the verifier lose their bounds.
#[inline(always)]
fn mac(bytes: &[u8; LENGTH], key: Key) -> u64 {
    macro_rules! absorb {
        ($state:ident, $($at:literal)*) => {
            $state$(.word(be!(bytes, $at, u64).swap_bytes()))*
        };
    }
    let state = State::new(key);
    absorb!(state, 0 8 16 24 32 40 48 56 64 72 80 88).finish(COVERED)
}

/// Reads a pulse and checks its MAC.
///
/// # Errors
///
/// [`Reject::Magic`], [`Reject::Version`] or [`Reject::Mac`].
pub fn parse(bytes: &[u8; LENGTH], key: Key) -> Result<Pulse, Reject> {
    parse_either(bytes, key, key)
}

/// Reads a pulse whose MAC one of two keys must have made: while keys are exchanged there are two, else the same one is
/// given twice.
///
/// # Errors
///
/// As [`parse`].
#[inline(always)]
pub fn parse_either(bytes: &[u8; LENGTH], key: Key, other: Key) -> Result<Pulse, Reject> {
    if be!(bytes, 0, u32) != MAGIC {
        return Err(Reject::Magic);
    }
    if bytes[4] != VERSION {
        return Err(Reject::Version);
    }
    let found = be!(bytes, 96, u64);
    let is_right = mac(bytes, key) == found || key != other && mac(bytes, other) == found;
    if !is_right {
        return Err(Reject::Mac);
    }
    Ok(Pulse {
        vrid: bytes[5],
        priority: bytes[6],
        threshold: bytes[7],
        flags: be!(bytes, 8, u16),
        interval_us: be!(bytes, 12, u32),
        cluster_id: be!(bytes, 16, u64),
        term: be!(bytes, 24, u64),
        sequence: be!(bytes, 32, u64),
        stamp_ns: be!(bytes, 40, u64),
        echo_ns: be!(bytes, 48, u64),
        userspace_age_us: be!(bytes, 56, u32),
        timeline: be!(bytes, 60, u32),
        lsn: be!(bytes, 64, u64),
        system_identifier: be!(bytes, 72, u64),
        boot: be!(bytes, 80, u64),
        echo_boot: be!(bytes, 88, u64),
    })
}

/// Writes a pulse with its MAC.
pub fn emit(pulse: &Pulse, key: Key) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[0..4].copy_from_slice(&MAGIC.to_be_bytes());
    bytes[4] = VERSION;
    bytes[5] = pulse.vrid;
    bytes[16..24].copy_from_slice(&pulse.cluster_id.to_be_bytes());
    bytes[32..40].copy_from_slice(&pulse.sequence.to_be_bytes());
    say(&mut bytes, pulse);
    seal(&mut bytes, key);
    bytes
}

/// Writes what the sender says of itself over what another one said: all but the version, the ids and the sequence, which
/// a reflection has from the question. Field by field, as a packet in the kernel is no place for a copy.
#[inline(always)]
pub fn say(bytes: &mut [u8; LENGTH], pulse: &Pulse) {
    bytes[6] = pulse.priority;
    bytes[7] = pulse.threshold;
    bytes[8..10].copy_from_slice(&pulse.flags.to_be_bytes());
    bytes[10..12].copy_from_slice(&[0; 2]);
    bytes[12..16].copy_from_slice(&pulse.interval_us.to_be_bytes());
    bytes[24..32].copy_from_slice(&pulse.term.to_be_bytes());
    bytes[40..48].copy_from_slice(&pulse.stamp_ns.to_be_bytes());
    bytes[48..56].copy_from_slice(&pulse.echo_ns.to_be_bytes());
    bytes[56..60].copy_from_slice(&pulse.userspace_age_us.to_be_bytes());
    bytes[60..64].copy_from_slice(&pulse.timeline.to_be_bytes());
    bytes[64..72].copy_from_slice(&pulse.lsn.to_be_bytes());
    bytes[72..80].copy_from_slice(&pulse.system_identifier.to_be_bytes());
    bytes[80..88].copy_from_slice(&pulse.boot.to_be_bytes());
    bytes[88..96].copy_from_slice(&pulse.echo_boot.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key([1, 2]);

    fn sample() -> Pulse {
        Pulse {
            vrid: 51,
            priority: 100,
            threshold: 3,
            flags: flag::PRIMARY | flag::PG_UP,
            interval_us: 10_000,
            cluster_id: 7,
            term: 3,
            sequence: 0x0102_0304_0506_0708,
            stamp_ns: 5,
            echo_ns: 6,
            userspace_age_us: 8,
            timeline: 9,
            lsn: 0x1_0000_0010,
            system_identifier: u64::MAX,
            boot: 10,
            echo_boot: 11,
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(parse(&emit(&sample(), KEY), KEY), Ok(sample()));
    }

    #[test]
    fn a_second_key_is_taken_too() {
        let old = Key([3, 4]);
        assert_eq!(parse_either(&emit(&sample(), old), KEY, old), Ok(sample()));
        assert_eq!(parse_either(&emit(&sample(), KEY), KEY, old), Ok(sample()));
        assert_eq!(parse_either(&emit(&sample(), Key([5, 6])), KEY, old), Err(Reject::Mac));
    }

    #[test]
    fn what_is_said_over_a_question_keeps_its_sequence_and_nothing_else_of_its_sender() {
        let mut bytes = emit(&sample(), KEY);
        // The boots of another one are not ours to repeat.
        bytes[80..96].fill(0xff);
        let ours = Pulse { vrid: 0, cluster_id: 0, sequence: 0, flags: flag::REFLECTION, stamp_ns: 99, ..sample() };
        say(&mut bytes, &ours);
        seal(&mut bytes, KEY);
        let heard = parse(&bytes, KEY).unwrap();
        let of_the_question = Pulse { vrid: 51, cluster_id: 7, sequence: sample().sequence, ..ours };
        assert_eq!(heard, of_the_question);
        assert_eq!((bytes[87], bytes[95]), (10, 11));
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let bytes = emit(&sample(), KEY);
        assert_eq!(&bytes[0..4], b"HHAP");
        assert_eq!(bytes[32..40], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(bytes[64..72], [0, 0, 0, 1, 0, 0, 0, 0x10]);
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let good = emit(&sample(), KEY);
        for bit in 0..LENGTH * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&bad, KEY).is_err(), "bit {bit} changed and nobody noticed");
        }
        assert_eq!(parse(&good, Key([1, 3])), Err(Reject::Mac));
    }
}
