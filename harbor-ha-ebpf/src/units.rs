//! Units and ranges as types, so that seconds, centiseconds and nanoseconds cannot be mixed up.

use core::num::NonZeroU8;

/// Nanoseconds: an instant of `CLOCK_MONOTONIC` or a length of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Nanos(pub u64);

impl Nanos {
    /// A length in milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000_000)
    }

    /// A length in whole seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1_000_000_000)
    }

    /// The instant `length` later; stays at the end of time instead of wrapping.
    pub const fn after(self, length: Nanos) -> Self {
        Self(self.0.saturating_add(length.0))
    }

    /// The length since `earlier`; zero when `earlier` is later.
    pub const fn since(self, earlier: Nanos) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    /// The length `factor` times as long.
    pub const fn times(self, factor: u64) -> Self {
        Self(self.0.saturating_mul(factor))
    }
}

/// VRRP priority (RFC 9568 §5.2.4): 0 resigns, 255 owns the address, 1 to 254 may be configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Priority(pub u8);

impl Priority {
    /// Sent by a primary that gives up (§5.2.4).
    pub const RESIGN: Self = Self(0);
    /// The address owner's (§5.2.4).
    pub const OWNER: Self = Self(255);
}

/// Virtual router id (RFC 9568 §5.2.3): 1 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Vrid(NonZeroU8);

impl Vrid {
    /// `None` for 0.
    pub const fn new(id: u8) -> Option<Self> {
        match NonZeroU8::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The number on the wire.
    pub const fn as_u8(self) -> u8 {
        self.0.get()
    }
}

/// Hundredths of a second, as v3 adverts carry them (RFC 9568 §5.2.7): 1 to 4095.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Centis(u16);

impl Centis {
    /// The largest that fits twelve bits.
    pub const MAX: u16 = 0x0fff;

    /// `None` outside 1 to 4095; 0 must be rejected (RFC 9568 erratum 8301).
    pub const fn new(centis: u16) -> Option<Self> {
        if centis == 0 || centis > Self::MAX { None } else { Some(Self(centis)) }
    }

    /// The number on the wire.
    pub const fn as_u16(self) -> u16 {
        self.0
    }

    /// The same length in nanoseconds.
    pub const fn nanos(self) -> Nanos {
        Nanos(self.0 as u64 * 10_000_000)
    }
}

/// Skew_Time (RFC 9568 §6.1): the weaker the node, the longer it waits.
pub const fn skew(mine: Priority, interval: Nanos) -> Nanos {
    Nanos((256 - mine.0 as u64) * interval.0 / 256)
}

/// Skew_Time of VRRPv2 (RFC 3768 §6.1): a share of one second, whatever the interval.
pub const fn skew_v2(mine: Priority) -> Nanos {
    skew(mine, Nanos::from_secs(1))
}
