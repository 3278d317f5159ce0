//! Ethernet II, with at most one 802.1Q tag.

use super::cursor::Cursor;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of an 802.1Q tag.
pub const VLAN: u16 = 0x8100;
/// Length of a header without a tag.
pub const HEADER: usize = 14;

/// The EtherType behind at most one VLAN tag; the cursor stands at the payload afterwards.
#[inline(always)]
pub fn ether_type(cursor: &mut Cursor<'_>) -> Option<u16> {
    let _addresses = cursor.take::<12>()?;
    let ether_type = cursor.u16()?;
    if ether_type != VLAN {
        return Some(ether_type);
    }
    let _tag = cursor.u16()?;
    cursor.u16()
}
