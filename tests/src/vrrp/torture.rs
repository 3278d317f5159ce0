//! Takeovers of a backup whose scripts do everything wrong, and of the same one without scripts, in turn.
//!
//! What is compared is the time from the dead master's last advert to the backup's first one (it has decided) and to its
//! gratuitous ARP (the address is up). Everything that
//! runs on the node is in a cgroup, also what has made itself a daemon: it is counted before and after.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{LIMIT, median, reached};
use crate::lab::dropin::Dropin;
use crate::lab::keepalived::State;
use crate::lab::state::VIP;
use crate::lab::wire::{What, Wire};
use crate::lab::{Lab, Options, Side, cgroup};

/// Each notes that it was begun, and then misbehaves.
const SCRIPTS: [(&str, &str); 4] = [
    // Not even a request to end helps.
    ("hang", "trap '' TERM INT HUP\nwhile :; do sleep 1000; done\n"),
    // Children, grandchildren, and some that left the session: all stay when their parent ends.
    ("fork", "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & setsid sh -c 'sleep 1000 & sleep 1000' & done\nexit 0\n"),
    ("megabytes", "head -c 64000000 /dev/zero\nhead -c 64000000 /dev/zero >&2\n"),
    ("signal", "kill -SEGV $$\n"),
];
/// The backup's priority, and the interval of the adverts.
const PRIORITY: u8 = 90;
const ADVERT_MS: f64 = 100.0;
/// Each script has misbehaved so often before the master dies.
const RUNS: usize = 2;
/// The backup knows its master: so many adverts counted before that one dies.
const HEARD: u64 = 20;

/// One takeover.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Whether the scripts ran.
    pub tortured: bool,
    /// From the last advert to the first one of the backup, less the Master_Down_Interval.
    pub advert_ms: f64,
    /// The same to its announcement.
    pub garp_ms: f64,
    /// On the node: before the daemon was started, at most while it ran, and after it was stopped.
    pub processes: [usize; 3],
}

/// The interval after which a backup of this priority takes over (RFC 9568 §6.1), in milliseconds.
fn master_down_ms(priority: u64) -> f64 {
    (3.0 + (256.0 - priority as f64) / 256.0) * ADVERT_MS
}

/// So many takeovers with scripts, and as many without, in turn.
///
/// # Errors
/// A takeover did not happen, or a script did not run.
pub fn measure(rounds: usize) -> Result<Vec<Round>> {
    let lab = Lab::network(&Options { daemon: false, ..Options::default() })?;
    let etc = Dropin::on(lab.node(Side::B)).etc()?;
    for (name, text) in SCRIPTS {
        let file = etc.join(name);
        fs::write(&file, format!("#!/bin/sh\necho >> /etc/keepalived/{name}.runs\n{text}"))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    }
    let mut done = Vec::new();
    for number in 0..2 * rounds {
        let round = round(&lab, number % 2 == 1).with_context(|| format!("round {}", number + 1))?;
        eprintln!(
            "vrrp torture: {:2} {}: advert {:7.2} ms late, announcement {:7.2} ms, processes {:?}",
            number + 1,
            if round.tortured { "tortured" } else { "quiet   " },
            round.advert_ms,
            round.garp_ms,
            round.processes
        );
        done.push(round);
    }
    Ok(done)
}

fn round(lab: &Lab, tortured: bool) -> Result<Round> {
    let [a, b] = Side::BOTH.map(|side| Dropin::on(lab.node(side)));
    let folder = lab.node(Side::B).cgroup()?;
    let count = || cgroup::processes(&folder).len();
    let etc = b.etc()?;
    for (name, _) in SCRIPTS {
        let _absent = fs::remove_file(etc.join(format!("{name}.runs")));
    }
    let before = count();
    let wire = Wire::on(lab, "b")?;
    a.start(&text(lab, Side::A, false))?;
    lab.wait("a is master", LIMIT, || reached(a, State::Master))?;
    b.start(&text(lab, Side::B, tortured))?;
    lab.wait("b is backup", LIMIT, || reached(b, State::Backup))?;
    let mut most = count();
    if tortured {
        lab.wait("all scripts ran", LIMIT, || {
            most = most.max(count());
            for (name, _) in SCRIPTS {
                let text = fs::read_to_string(etc.join(format!("{name}.runs"))).unwrap_or_default();
                ensure!(text.lines().count() >= RUNS, "{name}: {} runs", text.lines().count());
            }
            Ok(())
        })?;
    }
    lab.wait("b has heard a", LIMIT, || {
        let heard = b.status()?.number("/instances/0/counters/adverts_received").unwrap_or_default();
        ensure!(heard >= HEARD, "{heard} adverts");
        Ok(())
    })?;
    // Scripts that succeed add to it.
    let priority = b.status()?.number("/instances/0/priority").context("no priority")?;
    let killed = a.kill()?;
    let announced = |what| what == What::Garp(Side::B);
    lab.wait("b announces the address", LIMIT, || {
        ensure!(wire.first(killed, announced).is_some(), "not yet");
        Ok(())
    })?;
    let garp = wire.first(killed, announced).context("just seen")?;
    let last = wire.last(garp, |what| matches!(what, What::Advert(Side::A, _))).context("no advert of a")?;
    most = most.max(count());
    b.terminate()?;
    lab.wait("b has ended", LIMIT, || b.ended())?;
    // Its `init` ends after it. What a script left would stay, and is what the figures tell.
    let _left = lab.wait("nothing is left on b", LIMIT, || {
        ensure!(count() <= before, "{} processes", count());
        Ok(())
    });
    let decided = wire.first(last, |what| matches!(what, What::Advert(Side::B, _))).context("no advert of b")?;
    let late = |at: u64| (at - last) as f64 / 1e6 - master_down_ms(priority);
    Ok(Round { tortured, advert_ms: late(decided), garp_ms: late(garp), processes: [before, most, count()] })
}

