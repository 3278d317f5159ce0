//! The table of connections as it goes over the network: cut into parts, and put together again.

use std::collections::BTreeSet;

use harbor_ha_ebpf::records::FlowKey;
use harbor_ha_ebpf::units::Nanos;
use harbor_ha_ebpf::wire::flows::{ENTRIES, Entry, Head};

/// The parts in which a table is sent; an empty one is a part too.
pub(super) fn parts(entries: &[Entry]) -> (u16, impl Iterator<Item = (u16, &[Entry])>) {
    let count = entries.len().div_ceil(ENTRIES).max(1) as u16;
    let part = |part: u16| {
        let first = usize::from(part) * ENTRIES;
        (part, &entries[first..entries.len().min(first + ENTRIES)])
    };
    (count, (0..count).map(part))
}

/// What the peer told.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    /// Of the last table that came whole.
    sequence: u64,
    flows: BTreeSet<FlowKey>,
    heard: Option<Nanos>,
    /// The one that is coming.
    coming: Coming,
}

#[derive(Debug, Default)]
struct Coming {
    sequence: u64,
    parts: u16,
    missing: BTreeSet<u16>,
    flows: BTreeSet<FlowKey>,
}

impl Learnt {
    /// A part of a table; whether that one is whole now. Parts of an older table count no more, so a replay is worthless.
    pub fn hear(&mut self, head: &Head, entries: impl Iterator<Item = Entry>, now: Nanos) -> bool {
        if head.sequence <= self.sequence || head.sequence < self.coming.sequence || head.part >= head.parts {
            return false;
        }
        if head.sequence > self.coming.sequence {
            let missing = (0..head.parts).collect();
            self.coming = Coming { sequence: head.sequence, parts: head.parts, missing, flows: BTreeSet::new() };
        }
        let coming = &mut self.coming;
        if head.parts != coming.parts || !coming.missing.remove(&head.part) {
            return false;
        }
        coming.flows.extend(entries.map(|entry| entry.key));
        if !coming.missing.is_empty() {
            return false;
        }
        self.sequence = coming.sequence;
        self.flows = std::mem::take(&mut coming.flows);
        self.heard = Some(now);
        true
    }

    /// Everything that is known: a table that came in part adds to the one before.
    pub fn flows(&self) -> impl Iterator<Item = FlowKey> {
        self.flows.union(&self.coming.flows).copied()
    }

    /// When the last whole table came.
    pub const fn heard(&self) -> Option<Nanos> {
        self.heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(count: u16) -> Vec<Entry> {
        let key = |client_port| FlowKey { client: [10, 77, 0, 3], vip: [10, 77, 0, 100], client_port, vip_port: 5432 };
        (0..count).map(|port| Entry { key: key(port), age_s: 0 }).collect()
    }

    /// Hears these parts of a table; whether it was whole after each.
    fn hear(learnt: &mut Learnt, sequence: u64, entries: &[Entry], wanted: &[u16]) -> Vec<bool> {
        let (count, list) = parts(entries);
        let list: Vec<_> = list.collect();
        let part = |&part: &u16| {
            let head = Head { sequence, part, parts: count, ..Head::default() };
            learnt.hear(&head, list[usize::from(part)].1.iter().copied(), Nanos(sequence))
        };
        wanted.iter().map(part).collect()
    }

    #[test]
    fn a_table_is_cut_into_parts_and_is_whole_again_in_any_order() {
        let entries = table(ENTRIES as u16 * 2 + 1);
        let mut learnt = Learnt::default();
        assert_eq!(hear(&mut learnt, 5, &entries, &[2, 0, 2, 1]), [false, false, false, true]);
        assert_eq!(learnt.flows().count(), entries.len());
        assert_eq!(learnt.heard(), Some(Nanos(5)));
        for (count, expected) in [(0, 1), (ENTRIES, 1), (ENTRIES + 1, 2)] {
            assert_eq!(parts(&table(count as u16)).0, expected, "{count}");
        }
    }

    #[test]
    fn an_older_table_and_a_repeated_one_count_no_more() {
        let mut learnt = Learnt::default();
        assert_eq!(hear(&mut learnt, 5, &table(3), &[0]), [true]);
        assert_eq!(hear(&mut learnt, 5, &table(2), &[0]), [false]);
        assert_eq!(hear(&mut learnt, 4, &table(2), &[0]), [false]);
        assert_eq!(learnt.flows().count(), 3);
        assert_eq!(hear(&mut learnt, 6, &table(0), &[0]), [true]);
        assert_eq!(learnt.flows().count(), 0);
    }

    #[test]
    fn what_came_of_a_table_in_part_is_known_beside_the_one_before() {
        let entries = table(ENTRIES as u16 + 10);
        let mut learnt = Learnt::default();
        hear(&mut learnt, 5, &entries[..10], &[0]);
        assert_eq!(hear(&mut learnt, 6, &entries, &[1]), [false]);
        assert_eq!(learnt.flows().count(), 20);
        let lies = Head { sequence: 7, part: 3, parts: 3, ..Head::default() };
        assert!(!learnt.hear(&lies, entries.iter().copied(), Nanos(7)));
        assert_eq!(learnt.flows().count(), 20);
    }
}
