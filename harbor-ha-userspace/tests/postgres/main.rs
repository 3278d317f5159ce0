//! The PostgreSQL room against real servers.
//!
//! Needs root (a server runs as another user) and `HARBOR_HA_PG_BIN`, the directory of PostgreSQL's programs, which
//! `cargo xtask test postgres` sets; without them every test here says so and passes, unless `CI=true`.

mod pair;

use std::fs;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use harbor_ha::pg::{
    Level, OpenError, Pg, Probe, Refusal, RejoinBy, RejoinError, RejoinStep, StartAs, StartError, StopMode,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getsid};
use pair::{Node, Pair, SOON, bin_dir, wait_until};

/// Runs in a runtime like the daemon's; skips when there is no PostgreSQL.
macro_rules! real {
    ($(#[$meta:meta])* async fn $name:ident($bin:ident) $body:block) => {
        $(#[$meta])*
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let Some($bin) = bin_dir() else { return };
            let $bin = $bin.as_path();
            $body
        }
    };
}

mod facts;
mod fallback;
mod faults;
mod untaken;

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

real! {
async fn a_killed_primary_that_wrote_on_comes_back_by_pg_rewind_and_no_acknowledged_row_is_lost(bin) {
    let pair = Pair::new(bin, "").await;
    let (a, b) = (&pair.a, &pair.b);
    a.pg.set_sync("b", SOON).await.unwrap();
    wait_until(a, |facts| facts.peer_is_sync).await; // its WAL sender reloads when it next wakes
    let primary = a.pg.facts(SOON).await.unwrap();
    let standby = b.pg.facts(SOON).await.unwrap();
    assert!(!primary.in_recovery && primary.streaming && primary.peer_is_sync, "{primary:?}");
    assert_eq!((primary.sync_names.as_str(), primary.timeline), ("b", 1));
    assert!(standby.in_recovery && standby.streaming && !standby.replay_paused, "{standby:?}");
    assert_eq!(standby.system_identifier, primary.system_identifier);
    assert_eq!(b.pg.peer_facts(SOON).await.unwrap().system_identifier, primary.system_identifier);

    // Writers, and a backend that is busy for long after its postmaster is dead.
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let writer = tokio::spawn({
        let (client, acknowledged) = (a.client().await, acknowledged.clone());
        async move {
            for id in 0.. {
                if client.execute("INSERT INTO t VALUES ($1)", &[&id]).await.is_err() {
                    return;
                }
                acknowledged.lock().unwrap().push(id);
            }
        }
    });
    let busy = a.client().await;
    let busy = tokio::spawn(async move {
        let spin = "DO $$ DECLARE x int; BEGIN FOR i IN 1..1000000000 LOOP x := i; END LOOP; END $$";
        busy.batch_execute(spin).await
    });
    tokio::time::sleep(Duration::from_millis(300)).await;

    let postmaster = a.pg.running().unwrap();
    let begun = Instant::now();
    signal(postmaster.pid(), Signal::SIGKILL);
    postmaster.exited().await.unwrap();
    println!("death of the postmaster seen after {:?}", begun.elapsed());
    assert!(a.pg.running().is_none());
    assert!(!busy.is_finished());
    let killed = a.pg.kill_all();
    println!("kill_all: {killed:?}");
    assert!(killed.processes >= 1 && killed.left.is_empty(), "{killed:?}");
    assert!(busy.await.unwrap().is_err());
    writer.await.unwrap();
    assert_eq!(a.pg.kill_all().processes, 0);

    let promoted = b.pg.promote(SOON).await.unwrap();
    println!("promotion: {:?} us", promoted.took().0 / 1000);
    assert!(!promoted.was_primary);
    assert!(b.pg.promote(SOON).await.unwrap().was_primary);
    b.client().await.batch_execute("INSERT INTO t VALUES (-1)").await.unwrap();
    assert_eq!(b.pg.facts(SOON).await.unwrap().timeline, 2);

    // Somebody starts the old primary, and it writes: a history of its own.
    assert!(!a.pg.at_rest().unwrap().clean);
    a.start(StartAs::Primary).await;
    a.pg.set_sync("", SOON).await.unwrap();
    a.client().await.batch_execute("INSERT INTO t SELECT -2 FROM generate_series(1, 10000)").await.unwrap();
    a.pg.set_sync("b", SOON).await.unwrap();
    assert!(a.pg.kill_all().processes > 1);

    let mut steps = Vec::new();
    let rejoined = a.pg.rejoin(RejoinBy::Rewind, |step| steps.push(step)).await.unwrap();
    println!("rejoin: {rejoined:?}");
    assert!(rejoined.rewound);
    assert_eq!(rejoined.timeline, 2);
    let loss = rejoined.loss.unwrap();
    assert!(loss.complete && loss.commits >= 1, "{loss}");
    use RejoinStep::*;
    assert_eq!(steps, [Begin, Compare, Recover, Slot, Checkpoint, Save, Rewind, Configure, Start, Stream, Done]);
    assert!(!a.pg.rejoin_pending());
    assert!(!a.state_dir.join("node-files").exists());
    let standby = a.pg.facts(SOON).await.unwrap();
    assert!(standby.in_recovery && standby.streaming, "{standby:?}");
    assert_eq!((standby.timeline, standby.sync_names.as_str()), (2, ""));

    // Synchronous the other way round: a commit now needs the rejoined node.
    b.pg.set_sync("a", SOON).await.unwrap();
    b.client().await.batch_execute("SET synchronous_commit = remote_apply; INSERT INTO t VALUES (-3)").await.unwrap();
    wait_until(b, |facts| facts.peer_is_sync).await;
    let acknowledged = std::mem::take(&mut *acknowledged.lock().unwrap());
    println!("{} acknowledged rows", acknowledged.len());
    assert!(acknowledged.len() > 10);
    for node in [a, b] {
        let last = acknowledged.last().unwrap();
        let (ours, expected) = (node.count(&format!("id BETWEEN 0 AND {last}")).await, acknowledged.len() as i64);
        assert_eq!(ours, expected);
        assert_eq!((node.count("id = -1").await, node.count("id = -2").await, node.count("id = -3").await), (1, 0, 1));
    }
}
}

real! {
async fn a_clean_stop_needs_no_rewind_and_roles_can_go_to_and_fro(bin) {
    // No wal_log_hints: the checksums of the pair would do for pg_rewind, but it must not even be asked.
    let pair = Pair::new(bin, "").await;
    let (mut primary, mut standby) = (&pair.a, &pair.b);
    let (mut promotions, mut rejoins) = (Vec::new(), Vec::new());
    for round in 0..16 {
        primary.client().await.execute("INSERT INTO t VALUES ($1)", &[&round]).await.unwrap();
        let stopped = primary.pg.stop(StopMode::Fast).await;
        assert_eq!((stopped.by, stopped.killed.processes), (Some(StopMode::Fast), 0));
        assert!(primary.pg.at_rest().unwrap().clean);
        promotions.push(standby.pg.promote(SOON).await.unwrap().took().0 / 1000);
        standby.pg.ensure_slot("harbor_ha", SOON).await.unwrap();
        let mut steps = Vec::new();
        let rejoined = primary.pg.rejoin(RejoinBy::Rewind, |step| steps.push(step)).await.unwrap();
        assert!(!rejoined.rewound && !steps.contains(&RejoinStep::Rewind), "{steps:?}");
        assert_eq!(rejoined.timeline, round as u32 + 2);
        rejoins.push(rejoined.took.as_millis());
        std::mem::swap(&mut primary, &mut standby);
    }
    println!("promotions, us: {promotions:?}; rejoins, ms: {rejoins:?}");
    assert_eq!(primary.count("true").await, 16);
    let slots = standby.client().await.query("SELECT FROM pg_replication_slots", &[]).await.unwrap();
    assert!(slots.is_empty()); // on a standby it would hold back WAL
}
}

real! {
async fn a_rejoin_that_was_cut_short_at_its_last_word_ends_later_or_with_the_promotion(bin) {
    let pair = Pair::new(bin, "").await;
    let (a, b) = (&pair.a, &pair.b);
    let journal = |node: &Node| node.state_dir.join("rejoin.json");
    let rejoin = async |node: &Node| {
        let mut kept = Vec::new();
        let step = |step| {
            if step == RejoinStep::Start {
                kept = fs::read(journal(node)).unwrap();
            }
        };
        node.pg.rejoin(RejoinBy::Rewind, step).await.unwrap();
        // As if the daemon had been killed before its last word. The callback comes before the step is noted.
        String::from_utf8(kept).unwrap().replace("\"configure\"", "\"start\"")
    };
    let _clean = a.pg.stop(StopMode::Fast).await;
    b.pg.promote(SOON).await.unwrap();
    let cut = rejoin(a).await;
    fs::write(journal(a), &cut).unwrap();
    assert!(a.pg.facts(SOON).await.unwrap().rejoin_pending);
    let before = a.pg.running().unwrap().pid();
    a.pg.rejoin(RejoinBy::Anything, |_| ()).await.unwrap();
    assert!(!journal(a).exists() && a.pg.running().unwrap().pid() == before, "nothing was started again");
    // The other way: its primary dies first.
    fs::write(journal(a), &cut).unwrap();
    let _clean = b.pg.stop(StopMode::Fast).await;
    a.pg.promote(SOON).await.unwrap();
    assert!(!journal(a).exists());
    let _killed = a.pg.stop(StopMode::Kill).await;
    a.start(StartAs::Primary).await;
    // One that did not get as far says nothing of a server that somebody else started.
    let _clean = b.pg.stop(StopMode::Fast).await;
    let early = rejoin(b).await.replace("\"start\"", "\"compare\"");
    fs::write(journal(b), &early).unwrap();
    let refused = b.pg.promote(SOON).await.unwrap_err().to_string();
    assert!(refused.contains("cut short at Compare") && journal(b).exists(), "{refused}");
}
}

real! {
async fn a_promotion_after_a_crash_takes_tens_of_milliseconds(bin) {
    let pair = Pair::new(bin, "").await;
    let (mut primary, mut standby) = (&pair.a, &pair.b);
    let (mut promotions, mut first_writes, mut kills, mut rejoins) = (vec![], vec![], vec![], vec![]);
    for round in 0..10 {
        primary.client().await.execute("INSERT INTO t VALUES ($1)", &[&round]).await.unwrap();
        let client = standby.client().await;
        standby.pg.facts(SOON).await.unwrap();
        kills.push(primary.pg.kill_all().took.as_micros());
        let begun = Instant::now();
        promotions.push(standby.pg.promote(SOON).await.unwrap().took().0 / 1000);
        client.execute("INSERT INTO t VALUES ($1)", &[&round]).await.unwrap();
        first_writes.push(begun.elapsed().as_micros());
        standby.pg.ensure_slot("harbor_ha", SOON).await.unwrap();
        rejoins.push(primary.pg.rejoin(RejoinBy::Rewind, |_| ()).await.unwrap().took.as_millis());
        std::mem::swap(&mut primary, &mut standby);
    }
    println!("us: kill_all {kills:?}, promotions {promotions:?}, first write {first_writes:?}; ms: rejoins {rejoins:?}");
    // The limit is a guess at what a loaded machine may do; the numbers are what matters.
    assert!(promotions.iter().all(|took| *took < 2_000_000));
}
}

real! {
async fn two_primaries_on_one_timeline_number_are_told_that_they_diverged(bin) {
    let pair = Pair::new(bin, "").await;
    let (a, b) = (&pair.a, &pair.b);
    let _ = a.pg.stop(StopMode::Fast).await;
    b.pg.promote(SOON).await.unwrap();
    // The other one becomes timeline 2 as well, at another position.
    a.start(StartAs::Primary).await;
    a.client().await.batch_execute("INSERT INTO t VALUES (-2)").await.unwrap();
    let _ = a.pg.stop(StopMode::Fast).await;
    fs::write(a.data_dir().join("standby.signal"), "").unwrap();
    let refused = a.pg.start(StartAs::Primary).await;
    assert!(matches!(refused, Err(StartError::IsStandby { .. })), "{refused:?}");
    a.start(StartAs::Standby).await;
    a.pg.promote(SOON).await.unwrap();
    a.pg.checkpoint(SOON).await.unwrap();
    let _ = a.pg.stop(StopMode::Fast).await;
    let error = a.pg.rejoin(RejoinBy::Rewind, |_| ()).await.unwrap_err();
    assert!(matches!(error, RejoinError::Diverged { timeline: 2, .. }), "{error}");
    assert!(error.needs_base_backup());
    println!("{error}");
    // Whatever comes next, nobody starts this directory as a primary.
    assert!(a.pg.rejoin_pending());
    let refused = a.pg.start(StartAs::Primary).await;
    assert!(refused.is_err(), "{refused:?}");
}
}

real! {
async fn a_probe_tells_silent_from_full_from_gone(bin) {
    let pair = Pair::new(bin, "max_connections = 8\nmax_wal_senders = 4").await;
    let a = &pair.a;
    assert!(matches!(a.pg.probe(SOON).await, Probe::Answers { .. }));
    let mut crowd = Vec::new();
    let text = loop {
        match a.pg.probe(SOON).await {
            Probe::Answers { .. } => crowd.extend(a.try_client().await), // the probe's backend may still be leaving
            Probe::Refused { why: Refusal::TooManyConnections, text } => break text,
            odd => panic!("{odd:?}"),
        }
    };
    println!("with {} clients: {text}", crowd.len());
    drop(crowd);
    let postmaster = a.pg.running().unwrap();
    assert!(a.pg.facts(SOON).await.is_ok());
    signal(postmaster.pid(), Signal::SIGSTOP);
    let limit = Duration::from_millis(200);
    assert_eq!(a.pg.probe(limit).await, Probe::NoAnswer { after: limit });
    assert!(a.pg.facts(SOON).await.is_ok(), "an existing backend goes on answering");
    let killed = a.pg.kill_all();
    println!("kill_all of a stopped postmaster: {killed:?}");
    assert!(killed.left.is_empty());
    assert!(matches!(a.pg.probe(SOON).await, Probe::NotThere { .. }));
    assert!(a.pg.facts(limit).await.is_err());
    // The control connection comes back by itself.
    a.start(StartAs::Primary).await;
    assert!(!a.pg.facts(SOON).await.unwrap().in_recovery);
}
}

real! {
async fn a_server_is_in_a_session_of_its_own_and_one_that_cannot_start_says_why(bin) {
    let pair = Pair::new(bin, "").await;
    let a = &pair.a;
    let postmaster = a.pg.running().unwrap();
    let pid = Pid::from_raw(postmaster.pid());
    assert_eq!(getsid(Some(pid)).unwrap(), pid);
    let open: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten().collect();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{} descriptors, ours {}", open.len(), listener.as_raw_fd());
    assert!(matches!(a.pg.start(StartAs::Primary).await, Err(StartError::Busy { .. })));
    let _ = a.pg.stop(StopMode::Immediate).await;
    let conf = a.data_dir().join("postgresql.conf");
    let good = fs::read_to_string(&conf).unwrap();
    fs::write(&conf, format!("{good}\nmax_connections = none\n")).unwrap();
    let error = a.pg.start(StartAs::Primary).await.unwrap_err();
    assert!(error.to_string().contains("max_connections"), "{error}");
    fs::write(&conf, good).unwrap();
    a.start(StartAs::Primary).await;
    let stopped = a.pg.stop(StopMode::Immediate).await;
    println!("immediate stop: {stopped:?}");
    assert_eq!(stopped.by, Some(StopMode::Immediate));
}
}

real! {
async fn the_check_finds_what_is_wrong_with_a_real_pair(bin) {
    let pair = Pair::new(bin, "recovery_min_apply_delay = 1").await;
    let (a, b) = (&pair.a, &pair.b);
    let worst = |found: &[harbor_ha::pg::Finding]| {
        let problems = found.iter().filter(|finding| finding.level == Level::Problem);
        problems.map(|finding| finding.subject).collect::<Vec<_>>()
    };
    let found = b.pg.findings(&[a.address], SOON).await;
    for finding in &found {
        println!("{:?} {}: {}", finding.level, finding.subject, finding.text);
    }
    assert_eq!(worst(&found), ["recovery_min_apply_delay", "primary_conninfo"]);
    assert!(found.iter().any(|finding| finding.subject == "peer" && finding.level == Level::Good));
    // Our own connections commit locally; what is judged is what a client gets.
    let about_commits = |found: &[harbor_ha::pg::Finding]| found.iter().any(|it| it.subject == "synchronous_commit");
    assert!(!about_commits(&found));
    b.client().await.batch_execute("ALTER SYSTEM SET synchronous_commit = 'local'").await.unwrap();
    assert!(about_commits(&b.pg.findings(&[], SOON).await));
    let _ = a.pg.stop(StopMode::Fast).await;
    assert_eq!(worst(&a.pg.findings(&[], SOON).await), ["server"]);
}
}

real! {
async fn a_standby_follows_a_new_upstream_without_a_restart(bin) {
    let pair = Pair::new(bin, "").await;
    let b = &pair.b;
    let before = b.pg.running().unwrap().pid();
    let client = b.client().await;
    client.batch_execute("ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.9'").await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    // The reload is asynchronous: what streams still might be the old connection.
    wait_until(b, |facts| !facts.streaming).await;
    b.pg.follow().await.unwrap();
    wait_until(b, |facts| facts.streaming).await;
    assert_eq!(b.pg.running().unwrap().pid(), before);
}
}

real! {
async fn nothing_is_opened_that_cannot_be_managed(bin) {
    let pair = Pair::new(bin, "").await;
    let mut settings = pair.a.pg.settings().clone();
    settings.bin_dir = "/nonexistent".into();
    assert!(matches!(Pg::open(settings.clone(), &pair.a.state_dir), Err(OpenError::Program { .. })));
    settings.data_dir = "/nonexistent".into();
    assert!(matches!(Pg::open(settings.clone(), &pair.a.state_dir), Err(OpenError::DataDir { .. })));
    let dir = tempfile::tempdir().unwrap();
    settings.data_dir = dir.path().into();
    fs::write(dir.path().join("PG_VERSION"), "12\n").unwrap();
    assert!(matches!(Pg::open(settings.clone(), &pair.a.state_dir), Err(OpenError::Version { .. })));
    fs::write(dir.path().join("PG_VERSION"), "13\n").unwrap();
    assert!(matches!(Pg::open(settings, &pair.a.state_dir), Err(OpenError::OwnedByRoot { .. })));
    let version = Command::new(bin.join("postgres")).arg("--version").output().unwrap();
    println!("{}", String::from_utf8_lossy(&version.stdout).trim());
}
}
