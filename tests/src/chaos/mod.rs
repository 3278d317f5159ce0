//! Random faults together, on the real thing, judged from outside.
//!
//! A seed makes the plan of each round ([`plan`]): one to three faults, on either node, healed after a random time.
//! Clients on all three hosts write and read meanwhile ([`client`], [`crowd`]), observers ask who serves
//! ([`crate::lab::observer`]). After the healing the cluster must come back without a human, and then what the
//! clients were told is held against what is there ([`mod@judge`]). The clients know nothing of the faults, the judge
//! nothing of the daemon but whether it says that it is well.

pub mod client;
pub mod crowd;
pub mod judge;
pub mod plan;
pub mod report;

use std::collections::HashSet;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::json;

use crate::lab::fault::Fault;
use crate::lab::host::Place;
use crate::lab::node::Status;
use crate::lab::observer::Observers;
use crate::lab::witness::Witness;
use crate::lab::{Isolated, Lab, Side, clock, node, state};
use crowd::Crowd;
use judge::Judge;
use plan::{Deed, Planned};
use report::Round;

/// From the healing to one primary with a synchronous standby and clients that are served.
const HEALTHY_LIMIT: Duration = Duration::from_secs(60);
/// Tries to count while the primary changes.
const COUNTS: u32 = 3;
/// For each client to have something acknowledged while all is well.
const CALM_LIMIT: Duration = Duration::from_secs(30);

/// A lab with its clients and its observers.
pub struct Chaos<'a> {
    lab: &'a Lab,
    seed: u64,
    crowd: Crowd,
    observers: Observers,
    judge: Judge,
    /// Nodes without power at the moment.
    off: HashSet<Side>,
}

impl<'a> Chaos<'a> {
    /// Makes the tables and starts everybody.
    ///
    /// # Errors
    /// The lab does not serve.
    pub fn new(lab: &'a Lab, seed: u64) -> Result<Self> {
        let primary = lab.node(lab.primary()?).postgres();
        for statement in client::tables() {
            primary.sql(&statement)?;
        }
        let (crowd, observers) = (Crowd::start(lab)?, Observers::start(lab)?);
        Ok(Self { lab, seed, crowd, observers, judge: Judge::default(), off: HashSet::new() })
    }

    /// Runs a round; what goes wrong with the cluster is in the round.
    ///
    /// # Errors
    /// The lab itself failed.
    pub fn round(&mut self, number: u32) -> Result<Round> {
        let begun = clock::now_ns();
        let options = &self.lab.state().options;
        let witness = options.witness != Witness::None;
        let may_be_two = options.isolated == Isolated::Serve && !witness;
        let mut round = Round { number, may_be_two, ..Round::default() };
        self.wait_clients(begun).context("before the first fault")?;
        let serves = self.lab.primary().context("before the first fault")?;
        round.primary = Some(serves);
        let mut plan = plan::round(self.seed, number, witness);
        plan.iter_mut().for_each(|it| it.deed = it.deed.as_if(serves));
        let names: Vec<String> = plan.iter().map(|it| it.deed.to_string()).collect();
        self.lab.say(&format!("round {number}: {}; {serves} serves", names.join(" + ")));
        let from_ns = clock::now_ns();
        self.act(&plan, from_ns, &mut round)?;
        self.lab.heal()?;
        self.off.clear();
        self.revive()?;
        let healed_ns = clock::now_ns();
        let primary = self.wait_healthy(healed_ns, &mut round);
        let healthy_ns = clock::now_ns();
        round.healthy_ns = primary.is_ok().then_some(healthy_ns - healed_ns);
        if let Err(why) = primary.and_then(|primary| self.count(begun, primary, &mut round)) {
            round.problems.push(format!("{why:#}"));
        }
        let told = self.crowd.told();
        round.acked = told.iter().filter(|it| it.sent_ns >= begun && crowd::is_ack(it)).count();
        (round.first_write_ns, round.dark_ns) = judge::service(&told, from_ns, healthy_ns);
        round.violations = self.observers.violations(begun);
        round.span_ns = (begun, clock::now_ns());
        Ok(round)
    }

