//! The rejoin journal: one small file outside the data directory.
//!
//! As long as it is there, this node's server must not be started by anything but the rejoin: in the middle of one the
//! directory may lack `standby.signal` (single-user recovery refuses it) or hold half of another server's files.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::control::exists;
use super::loss::LossReport;
use super::renewal::{Places, Stage};
use super::settings::{sync_dir, write_durably};
use super::{Pg, RejoinStep};

/// Its name in the state directory.
pub(super) const JOURNAL: &str = "rejoin.json";

/// What has to survive a crash of the daemon or the host.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Journal {
    /// The cluster, so that a journal of another data directory is noticed.
    pub(super) system_identifier: u64,
    /// The last step that was begun.
    pub(super) step: RejoinStep,
    /// The node's own files are complete in the state directory: never save them again, they may be the peer's by now.
    pub(super) files_saved: bool,
    /// `pg_rewind` may have changed the directory.
    pub(super) rewind_begun: bool,
    /// Where the WAL from the fork on is put; chosen before anything is copied there.
    #[serde(default)]
    pub(super) lost_wal: Option<PathBuf>,
    /// What that holds, once it is complete and reported.
    #[serde(default)]
    pub(super) loss: Option<LossReport>,
    /// Nothing less than a base backup helps.
    #[serde(default)]
    pub(super) renewal: Option<Renewal>,
}

impl Journal {
    pub(super) fn new(system_identifier: u64) -> Self {
        let step = RejoinStep::Begin;
        let (files_saved, rewind_begun) = (false, false);
        Self { system_identifier, step, files_saved, rewind_begun, lost_wal: None, loss: None, renewal: None }
    }
}

/// A base backup that takes the place of the data directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Renewal {
    /// Why nothing less helps.
    pub(super) why: String,
    /// How far it is.
    pub(super) stage: Stage,
    /// The place.
    pub(super) data_dir: PathBuf,
    /// Where the base backup is made.
    pub(super) fresh: PathBuf,
    /// Where the old directory goes.
    pub(super) old: PathBuf,
    /// Why the old directory is not removed once the new one streams.
    pub(super) keep: Option<String>,
}

impl Renewal {
    pub(super) fn places(&self) -> Places {
        Places { data: exists(&self.data_dir), fresh: exists(&self.fresh), old: exists(&self.old) }
    }
}

impl Pg {
    pub(super) fn journal_path(&self) -> PathBuf {
        self.state_dir().join(JOURNAL)
    }

    /// A rejoin was begun and not finished: never start this server as a primary.
    pub fn rejoin_pending(&self) -> bool {
        exists(&self.journal_path())
    }

    pub(super) fn read_journal(&self) -> Result<Option<Journal>, JournalError> {
        read(self.journal_path())
    }

    pub(super) fn write_journal(&self, journal: &Journal) -> Result<(), JournalError> {
        let path = self.journal_path();
        let written = || {
            fs::create_dir_all(self.state_dir())?;
            write_durably(&path, serde_json::to_string_pretty(journal)?.as_bytes())
        };
        written().map_err(|source| JournalError::Io { path: path.clone(), source })
    }

    pub(super) fn remove_journal(&self) -> Result<(), JournalError> {
        let path = self.journal_path();
        let removed = || match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sync_dir(self.state_dir()),
        };
        removed().map_err(|source| JournalError::Io { path: path.clone(), source })
    }
}

/// The journal of a state directory, for whoever has no [`Pg`] yet.
pub(super) fn read(path: PathBuf) -> Result<Option<Journal>, JournalError> {
    match fs::read(&path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(journal) => Ok(Some(journal)),
            Err(source) => Err(JournalError::Unreadable { path, source }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(JournalError::Io { path, source }),
    }
}

/// The journal cannot be kept, so nothing may be done that it would have to remember.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Reading or writing failed.
    #[error("rejoin journal `{path}`: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A rejoin was cut short before it started this server.
    #[error(
        "rejoin journal `{path}`: a rejoin was cut short at {step:?}, and did not start this server: stop it, and \
         harbor-ha goes on with the rejoin once the peer serves"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// How far it was.
        step: RejoinStep,
    },
    /// There, and not understood. For the operator: it may be of another version.
    #[error("rejoin journal `{path}` makes no sense: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
}
