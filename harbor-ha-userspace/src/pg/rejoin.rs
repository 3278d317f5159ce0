//! How a former primary, or a standby that lost its way, follows the peer again.
//!
//! The caller has decided that the peer is the primary, and ended every process of this server. From the first step on
//! a journal outside the data directory forbids every other start; each step may be repeated after a crash, and the
//! whole is simply called again. Nothing that only this node has is given up before it is put by (`loss`), and where
//! `pg_rewind` cannot help a base backup does (`basebackup`), beside the old directory.

mod error;
mod run;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::fault;

use super::connect::Session;
use super::control::exists;
use super::follow::ASK;
use super::history::{self, Switch};
use super::journal::{Journal, JournalError};
use super::loss::LossReport;
use super::settings::literal;
use super::{Pg, StopMode};

pub use error::RejoinError;
use run::Run;

/// By which means a rejoin may make a standby.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RejoinBy {
    /// The least that helps: following, `pg_rewind`, or a base backup.
    #[default]
    Anything,
    /// As [`RejoinBy::Anything`], but no base backup: its need is an error, and leaves the directory as it is.
    Rewind,
    /// A base backup, whatever else would help.
    BaseBackup,
}

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
    /// A base backup, beside the data directory.
    BaseBackup,
    /// The base backup takes the data directory's place.
    Swap,
    /// Own files back, `standby.signal`, `primary_conninfo`.
    Configure,
    /// The server starts, as a standby.
    Start,
    /// It catches up.
    Stream,
    /// It streams on the peer's timeline, and the journal is gone.
    Done,
}

impl RejoinStep {
    /// Where a test can end the process: the step is in the journal, and nothing of it is done.
    const fn point(self) -> &'static str {
        match self {
            Self::Begin => "rejoin.begin",
            Self::Compare => "rejoin.compare",
            Self::Recover => "rejoin.recover",
            Self::Slot => "rejoin.slot",
            Self::Checkpoint => "rejoin.checkpoint",
            Self::Save => "rejoin.save",
            Self::Rewind => "rejoin.rewind",
            Self::BaseBackup => "basebackup.begin",
            Self::Swap => "basebackup.swap",
            Self::Configure => "rejoin.configure",
            Self::Start => "rejoin.start",
            Self::Stream => "rejoin.stream",
            Self::Done => "rejoin.done",
        }
    }
}

/// What a rejoin did.
#[derive(Clone, Debug)]
pub struct Rejoined {
    /// `pg_rewind` ran, and its result streams.
    pub rewound: bool,
    /// A base backup took the directory's place, and why nothing less would do.
    pub base_backup: Option<String>,
    /// What this node had committed and the new primary does not have; `None` when the histories fitted, or when a fork
    /// could not be found (then the old directory is kept).
    pub loss: Option<LossReport>,
    /// Where the old data directory is, if it was kept.
    pub kept: Option<PathBuf>,
    /// The timeline that is followed.
    pub timeline: u32,
    /// In all.
    pub took: Duration,
}

impl Pg {
    /// Makes this node a standby of the peer: the server must not run, and every process of it be gone.
    ///
    /// # Errors
    /// See [`RejoinError`]. The journal stays, so that only another call ends it.
    pub async fn rejoin(&self, by: RejoinBy, progress: impl FnMut(RejoinStep)) -> Result<Rejoined, RejoinError> {
        let begun = Instant::now();
        let mut run = Run { pg: self, journal: self.take_up_journal()?, progress };
        let (timeline, kept) = run.go(by).await?;
        self.remove_journal()?;
        self.forget_node_files();
        self.forget_wal();
        // A slot that this node kept as a primary would hold back WAL for ever, as nobody reads it now.
        self.settle_slot_apart();
        fault::point(RejoinStep::Done.point());
        (run.progress)(RejoinStep::Done);
        let (rewound, base_backup) = (run.journal.rewind_begun, run.journal.renewal.map(|renewal| renewal.why));
        Ok(Rejoined { rewound, base_backup, loss: run.journal.loss, kept, timeline, took: begun.elapsed() })
    }

