//! The PostgreSQL of this node, and as much of the peer's as replication needs.
//!
//! Facts and effects only: what a server says, what a data directory holds, and the few things that are done to them.
//! Which role a node should have, and whether it may, is for `core` to decide; nothing here promotes, stops or rewinds
//! on its own account. What is kept here: no data directory is deleted, none that a rejoin left half done is started as
//! a primary, and every wait has a limit.
//!
//! | file | what |
//! | --- | --- |
//! | `control` | `pg_control` and the signal files of a data directory at rest |
//! | `watch` | the postmaster by pidfd, and every process that holds the data directory |
//! | `process` | running PostgreSQL's programs as the data directory's owner, and the log they leave |
//! | `connect` | the control connection, kept ready, and connections of a moment |
//! | `replication` | facts of a running server |
//! | `probe` | does the server answer a newcomer |
//! | `promote`, `start`, `stop` | what their names say |
//! | `slots` | the physical slot that the role of a server calls for |
//! | `settings` | `synchronous_standby_names`, and lines of `postgresql.auto.conf` |
//! | `follow`, `upstream` | a standby's way to its upstream |
//! | `journal`, `history`, `compare`, `rejoin`, `rewind`, `wal` | how a former primary becomes a standby again |
//! | `loss` | what a former primary had and the new one does not |
//! | `renewal`, `basebackup`, `space` | a standby made anew, where `pg_rewind` cannot help |
//! | `findings` | what an operator should know before relying on this server |

mod basebackup;
mod compare;
mod connect;
mod control;
mod findings;
mod follow;
mod history;
mod journal;
mod loss;
mod probe;
mod process;
mod promote;
mod rejoin;
pub mod renewal;
mod replication;
mod rewind;
mod settings;
mod slots;
mod space;
mod start;
mod stop;
mod untaken;
mod upstream;
mod wal;
mod watch;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{Gid, Uid, geteuid};

use crate::config::settings::Postgres;

pub use connect::SqlError;
pub use control::{ControlError, ControlFile, State};
pub use findings::{Finding, Level};
pub use journal::JournalError;
pub use loss::LossReport;
pub use probe::{Probe, Refusal};
pub use promote::{PromoteError, Promoted};
pub use rejoin::{RejoinBy, RejoinError, RejoinStep, Rejoined};
pub use settings::SettingError;
pub use start::{StartAs, StartError};
pub use stop::{Killed, StopMode, Stopped};
pub use watch::Postmaster;

/// Oldest major version whose files and functions this room knows.
const MAJOR_MIN: u32 = 13;

/// The programs that are run, all from `bin_dir`.
const PROGRAMS: [&str; 3] = ["postgres", "pg_ctl", "pg_rewind"];

/// The PostgreSQL of this node. Cheap to clone; clones share one control connection.
#[derive(Clone, Debug)]
pub struct Pg {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Postgres,
    /// Canonical, as `/proc/PID/cwd` shows it.
    data_dir: PathBuf,
    state_dir: PathBuf,
    owner: Owner,
    major: u32,
    control: connect::Control,
}

/// Whose data directory it is: the server and its programs run as this user.
#[derive(Clone, Copy, Debug)]
struct Owner {
    uid: Uid,
    gid: Gid,
}

