//! Programs of others (scripts, mostly): run as somebody, for a time, and cleaned up after.
//!
//! Used by the rooms `notify` and `health`. What the room promises of each program, whatever it does:
//!
//! * it runs as its user with that user's groups, in a session of its own, in `/`, with an environment that holds what
//!   is said below and nothing else, with no descriptor of the daemon's, no signal blocked or ignored, and ordinary
//!   scheduling;
//! * root runs nothing that others than root could have changed;
//! * at its deadline it gets SIGTERM, after the grace SIGKILL, and with it whatever it started, also what has made itself
//!   a daemon: see `keeper`;
//! * what a program leaves behind when it ends is ended too; a service is to be started by the service manager. Unless
//!   [`Program::leaves`] says otherwise: then that lives on, and nothing of a program is ended beyond its process group;
//! * its output is read to its end, however much it is, and the first [`KEPT_BYTES`] are kept;
//! * the caller's thread never waits: not for the file system that the program is on, not for the program.
//!
//! Environment: `PATH`, `HOME`, `USER`, `LOGNAME`, `SHELL`, of the daemon's own `LANG`, `LC_ALL` and `TZ`, and what the
//! caller adds.

mod keeper;
mod secure;
mod user;

#[cfg(test)]
pub(crate) mod tests;

use std::ffi::{CString, OsStr};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};

pub use secure::CommandError;
pub use user::{User, UserError};

use keeper::{CUT, ENDED, FAILED, Kept, LEFT, Plan, STEPS, WORD};

/// Of a program's output so much is kept; the rest is counted.
pub const KEPT_BYTES: usize = 4096;
/// What a program gets of the daemon's environment; the rest may hold secrets.
const PASSED_ON: [&str; 3] = ["LANG", "LC_ALL", "TZ"];
/// A program that got SIGTERM has so long to put its things in order.
pub const GRACE: Duration = Duration::from_secs(2);

/// A program, ready to be run as often as wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// What to run and its arguments. A name without `/` is looked for as a shell would.
    pub command: Vec<String>,
    /// Who runs it.
    pub user: User,
    /// For so long it may run; `None`: until it is ended.
    pub deadline: Option<Duration>,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// What it leaves in the background lives on, also after the daemon.
    pub leaves: bool,
}

/// Why a program did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It is not to be run.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A zero byte in an argument or in the environment.
    #[error("an argument has a zero byte in it: {0:?}")]
    ZeroByte(String),
    /// No process or descriptor to be had.
    #[error("cannot make a process for it: {0}")]
    NoProcess(#[from] io::Error),
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// By itself, with this status.
    Exited(i32),
    /// By a signal that did not come from here.
    Killed(i32),
    /// Its time was over.
    TimedOut,
    /// It was ended by [`Running::end`].
    Ended,
    /// It never was that program: what was tried, and why it failed.
    NotStarted(String),
    /// Its keeper was killed, so nobody knows.
    Lost,
}

/// What is left of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How it ended.
    pub how: How,
    /// The first words it said, on either output.
    pub said: String,
    /// How many bytes more than those.
    pub unsaid: u64,
    /// How many processes it left behind, which are ended too.
    pub left: u32,
}

impl Ended {
    /// Whether it ended by itself and well.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.how == How::Exited(0)
    }

    /// Of a program that did not start.
    #[must_use]
    pub fn not_started(why: impl fmt::Display) -> Self {
        Self { how: How::NotStarted(why.to_string()), said: String::new(), unsaid: 0, left: 0 }
    }
}

/// For the log: how, and what was said, on one line.
impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.how {
            How::Exited(0) => write!(f, "done")?,
            How::Exited(status) => write!(f, "exit status {status}")?,
            How::Killed(signal) => match nix::sys::signal::Signal::try_from(*signal) {
                Ok(signal) => write!(f, "killed by {signal}")?,
                Err(_) => write!(f, "killed by signal {signal}")?,
            },
            How::TimedOut => write!(f, "not done in time, ended")?,
            How::Ended => write!(f, "ended, as it was no longer wanted")?,
            How::NotStarted(why) => write!(f, "not started: {why}")?,
            How::Lost => write!(f, "somebody killed its keeper, so its end is not known")?,
        }
        if self.left > 0 {
            write!(f, "; it left {} processes behind, which were ended", self.left)?;
        }
        if !self.said.trim().is_empty() {
            write!(f, "; it said {:?}", self.said.trim_end())?;
        }
        if self.unsaid > 0 {
            write!(f, " and {} bytes more", self.unsaid)?;
        }
        Ok(())
    }
}

