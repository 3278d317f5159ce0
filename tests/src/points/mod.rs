//! A death at each single step of takeover, demotion and rejoin, on the real thing.
//!
//! The daemon has a fault point at each step (`docs/fault-points.md`). For each of them and each kind of death: the
//! daemon concerned is started anew with that point armed ([`trap`]), something makes the nodes go through the step
//! ([`case`]), and nobody helps but a service manager and the mains ([`keeper`]). Then one node must serve, the other
//! one stream synchronously, every acknowledged row be there, and neither term nor timeline be less than before.
//!
//! One lab for the whole sweep; a case that goes wrong keeps its logs, and the next one gets another lab.

pub mod case;
pub mod keeper;
pub mod report;
mod scenario;
pub mod trap;

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::lab::capture::Capture;
use crate::lab::node::Status;
use crate::lab::writer::Writer;
use crate::lab::{Lab, Options, Side, clock};
use case::{Case, Kind, Role};
use keeper::Keeper;
use report::Outcome;
use trap::Trap;

/// From the death to one primary with a synchronous standby and a client that is served.
const HEALTHY_LIMIT: Duration = Duration::from_secs(60);
/// From SIGKILL to a process that is reaped.
const DEATH_LIMIT: Duration = Duration::from_secs(10);
/// For a scenario to come to the point.
const REACH_LIMIT: Duration = Duration::from_secs(30);
/// All is well for so long, and nobody came to the point: nobody will.
const CALM: Duration = Duration::from_secs(4);
/// A restart of the primary's daemon may cost it its role on a busy machine: then the other one is armed.
const ARM_TRIES: usize = 3;

/// A lab with its client.
struct Bench {
    // Before the lab, which they watch.
    writer: Writer,
    _capture: Capture,
    missing: HashSet<i64>,
    lab: Lab,
}

/// What must not become less.
#[derive(Clone, Copy, Default)]
struct Age {
    term: u64,
    timeline: u32,
}

impl Bench {
    fn up(options: &Options) -> Result<Self> {
        let lab = Lab::up(options)?;
        let capture = Capture::start(&lab)?;
        let writer = Writer::start(&lab, &capture)?;
        Ok(Self { writer, _capture: capture, missing: HashSet::new(), lab })
    }

    /// What goes wrong with the cluster is in the outcome.
    fn run(&mut self, number: u32, case: Case, kind: Kind) -> Outcome {
        self.writer.begin_round(number);
        self.lab.say(&format!("{number}: {} dies at {case}", kind.name()));
        let mut outcome = Outcome::new(number, case, kind);
        let trap = Mutex::new(None);
        let keeper = Keeper::new(&self.lab);
        let gone = std::thread::scope(|scope| {
            scope.spawn(|| keeper.work(&trap));
            let gone = self.go(&keeper, &trap, &mut outcome);
            keeper.end();
            gone
        });
        if let Err(why) = gone.and_then(|()| self.count(&mut outcome)) {
            outcome.problems.push(format!("{why:#}"));
        }
        outcome
    }

    fn go(&self, keeper: &Keeper<'_>, held: &Mutex<Option<Trap>>, outcome: &mut Outcome) -> Result<()> {
        let Outcome { number, case, kind, .. } = *outcome;
        let hold = |trap: Trap| *held.lock().expect("no holder panics") = Some(trap);
        let with = |ask: &dyn Fn(&Trap) -> bool| held.lock().expect("no holder panics").as_ref().is_some_and(ask);
        let mut primary = self.wait_ready(keeper).context("before anything was done")?;
        let meant = |primary: Side| if case.role == Role::Primary { primary } else { primary.other() };
        let lay = |side, at| Trap::lay(&self.lab, &format!("{number}-{at}"), case.point, kind, side);
        if case.scenario.arms_at_power_on(case.role) {
            hold(lay(meant(primary), 0)?);
        } else {
            let mut armed = None;
            for at in 0..ARM_TRIES {
                let trap = lay(meant(primary), at)?;
                keeper.arm(&trap)?;
                primary = self.wait_ready(keeper).context("after the daemon's restart, armed")?;
                if trap.side == meant(primary) {
                    armed = Some(trap);
                    break;
                }
            }
            hold(armed.context("each restart of a daemon moved the service")?);
        }
        let before = self.age(primary)?;
        let begun_ns = clock::now_ns();
        if let Some(trap) = &*held.lock().expect("no holder panics") {
            trap.open()?;
        }
        let caused = scenario::cause(self, keeper, held, case, primary);
        // Whoever looks at a node that is about to lose its power finds it well.
        let fired = || with(&Trap::fired) && (kind != Kind::Node || keeper.has_cut());
        let reached = caused.and_then(|()| self.wait_reached(keeper, begun_ns, &fired));
        outcome.reached = matches!(reached, Ok(true));
        let healthy = reached.and_then(|reached| {
            if reached {
                // Before, all may look well because nothing has happened yet.
                self.lab.wait("what was to die is gone", DEATH_LIMIT, || {
                    held.lock().expect("no holder panics").as_ref().map_or(Ok(()), Trap::ensure_gone)
                })?;
            }
            self.wait_healthy(keeper, clock::now_ns())
        });
        if let Some(trap) = &*held.lock().expect("no holder panics") {
            outcome.victim = if outcome.reached { trap.victim() } else { String::new() };
            trap.shut()?;
        }
        let now = healthy?;
        outcome.recovered_ns = keeper.fired_ns().filter(|_| outcome.reached).map(|at| clock::now_ns() - at);
        outcome.moved = now != primary;
        let after = self.age(now)?;
        let grew = if outcome.moved { after.timeline > before.timeline } else { after.timeline >= before.timeline };
        ensure!(grew, "the timeline was {} and is {}", before.timeline, after.timeline);
        ensure!(after.term >= before.term, "the term was {} and is {}", before.term, after.term);
        Ok(())
    }

