//! The third party: a real etcd or Redis on a host of its own, which both nodes reach also when they have lost each
//! other.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::host::{self, Place};
use super::{Lab, clock, need, netns};

/// Its host.
pub const HOST: &str = "w";
/// Its address.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 4);
/// A fresh store answers after a fraction of this.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Which server, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Witness {
    /// No third party.
    #[default]
    None,
    /// etcd, one member.
    Etcd,
    /// Redis, each write on the disk before its answer.
    Redis,
}

impl Witness {
    /// As in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Etcd => "etcd",
            Self::Redis => "redis",
        }
    }

    /// The line of the configuration that tells where it is.
    pub fn says_where(self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Etcd => Some(format!("endpoints = [\"http://{ADDRESS}:{}\"]", self.port())),
            Self::Redis => Some(format!("endpoints = [\"redis://{ADDRESS}:{}\"]", self.port())),
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::None => 0,
            Self::Etcd => 2379,
            Self::Redis => 6379,
        }
    }

    /// Program, and the Debian package it comes in.
    const fn program(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::None => None,
            Self::Etcd => Some(("etcd", "etcd-server")),
            Self::Redis => Some(("redis-server", "redis-server")),
        }
    }

    fn arguments(self, data: &str) -> Vec<OsString> {
        let port = self.port();
        let words = match self {
            Self::None => String::new(),
            Self::Etcd => format!(
                "--name w --data-dir {data} --listen-client-urls http://{ADDRESS}:{port} \
                 --advertise-client-urls http://{ADDRESS}:{port} --listen-peer-urls http://127.0.0.1:2380 \
                 --initial-advertise-peer-urls http://127.0.0.1:2380 --initial-cluster w=http://127.0.0.1:2380"
            ),
            // A word that is kept is on the disk, as etcd's is.
            Self::Redis => format!(
                "--bind {ADDRESS} --port {port} --protected-mode no --dir {data} --appendonly yes \
                 --appendfsync always --save {{}}"
            ),
        };
        // `--save ""`: an empty word, which a split does not make.
        words.split_whitespace().map(|word| if word == "{}" { OsString::new() } else { word.into() }).collect()
    }

    /// Asks it whether it works.
    fn ask(self) -> Result<()> {
        let at = SocketAddr::from((ADDRESS, self.port()));
        let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let (question, wanted) = match self {
            Self::Redis => ("PING\r\n", "+PONG"),
            _ => ("GET /health HTTP/1.0\r\n\r\n", "\"health\":\"true\""),
        };
        stream.write_all(question.as_bytes())?;
        let mut answer = Vec::new();
        let mut part = [0; 1024];
        while !String::from_utf8_lossy(&answer).contains(wanted) {
            let count = stream.read(&mut part)?;
            ensure!(count > 0, "it says `{}`", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&part[..count]);
        }
        Ok(())
    }
}

impl Lab {
    fn witness_folder(&self) -> PathBuf {
        self.state().home.join(HOST)
    }

    /// What the witness's server says.
    pub fn witness_log(&self) -> PathBuf {
        self.witness_folder().join("witness.log")
    }

    /// Starts the witness unless it runs, and waits until it answers.
    ///
    /// # Errors
    /// It is not installed, or does not answer; its log says why.
    pub fn start_witness(&self) -> Result<()> {
        let witness = self.state().options.witness;
        let Some((program, package)) = witness.program() else { return Ok(()) };
        if self.witness_process().is_some() {
            return Ok(());
        }
        let path = need::find_program(program)
            .with_context(|| format!("`{program}` (Debian's package {package}) is not installed: cargo xtask setup"))?;
        let data = self.witness_folder().join(witness.name());
        fs::create_dir_all(&data)?;
        // etcd insists that nobody else reads it.
        fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        self.state().user.give(&data)?;
        let data = data.to_str().context("a strange path")?;
        let place = Place { netns: self.state().netns(HOST), cgroup: None };
        let (user, log) = (Some(&self.state().user), self.witness_log());
        host::start(&place, user, &log, &path, &witness.arguments(data))?;
        let begun = Instant::now();
        while let Err(why) = netns::inside(&place.netns, || witness.ask()) {
            if begun.elapsed() > START_LIMIT {
                let text = fs::read_to_string(&log).unwrap_or_default();
                bail!("the witness ({program}) does not answer: {why:#}\n{text}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Its server, when it runs.
    fn witness_process(&self) -> Option<Pid> {
        let inode = netns::inode(&self.state().netns(HOST)).ok()?;
        netns::processes(inode).into_iter().find(|pid| !host::is_init(*pid))
    }

    /// SIGKILL of the witness; the instant just before.
    pub(super) fn kill_witness(&self) -> Result<u64> {
        let pid = self.witness_process().context("no witness runs")?;
        let at = clock::now_ns();
        kill(pid, Signal::SIGKILL)?;
        Ok(at)
    }
}
