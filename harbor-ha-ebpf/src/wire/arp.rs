//! ARP (RFC 826), and the gratuitous kind of it (RFC 5227 §3, RFC 9568 §6.4.2 with erratum 7947), which tells the network
//! where an address lives now.

use super::cursor::Cursor;
use super::ethernet;

/// Length of a frame, without padding.
pub const FRAME: usize = 42;
/// Length of what is behind the Ethernet header.
const MESSAGE: usize = 28;

/// The protocol addresses of an ARP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Who says it.
    pub sender: [u8; 4],
    /// Whom it is about, or for.
    pub target: [u8; 4],
}

impl Addresses {
    /// Says where the sender lives, and asks nothing.
    #[inline(always)]
    pub const fn is_gratuitous(&self) -> bool {
        u32::from_ne_bytes(self.sender) == u32::from_ne_bytes(self.target)
    }
}

/// The addresses of a message about IPv4 over Ethernet; the cursor stands behind the Ethernet header.
///
/// No more is looked at: Linux takes two hardware types for Ethernet, and what it would answer must be seen here.
#[inline(always)]
pub fn addresses(cursor: &mut Cursor<'_>) -> Option<Addresses> {
    let message = cursor.view::<MESSAGE>()?;
    // Protocol IPv4, lengths 6 and 4.
    if message[2] != 8 || message[3] != 0 || message[4] != 6 || message[5] != 4 {
        return None;
    }
    Some(Addresses {
        sender: [message[14], message[15], message[16], message[17]],
        target: [message[24], message[25], message[26], message[27]],
    })
}

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

    #[test]
    fn a_message_names_whom_it_is_about() {
        let mut frame = gratuitous([2, 0, 0, 0, 0, 1], [10, 0, 0, 9]);
        let read = |frame: &[u8]| addresses(&mut Cursor::new(&frame[ethernet::HEADER..]));
        let found = read(&frame).unwrap();
        assert!(found.is_gratuitous() && found.target == [10, 0, 0, 9]);
        frame[31] = 7;
        let found = read(&frame).unwrap();
        assert!(!found.is_gratuitous() && found.sender == [10, 0, 0, 7] && found.target == [10, 0, 0, 9]);
        assert_eq!(read(&frame[..41]), None);
        frame[16] = 0x86;
        assert_eq!(read(&frame), None, "another protocol");
    }
}
