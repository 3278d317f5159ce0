//! The connections of the virtual addresses, as the node that serves tells its peer: UDP, big endian, 1200 bytes at most.
//!
//! ```text
//!  0 magic "HHAF"      4 version   5 vrid   6 entries (16)
//!  8 cluster id (64)                       16 term (64)
//! 24 sequence of the table (64)            32 part (16)   34 parts (16)   36 zero (32)
//! 40 entries of 16 bytes: client (32), virtual address (32), client's port (16), service's port (16), age in s (32)
//!  … SipHash-2-4 over all before
//! ```
//!
//! A table that does not fit is sent in parts, all under one sequence. It grows with each table, so that an older one
//! counts no more; who sends is told by the MAC and by the address.

use super::siphash::{Key, State};
use crate::decide::filter::Reject;
use crate::records::FlowKey;

/// "HHAF".
pub const MAGIC: u32 = 0x4848_4146;
/// Of this layout.
pub const VERSION: u8 = 1;
/// Entries of one datagram.
pub const ENTRIES: usize = 72;
/// The largest datagram: fits the path of any network, with headers.
pub const LENGTH_MAX: usize = HEAD + ENTRIES * ENTRY + MAC;

const HEAD: usize = 40;
const ENTRY: usize = 16;
const MAC: usize = 8;
const _: () = assert!(LENGTH_MAX == 1200);

/// What a datagram says besides its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Virtual router id.
    pub vrid: u8,
    /// Tells clusters apart.
    pub cluster_id: u64,
    /// The term in which the sender serves.
    pub term: u64,
    /// Grows with each table, also over restarts.
    pub sequence: u64,
    /// Which part of the table, from 0.
    pub part: u16,
    /// How many there are.
    pub parts: u16,
}

/// A connection, and for how many seconds its client has been silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub key: FlowKey,
    /// Seconds since its client's last segment.
    pub age_s: u32,
}

/// Writes a datagram with its MAC; says how long it is.
///
/// # Panics
///
/// More than [`ENTRIES`].
pub fn emit(head: &Head, entries: &[Entry], key: Key, bytes: &mut [u8; LENGTH_MAX]) -> usize {
    assert!(entries.len() <= ENTRIES, "{} entries in one datagram", entries.len());
    bytes[0..4].copy_from_slice(&MAGIC.to_be_bytes());
    (bytes[4], bytes[5]) = (VERSION, head.vrid);
    bytes[6..8].copy_from_slice(&(entries.len() as u16).to_be_bytes());
    bytes[8..16].copy_from_slice(&head.cluster_id.to_be_bytes());
    bytes[16..24].copy_from_slice(&head.term.to_be_bytes());
    bytes[24..32].copy_from_slice(&head.sequence.to_be_bytes());
    bytes[32..34].copy_from_slice(&head.part.to_be_bytes());
    bytes[34..36].copy_from_slice(&head.parts.to_be_bytes());
    bytes[36..40].copy_from_slice(&[0; 4]);
    for (Entry { key, age_s }, place) in entries.iter().zip(bytes[HEAD..].chunks_exact_mut(ENTRY)) {
        place[0..4].copy_from_slice(&key.client);
        place[4..8].copy_from_slice(&key.vip);
        place[8..10].copy_from_slice(&key.client_port.to_be_bytes());
        place[10..12].copy_from_slice(&key.vip_port.to_be_bytes());
        place[12..16].copy_from_slice(&age_s.to_be_bytes());
    }
    let covered = HEAD + entries.len() * ENTRY;
    let mac = mac(&bytes[..covered], key).to_be_bytes();
    bytes[covered..covered + MAC].copy_from_slice(&mac);
    covered + MAC
}

