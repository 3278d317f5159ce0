//! IPv4 headers (RFC 791), options passed over.

use super::checksum;
use super::cursor::Cursor;

/// Protocol number of VRRP (RFC 9568 §5.1.1.4).
pub const VRRP: u8 = 112;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Length of a header without options.
pub const HEADER: usize = 20;

/// What we need of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Sender.
    pub source: [u8; 4],
    /// Receiver.
    pub destination: [u8; 4],
    /// Protocol of the payload.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// Length of the payload by the header, which is less than the frame's when that is padded.
    pub payload: u16,
    /// A fragment other than a whole packet.
    pub fragment: bool,
}

/// Reads a header and leaves the cursor at the payload; `None` for what is no IPv4 header.
#[inline(always)]
pub fn parse(cursor: &mut Cursor<'_>) -> Option<Header> {
    let fixed = cursor.take::<HEADER>()?;
    if fixed[0] >> 4 != 4 {
        return None;
    }
    let header_length = ((fixed[0] & 0x0f) as u16) << 2;
    let total_length = u16::from_be_bytes([fixed[2], fixed[3]]);
    if header_length < HEADER as u16 || total_length < header_length {
        return None;
    }
    cursor.skip((header_length - HEADER as u16) as usize & 0x3c);
    Some(Header {
        source: [fixed[12], fixed[13], fixed[14], fixed[15]],
        destination: [fixed[16], fixed[17], fixed[18], fixed[19]],
        protocol: fixed[9],
        ttl: fixed[8],
        payload: total_length - header_length,
        // Fragment offset, or "more fragments".
        fragment: u16::from_be_bytes([fixed[6], fixed[7]]) & 0x3fff != 0,
    })
}

/// Writes a header of 20 bytes, with its checksum; tests and captures need whole packets.
pub fn emit(header: &Header) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[0] = 0x45;
    // TOS 0xc0 (internetwork control), as routing protocols and keepalived set it.
    bytes[1] = 0xc0;
    bytes[2..4].copy_from_slice(&(header.payload + HEADER as u16).to_be_bytes());
    bytes[8] = header.ttl;
    bytes[9] = header.protocol;
    bytes[12..16].copy_from_slice(&header.source);
    bytes[16..20].copy_from_slice(&header.destination);
    let sum = checksum::finish(checksum::add_bytes(0, &bytes));
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes
}
