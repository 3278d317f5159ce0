//! The Internet checksum (RFC 1071).

/// Adds 16-bit big-endian words to a running sum; an odd last byte counts as the high one.
pub fn add_bytes(mut sum: u32, bytes: &[u8]) -> u32 {
    for pair in bytes.chunks(2) {
        let word = if pair.len() == 2 { u16::from_be_bytes([pair[0], pair[1]]) } else { (pair[0] as u16) << 8 };
        sum += word as u32;
    }
    sum
}

/// Adds four bytes: two words.
#[inline(always)]
pub const fn add_quad(sum: u32, quad: [u8; 4]) -> u32 {
    sum + u16::from_be_bytes([quad[0], quad[1]]) as u32 + u16::from_be_bytes([quad[2], quad[3]]) as u32
}

/// Folds the carries.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The value to put on the wire.
#[inline(always)]
pub const fn finish(sum: u32) -> u16 {
    !fold(sum)
}

/// Whether a sum that includes the transmitted checksum is right.
#[inline(always)]
pub const fn is_valid(sum: u32) -> bool {
    fold(sum) == 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_holds() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(add_bytes(0, &bytes)), 0xddf2);
        assert_eq!(finish(add_bytes(0, &bytes)), !0xddf2);
    }

    #[test]
    fn a_message_with_its_own_checksum_is_valid() {
        let sum = add_bytes(0, &[0x12, 0x34, 0xff, 0xff]);
        assert!(is_valid(sum + finish(sum) as u32));
        assert!(!is_valid(sum + finish(sum) as u32 + 1));
    }
}
