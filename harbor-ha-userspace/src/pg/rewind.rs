//! The parts of a rejoin that touch the files of the data directory: crash recovery, the node's own files, `pg_rewind`.
//!
//! `pg_rewind` would do the crash recovery itself, but without fsync, and without syncing when it then finds nothing to
//! rewind. It also replaces the node's configuration by the peer's; hence the copies.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::process::words;
use super::settings::{shell_word, sync_dir, write_owned};
use super::upstream::conninfo_value;
use super::{Pg, RejoinError};

/// Crash recovery and rewinding take as long as the disk needs; longer than this is a disk that does not answer.
const PROGRAM_LIMIT: Duration = Duration::from_secs(3600);
/// A larger file in the top of a data directory is no configuration.
const FILE_MAX: u64 = 4 << 20;

/// Files in the top of a data directory that belong to the cluster or the moment, not to the node.
const NOT_OURS: [&str; 13] = [
    "PG_VERSION",
    "backup_label",
    "backup_label.old",
    "backup_manifest",
    "current_logfiles",
    "fallback_promote",
    "postmaster.opts",
    "postmaster.pid",
    "promote",
    "recovery.signal",
    "standby.signal",
    "tablespace_map",
    "tablespace_map.old",
];

impl Pg {
    /// Crash recovery in single-user mode, with fsync, ending in a clean shutdown.
    ///
    /// It refuses `standby.signal`, so for this moment the directory would start as a primary: the journal forbids it.
    pub(super) async fn recover_alone(&self) -> Result<(), RejoinError> {
        let lock = self.in_data_dir("postmaster.pid");
        self.clear_locks_of_the_dead().map_err(RejoinError::files(&lock))?;
        for name in ["standby.signal", "recovery.signal"] {
            let path = self.in_data_dir(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(RejoinError::files(&path)(error)),
                _ => {}
            }
        }
        // By the shell, as pg_ctl does it, so that `start_options` (a `config_file` elsewhere) means the same here.
        // Ours come last and win: nothing is archived, no commit waits for a standby.
        let line = format!(
            "exec {} --single -D {} {} -c fsync=on -c archive_mode=off -c synchronous_standby_names= template1",
            shell_word(&self.program("postgres").to_string_lossy()),
            shell_word(&self.data_dir().to_string_lossy()),
            self.settings().start_options,
        );
        let mut command = self.command(Path::new("/bin/sh"));
        command.arg("-c").arg(line);
        let output = self.run(command, PROGRAM_LIMIT).await.map_err(RejoinError::program("postgres --single"))?;
        if output.status.success() && self.control()?.state.is_clean() {
            return Ok(());
        }
        Err(RejoinError::Recovery { text: words(&output) })
    }

    fn saved_dir(&self) -> PathBuf {
        self.state_dir().join("node-files")
    }

    /// Copies the node's own files (configuration, keys) to the state directory, completely or not at all.
    pub(super) fn save_node_files(&self) -> Result<(), RejoinError> {
        let saved = self.saved_dir();
        let partial = self.state_dir().join("node-files.partial");
        for dir in [&partial, &saved] {
            remove_dir(dir).map_err(RejoinError::files(dir))?;
        }
        make_private_dir(&partial).map_err(RejoinError::files(&partial))?;
        for (path, name) in node_files(self.data_dir()).map_err(RejoinError::files(self.data_dir()))? {
            let copy = partial.join(name);
            let copied = fs::copy(&path, &copy).and_then(|_| File::open(&copy)?.sync_all());
            copied.map_err(RejoinError::files(&path))?;
        }
        let renamed = sync_dir(&partial).and_then(|()| fs::rename(&partial, &saved));
        renamed.and_then(|()| sync_dir(self.state_dir())).map_err(RejoinError::files(&saved))
    }

    /// Puts the copies back over what `pg_rewind` brought.
    pub(super) fn restore_node_files(&self) -> Result<(), RejoinError> {
        let saved = self.saved_dir();
        for (path, name) in node_files(&saved).map_err(RejoinError::files(&saved))? {
            let target = self.data_dir().join(name);
            let restored = || {
                let mode = fs::metadata(&path)?.mode() & 0o777;
                write_owned(&target, &fs::read(&path)?, mode, self.owner())
            };
            restored().map_err(RejoinError::files(&target))?;
        }
        Ok(())
    }

    /// Drops the copies, once nothing can need them any more.
    pub(super) fn forget_node_files(&self) {
        let saved = self.saved_dir();
        if let Err(error) = remove_dir(&saved) {
            tracing::warn!(path = %saved.display(), %error, "cannot remove the copies of the node's files");
        }
    }

    /// Takes the data directory back to where the peer's history left its own.
    ///
    /// The password goes through the environment: a command line is readable by everybody.
    pub(super) async fn run_pg_rewind(&self) -> Result<(), String> {
        let settings = self.settings();
        let source = format!(
            "host={} port={} user={} dbname={} connect_timeout=10 application_name=harbor-ha-rewind",
            settings.peer,
            settings.port,
            conninfo_value(&settings.user),
            conninfo_value(&settings.dbname),
        );
        let mut command = self.command(&self.program("pg_rewind"));
        command.env("LC_ALL", "C").arg("--target-pgdata").arg(self.data_dir()).arg("--source-server").arg(source);
        command.arg("--no-ensure-shutdown"); // it is clean already, by a recovery that synced
        if let Some(password) = &settings.password {
            command.env("PGPASSWORD", password.reveal());
        }
        match self.run(command, PROGRAM_LIMIT).await {
            Ok(output) if output.status.success() => {
                tracing::info!(text = words(&output), "pg_rewind ended");
                Ok(())
            }
            Ok(output) => Err(words(&output)),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The regular files in the top of a directory that make a node what it is.
fn node_files(dir: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?; // of a link itself: links are neither copied nor followed
        let Ok(name) = entry.file_name().into_string() else { continue };
        let ours = meta.is_file() && meta.len() <= FILE_MAX && !name.ends_with(".tmp");
        if ours && !NOT_OURS.contains(&name.as_str()) {
            files.push((entry.path(), name));
        }
    }
    Ok(files)
}

fn make_private_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(path) // keys are among the files
}

fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_node_are_told_from_those_of_the_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["PG_VERSION", "postgresql.conf", "server.key", "standby.signal", "postmaster.pid", ".x.tmp"];
        for name in names {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        fs::create_dir(dir.path().join("base")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("link.conf")).unwrap();
        let mut found: Vec<_> = node_files(dir.path()).unwrap().into_iter().map(|(_, name)| name).collect();
        found.sort();
        assert_eq!(found, ["postgresql.conf", "server.key"]);
    }
}
