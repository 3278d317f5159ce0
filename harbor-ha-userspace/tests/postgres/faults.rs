//! Deaths at every fault point: whatever was going on is simply done again, and nothing is lost.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;

use harbor_ha::fault::POINTS;
use harbor_ha::pg::{Pg, RejoinBy, StartAs, StartError, StopMode};
use nix::sys::signal::Signal;

use crate::pair::{Node, Pair, SOON, bin_dir, opened, wait_until};
use crate::untaken::break_off;

/// What a process that dies does, and on which node.
const DO: &str = "HARBOR_HA_TEST_DO";
const NODE: &str = "HARBOR_HA_TEST_NODE";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that other tests let die"]
async fn a_process_that_dies() {
    let (Ok(what), Ok(told)) = (std::env::var(DO), std::env::var(NODE)) else { return };
    let pg = opened(&told);
    match what.as_str() {
        "rejoin" => drop(pg.rejoin(RejoinBy::Anything, |_| ()).await.unwrap()),
        "reinit" => drop(pg.reinit(|_| ()).await.unwrap()),
        "start" => drop(pg.start(StartAs::Standby).await.unwrap()),
        "stop" => assert!(pg.stop(StopMode::Fast).await.killed.left.is_empty()),
        "promote" => drop(pg.promote(SOON).await.unwrap()),
        odd => panic!("{odd}"),
    }
}

/// Lets another process do something, and die at the point; dying twice there is not possible.
fn dies(node: &Node, what: &str, point: &str) {
    let once = node.state_dir.join(format!("died-{point}"));
    let _ = fs::remove_file(&once);
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "faults::a_process_that_dies", "--ignored", "--nocapture", "--test-threads=1"]);
    child.env(DO, what).env(NODE, node.told());
    child.env("HARBOR_HA_FAULT_POINT", point).env("HARBOR_HA_FAULT_POINT_ONCE", &once);
    let output = child.output().unwrap();
    let words = || String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned();
    assert_eq!(output.status.signal(), Some(Signal::SIGKILL as i32), "{what} at {point}: {}", words());
    assert!(once.exists());
}

/// As the daemon does after a restart.
fn opened_anew(node: &Node) -> Pg {
    opened(&node.told())
}

fn points(prefix: &str) -> impl Iterator<Item = &'static str> {
    POINTS.into_iter().filter(move |point| point.starts_with(prefix))
}

/// The data directory of this inode, wherever it is now.
fn place_of(inode: u64, node: &Node) -> Option<PathBuf> {
    let entries = fs::read_dir(node.data_dir().parent().unwrap()).unwrap().flatten();
    let mut paths = entries.map(|entry| entry.path());
    paths.find(|path| fs::metadata(path).is_ok_and(|meta| meta.ino() == inode) && path.join("PG_VERSION").exists())
}

async fn same_rows(primary: &Node, standby: &Node, filter: &str, expected: i64) {
    assert_eq!(primary.count(filter).await, expected);
    wait_until(primary, |facts| facts.streaming && facts.peer_lsn == facts.lsn).await;
    wait_until(standby, |facts| facts.streaming && facts.replay_backlog() == 0).await;
    assert_eq!(standby.count(filter).await, expected);
}

real! {
async fn a_rejoin_that_dies_at_any_point_is_simply_called_again(bin) {
    let pair = Pair::with_small_segments(bin, "").await;
    let (mut old, mut new) = (&pair.a, &pair.b);
    let mut rows = 0;
    for point in points("rejoin.") {
        let _ = old.pg.kill_all();
        new.pg.promote(SOON).await.unwrap();
        old.start(StartAs::Primary).await;
        old.client().await.batch_execute("INSERT INTO t VALUES (-2)").await.unwrap();
        let _ = old.pg.kill_all();
        new.client().await.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
        rows += 1;
        dies(old, "rejoin", point);
        // Whatever is there, it must not start as a primary.
        let pg = opened_anew(old);
        if point != "rejoin.done" {
            assert!(pg.at_rest().unwrap().rejoin_pending, "{point}");
            let refused = pg.start(StartAs::Primary).await;
            assert!(matches!(refused, Err(StartError::RejoinPending { .. })), "{point}: {refused:?}");
            let again = pg.rejoin(RejoinBy::Anything, |_| ()).await;
            let again = again.unwrap_or_else(|error| panic!("after a death at {point}: {error}"));
            assert!(again.rewound && again.base_backup.is_none(), "{point}: {again:?}");
            assert!(again.loss.is_some_and(|loss| loss.complete && loss.commits >= 1), "{point}");
        }
        same_rows(new, old, "id = 1", rows).await;
        assert_eq!(old.count("id = -2").await, 0);
        let conf = fs::read_to_string(old.data_dir().join("postgresql.conf")).unwrap();
        assert!(conf.contains(&old.address.to_string()), "{point}: {conf}");
        let reports = fs::read_to_string(pg.loss_reports_path()).unwrap();
        assert_eq!(reports.lines().count() as i64, (rows + 1) / 2, "{point}: {reports}");
        std::mem::swap(&mut old, &mut new);
    }
}
}

