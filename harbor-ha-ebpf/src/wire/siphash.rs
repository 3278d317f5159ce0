//! SipHash-2-4 (Aumasson and Bernstein, 2012) over whole 8-byte words, as the pulse's MAC needs it.

/// A 128-bit key as two little-endian words.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key(pub [u64; 2]);

impl Key {
    /// From the sixteen bytes of the configuration.
    pub const fn from_bytes(b: [u8; 16]) -> Self {
        Self([
            u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
            u64::from_le_bytes([b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]]),
        ])
    }
}

macro_rules! round {
    ($v0:ident, $v1:ident, $v2:ident, $v3:ident) => {
        $v0 = $v0.wrapping_add($v1);
        $v1 = $v1.rotate_left(13) ^ $v0;
        $v0 = $v0.rotate_left(32);
        $v2 = $v2.wrapping_add($v3);
        $v3 = $v3.rotate_left(16) ^ $v2;
        $v0 = $v0.wrapping_add($v3);
        $v3 = $v3.rotate_left(21) ^ $v0;
        $v2 = $v2.wrapping_add($v1);
        $v1 = $v1.rotate_left(17) ^ $v2;
        $v2 = $v2.rotate_left(32);
    };
}

/// The running state. Words go in one by one, so that the kernel reads them where they lie in the packet.
#[derive(Clone, Copy)]
pub struct State([u64; 4]);

impl State {
    /// Before the first word.
    #[inline(always)]
    pub const fn new(key: Key) -> Self {
        let [k0, k1] = key.0;
        Self([
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ])
    }

    /// Eight bytes of the message, read little endian.
    #[inline(always)]
    pub const fn word(self, word: u64) -> Self {
        let [mut v0, mut v1, mut v2, mut v3] = self.0;
        v3 ^= word;
        round!(v0, v1, v2, v3);
        round!(v0, v1, v2, v3);
        v0 ^= word;
        Self([v0, v1, v2, v3])
    }

    /// The MAC of a message of `length` bytes, a multiple of eight.
    #[inline(always)]
    pub const fn finish(self, length: usize) -> u64 {
        // The last block holds the length modulo 256 in its highest byte.
        let [mut v0, mut v1, mut v2, mut v3] = self.word((length as u64) << 56).0;
        v2 ^= 0xff;
        round!(v0, v1, v2, v3);
        round!(v0, v1, v2, v3);
        round!(v0, v1, v2, v3);
        round!(v0, v1, v2, v3);
        v0 ^ v1 ^ v2 ^ v3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac<const N: usize>(key: Key, words: &[u64; N]) -> u64 {
        words.iter().fold(State::new(key), |state, &word| state.word(word)).finish(N * 8)
    }

    /// The reference key 00 01 … 0f and messages 00 01 02 …, from the vectors of the reference implementation.
    #[test]
    fn the_reference_vectors_hold() {
        let key = Key::from_bytes(core::array::from_fn(|i| i as u8));
        let word = |first: u8| u64::from_le_bytes(core::array::from_fn(|i| first + i as u8));
        assert_eq!(mac::<0>(key, &[]).to_le_bytes(), [0x31, 0x0e, 0x0e, 0xdd, 0x47, 0xdb, 0x6f, 0x72]);
        assert_eq!(mac(key, &[word(0)]).to_le_bytes(), [0x62, 0x24, 0x93, 0x9a, 0x79, 0xf5, 0xf5, 0x93]);
        assert_eq!(mac(key, &[word(0), word(8)]).to_le_bytes(), [0xdb, 0x9b, 0xc2, 0x57, 0x7f, 0xcc, 0x2a, 0x3f]);
    }

    /// The standard library has the same function, by another hand.
    #[test]
    #[allow(deprecated, reason = "an independent SipHash-2-4 to compare with")]
    fn it_agrees_with_the_standard_library() {
        use std::hash::{Hasher, SipHasher};
        let key = Key([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]);
        let words: [u64; 12] = core::array::from_fn(|i| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut theirs = SipHasher::new_with_keys(key.0[0], key.0[1]);
        for word in words {
            theirs.write(&word.to_le_bytes());
        }
        assert_eq!(mac(key, &words), theirs.finish());
    }
}
