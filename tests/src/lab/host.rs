//! A host of a lab, and its `init`: what a program that outlives its starter becomes a child of.
//!
//! On a real host that is systemd, which reaps a dead postmaster at once. The machine that runs the lab may
//! have an `init` that takes seconds, and until then PostgreSQL takes the dead one's lock file for a living
//! one's. So each program is started below a small process of the lab that reaps whatever is left to it.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use nix::unistd::Pid;

use super::node::Node;
use super::state::State;
use super::{Side, cgroup, netns, node, user::User};

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

/// A host that can be a router: a node, or the client's, where three are wanted.
#[derive(Clone, Copy)]
pub struct Host<'a> {
    state: &'a State,
    name: &'static str,
}

impl<'a> Host<'a> {
    /// `a`, `b` or `c`.
    pub fn named(state: &'a State, name: &'static str) -> Self {
        Self { state, name }
    }

    /// Its network namespace.
    pub fn netns(self) -> String {
        self.state.netns(self.name)
    }

    /// Where its programs run.
    pub fn place(self) -> Place {
        let cgroup = Side::BOTH.into_iter().find(|side| side.name() == self.name);
        Place { netns: self.netns(), cgroup: cgroup.and_then(|side| cgroup::of_node(&self.state.run, side).ok()) }
    }

    /// Folder of its files.
    pub fn home(self) -> PathBuf {
        self.state.home.join(self.name)
    }

    /// Its own address.
    ///
    /// # Panics
    /// There is no such host.
    pub fn address(self) -> Ipv4Addr {
        self.address_of(self.name)
    }

    /// That of another host.
    ///
    /// # Panics
    /// There is no such host.
    pub fn address_of(self, name: &str) -> Ipv4Addr {
        self.state.hosts().into_iter().find(|(host, _)| *host == name).expect("a host of the lab").1
    }

    /// The routers of a list but for this one, by address.
    pub(super) fn peers(self, routers: &[&str]) -> Vec<Ipv4Addr> {
        routers.iter().filter(|name| **name != self.name).map(|name| self.address_of(name)).collect()
    }
}

impl<'a> From<Node<'a>> for Host<'a> {
    fn from(node: Node<'a>) -> Self {
        Self::named(node.state, node.side.name())
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
