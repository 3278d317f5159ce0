//! What a server says of itself, and what it makes of its slots.

use std::fs;
use std::time::Duration;

use harbor_ha::core::facts::PeerSlot;
use harbor_ha::pg::{RejoinBy, RejoinError, StartAs, StopMode};
use nix::sys::signal::Signal;

use crate::pair::{Pair, SOON, VIP, bin_dir, wait_until};
use crate::signal;

real! {
async fn sync_is_said_before_the_tail_is_there_and_peer_has_tail_is_not(bin) {
    let pair = Pair::new(bin, "").await;
    let (a, b) = (&pair.a, &pair.b);
    a.pg.set_sync("b", SOON).await.unwrap();
    wait_until(a, |facts| facts.peer_is_sync && facts.peer_has_tail).await;
    let both = a.pg.facts(SOON).await.unwrap();
    assert!(both.peer_lsn.0 > 0 && both.peer_lsn <= both.lsn, "{both:?}");

    // A receiver that stands still: PostgreSQL has sent it all, and goes on calling it synchronous.
    let receiver = b.client().await.query_one("SELECT pid FROM pg_stat_wal_receiver", &[]).await.unwrap().get(0);
    signal(receiver, Signal::SIGSTOP);
    let write = "SET synchronous_commit = local; INSERT INTO t SELECT 1 FROM generate_series(1, 100)";
    a.client().await.batch_execute(write).await.unwrap();
    a.pg.checkpoint(SOON).await.unwrap();
    let after = a.pg.facts(SOON).await.unwrap();
    assert!(after.peer_is_sync && after.streaming && !after.peer_has_tail, "{after:?}");
    assert!(after.peer_lsn < after.lsn, "{after:?}");
    signal(receiver, Signal::SIGCONT);
    wait_until(a, |facts| facts.peer_has_tail && facts.peer_lsn == facts.lsn).await;

    // After a restart of the primary: not before the standby is back.
    let _ = b.pg.stop(StopMode::Fast).await;
    a.client().await.batch_execute(write).await.unwrap();
    let _ = a.pg.kill_all();
    a.start(StartAs::Primary).await;
    let alone = a.pg.facts(SOON).await.unwrap();
    assert!(!alone.peer_has_tail && !alone.streaming && alone.peer_lsn.0 == 0, "{alone:?}");
    b.start(StartAs::Standby).await;
    wait_until(a, |facts| facts.peer_has_tail).await;

    // After a promotion, whose last checkpoint is from before it: not before the other node has what came before it.
    let _ = a.pg.stop(StopMode::Fast).await;
    b.pg.promote(SOON).await.unwrap();
    assert!(!b.pg.facts(SOON).await.unwrap().peer_has_tail);
    a.pg.rejoin(RejoinBy::Anything, |_| ()).await.unwrap();
    wait_until(b, |facts| facts.peer_has_tail).await;
}
}

real! {
async fn a_standby_says_what_would_hold_up_its_promotion(bin) {
    let conf = "max_standby_streaming_delay = -1\nrestore_command = 'false'";
    let pair = Pair::new(bin, conf).await;
    let (a, b) = (&pair.a, &pair.b);
    let facts = b.pg.facts(SOON).await.unwrap();
    assert!(facts.restore_command && !facts.replay_blocked && !facts.follows_vip, "{facts:?}");
    assert_eq!((facts.apply_delay_ms, facts.peer_lsn.0, facts.peer_slot), (0, 0, PeerSlot::Absent));
    assert!(facts.received.0 > 0 && facts.replayed.0 > 0);
    a.client().await.batch_execute("INSERT INTO t SELECT 1 FROM generate_series(1, 1000)").await.unwrap();
    wait_until(b, |facts| facts.replay_backlog() == 0).await;
    let written = a.pg.facts(SOON).await.unwrap().lsn;
    wait_until(b, |facts| facts.upstream >= written && facts.lsn >= written).await;

    // A query of a client that replay has to wait for.
    let mut client = b.client().await;
    let reader = client.build_transaction().isolation_level(tokio_postgres::IsolationLevel::RepeatableRead);
    let reader = reader.start().await.unwrap();
    reader.query_one("SELECT count(*) FROM t", &[]).await.unwrap();
    for sql in ["DELETE FROM t", "VACUUM t"] {
        a.client().await.batch_execute(sql).await.unwrap();
    }
    wait_until(b, |facts| facts.replay_blocked && facts.replay_backlog() > 0 && facts.received == facts.lsn).await;
    reader.rollback().await.unwrap();
    wait_until(b, |facts| !facts.replay_blocked && facts.replay_backlog() == 0).await;

    for (value, milliseconds) in [("1min", 60_000), ("1500", 1_500), ("2h", 7_200_000), ("0", 0)] {
        let sql = format!("ALTER SYSTEM SET recovery_min_apply_delay = '{value}'");
        b.client().await.batch_execute(&sql).await.unwrap();
        b.client().await.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        wait_until(b, |facts| facts.apply_delay_ms == milliseconds).await;
    }
    let sql = format!("ALTER SYSTEM SET primary_conninfo = 'user=x host={VIP}'");
    b.client().await.batch_execute(&sql).await.unwrap();
    b.client().await.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    wait_until(b, |facts| facts.follows_vip).await;
    b.pg.follow().await.unwrap();
    wait_until(b, |facts| !facts.follows_vip && facts.streaming).await;
}
}

