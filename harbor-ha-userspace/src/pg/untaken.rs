//! Timelines that were chosen and never begun: what a promotion leaves that breaks off.
//!
//! PostgreSQL ends a recovery in steps, each of them durable (`StartupXLOG`, `exitArchiveRecovery`): it copies the last
//! segment to the new timeline, removes `standby.signal`, writes the new timeline's history file, and only then the first
//! record there, which it notes in `pg_control` (13.4; later minor releases write the history file first). A crash after
//! the signal went and before that note leaves a directory that would start as a primary **on the timeline of the old
//! one**, which two servers then have written to. And a history file that is left is in the way of a standby: PostgreSQL
//! takes the highest one for its target, and never asks another server for one of a name that it has.
//!
//! So such a directory counts as the standby that it was ([`super::Pg::at_rest`]), and is only ever started as one. It is
//! known by what there is of a timeline above the one in `pg_control`: in every order the segment or the history is made
//! before the signal goes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::fault;

use super::connect::Session;
use super::control::{ControlError, ControlFile};
use super::follow::ASK;
use super::history;
use super::settings::{literal, sync_dir};
use super::{Pg, RejoinError};

impl Pg {
    /// The server ended in recovery, and there is something of a timeline that it never was on: a promotion broke off,
    /// or the primary had just changed its timeline.
    pub(super) fn promotion_broke_off(&self, control: &ControlFile) -> Result<bool, ControlError> {
        if !control.state.is_standby() {
            return Ok(false);
        }
        let wal = self.in_data_dir("pg_wal");
        let found = timelines(&wal).map_err(|source| ControlError::Read { path: wal, source })?;
        Ok(found.last().is_some_and(|timeline| *timeline > control.newest_timeline()))
    }

    /// Puts aside what there is of timelines above `mine` that are not the peer's; the server must not run.
    ///
    /// A crash in the middle leaves the rest for the next time: what is saved twice is saved.
    pub(super) async fn set_untaken_aside(&self, peer: &Session, mine: u32) -> Result<(), RejoinError> {
        let wal = self.in_data_dir("pg_wal");
        let found = timelines(&wal).map_err(RejoinError::files(&wal))?;
        for timeline in found.into_iter().filter(|timeline| *timeline > mine) {
            let name = history::file_name(timeline);
            let ours = match fs::read_to_string(wal.join(&name)) {
                Ok(text) => history::parse(&text),
                // A standby has a timeline's history before any WAL of it: this is its own.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(RejoinError::files(&wal.join(&name))(error)),
            };
            let path = literal(&format!("pg_wal/{name}"));
            let sql = format!("SELECT coalesce(pg_read_file({path}, 0, 1048576, true), '')");
            let theirs = history::parse(&peer.ask_one("a timeline's history", &sql, ASK).await?);
            if !ours.is_empty() && ours == theirs {
                continue; // received from it
            }
            fault::point("untaken.begin");
            let saved = self.choose_lost_wal_dir(&format!("{timeline:08X}-untaken"));
            self.put_aside(&wal, timeline, &saved).map_err(RejoinError::files(&saved))?;
            let saved = saved.display();
            tracing::info!(timeline, %saved, "a timeline that this node chose and never began is put aside");
        }
        Ok(())
    }

    fn put_aside(&self, wal: &Path, timeline: u32, saved: &Path) -> io::Result<()> {
        let names: Vec<String> = names(wal)?.into_iter().filter(|name| of(name) == Some(timeline)).collect();
        self.save_lost(wal, &names, saved)?;
        fault::point("untaken.saved");
        // The history last: while it is there, this is found again.
        let (histories, segments): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.ends_with(HISTORY));
        for segment in segments {
            fs::remove_file(wal.join(segment))?;
        }
        fault::point("untaken.removed");
        for history in histories {
            fs::remove_file(wal.join(history))?;
        }
        sync_dir(wal)?;
        fault::point("untaken.done");
        Ok(())
    }
}

const HISTORY: &str = ".history";

fn names(wal: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(wal)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
    names.filter_map(io::Result::transpose).collect()
}

/// The timeline of a segment or a history file, by its name.
fn of(name: &str) -> Option<u32> {
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let stem = name.strip_suffix(HISTORY).filter(|stem| stem.len() == 8).or((name.len() == 24).then_some(name))?;
    if hex(stem) { u32::from_str_radix(stem.get(..8)?, 16).ok() } else { None }
}

/// The timelines of which there is a segment or a history file.
fn timelines(wal: &Path) -> io::Result<BTreeSet<u32>> {
    Ok(names(wal)?.iter().filter_map(|name| of(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn segments_and_histories_tell_their_timeline_and_nothing_else_does() {
        assert_eq!(of("0000001A000000010000003F"), Some(26));
        assert_eq!(of("00000002.history"), Some(2));
        for other in ["archive_status", "0000001A000000010000003F.partial", "0000002.history", "xlogtemp.1", "00000002"]
        {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
