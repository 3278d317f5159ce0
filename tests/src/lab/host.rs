//! The `init` of a lab's host: what a program that outlives its starter becomes a child of.
//!
//! On a real host that is systemd, which reaps a dead postmaster at once. The machine that runs the lab may
//! have an `init` that takes seconds, and until then PostgreSQL takes the dead one's lock file for a living
//! one's. So each program is started below a small process of the lab that reaps whatever is left to it.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use nix::unistd::Pid;

use super::{cgroup, netns, node, user::User};

/// The hidden verb of `harbor-ha-lab`.
pub const VERB: &str = "host";

/// Where the programs of a host run.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its network namespace.
    pub netns: String,
    /// Its cgroup; the nodes have one.
    pub cgroup: Option<PathBuf>,
}

impl Place {
    /// A command that will run there.
    ///
    /// # Errors
    /// No such host.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let mut command = netns::command(&self.netns, program)?;
        if let Some(folder) = &self.cgroup {
            cgroup::apply(folder, &mut command)?;
        }
        Ok(command)
    }

    /// Moves the calling process there, for good; it must have one thread.
    ///
    /// # Errors
    /// No such host.
    pub fn enter(&self) -> Result<()> {
        if let Some(folder) = &self.cgroup {
            cgroup::enter(folder)?;
        }
        netns::enter(&self.netns)
    }
}

/// Starts a program on a host, below an `init`, with its words in a log; does not wait for it.
///
/// # Errors
/// No such host, or nothing to start.
pub fn start(place: &Place, user: Option<&User>, log: &Path, program: &Path, arguments: &[OsString]) -> Result<()> {
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    let mut init = place.command(node::lab_program()?)?;
    init.arg(VERB);
    if let Some(user) = user {
        init.arg("--user").arg(&user.name);
    }
    init.arg("--").arg(program).args(arguments).current_dir("/").process_group(0);
    init.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    init.spawn().with_context(|| format!("cannot start an `init` for `{}`", program.display()))?;
    Ok(())
}

/// What the hidden verb does: starts the program, then reaps until there is nobody left.
///
/// # Errors
/// The program does not start.
pub fn be_init(user: Option<&str>, command: &[OsString]) -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true)?;
    let (program, arguments) = command.split_first().context("nothing to start")?;
    let mut child = Command::new(program);
    child.args(arguments);
    if let Some(name) = user {
        User::named(name)?.apply(&mut child);
    }
    child.spawn().with_context(|| format!("cannot start {program:?}"))?;
    while !matches!(nix::sys::wait::wait(), Err(nix::errno::Errno::ECHILD)) {}
    Ok(())
}

/// Whether a process is such an `init`.
pub fn is_init(pid: Pid) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|byte| *byte == 0);
    let program = words.next().unwrap_or_default();
    program.ends_with(b"harbor-ha-lab") && words.next() == Some(VERB.as_bytes())
}
