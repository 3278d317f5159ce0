//! How a former primary, or a standby that lost its way, follows the peer again.
//!
//! The caller has decided that the peer is the primary, and ended every process of this server. From the first step on
//! a journal outside the data directory forbids every other start; each step may be repeated after a crash, and the
//! whole is simply called again. Nothing is deleted but what `pg_rewind` deletes; where it cannot help, the error says
//! that a base backup is needed and leaves the directory as it is.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::compare::{Need, need};
use super::connect::{Session, SqlError};
use super::control::{ControlFile, State};
use super::follow::ASK;
use super::history;
use super::journal::Journal;
use super::replication::ensure_slot_on;
use super::settings::literal;
use super::{ControlError, JournalError, Pg, SettingError, StartError, StopMode};

/// The peer's checkpoint: as much as its shared buffers hold has to reach its disk.
const CHECKPOINT_LIMIT: Duration = Duration::from_secs(600);
/// Where a rejoin is. In this order; some are left out when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RejoinStep {
    /// The journal is written; nobody else may be in the data directory.
    Begin,
    /// The peer is asked who it is, and the two histories are compared.
    Compare,
    /// Crash recovery, so that the directory is clean.
    Recover,
    /// Our slot on the peer.
    Slot,
    /// The peer writes a checkpoint, so that its control file knows its timeline.
    Checkpoint,
    /// The node's own files are copied out of the way.
    Save,
    /// `pg_rewind`. The one step that cannot be taken back.
    Rewind,
    /// Own files back, `standby.signal`, `primary_conninfo`.
    Configure,
    /// The server starts, as a standby.
    Start,
    /// It catches up.
    Stream,
    /// It streams on the peer's timeline, and the journal is gone.
    Done,
}

/// What a rejoin did.
#[derive(Clone, Copy, Debug)]
pub struct Rejoined {
    /// `pg_rewind` ran; otherwise the histories fitted already.
    pub rewound: bool,
    /// The timeline that is followed.
    pub timeline: u32,
    /// In all.
    pub took: Duration,
}

impl Pg {
    /// Makes this node a standby of the peer: the server must not run, and every process of it be gone.
    ///
    /// # Errors
    /// See [`RejoinError`]. The journal stays, so that only another call (or [`Pg::abandon_rejoin`]) ends it.
    pub async fn rejoin(&self, mut progress: impl FnMut(RejoinStep)) -> Result<Rejoined, RejoinError> {
        let begun = Instant::now();
        let system_identifier = self.control()?.system_identifier;
        let fresh = Journal { system_identifier, step: RejoinStep::Begin, files_saved: false, rewind_begun: false };
        let found = self.read_journal()?.filter(|journal| journal.system_identifier == system_identifier);
        if found.is_none() {
            self.forget_wal(); // of a rejoin that ended
        }
        let mut journal = found.unwrap_or(fresh);
        let mut enter = |journal: &mut Journal, step| {
            tracing::info!(?step, "rejoin");
            progress(step);
            journal.step = step;
            self.write_journal(journal)
        };

        // The daemon died while the standby that it had started caught up.
        let resumed = journal.step >= RejoinStep::Start && self.running().is_some();
        enter(&mut journal, if resumed { RejoinStep::Stream } else { RejoinStep::Begin })?;
        let pids = self.holders();
        if !resumed && !pids.is_empty() {
            return Err(RejoinError::Busy { data_dir: self.data_dir().to_owned(), pids });
        }

        if !resumed {
            enter(&mut journal, RejoinStep::Compare)?;
        }
        let peer = self.connect_peer(ASK).await?;
        let timeline = self.check_peer(&peer, system_identifier).await?;
        if !resumed {
            let local = self.control()?;
            let fork = match self.compare(&peer, &local, timeline).await? {
                Need::Follow => None,
                Need::Rewind { fork } if local.can_be_rewound() => Some(fork),
                Need::Rewind { .. } => return Err(RejoinError::NotRewindable),
            };
            if let Some(fork) = fork {
                if !journal.rewind_begun {
                    self.save_wal(&local, fork)?;
                }
                if !local.state.is_clean() {
                    enter(&mut journal, RejoinStep::Recover)?;
                    self.recover_alone().await?;
                }
            }
            enter(&mut journal, RejoinStep::Slot)?;
            ensure_slot_on(&peer, &self.settings().slot, Instant::now() + ASK).await?;
            if fork.is_some() {
                // After the slot: a checkpoint without it removes WAL from before the fork, which the rewound
                // directory has to replay.
                enter(&mut journal, RejoinStep::Checkpoint)?;
                checkpoint_peer(&peer, timeline).await?;
                self.rewind(&mut journal, &mut enter, timeline).await?;
            }
            enter(&mut journal, RejoinStep::Configure)?;
            if journal.rewind_begun {
                self.restore_wal()?;
            }
            self.configure(journal.files_saved)?;
            enter(&mut journal, RejoinStep::Start)?;
            self.start_as_it_is().await?;
            enter(&mut journal, RejoinStep::Stream)?;
        }
        drop(peer);

        if let Err(error) = self.wait_for_stream(timeline).await {
            // A server that runs would be in the way of the next try.
            let stopped = self.stop(StopMode::Fast).await;
            tracing::warn!(?stopped, "the standby did not stream, and was stopped");
            return Err(error);
        }
        // A slot that this node kept as a primary would hold back WAL for ever, as nobody reads it now.
        if let Err(error) = self.drop_slot(&self.settings().slot, ASK).await {
            tracing::warn!(%error, "cannot drop this node's own slot");
        }
        self.remove_journal()?;
        self.forget_node_files();
        self.forget_wal();
        progress(RejoinStep::Done);
        Ok(Rejoined { rewound: journal.rewind_begun, timeline, took: begun.elapsed() })
    }

