//! Many instances at fast adverts for minutes: two pairs on networks of their own at the same time, one of harbor-ha and one
//! of keepalived, both on the same `keepalived.conf`. Nothing breaks, so every transition is a false one.

use std::fmt::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{LIMIT, Usage, usage};
use crate::lab::dropin::Dropin;
use crate::lab::keepalived::{Keepalived, State};
use crate::lab::{Lab, Options, Side};

/// Router ids are 1 to 255, and so each instance has one of its own.
pub const INSTANCES_MAX: u8 = 255;
/// Between the election and the first look: gratuitous ARP, and whatever a start costs.
const SETTLE: Duration = Duration::from_secs(15);

/// Whose pair it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ours,
    Theirs,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Ours => "harbor-ha",
            Self::Theirs => "keepalived",
        }
    }
}

/// One pair, master on `a`.
struct Pair {
    kind: Kind,
    lab: Lab,
}

/// What one daemon did in the time.
#[derive(Clone, Debug)]
pub struct Row {
    /// `harbor-ha` or `keepalived`.
    pub daemon: &'static str,
    /// The master's node or the backup's.
    pub side: Side,
    /// Of one core.
    pub cpu_percent: f64,
    /// At the end.
    pub rss_kib: u64,
    /// At the end, with shared pages counted by their share.
    pub pss_kib: u64,
    /// Changes of state of any instance.
    pub transitions: u64,
}

/// Runs both pairs side by side for so long.
///
/// # Errors
/// A daemon did not start, elect or live; not: a false transition.
pub fn measure(instances: u8, advert: Duration, time: Duration) -> Result<Vec<Row>> {
    let network = || Lab::network(&Options { daemon: false, ..Options::default() });
    let pairs = [Pair { kind: Kind::Theirs, lab: network()? }, Pair { kind: Kind::Ours, lab: network()? }];
    for side in Side::BOTH {
        for pair in &pairs {
            pair.start(side, instances, advert)?;
        }
        for pair in &pairs {
            pair.wait_for(side, instances)?;
        }
    }
    sleep(SETTLE);
    let look = |pair: &Pair, side| Ok::<_, anyhow::Error>((usage(&pair.processes(side)?)?, pair.transitions(side)?));
    let all = || pairs.iter().flat_map(|pair| Side::BOTH.map(|side| (pair, side)));
    let before = all().map(|(pair, side)| look(pair, side)).collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    while begun.elapsed() < time {
        sleep(Duration::from_secs(30).min(time.saturating_sub(begun.elapsed())));
        let so_far = all().zip(&before).map(|((pair, side), (_, before))| Ok(pair.transitions(side)? - before));
        let so_far: Vec<u64> = so_far.collect::<Result<_>>()?;
        eprintln!("vrrp load: {:.0} s, transitions so far {so_far:?}", begun.elapsed().as_secs_f64());
    }
    let elapsed = begun.elapsed();
    all()
        .zip(before)
        .map(|((pair, side), (used, changes)): (_, (Usage, u64))| {
            let (now, later) = look(pair, side)?;
            Ok(Row {
                daemon: pair.kind.name(),
                side,
                cpu_percent: (now.cpu_ns.saturating_sub(used.cpu_ns)) as f64 / elapsed.as_nanos() as f64 * 100.0,
                rss_kib: now.rss_kib,
                pss_kib: now.pss_kib,
                transitions: later - changes,
            })
        })
        .collect()
}

impl Pair {
    fn start(&self, side: Side, instances: u8, advert: Duration) -> Result<()> {
        let text = text(&self.lab, side, instances, advert);
        match self.kind {
            Kind::Ours => Dropin::on(self.lab.node(side)).start(&text),
            Kind::Theirs => Keepalived::on(self.lab.node(side)).start_on(&text),
        }
    }