    /// Compares what was acknowledged with what is there. A takeover in between ends the connection that counts, and
    /// proves nothing: whoever serves then is asked.
    fn count(&mut self, begun: u64, mut primary: Side, round: &mut Round) -> Result<()> {
        for _ in 0..COUNTS {
            match self.judge.judge(&self.crowd.told(), begun, self.lab.node(primary).postgres()) {
                Ok(found) => {
                    round.findings = found;
                    return Ok(());
                }
                Err(why) => round.notes.push(format!("counting on {primary}: {why:#}")),
            }
            primary = self.wait_healthy(clock::now_ns(), round)?;
        }
        bail!("lost writes not counted: {}", round.notes.last().map_or("", String::as_str))
    }

    /// Does and undoes what is planned, each at its time.
    fn act(&mut self, plan: &[Planned], from_ns: u64, round: &mut Round) -> Result<()> {
        let mut steps: Vec<(u64, bool, &Planned)> =
            plan.iter().flat_map(|it| [(it.begin_ms, true, it), (it.end_ms, false, it)]).collect();
        steps.sort_by_key(|(at_ms, begins, _)| (*at_ms, *begins));
        let mut handing_over: Option<Child> = None;
        let mut met_nothing: Vec<Deed> = Vec::new();
        for (at_ms, begins, planned) in steps {
            let at_ns = from_ns + at_ms * 1_000_000;
            std::thread::sleep(Duration::from_nanos(at_ns.saturating_sub(clock::now_ns())));
            let deed = planned.deed;
            match (deed, begins) {
                (Deed::Break(fault, side), true) => {
                    let held = report::seconds((planned.end_ms - planned.begin_ms) * 1_000_000);
                    round.deeds.push(format!("{deed} {held}"));
                    match self.lab.inject(fault, side) {
                        Ok(_) if fault == Fault::Node => {
                            self.off.insert(side);
                        }
                        Ok(_) => {}
                        // Another fault was here first.
                        Err(why) => {
                            round.notes.push(format!("{deed}: {why:#}"));
                            met_nothing.push(deed);
                        }
                    }
                }
                (Deed::Break(fault, side), false) if !met_nothing.contains(&deed) => {
                    self.undo(fault, side).with_context(|| format!("undoing {deed}"))?;
                }
                (Deed::Switchover, true) => {
                    round.deeds.push(deed.to_string());
                    match self.switchover() {
                        Ok(child) => handing_over = Some(child),
                        Err(why) => round.notes.push(format!("{deed}: {why:#}")),
                    }
                }
                _ => {}
            }
        }
        if let Some(mut child) = handing_over {
            // It waits for up to two minutes for what may not come any more.
            let _ = child.kill();
            child.wait()?;
        }
        Ok(())
    }

    fn undo(&mut self, fault: Fault, side: Side) -> Result<()> {
        // What restarts a daemon or mends a cable does not give power back to its node.
        if matches!(fault, Fault::Daemon | Fault::Graceful | Fault::Link) && self.off.contains(&side) {
            return Ok(());
        }
        self.lab.undo(fault, side)?;
        if fault == Fault::Node {
            self.off.remove(&side);
            self.revive()?;
        }
        Ok(())
    }

    /// `harbor-ha switchover` on the primary.
    fn switchover(&self) -> Result<Child> {
        let node = self.lab.node(self.lab.primary()?);
        let mut command = node.place().command(node::daemon_program()?)?;
        command.arg("switchover").arg("--config").arg(node.config());
        Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }

    /// Clients and observers on every node that has power.
    fn revive(&mut self) -> Result<()> {
        let dark: Vec<String> = self.off.iter().map(|side| self.lab.node(*side).netns()).collect();
        let has_power = |place: &Place| !dark.contains(&place.netns);
        self.crowd.revive(has_power)?;
        self.observers.revive(has_power)
    }

    fn wait_clients(&self, since_ns: u64) -> Result<()> {
        self.lab.wait("every client has a write acknowledged", CALM_LIMIT, || {
            let silent = self.crowd.silent_since(since_ns);
            ensure!(silent.is_empty(), "not yet: {}", silent.join(", "));
            Ok(())
        })
    }