/// A weight of 1 each: a failed script must not end the instance, as nothing could take over then.
fn text(lab: &Lab, side: Side, tortured: bool) -> String {
    let (own, peer) = (lab.state().address(side), lab.state().address(side.other()));
    // Above what the backup has when all scripts do well.
    let priority = if side == Side::A { 200 } else { PRIORITY };
    let (mut scripts, mut track, mut notify) = (String::new(), String::new(), String::new());
    if tortured {
        for (name, _) in SCRIPTS {
            let _fits = write!(
                scripts,
                "vrrp_script {name} {{\n    script /etc/keepalived/{name}\n    interval 1\n    timeout 1\n    weight 1\n    \
                 init_fail\n    user root root\n}}\n"
            );
            let _fits = writeln!(track, "        {name}");
        }
        track = format!("    track_script {{\n{track}    }}\n");
        for state in ["master", "backup", "fault", "stop"] {
            let _fits = writeln!(notify, "    notify_{state} /etc/keepalived/hang root root");
        }
    }
    format!(
        "global_defs {{\n    vrrp_version 3\n}}\n{scripts}vrrp_instance VI_1 {{\n    state BACKUP\n    interface eth0\n    \
         virtual_router_id 51\n    priority {priority}\n    advert_int 0.1\n    unicast_src_ip {own}\n    \
         unicast_peer {{\n        {peer}\n    }}\n    virtual_ipaddress {{\n        {VIP}\n    }}\n{track}{notify}}}\n"
    )
}

/// For people.
pub fn table(rounds: &[Round]) -> String {
    let mut text = format!(
        "later than the Master_Down_Interval ({:.1} ms), in milliseconds\n\
         scripts    n   first advert: median  most   announcement: median  most   processes before, at most, after\n",
        master_down_ms(PRIORITY.into())
    );
    for tortured in [false, true] {
        let some: Vec<_> = rounds.iter().filter(|it| it.tortured == tortured).collect();
        let of = |what: fn(&Round) -> f64| {
            let values: Vec<f64> = some.iter().map(|it| what(it)).collect();
            (median(&values), values.into_iter().fold(f64::MIN, f64::max))
        };
        let (advert, garp) = (of(|it| it.advert_ms), of(|it| it.garp_ms));
        let most = |index: usize| some.iter().map(|it| it.processes[index]).max().unwrap_or_default();
        let _fits = writeln!(
            text,
            "{:<8} {:>3}  {:>20.2}  {:>5.2}  {:>20.2}  {:>5.2}   {}, {}, {}",
            if tortured { "tortured" } else { "none" },
            some.len(),
            advert.0,
            advert.1,
            garp.0,
            garp.1,
            most(0),
            most(1),
            most(2)
        );
    }
    text
}

/// For programs.
pub fn json(rounds: &[Round]) -> Value {
    rounds.iter().map(|it| json!({"tortured": it.tortured, "advert_ms": it.advert_ms, "garp_ms": it.garp_ms, "processes": it.processes})).collect()
}

/// # Errors
/// A process was left.
pub fn judge(rounds: &[Round]) -> Result<()> {
    let left = rounds.iter().filter(|it| it.processes[2] > it.processes[0]).count();
    ensure!(left == 0, "after {left} of {} rounds processes were left", rounds.len());
    Ok(())
}
