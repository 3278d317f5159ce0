//! Where `pg_rewind` cannot help: base backups, what they keep, and what they refuse.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::PathBuf;

use harbor_ha::pg::{LossReport, Pg, RejoinBy, RejoinError, RejoinStep, StartAs, StopMode};

use crate::pair::{Node, Pair, SOON, bin_dir, wait_until};

/// Data directories beside the one in use.
fn beside(node: &Node) -> Vec<PathBuf> {
    let entries = fs::read_dir(node.data_dir().parent().unwrap()).unwrap().flatten();
    let names = entries.filter(|entry| entry.file_name().to_string_lossy().contains(".harbor-ha-"));
    names.map(|entry| entry.path()).collect()
}

fn reports(node: &Node) -> Vec<LossReport> {
    let text = fs::read_to_string(node.pg.loss_reports_path()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

real! {
async fn two_primaries_on_one_timeline_number_become_one_pair_again_and_the_loss_is_counted(bin) {
    let pair = Pair::new(bin, "autovacuum = off").await;
    let (a, b) = (&pair.a, &pair.b);
    let _ = a.pg.stop(StopMode::Fast).await;
    b.pg.promote(SOON).await.unwrap();
    b.client().await.batch_execute("INSERT INTO t VALUES (-1)").await.unwrap();
    // The other one becomes timeline 2 as well, at another position.
    a.start(StartAs::Primary).await;
    let client = a.client().await;
    for _ in 0..5 {
        client.batch_execute("INSERT INTO t VALUES (-2)").await.unwrap();
    }
    let _ = a.pg.stop(StopMode::Fast).await;
    a.start(StartAs::Standby).await;
    a.pg.promote(SOON).await.unwrap();
    let client = a.client().await;
    for _ in 0..3 {
        client.batch_execute("INSERT INTO t VALUES (-3)").await.unwrap();
    }
    let _ = a.pg.kill_all();

    // What makes a node itself.
    let data = a.data_dir().to_owned();
    fs::write(data.join("server.key"), "ours").unwrap();
    chown(data.join("server.key"), Some(fs::metadata(&data).unwrap().uid()), None).unwrap();
    symlink("/etc/hostname", data.join("server.crt")).unwrap();
    fs::write(b.data_dir().join("server.key"), "theirs").unwrap();
    chown(b.data_dir().join("server.key"), Some(fs::metadata(&data).unwrap().uid()), None).unwrap();

    let error = a.pg.rejoin(RejoinBy::Rewind, |_| ()).await.unwrap_err();
    assert!(matches!(error, RejoinError::Diverged { timeline: 2, .. }), "{error}");
    assert!(error.needs_base_backup() && beside(a).is_empty());
    let mut steps = Vec::new();
    let rejoined = a.pg.rejoin(RejoinBy::Anything, |step| steps.push(step)).await.unwrap();
    println!("{rejoined:?}");
    use RejoinStep::*;
    assert_eq!(steps, [Begin, Compare, Compare, Save, Slot, BaseBackup, Swap, Configure, Start, Stream, Done]);
    assert!(!rejoined.rewound && rejoined.base_backup.unwrap().contains("both nodes are on timeline 2"));
    let loss = rejoined.loss.unwrap();
    println!("{loss}");
    assert_eq!((loss.commits, loss.complete, loss.timeline), (8, true, 2));
    assert!(loss.first_commit.is_some_and(|time| time.ends_with(" UTC") && time.starts_with("20")));
    let files: Vec<_> = fs::read_dir(&loss.saved).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).collect();
    assert!(files.len() >= 2, "both timelines' WAL");
    let seen = a.pg.saved_wal().unwrap();
    assert_eq!((seen.directories, seen.bytes), (1, files.iter().sum()), "{seen:?}");
    assert_eq!(reports(a).len(), 1); // one divergence is one report, however often it was looked at
    assert_eq!((rejoined.kept, beside(a).len()), (None, 0));

    assert_eq!(fs::read_to_string(data.join("server.key")).unwrap(), "ours");
    assert_eq!(fs::read_link(data.join("server.crt")).unwrap(), PathBuf::from("/etc/hostname"));
    assert!(fs::read_to_string(data.join("postgresql.conf")).unwrap().contains(&a.address.to_string()));
    b.client().await.batch_execute("INSERT INTO t VALUES (-4)").await.unwrap();
    wait_until(b, |facts| facts.streaming && facts.peer_lsn == facts.lsn).await;
    wait_until(a, |facts| facts.streaming && facts.replay_backlog() == 0).await;
    assert_eq!((a.count("id IN (-1, -4)").await, a.count("id IN (-2, -3)").await), (2, 0));
}
}

real! {
async fn a_directory_that_cannot_be_rewound_is_made_anew_and_kept_if_so_configured(bin) {
    let pair = Pair::without_checksums(bin, "").await;
    let (a, b) = (&pair.a, &pair.b);
    let _ = a.pg.kill_all();
    b.pg.promote(SOON).await.unwrap();
    a.start(StartAs::Primary).await;
    a.client().await.batch_execute("INSERT INTO t VALUES (-2)").await.unwrap();
    let _ = a.pg.kill_all();
    let mut settings = a.pg.settings().clone();
    settings.keep_old = true;
    let keeping = Pg::open(settings, &a.state_dir).unwrap();
    assert!(matches!(keeping.rejoin(RejoinBy::Rewind, |_| ()).await, Err(RejoinError::NotRewindable)));
    let rejoined = keeping.rejoin(RejoinBy::Anything, |_| ()).await.unwrap();
    assert!(rejoined.base_backup.unwrap().contains("wal_log_hints"));
    assert!(rejoined.loss.unwrap().commits >= 1);
    assert_eq!(vec![rejoined.kept.unwrap()], beside(a));
    assert_eq!(a.count("id = -2").await, 0);

    // An operator may ask for it too; a primary is refused.
    assert!(matches!(b.pg.reinit(|_| ()).await, Err(RejoinError::IsPrimary)));
    let again = a.pg.reinit(|_| ()).await.unwrap();
    assert_eq!((again.base_backup.as_deref(), again.loss, again.kept), (Some("it was asked for"), None, None));
    assert_eq!(beside(a).len(), 1, "the one that was kept");
    // A directory that is not PostgreSQL's stays with the old one.
    fs::create_dir(a.data_dir().join("conf.d")).unwrap();
    assert!(a.pg.reinit(|_| ()).await.unwrap().kept.is_some_and(|old| old.join("conf.d").is_dir()));
}
}

real! {
async fn histories_that_cannot_be_read_and_a_rewind_that_fails_end_in_a_base_backup(bin) {
    let pair = Pair::new(bin, "").await;
    let (a, b) = (&pair.a, &pair.b);
    let _ = a.pg.kill_all();
    b.pg.promote(SOON).await.unwrap();
    a.start(StartAs::Primary).await;
    a.client().await.batch_execute("INSERT INTO t VALUES (-2)").await.unwrap();
    let _ = a.pg.stop(StopMode::Fast).await;
    // `pg_rewind` gives up on what is a directory here and a file there.
    let version = a.data_dir().join("base/1/PG_VERSION");
    fs::remove_file(&version).unwrap();
    fs::create_dir(&version).unwrap();
    let rejoined = a.pg.rejoin(RejoinBy::Anything, |_| ()).await.unwrap();
    assert!(rejoined.base_backup.as_ref().is_some_and(|why| why.contains("pg_rewind failed")), "{rejoined:?}");
    assert!(rejoined.loss.is_some_and(|loss| loss.commits >= 1) && !rejoined.rewound);
    assert_eq!(a.count("id = -2").await, 0);

    let _ = a.pg.stop(StopMode::Fast).await;
    fs::remove_file(a.data_dir().join("pg_wal/00000002.history")).unwrap();
    let rejoined = a.pg.rejoin(RejoinBy::Anything, |_| ()).await.unwrap();
    assert!(rejoined.base_backup.is_some_and(|why| why.contains("history of timeline 2 is missing here")));
    // Whether it had commits of its own cannot be told, so nothing of it is removed.
    assert_eq!((rejoined.loss, vec![rejoined.kept.unwrap()]), (None, beside(a)));
}
}

real! {
async fn a_base_backup_that_cannot_be_made_leaves_everything_as_it_was(bin) {
    let pair = Pair::new(bin, "").await;
    let (a, b) = (&pair.a, &pair.b);
    let inode = fs::metadata(b.data_dir()).unwrap().ino();
    let untouched = |node: &Node| {
        assert!(beside(node).is_empty());
        assert_eq!(fs::metadata(node.data_dir()).unwrap().ino(), inode);
    };
    // A tablespace: refused before the standby is stopped.
    let place = tempfile::tempdir().unwrap();
    chown(place.path(), Some(fs::metadata(a.data_dir()).unwrap().uid()), None).unwrap();
    let sql = format!("CREATE TABLESPACE elsewhere LOCATION '{}'", place.path().display());
    let _ = b.pg.stop(StopMode::Fast).await; // it would look for the place as well, which is the same one here
    a.client().await.batch_execute(&sql).await.unwrap();
    let error = b.pg.reinit(|_| ()).await.unwrap_err();
    assert!(matches!(&error, RejoinError::Tablespaces { names } if names == "elsewhere"), "{error}");
    untouched(b);
    a.client().await.batch_execute("DROP TABLESPACE elsewhere").await.unwrap();

    // No room.
    let error = b.in_a_small_place().await.pg().reinit(|_| ()).await.unwrap_err();
    assert!(matches!(error, RejoinError::NoRoom { .. }), "{error}");
    println!("{error}");

    // A primary that has no WAL sender to spare: begun, failed, and nothing is left of it.
    let hba = a.data_dir().join("pg_hba.conf");
    let good = fs::read_to_string(&hba).unwrap();
    fs::write(&hba, good.replace("host replication", "# host replication")).unwrap();
    a.client().await.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let error = b.pg.reinit(|_| ()).await.unwrap_err();
    assert!(matches!(&error, RejoinError::BaseBackup { text } if text.contains("pg_hba.conf")), "{error}");
    untouched(b);
    assert!(b.pg.rejoin_pending());
    fs::write(&hba, good).unwrap();
    a.client().await.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let rejoined = b.pg.rejoin(RejoinBy::Anything, |_| ()).await.unwrap();
    assert_eq!((rejoined.base_backup.as_deref(), rejoined.kept), (Some("it was asked for"), None));

    // A link instead of pg_wal.
    let _ = b.pg.stop(StopMode::Fast).await;
    let (wal, moved) = (b.data_dir().join("pg_wal"), b.data_dir().parent().unwrap().join("wal"));
    fs::rename(&wal, &moved).unwrap();
    symlink(&moved, &wal).unwrap();
    assert!(matches!(b.pg.reinit(|_| ()).await, Err(RejoinError::Place { .. })));
    assert!(beside(b).is_empty() && !b.pg.rejoin_pending());
}
}