    /// One primary whose standby streams and is synchronous, and every client has had something acknowledged since the
    /// healing: a status alone may be a moment old. Daemons that end are started again, as the unit says.
    fn wait_healthy(&self, healed_ns: u64, round: &mut Round) -> Result<Side> {
        let mut healthy = None;
        self.lab.wait("one primary, one synchronous standby, all clients served", HEALTHY_LIMIT, || {
            for side in Side::BOTH.into_iter().filter(|side| self.lab.node(*side).daemons().is_empty()) {
                round.notes.push(format!("the daemon on {side} had ended, started again"));
                // As text: one that ends again is no reason to give up before the limit.
                self.lab.node(side).start_daemon().map_err(|why| anyhow!("{why:#}"))?;
            }
            let (a, b) = (self.lab.node(Side::A).status()?, self.lab.node(Side::B).status()?);
            let well = |one: &Status, two: &Status| one.is_primary() && one.peer_streams() && two.is_standby();
            healthy = match (well(&a, &b), well(&b, &a)) {
                (true, false) => Some(Side::A),
                (false, true) => Some(Side::B),
                _ => bail!("a: {}; b: {}", a.summary(), b.summary()),
            };
            let silent = self.crowd.silent_since(healed_ns);
            ensure!(silent.is_empty(), "not served yet: {}", silent.join(", "));
            Ok(())
        })?;
        healthy.context("nobody is primary")
    }

    /// Writes what the clients and the observers saw beside the logs.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn keep(&self, rounds: &[Round]) -> Result<()> {
        let folder = state::root().join("target/lab-logs").join(self.lab.run());
        std::fs::create_dir_all(&folder)?;
        let two: Vec<_> = rounds.iter().flat_map(|round| &round.violations.two_servers).collect();
        let failed: Vec<_> = rounds.iter().filter(|it| !it.complaints().is_empty()).map(|it| it.span_ns).collect();
        // Hours of what went well would be gigabytes. After the last judged round: of one that broke off.
        let judged_ns = rounds.last().map_or(0, |round| round.span_ns.1);
        let wanted = |at_ns: u64| at_ns > judged_ns || failed.iter().any(|(from, to)| (*from..=*to).contains(&at_ns));
        let mut answers = self.observers.answers();
        answers.retain(|it| wanted(it.received_ns));
        let mut told = self.crowd.told();
        told.retain(|it| wanted(it.received_ns));
        let lost: Vec<_> = rounds.iter().map(|it| (&it.findings.rows, &it.findings.transfers)).collect();
        let seen = json!({
            "rounds": report::json(self.seed, rounds), "two_servers": two, "lost": lost,
            "answers": answers, "told": told,
        });
        std::fs::write(folder.join("chaos.json"), serde_json::to_vec(&seen)?)?;
        Ok(())
    }
}

/// Runs rounds `first` to `first + count - 1`; stops at the first after which the cluster is not well.
///
/// # Errors
/// A round could not be run at all, or went wrong: says how to run it again.
pub fn rounds(lab: &Lab, seed: u64, first: u32, count: u32, mut show: impl FnMut(&Round)) -> Result<Vec<Round>> {
    let mut chaos = Chaos::new(lab, seed)?;
    let mut done: Vec<Round> = Vec::new();
    for number in first..first + count {
        let round = chaos.round(number).with_context(|| format!("round {number}"));
        if round.is_err() {
            chaos.keep(&done)?;
        }
        let round = round?;
        show(&round);
        let well = round.problems.is_empty();
        done.push(round);
        if !well {
            break;
        }
    }
    if done.iter().any(|round| !round.complaints().is_empty()) {
        chaos.keep(&done)?;
    }
    Ok(done)
}

/// Insists that all rounds ended well.
///
/// # Errors
/// Says which did not, and how.
pub fn judge(rounds: &[Round]) -> Result<()> {
    let complaints: Vec<String> = rounds.iter().flat_map(Round::complaints).collect();
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    Ok(())
}