impl Program {
    /// Looks whether it could be run, for `check`.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), CommandError> {
        secure::resolve(self.command.first().map_or("", String::as_str), &self.user).map(drop)
    }

    /// Starts it, with more arguments and more environment.
    ///
    /// A program that the kernel refuses to execute is told of by [`Running::wait`]. Dropping the future ends what it may
    /// have started.
    ///
    /// # Errors
    /// It is not to be run, or there is no process for it.
    pub async fn start(&self, arguments: &[String], environment: &[(&str, String)]) -> Result<Running, StartError> {
        let mut argv = Vec::new();
        for argument in self.command.iter().chain(arguments) {
            argv.push(CString::new(argument.as_str()).map_err(|_| StartError::ZeroByte(argument.clone()))?);
        }
        let env = self.environment(environment)?;
        let (program, user) = (self.command.first().cloned().unwrap_or_default(), self.user.clone());
        let (deadline, grace, leaves) = (self.deadline, self.grace, self.leaves);
        // Held by this future: who is not waited for any more need not be started.
        let wanted = Arc::new(());
        let still = Arc::downgrade(&wanted);
        let started = spawn_blocking(move || {
            // Looks at files, which on a server that does not answer takes for ever.
            let path = secure::resolve(&program, &user)?;
            let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| StartError::ZeroByte(program))?;
            let plan = Plan { argv, env, path, identity: user.identity(), deadline, grace, leaves };
            if still.strong_count() == 0 {
                return Err(StartError::NoProcess(io::ErrorKind::Interrupted.into()));
            }
            let Kept { pidfd, lifeline, report, output } = keeper::start(&plan)?;
            let keeper = Handle::current().spawn(wait_for(pidfd));
            let report = pipe::Receiver::from_owned_fd(report)?;
            let output = pipe::Receiver::from_owned_fd(output)?;
            let lifeline = Some(lifeline);
            let (words, said) = (Vec::new(), Vec::new());
            Ok(Running { lifeline, keeper, leaves, report, output, open: true, words, said, unsaid: 0 })
        });
        let started = started.await;
        drop(wanted);
        started.unwrap_or_else(|stopped| Err(StartError::NoProcess(io::Error::other(stopped))))
    }

    /// Starts it and waits for its end.
    pub async fn run(&self, arguments: &[String], environment: &[(&str, String)]) -> Ended {
        match self.start(arguments, environment).await {
            Ok(mut running) => running.wait().await,
            Err(why) => Ended::not_started(why),
        }
    }

    fn environment(&self, more: &[(&str, String)]) -> Result<Vec<CString>, StartError> {
        let mut env = Vec::new();
        let mut add = |name: &str, value: &OsStr| {
            let text = [name.as_bytes(), b"=", value.as_bytes()].concat();
            env.push(CString::new(text).map_err(|_| StartError::ZeroByte(format!("{name}={}", value.display())))?);
            Ok::<(), StartError>(())
        };
        add("PATH", OsStr::new(secure::PATH))?;
        add("HOME", self.user.home.as_os_str())?;
        add("USER", OsStr::new(&self.user.name))?;
        add("LOGNAME", OsStr::new(&self.user.name))?;
        add("SHELL", OsStr::new("/bin/sh"))?;
        for name in PASSED_ON {
            if let Some(value) = std::env::var_os(name) {
                add(name, &value)?;
            }
        }
        for (name, value) in more {
            add(name, OsStr::new(value))?;
        }
        Ok(env)
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.command.first().map_or("", String::as_str))
    }
}

/// A program that runs; dropping it ends it, as the end of the daemon does.
#[derive(Debug)]
pub struct Running {
    lifeline: Option<OwnedFd>,
    /// Goes on when nobody waits any more, so that no zombie stays.
    keeper: JoinHandle<()>,
    /// The keeper may outlive the program.
    leaves: bool,
    report: pipe::Receiver,
    output: pipe::Receiver,
    /// Whether there may be more output.
    open: bool,
    words: Vec<u8>,
    said: Vec<u8>,
    unsaid: u64,
}

impl Running {
    /// Ends it: SIGTERM, and SIGKILL after its grace. [`Running::wait`] tells when that is done.
    pub fn end(&mut self) {
        self.lifeline = None;
    }

