//! A data directory at rest: `global/pg_control` and the files that decide how a server would start.
//!
//! Read without a fork, so that it also works on a host that is too busy to start `pg_controldata`.
//! Layout: `src/include/catalog/pg_control.h` on 64-bit little-endian machines, version 1300 (PostgreSQL 13 to 17)
//! and 1800 (PostgreSQL 18, where one byte before the nonce moves the CRC).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::core::facts::{AtRest, Lsn};

use super::Pg;

/// A running server writes the file in one go, but a reader may still see half of it: read again, this often.
const READS: u32 = 4;
/// Between two reads.
const READ_AGAIN: Duration = Duration::from_millis(3);

/// `pg_control`'s word for what the cluster was doing (`DBState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Just made by initdb, or in the middle of its first start.
    StartingUp,
    /// A primary that was shut down cleanly.
    ShutDown,
    /// A standby that was shut down cleanly.
    ShutDownInRecovery,
    /// In the middle of a shutdown, or it died there.
    ShuttingDown,
    /// In crash recovery, or it died there.
    InCrashRecovery,
    /// A standby at work, or killed; also what `pg_rewind` leaves.
    InArchiveRecovery,
    /// A primary at work, or killed.
    InProduction,
}

impl State {
    const fn from_u32(code: u32) -> Option<Self> {
        Some(match code {
            0 => Self::StartingUp,
            1 => Self::ShutDown,
            2 => Self::ShutDownInRecovery,
            3 => Self::ShuttingDown,
            4 => Self::InCrashRecovery,
            5 => Self::InArchiveRecovery,
            6 => Self::InProduction,
            _ => return None,
        })
    }

    /// Nothing has to be recovered from the WAL.
    pub const fn is_clean(self) -> bool {
        matches!(self, Self::ShutDown | Self::ShutDownInRecovery)
    }

    /// It only ever replayed another server's WAL since it last started.
    pub const fn is_standby(self) -> bool {
        matches!(self, Self::ShutDownInRecovery | Self::InArchiveRecovery)
    }
}

/// What is used of `pg_control`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlFile {
    /// The same on both nodes, forever.
    pub system_identifier: u64,
    /// `pg_control_version`.
    pub version: u32,
    /// What the cluster was doing.
    pub state: State,
    /// Of the last checkpoint record.
    pub checkpoint: Lsn,
    /// Where recovery would begin.
    pub redo: Lsn,
    /// Of the last checkpoint.
    pub timeline: u32,
    /// Before it, when the checkpoint ended a recovery.
    pub previous_timeline: u32,
    /// A standby must replay up to here before it is consistent; zero on a primary.
    pub min_recovery: Lsn,
    /// Of `min_recovery`; zero on a primary.
    pub min_recovery_timeline: u32,
    /// `wal_log_hints` as the server last ran with it; `pg_rewind` needs it, or checksums.
    pub wal_log_hints: bool,
    /// Bytes in a WAL segment: a power of two, 1 MiB to 1 GiB.
    pub segment_size: u32,
    /// Version of the page checksums; zero: none.
    pub checksum_version: u32,
}

impl ControlFile {
    /// Reads the record; never panics, whatever the bytes.
    ///
    /// # Errors
    /// Too short, an unknown version, a wrong CRC, or an unknown state.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadControl> {
        let u32_at = |at: usize| -> Result<u32, BadControl> {
            let field = bytes.get(at..at + 4).and_then(|field| field.try_into().ok());
            field.map(u32::from_le_bytes).ok_or(BadControl::Short { length: bytes.len() })
        };
        let u64_at =
            |at: usize| -> Result<u64, BadControl> { Ok(u64::from(u32_at(at)?) | u64::from(u32_at(at + 4)?) << 32) };
        let version = u32_at(8)?;
        let crc_at = match version {
            1300 => 288,
            1800 => 292,
            version => return Err(BadControl::Version { version }),
        };
        let stored = u32_at(crc_at)?;
        let computed = crc32c(&bytes[..crc_at]);
        if stored != computed {
            return Err(BadControl::Crc { stored, computed });
        }
        let code = u32_at(16)?;
        Ok(Self {
            system_identifier: u64_at(0)?,
            version,
            state: State::from_u32(code).ok_or(BadControl::State { code })?,
            checkpoint: Lsn(u64_at(32)?),
            redo: Lsn(u64_at(40)?),
            timeline: u32_at(48)?,
            previous_timeline: u32_at(52)?,
            min_recovery: Lsn(u64_at(136)?),
            min_recovery_timeline: u32_at(144)?,
            wal_log_hints: u32_at(176)? & 0xff != 0, // a C bool: one byte
            segment_size: u32_at(228)?,
            checksum_version: u32_at(252)?,
        })
    }

    /// The newest timeline that the data directory is known to be on. A promotion ends without a checkpoint, so until the
    /// first one a former primary's own timeline stands beside `min_recovery` alone.
    pub fn newest_timeline(&self) -> u32 {
        self.timeline.max(self.min_recovery_timeline)
    }

    /// `pg_rewind` can find the pages that changed.
    pub const fn can_be_rewound(&self) -> bool {
        self.wal_log_hints || self.checksum_version != 0
    }
}