    /// Until somebody came to the point, or all has been well for a while without.
    fn wait_reached(&self, keeper: &Keeper<'_>, begun_ns: u64, fired: &dyn Fn() -> bool) -> Result<bool> {
        let mut calm_since: Option<u64> = None;
        loop {
            let now = clock::now_ns();
            if fired() {
                return Ok(true);
            }
            if self.healthy(keeper).is_err() {
                calm_since = None;
            } else if now - *calm_since.get_or_insert(now) > CALM.as_nanos() as u64 {
                return Ok(false);
            }
            if now - begun_ns > REACH_LIMIT.as_nanos() as u64 + CALM.as_nanos() as u64 {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// One primary whose standby streams and is synchronous, on one timeline.
    fn healthy(&self, keeper: &Keeper<'_>) -> Result<Side> {
        ensure!(keeper.all_on(), "a node is without power");
        let (a, b) = (self.lab.node(Side::A).status()?, self.lab.node(Side::B).status()?);
        let well = |one: &Status, two: &Status| one.is_primary() && one.peer_streams() && two.is_standby();
        match (well(&a, &b), well(&b, &a)) {
            (true, false) => Ok(Side::A),
            (false, true) => Ok(Side::B),
            _ => bail!("a: {}; b: {}", a.summary(), b.summary()),
        }
    }

    fn wait_healthy(&self, keeper: &Keeper<'_>, since_ns: u64) -> Result<Side> {
        let mut healthy = None;
        self.lab.wait("one primary, one synchronous standby, the client served", HEALTHY_LIMIT, || {
            let primary = self.healthy(keeper)?;
            let timelines = Side::BOTH.map(|side| self.lab.node(side).postgres().timeline());
            ensure!(timelines[0] == timelines[1], "timelines {timelines:?}");
            let served = self.writer.first_after(since_ns, primary);
            ensure!(served.is_some(), "{primary} acknowledges nothing: {}", self.writer.last_error());
            healthy = Some(primary);
            Ok(())
        })?;
        healthy.context("nobody is primary")
    }

    /// Healthy, and nobody has anything left to do of what was before: a node in the last step of a rejoin is well, and
    /// goes on with that instead of what the next case is about.
    fn wait_ready(&self, keeper: &Keeper<'_>) -> Result<Side> {
        let primary = self.wait_healthy(keeper, clock::now_ns())?;
        self.lab.wait("nobody is at work", HEALTHY_LIMIT, || {
            for side in Side::BOTH {
                let status = self.lab.node(side).status()?;
                let idle = status.text("/operation") == "none" && !status.is("/postgres/facts/rejoin_pending");
                ensure!(idle, "{side}: {}", status.summary());
            }
            Ok(())
        })?;
        Ok(primary)
    }

    fn age(&self, primary: Side) -> Result<Age> {
        let node = self.lab.node(primary);
        let status = node.status()?;
        let term = status.number("/lease/serving_term").or(status.number("/terms/mine")).unwrap_or_default();
        Ok(Age { term, timeline: node.postgres().timeline() })
    }

    /// Rows of this case and of the one before it, whose last ones nobody has looked for yet.
    fn count(&mut self, outcome: &mut Outcome) -> Result<()> {
        let first = outcome.number.saturating_sub(1);
        let acks: Vec<_> = self.writer.acks().into_iter().filter(|ack| ack.round >= first).collect();
        let server = self.lab.node(self.lab.primary()?).postgres();
        let there = server.ids(&format!("lab_rows WHERE round >= {first}"))?;
        outcome.acked = acks.len();
        outcome.lost = acks.iter().filter(|ack| !there.contains(&ack.id) && self.missing.insert(ack.id)).count();
        ensure!(outcome.lost == 0, "{} acknowledged rows are lost", outcome.lost);
        Ok(())
    }

    /// All rows of the sweep, once more.
    fn count_all(&self) -> Result<usize> {
        // First: the writer goes on, and what it writes during the question is not in the answer.
        let acks = self.writer.acks();
        let there = self.lab.node(self.lab.primary()?).postgres().rows()?;
        Ok(acks.iter().filter(|ack| !there.contains(&ack.id) && !self.missing.contains(&ack.id)).count())
    }
}

/// Goes through cases; the lab is made anew after one that went wrong.
///
/// # Errors
/// A lab could not be built, or rows were lost that no case misses.
pub fn sweep(options: &Options, todo: &[(Case, Kind)], mut show: impl FnMut(&Outcome)) -> Result<Vec<Outcome>> {
    let mut bench: Option<Bench> = None;
    let mut done = Vec::new();
    for (number, (case, kind)) in (1..).zip(todo) {
        let mut at = match bench.take() {
            Some(bench) => bench,
            None => Bench::up(options)?,
        };
        let mut outcome = at.run(number, *case, *kind);
        if outcome.problems.is_empty() {
            bench = Some(at);
        } else {
            at.lab.keep_logs();
            outcome.logs = format!("target/lab-logs/{}", at.lab.run());
        }
        show(&outcome);
        done.push(outcome);
    }
    if let Some(bench) = bench {
        let lost = bench.count_all()?;
        ensure!(lost == 0, "{lost} acknowledged rows of earlier cases are lost");
    }
    Ok(done)
}

/// Insists that all ended well, and that each point was reached which has no excuse.
///
/// # Errors
/// Says which did not, and how each can be had again.
pub fn judge(outcomes: &[Outcome], again: &str) -> Result<()> {
    let complaints: Vec<String> = outcomes.iter().filter_map(|it| it.complaint(again)).collect();
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    Ok(())
}
