//! Where the sequence of the pulses begins.
//!
//! The peer's kernel takes a pulse only if its sequence is above the last one: that is what makes a replay worthless. So
//! a sender that began below what it sent before, as its clock was set back, would be dead in the peer's eyes until that
//! clock has caught up. The start is therefore kept on disk, and the next one is above it by more than any run sends.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// More pulses than a run of thirty years at one per millisecond; 18 minutes of a clock.
const ROOM: u64 = 1 << 40;

/// The sequence to begin with, above those of every earlier run; durable before it is given out.
///
/// A folder that cannot be written is no reason to send nothing: the clock alone decides then, and the log says so.
pub fn begin(path: &Path, wall_ns: u64) -> u64 {
    let before = fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let first = before.map_or(wall_ns, |before| wall_ns.max(before.saturating_add(ROOM)));
    if before.is_some_and(|before| wall_ns < before) {
        tracing::warn!("the clock was set back since the last start; the pulses go on above their last sequence");
    }
    if let Err(error) = write(path, first) {
        tracing::warn!(path = %path.display(), %error, "the start of the pulses' sequence cannot be kept");
    }
    first
}

fn write(path: &Path, first: u64) -> io::Result<()> {
    let partial = path.with_extension("partial");
    let mut file = File::create(&partial)?;
    file.write_all(format!("{first}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_does_not_set_the_sequence_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pulse-sequence");
        let year = 31_536_000 * 1_000_000_000;
        let first = begin(&path, 50 * year);
        assert_eq!(first, 50 * year);
        let second = begin(&path, 49 * year);
        assert!(second >= first + ROOM, "{second} is not above all that the first run sent");
        assert!(begin(&path, 0) >= second + ROOM);
        assert_eq!(begin(&path, 51 * year), 51 * year, "a clock that is right again is followed");
    }

    #[test]
    fn a_folder_that_is_not_there_leaves_the_clock() {
        assert_eq!(begin(Path::new("/nowhere/pulse-sequence"), 7), 7);
    }
}
