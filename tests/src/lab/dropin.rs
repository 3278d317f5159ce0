//! Our daemon in the place of keepalived: run on a `keepalived.conf`, or on what `import` made of it, as somebody does who
//! swaps the daemon and changes nothing else.
//!
//! The paths are those of a host too: `/run/harbor-ha` and `/etc/keepalived` are, for what runs here, folders of the node.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::host::Host;
use super::keepalived::State;
use super::node::{Status, daemon_program};
use super::{clock, host, netns};

/// Before a program starts: folders of the node at the places where a host has them.
const PRIVATE: &str = "mount -t tmpfs none /run && mkdir /run/harbor-ha && mount --bind \"$1/run\" /run/harbor-ha \
                       && if [ -d \"$1/etc\" ]; then mount --bind \"$1/etc\" /etc/keepalived; fi && shift && exec \"$@\"";

/// A command, with `NAME=VALUE` words more in its environment, and with the node's own `/run/harbor-ha` and, when the node has a folder `etc`, `/etc/keepalived`.
pub(super) fn private(
    host: Host<'_>,
    environment: &[OsString],
    command: impl IntoIterator<Item = OsString>,
) -> Result<(PathBuf, Vec<OsString>)> {
    fs::create_dir_all(host.home().join("run"))?;
    let mut words: Vec<OsString> =
        ["--mount", "--propagation", "private", "sh", "-c", PRIVATE, "sh"].map(Into::into).into();
    words.push(host.home().into_os_string());
    // `env` becomes the command.
    words.push("env".into());
    words.extend(environment.iter().cloned());
    words.extend(command);
    Ok((super::need::find_program("unshare").context("no `unshare`")?, words))
}

/// The drop-in of a node.
#[derive(Clone, Copy)]
pub struct Dropin<'a> {
    host: Host<'a>,
}

impl<'a> Dropin<'a> {
    /// On this host.
    pub fn on(host: impl Into<Host<'a>>) -> Self {
        Self { host: host.into() }
    }

    /// Where a text that it is started on is kept.
    pub fn config(self) -> PathBuf {
        self.host.home().join("dropin.conf")
    }

    /// Its log.
    pub fn log(self) -> PathBuf {
        self.host.home().join("dropin.log")
    }

    /// The node's `/etc/keepalived`, made when it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn etc(self) -> Result<PathBuf> {
        let etc = self.host.home().join("etc");
        fs::create_dir_all(&etc)?;
        Ok(etc)
    }

    /// Starts it on a `keepalived.conf` of these words.
    ///
    /// # Errors
    /// It is not built, or the node's files cannot be written.
    pub fn start(self, text: &str) -> Result<()> {
        self.start_with(text, &[])
    }

    /// The same, with `NAME=VALUE` words more in its environment.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(self, text: &str, environment: &[OsString]) -> Result<()> {
        fs::create_dir_all(self.host.home())?;
        fs::write(self.config(), text)?;
        self.run_on(&self.config(), environment)
    }

    /// `harbor-ha run --config FILE`.
    ///
    /// # Errors
    /// It is not built.
    pub fn start_on(self, config: &Path) -> Result<()> {
        self.run_on(config, &[])
    }

    fn run_on(self, config: &Path, environment: &[OsString]) -> Result<()> {
        let words = [daemon_program()?.into(), "run".into(), "--config".into(), config.into()];
        let (program, words) = private(self.host, environment, words)?;
        host::start(&self.host.place(), None, &self.log(), &program, &words)
    }

    /// Another command of it, to its end.
    ///
    /// # Errors
    /// It is not built.
    pub fn run(self, arguments: &[&str]) -> Result<Output> {
        let words = [daemon_program()?.into()].into_iter().chain(arguments.iter().map(OsString::from));
        let (program, words) = private(self.host, &[], words)?;
        Ok(self.host.place().command(program)?.args(words).output()?)
    }

    /// What it says about itself.
    ///
    /// # Errors
    /// It does not answer within a second.
    pub fn status(self) -> Result<Status> {
        let socket = self.host.home().join("run/router.sock");
        let mut stream = UnixStream::connect(socket).context("the daemon does not listen")?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"{\"cmd\":\"status\"}\n")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).context("the daemon does not answer")?;
        let value: Value = serde_json::from_str(&line).with_context(|| format!("no JSON: `{line}`"))?;
        Ok(Status(value))
    }

    /// The states of its instances.
    ///
    /// # Errors
    /// It does not answer within a second.
    pub fn states(self) -> Result<Vec<State>> {
        let status = self.status()?;
        let instances = status.0["instances"].as_array().context("no instances")?;
        let state = |it: &Value| match it["state"].as_str() {
            Some("backup") => State::Backup,
            Some("master") => State::Master,
            Some("fault") => State::Fault,
            _ => State::Init,
        };
        Ok(instances.iter().map(state).collect())
    }

    /// The state of its first instance; of one that does not answer: [`State::Init`].
    pub fn state(self) -> State {
        self.states().ok().and_then(|states| states.first().copied()).unwrap_or(State::Init)
    }

    /// The process that runs it.
    pub fn process(self) -> Option<Pid> {
        let inode = netns::inode(&self.host.netns()).ok()?;
        // Scripts begin as copies of the daemon, for a moment.
        let is_one =
            |pid: Pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|it| it.trim() == "harbor-ha");
        netns::processes(inode).into_iter().find(|pid| is_one(*pid) && parent(*pid).is_none_or(|it| !is_one(it)))
    }

    /// SIGKILL; returns the instant just before.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(self) -> Result<u64> {
        self.signal(Signal::SIGKILL)
    }

    /// SIGTERM, as systemd sends it; returns the instant just before.
    ///
    /// # Errors
    /// It does not run.
    pub fn terminate(self) -> Result<u64> {
        self.signal(Signal::SIGTERM)
    }

    fn signal(self, signal: Signal) -> Result<u64> {
        let pid = self.process().context("no drop-in runs")?;
        let at = clock::now_ns();
        kill(pid, signal)?;
        Ok(at)
    }

    /// # Errors
    /// It has not ended.
    pub fn ended(self) -> Result<()> {
        ensure!(self.process().is_none(), "it still runs");
        Ok(())
    }
}

/// Field 4 of `/proc/PID/stat`.
fn parent(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name, which may hold blanks and brackets.
    let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
    Some(Pid::from_raw(parent))
}
