//! A base backup of the peer in the place of the data directory, where `pg_rewind` cannot help.
//!
//! It is made beside the old directory, on the same file system, and takes its place by two renames: old aside, new in.
//! The journal names both before the first one, so that a crash between them is finished by whoever opens the data
//! directory next. The old directory is whole until the new one streams, and only then removed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::fault;

use super::connect::Session;
use super::control::{ControlFile, exists};
use super::follow::ASK;
use super::journal::{self, JOURNAL, Journal, Renewal};
use super::process::words;
use super::renewal::{self, Move, Stage};
use super::settings::{sync_dir, write_owned};
use super::upstream::conninfo_value;
use super::{Pg, RejoinError, space};

/// A terabyte takes some hours; longer than this is a copy that does not move.
const COPY_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// In the name of a base backup that is not in its place yet.
const FRESH: &str = ".harbor-ha-new";
/// In the name of a data directory whose place was taken.
const OLD: &str = ".harbor-ha-old-";

/// What initdb makes, and where logs go: everything else in a data directory is somebody's own.
const KNOWN_DIRS: [&str; 23] = [
    "base",
    "global",
    "log",
    "lost+found",
    "pg_commit_ts",
    "pg_dynshmem",
    "pg_log",
    "pg_logical",
    "pg_multixact",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_tblspc",
    "pg_twophase",
    "pg_wal",
    "pg_xact",
    "pg_clog",
    "pg_xlog",
    "pg_summaries",
];

impl Pg {
    /// Names the directories of a base backup. Nothing is touched.
    pub(super) fn plan_renewal(&self, why: String) -> Renewal {
        let beside = |suffix: &str| {
            let mut name = self.data_dir().file_name().unwrap_or_default().to_owned();
            name.push(suffix);
            self.data_dir().with_file_name(name)
        };
        let mut at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let old = loop {
            let old = beside(&format!("{OLD}{at}"));
            if !exists(&old) {
                break old;
            }
            at += 1;
        };
        let (data_dir, fresh) = (self.data_dir().to_owned(), beside(FRESH));
        Renewal { why, stage: Stage::Copy, data_dir, fresh, old, keep: None }
    }