real! {
async fn a_base_backup_that_dies_at_any_point_is_simply_called_again(bin) {
    let pair = Pair::with_small_segments(bin, "").await;
    let (a, b) = (&pair.a, &pair.b);
    let after = ["rejoin.configure", "rejoin.configure.signal", "rejoin.start", "rejoin.stream", "rejoin.stream.done"];
    let mut rows = 0;
    for point in points("basebackup.").chain(after).chain(["rejoin.done"]) {
        let inode = fs::metadata(b.data_dir()).unwrap().ino();
        dies(b, "reinit", point);
        a.client().await.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
        rows += 1;
        // Whole until its replacement has streamed.
        let gone = ["basebackup.removed", "rejoin.done"].contains(&point);
        assert_eq!(place_of(inode, b).is_none(), gone, "{point}");
        let pg = opened_anew(b);
        if point != "rejoin.done" {
            let refused = pg.start(StartAs::Primary).await;
            assert!(matches!(refused, Err(StartError::RejoinPending { .. })), "{point}: {refused:?}");
            let again = pg.rejoin(RejoinBy::Anything, |_| ()).await;
            let again = again.unwrap_or_else(|error| panic!("after a death at {point}: {error}"));
            assert_eq!((again.base_backup.as_deref(), again.kept), (Some("it was asked for"), None), "{point}");
        }
        assert_eq!(place_of(inode, b), None, "{point}");
        let names = fs::read_dir(b.data_dir().parent().unwrap()).unwrap().flatten().map(|entry| entry.file_name());
        assert!(!names.into_iter().any(|name| name.to_string_lossy().contains(".harbor-ha-")), "{point}");
        same_rows(a, b, "id = 1", rows).await;
    }
}
}

real! {
async fn what_a_promotion_that_broke_off_left_is_put_aside_whole_wherever_that_dies(bin) {
    let pair = Pair::with_small_segments(bin, "").await;
    let (a, b) = (&pair.a, &pair.b);
    let names = |dir: PathBuf| -> BTreeSet<String> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let untaken = |dir: PathBuf| names(dir).into_iter().filter(|name| name.starts_with("00000002")).collect();
    let mut rows = 0;
    for point in ["rejoin.loss.copied"].into_iter().chain(points("untaken.")) {
        let end = b.pg.facts(SOON).await.unwrap().lsn;
        assert!(b.pg.kill_all().left.is_empty());
        break_off(b, Some(end));
        let wal = b.data_dir().join("pg_wal");
        let left: BTreeSet<String> = untaken(wal.clone());
        assert_eq!(left.len(), 2, "a segment, and its history: {left:?}");
        let _ = fs::remove_dir_all(b.pg.saved_wal().unwrap().path);
        dies(b, "rejoin", point);
        a.client().await.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
        rows += 1;
        let pg = opened_anew(b);
        let refused = pg.start(StartAs::Primary).await;
        assert!(matches!(refused, Err(StartError::RejoinPending { .. })), "{point}: {refused:?}");
        let again = pg.rejoin(RejoinBy::Rewind, |_| ()).await;
        let again = again.unwrap_or_else(|error| panic!("after a death at {point}: {error}"));
        assert!(!again.rewound && again.base_backup.is_none(), "{point}: {again:?}");
        assert_eq!(untaken(wal), BTreeSet::new(), "{point}");
        // Saved whole once, and nothing that looks saved and is not.
        let saved = pg.saved_wal().unwrap();
        let whole = names(saved.path.clone()).into_iter().filter(|name| names(saved.path.join(name)) == left);
        let partial = names(saved.path.clone()).into_iter().any(|name| name.ends_with(".partial"));
        assert!(whole.count() >= 1 && !partial, "{point}: {:?}", names(saved.path));
        same_rows(a, b, "id = 1", rows).await;
    }
}
}

real! {
async fn a_start_a_stop_and_a_promotion_that_die_are_simply_done_again(bin) {
    let pair = Pair::with_small_segments(bin, "").await;
    let (a, b) = (&pair.a, &pair.b);
    for point in points("stop.") {
        dies(b, "stop", point);
        let _ = b.pg.stop(StopMode::Fast).await;
        assert!(b.pg.running().is_none() && b.pg.at_rest().unwrap().clean, "{point}");
        b.start(StartAs::Standby).await;
    }
    for point in points("start.") {
        let _ = b.pg.stop(StopMode::Fast).await;
        if point == "start.signal" {
            assert!(b.pg.at_rest().unwrap().standby_signal);
        }
        dies(b, "start", point);
        if b.pg.running().is_none() {
            b.start(StartAs::Standby).await;
        }
        wait_until(b, |facts| facts.in_recovery && facts.streaming).await;
    }
    let (mut primary, mut standby) = (a, b);
    for point in points("promote.") {
        let _ = primary.pg.stop(StopMode::Fast).await;
        dies(standby, "promote", point);
        standby.pg.promote(SOON).await.unwrap();
        standby.client().await.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
        assert!(!primary.pg.rejoin(RejoinBy::Anything, |_| ()).await.unwrap().rewound);
        std::mem::swap(&mut primary, &mut standby);
    }
    same_rows(primary, standby, "id = 1", 3).await;
}
}
