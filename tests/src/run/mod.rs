//! The main job: break the primary while a client writes, and show what the takeover took.

pub mod calm;
pub mod report;

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::lab::capture::Capture;
use crate::lab::fault::Fault;
use crate::lab::node::Status;
use crate::lab::observer::Observers;
use crate::lab::ping::Pings;
use crate::lab::pool::{Figures, Pool};
use crate::lab::state::VIP;
use crate::lab::witness::Witness;
use crate::lab::writer::Writer;
use crate::lab::{Isolated, Lab, Side, clock};
use report::Round;

/// Rows that a round sees acknowledged before its fault, and after its takeover.
const ROWS: usize = 100;
/// In calm a row takes milliseconds; a machine under load may take its time.
const CALM_LIMIT: Duration = Duration::from_secs(30);
/// Three probes of three seconds that a hung PostgreSQL is given, the slow adverts of the seed, and some.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(30);
/// A rewind, or a base backup of a small cluster.
const REJOIN_LIMIT: Duration = Duration::from_secs(60);
/// How long the connections of a pool are given to be replaced: ten times what would be good.
const POOL_LIMIT: Duration = Duration::from_secs(10);
/// How long a fault that shall move nothing is left in force: ten times the detection of the slowest profile.
const ENDURE: Duration = Duration::from_secs(5);
/// The takeover goes on a little after the first write.
const STATUS_LIMIT: Duration = Duration::from_secs(5);

/// A lab with its client, ready for rounds.
pub struct Drill<'a> {
    lab: &'a Lab,
    writer: Writer,
    reader: Writer,
    pings: Pings,
    capture: Capture,
    missing: HashSet<i64>,
    pool: usize,
}

impl<'a> Drill<'a> {
    /// Starts the client; each round also opens a pool of so many connections before its fault, if any.
    ///
    /// # Errors
    /// The client's namespace is not there.
    pub fn new(lab: &'a Lab, pool: usize) -> Result<Self> {
        let capture = Capture::start(lab)?;
        let writer = Writer::start(lab, &capture)?;
        let (reader, pings) = (Writer::start_reading(lab, &capture)?, Pings::start(lab)?);
        Ok(Self { lab, writer, reader, pings, capture, missing: HashSet::new(), pool })
    }

    /// Breaks the primary and follows what happens, to the end of the rejoin or of the patience.
    ///
    /// A takeover that does not come is a finding, not an error: the round says so.
    ///
    /// # Errors
    /// The round could not begin or the lab itself failed.
    pub fn round(&mut self, number: u32, fault: Fault) -> Result<Round> {
        let lab = self.lab;
        let old = lab.primary()?;
        let new = old.other();
        // Before the rows are counted: by then each request of a waiting connection has long been received.
        let pool = if self.pool > 0 { Some(Pool::open(lab, self.pool)?) } else { None };
        // Fresh connections all the time cost time that others want, so only where two may want to serve.
        let observers = if fault == Fault::Partition { Some(Observers::start(lab)?) } else { None };
        self.writer.begin_round(number);
        self.reader.begin_round(number);
        self.wait_rows(number, old).context("before the fault")?;
        let since_ns = clock::now_ns();
        let dark = |side: Side| lab.status(side).and_then(|status| status.number("/gate/dark_ns"));
        let dark_before = dark(old);
        lab.say(&format!("round {number}: {} on {old}", fault.sentence()));
        let fault_ns = lab.inject(fault, old)?;
        let mut round = Round::new(number, fault, old, fault_ns);
        let followed = match fault {
            Fault::Partition if lab.state().options.witness != Witness::None => self.follow_either(&mut round, new),
            _ if fault.moves_the_service() => self.follow(&mut round, new),
            _ => self.endure(&mut round),
        };
        if let Err(error) = followed {
            round.problems.push(format!("{error:#}"));
        }
        let stays = !round.moves;
        if let Some(pool) = pool {
            // Before the healing: a machine that comes back resets what it does not know, a dead one does not.
            let _some_never_do = pool.wait(lab, POOL_LIMIT);
            round.pool = Some(Figures::new(fault_ns, pool.fates()));
        }
        let back = if stays { new } else { old };
        lab.say(&format!("round {number}: healing, {back} shall stream"));
        if let Err(error) = self.rejoin(&mut round, back.other()) {
            round.problems.push(format!("{error:#}"));
        }
        round.gap_ns = self.writer.longest_gap(fault_ns);
        round.read_gap_ns = self.reader.longest_gap(fault_ns);
        round.ping_gap_ns = self.pings.longest_gap(fault_ns);
        if stays {
            // As the kernel of the serving node counts it; a node that changed its role was dark by right.
            round.gate_dark_ns = dark(old).zip(dark_before).map(|(after, before)| after.saturating_sub(before));
        }
        round.read_by = self.reader.served_by(fault_ns);
        if let Some(observers) = observers {
            // `serve` is the setting under which a partition makes two, and says so.
            let found = observers.violations(since_ns);
            let two = lab.state().options.witness == Witness::None && lab.state().options.isolated == Isolated::Serve;
            if !two && (!found.two_servers.is_empty() || found.standby > 0) {
                let (older, standby) = (found.two_servers.len(), found.standby);
                round.problems.push(format!("{older} answers by the older of two servers, {standby} by a standby"));
            }
        }
        if let Err(error) = self.count(&mut round) {
            round.problems.push(format!("lost rows not counted: {error:#}"));
        }
        Ok(round)
    }