    /// Until it is known how it ends: it has ended, or its time is over. It, or what it left behind, may still be there.
    /// Cancel-safe.
    pub async fn outcome(&mut self) -> How {
        loop {
            if let (Some(how), _) = self.told() {
                return how;
            }
            if !self.listen().await {
                return How::Lost;
            }
        }
    }

    /// Until it, and whatever it left behind that is not to live, is gone. Cancel-safe.
    pub async fn wait(&mut self) -> Ended {
        while self.listen().await {}
        if !self.leaves && !self.keeper.is_finished() {
            let _reaped = (&mut self.keeper).await;
        }
        // What is in the pipe still; an end to it may never come if the program gave its output to somebody else.
        let mut chunk = [0; 16 << 10];
        while self.open {
            match self.output.try_read(&mut chunk) {
                Ok(length) if length > 0 => self.keep(&chunk[..length]),
                _ => self.open = false,
            }
        }
        let (how, left) = self.told();
        let said = String::from_utf8_lossy(&std::mem::take(&mut self.said)).into_owned();
        Ended { how: how.unwrap_or(How::Lost), said, unsaid: self.unsaid, left }
    }

    /// Takes the next of what it or its keeper says; false at the keeper's end.
    async fn listen(&mut self) -> bool {
        let mut chunk = [0; 16 << 10];
        tokio::select! {
            ready = self.output.readable(), if self.open => match ready.and_then(|()| self.output.try_read(&mut chunk)) {
                Ok(0) => self.open = false,
                Ok(length) => self.keep(&chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.open = false,
            },
            ready = self.report.readable() => match ready.and_then(|()| self.report.try_read(&mut chunk[..WORD])) {
                Ok(0) => return false,
                Ok(length) => self.words.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
            },
        }
        true
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = KEPT_BYTES - self.said.len();
        let (kept, rest) = bytes.split_at(room.min(bytes.len()));
        self.said.extend_from_slice(kept);
        self.unsaid += rest.len() as u64;
    }

    /// What the keeper has said so far: how it ended, and how many processes it left.
    fn told(&self) -> (Option<How>, u32) {
        let mut how = None;
        let mut left = 0;
        for word in self.words.chunks_exact(WORD) {
            let number = |at: usize| u32::from_ne_bytes([word[at], word[at + 1], word[at + 2], word[at + 3]]);
            let value = number(WORD / 2);
            match number(0) {
                FAILED => {
                    let step = STEPS.get((value >> 16) as usize).copied().unwrap_or("failed");
                    let error = io::Error::from_raw_os_error((value & 0xffff) as i32);
                    let hint = match error.raw_os_error() {
                        Some(libc::ENOEXEC) => ", it has no `#!` line",
                        Some(libc::ENOENT) => ", the interpreter in its `#!` line is not there",
                        _ => "",
                    };
                    how = how.or(Some(How::NotStarted(format!("{step}: {error}{hint}"))));
                }
                CUT => how = how.or(Some(if value == 0 { How::TimedOut } else { How::Ended })),
                ENDED => {
                    let status = ExitStatus::from_raw(value as i32);
                    let by_itself = match (status.code(), status.signal()) {
                        (Some(code), _) => How::Exited(code),
                        (None, signal) => How::Killed(signal.unwrap_or(0)),
                    };
                    how = how.or(Some(by_itself));
                }
                LEFT => left = value,
                _ => {}
            }
        }
        (how, left)
    }
}

/// Reaps the keeper.
async fn wait_for(keeper: OwnedFd) {
    // SAFETY: the descriptor is open, and owned by what is registered, for as long as that lives.
    let watched = unsafe { AsyncFd::register_with_interest(keeper, Interest::READABLE) };
    match watched {
        Ok(keeper) => {
            if let Ok(mut dead) = keeper.readable().await {
                dead.retain_ready();
            }
            reap(keeper.get_ref().as_raw_fd());
        }
        Err(error) => tracing::warn!(%error, "a program's keeper cannot be watched: it stays a zombie"),
    }
}

fn reap(pidfd: std::os::fd::RawFd) {
    let id = pidfd as libc::id_t;
    // SAFETY: the structure is this function's own and is not read; the descriptor is open.
    unsafe {
        let mut information: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_PIDFD, id, &mut information, libc::WEXITED);
    }
}
