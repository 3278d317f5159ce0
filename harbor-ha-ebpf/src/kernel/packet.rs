//! From a packet to what it is: ours or not, and from whom.

use aya_ebpf::programs::XdpContext;
use harbor_ha_ebpf::decide::filter::Reject;
use harbor_ha_ebpf::records::{Config, PEERS_MAX, accept};
use harbor_ha_ebpf::wire::cursor::Cursor;
use harbor_ha_ebpf::wire::pulse::{self, Pulse};
use harbor_ha_ebpf::wire::siphash::Key;
use harbor_ha_ebpf::wire::tcp::{self, Segment};
use harbor_ha_ebpf::wire::vrrp::{self, Advert};
use harbor_ha_ebpf::wire::{arp, ethernet, ipv4};

use super::gate;
use super::maps::{CONFIG, PEER_CONFIG, SECRETS};

/// Who sent it.
#[derive(Clone, Copy)]
pub struct From {
    /// Index in map `peer_config`.
    pub peer: u32,
    /// Its address.
    pub source: [u8; 4],
}

/// What a packet is.
pub enum Seen {
    /// Not ours to judge.
    Foreign,
    /// An advert or a pulse to us from nobody we know.
    Stranger([u8; 4]),
    /// A peer's advert, well-formed or not.
    Advert(From, Result<Advert, Reject>),
    /// A peer's pulse, authentic or not.
    Pulse(From, Result<Pulse, Reject>),
    /// IPv4 to a virtual address, and what it is of a connection.
    ToVip(Option<Segment>),
    /// ARP that asks for a virtual address, or answers it.
    ArpForVip,
}

/// Looks at a packet; changes nothing.
#[inline(always)]
pub fn seen(ctx: &XdpContext) -> Seen {
    let Some(config) = CONFIG.get(0) else {
        return Seen::Foreign;
    };
    // SAFETY: the kernel keeps `data..data_end` readable while the program runs.
    let mut cursor = unsafe { Cursor::from_raw(ctx.data() as *const u8, ctx.data_end() as *const u8) };
    match ethernet::ether_type(&mut cursor) {
        Some(ethernet::IPV4) => {}
        Some(ethernet::ARP) => return arp(cursor, config),
        _ => return Seen::Foreign,
    }
    let Some(header) = ipv4::parse(&mut cursor) else {
        return Seen::Foreign;
    };
    if u32::from_ne_bytes(header.destination) != u32::from_ne_bytes(config.own_address) {
        let guarded = gate::guards(config, header.destination);
        return if guarded { Seen::ToVip(segment(cursor, &header)) } else { Seen::Foreign };
    }
    match header.protocol {
        ipv4::VRRP if config.accept & accept::ADVERTS != 0 => match sender(header.source) {
            Some(from) => Seen::Advert(from, advert(cursor, &header, config)),
            None => Seen::Stranger(header.source),
        },
        // A later fragment has no ports: whose it is cannot be told, and the stack never completes it to a pulse.
        ipv4::UDP if config.accept & accept::PULSES != 0 && !header.fragment => {
            let Some(ports) = cursor.take::<8>() else {
                return Seen::Foreign;
            };
            if u16::from_be_bytes([ports[2], ports[3]]) != config.pulse_port {
                return Seen::Foreign;
            }
            match sender(header.source) {
                Some(from) => Seen::Pulse(from, pulse(cursor, &header)),
                None => Seen::Stranger(header.source),
            }
        }
        _ => Seen::Foreign,
    }
}

/// What a packet for a virtual address is of a connection; `None`: no TCP, or a part of a segment.
#[inline(always)]
fn segment(mut cursor: Cursor<'_>, header: &ipv4::Header) -> Option<Segment> {
    if header.protocol != ipv4::TCP || header.fragment {
        return None;
    }
    tcp::segment(&mut cursor, header)
}

/// An announcement passes whatever the gate says: it asks nothing, Linux does not answer one for an address that it has
/// itself, and the neighbour table of this host must learn where the address went.
#[inline(always)]
fn arp(mut cursor: Cursor<'_>, config: &Config) -> Seen {
    match arp::addresses(&mut cursor) {
        Some(found) if !found.is_gratuitous() && gate::guards(config, found.target) => Seen::ArpForVip,
        _ => Seen::Foreign,
    }
}

/// The configured peer with this address.
#[inline(always)]
fn sender(source: [u8; 4]) -> Option<From> {
    for peer in 0..PEERS_MAX as u32 {
        let known = PEER_CONFIG.get(peer)?;
        if u32::from_ne_bytes(known.address) == u32::from_ne_bytes(source) {
            return Some(From { peer, source });
        }
    }
    None
}

#[inline(always)]
fn advert(cursor: Cursor<'_>, header: &ipv4::Header, config: &Config) -> Result<Advert, Reject> {
    if header.fragment {
        return Err(Reject::Length);
    }
    if header.ttl < config.min_ttl {
        return Err(Reject::Ttl);
    }
    vrrp::parse(cursor, header.payload, header.source, header.destination)
}

/// A pulse never crosses a router, so its TTL is what it was sent with.
const PULSE_TTL: u8 = 255;

#[inline(always)]
fn pulse(mut cursor: Cursor<'_>, header: &ipv4::Header) -> Result<Pulse, Reject> {
    if header.ttl != PULSE_TTL {
        return Err(Reject::Ttl);
    }
    if header.payload as usize != 8 + pulse::LENGTH {
        return Err(Reject::Length);
    }
    let bytes = cursor.view::<{ pulse::LENGTH }>().ok_or(Reject::Length)?;
    let secrets = SECRETS.get(0).ok_or(Reject::Mac)?;
    pulse::parse_either(bytes, Key(secrets.pulse_key), Key(secrets.other_key))
}
