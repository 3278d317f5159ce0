//! A node: its files, its daemon's configuration, its daemon.
//!
//! The daemon is met as an operator meets it: a binary, a configuration file, signals, a status socket.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::postgres::Postgres;
use super::state::{State, VIP};
use super::{Side, cgroup, config, host, link, netns};

/// From the start of a program to its being seen.
const START_LIMIT: Duration = Duration::from_secs(2);

/// A daemon that is no more will not come to serve: there is no use in waiting for it.
#[derive(Debug)]
pub struct Ended(Side);

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the daemon on {} has ended, its log says why", self.0)
    }
}

impl std::error::Error for Ended {}

/// A node of a lab, by name: nothing is kept in memory about it.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    pub(super) state: &'a State,
    pub(super) side: Side,
}

impl<'a> Node<'a> {
    pub(super) fn new(state: &'a State, side: Side) -> Self {
        Self { state, side }
    }

    /// Its PostgreSQL.
    pub fn postgres(self) -> Postgres<'a> {
        Postgres::new(self)
    }

    /// Its network namespace.
    pub fn netns(self) -> String {
        self.state.netns(self.side.name())
    }

    /// The cgroup of all its processes.
    ///
    /// # Errors
    /// There is no version 2 hierarchy.
    pub fn cgroup(self) -> Result<PathBuf> {
        cgroup::of_node(&self.state.run, self.side)
    }

    /// Where its programs run.
    pub fn place(self) -> host::Place {
        host::Place { netns: self.netns(), cgroup: self.cgroup().ok() }
    }

    /// Its own address.
    pub fn address(self) -> std::net::Ipv4Addr {
        self.state.address(self.side)
    }

    /// The other node's.
    pub fn peer_address(self) -> std::net::Ipv4Addr {
        self.state.address(self.side.other())
    }

    /// Folder of its files.
    pub fn home(self) -> PathBuf {
        self.state.home.join(self.side.name())
    }

    /// Names its pins and its status socket: unique on the machine, should they ever land outside the lab.
    pub fn instance(self) -> String {
        self.netns()
    }

    /// The daemon's configuration.
    pub fn config(self) -> PathBuf {
        self.home().join("harbor-ha.toml")
    }

    /// What the daemon writes to stderr.
    pub fn daemon_log(self) -> PathBuf {
        self.home().join("daemon.log")
    }

    /// Makes its folders, keys and configuration.
    pub(super) fn prepare(self) -> Result<()> {
        for folder in ["state", "run"] {
            fs::create_dir_all(self.home().join(folder))?;
        }
        // The lab's key is no secret, but the daemon is right to insist on its mode.
        for (name, text) in [("pulse.key", "00112233445566778899aabbccddeeff\n"), ("vrrp.password", "harbor77\n")] {
            let file = self.home().join(name);
            fs::write(&file, text)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        }
        fs::write(self.config(), config::text(self))?;
        if self.state.options.tuned.tells {
            config::Tells(self).prepare()?;
        }
        self.postgres().prepare()
    }

    /// Starts the daemon, unless it runs.
    ///
    /// # Errors
    /// It is not built, or does not start.
    pub fn start_daemon(self) -> Result<()> {
        self.start_daemon_with(&[])
    }

    /// The same, with `NAME=VALUE` words more in its environment.
    ///
    /// # Errors
    /// As [`Self::start_daemon`].
    pub fn start_daemon_with(self, environment: &[OsString]) -> Result<()> {
        if !self.daemons().is_empty() {
            return Ok(());
        }
        // `env` becomes the daemon.
        let daemon = [daemon_program()?.into(), "run".into(), "--config".into(), self.config().into_os_string()];
        let words: Vec<OsString> = environment.iter().cloned().chain(daemon).collect();
        host::start(&self.place(), None, &self.daemon_log(), Path::new("/usr/bin/env"), &words)?;
        let begun = Instant::now();
        while self.daemons().is_empty() {
            if begun.elapsed() > START_LIMIT {
                return Err(Ended(self.side).into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// The processes that run this node's daemon: one, or none.
    pub fn daemons(self) -> Vec<Pid> {
        let Ok(inode) = netns::inode(&self.netns()) else { return Vec::new() };
        let config = self.config();
        let ours = |pid: &Pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            let says = |wanted: &[u8]| words.contains(&wanted);
            says(b"run") && says(config.as_os_str().as_encoded_bytes()) && !host::is_init(*pid)
        };
        netns::processes(inode).into_iter().filter(ours).collect()
    }

    /// Signals the daemon.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal_daemon(self, signal: Signal) -> Result<()> {
        let daemons = self.daemons();
        if daemons.is_empty() {
            bail!("no daemon runs on {}", self.side);
        }
        for pid in daemons {
            kill(pid, signal)?;
        }
        Ok(())
    }

    /// Asks the daemon how it is.
    ///
    /// # Errors
    /// It does not answer within a second.
    pub fn status(self) -> Result<Status> {
        self.ask("{\"cmd\":\"status\"}").map(Status)
    }

    /// Says something to the daemon's socket; its answer.
    ///
    /// # Errors
    /// It does not answer within a second.
    pub fn ask(self, request: &str) -> Result<Value> {
        let socket = self.home().join("run").join(format!("{}.sock", self.instance()));
        let mut stream = UnixStream::connect(&socket).context("the daemon does not listen")?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(format!("{request}\n").as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).context("the daemon does not answer")?;
        serde_json::from_str(&line).with_context(|| format!("no JSON: `{line}`"))
    }

    /// What its page says under a path, asked from its own host: the body.
    ///
    /// # Errors
    /// Nobody listens there, or says something else than that all is well.
    pub fn page(self, path: &str) -> Result<String> {
        netns::inside(&self.netns(), || {
            let mut stream = TcpStream::connect(config::OBSERVE).context("no page")?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).context("the page does not end")?;
            let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no HTTP: `{answer}`"))?;
            ensure!(head.starts_with("HTTP/1.1 200 "), "the page says `{answer}`");
            Ok(body.to_owned())
        })
    }

    /// Asks the daemon for something that needs no words, by the name of its request.
    ///
    /// # Errors
    /// It does not answer within a second.
    pub fn request(self, name: &str) -> Result<Value> {
        self.ask(&format!("{{\"cmd\":\"{name}\"}}"))
    }

    /// The same, and [`Ended`] when there is nobody to ask.
    ///
    /// # Errors
    /// It does not answer within a second, or it has ended.
    pub fn living_status(self) -> Result<Status> {
        // Between two programs (a shell, then the daemon) a process has no command line for a moment.
        let ended = || {
            (0..20).all(|_| {
                let none = self.daemons().is_empty();
                if none {
                    std::thread::sleep(Duration::from_millis(10));
                }
                none
            })
        };
        self.status().map_err(|why| if ended() { Ended(self.side).into() } else { why })
    }

    /// What a reboot undoes: addresses, pins and run files. The disk stays.
    pub(super) fn forget(self) -> Result<()> {
        // Absent when the node was a standby: then `ip` has nothing to complain to.
        let _ = link::batch(Some(&self.netns()), &format!("address del {VIP}/32 dev eth0\n"));
        remove(&self.state.bpffs().join("harbor-ha").join(self.instance()))?;
        for folder in ["run", "socket"] {
            // A node on which nothing was ever prepared has none.
            for entry in fs::read_dir(self.home().join(folder)).into_iter().flatten().flatten() {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", folder.display()))
        }
        _ => Ok(()),
    }
}

/// The daemon that was built beside this program.
///
/// # Errors
/// It is not built.
pub fn daemon_program() -> Result<PathBuf> {
    let program = match std::env::var_os("HARBOR_HA_DAEMON") {
        Some(other) => other.into(),
        None => beside("harbor-ha")?,
    };
    File::open(&program).with_context(|| format!("`{}` is not built", program.display()))?;
    Ok(program)
}

/// The lab's own program: this one, or the one beside a test program.
pub(crate) fn lab_program() -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    if me.file_name().is_some_and(|name| name == "harbor-ha-lab") { Ok(me) } else { beside("harbor-ha-lab") }
}

