//! Timelines that were chosen and never begun: what a promotion leaves that breaks off.
//!
//! PostgreSQL 13 ends a recovery in steps, each of them durable (`StartupXLOG`, `exitArchiveRecovery`): it writes the
//! history file of the new timeline, copies the last segment to it, removes `standby.signal`, and only then writes the
//! first record of the new timeline and notes it in `pg_control`. A crash after the signal went and before that record
//! leaves a directory that would start as a primary **on the timeline of the old one**, which two servers then have
//! written to. And whatever is left of the new timeline is in the way of a standby: PostgreSQL takes the highest history
//! file for its target, and never asks another server for one of a name that it has.
//!
//! So such a directory counts as the standby that it was ([`super::Pg::at_rest`]), and is only ever started as one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::connect::Session;
use super::control::{ControlError, ControlFile};
use super::follow::ASK;
use super::history;
use super::settings::{literal, sync_dir};
use super::wal::segments;
use super::{Pg, RejoinError};

impl Pg {
    /// The server ended in recovery, and there is a history file of a timeline that it never was on: a promotion broke
    /// off, or the primary had just changed its timeline.
    pub(super) fn promotion_broke_off(&self, control: &ControlFile) -> Result<bool, ControlError> {
        if !control.state.is_standby() {
            return Ok(false);
        }
        let wal = self.in_data_dir("pg_wal");
        let newest =
            histories(&wal).map_err(|source| ControlError::Read { path: wal.clone(), source })?.into_iter().max();
        Ok(newest.is_some_and(|timeline| timeline > control.newest_timeline()))
    }

    /// Puts aside what there is of timelines above `mine` that are not the peer's; the server must not run.
    pub(super) async fn set_untaken_aside(&self, peer: &Session, mine: u32) -> Result<(), RejoinError> {
        let wal = self.in_data_dir("pg_wal");
        let found = histories(&wal).map_err(RejoinError::files(&wal))?;
        for timeline in found.into_iter().filter(|timeline| *timeline > mine) {
            let name = history::file_name(timeline);
            let ours = fs::read_to_string(wal.join(&name)).map_err(RejoinError::files(&wal.join(&name)))?;
            let path = literal(&format!("pg_wal/{name}"));
            let sql = format!("SELECT coalesce(pg_read_file({path}, 0, 1048576, true), '')");
            let theirs = peer.ask_one("a timeline's history", &sql, ASK).await?;
            if history::parse(&ours) == history::parse(&theirs) {
                continue; // received from it
            }
            let saved = self.choose_lost_wal_dir(&format!("{timeline:08X}-untaken"));
            self.put_aside(&wal, timeline, &saved).map_err(RejoinError::files(&saved))?;
            tracing::info!(timeline, saved = %saved.display(), "a timeline that this node chose and never began is put aside");
        }
        Ok(())
    }

    fn put_aside(&self, wal: &Path, timeline: u32, saved: &Path) -> io::Result<()> {
        let prefix = format!("{timeline:08X}");
        let mut names: Vec<String> = segments(wal)?.into_iter().filter(|name| name.starts_with(&prefix)).collect();
        // Last, as it is what the others are found by.
        names.push(history::file_name(timeline));
        self.save_lost(wal, names.iter(), saved)?;
        for name in &names {
            fs::remove_file(wal.join(name))?;
        }
        sync_dir(wal)
    }
}

/// The timelines of which there is a history file.
fn histories(wal: &Path) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(wal)? {
        let name: PathBuf = entry?.file_name().into();
        let number = name.to_str().and_then(|name| name.strip_suffix(".history")).filter(|number| number.len() == 8);
        found.extend(number.and_then(|number| u32::from_str_radix(number, 16).ok()));
    }
    Ok(found)
}