    /// Forgets a rejoin that has not changed the data directory beyond crash recovery, for an operator (or a core) that
    /// learnt that the peer is not the primary after all. The directory is left as a standby's.
    ///
    /// # Errors
    /// `pg_rewind` has begun: the directory may be half the peer's.
    pub fn abandon_rejoin(&self) -> Result<(), RejoinError> {
        if self.read_journal()?.is_some_and(|journal| journal.rewind_begun) {
            return Err(RejoinError::TooLate);
        }
        self.write_standby_signal()?;
        self.remove_journal()?;
        self.forget_node_files();
        self.forget_wal();
        Ok(())
    }

    async fn compare(&self, peer: &Session, local: &ControlFile, timeline: u32) -> Result<Need, RejoinError> {
        let name = format!("pg_wal/{}", history::file_name(timeline));
        let sql = format!("SELECT coalesce(pg_read_file({}, 0, 1048576, true), '')", literal(&name));
        let theirs = history::parse(&peer.ask_one("its timeline's history", &sql, ASK).await?);
        let mine = local.newest_timeline();
        let path = self.in_data_dir("pg_wal").join(history::file_name(mine));
        let ours = match std::fs::read_to_string(&path) {
            Ok(text) => history::parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(), // of timeline 1 there is none
            Err(error) => return Err(RejoinError::files(&path)(error)),
        };
        need(local, &ours, timeline, &theirs)
    }

    async fn rewind(
        &self,
        journal: &mut Journal,
        enter: &mut impl FnMut(&mut Journal, RejoinStep) -> Result<(), JournalError>,
        timeline: u32,
    ) -> Result<(), RejoinError> {
        if !journal.files_saved {
            enter(journal, RejoinStep::Save)?;
            self.save_node_files()?;
            journal.files_saved = true;
        }
        let again = journal.rewind_begun;
        self.restore_wal()?; // of an earlier try
        journal.rewind_begun = true;
        enter(journal, RejoinStep::Rewind)?;
        if let Err(text) = self.run_pg_rewind().await {
            return Err(if again { RejoinError::BaseBackupNeeded { text } } else { RejoinError::Rewind { text } });
        }
        // "No rewind required" cannot be true here: `compare` found records of our own after the fork.
        let after = self.control()?;
        if after.state != State::InArchiveRecovery || after.newest_timeline() < timeline {
            let text = format!("it succeeded, and left {after:?} instead of timeline {timeline}");
            return Err(RejoinError::Rewind { text });
        }
        Ok(())
    }
}