/// A program of this build: beside the lab's own, or above the folder of the test programs.
pub(super) fn beside(name: &str) -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let found = me.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|file| file.is_file());
    found.with_context(|| format!("`{name}` is not built: cargo build --release"))
}

/// What a daemon says about itself; a field that is not there reads as empty.
#[derive(Clone, Debug)]
pub struct Status(pub Value);

impl Status {
    /// A text, by JSON pointer.
    pub fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// A truth.
    pub fn is(&self, pointer: &str) -> bool {
        self.0.pointer(pointer).and_then(Value::as_bool).unwrap_or_default()
    }

    /// A number.
    pub fn number(&self, pointer: &str) -> Option<u64> {
        self.0.pointer(pointer).and_then(Value::as_u64)
    }

    /// It serves.
    pub fn is_primary(&self) -> bool {
        self.text("/role") == "primary" && self.is("/vip") && self.text("/postgres/state") == "primary"
    }

    /// It could take over: it knows the primary and would not refuse.
    pub fn is_standby(&self) -> bool {
        let stands_by = self.text("/role") == "standby" && self.text("/postgres/state") == "standby";
        stands_by && self.text("/peer/role") == "primary" && self.text("/refusal").is_empty()
    }

    /// As a primary sees it: the other node has all that is acknowledged.
    pub fn peer_streams(&self) -> bool {
        self.is("/postgres/facts/streaming") && self.is("/postgres/facts/peer_is_sync")
    }

    /// One line for progress.
    pub fn summary(&self) -> String {
        let mut line = format!("{}, PostgreSQL {}", self.text("/role"), self.text("/postgres/state"));
        if self.text("/role") == "primary" {
            let streams = if self.is("/postgres/facts/streaming") { "streams" } else { "does not stream" };
            let sync = if self.is("/postgres/facts/peer_is_sync") { "synchronous" } else { "not synchronous" };
            line += &format!(", peer {streams}, {sync}");
        }
        if !self.text("/refusal").is_empty() {
            line += &format!(", would not take over: {}", self.text("/refusal"));
        }
        let operation = self.text("/operation");
        if !matches!(operation, "" | "none") {
            line += &format!(", doing {operation}");
        }
        line
    }
}
