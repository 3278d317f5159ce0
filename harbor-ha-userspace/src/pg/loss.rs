//! The loss report: what this node committed after the fork, which the new primary does not have.
//!
//! Whatever becomes of the data directory, the WAL from the fork on is first copied to `STATE_DIR/lost-wal`, and its
//! commits are counted there where they still are. A count is an upper bound of what clients miss: under synchronous
//! replication none of these commits was acknowledged, and PostgreSQL's own (autovacuum, statistics) are among them.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::core::facts::Lsn;
use crate::fault;
use crate::observe::status::SavedWal;

use super::control::ControlFile;
use super::history::Switch;
use super::process::words;
use super::replication::parse_lsn;
use super::settings::sync_dir;
use super::wal::{segment_number, segments};
use super::{Pg, RejoinError};

/// Reading WAL is as fast as the disk; longer than this is a disk that does not answer.
const DUMP_LIMIT: Duration = Duration::from_secs(3600);

/// Commits of this node that the new primary does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossReport {
    /// When it was written, in seconds since 1970.
    pub written: u64,
    /// The cluster.
    pub system_identifier: u64,
    /// The timeline that this node was on.
    pub timeline: u32,
    /// Where the two histories part, as PostgreSQL prints a `pg_lsn`.
    pub fork: String,
    /// Commits after it; also PostgreSQL's own.
    pub commits: u64,
    /// Transactions prepared after it, whose second phase may be anywhere.
    pub prepared: u64,
    /// Time of the first of them, in UTC, as `pg_waldump` prints it.
    pub first_commit: Option<String>,
    /// Time of the last one.
    pub last_commit: Option<String>,
    /// The directory with the WAL from the fork on.
    pub saved: PathBuf,
    /// All of that WAL was there and could be read; otherwise there may be more commits.
    pub complete: bool,
}

impl fmt::Display for LossReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let least = if self.complete { "" } else { "at least " };
        let noun = if self.commits == 1 { "commit" } else { "commits" };
        write!(f, "{least}{} {noun} of this node", self.commits)?;
        if let (Some(first), Some(last)) = (&self.first_commit, &self.last_commit) {
            write!(f, ", from {first} to {last},")?;
        }
        if self.prepared > 0 {
            write!(f, " and {} prepared transactions", self.prepared)?;
        }
        let (fork, timeline, saved) = (&self.fork, self.timeline, self.saved.display());
        write!(f, " after {fork} (timeline {timeline}) are not on the new primary; their WAL is saved in `{saved}`")
    }
}

/// A stretch of one timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    timeline: u32,
    from: Lsn,
    to: Option<Lsn>,
}

#[derive(Default)]
struct Count {
    commits: u64,
    prepared: u64,
    times: Option<(String, String)>,
}

impl Count {
    /// One line of `pg_waldump --rmgr=Transaction`.
    fn line(&mut self, line: &str) {
        let Some((_, what)) = line.split_once("desc: ") else { return };
        let (kind, rest) = what.split_once(' ').unwrap_or((what, ""));
        match kind {
            "COMMIT" | "COMMIT_PREPARED" => {
                self.commits += 1;
                // `COMMIT_PREPARED 733: 2026-…`
                let time = rest.split_once(": ").filter(|(xid, _)| xid.bytes().all(|b| b.is_ascii_digit()));
                let time = time.map_or(rest, |(_, time)| time).split(';').next().unwrap_or_default().trim().to_owned();
                match &mut self.times {
                    Some((_, last)) => *last = time,
                    None => self.times = Some((time.clone(), time)),
                }
            }
            "PREPARE" => self.prepared += 1,
            _ => {}
        }
    }
}

impl Pg {
    /// A directory that is not there yet; the journal remembers it before anything is put there.
    pub(super) fn choose_lost_wal_dir(&self, name: &str) -> PathBuf {
        let mut path = self.lost_wal_path().join(name);
        let mut again = 1;
        while path.exists() {
            again += 1; // an earlier rejoin at this fork was abandoned, and the server wrote on
            path.set_file_name(format!("{name}-{again}"));
        }
        path
    }

    fn lost_wal_path(&self) -> PathBuf {
        self.state_dir().join("lost-wal")
    }

