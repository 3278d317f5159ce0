//! Room on disks, and what a directory takes of it.

use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;

/// Bytes that a process without privileges may still write to the file system of a path.
pub(super) fn free(path: &Path) -> io::Result<u64> {
    let stat = statvfs(path)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

/// What a base backup of so many bytes needs: the copy, a tenth for what is written meanwhile, and the WAL of it.
pub(super) const fn needed(data: u64, segment_size: u64) -> u64 {
    data.saturating_add(data / 10).saturating_add(4 * segment_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_backup_needs_more_than_what_it_copies_and_never_overflows() {
        assert_eq!(needed(1000, 10), 1140);
        assert_eq!(needed(u64::MAX, 1 << 30), u64::MAX);
    }

    #[test]
    fn a_file_system_has_some_room_and_a_path_that_is_not_there_is_an_error() {
        assert!(free(Path::new("/")).is_ok());
        assert!(free(Path::new("/nonexistent/x")).is_err());
    }
}
