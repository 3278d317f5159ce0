//! The WAL that a rewound directory has to replay, kept from `pg_rewind`.
//!
//! A rewound server replays from the last checkpoint before the fork, and asks for that on the *new* timeline, where a
//! stream does not have it. `pg_rewind` makes `pg_wal` a copy of the peer's, whose own checkpoint after its promotion
//! may have removed those segments, slot or no slot. So ours are put by, and put back where they are missing. Only
//! segments that end before the fork: later ones hold our own history. (PostgreSQL 18 keeps them by itself.)

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use crate::core::facts::Lsn;

use super::control::ControlFile;
use super::settings::sync_dir;
use super::{Pg, RejoinError};

impl Pg {
    fn saved_wal_dir(&self) -> PathBuf {
        self.state_dir().join("node-wal")
    }

    /// Puts by every segment that ends before the fork and may be needed. Copies, as PostgreSQL recycles a segment by
    /// renaming it, which a link would follow; before crash recovery, whose checkpoint does just that.
    pub(super) fn save_wal(&self, local: &ControlFile, fork: Lsn) -> Result<(), RejoinError> {
        let number_of = |lsn: Lsn| lsn.0 / u64::from(local.segment_size.max(1));
        // The last common checkpoint is this one, unless there was another after the fork.
        let first = if local.checkpoint < fork { number_of(local.redo) } else { 0 };
        let needed = first..number_of(fork);
        let saved = self.saved_wal_dir();
        fs::create_dir_all(&saved).map_err(RejoinError::files(&saved))?;
        let wal = self.in_data_dir("pg_wal");
        for name in segments(&wal).map_err(RejoinError::files(&wal))? {
            if segment_number(&name, local.segment_size).is_some_and(|number| needed.contains(&number)) {
                self.put(&wal.join(&name), &saved.join(&name)).map_err(RejoinError::files(&saved))?;
            }
        }
        sync_dir(&saved).map_err(RejoinError::files(&saved))
    }

    /// Puts back what is missing.
    pub(super) fn restore_wal(&self) -> Result<(), RejoinError> {
        let saved = self.saved_wal_dir();
        let wal = self.in_data_dir("pg_wal");
        let names = match segments(&saved) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            names => names.map_err(RejoinError::files(&saved))?,
        };
        for name in names {
            self.put(&saved.join(&name), &wal.join(&name)).map_err(RejoinError::files(&wal))?;
        }
        sync_dir(&wal).map_err(RejoinError::files(&wal))
    }

    pub(super) fn forget_wal(&self) {
        let saved = self.saved_wal_dir();
        match fs::remove_dir_all(&saved) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %saved.display(), %error, "cannot remove the WAL that was put by");
            }
            _ => {}
        }
    }

    /// A complete and durable copy; nothing when it is there.
    fn put(&self, from: &Path, to: &Path) -> io::Result<()> {
        if to.exists() {
            return Ok(());
        }
        let partial = to.with_extension("harbor-ha.tmp");
        fs::copy(from, &partial)?;
        let owner = self.owner();
        chown(&partial, Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))?;
        File::open(&partial)?.sync_all()?;
        fs::rename(&partial, to)
    }
}

pub(super) fn segments(dir: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(dir)?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let hex = |name: &String| name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    Ok(names.filter(hex).collect())
}

/// The number that a segment's name means: timeline, then the number in two parts.
pub(super) fn segment_number(name: &str, segment_size: u32) -> Option<u64> {
    let part = |from: usize| u32::from_str_radix(name.get(from..from + 8)?, 16).ok().map(u64::from);
    let per_part = 0x1_0000_0000_u64.checked_div(u64::from(segment_size))?;
    Some(part(8)? * per_part + part(16)?)
}

/// The part of a segment's name that says its number, whatever the timeline.
pub(super) fn segment_name(lsn: Lsn, segment_size: u32) -> String {
    let size = u64::from(segment_size.max(1));
    let (number, per_part) = (lsn.0 / size, 0x1_0000_0000 / size);
    format!("{:08X}{:08X}", number / per_part, number % per_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segments_name_says_its_number() {
        assert_eq!(segment_number("000000010000000000000003", 16 << 20), Some(3));
        assert_eq!(segment_number("000000020000000100000003", 16 << 20), Some(259));
        assert_eq!(segment_number("000000020000000100000003", 1 << 20), Some(4099));
        assert_eq!(segment_number("0000000200000001", 16 << 20), None);
        assert_eq!(segment_name(Lsn(0x1_0300_0148), 16 << 20), "0000000100000003");
        assert_eq!(segment_name(Lsn(0x300_0148), 1 << 20), "0000000000000030");
    }
}