impl Pg {
    /// Looks at the data directory and the programs; needs no runtime, and changes nothing, unless a crash left a base
    /// backup between the two renames that put it in its place: then the second one is done.
    ///
    /// # Errors
    /// The first thing without which nothing here can work.
    pub fn open(settings: Postgres, state_dir: &Path) -> Result<Self, OpenError> {
        let seen = |path: &Path, source: io::Error| OpenError::DataDir { path: path.to_owned(), source };
        basebackup::finish_swap(state_dir, &settings.data_dir).map_err(|e| seen(&settings.data_dir, e))?;
        let data_dir = fs::canonicalize(&settings.data_dir).map_err(|e| seen(&settings.data_dir, e))?;
        let meta = fs::metadata(&data_dir).map_err(|e| seen(&data_dir, e))?;
        let version = data_dir.join("PG_VERSION");
        let text = fs::read_to_string(&version).map_err(|e| seen(&version, e))?;
        let major = match text.trim().parse::<u32>() {
            Ok(major) if major >= MAJOR_MIN => major,
            _ => return Err(OpenError::Version { path: version, found: text.trim().to_owned() }),
        };
        if meta.uid() == 0 {
            return Err(OpenError::OwnedByRoot { path: data_dir });
        }
        let me = geteuid();
        if !me.is_root() && me.as_raw() != meta.uid() {
            return Err(OpenError::NotOurs { path: data_dir, owner: meta.uid(), me: me.as_raw() });
        }
        for program in PROGRAMS {
            let path = settings.bin_dir.join(program);
            match fs::metadata(&path) {
                Ok(meta) if meta.is_file() && meta.mode() & 0o111 != 0 => {}
                Ok(_) => return Err(OpenError::NotExecutable { path }),
                Err(source) => return Err(OpenError::Program { path, source }),
            }
        }
        if major != MAJOR_MIN {
            tracing::info!(major, "PostgreSQL is newer than the version that harbor-ha was written for");
        }
        let owner = Owner { uid: Uid::from_raw(meta.uid()), gid: Gid::from_raw(meta.gid()) };
        let control = connect::Control::default();
        let state_dir = state_dir.to_owned();
        Ok(Self { inner: Arc::new(Inner { settings, data_dir, state_dir, owner, major, control }) })
    }

    /// The settings it was opened with.
    pub fn settings(&self) -> &Postgres {
        &self.inner.settings
    }

    /// The data directory, canonical.
    pub fn data_dir(&self) -> &Path {
        &self.inner.data_dir
    }

    /// Major version of the data directory: 13, or a later one.
    pub fn major(&self) -> u32 {
        self.inner.major
    }

    fn state_dir(&self) -> &Path {
        &self.inner.state_dir
    }

    fn owner(&self) -> Owner {
        self.inner.owner
    }

    fn program(&self, name: &str) -> PathBuf {
        self.inner.settings.bin_dir.join(name)
    }

    fn in_data_dir(&self, name: &str) -> PathBuf {
        self.inner.data_dir.join(name)
    }
}

/// Looks at files and `/proc` on a thread of its own: a disk that does not answer must not hold up a worker, of which
/// the daemon's loop needs one.
///
/// # Panics
/// As `look` does.
pub async fn apart<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(look).await {
        Ok(seen) => seen,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is going down, and this task with it.
        Err(_) => std::future::pending().await,
    }
}

/// Why a PostgreSQL cannot be managed at all. All of these are for the operator; trying again does not help.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not there, not readable, or not a data directory.
    #[error("no usable data directory: `{path}`: {source}")]
    DataDir {
        /// What was looked at.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Older than 13, or no number.
    #[error("`{path}` says version `{found}`; PostgreSQL 13 or later is needed")]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// PostgreSQL refuses to run as root.
    #[error("`{path}` belongs to root; PostgreSQL never runs as root, so this is not a data directory that it can use")]
    OwnedByRoot {
        /// The data directory.
        path: PathBuf,
    },
    /// Neither root nor the owner.
    #[error("`{path}` belongs to uid {owner}, and this process is uid {me}: run as root or as the owner")]
    NotOurs {
        /// The data directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// This process.
        me: u32,
    },
    /// A program is missing from `bin_dir`.
    #[error("`{path}` is needed: {source}")]
    Program {
        /// The program.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program that nobody may execute.
    #[error("`{path}` is not an executable file")]
    NotExecutable {
        /// The program.
        path: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::apart;

    #[tokio::test]
    async fn a_look_that_takes_long_does_not_hold_up_the_only_worker() {
        let (answer, disk) = mpsc::channel();
        let limit = Duration::from_secs(60); // so that a worker that waits is a failure, and no test without end
        let look = apart(move || disk.recv_timeout(limit));
        let worker = async { answer.send("read").unwrap() };
        assert_eq!(tokio::join!(look, worker).0, Ok("read"));
    }
}
