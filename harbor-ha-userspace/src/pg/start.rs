//! Starting a server, in the role that the caller names and in no other.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::fault;

use super::control::ControlError;
use super::settings::{shell_word, write_owned};
use super::{Pg, Postmaster};

/// From fork to the line that says "starting" takes 20 to 100 ms; a loaded disk may need more.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks at `postmaster.pid`.
const LOOK: Duration = Duration::from_millis(2);
/// So many looks in a row must find nobody.
const LOOKS_EMPTY: u32 = 20;
/// The line of `postmaster.pid` that is written when the sockets are open.
const STATUS_LINE: usize = 7;

/// The role that a start is meant to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAs {
    /// Takes writes after crash recovery. Refused when the directory is a standby's or a rejoin is pending.
    Primary,
    /// Follows the peer. Writes `standby.signal` when it is missing.
    Standby,
}

impl Pg {
    /// Starts the server and comes back when its sockets are open; it may still be recovering.
    ///
    /// The server outlives this process: it has its own session, and none of our descriptors but its log.
    ///
    /// # Errors
    /// The directory is not in the named role, a rejoin is pending, it runs already, or it did not start; then with
    /// what its log says.
    pub async fn start(&self, role: StartAs) -> Result<Postmaster, StartError> {
        if self.rejoin_pending() {
            return Err(StartError::RejoinPending { journal: self.journal_path() });
        }
        if role == StartAs::Primary && self.at_rest()?.standby_signal {
            return Err(StartError::IsStandby { data_dir: self.data_dir().to_owned() });
        }
        fault::point("start.begin");
        if role == StartAs::Standby {
            self.write_standby_signal()?;
            fault::point("start.signal");
        }
        let started = self.start_as_it_is().await?;
        self.settle_slot_apart();
        fault::point("start.done");
        Ok(started)
    }

    /// Makes a start of this directory a standby's.
    pub(super) fn write_standby_signal(&self) -> Result<(), StartError> {
        let path = self.in_data_dir("standby.signal");
        if self.standby_signal() {
            return Ok(());
        }
        write_owned(&path, b"", 0o600, self.owner()).map_err(|source| StartError::Write { path, source })
    }

    /// Starts whatever the signal files say; the rejoin, which owns the journal, calls this.
    pub(super) async fn start_as_it_is(&self) -> Result<Postmaster, StartError> {
        let others = self.holders();
        if !others.is_empty() {
            return Err(StartError::Busy { data_dir: self.data_dir().to_owned(), pids: others });
        }
        self.clear_locks_of_the_dead()
            .map_err(|source| StartError::Write { path: self.in_data_dir("postmaster.pid"), source })?;
        let mark = self.mark_log();
        let settings = self.settings();
        let program = self.program("pg_ctl");
        let socket_dir = shell_word(&settings.socket_dir.to_string_lossy());
        let options = format!("-p {} -k {socket_dir} {}", settings.port, settings.start_options);
        let mut command = self.command(&program);
        command.arg("start").arg("-W").arg("-D").arg(self.data_dir()).arg("-o").arg(options);
        let log = self.open_log().and_then(|log| Ok((log.try_clone()?, log)));
        let (out, err) = log.map_err(|source| StartError::Write { path: self.log_path(), source })?;
        command.stdout(out).stderr(err);
        // Not `output()`: pg_ctl ends at once, and the server keeps the log that it inherits.
        let mut child = tokio::process::Command::from(command)
            .spawn()
            .map_err(|source| StartError::Run { path: program.clone(), source })?;
        let Ok(status) = tokio::time::timeout(START_LIMIT, child.wait()).await else {
            return Err(StartError::Slow { waited: START_LIMIT, log: self.log_since(mark) });
        };
        let status = status.map_err(|source| StartError::Run { path: program, source })?;
        if !status.success() {
            return Err(StartError::Died { log: self.log_since(mark) });
        }
        let begun = Instant::now();
        let mut empty = 0;
        loop {
            if let Some(postmaster) = self.running()
                && self.status_line().is_some()
            {
                return Ok(postmaster);
            }
            // Its process is in the directory from the fork on, so an empty directory is a server that gave up; but a
            // look at /proc is no snapshot, and misses a process now and then.
            empty = if self.inhabitants().is_empty() { empty + 1 } else { 0 };
            if empty >= LOOKS_EMPTY {
                return Err(StartError::Died { log: self.log_since(mark) });
            }
            if begun.elapsed() > START_LIMIT {
                return Err(StartError::Slow { waited: START_LIMIT, log: self.log_since(mark) });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn status_line(&self) -> Option<String> {
        let text = fs::read_to_string(self.in_data_dir("postmaster.pid")).ok()?;
        text.lines().nth(STATUS_LINE).map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
    }
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Only the rejoin may start it now.
    #[error("a rejoin is not finished (`{journal}`): it must be, before this server starts")]
    RejoinPending {
        /// The journal.
        journal: PathBuf,
    },
    /// Asked for a primary, found a standby. Promoting is how it becomes one.
    #[error("`{data_dir}` holds `standby.signal`, or a promotion broke off there: not started as a primary")]
    IsStandby {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// Whether it is a standby's cannot be told.
    #[error(transparent)]
    Unreadable(#[from] ControlError),
    /// It runs, or children of a dead postmaster do.
    #[error("`{data_dir}` is in use by {pids:?}")]
    Busy {
        /// The data directory.
        data_dir: PathBuf,
        /// Who.
        pids: Vec<i32>,
    },
    /// A file could not be written.
    #[error("cannot write `{path}`: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// `pg_ctl` could not be run.
    #[error("cannot run `{path}`: {source}")]
    Run {
        /// The program.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It started and ended again.
    #[error("PostgreSQL did not start: {log}")]
    Died {
        /// The last words of its log.
        log: String,
    },
    /// Neither running nor dead.
    #[error("PostgreSQL was not up {waited:?} after its start: {log}")]
    Slow {
        /// The limit.
        waited: Duration,
        /// The last words of its log.
        log: String,
    },
}