    /// What rejoins have put aside so far: it grows by a few segments each time that histories part, and is an
    /// operator's to remove, who alone knows whether somebody still wants to read it.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn saved_wal(&self) -> io::Result<SavedWal> {
        let path = self.lost_wal_path();
        let mut saved = SavedWal { path: path.clone(), directories: 0, bytes: 0 };
        for directory in entries(&path)? {
            saved.directories += 1;
            for file in entries(&directory?.path())? {
                match file?.metadata() {
                    Ok(seen) => saved.bytes = saved.bytes.saturating_add(seen.len()),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {} // an operator removes it right now
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(saved)
    }

    /// Copies the WAL from the fork on to `saved` and counts what it holds; the server must not run.
    pub(super) async fn count_loss(
        &self,
        local: &ControlFile,
        ours: &[Switch],
        fork: Lsn,
        saved: &Path,
    ) -> Result<LossReport, RejoinError> {
        let timeline = local.newest_timeline();
        let wal = self.in_data_dir("pg_wal");
        let names = segments(&wal).map_err(RejoinError::files(&wal))?;
        let number_of = |lsn: Lsn| lsn.0 / u64::from(local.segment_size.max(1));
        let (mut count, mut complete, mut keep) = (Count::default(), true, Vec::new());
        for stretch in after(ours, timeline, fork) {
            let prefix = format!("{:08X}", stretch.timeline);
            let numbered = names.iter().filter(|name| name.starts_with(&prefix));
            let numbered = numbered.filter_map(|name| Some((segment_number(name, local.segment_size)?, name)));
            let first = number_of(stretch.from);
            let mut here: Vec<_> = numbered.filter(|(number, _)| *number >= first).collect();
            here.sort();
            // A gap would hide commits behind it.
            complete &= here.iter().zip(first..).all(|((number, _), expected)| *number == expected) && !here.is_empty();
            let end = match self.dump(stretch, &mut count).await {
                Ok(end) => end.or(stretch.to),
                Err(error) => {
                    tracing::warn!(%error, "pg_waldump cannot say what is lost; the WAL is saved all the same");
                    complete = false;
                    None
                }
            };
            // Behind the end there are recycled segments, which hold nothing of this stretch; but the last record may
            // reach into the next one.
            let last = end.map_or(u64::MAX, |end| number_of(end).saturating_add(1));
            keep.extend(here.into_iter().filter(|(number, _)| *number <= last).map(|(_, name)| name));
        }
        self.save_lost(&wal, keep, saved).map_err(RejoinError::files(saved))?;
        let (first_commit, last_commit) = count.times.unzip();
        Ok(LossReport {
            written: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            system_identifier: local.system_identifier,
            timeline,
            fork: fork.to_string(),
            commits: count.commits,
            prepared: count.prepared,
            first_commit,
            last_commit,
            saved: saved.to_owned(),
            complete,
        })
    }

    /// Where the last record begins, if `pg_waldump` says so.
    async fn dump(&self, stretch: Stretch, count: &mut Count) -> io::Result<Option<Lsn>> {
        let mut command = self.command(&self.program("pg_waldump"));
        command
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .arg("-p")
            .arg(self.in_data_dir("pg_wal"))
            .arg("-r")
            .arg("Transaction");
        command.arg("-t").arg(stretch.timeline.to_string()).arg("-s").arg(stretch.from.to_string());
        if let Some(to) = stretch.to {
            command.arg("-e").arg(to.to_string());
        }
        let output = self.run_lines(command, DUMP_LIMIT, |line| count.line(line)).await?;
        if output.status.success() {
            return Ok(stretch.to);
        }
        // How every WAL ends that was not told where: with bytes that are no record.
        let text = words(&output);
        if let Some((_, rest)) = text.split_once("error in WAL record at ") {
            return Ok(rest.split(':').next().and_then(parse_lsn));
        }
        if text.contains("could not find a valid record after") {
            return Ok(Some(stretch.from)); // there is none after the fork
        }
        let ended = text.contains("could not find file") || text.contains("could not open file");
        if ended { Ok(None) } else { Err(io::Error::other(text)) }
    }

    /// All of them, or no directory.
    pub(super) fn save_lost<'a>(
        &self,
        wal: &Path,
        names: impl IntoIterator<Item = &'a String>,
        saved: &Path,
    ) -> io::Result<()> {
        if saved.exists() {
            return Ok(()); // before a crash
        }
        let partial = saved.with_extension("partial");
        match fs::remove_dir_all(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::DirBuilder::new().mode(0o700).recursive(true).create(&partial)?, // rows are in there
        }
        for name in names {
            let copy = partial.join(name);
            fs::copy(wal.join(name), &copy)?;
            File::open(&copy)?.sync_all()?;
        }
        sync_dir(&partial)?;
        fault::point("rejoin.loss.copied");
        fs::rename(&partial, saved)?;
        saved.parent().map_or(Ok(()), sync_dir)
    }

    /// One line for each report, for whoever collects them; none twice, also after a crash.
    pub(super) fn append_report(&self, report: &LossReport) -> Result<(), RejoinError> {
        let path = self.loss_reports_path();
        let appended = || {
            let text = match fs::read_to_string(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
                text => text?,
            };
            let same = |line| serde_json::from_str(line).is_ok_and(|old: LossReport| old.saved == report.saved);
            if text.lines().any(same) {
                return Ok(());
            }
            let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
            // A line that a crash cut off stays what it is; ours begins on its own.
            let begin = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            file.write_all(format!("{begin}{}\n", serde_json::to_string(report)?).as_bytes())?;
            file.sync_all()?;
            sync_dir(self.state_dir())
        };
        appended().map_err(RejoinError::files(&path))
    }

    /// Every loss report of this node, one JSON object a line.
    pub fn loss_reports_path(&self) -> PathBuf {
        self.state_dir().join("loss-reports.jsonl")
    }
}

/// What is in a directory; nothing, if there is none.
fn entries(path: &Path) -> io::Result<impl Iterator<Item = io::Result<fs::DirEntry>>> {
    let found = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        found => Some(found?),
    };
    Ok(found.into_iter().flatten())
}