impl Pg {
    /// Reads `global/pg_control`; right for a server at rest, and a moment old for one that runs.
    ///
    /// # Errors
    /// The file cannot be read or is not what it should be.
    pub fn control(&self) -> Result<ControlFile, ControlError> {
        let path = self.in_data_dir("global/pg_control");
        let mut tries = 0;
        loop {
            tries += 1;
            let bytes = fs::read(&path).map_err(|source| ControlError::Read { path: path.clone(), source })?;
            match ControlFile::parse(&bytes) {
                Ok(control) => return Ok(control),
                Err(BadControl::Crc { .. }) if tries < READS => thread::sleep(READ_AGAIN),
                Err(why) => return Err(ControlError::Bad { path, why }),
            }
        }
    }

    /// What a start of this data directory would find.
    ///
    /// # Errors
    /// As [`Pg::control`].
    pub fn at_rest(&self) -> Result<AtRest, ControlError> {
        let control = self.control()?;
        let promotion_broke_off = self.promotion_broke_off(&control)?;
        Ok(AtRest {
            standby_signal: self.standby_signal() || promotion_broke_off,
            promotion_broke_off,
            clean: control.state.is_clean(),
            system_identifier: control.system_identifier,
            timeline: control.newest_timeline(),
            rejoin_pending: self.rejoin_pending(),
        })
    }

    pub(super) fn standby_signal(&self) -> bool {
        exists(&self.in_data_dir("standby.signal"))
    }
}

/// An unreadable path counts as one that is there: the careful answer for files that forbid something.
pub(super) fn exists(path: &Path) -> bool {
    !matches!(fs::symlink_metadata(path), Err(e) if e.kind() == io::ErrorKind::NotFound)
}

/// CRC-32C (Castagnoli), bit by bit: 300 bytes are not worth a table.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// What is wrong with the bytes of a `pg_control`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadControl {
    /// Cut off.
    #[error("only {length} bytes long")]
    Short {
        /// What there is.
        length: usize,
    },
    /// A layout that is not known here, or another byte order.
    #[error("version {version} is not known; 1300 and 1800 are")]
    Version {
        /// What it says.
        version: u32,
    },
    /// Damaged.
    #[error("its CRC is {stored:08x} and should be {computed:08x}")]
    Crc {
        /// In the file.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// A state that PostgreSQL does not have.
    #[error("state {code} is not known")]
    State {
        /// What it says.
        code: u32,
    },
}

/// Why `pg_control` says nothing.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Not readable.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Readable, and wrong. Trying again does not help.
    #[error("`{path}`: {why}")]
    Bad {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: BadControl,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a cluster that initdb 13.4 had just made, with checksums; `pg_controldata` said what is expected here.
    const FRESH: &[u8] = include_bytes!("testdata/pg_control.13");

    #[test]
    fn a_real_control_file_says_what_pg_controldata_says() {
        let control = ControlFile::parse(FRESH).unwrap();
        let expected = ControlFile {
            system_identifier: 7_711_860_407_608_143_992,
            version: 1300,
            state: State::ShutDown,
            checkpoint: Lsn(0x179_d778),
            redo: Lsn(0x179_d778),
            timeline: 1,
            previous_timeline: 1,
            min_recovery: Lsn(0),
            min_recovery_timeline: 0,
            wal_log_hints: false,
            segment_size: 16 << 20,
            checksum_version: 1,
        };
        assert_eq!(control, expected);
        assert!(control.can_be_rewound());
    }

    #[test]
    fn a_changed_byte_is_noticed_wherever_it_is() {
        for at in 0..FRESH.len() {
            let mut bytes = FRESH.to_vec();
            bytes[at] ^= 1;
            // Behind the CRC there is padding, which nobody reads.
            assert_eq!(ControlFile::parse(&bytes).is_err(), at < 292, "byte {at}");
        }
    }

    #[test]
    fn a_short_file_is_an_error_at_every_length() {
        for length in 0..292 {
            assert!(ControlFile::parse(&FRESH[..length]).is_err(), "{length} bytes");
        }
        assert!(ControlFile::parse(&FRESH[..292]).is_ok());
    }

    #[test]
    fn the_crc_is_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283); // the check value of every catalogue of CRCs
    }
}
