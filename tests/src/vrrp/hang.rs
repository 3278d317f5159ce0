//! A tracked script that hangs on the master: the time from its last start to the backup's announcement, in parts.
//!
//! The script has no weight, so that its time-out is FAULT, which resigns; and it is deaf to SIGTERM, which must not delay
//! that: a script that does not end is known to have failed before it is dead.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};
use serde_json::{Value, json};

use super::{LIMIT, median, reached};
use crate::lab::dropin::Dropin;
use crate::lab::keepalived::State;
use crate::lab::state::VIP;
use crate::lab::wire::{What, Wire};
use crate::lab::{Lab, Options, Side, cgroup, clock};

/// It does well until it is told to hang; then it says when it was begun, and hangs.
const SCRIPT: &str = "#!/bin/sh\n[ -e /etc/keepalived/hang ] || exit 0\ncat /proc/$$/stat >> /etc/keepalived/hangs\n\
                      trap '' TERM INT HUP\nwhile :; do sleep 1000; done\n";
/// `timeout`, in milliseconds; the script is begun each second.
const TIMEOUT_MS: f64 = 1000.0;
/// Of the backup.
const PRIORITY: u8 = 90;
const ADVERT_MS: f64 = 100.0;

/// One takeover.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// From the script's start, less its time-out, to the master's good-bye. The kernel counts starts in hundredths of a
    /// second: this is up to 10 ms more than it was.
    pub fault_ms: f64,
    /// From the good-bye, less the backup's skew time, to its first advert.
    pub advert_ms: f64,
    /// The same to its announcement.
    pub garp_ms: f64,
    /// From the script's start to the announcement, nothing taken off.
    pub whole_ms: f64,
    /// On the master's node: before its daemon was started, and after it was stopped.
    pub processes: [usize; 2],
}

/// So many takeovers.
///
/// # Errors
/// A takeover did not happen.
pub fn measure(rounds: usize) -> Result<Vec<Round>> {
    let lab = Lab::network(&Options { daemon: false, ..Options::default() })?;
    let etc = Dropin::on(lab.node(Side::A)).etc()?;
    let script = etc.join("script");
    fs::write(&script, SCRIPT)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let mut done = Vec::new();
    for number in 1..=rounds {
        let round = round(&lab).with_context(|| format!("round {number}"))?;
        eprintln!(
            "vrrp torture: {number:2} a script hangs on the master: FAULT {:7.2} ms after its time-out; advert {:7.2} ms \
             late, announcement {:7.2} ms, processes {:?}",
            round.fault_ms, round.advert_ms, round.garp_ms, round.processes
        );
        done.push(round);
    }
    Ok(done)
}

fn round(lab: &Lab) -> Result<Round> {
    let [a, b] = Side::BOTH.map(|side| Dropin::on(lab.node(side)));
    let folder = lab.node(Side::A).cgroup()?;
    let count = || cgroup::processes(&folder).len();
    let [hang, hangs] = ["hang", "hangs"].map(|name| a.etc().map(|etc| etc.join(name)));
    let (hang, hangs) = (hang?, hangs?);
    for file in [&hang, &hangs] {
        let _absent = fs::remove_file(file);
    }
    let before = count();
    let wire = Wire::on(lab, "b")?;
    a.start(&text(lab, Side::A))?;
    lab.wait("a is master", LIMIT, || reached(a, State::Master))?;
    b.start(&text(lab, Side::B))?;
    lab.wait("b is backup", LIMIT, || reached(b, State::Backup))?;
    lab.wait("b has heard a", LIMIT, || {
        let heard = b.status()?.number("/instances/0/counters/adverts_received").unwrap_or_default();
        ensure!(heard >= 10, "{heard} adverts");
        Ok(())
    })?;
    let told = clock::now_ns();
    fs::write(&hang, "")?;
    let announced = |what| what == What::Garp(Side::B);
    lab.wait("b announces the address", LIMIT, || {
        ensure!(wire.first(told, announced).is_some(), "not yet");
        Ok(())
    })?;
    reached(a, State::Fault)?;
    let begun = begun(&hangs)?;
    let resigned = wire.first(told, |what| what == What::Advert(Side::A, 0)).context("a did not resign")?;
    let decided = wire.first(resigned, |what| matches!(what, What::Advert(Side::B, _))).context("no advert of b")?;
    let garp = wire.first(resigned, announced).context("announced before a resigned")?;
    for daemon in [a, b] {
        daemon.terminate()?;
        lab.wait("it has ended", LIMIT, || daemon.ended())?;
    }
    // What a script left would stay, and is what the figures tell.
    let _left = lab.wait("nothing is left on a", LIMIT, || {
        ensure!(count() <= before, "{} processes", count());
        Ok(())
    });
    let ms = |from: u64, to: u64| (to as f64 - from as f64) / 1e6;
    let skew = (256.0 - f64::from(PRIORITY)) / 256.0 * ADVERT_MS;
    Ok(Round {
        fault_ms: ms(begun, resigned) - TIMEOUT_MS,
        advert_ms: ms(resigned, decided) - skew,
        garp_ms: ms(resigned, garp) - skew,
        whole_ms: ms(begun, garp),
        processes: [before, count()],
    })
}

