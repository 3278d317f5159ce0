//! `CLOCK_MONOTONIC` of one node: its own beginning at each boot, its own rate.

use harbor_ha_ebpf::units::Nanos;

const MILLION: u64 = 1_000_000;

/// From true time, which nobody in the world knows, to the node's own, and back.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    since: u64,
    offset: u64,
    /// Nanoseconds of its own per true millisecond.
    rate: u64,
}

impl Clock {
    /// A clock that shows `offset` at the true instant `since` and runs `drift_ppm` too fast.
    pub const fn new(since: u64, offset: u64, drift_ppm: i64) -> Self {
        Self { since, offset, rate: (MILLION as i64 + drift_ppm) as u64 }
    }

    /// What it shows.
    pub const fn at(&self, truth: u64) -> Nanos {
        Nanos(self.offset + (truth - self.since) * self.rate / MILLION)
    }

    /// When it will show `local`, or more for the first time.
    pub const fn when(&self, local: Nanos) -> u64 {
        let ahead = local.0.saturating_sub(self.offset);
        if ahead > 1 << 40 {
            return u64::MAX;
        }
        self.since + (ahead * MILLION).div_ceil(self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_reached_when_the_clock_says_so_and_not_before() {
        for drift in [-10_000, -77, 0, 1, 9_999] {
            let clock = Clock::new(1000, 5_000_000_000, drift);
            for ahead in [1, 999, 1_000_003, 77_777_777_777] {
                let local = Nanos(5_000_000_000 + ahead);
                let at = clock.when(local);
                assert!(clock.at(at) >= local && clock.at(at - 1) < local, "{drift} {ahead}");
            }
        }
    }
}