real! {
async fn a_primary_keeps_a_slot_a_standby_does_not_and_a_lost_one_is_noticed(bin) {
    let pair = Pair::new(bin, "max_slot_wal_keep_size = 32MB\nmin_wal_size = 32MB\nmax_wal_size = 32MB").await;
    let (a, b) = (&pair.a, &pair.b);
    wait_until(a, |facts| facts.peer_slot == PeerSlot::Kept).await;
    assert_eq!(b.pg.peer_facts(SOON).await.unwrap().peer_slot, PeerSlot::Kept);
    // A slot that somebody left on a standby is gone after its next start.
    b.client().await.execute("SELECT pg_create_physical_replication_slot('harbor_ha', true)", &[]).await.unwrap();
    let _ = b.pg.stop(StopMode::Fast).await;
    b.start(StartAs::Standby).await;
    wait_until(b, |facts| facts.peer_slot == PeerSlot::Absent && facts.streaming).await;
    let slots = b.client().await;
    let none = async {
        while !slots.query("SELECT FROM pg_replication_slots", &[]).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, none).await.expect("the slot of a standby goes");

    // The standby is away, and the primary may not wait for it.
    let _ = b.pg.stop(StopMode::Fast).await;
    a.lose_wal(6).await;
    wait_until(a, |facts| facts.peer_slot == PeerSlot::Lost).await;
    // A standby of the same timeline whose WAL is gone is made anew, on the word of the primary's files.
    b.start(StartAs::Standby).await;
    let error = b.pg.follow().await.unwrap_err();
    assert!(matches!(error, RejoinError::WalGone { .. }) && error.needs_base_backup(), "{error}");
    let _ = b.pg.stop(StopMode::Fast).await;
    let rejoined = b.pg.rejoin(RejoinBy::Anything, |_| ()).await.unwrap();
    assert!(rejoined.base_backup.is_some_and(|why| why.contains("no longer has the WAL")) && !rejoined.rewound);
    assert_eq!((rejoined.loss, rejoined.kept), (None, None));
    wait_until(a, |facts| facts.peer_slot == PeerSlot::Kept && facts.streaming).await;
    assert_eq!(b.count("id = 7").await, 8);

    // Promoted, it keeps one for the other node, before anybody asks.
    let _ = a.pg.stop(StopMode::Fast).await;
    b.pg.promote(SOON).await.unwrap();
    wait_until(b, |facts| facts.peer_slot == PeerSlot::Kept).await;
}
}

real! {
async fn replication_over_a_virtual_address_is_refused_and_nothing_is_written(bin) {
    let pair = Pair::new(bin, "").await;
    let b = &pair.b;
    let mut settings = b.pg.settings().clone();
    settings.vips.push(pair.a.address);
    let wrong = harbor_ha::pg::Pg::open(settings, &b.state_dir).unwrap();
    let auto = b.data_dir().join("postgresql.auto.conf");
    let before = fs::read_to_string(&auto).unwrap();
    assert!(matches!(wrong.follow().await, Err(RejoinError::UpstreamIsVip { .. })));
    assert!(matches!(wrong.reinit(|_| ()).await, Err(RejoinError::UpstreamIsVip { .. })));
    assert_eq!(fs::read_to_string(&auto).unwrap(), before);
    assert!(b.pg.facts(SOON).await.unwrap().streaming);
    assert!(wrong.facts(SOON).await.unwrap().follows_vip);
}
}
