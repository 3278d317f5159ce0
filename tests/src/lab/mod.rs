//! Hosts made of network namespaces on one machine: a switch, two nodes with PostgreSQL 13, a client.
//!
//! Everything a lab makes carries its run id and stands in `target/lab/<run>/state.json` before it exists,
//! so that whoever comes later can take it down from the disk alone: `Drop`, an interrupt ([`interrupt`]),
//! or the next start after the owner was killed ([`teardown::clean_orphans`]). Two labs never share a thing.
//!
//! | file | what |
//! | --- | --- |
//! | [`state`] | what stands on the disk about a lab; run ids, owners, folders |
//! | [`netns`], [`link`], [`host`] | namespaces and what runs in them; switch, ports, partition; a host, and its `init` |
//! | [`node`], [`config`], [`postgres`] | a node and its daemon; the daemon's configuration; its PostgreSQL |
//! | [`pass`] | what a cable of this kind needs for native XDP |
//! | [`cgroup`] | everything that runs on a node is in a cgroup of its own |
//! | [`witness`] | the third party: a real etcd or Redis |
//! | [`cloud`] | the double of Alibaba Cloud, which hears who announces the address |
//! | [`keepalived`], [`dropin`] | somebody else's daemon on a node; ours on the same file |
//! | [`fault`] | what breaks, and the healing |
//! | [`capture`], [`writer`] | what the client host sees on the wire; the client that writes, or reads |
//! | [`ping`] | whether the address answers at all, each millisecond |
//! | [`speaker`], [`observer`] | a client that is a process of its host; who serves, seen from outside |
//! | [`pool`] | connections that were open before a fault |
//! | [`wire`], [`record`] | adverts and gratuitous ARP, as any host sees them; as a capture |
//! | [`tshark`] | an outside judge of such captures |
//! | [`teardown`], [`residue`], [`interrupt`] | taking down, and the proof that nothing stays |
//! | [`need`] | what a test needs, with a skip that says what is missing |

pub mod capture;
pub mod cgroup;
pub mod clock;
pub mod cloud;
pub mod config;
pub mod dropin;
pub mod fault;
pub mod host;
pub mod interrupt;
pub mod keepalived;
pub mod link;
pub mod need;
pub mod netns;
pub mod node;
pub mod observer;
pub mod pass;
pub mod ping;
pub mod pool;
pub mod postgres;
pub mod record;
pub mod residue;
pub mod speaker;
pub mod state;
pub mod teardown;
pub mod tshark;
pub mod user;
pub mod wire;
pub mod witness;
pub mod writer;

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use node::{Ended, Node, Status};
use state::State;
use witness::Witness;

/// One of the two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The primary of a fresh lab.
    A,
    /// Its standby.
    B,
}

impl Side {
    /// Both, in order.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The other node.
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// `a` or `b`, as on command lines and in names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Side {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::BOTH.into_iter().find(|side| side.name() == text).ok_or_else(|| format!("`{text}` is neither a nor b"))
    }
}

/// How the two daemons are configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// VRRPv3 and pulses.
    Harbor,
    /// The users' keepalived: VRRPv2, adverts each second with a password, no pulses, priorities 100 and 10.
    Seed,
}

/// What a primary does that hears neither its peer nor a witness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Isolated {
    /// It serves nobody: never two, at the price of none.
    #[default]
    Hold,
    /// It serves on, as keepalived's does: never none, at the price of two.
    Serve,
}

impl Isolated {
    /// As in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Serve => "serve",
        }
    }
}

/// What a lab shall be.
#[derive(Clone, Debug, Serialize, Deserialize)]
// A lab that an older build left must be found and taken down by a newer one.
#[serde(default)]
pub struct Options {
    /// How the daemons are configured.
    pub profile: Profile,
    /// Pulse interval, as the configuration writes it.
    pub pulse: String,
    /// Pulses missed until the peer is dead.
    pub threshold: u8,
    /// `false`: network and PostgreSQL only.
    pub daemon: bool,
    /// `auto`, `native` or `generic`.
    pub xdp_mode: String,
    /// The third party.
    pub witness: Witness,
    /// A host with the double of Alibaba Cloud.
    pub cloud: bool,
    /// What a primary does on its own, without one.
    pub isolated: Isolated,
    /// `false`: the daemons do not ask for real-time scheduling.
    pub realtime: bool,
    /// What differs from the daemon's own defaults.
    pub tuned: config::Tuned,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            profile: Profile::Harbor,
            pulse: "10ms".into(),
            threshold: 3,
            daemon: true,
            // The mode that every interface has, and the one that clouds have been seen to leave.
            xdp_mode: "generic".into(),
            witness: Witness::None,
            cloud: false,
            isolated: Isolated::Hold,
            realtime: true,
            tuned: config::Tuned::default(),
        }
    }
}

