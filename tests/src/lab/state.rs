//! What stands on the disk about a lab, written before anything of it exists.
//!
//! Names, addresses and folders are functions of the run id, so this and the kernel are all that a teardown
//! needs.

use std::fs;
use std::io::Read;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use serde::{Deserialize, Serialize};

use super::{Options, Side, cloud, user, witness};

/// The virtual address of every lab; each has a network of its own.
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);

/// `state.json`.
#[derive(Clone, Serialize, Deserialize)]
pub struct State {
    /// Unique among the labs of this machine.
    pub run: String,
    /// Who takes it down; `None`: somebody who says `down`.
    pub owner: Option<Owner>,
    /// What was asked for.
    pub options: Options,
    /// Folder of the nodes' files: the run folder, or one that PostgreSQL's user can enter.
    pub home: PathBuf,
    /// PostgreSQL's programs.
    pub postgres_bin: PathBuf,
    /// The user that PostgreSQL runs as.
    pub user: user::User,
}

/// A process, told from a later one with the same number by its start.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pid: u32,
    start: u64,
}

impl Owner {
    /// This process.
    pub fn me() -> Self {
        let pid = std::process::id();
        Self { pid, start: start_of(pid).unwrap_or_default() }
    }

    /// Whether it still runs.
    pub fn lives(self) -> bool {
        start_of(self.pid) == Some(self.start)
    }
}

/// Field 22 of `/proc/PID/stat`: clock ticks since boot.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name, which may hold blanks and brackets.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// The checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the workspace")
}

/// Every lab of the machine, whichever checkout it belongs to: links to their run folders.
pub fn index() -> &'static Path {
    Path::new("/run/harbor-ha-lab")
}

/// Where the run folders are.
pub fn labs() -> PathBuf {
    root().join("target/lab")
}

impl State {
    /// Claims a run id and a folder.
    ///
    /// # Errors
    /// The folder cannot be written, or there is no user for PostgreSQL.
    pub fn create(options: &Options) -> Result<Self> {
        let user = user::User::unprivileged()?;
        fs::create_dir_all(labs())?;
        fs::create_dir_all(index())?;
        let run = loop {
            let run = random_id()?;
            match std::os::unix::fs::symlink(labs().join(&run), index().join(&run)) {
                Ok(()) => break run,
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("cannot write in `{}`", index().display())),
            }
        };
        let folder = labs().join(&run);
        fs::create_dir(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        // 107 bytes are all that a socket's path may have, and `a/socket/.s.PGSQL.5432.lock` comes after it.
        let fits = folder.as_os_str().len() <= 70 && user.can_enter(&folder);
        let home = if fits { folder } else { Path::new("/var/tmp").join(format!("harbor-ha-lab-{run}")) };
        let postgres_bin = super::postgres::programs()?;
        let state = Self { run, owner: Some(Owner::me()), options: options.clone(), home, postgres_bin, user };
        state.save()?;
        fs::create_dir_all(&state.home)?;
        Ok(state)
    }

    /// # Errors
    /// There is no such lab.
    pub fn load(run: &str) -> Result<Self> {
        ensure!(!run.contains('/') && !run.starts_with('.'), "`{run}` is no run id");
        let file = labs().join(run).join("state.json");
        let text = fs::read(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("cannot understand `{}`", file.display()))
    }

    /// All labs on the disk, the newest last.
    pub fn all() -> Vec<Self> {
        let folders = fs::read_dir(labs()).into_iter().flatten().flatten();
        let mut found: Vec<_> = folders
            .filter_map(|entry| {
                let state = Self::load(&entry.file_name().to_string_lossy()).ok()?;
                Some((entry.metadata().and_then(|it| it.created()).ok(), state))
            })
            .collect();
        found.sort_by_key(|(created, _)| *created);
        found.into_iter().map(|(_, state)| state).collect()
    }

    /// Writes `state.json`, whole or not at all.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn save(&self) -> Result<()> {
        let file = self.folder().join("state.json");
        let new = self.folder().join("state.json.new");
        fs::write(&new, serde_json::to_string_pretty(self)? + "\n")?;
        fs::rename(&new, &file).with_context(|| format!("cannot write `{}`", file.display()))
    }

    /// The run folder.
    pub fn folder(&self) -> PathBuf {
        labs().join(&self.run)
    }

    /// Its own BPF file system: the machine's is not touched.
    pub fn bpffs(&self) -> PathBuf {
        self.folder().join("bpf")
    }

    /// The hosts on the switch, with their addresses.
    pub fn hosts(&self) -> Vec<(&'static str, Ipv4Addr)> {
        let mut hosts: Vec<_> = Side::BOTH.map(|side| (side.name(), self.address(side))).into();
        hosts.push(("c", Ipv4Addr::new(10, 77, 0, 3)));
        if self.options.witness != witness::Witness::None {
            hosts.push((witness::HOST, witness::ADDRESS));
        }
        if self.options.cloud {
            hosts.push((cloud::HOST, cloud::ADDRESS));
        }
        hosts
    }

    /// The network namespace of a host: `a`, `b`, `c`, `w`, `cloud` or `sw`.
    pub fn netns(&self, host: &str) -> String {
        format!("hh-{}-{host}", self.run)
    }

    /// All of them, the switch's first.
    pub fn namespaces(&self) -> Vec<String> {
        ["sw"].into_iter().chain(self.hosts().into_iter().map(|(host, _)| host)).map(|host| self.netns(host)).collect()
    }

    /// The address of a node inside its network.
    pub fn address(&self, side: Side) -> Ipv4Addr {
        match side {
            Side::A => Ipv4Addr::new(10, 77, 0, 1),
            Side::B => Ipv4Addr::new(10, 77, 0, 2),
        }
    }

    /// The card of a node: stable over a power loss, different in each lab.
    pub fn mac(&self, host: &str) -> [u8; 6] {
        let sum = self.run.bytes().fold(7u16, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        let [high, low] = sum.to_be_bytes();
        // The last letter: the first one of `cloud` is the client's name.
        let letter = host.bytes().last().unwrap_or_default();
        // 02: locally administered.
        [0x02, 0x77, high, low, 0, letter]
    }
}

/// Mounts the lab's BPF file system; each mount of this type is an instance of its own.
///
/// # Errors
/// The kernel refuses.
pub fn mount_bpffs(state: &State) -> Result<()> {
    fs::create_dir_all(state.bpffs())?;
    mount(Some("bpf"), &state.bpffs(), Some("bpf"), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("cannot mount a BPF file system at `{}`", state.bpffs().display()))
}

/// Four letters: short, as names of network namespaces and paths of sockets hold it.
fn random_id() -> Result<String> {
    let mut bytes = [0; 4];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| char::from(b'a' + byte % 26)).collect())
}
