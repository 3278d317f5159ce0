//! What makes a node come to its point.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Bench;
use super::case::{Case, Role, Scenario};
use super::keeper::Keeper;
use super::trap::Trap;
use crate::lab::fault::Fault;
use crate::lab::{Side, link};

/// A takeover that has not come after this long does not come without the other node.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(10);
/// Whoever died on the way has so long to serve alone, before the other node comes back.
const ALONE: Duration = Duration::from_secs(4);
/// Acknowledged by nobody but the server itself, so no client's row; the standby never gets it.
const FORK: &str = "SET synchronous_commit = local; CREATE TABLE IF NOT EXISTS lab_fork (n int); \
                    INSERT INTO lab_fork SELECT generate_series(1, 1000)";

/// Begins, and sees to it that nodes without power get it back.
pub(super) fn cause(
    bench: &Bench,
    keeper: &Keeper<'_>,
    trap: &Mutex<Option<Trap>>,
    case: Case,
    primary: Side,
) -> Result<()> {
    let (lab, standby) = (&bench.lab, primary.other());
    let power_on = |side: Side, armed: bool| {
        let trap = trap.lock().expect("no holder panics");
        let trap = trap.as_ref().filter(|trap| armed && trap.side == side);
        keeper.power_on(side, trap).with_context(|| format!("power on {side}"))
    };
    match case.scenario {
        Scenario::Postgres => lab.inject(Fault::Postgres, primary).map(drop),
        Scenario::Standby => lab.inject(Fault::Postgres, standby).map(drop),
        Scenario::Switchover => lab.node(primary).request("switchover").map(drop),
        Scenario::Reinit => lab.node(standby).request("reinit").map(drop),
        Scenario::StandbyPower => {
            keeper.cut(standby)?;
            power_on(standby, true)
        }
        Scenario::BrokeOff => {
            keeper.cut(standby)?;
            // Not before what the standby has.
            let end = lab.node(primary).postgres().sql("SELECT pg_current_wal_lsn()")?;
            let data = lab.node(standby).postgres().data();
            break_off(&data, end.first().context("no position")?).context("a promotion that broke off")?;
            power_on(standby, true)
        }
        Scenario::Blackout => {
            keeper.cut(primary)?;
            keeper.cut(standby)?;
            power_on(primary, true)?;
            power_on(standby, true)
        }
        Scenario::Power | Scenario::Fork => {
            if case.scenario == Scenario::Fork {
                // No cable is pulled: a primary that sees that stops its server at once.
                link::set_partition(lab.state(), true)?;
                lab.node(primary).postgres().sql(FORK).context("the write that its standby never gets")?;
            }
            keeper.cut(primary)?;
            wait_for_the_other(bench, trap, standby);
            link::set_partition(lab.state(), false)?;
            power_on(primary, case.role == Role::Primary)
        }
    }
}

/// Makes of the data directory of a dead standby what PostgreSQL leaves that dies in `exitArchiveRecovery`: a segment of
/// the timeline that it had chosen, its history with the end of the one before, and no `standby.signal`. No other death
/// comes to that place each time: it lasts some milliseconds.
fn break_off(data: &Path, end: &str) -> Result<()> {
    let wal = data.join("pg_wal");
    let mut segments = Vec::new();
    for entry in fs::read_dir(&wal)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        segments.extend(Some(name).filter(|name| name.len() == 24));
    }
    let last = segments.iter().max().context("no WAL")?;
    let timeline = u32::from_str_radix(&last[..8], 16).with_context(|| format!("`{last}` is no segment"))?;
    let chosen = format!("{:08X}", timeline + 1);
    let (segment, history) = (wal.join(format!("{chosen}{}", &last[8..])), wal.join(format!("{chosen}.history")));
    fs::copy(wal.join(last), &segment)?;
    // Each timeline's history begins with that of the one before.
    let earlier = fs::read_to_string(wal.join(format!("{timeline:08X}.history"))).unwrap_or_default();
    fs::write(&history, format!("{earlier}{timeline}\t{end}\tno recovery target specified\n"))?;
    let owner = fs::metadata(data)?;
    for made in [segment, history] {
        chown(made, Some(owner.uid()), Some(owner.gid()))?;
    }
    fs::remove_file(data.join("standby.signal")).context("it was no standby")
}

/// Until the other node serves; one that died on the way gets some time more.
fn wait_for_the_other(bench: &Bench, trap: &Mutex<Option<Trap>>, standby: Side) {
    let (begun, mut fired_at) = (Instant::now(), None);
    let fired = || trap.lock().expect("no holder panics").as_ref().is_some_and(Trap::fired);
    let serves = || bench.lab.status(standby).is_some_and(|status| status.is_primary());
    while begun.elapsed() < TAKEOVER_LIMIT {
        if fired_at.is_none() && fired() {
            fired_at = Some(Instant::now());
        }
        match fired_at {
            Some(at) if at.elapsed() > ALONE => return,
            None if serves() => return,
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}
