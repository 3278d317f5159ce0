//! What a data centre does without a human: daemons that died are started again, power that was cut comes back.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::trap::Trap;
use crate::lab::fault::Fault;
use crate::lab::{Lab, Side, clock};

/// As the unit says.
const RESTART: Duration = Duration::from_secs(1);
/// Without power for so long: longer than any takeover.
const POWER_CUT: Duration = Duration::from_secs(2);
/// Between two looks for a node that wants its power cut.
const LOOK: Duration = Duration::from_millis(1);
/// Between two looks for dead daemons, each of which reads all of `/proc`.
const LOOK_FOR_DAEMONS: Duration = Duration::from_millis(50);

/// Looks after both nodes in a thread of its own.
pub struct Keeper<'a> {
    lab: &'a Lab,
    /// Nodes without power, which nobody starts anything on.
    off: Mutex<[bool; 2]>,
    /// When somebody came to the armed point, CLOCK_MONOTONIC; 0: nobody yet.
    fired_ns: AtomicU64,
    /// The power was cut for it.
    has_cut: AtomicBool,
    ended: AtomicBool,
}

impl<'a> Keeper<'a> {
    /// Both have power.
    pub fn new(lab: &'a Lab) -> Self {
        let (fired_ns, has_cut, ended) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
        Self { lab, off: Mutex::default(), fired_ns, has_cut, ended }
    }

    /// [`Self::work`] ends.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// When somebody came to the armed point, if somebody did.
    pub fn fired_ns(&self) -> Option<u64> {
        Some(self.fired_ns.load(Ordering::Relaxed)).filter(|at| *at != 0)
    }

    /// Whether the node that came to its point has lost its power for it.
    pub fn has_cut(&self) -> bool {
        self.has_cut.load(Ordering::Relaxed)
    }

    /// Whether both nodes have power.
    pub fn all_on(&self) -> bool {
        *self.lock() == [false; 2]
    }

    /// A node loses its power.
    ///
    /// # Errors
    /// The lab cannot cut it.
    pub fn cut(&self, side: Side) -> Result<()> {
        let mut off = self.lock();
        off[side as usize] = true;
        self.lab.inject(Fault::Node, side).map(drop)
    }

    /// A node gets its power back; its daemon starts armed, or not.
    ///
    /// # Errors
    /// The daemon does not start.
    pub fn power_on(&self, side: Side, trap: Option<&Trap>) -> Result<()> {
        let mut off = self.lock();
        off[side as usize] = false;
        self.lab.undo(Fault::Link, side)?;
        self.lab.node(side).start_daemon_with(&trap.map(Trap::environment).unwrap_or_default())
    }

    /// The daemon dies and starts again at once, armed.
    ///
    /// # Errors
    /// There is none, or it does not start.
    pub fn arm(&self, trap: &Trap) -> Result<()> {
        let _nobody_else_starts_it = self.lock();
        let node = self.lab.node(trap.side);
        let daemons = node.daemons();
        self.lab.inject(Fault::Daemon, trap.side)?;
        // Until it is reaped: some of its threads may live longer than others, and hold its lock.
        self.lab.wait("the killed daemon is gone", Duration::from_secs(5), || {
            let there = daemons.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists());
            ensure!(!there, "it is there");
            Ok(())
        })?;
        node.start_daemon_with(&trap.environment())
    }

    /// Until [`Self::end`].
    pub fn work(&self, trap: &Mutex<Option<Trap>>) {
        let mut back_at: Option<(Side, Instant)> = None;
        let mut gone_since: [Option<Instant>; 2] = [None; 2];
        let (mut cut, mut looked) = (false, Instant::now());
        let complain = |what: &str, outcome: Result<()>| {
            if let Err(why) = outcome {
                self.lab.say(&format!("{what}: {why:#}"));
            }
        };
        while !self.ended.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK);
            let mut wants = None;
            if let Some(trap) = trap.lock().expect("no holder panics").as_ref().filter(|trap| trap.fired()) {
                let _first = self.fired_ns.compare_exchange(0, clock::now_ns(), Ordering::Relaxed, Ordering::Relaxed);
                wants = Some(trap.side).filter(|_| trap.cuts_power());
            }
            if let (false, Some(side)) = (cut, wants) {
                cut = true;
                complain("power cut", self.cut(side));
                self.has_cut.store(true, Ordering::Relaxed);
                back_at = Some((side, Instant::now() + POWER_CUT));
            }
            if let Some((side, _)) = back_at.filter(|(_, at)| Instant::now() >= *at) {
                back_at = None;
                complain("power on", self.power_on(side, None));
            }
            if looked.elapsed() < LOOK_FOR_DAEMONS {
                continue;
            }
            looked = Instant::now();
            let off = self.lock();
            for side in Side::BOTH {
                let gone = &mut gone_since[side as usize];
                if off[side as usize] || !self.lab.node(side).daemons().is_empty() {
                    *gone = None;
                } else if gone.get_or_insert(looked).elapsed() >= RESTART {
                    *gone = None;
                    complain("restart", self.lab.node(side).start_daemon());
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, [bool; 2]> {
        self.off.lock().expect("no holder panics")
    }
}