    fn wait_rows(&self, round: u32, by: Side) -> Result<()> {
        self.lab.wait(&format!("{ROWS} rows are acknowledged by {by}"), CALM_LIMIT, || {
            let count = self.writer.count(round, by);
            let (said, error) = (self.lab.status(by).map(|status| status.summary()), self.writer.last_error());
            ensure!(count >= ROWS, "{count} so far; {by}: {}; last error: {error}", said.unwrap_or_default());
            Ok(())
        })
    }

    fn follow(&self, round: &mut Round, new: Side) -> Result<()> {
        let (lab, fault_ns) = (self.lab, round.fault_ns);
        lab.wait(&format!("{new} acknowledges a row"), TAKEOVER_LIMIT, || {
            round.first_write_ns = self.writer.first_after(fault_ns, new);
            ensure!(round.first_write_ns.is_some(), "last error: {}", self.writer.last_error());
            Ok(())
        })?;
        lab.wait("the takeover is stamped and announced", STATUS_LIMIT, || {
            round.garp_ns = self.capture.first_after(fault_ns, VIP, lab.state().mac(new.name()));
            round.take_stamps(&lab.node(new).status()?);
            ensure!(round.promoted_ns.is_some(), "no stamps after the fault in the status of {new}");
            ensure!(round.garp_ns.is_some(), "the client host saw no announcement by {new}");
            Ok(())
        })?;
        self.wait_rows(round.number, new).context("after the takeover")
    }

    /// A partition with a witness: one side serves, and which one is the witness's choice. The old primary may go on
    /// with what it can do alone: reads, and writes where they wait for nobody.
    fn follow_either(&self, round: &mut Round, new: Side) -> Result<()> {
        let (lab, old, fault_ns) = (self.lab, round.old, round.fault_ns);
        let decided_ns = fault_ns + ENDURE.as_nanos() as u64;
        lab.wait("one side answers reads", TAKEOVER_LIMIT, || {
            round.moves = self.reader.first_after(fault_ns, new).is_some();
            let stays = self.reader.first_after(decided_ns, old).is_some();
            ensure!(round.moves || stays, "last error: {}", self.reader.last_error());
            Ok(())
        })?;
        if round.moves { self.follow(round, new) } else { Ok(()) }
    }

    /// A fault that shall move nothing: is the primary still the same after a while that any takeover would take?
    fn endure(&self, round: &mut Round) -> Result<()> {
        let (lab, old) = (self.lab, round.old);
        while clock::now_ns() < round.fault_ns + ENDURE.as_nanos() as u64 {
            let taken = lab.status(old.other()).is_some_and(|status| status.is_primary());
            ensure!(!taken, "{} took over, which this fault is no reason for", old.other());
            std::thread::sleep(Duration::from_millis(10));
        }
        round.first_write_ns = self.writer.first_after(round.fault_ns, old);
        Ok(())
    }

    fn rejoin(&self, round: &mut Round, new: Side) -> Result<()> {
        let lab = self.lab;
        lab.heal()?;
        if round.first_write_ns.is_none() && round.moves {
            // Nobody took over: the old primary may serve again, which is no rejoin.
            return lab.wait_serving(lab.primary()?, REJOIN_LIMIT);
        }
        lab.wait_serving(new, REJOIN_LIMIT)?;
        let rejoined_ns = clock::now_ns();
        round.rejoined_ns = Some(rejoined_ns);
        // Writes that waited for the standby are over now, and how long they waited is known only then.
        lab.wait("a row is acknowledged again", REJOIN_LIMIT, || {
            let served = self.writer.first_after(rejoined_ns, new);
            ensure!(served.is_some(), "last error: {}", self.writer.last_error());
            Ok(())
        })
    }

    /// Every row that was ever acknowledged must be at the node that serves now, asked on its own socket.
    fn count(&mut self, round: &mut Round) -> Result<()> {
        let acks = self.writer.acks();
        round.acked = acks.iter().filter(|ack| ack.round == round.number).count();
        let there = self.lab.node(self.lab.primary()?).postgres().rows()?;
        let gone = acks.iter().filter(|ack| !there.contains(&ack.id) && self.missing.insert(ack.id));
        round.lost = Some(gone.count());
        Ok(())
    }
}

impl Round {
    /// Stamps that are older than the fault belong to an earlier takeover.
    fn take_stamps(&mut self, status: &Status) {
        let after = |name: &str| status.number(&format!("/takeover/{name}")).filter(|at| *at >= self.fault_ns);
        let promoted = after("promoted_ns");
        let (verdict, vip) = (after("verdict_ns"), after("vip_ns"));
        (self.verdict_ns, self.promoted_ns, self.vip_ns) = (verdict, promoted, vip);
        self.last_heard_ns = status.number("/takeover/last_heard_ns").filter(|at| *at != 0 && verdict.is_some());
        self.why = status.text("/takeover/why").to_owned();
    }
}

/// Runs rounds one after the other; stops at the first that does not end well, as the next could not begin.
///
/// # Errors
/// A round could not be run at all.
pub fn rounds(lab: &Lab, fault: Fault, count: u32, pool: usize, mut show: impl FnMut(&Round)) -> Result<Vec<Round>> {
    let mut drill = Drill::new(lab, pool)?;
    let mut done = Vec::new();
    for number in 1..=count {
        let round = drill.round(number, fault).with_context(|| format!("round {number}"))?;
        show(&round);
        let rejoined = round.rejoined_ns.is_some();
        done.push(round);
        if !rejoined {
            break;
        }
    }
    Ok(done)
}

/// Insists that rounds ended well.
///
/// # Errors
/// Says which did not, and how.
pub fn judge(rounds: &[Round], wanted: u32) -> Result<()> {
    let faults: Vec<String> = rounds.iter().flat_map(Round::complaints).collect();
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    ensure!(rounds.len() == wanted as usize, "{} of {wanted} rounds were run", rounds.len());
    Ok(())
}