/// When the first process began whose `/proc/PID/stat` is in a file, by the clock of the wire.
fn begun(file: &Path) -> Result<u64> {
    let text = fs::read_to_string(file)?;
    let (_, after) = text.lines().next().and_then(|line| line.rsplit_once(')')).context("no script has begun")?;
    // Field 22, in ticks since the boot (proc_pid_stat(5)); after the name comes field 3.
    let ticks: u64 = after.split_whitespace().nth(22 - 3).context("no start")?.parse()?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no ticks")? as u64;
    // That clock runs on in a suspend.
    let suspended = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?).as_nanos() as u64 - clock::now_ns();
    Ok(ticks * 1_000_000_000 / per_second - suspended)
}

/// The script on the master alone: it has no weight, and so it is FAULT.
fn text(lab: &Lab, side: Side) -> String {
    let (own, peer) = (lab.state().address(side), lab.state().address(side.other()));
    let (priority, scripts, track) = match side {
        Side::A => (
            200,
            "vrrp_script look {\n    script /etc/keepalived/script\n    interval 1\n    timeout 1\n    user root root\n}\n",
            "    track_script {\n        look\n    }\n",
        ),
        Side::B => (PRIORITY, "", ""),
    };
    format!(
        "global_defs {{\n    vrrp_version 3\n}}\n{scripts}vrrp_instance VI_1 {{\n    state BACKUP\n    interface eth0\n    \
         virtual_router_id 51\n    priority {priority}\n    advert_int 0.1\n    unicast_src_ip {own}\n    \
         unicast_peer {{\n        {peer}\n    }}\n    virtual_ipaddress {{\n        {VIP}\n    }}\n{track}}}\n"
    )
}

/// For people.
pub fn table(rounds: &[Round]) -> String {
    let mut text = String::from(
        "a script without weight hangs on the master, in milliseconds\n\
         part                                                        n    median      most\n",
    );
    let of = |what: fn(&Round) -> f64| rounds.iter().map(what).collect::<Vec<f64>>();
    for (what, values) in [
        ("its time-out to the good-bye of the master", of(|it| it.fault_ms)),
        ("good-bye to the backup's advert, later than the skew time", of(|it| it.advert_ms)),
        ("good-bye to gratuitous ARP, later than the skew time", of(|it| it.garp_ms)),
        ("start of the script to gratuitous ARP, all in all", of(|it| it.whole_ms)),
    ] {
        let most = values.iter().copied().fold(f64::MIN, f64::max);
        let _fits = writeln!(text, "{what:<57}  {:>3}  {:>8.2}  {most:>8.2}", values.len(), median(&values));
    }
    text
}

/// For programs.
pub fn json(rounds: &[Round]) -> Value {
    let one = |it: &Round| {
        json!({"fault_ms": it.fault_ms, "advert_ms": it.advert_ms, "garp_ms": it.garp_ms, "whole_ms": it.whole_ms,
               "processes": it.processes})
    };
    rounds.iter().map(one).collect()
}

/// # Errors
/// A process was left.
pub fn judge(rounds: &[Round]) -> Result<()> {
    let left = rounds.iter().filter(|it| it.processes[1] > it.processes[0]).count();
    ensure!(left == 0, "after {left} of {} rounds processes were left on the master", rounds.len());
    Ok(())
}