    /// Whether a base backup can take this directory's place at all, before anything is done for it.
    pub(super) async fn check_place(&self, peer: &Session) -> Result<(), RejoinError> {
        let path = self.data_dir();
        let place = |why: &str| Err(RejoinError::Place { path: path.to_owned(), why: why.to_owned() });
        let Some(parent) = path.parent() else { return place("it has no parent directory") };
        let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).map_err(RejoinError::files(path));
        if device(path)? != device(parent)? {
            return place(
                "it is a mount point, and cannot be renamed: move it one level down, and set postgres.data_dir",
            );
        }
        let wal = self.in_data_dir("pg_wal");
        if fs::symlink_metadata(&wal).is_ok_and(|meta| meta.is_symlink()) {
            return place(
                "its pg_wal is a link to another place, which a base backup would not follow: make it by hand",
            );
        }
        let sql = "SELECT coalesce(string_agg(spcname, ', '), '') FROM pg_tablespace
                   WHERE spcname NOT IN ('pg_default', 'pg_global')";
        let names = peer.ask_one("its tablespaces", sql, ASK).await?;
        if names.is_empty() { Ok(()) } else { Err(RejoinError::Tablespaces { names }) }
    }

    /// The base backup: complete, durable, and a standby's from its first moment in its place.
    pub(super) async fn copy_peer(&self, peer: &Session, plan: &Renewal, segment: u64) -> Result<(), RejoinError> {
        let fresh = &plan.fresh;
        remove_fresh(fresh).map_err(RejoinError::files(fresh))?; // of a try that broke off: it never was in its place
        self.check_room(peer, segment).await?;
        let made = || {
            let meta = fs::metadata(self.data_dir())?;
            fs::DirBuilder::new().mode(meta.mode() & 0o777).create(fresh)?;
            chown(fresh, Some(meta.uid()), Some(meta.gid()))
        };
        made().map_err(RejoinError::files(fresh))?;
        fault::point("basebackup.made");
        let copied = match self.run_pg_basebackup(fresh).await {
            Ok(()) => self.finish_copy(fresh),
            Err(error) => Err(error),
        };
        if copied.is_err()
            && let Err(error) = remove_fresh(fresh)
        {
            tracing::warn!(path = %fresh.display(), %error, "cannot remove a base backup that failed");
        }
        copied?;
        fault::point("basebackup.copied");
        Ok(())
    }

    pub(super) async fn check_room(&self, peer: &Session, segment: u64) -> Result<(), RejoinError> {
        let sql = "SELECT sum(pg_tablespace_size(oid))::bigint FROM pg_tablespace";
        let size = peer.ask_one("its size", sql, 60 * ASK).await?;
        let needed = space::needed(size.parse().unwrap_or(0), segment);
        let parent = self.data_dir().parent().unwrap_or(self.data_dir());
        let free = space::free(parent).map_err(RejoinError::files(parent))?;
        if free < needed {
            let path = parent.to_owned();
            return Err(RejoinError::NoRoom { path, needed: needed.div_ceil(1 << 20), free: free >> 20 });
        }
        Ok(())
    }

    /// Over our own slot, which keeps the WAL from the end of the copy until the standby streams.
    async fn run_pg_basebackup(&self, fresh: &Path) -> Result<(), RejoinError> {
        let settings = self.settings();
        let source = format!(
            "host={} port={} user={} connect_timeout=10 application_name=harbor-ha-basebackup",
            settings.peer,
            settings.port,
            conninfo_value(&settings.replication_user),
        );
        let mut command = self.command(&self.program("pg_basebackup"));
        command.env("LC_ALL", "C").arg("--pgdata").arg(fresh).arg("--dbname").arg(source).arg("--no-password");
        command.args(["--wal-method=stream", "--checkpoint=fast", "--slot", &settings.slot]);
        if let Some(password) = &settings.replication_password {
            command.env("PGPASSWORD", password.reveal());
        }
        match self.run(command, COPY_LIMIT).await {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(RejoinError::BaseBackup { text: words(&output) }),
            Err(error) => Err(RejoinError::BaseBackup { text: error.to_string() }),
        }
    }

    /// Is it a copy of this cluster? And whoever starts it, from the first moment on: a standby.
    fn finish_copy(&self, fresh: &Path) -> Result<(), RejoinError> {
        let control = fresh.join("global/pg_control");
        let bytes = fs::read(&control).map_err(RejoinError::files(&control))?;
        let broken = |text: String| RejoinError::BaseBackup { text };
        ControlFile::parse(&bytes).map_err(|error| broken(format!("it left a pg_control that is none: {error}")))?;
        if !exists(&fresh.join("backup_label")) {
            return Err(broken("it left no backup_label".to_owned()));
        }
        let signal = fresh.join("standby.signal");
        write_owned(&signal, b"", 0o600, self.owner()).map_err(RejoinError::files(&signal))
    }

    /// Links in the top of the old directory are the node's, and no base backup brings them.
    pub(super) fn restore_links(&self, old: &Path) -> Result<(), RejoinError> {
        let links = || -> io::Result<()> {
            for entry in fs::read_dir(old)? {
                let entry = entry?;
                if entry.file_type()?.is_symlink() && entry.file_name() != "pg_wal" {
                    let here = self.data_dir().join(entry.file_name());
                    match fs::remove_file(&here) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                        _ => symlink(fs::read_link(entry.path())?, &here)?,
                    }
                }
            }
            sync_dir(self.data_dir())
        };
        links().map_err(RejoinError::files(old))
    }

    /// Why the old directory has to stay, if it has to.
    pub(super) fn reason_to_keep(&self, journal: &Journal) -> Option<String> {
        if self.settings().keep_old {
            return Some("postgres.keep_old is set".to_owned());
        }
        match &journal.loss {
            Some(loss) if !loss.complete => return Some("its WAL could not be read completely".to_owned()),
            _ => {}
        }
        let own = own_dirs(self.data_dir()).ok()?;
        (!own.is_empty()).then(|| format!("it holds directories that are not PostgreSQL's: {own:?}"))
    }

    /// Removes the old directory, after the new one has streamed; says where it is if it stays.
    pub(super) async fn dispose_of_old(&self, plan: &Renewal) -> Option<PathBuf> {
        let due = renewal::next(plan.stage, plan.places());
        assert_eq!(due, Move::Remove, "no data directory is deleted before its replacement streams");
        let old = plan.old.clone();
        if let Some(why) = &plan.keep {
            tracing::warn!(path = %old.display(), why, "the old data directory is kept; remove it when nobody needs it");
            return Some(old);
        }
        let removed = tokio::task::spawn_blocking({
            let old = old.clone();
            move || remove_named(&old, OLD)
        });
        match removed.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(()) => None,
            Err(error) => {
                tracing::warn!(path = %old.display(), %error, "cannot remove the old data directory");
                Some(old)
            }
        }
    }
}

/// The two renames, from wherever a crash left them.
pub(super) fn swap(plan: &Renewal) -> io::Result<()> {
    let sync = || plan.data_dir.parent().map_or(Ok(()), sync_dir);
    loop {
        match renewal::next(Stage::Swap, plan.places()) {
            Move::Aside => {
                fs::rename(&plan.data_dir, &plan.old)?;
                sync()?;
                fault::point("basebackup.aside");
            }
            Move::In => {
                fs::rename(&plan.fresh, &plan.data_dir)?;
                sync()?;
            }
            Move::Note => {
                // Of a run that was cut short after the rename: durable before the journal says so.
                sync()?;
                fault::point("basebackup.swapped");
                return Ok(());
            }
            Move::Copy | Move::Stream | Move::Remove | Move::Stop => {
                let why = format!(
                    "of the data directory, `{}` and `{}` not those are there that a swap leaves: {:?}",
                    plan.fresh.display(),
                    plan.old.display(),
                    plan.places()
                );
                return Err(io::Error::other(why));
            }
        }
    }
}