/// Until the peer's control file is on the timeline that it writes: `pg_rewind` reads only that.
async fn checkpoint_peer(peer: &Session, timeline: u32) -> Result<(), RejoinError> {
    let what = "the timeline of its control file";
    let sql = "SELECT timeline_id FROM pg_control_checkpoint()";
    if peer.ask_one(what, sql, ASK).await? == timeline.to_string() {
        return Ok(());
    }
    peer.ask("a checkpoint", "CHECKPOINT", CHECKPOINT_LIMIT).await?;
    let found = peer.ask_one(what, sql, ASK).await?;
    if found == timeline.to_string() { Ok(()) } else { Err(RejoinError::PeerChanged { expected: timeline, found }) }
}

/// Why this node is not a standby yet.
#[derive(Debug, thiserror::Error)]
pub enum RejoinError {
    /// Somebody is in the data directory. Try again when they are gone.
    #[error("`{data_dir}` is in use by {pids:?}")]
    Busy {
        /// The data directory.
        data_dir: PathBuf,
        /// Who.
        pids: Vec<i32>,
    },
    /// The journal cannot be kept.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// `pg_control` cannot be read.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The peer, or our own server, does not answer as it should. Worth another try.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The settings of a running standby could not be changed.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The standby did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Two clusters that were never one. For the operator.
    #[error("the peer's system identifier is {peers} and ours is {ours}: not the same cluster")]
    DifferentCluster {
        /// Of our `pg_control`.
        ours: u64,
        /// Of the peer's server.
        peers: u64,
    },
    /// There is nobody to follow.
    #[error("PostgreSQL at `{peer}` is in recovery: not a primary that can be followed")]
    PeerNotPrimary {
        /// Address and port.
        peer: String,
    },
    /// It was promoted again while we looked. Try again.
    #[error("the peer was on timeline {expected} and its control file now says {found}")]
    PeerChanged {
        /// Before.
        expected: u32,
        /// After its checkpoint.
        found: String,
    },
    /// Both were primaries on timelines of the same number, which `pg_rewind` takes for one and the same. Needs a base
    /// backup.
    #[error("both nodes are on timeline {timeline} and their histories differ ({why}): a base backup is needed")]
    Diverged {
        /// The number.
        timeline: u32,
        /// How they differ.
        why: String,
    },
    /// Needs a base backup, and a setting for the next time.
    #[error(
        "neither wal_log_hints nor data checksums were on when this server last ran: pg_rewind cannot help, a base backup is needed"
    )]
    NotRewindable,
    /// Crash recovery failed.
    #[error("crash recovery in single-user mode failed: {text}")]
    Recovery {
        /// PostgreSQL's words.
        text: String,
    },
    /// `pg_rewind` failed. Another try may succeed if it was the connection.
    #[error("pg_rewind failed: {text}")]
    Rewind {
        /// Its words.
        text: String,
    },
    /// `pg_rewind` failed on a directory that an earlier one may have left half done.
    #[error("pg_rewind failed again, on a directory that it had begun to change: a base backup is needed: {text}")]
    BaseBackupNeeded {
        /// Its words.
        text: String,
    },
    /// A program could not be run, or did not end.
    #[error("`{program}`: {source}")]
    Program {
        /// The program.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A file could not be read or written.
    #[error("`{path}`: {source}")]
    Files {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Started, and does not follow; stopped again.
    #[error("the standby does not stream on timeline {timeline}: {log}")]
    NoStream {
        /// The peer's.
        timeline: u32,
        /// The last words of its log.
        log: String,
    },
    /// `follow` was called on a primary, or on a directory that was one.
    #[error("the local server is, or was, a primary: it cannot follow without a rejoin")]
    NotStandby,
    /// `abandon_rejoin` came after `pg_rewind`.
    #[error("pg_rewind has begun to change the data directory: the rejoin must be finished")]
    TooLate,
}

impl RejoinError {
    /// Whether only a base backup helps.
    pub const fn needs_base_backup(&self) -> bool {
        matches!(self, Self::Diverged { .. } | Self::NotRewindable | Self::BaseBackupNeeded { .. })
    }

    pub(super) fn files(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Files { path, source }
    }

    pub(super) fn program(program: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Program { program, source }
    }
}
