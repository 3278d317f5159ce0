//! Random numbers that a seed decides, the same on every machine.

/// SplitMix64: small, fast, and any seed is as good as another.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// A stream of its own for each `purpose`, so that one draw more here changes nothing there.
    pub const fn new(seed: u64, purpose: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ purpose.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Below `limit`, which is not zero.
    pub const fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// From `low` on, below `high`.
    pub const fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low)
    }

    /// True `share` times in a thousand.
    pub const fn per_mille(&mut self, share: u64) -> bool {
        share != 0 && self.below(1000) < share
    }

    /// One of them.
    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    /// As often between 1 and 10 as between 10 and 100: short lengths are where the races are.
    pub const fn log(&mut self, low: u64, high: u64) -> u64 {
        let mut top = low;
        let mut decades = 0;
        while top < high {
            top *= 2;
            decades += 1;
        }
        let from = low << self.below(if decades == 0 { 1 } else { decades });
        let to = if from * 2 < high { from * 2 } else { high };
        if to > from { self.between(from, to) } else { from }
    }
}