/// How long both daemons may take until the standby streams and counts as synchronous.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// A lab that is up. Taken down when dropped, unless it was told to stay or merely looked up.
pub struct Lab {
    state: State,
    ours: bool,
}

impl Lab {
    /// Builds a lab and waits until it serves.
    ///
    /// # Errors
    /// The first step that failed; what was built by then is taken down again.
    pub fn up(options: &Options) -> Result<Self> {
        need::tools()?;
        interrupt::install()?;
        teardown::clean_orphans();
        let lab = Self { state: State::create(options)?, ours: true };
        let built = lab.build();
        if built.is_err() {
            lab.keep_logs();
        }
        built.map(|()| lab)
    }

    /// Builds the hosts and their cables, in which nothing runs yet.
    ///
    /// # Errors
    /// As [`Lab::up`].
    pub fn network(options: &Options) -> Result<Self> {
        need::tools()?;
        interrupt::install()?;
        teardown::clean_orphans();
        let lab = Self { state: State::create(options)?, ours: true };
        lab.say("switch, nodes a and b, client c");
        lab.build_network().map(|()| lab)
    }

    /// The living lab with this run id, or the newest one.
    ///
    /// # Errors
    /// There is none.
    pub fn find(run: Option<&str>) -> Result<Self> {
        let state = match run {
            Some(run) => State::load(run).with_context(|| format!("no lab `{run}`"))?,
            // One that somebody left up for a look, before one that a run or a test works with.
            None => {
                let mut all = State::all();
                let left = all.iter().rposition(|state| state.owner.is_none());
                let newest = all.len().checked_sub(1).context("no lab is up: cargo xtask lab up")?;
                all.swap_remove(left.unwrap_or(newest))
            }
        };
        Ok(Self { state, ours: false })
    }

    /// What stands on the disk about it.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The run id.
    pub fn run(&self) -> &str {
        &self.state.run
    }