    /// Makes this standby anew by a base backup, for an operator. It is stopped first, if the peer and the disk allow
    /// the rest; the old data directory stays until the new one streams.
    ///
    /// # Errors
    /// See [`RejoinError`]; a primary is refused. Before the stop, everything is left as it was.
    pub async fn reinit(&self, progress: impl FnMut(RejoinStep)) -> Result<Rejoined, RejoinError> {
        let running = self.running().is_some();
        if running && !self.facts(ASK).await?.in_recovery {
            return Err(RejoinError::IsPrimary);
        }
        let control = self.control()?;
        let peer = self.connect_peer(ASK).await?;
        self.check_peer(&peer, control.system_identifier).await?;
        self.primary_conninfo()?;
        self.check_place(&peer).await?;
        self.check_room(&peer, control.segment_size.into()).await?;
        drop(peer);
        if running {
            let stopped = self.stop(StopMode::Fast).await;
            tracing::info!(?stopped, "the standby stopped, to be made anew");
        }
        self.rejoin(RejoinBy::BaseBackup, progress).await
    }

    /// A standby that is about to be promoted: the rejoin that started it will not get to its last word any more, and
    /// its journal would forbid every later start as a primary. A directory that it put aside stays.
    pub(super) fn close_rejoin(&self) -> Result<(), JournalError> {
        let Some(journal) = self.read_journal()? else { return Ok(()) };
        if journal.step < RejoinStep::Start {
            // Somebody else started this server: what is in its directory, nobody knows.
            return Err(JournalError::Open { path: self.journal_path(), step: journal.step });
        }
        if let Some(plan) = journal.renewal.filter(|plan| exists(&plan.old)) {
            let path = plan.old.display();
            tracing::warn!(%path, "the old data directory is kept, as the new one is promoted before it streamed");
        }
        self.remove_journal()?;
        self.forget_node_files();
        self.forget_wal();
        Ok(())
    }

    fn take_up_journal(&self) -> Result<Journal, RejoinError> {
        let found = self.read_journal()?;
        let system_identifier = match self.control() {
            Ok(control) => control.system_identifier,
            // Half a `pg_rewind` leaves any file in any state; whose directory it was, the journal knows.
            Err(error) => match found {
                Some(mut journal) if journal.rewind_begun || journal.renewal.is_some() => {
                    journal.renewal.get_or_insert_with(|| self.plan_renewal(error.to_string()));
                    return Ok(journal);
                }
                _ => return Err(error.into()),
            },
        };
        Ok(found.filter(|journal| journal.system_identifier == system_identifier).unwrap_or_else(|| {
            self.forget_wal(); // of a rejoin that ended
            Journal::new(system_identifier)
        }))
    }

    async fn histories(
        &self,
        peer: &Session,
        mine: u32,
        timeline: u32,
    ) -> Result<(Vec<Switch>, Vec<Switch>), RejoinError> {
        let name = format!("pg_wal/{}", history::file_name(timeline));
        let sql = format!("SELECT coalesce(pg_read_file({}, 0, 1048576, true), '')", literal(&name));
        let theirs = history::parse(&peer.ask_one("its timeline's history", &sql, ASK).await?);
        let path = self.in_data_dir("pg_wal").join(history::file_name(mine));
        let ours = match std::fs::read_to_string(&path) {
            Ok(text) => history::parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(RejoinError::files(&path)(error)),
        };
        // Of timeline 1 there is none; every other one left another, and says where.
        for (timeline, history, place) in [(timeline, &theirs, "on the peer"), (mine, &ours, "here")] {
            if timeline > 1 && history.is_empty() {
                return Err(RejoinError::NoHistory { timeline, place });
            }
        }
        Ok((ours, theirs))
    }
}
