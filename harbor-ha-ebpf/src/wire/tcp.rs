//! TCP segments (RFC 9293), as far as connections are followed and reset by them.

use super::checksum;
use super::cursor::Cursor;
use super::ipv4::{self, Header};
use crate::records::FlowKey;

/// Bits of the flags.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// A connection begins.
    pub const SYN: u8 = 0x02;
    /// There is no such connection.
    pub const RST: u8 = 0x04;
    /// Data that shall not wait.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
}

/// A header without options.
const HEADER: usize = 20;
/// A packet of [`bare_ack`].
pub const BARE: usize = ipv4::HEADER + HEADER;

/// What is read of a client's segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Of which connection.
    pub key: FlowKey,
    /// Bits of [`flag`].
    pub flags: u8,
}

/// Reads a segment of a client for a virtual address.
#[inline(always)]
pub fn segment(cursor: &mut Cursor<'_>, header: &Header) -> Option<Segment> {
    let bytes = cursor.take::<14>()?;
    let key = FlowKey {
        client: header.source,
        vip: header.destination,
        client_port: u16::from_be_bytes([bytes[0], bytes[1]]),
        vip_port: u16::from_be_bytes([bytes[2], bytes[3]]),
    };
    Some(Segment { key, flags: bytes[13] })
}

/// A bare acknowledgement from the virtual address of a flow to its client, IPv4 header and all: number 0, of 0.
///
/// A client that has the connection finds it outside its window and answers with what it expects (RFC 9293 §3.10.7.4);
/// one that has it no more answers with a reset. It carries nothing, so a connection that lives takes no harm.
pub fn bare_ack(flow: &FlowKey) -> [u8; BARE] {
    let header = Header {
        source: flow.vip,
        destination: flow.client,
        protocol: ipv4::TCP,
        ttl: 64,
        payload: HEADER as u16,
        fragment: false,
    };
    let mut bytes = [0; BARE];
    bytes[..ipv4::HEADER].copy_from_slice(&ipv4::emit(&header));
    let segment = &mut bytes[ipv4::HEADER..];
    segment[0..2].copy_from_slice(&flow.vip_port.to_be_bytes());
    segment[2..4].copy_from_slice(&flow.client_port.to_be_bytes());
    segment[12] = (HEADER as u8 / 4) << 4;
    segment[13] = flag::ACK;
    let pseudo = checksum::add_quad(checksum::add_quad(0, flow.vip), flow.client);
    let sum = checksum::add_bytes(pseudo + ipv4::TCP as u32 + HEADER as u32, segment);
    segment[16..18].copy_from_slice(&checksum::finish(sum).to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: FlowKey =
        FlowKey { client: [10, 77, 0, 3], vip: [10, 77, 0, 100], client_port: 40_000, vip_port: 5432 };

    #[test]
    fn a_bare_acknowledgement_is_a_valid_packet_of_the_other_direction() {
        let bytes = bare_ack(&FLOW);
        assert!(checksum::is_valid(checksum::add_bytes(0, &bytes[..20])));
        let pseudo = [10, 77, 0, 100, 10, 77, 0, 3, 0, 6, 0, 20];
        assert!(checksum::is_valid(checksum::add_bytes(checksum::add_bytes(0, &pseudo), &bytes[20..])));
        let mut cursor = Cursor::new(&bytes);
        let header = ipv4::parse(&mut cursor).unwrap();
        assert_eq!((header.source, header.destination, header.payload), (FLOW.vip, FLOW.client, 20));
        let read = segment(&mut cursor, &header).unwrap();
        let turned =
            FlowKey { client: FLOW.vip, vip: FLOW.client, client_port: FLOW.vip_port, vip_port: FLOW.client_port };
        assert_eq!(read, Segment { key: turned, flags: flag::ACK });
    }

    #[test]
    fn a_segment_that_ends_before_its_flags_is_none() {
        let bytes = bare_ack(&FLOW);
        let mut cursor = Cursor::new(&bytes[..33]);
        let header = ipv4::parse(&mut cursor).unwrap();
        assert_eq!(segment(&mut cursor, &header), None);
    }
}
