//! Watches what an instance's priority may depend on: scripts, processes, files, interfaces.
//!
//! Says facts and nothing else: [`Fact`]s over a channel. How many of them make a failure (rise, fall, quorum) and what a
//! failure is worth (weight, FAULT) is decided elsewhere.
//!
//! | watched | how | value | said |
//! | --- | --- | --- | --- |
//! | script | run at its interval, never twice at once | `Ok`, `Failed` | after each run |
//! | process | the kernel's process events | `Number` of them | when it changes |
//! | file | inotify | `Number` in it | when it changes |
//! | interface | netlink | `Ok` up, `Failed` down or not there | when it changes |
//!
//! Everything but scripts is said once at the start, too.

pub mod file;
pub mod interface;
pub mod process;
pub mod script;

mod connector;

#[cfg(test)]
mod tests;

use harbor_ha_ebpf::units::Nanos;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::clock;

pub use file::File;
pub use interface::Interface;
pub use process::{Match, Process};
pub use script::Script;

/// Which tracker a fact is about; the number is whoever's who starts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackerId(pub u16);

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Well.
    Ok,
    /// Not well.
    Failed,
    /// A count, or what a file holds.
    Number(i64),
}

/// What was seen, of what, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Of what.
    pub tracker: TrackerId,
    /// `CLOCK_MONOTONIC`.
    pub at: Nanos,
    /// What.
    pub value: Value,
}

/// Everything that is watched.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Run at intervals.
    pub scripts: Vec<Script>,
    /// Counted.
    pub processes: Vec<Process>,
    /// Read.
    pub files: Vec<File>,
    /// Up or down.
    pub interfaces: Vec<Interface>,
}

/// The watchers; they end when this is dropped, and a script that runs ends with them.
#[derive(Debug)]
pub struct Watchers(JoinSet<()>);

impl Watchers {
    /// Starts them; to be called inside a runtime. They wait when the channel is full, and end when nobody listens.
    #[must_use]
    pub fn start(settings: Settings, facts: &mpsc::Sender<Fact>) -> Self {
        let Settings { scripts, processes, files, interfaces } = settings;
        let mut watchers = JoinSet::new();
        let count = scripts.len();
        for (index, script) in scripts.into_iter().enumerate() {
            watchers.spawn(script.watch(index, count, facts.clone()));
        }
        if !processes.is_empty() {
            watchers.spawn(process::watch(processes, facts.clone()));
        }
        // A task each: one on a server that does not answer must not keep the others from being read.
        for file in files {
            watchers.spawn(file::watch(file, facts.clone()));
        }
        if !interfaces.is_empty() {
            watchers.spawn(interface::watch(interfaces, facts.clone()));
        }
        Self(watchers)
    }

    /// How many there are; for a test that none has died.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is watched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Nobody listens any more.
struct NobodyListens;

async fn say(facts: &mpsc::Sender<Fact>, tracker: TrackerId, value: Value) -> Result<(), NobodyListens> {
    facts.send(Fact { tracker, at: clock::now(), value }).await.map_err(|_| NobodyListens)
}