/// Reads a datagram and checks its MAC; the entries are read as they are asked for.
///
/// # Errors
///
/// [`Reject::Length`], [`Reject::Magic`], [`Reject::Version`] or [`Reject::Mac`].
pub fn parse(bytes: &[u8], key: Key) -> Result<(Head, impl Iterator<Item = Entry>), Reject> {
    if bytes.len() < HEAD + MAC {
        return Err(Reject::Length);
    }
    if u32::from_be_bytes(array(bytes, 0)) != MAGIC {
        return Err(Reject::Magic);
    }
    if bytes[4] != VERSION {
        return Err(Reject::Version);
    }
    let count = u16::from_be_bytes(array(bytes, 6)) as usize;
    let covered = HEAD + count * ENTRY;
    if count > ENTRIES || bytes.len() != covered + MAC {
        return Err(Reject::Length);
    }
    if mac(&bytes[..covered], key) != u64::from_be_bytes(array(bytes, covered)) {
        return Err(Reject::Mac);
    }
    let head = Head {
        vrid: bytes[5],
        cluster_id: u64::from_be_bytes(array(bytes, 8)),
        term: u64::from_be_bytes(array(bytes, 16)),
        sequence: u64::from_be_bytes(array(bytes, 24)),
        part: u16::from_be_bytes(array(bytes, 32)),
        parts: u16::from_be_bytes(array(bytes, 34)),
    };
    let entries = bytes[HEAD..covered].chunks_exact(ENTRY).map(|entry| Entry {
        key: FlowKey {
            client: array(entry, 0),
            vip: array(entry, 4),
            client_port: u16::from_be_bytes(array(entry, 8)),
            vip_port: u16::from_be_bytes(array(entry, 10)),
        },
        age_s: u32::from_be_bytes(array(entry, 12)),
    });
    Ok((head, entries))
}

/// `N` bytes from `at` on, which the caller knows to be there.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    core::array::from_fn(|offset| bytes[at + offset])
}

/// Head and entries are whole words.
fn mac(bytes: &[u8], key: Key) -> u64 {
    let words = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(array(word, 0)));
    words.fold(State::new(key), State::word).finish(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key([1, 2]);

    fn entry(number: u32) -> Entry {
        let key = FlowKey {
            client: number.to_be_bytes(),
            vip: [10, 77, 0, 100],
            client_port: 40_000 + number as u16,
            vip_port: 5432,
        };
        Entry { key, age_s: number * 1000 }
    }

    fn head() -> Head {
        Head { vrid: 51, cluster_id: 7, term: 3, sequence: 0x0102_0304_0506_0708, part: 1, parts: 3 }
    }

    fn datagram(entries: &[Entry]) -> Vec<u8> {
        let mut bytes = [0xee; LENGTH_MAX];
        let length = emit(&head(), entries, KEY, &mut bytes);
        bytes[..length].to_vec()
    }

    #[test]
    fn what_is_written_is_read_back() {
        for count in [0, 1, ENTRIES as u32] {
            let entries: Vec<Entry> = (0..count).map(entry).collect();
            let bytes = datagram(&entries);
            let (read, them) = parse(&bytes, KEY).unwrap();
            assert_eq!((read, them.collect::<Vec<_>>()), (head(), entries));
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let bytes = datagram(&[entry(9)]);
        assert_eq!(bytes.len(), 64);
        assert_eq!((&bytes[0..4], bytes[5], &bytes[6..8]), (&b"HHAF"[..], 51, &[0, 1][..]));
        assert_eq!(bytes[24..36], [1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 0, 3]);
        assert_eq!(bytes[40..56], [0, 0, 0, 9, 10, 77, 0, 100, 0x9c, 0x49, 0x15, 0x38, 0, 0, 0x23, 0x28]);
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let good = datagram(&[entry(1), entry(2)]);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&bad, KEY).is_err(), "bit {bit} changed and nobody noticed");
        }
        assert_eq!(parse(&good, Key([1, 3])).err(), Some(Reject::Mac));
    }

    #[test]
    fn what_is_shorter_or_longer_than_it_says_is_refused() {
        let good = datagram(&[entry(1)]);
        for length in 0..good.len() {
            assert!(parse(&good[..length], KEY).is_err(), "{length} bytes");
        }
        assert_eq!(parse(&[&good[..], &[0]].concat(), KEY).err(), Some(Reject::Length));
    }
}
