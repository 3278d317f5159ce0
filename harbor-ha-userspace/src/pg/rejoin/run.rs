//! The steps of a rejoin, in their order; each is in the journal before it begins, and may be repeated.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::core::facts::Lsn;
use crate::fault;
use crate::pg::basebackup::swap;
use crate::pg::compare::{Need, need};
use crate::pg::connect::Session;
use crate::pg::control::{ControlFile, State, exists};
use crate::pg::follow::ASK;
use crate::pg::history::Switch;
use crate::pg::journal::Journal;
use crate::pg::renewal::Stage;
use crate::pg::slots::{ensure_slot_on, renew_slot_on};
use crate::pg::{Pg, StopMode};

use super::{RejoinBy, RejoinError, RejoinStep};

/// The peer's checkpoint: as much as its shared buffers hold has to reach its disk.
const CHECKPOINT_LIMIT: Duration = Duration::from_secs(600);

/// A rejoin at work.
pub(super) struct Run<'a, P> {
    pub(super) pg: &'a Pg,
    pub(super) journal: Journal,
    pub(super) progress: P,
}

impl<P: FnMut(RejoinStep)> Run<'_, P> {
    /// The timeline that is followed, and where the old data directory is if it was kept.
    pub(super) async fn go(&mut self, by: RejoinBy) -> Result<(u32, Option<PathBuf>), RejoinError> {
        let asked = by == RejoinBy::BaseBackup && self.journal.renewal.is_none();
        // The daemon died while the standby that it had started caught up.
        let resumed = !asked && self.journal.step >= RejoinStep::Start && self.pg.running().is_some();
        self.enter(if resumed { RejoinStep::Stream } else { RejoinStep::Begin })?;
        if !resumed {
            self.nobody_is_there()?;
        }
        if asked {
            self.journal.renewal = Some(self.pg.plan_renewal("it was asked for".to_owned()));
        }
        if self.journal.renewal.is_none() {
            match self.mend(resumed).await {
                Err(error) if by != RejoinBy::Rewind && error.needs_base_backup() => {
                    tracing::warn!(%error, "this node is made anew by a base backup");
                    self.journal.renewal = Some(self.pg.plan_renewal(error.to_string()));
                }
                done => return done.map(|timeline| (timeline, None)),
            }
        }
        self.renew(resumed).await
    }

    /// With what is there: following, or `pg_rewind` first.
    async fn mend(&mut self, resumed: bool) -> Result<u32, RejoinError> {
        if !resumed {
            self.enter(RejoinStep::Compare)?;
        }
        let pg = self.pg;
        let peer = pg.connect_peer(ASK).await?;
        let timeline = pg.check_peer(&peer, self.journal.system_identifier).await?;
        if !resumed {
            let local = pg.control()?;
            let fork = match self.compare(&peer, &local, timeline).await? {
                Need::Follow => None,
                Need::Rewind { fork } if local.can_be_rewound() => Some(fork),
                Need::Rewind { .. } => return Err(RejoinError::NotRewindable),
            };
            if let Some(fork) = fork {
                if !self.journal.rewind_begun {
                    pg.save_wal(&local, fork)?;
                    fault::point("rejoin.wal.saved");
                }
                if !local.state.is_clean() {
                    self.enter(RejoinStep::Recover)?;
                    pg.recover_alone().await?;
                    fault::point("rejoin.recover.done");
                }
            }
            self.enter(RejoinStep::Slot)?;
            ensure_slot_on(&peer, &pg.settings().slot, Instant::now() + ASK).await?;
            if fork.is_some() {
                // After the slot: a checkpoint without it removes WAL from before the fork, which the rewound
                // directory has to replay.
                self.enter(RejoinStep::Checkpoint)?;
                checkpoint_peer(&peer, timeline).await?;
                self.rewind(&peer, timeline).await?;
            }
            self.enter(RejoinStep::Configure)?;
            if self.journal.rewind_begun {
                pg.restore_wal()?;
                fault::point("rejoin.wal.restored");
            } else {
                pg.set_untaken_aside(&peer, local.newest_timeline()).await?;
            }
            pg.configure(self.journal.files_saved)?;
            self.start().await?;
        }
        drop(peer);
        self.stream(timeline).await?;
        Ok(timeline)
    }

    /// With a base backup.
    async fn renew(&mut self, resumed: bool) -> Result<(u32, Option<PathBuf>), RejoinError> {
        let pg = self.pg;
        if self.stage() == Some(Stage::Copy) {
            self.copy().await?;
        }
        if self.stage() == Some(Stage::Swap) {
            self.nobody_is_there()?;
            if let Some(plan) = &self.journal.renewal {
                swap(plan).map_err(RejoinError::files(&plan.data_dir))?;
            }
            // What may have been half rewound is aside now.
            self.journal.rewind_begun = false;
            self.reach(Stage::Swapped)?;
        }
        let peer = pg.connect_peer(ASK).await?;
        let timeline = pg.check_peer(&peer, self.journal.system_identifier).await?;
        drop(peer);
        if !(resumed && pg.running().is_some()) {
            self.enter(RejoinStep::Configure)?;
            pg.configure(self.journal.files_saved)?;
            if let Some(plan) = self.journal.renewal.as_ref().filter(|plan| exists(&plan.old)) {
                pg.restore_links(&plan.old)?;
            }
            self.start().await?;
        }
        self.stream(timeline).await?;
        self.reach(Stage::Streamed)?;
        let kept = match &self.journal.renewal {
            Some(plan) => pg.dispose_of_old(plan).await,
            None => None,
        };
        fault::point("basebackup.removed");
        Ok((timeline, kept))
    }

    /// The base backup, beside the data directory, which stays as it is.
    async fn copy(&mut self) -> Result<(), RejoinError> {
        let pg = self.pg;
        self.enter(RejoinStep::Compare)?;
        let peer = pg.connect_peer(ASK).await?;
        let timeline = pg.check_peer(&peer, self.journal.system_identifier).await?;
        pg.primary_conninfo()?;
        pg.check_place(&peer).await?;
        let unaccounted = self.journal.loss.is_none() && self.cannot_account(&peer, timeline).await?;
        if !self.journal.files_saved {
            self.save().await?;
        }
        self.enter(RejoinStep::Slot)?;
        renew_slot_on(&peer, &pg.settings().slot, ASK).await?;
        self.enter(RejoinStep::BaseBackup)?;
        let keep = pg.reason_to_keep(&self.journal);
        let unaccounted = unaccounted.then(|| "where its history leaves the new primary's is not known".to_owned());
        if let Some(plan) = &mut self.journal.renewal {
            plan.keep = keep.or(unaccounted);
            let segment = pg.control().map_or(16 << 20, |control| control.segment_size.into());
            pg.copy_peer(&peer, plan, segment).await?;
            plan.stage = Stage::Swap;
        }
        self.enter(RejoinStep::Swap)
    }

    /// Whether there may be commits in the old directory that no report counts.
    async fn cannot_account(&mut self, peer: &Session, timeline: u32) -> Result<bool, RejoinError> {
        if self.journal.rewind_begun {
            return Ok(true);
        }
        let Ok(local) = self.pg.control() else { return Ok(true) };
        match self.compare(peer, &local, timeline).await {
            Ok(_) => Ok(false),
            Err(error) if error.needs_base_backup() => Ok(self.journal.loss.is_none()),
            Err(error) => Err(error),
        }
    }

    /// What the directory needs, and the loss report if it has a history of its own.
    async fn compare(&mut self, peer: &Session, local: &ControlFile, timeline: u32) -> Result<Need, RejoinError> {
        let (ours, theirs) = self.pg.histories(peer, local.newest_timeline(), timeline).await?;
        let need = need(local, &ours, timeline, &theirs);
        let fork = match &need {
            Ok(Need::Rewind { fork }) => Some(*fork),
            Err(RejoinError::Diverged { fork, .. }) => *fork,
            _ => None,
        };
        if let Some(fork) = fork
            && self.journal.loss.is_none()
            && !self.journal.rewind_begun
        {
            self.account(local, &ours, fork).await?;
        }
        need
    }

    /// Before anything changes the WAL: crash recovery recycles it, `pg_rewind` replaces it.
    async fn account(&mut self, local: &ControlFile, ours: &[Switch], fork: Lsn) -> Result<(), RejoinError> {
        let pg = self.pg;
        let saved = match &self.journal.lost_wal {
            Some(saved) => saved.clone(),
            None => pg.choose_lost_wal_dir(&format!("{:08X}-{:016X}", local.newest_timeline(), fork.0)),
        };
        self.journal.lost_wal = Some(saved.clone());
        self.note()?;
        let report = pg.count_loss(local, ours, fork, &saved).await?;
        fault::point("rejoin.loss.saved");
        pg.append_report(&report)?;
        if report.commits > 0 || !report.complete {
            tracing::warn!("{report}");
        } else {
            tracing::info!("{report}");
        }
        self.journal.loss = Some(report);
        self.note()?;
        fault::point("rejoin.loss.reported");
        Ok(())
    }

    async fn save(&mut self) -> Result<(), RejoinError> {
        self.enter(RejoinStep::Save)?;
        self.pg.save_node_files()?;
        self.journal.files_saved = true;
        self.note()?;
        fault::point("rejoin.save.done");
        Ok(())
    }

    async fn rewind(&mut self, peer: &Session, timeline: u32) -> Result<(), RejoinError> {
        if !self.journal.files_saved {
            self.save().await?;
        }
        self.pg.restore_wal()?; // of an earlier try
        self.journal.rewind_begun = true;
        self.enter(RejoinStep::Rewind)?;
        if let Err(text) = self.pg.run_pg_rewind().await {
            // A peer that is gone is no reason to copy everything from it once it is back.
            return Err(match self.pg.check_peer(peer, self.journal.system_identifier).await {
                Ok(_) => RejoinError::BaseBackupNeeded { text },
                Err(_) => RejoinError::Rewind { text },
            });
        }
        // "No rewind required" cannot be true here: `compare` found records of our own after the fork.
        let after = self.pg.control()?;
        if after.state != State::InArchiveRecovery || after.newest_timeline() < timeline {
            let text = format!("it succeeded, and left {after:?} instead of timeline {timeline}");
            return Err(RejoinError::BaseBackupNeeded { text });
        }
        fault::point("rejoin.rewind.done");
        Ok(())
    }

    async fn start(&mut self) -> Result<(), RejoinError> {
        self.enter(RejoinStep::Start)?;
        self.pg.start_as_it_is().await?;
        self.enter(RejoinStep::Stream)
    }

    async fn stream(&mut self, timeline: u32) -> Result<(), RejoinError> {
        if let Err(error) = self.pg.wait_for_stream(timeline).await {
            // A server that runs would be in the way of the next try.
            let stopped = self.pg.stop(StopMode::Fast).await;
            tracing::warn!(?stopped, "the standby did not stream, and was stopped");
            return Err(error);
        }
        fault::point("rejoin.stream.done");
        Ok(())
    }

    fn nobody_is_there(&self) -> Result<(), RejoinError> {
        let pids = self.pg.holders();
        let data_dir = self.pg.data_dir().to_owned();
        if pids.is_empty() { Ok(()) } else { Err(RejoinError::Busy { data_dir, pids }) }
    }

    fn stage(&self) -> Option<Stage> {
        self.journal.renewal.as_ref().map(|plan| plan.stage)
    }

    fn reach(&mut self, stage: Stage) -> Result<(), RejoinError> {
        if let Some(plan) = &mut self.journal.renewal {
            plan.stage = stage;
        }
        self.note()
    }

    fn enter(&mut self, step: RejoinStep) -> Result<(), RejoinError> {
        tracing::info!(?step, "rejoin");
        (self.progress)(step);
        self.journal.step = step;
        self.note()?;
        fault::point(step.point());
        Ok(())
    }

    fn note(&self) -> Result<(), RejoinError> {
        Ok(self.pg.write_journal(&self.journal)?)
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
