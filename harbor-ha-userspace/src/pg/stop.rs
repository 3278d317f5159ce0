//! Ending a server: politely, less politely, and for certain.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::fault;

use super::Pg;

/// An immediate shutdown writes nothing; one that takes longer than this hangs.
const IMMEDIATE_LIMIT: Duration = Duration::from_secs(1);
/// A killed process that is still there after this long is stuck in the kernel, on a dead disk most likely.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks at `/proc`: dying takes about this long, and a look costs less than a millisecond.
const KILL_LOOK: Duration = Duration::from_micros(200);

/// How to begin; each way goes on to the next one when it does not end the server in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopMode {
    /// SIGINT: sessions end, a shutdown checkpoint is written and shipped. At most `stop_timeout`.
    Fast,
    /// SIGQUIT: children die, the next start recovers. At most one second.
    Immediate,
    /// SIGKILL to every process.
    Kill,
}

/// What ended the server.
#[derive(Clone, Debug)]
#[must_use = "a server that could not be ended may still commit"]
pub struct Stopped {
    /// The way that did it; `None` when no server ran.
    pub by: Option<StopMode>,
    /// From the first signal on.
    pub took: Duration,
    /// What had to be killed.
    pub killed: Killed,
}

/// What a sweep of the processes found.
#[derive(Clone, Debug, Default)]
#[must_use = "a process that is left may still commit"]
pub struct Killed {
    /// How many were killed.
    pub processes: usize,
    /// Killed, and still there: stuck in the kernel. Empty means that nobody can write any more.
    pub left: Vec<i32>,
    /// How long it took.
    pub took: Duration,
}

impl Pg {
    /// Stops the server, beginning with `mode`.
    pub async fn stop(&self, mode: StopMode) -> Stopped {
        let begun = Instant::now();
        fault::point("stop.begin");
        let Some(postmaster) = self.running() else {
            // Children that outlived their postmaster do not stop by themselves.
            let killed = self.kill_all_apart().await;
            let by = (killed.processes > 0).then_some(StopMode::Kill);
            return Stopped { by, took: begun.elapsed(), killed };
        };
        let polite = [
            (StopMode::Fast, Signal::SIGINT, self.settings().stop_timeout),
            (StopMode::Immediate, Signal::SIGQUIT, IMMEDIATE_LIMIT),
        ];
        let mut by = StopMode::Kill;
        for (step, signal, limit) in polite {
            if step < mode {
                continue;
            }
            postmaster.signal(signal);
            fault::point("stop.signalled");
            if matches!(tokio::time::timeout(limit, postmaster.exited()).await, Ok(Ok(()))) {
                by = step;
                break;
            }
            tracing::warn!(pid = postmaster.pid(), ?step, ?limit, "PostgreSQL did not stop in time");
        }
        // Also after a polite end: nothing there is then the proof.
        let killed = self.kill_all_apart().await;
        fault::point("stop.done");
        Stopped { by: Some(by), took: begun.elapsed(), killed }
    }

    /// Kills the postmaster and every other postgres of the data directory, until none is left.
    ///
    /// Blocks for as long as that takes: some milliseconds, or five seconds with a process stuck in the kernel.
    pub fn kill_all(&self) -> Killed {
        let begun = Instant::now();
        if let Some(postmaster) = self.running() {
            postmaster.signal(Signal::SIGSTOP); // so that it forks nothing while we look
        }
        let mut killed = BTreeSet::new();
        loop {
            let found = self.servers();
            for process in &found {
                process.signal(Signal::SIGKILL);
                killed.insert(process.pid());
            }
            if found.is_empty() || begun.elapsed() > KILL_LIMIT {
                let left = found.iter().map(|process| process.pid()).collect();
                return Killed { processes: killed.len(), left, took: begun.elapsed() };
            }
            thread::sleep(KILL_LOOK);
        }
    }

    async fn kill_all_apart(&self) -> Killed {
        let pg = self.clone();
        match tokio::task::spawn_blocking(move || pg.kill_all()).await {
            Ok(killed) => killed,
            Err(_) => self.kill_all(), // the runtime is going down: do it here
        }
    }
}
