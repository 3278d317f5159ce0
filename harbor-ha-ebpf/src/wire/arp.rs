//! Gratuitous ARP (RFC 5227 §3, RFC 9568 §6.4.2 with erratum 7947): tells the network where an address lives now.

use super::ethernet;

/// Length of a frame, without padding.
pub const FRAME: usize = 42;

/// A broadcast request in which sender and target address are both `address`, as keepalived sends it.
pub fn gratuitous(mac: [u8; 6], address: [u8; 4]) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    frame[0..6].copy_from_slice(&[0xff; 6]);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&ethernet::ARP.to_be_bytes());
    // Hardware type Ethernet, protocol IPv4, lengths 6 and 4, operation request.
    frame[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&address);
    frame[32..38].copy_from_slice(&[0xff; 6]);
    frame[38..42].copy_from_slice(&address);
    frame
}

/// The sender's hardware address, if `frame` is a gratuitous ARP for `address`.
pub fn announces(frame: &[u8], address: [u8; 4]) -> Option<[u8; 6]> {
    if frame.len() < FRAME || frame[12..14] != ethernet::ARP.to_be_bytes() {
        return None;
    }
    if frame[28..32] != address || frame[38..42] != address {
        return None;
    }
    let mut mac = [0; 6];
    mac.copy_from_slice(&frame[22..28]);
    Some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gratuitous_arp_names_the_address_twice() {
        let frame = gratuitous([2, 0, 0, 0, 0, 1], [10, 0, 0, 9]);
        assert_eq!(announces(&frame, [10, 0, 0, 9]), Some([2, 0, 0, 0, 0, 1]));
        assert_eq!(announces(&frame, [10, 0, 0, 8]), None);
        assert_eq!(announces(&frame[..41], [10, 0, 0, 9]), None);
    }
}