/// A crash between the renames left nothing where the data directory should be.
pub(super) fn finish_swap(state_dir: &Path, data_dir: &Path) -> io::Result<()> {
    if fs::metadata(data_dir).is_ok() {
        return Ok(());
    }
    let found = journal::read(state_dir.join(JOURNAL)).map_err(io::Error::other)?;
    let plan = found.and_then(|journal| journal.renewal).filter(|plan| plan.stage == Stage::Swap);
    match plan {
        // A link that leads nowhere now is as good a name as the directory's own.
        Some(plan) if fs::read_link(data_dir).unwrap_or(data_dir.to_owned()) == plan.data_dir => swap(&plan),
        _ => Ok(()),
    }
}

pub(super) fn remove_fresh(fresh: &Path) -> io::Result<()> {
    remove_named(fresh, FRESH)
}

/// Removes a directory, but none that does not bear our mark.
fn remove_named(path: &Path, mark: &str) -> io::Result<()> {
    let marked = path.file_name().is_some_and(|name| name.to_string_lossy().contains(mark));
    assert!(marked, "`{}` is none of ours to remove", path.display());
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => path.parent().map_or(Ok(()), sync_dir),
    }
}

fn own_dirs(data_dir: &Path) -> io::Result<BTreeSet<String>> {
    let mut own = BTreeSet::new();
    for entry in fs::read_dir(data_dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() && !KNOWN_DIRS.contains(&name.as_str()) {
            own.insert(name);
        }
    }
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(dir: &Path) -> Renewal {
        let [data_dir, fresh, old] = ["data", "data.harbor-ha-new", "data.harbor-ha-old-1"].map(|name| dir.join(name));
        Renewal { why: "x".to_owned(), stage: Stage::Swap, data_dir, fresh, old, keep: None }
    }

    fn mark(dir: &Path, text: &str) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("who"), text).unwrap();
    }

    #[test]
    fn a_swap_ends_the_same_from_every_point_at_which_it_may_have_stopped() {
        for done in 0..3 {
            let dir = tempfile::tempdir().unwrap();
            let plan = plan(dir.path());
            mark(&plan.data_dir, "old");
            mark(&plan.fresh, "new");
            if done > 0 {
                fs::rename(&plan.data_dir, &plan.old).unwrap();
            }
            if done > 1 {
                fs::rename(&plan.fresh, &plan.data_dir).unwrap();
            }
            swap(&plan).unwrap();
            assert_eq!(fs::read_to_string(plan.data_dir.join("who")).unwrap(), "new");
            assert_eq!(fs::read_to_string(plan.old.join("who")).unwrap(), "old");
        }
    }

    #[test]
    fn a_swap_that_cannot_begin_leaves_everything() {
        let dir = tempfile::tempdir().unwrap();
        let plan = plan(dir.path());
        mark(&plan.fresh, "new");
        assert!(swap(&plan).is_err());
        assert!(plan.fresh.join("who").exists());
    }

    #[test]
    fn an_open_finishes_a_swap_and_only_a_swap() {
        for (stage, finished) in [(Stage::Copy, false), (Stage::Swap, true), (Stage::Swapped, false)] {
            let dir = tempfile::tempdir().unwrap();
            let plan = Renewal { stage, ..plan(dir.path()) };
            mark(&plan.old, "old");
            mark(&plan.fresh, "new");
            let journal = Journal { renewal: Some(plan.clone()), ..Journal::new(1) };
            fs::write(dir.path().join(JOURNAL), serde_json::to_string(&journal).unwrap()).unwrap();
            finish_swap(dir.path(), &dir.path().join("another")).unwrap();
            assert!(!plan.data_dir.exists());
            finish_swap(dir.path(), &plan.data_dir).unwrap();
            assert_eq!(plan.data_dir.exists(), finished);
        }
    }

    #[test]
    #[should_panic(expected = "none of ours")]
    fn a_directory_without_our_mark_is_never_removed() {
        let _ = remove_named(Path::new("/nonexistent/data"), OLD);
    }

    #[test]
    fn directories_that_are_not_postgresqls_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["base", "log", "conf.d"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("PG_VERSION"), "13").unwrap();
        assert_eq!(own_dirs(dir.path()).unwrap(), BTreeSet::from(["conf.d".to_owned()]));
    }
}