/// Our own way from the fork to the end, timeline by timeline.
fn after(ours: &[Switch], mine: u32, fork: Lsn) -> Vec<Stretch> {
    let mut from = fork;
    let mut stretches = Vec::new();
    for switch in ours.iter().filter(|switch| switch.end > fork) {
        stretches.push(Stretch { timeline: switch.timeline, from, to: Some(switch.end) });
        from = switch.end;
    }
    stretches.push(Stretch { timeline: mine, from, to: None });
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_counted_as_pg_waldump_prints_them() {
        let mut count = Count::default();
        for line in [
            "first record is after 0/3000100, at 0/3000148, skipping over 72 bytes",
            "rmgr: Transaction len (rec/tot):     34/    34, tx:        488, lsn: 0/03000148, prev 0/03000110, \
             desc: COMMIT 2026-11-25 01:02:03.000004 UTC",
            "rmgr: Transaction len (rec/tot):     34/    34, tx:        489, lsn: 0/03000170, prev 0/03000148, \
             desc: ABORT 2026-11-25 01:02:04.000004 UTC",
            "rmgr: Transaction len (rec/tot):    210/   210, tx:        490, lsn: 0/03000190, prev 0/03000170, \
             desc: PREPARE gid x: 2026-11-25 01:02:05.000004 UTC",
            "rmgr: Transaction len (rec/tot):     50/    50, tx:          0, lsn: 0/03000260, prev 0/03000190, \
             desc: COMMIT_PREPARED 490: 2026-11-25 01:02:06.000004 UTC; inval msgs: catcache 54",
        ] {
            count.line(line);
        }
        assert_eq!((count.commits, count.prepared), (2, 1));
        let (first, last) = count.times.unwrap();
        assert_eq!(
            (first.as_str(), last.as_str()),
            ("2026-11-25 01:02:03.000004 UTC", "2026-11-25 01:02:06.000004 UTC")
        );
    }

    #[test]
    fn our_way_from_the_fork_goes_over_every_timeline_that_we_were_on() {
        let switch = |timeline, end| Switch { timeline, end: Lsn(end) };
        let stretch = |timeline, from, to: Option<u64>| Stretch { timeline, from: Lsn(from), to: to.map(Lsn) };
        assert_eq!(after(&[], 1, Lsn(5)), [stretch(1, 5, None)]);
        let ours = [switch(1, 10), switch(2, 20), switch(3, 30)];
        assert_eq!(
            after(&ours, 4, Lsn(10)),
            [stretch(2, 10, Some(20)), stretch(3, 20, Some(30)), stretch(4, 30, None)]
        );
        assert_eq!(after(&ours, 4, Lsn(25)), [stretch(3, 25, Some(30)), stretch(4, 30, None)]);
    }

    #[test]
    fn a_report_is_one_sentence_and_reads_back_from_its_line() {
        let report = LossReport {
            written: 1,
            system_identifier: 2,
            timeline: 1,
            fork: "0/3000148".to_owned(),
            commits: 2,
            prepared: 0,
            first_commit: Some("A".to_owned()),
            last_commit: Some("B".to_owned()),
            saved: "/s".into(),
            complete: true,
        };
        assert_eq!(
            report.to_string(),
            "2 commits of this node, from A to B, after 0/3000148 (timeline 1) are not on the new primary; their WAL is \
             saved in `/s`"
        );
        let line = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<LossReport>(&line).unwrap(), report);
    }
}