    /// One of its nodes.
    pub fn node(&self, side: Side) -> Node<'_> {
        Node::new(&self.state, side)
    }

    /// From now on nobody owns it: it stays until somebody says `down`.
    ///
    /// # Errors
    /// `state.json` cannot be written.
    pub fn leave(mut self) -> Result<String> {
        self.state.owner = None;
        self.state.save()?;
        self.ours = false;
        Ok(self.state.run.clone())
    }

    fn build(&self) -> Result<()> {
        self.say("switch, nodes a and b, client c");
        self.build_network()?;
        for side in Side::BOTH {
            self.node(side).prepare()?;
        }
        self.say("PostgreSQL on a: primary");
        self.node(Side::A).postgres().create_primary()?;
        self.say("PostgreSQL on b: base backup, standby with a slot");
        self.node(Side::B).postgres().create_standby(&self.node(Side::A))?;
        self.wait("the standby streams", READY_LIMIT, || self.node(Side::A).postgres().streams_to_standby())?;
        if self.state.options.witness != Witness::None {
            self.say(&format!("witness on w: {}", self.state.options.witness.name()));
            self.start_witness()?;
        }
        self.start_cloud()?;
        if self.state.options.daemon {
            self.say("daemon on a: takes the address");
            self.node(Side::A).start_daemon()?;
            // One after the other: two that start at once may well elect b, and that is not what a fresh lab is.
            self.wait("a serves", READY_LIMIT, || match self.node(Side::A).living_status()? {
                status if status.is_primary() => Ok(()),
                status => bail!("{}", status.summary()),
            })?;
            self.say("daemon on b: stands by");
            self.node(Side::B).start_daemon()?;
            self.wait_serving(Side::A, READY_LIMIT)?;
        }
        Ok(())
    }

    fn build_network(&self) -> Result<()> {
        cgroup::make(&self.state.run)?;
        link::build(&self.state)?;
        state::mount_bpffs(&self.state)?;
        if self.state.options.xdp_mode == "generic" { Ok(()) } else { pass::attach(&self.state) }
    }

    /// The node that serves.
    ///
    /// # Errors
    /// None does.
    pub fn primary(&self) -> Result<Side> {
        let serving = Side::BOTH.into_iter().filter(|side| {
            let node = self.node(*side);
            match self.state.options.daemon {
                true => node.status().is_ok_and(|status| status.is_primary()),
                false => node.postgres().in_recovery().is_ok_and(|standby| !standby),
            }
        });
        // Two in a partition: the one that was promoted last is where clients are sent.
        serving.max_by_key(|side| self.node(*side).postgres().timeline()).context("no node is primary")
    }

    /// Waits until `primary` serves and the other node is its synchronous standby.
    ///
    /// # Errors
    /// Not within the limit: says how far it came.
    pub fn wait_serving(&self, primary: Side, limit: Duration) -> Result<()> {
        let what = format!("{primary} serves, {} streams and is synchronous", primary.other());
        // Nobody is synchronous where commits wait for nobody.
        let any = self.state.options.tuned.sync.as_deref() == Some("off");
        self.wait(&what, limit, || {
            let (one, two) = (self.node(primary).living_status()?, self.node(primary.other()).living_status()?);
            if one.is_primary()
                && (one.peer_streams() || any && one.is("/postgres/facts/streaming"))
                && two.is_standby()
            {
                return Ok(());
            }
            bail!("{primary}: {}; {}: {}", one.summary(), primary.other(), two.summary())
        })
    }

    /// Asks again and again until the answer is `Ok`, and shows now and then what it was until then.
    ///
    /// # Errors
    /// The last answer, after the limit, or at once when it was [`Ended`].
    pub fn wait(&self, what: &str, limit: Duration, mut ask: impl FnMut() -> Result<()>) -> Result<()> {
        let (begun, mut shown) = (Instant::now(), Duration::ZERO);
        loop {
            let Err(answer) = ask() else { return Ok(()) };
            let waited = begun.elapsed();
            if waited > limit || answer.is::<Ended>() {
                return Err(answer).with_context(|| format!("after {:.0} s still not: {what}", waited.as_secs_f64()));
            }
            // Each second at first, then less often: a long wait is not told line by line.
            if waited > shown + Duration::from_secs(1).max(shown / 2) {
                shown = waited;
                self.say(&format!("waiting {:.0} s until {what}: {answer:#}", waited.as_secs_f64()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// One line of progress.
    pub fn say(&self, what: &str) {
        eprintln!("lab {}: {what}", self.state.run);
    }

    /// What the daemon of a node says, when it says something.
    pub fn status(&self, side: Side) -> Option<Status> {
        self.node(side).status().ok()
    }

    /// Saves the logs from the teardown and prints their ends.
    pub fn keep_logs(&self) {
        let folder = state::root().join("target/lab-logs").join(&self.state.run);
        for side in Side::BOTH {
            let node = self.node(side);
            let [first, later] = node.postgres().logs();
            for (name, log) in [("daemon", node.daemon_log()), ("postgres", first), ("postgres-later", later)] {
                let Ok(text) = std::fs::read(&log) else { continue };
                let text = String::from_utf8_lossy(&text);
                let lines: Vec<&str> = text.lines().collect();
                eprintln!("--- the end of {name} on {side}");
                lines.iter().skip(lines.len().saturating_sub(30)).for_each(|line| eprintln!("{line}"));
                let copy = folder.join(format!("{side}-{name}.log"));
                let _ = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(copy, text.as_bytes()));
            }
        }
        let _ = std::fs::copy(self.witness_log(), folder.join("witness.log"));
        let _ = std::fs::copy(self.cloud_log(), folder.join("cloud.log"));
        eprintln!("--- whole logs: {}", folder.display());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.ours {
            return;
        }
        self.say("taking it down");
        teardown::down(&self.state);
        for left in residue::of(&self.state.run) {
            eprintln!("lab {}: LEFT BEHIND: {left}", self.state.run);
        }
    }
}