    /// All instances of `a` are masters, those of `b` backups.
    fn wait_for(&self, side: Side, instances: u8) -> Result<()> {
        let wanted = if side == Side::A { State::Master } else { State::Backup };
        self.lab.wait(&format!("all instances of {} on {side} are {wanted:?}", self.kind.name()), LIMIT, || {
            let found = match self.kind {
                Kind::Ours => Dropin::on(self.lab.node(side)).states()?.into_iter().filter(|it| *it == wanted).count(),
                Kind::Theirs => {
                    // A name each, the last word counts; and each has had its first.
                    let states = Keepalived::on(self.lab.node(side)).states();
                    let masters = states.iter().filter(|it| **it == State::Master).count();
                    let backups = states.iter().filter(|it| **it == State::Backup).count();
                    if wanted == State::Master { masters } else { backups.saturating_sub(masters) }
                }
            };
            ensure!(found == usize::from(instances), "{found} of {instances}");
            Ok(())
        })
    }

    fn processes(&self, side: Side) -> Result<Vec<Pid>> {
        let node = self.lab.node(side);
        let found = match self.kind {
            Kind::Ours => Dropin::on(node).process().into_iter().collect(),
            Kind::Theirs => Keepalived::on(node).processes(),
        };
        ensure!(!found.is_empty(), "{} on {side} has ended", self.kind.name());
        Ok(found)
    }

    /// Since the start.
    fn transitions(&self, side: Side) -> Result<u64> {
        let node = self.lab.node(side);
        match self.kind {
            Kind::Theirs => Ok(Keepalived::on(node).states().len() as u64),
            Kind::Ours => {
                let status = Dropin::on(node).status()?;
                let instances = status.0["instances"].as_array().cloned().unwrap_or_default();
                let count = |it: &Value, name: &str| it["counters"][name].as_u64().unwrap_or_default();
                let changes = |it: &Value| count(it, "became_master") + count(it, "released_master");
                Ok(instances.iter().map(changes).sum())
            }
        }
    }
}

/// Unicast, version 3, an address for each, real-time for both daemons.
fn text(lab: &Lab, side: Side, instances: u8, advert: Duration) -> String {
    let (own, peer) = (lab.state().address(side), lab.state().address(side.other()));
    let priority = if side == Side::A { 100 } else { 50 };
    let advert = advert.as_secs_f64();
    // A realtime keepalived is killed by its own default limit as soon as it has much to do.
    let mut text = String::from(
        "global_defs {\n    vrrp_version 3\n    vrrp_rt_priority 50\n    vrrp_rlimit_rttime 500000\n    vrrp_no_swap\n}\n",
    );
    for number in 1..=instances {
        let _fits = write!(
            text,
            "vrrp_instance VI_{number} {{\n    state BACKUP\n    nopreempt\n    interface eth0\n    \
             virtual_router_id {number}\n    priority {priority}\n    advert_int {advert}\n    unicast_src_ip {own}\n    \
             unicast_peer {{\n        {peer}\n    }}\n    virtual_ipaddress {{\n        10.78.0.{number}\n    }}\n}}\n"
        );
    }
    text
}

/// A table for people.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from("daemon      node        CPU % of a core   RSS KiB   PSS KiB   false transitions\n");
    for row in rows {
        let role = if row.side == Side::A { "a, master" } else { "b, backup" };
        let _fits = writeln!(
            text,
            "{:<10}  {role:<10}  {:>15.2}  {:>8}  {:>8}  {:>18}",
            row.daemon, row.cpu_percent, row.rss_kib, row.pss_kib, row.transitions
        );
    }
    text
}

/// The same for programs.
pub fn json(rows: &[Row]) -> Value {
    rows.iter()
        .map(|row| {
            json!({"daemon": row.daemon, "node": row.side, "cpu_percent": row.cpu_percent, "rss_kib": row.rss_kib,
                   "pss_kib": row.pss_kib, "transitions": row.transitions})
        })
        .collect()
}
