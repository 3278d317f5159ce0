//! A promotion that broke off between the choice of its timeline and the first record there.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use harbor_ha::core::facts::Lsn;

use super::*;

/// Leaves the directory of a standby at rest as a crash does after PostgreSQL has removed `standby.signal`
/// (`exitArchiveRecovery`), and before the first record of the timeline that it had chosen; with its history, if that was
/// written, and says where the old one ended.
pub fn break_off(node: &Node, end: Option<Lsn>) {
    let data = node.data_dir();
    let owner = fs::metadata(data).unwrap();
    let control = node.pg.at_rest().unwrap();
    assert!(control.standby_signal && !control.promotion_broke_off, "{control:?}");
    let chosen = control.timeline + 1;
    let wal = data.join("pg_wal");
    let last = fs::read_dir(&wal).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let last = last.filter(|name| name.len() == 24).max().unwrap();
    let copy = wal.join(format!("{chosen:08X}{}", &last[8..]));
    fs::copy(wal.join(&last), &copy).unwrap();
    let mut made = vec![copy];
    if let Some(end) = end {
        let history = wal.join(format!("{chosen:08X}.history"));
        fs::write(&history, format!("{}\t{end}\tno recovery target specified\n", control.timeline)).unwrap();
        made.push(history);
    }
    for made in made {
        chown(made, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    fs::remove_file(data.join("standby.signal")).unwrap();
}

/// Both orders of PostgreSQL 13.
async fn follows_again(bin: &Path, with_history: bool) {
    let pair = Pair::new(bin, "").await;
    let (a, b) = (&pair.a, &pair.b);
    let end = b.pg.facts(SOON).await.unwrap().lsn;
    let killed = b.pg.kill_all();
    assert!(killed.left.is_empty(), "{killed:?}");
    break_off(b, with_history.then_some(end));
    let rest = b.pg.at_rest().unwrap();
    assert!(rest.standby_signal && rest.promotion_broke_off && rest.timeline == 1, "{rest:?}");
    // As a primary it would write to the timeline of the other one.
    let refused = b.pg.start(StartAs::Primary).await;
    assert!(matches!(refused, Err(StartError::IsStandby { .. })), "{refused:?}");

    a.client().await.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    let rejoined = b.pg.rejoin(RejoinBy::Rewind, |_| ()).await.unwrap();
    assert!(!rejoined.rewound && rejoined.base_backup.is_none(), "{rejoined:?}");
    wait_until(a, |facts| facts.streaming).await;
    assert!(!b.data_dir().join("pg_wal/00000002.history").exists());
    // Nothing is lost, also of what was never begun.
    let saved = b.pg.saved_wal().unwrap();
    assert_eq!(saved.directories, 1, "{saved:?}");
    let names = fs::read_dir(saved.path.join("00000002-untaken")).unwrap().count();
    assert_eq!(names, 1 + usize::from(with_history), "a segment, and its history");
    let _ = b.pg.stop(StopMode::Fast).await;
    let rest = b.pg.at_rest().unwrap();
    assert!(rest.standby_signal && !rest.promotion_broke_off, "{rest:?}");
}

real! {
async fn a_directory_whose_promotion_broke_off_is_a_standby_s_and_follows_again(bin) {
    follows_again(bin, true).await;
}
}

real! {
async fn also_where_the_new_timeline_has_no_history_yet(bin) {
    follows_again(bin, false).await;
}
}

real! {
async fn one_that_broke_off_and_finds_no_primary_is_promoted_to_a_timeline_of_its_own(bin) {
    let pair = Pair::new(bin, "").await;
    let (a, b) = (&pair.a, &pair.b);
    let end = b.pg.facts(SOON).await.unwrap().lsn;
    let _ = a.pg.kill_all();
    let _ = b.pg.kill_all();
    break_off(b, Some(end));
    b.start(StartAs::Standby).await;
    b.pg.promote(SOON).await.unwrap();
    let facts = b.pg.facts(SOON).await.unwrap();
    assert!(!facts.in_recovery && facts.timeline == 3, "the number 2 is used up: {facts:?}");
    b.client().await.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
    // The other one comes back to it.
    let rejoined = a.pg.rejoin(RejoinBy::Anything, |_| ()).await.unwrap();
    assert_eq!(rejoined.timeline, 3);
    wait_until(b, |facts| facts.streaming).await;
}
}
