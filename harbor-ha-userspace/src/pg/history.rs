//! Timeline history files: where one timeline left another.
//!
//! Two servers with the same timeline number have the same history only if they left the previous timeline at the same
//! position; `pg_rewind` compares numbers first, so this is compared before it is asked.

use crate::core::facts::Lsn;

use super::replication::parse_lsn;

/// One line of a history file: `timeline` ended at `end`, where the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Switch {
    pub(super) timeline: u32,
    pub(super) end: Lsn,
}

/// Name of a timeline's history file inside `pg_wal`.
pub(super) fn file_name(timeline: u32) -> String {
    format!("{timeline:08X}.history")
}

/// Reads a history file; lines that are no switch are comments, as for PostgreSQL.
pub(super) fn parse(text: &str) -> Vec<Switch> {
    let switch = |line: &str| {
        let mut words = line.split_whitespace();
        Some(Switch { timeline: words.next()?.parse().ok()?, end: words.next().and_then(parse_lsn)? })
    };
    text.lines().filter_map(switch).collect()
}

/// Where a timeline ended, in the eyes of the server whose history this is.
pub(super) fn end_of(history: &[Switch], timeline: u32) -> Option<Lsn> {
    history.iter().find(|switch| switch.timeline == timeline).map(|switch| switch.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_read_as_postgresql_writes_it() {
        let text = "1\t0/3000148\tno recovery target specified\n\n# by hand\n2\t1/A0\tno recovery target specified\n";
        let history = parse(text);
        assert_eq!(end_of(&history, 1), Some(Lsn(0x300_0148)));
        assert_eq!(end_of(&history, 2), Some(Lsn(0x1_0000_00a0)));
        assert_eq!(end_of(&history, 3), None);
        assert_eq!(file_name(26), "0000001A.history");
    }
}
