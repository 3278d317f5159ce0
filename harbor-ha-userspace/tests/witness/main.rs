//! The witness against a real etcd and a real Redis.
//!
//! Needs no root: the servers run as whoever runs the tests, on loopback. Without their programs every test here
//! says so and passes, unless `CI=true`.

mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use harbor_ha::config::settings::WitnessKind::{self, Etcd, Redis};
use harbor_ha::config::settings::{Endpoint, Witness as Settings};
use harbor_ha::witness::{Grant, Holder, Records, Refusal, WitnessError};
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use tokio::sync::Barrier;

use server::{DURABLE, PATIENT, Server, address, endpoint, free_port, is_there, login, node};

/// One test for both kinds.
macro_rules! both {
    ($(async fn $name:ident($kind:ident) $body:block)*) => {
        $(
            mod $name {
                use super::*;

                async fn run($kind: WitnessKind) {
                    if is_there($kind) $body
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn etcd() {
                    run(Etcd).await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn redis() {
                    run(Redis).await;
                }
            }
        )*
    };
}

fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap().into()
}

/// The first instant at which the witness may have forgotten.
fn end(grant: Grant) -> Duration {
    Duration::from_nanos(grant.asked.0) + grant.ttl
}

fn holder(n: u8, term: u64) -> Holder {
    Holder { node: address(n), term }
}

fn held<T>(n: u8, term: u64) -> Result<T, WitnessError> {
    Err(Refusal::Held { holder: holder(n, term) }.into())
}

fn stale<T>(n: u8, term: u64) -> Result<T, WitnessError> {
    Err(Refusal::Stale { highest: holder(n, term) }.into())
}

fn revoked<T>(n: u8, term: u64) -> Result<T, WitnessError> {
    Err(Refusal::Revoked { by: holder(n, term) }.into())
}

#[track_caller]
fn unreachable<T: std::fmt::Debug>(answer: Result<T, WitnessError>) -> String {
    match answer {
        Err(WitnessError::Unreachable(why)) => why,
        other => panic!("no answer expected: {other:?}"),
    }
}

#[track_caller]
fn denied<T: std::fmt::Debug>(answer: Result<T, WitnessError>) -> String {
    match answer {
        Err(WitnessError::Denied(why)) => why,
        other => panic!("a denial expected: {other:?}"),
    }
}

both! {
    async fn the_solo_key_is_held_by_one_node_until_it_is_released(kind) {
        let server = Server::start(kind).await;
        let (mut a, mut b) = (server.witness(1), server.witness(2));
        assert_eq!(a.look().await, Ok(Records::default()));
        let before = now();
        let grant = a.acquire(5, 0).await.unwrap();
        assert!(before <= Duration::from_nanos(grant.asked.0) && Duration::from_nanos(grant.asked.0) <= now());
        assert!(grant.ttl >= server.settings().ttl);
        assert_eq!(b.acquire(6, 5).await, held(1, 5));
        assert_eq!(b.renew(6).await, Err(Refusal::Lost { holder: Some(holder(1, 5)) }.into()));
        assert_eq!(b.release(6).await, Err(Refusal::Lost { holder: Some(holder(1, 5)) }.into()));
        // Again, as after an answer that got lost.
        a.acquire(5, 0).await.unwrap();
        a.release(5).await.unwrap();
        assert_eq!(a.release(5).await, Err(Refusal::Lost { holder: None }.into()));
        b.acquire(6, 5).await.unwrap();
        let records = Records { solo: Some(holder(2, 6)), revoked: None, highest: Some(holder(2, 6)) };
        assert_eq!(a.look().await, Ok(records));
    }

    async fn a_key_that_is_renewed_outlives_its_ttl_and_then_frees_itself_but_not_early(kind) {
        let server = Server::start(kind).await;
        let (mut a, mut b) = (server.witness(1), server.witness(2));
        let first = a.acquire(5, 0).await.unwrap();
        let mut last = first;
        let mut renewals = 0;
        while now() < end(first) + first.ttl / 2 {
            assert_eq!(b.acquire(6, 5).await, held(1, 5));
            last = a.renew(5).await.unwrap();
            renewals += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(renewals > 5);
        // The other node never saw the end of the first; it sees that of the last, and not before.
        loop {
            match b.acquire(6, 5).await {
                Ok(_) => break,
                refused => assert_eq!(refused, held(1, 5)),
            }
            assert!(now() < end(last) + PATIENT);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        println!("{kind:?}: free {:?} after the end that the holder counts with", now() - end(last));
        assert!(now() >= end(last));
        // What the old holder believes does not matter any more.
        assert_eq!(a.renew(5).await, Err(Refusal::Lost { holder: Some(holder(2, 6)) }.into()));
        assert_eq!(a.acquire(5, 0).await, stale(2, 6));
        assert_eq!(a.acquire(6, 5).await, stale(2, 6));
        assert_eq!(a.acquire(7, 6).await, held(2, 6));
        assert_eq!(a.revoke(5).await, stale(2, 6));
    }

    async fn a_revoked_right_and_the_highest_term_outlive_the_ttl_and_the_server(kind) {
        let more: &[&str] = if kind == Redis { &DURABLE } else { &[] };
        let mut server = Server::start_with(kind, more).await;
        let (mut a, mut b) = (server.witness(1), server.witness(2));
        a.acquire(5, 0).await.unwrap();
        a.revoke(5).await.unwrap();
        // Whatever else changes, the TTL runs on and the key is not freed.
        assert_eq!(b.acquire(6, 5).await, revoked(1, 5));
        let held = a.look().await.unwrap();
        assert_eq!(held, Records { solo: Some(holder(1, 5)), revoked: Some(holder(1, 5)), highest: Some(holder(1, 5)) });
        let begun = Instant::now();
        while a.look().await.unwrap().solo.is_some() {
            assert!(begun.elapsed() < PATIENT);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(a.renew(5).await, Err(Refusal::Lost { holder: None }.into()));
        for with in [Signal::SIGTERM, Signal::SIGKILL] {
            server.restart(with).await;
            assert_eq!(b.acquire(6, 5).await, revoked(1, 5));
            assert_eq!(b.acquire(5, 4).await, stale(1, 5));
        }
        // On the connection of before the restart, which is broken.
        a.restore(5).await.unwrap();
        b.acquire(6, 5).await.unwrap();
        assert_eq!(a.restore(5).await, stale(2, 6));
    }

    async fn a_server_that_hangs_is_unreachable_within_the_timeout_and_back_when_it_goes_on(kind) {
        let server = Server::start(kind).await;
        let timeout = Duration::from_millis(300);
        let mut a = node(1, &Settings { timeout, ..server.settings() });
        let mut fresh = node(1, &Settings { timeout, ..server.settings() });
        server.witness(1).acquire(5, 0).await.unwrap();
        a.acquire(5, 0).await.unwrap();
        server.signal(Signal::SIGSTOP);
        // Over a connection that stands, over none, and again.
        for witness in [&mut a, &mut fresh] {
            for _ in 0..2 {
                // The answer comes while the server still hangs: before SIGCONT.
                let begun = Instant::now();
                let answer = tokio::time::timeout(PATIENT, witness.renew(5)).await;
                let why = unreachable(answer.expect("an answer while the server hangs"));
                println!("{kind:?}: {why} (after {:?} of {timeout:?})", begun.elapsed());
                assert!(why.contains(": silent for "), "{why}");
            }
        }
        server.signal(Signal::SIGCONT);
        for witness in [&mut a, &mut fresh] {
            let begun = Instant::now();
            while let Err(WitnessError::Unreachable(why)) = witness.acquire(5, 0).await {
                assert!(begun.elapsed() < PATIENT, "{why}");
            }
        }
        assert_eq!(a.look().await.unwrap().highest, Some(holder(1, 5)));
    }

    async fn a_server_that_is_not_there_is_told_with_its_address(kind) {
        let mut server = Server::start(kind).await;
        let port = free_port();
        let mut settings = Settings { endpoints: vec![endpoint(port)], ..server.settings() };
        let why = unreachable(node(1, &settings).look().await);
        assert!(why.starts_with(&format!("127.0.0.1:{port}: ")) && why.contains("refused"), "{why}");
        // A port that does not speak TLS: etcd hangs up, Redis waits for more.
        settings.timeout = Duration::from_secs(2);
        settings.endpoints = vec![Endpoint { tls: true, ..endpoint(server.port) }];
        let why = unreachable(node(1, &settings).look().await);
        println!("{kind:?}: {why}");
        // Another endpoint that answers will do, beside one that refuses and one that hangs.
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let silent = listener.local_addr().unwrap().port();
        let asked = || std::iter::from_fn(|| listener.accept().ok()).count();
        settings.endpoints = [port, silent, server.port].map(endpoint).to_vec();
        let mut a = node(1, &settings);
        a.acquire(5, 0).await.unwrap();
        assert!(asked() > 0, "it comes before the one that answers");
        // Which is asked first from then on, also over a new connection.
        a.acquire(5, 0).await.unwrap();
        server.restart(Signal::SIGKILL).await;
        a.acquire(5, 0).await.unwrap();
        assert_eq!(asked(), 0);
    }

    async fn of_many_at_once_exactly_one_is_granted_a_term(kind) {
        let server = Server::start(kind).await;
        let mut witnesses: Vec<_> = (1..=16).map(|n| (n, server.witness(n))).collect();
        let mut winners = Vec::new();
        for term in 1..=20 {
            let together = Arc::new(Barrier::new(witnesses.len()));
            let tasks = witnesses.drain(..).map(|(n, mut witness)| {
                let together = together.clone();
                tokio::spawn(async move {
                    together.wait().await;
                    let answer = witness.acquire(term, term - 1).await;
                    (n, witness, answer)
                })
            });
            let mut granted = Vec::new();
            let mut refused = Vec::new();
            for task in tasks.collect::<Vec<_>>() {
                let (n, witness, answer) = task.await.unwrap();
                match answer {
                    Ok(_) => granted.push(n),
                    Err(error) => refused.push(error),
                }
                witnesses.push((n, witness));
            }
            let [winner] = granted[..] else { panic!("term {term}: granted to {granted:?}") };
            for error in refused {
                assert_eq!(Err::<(), _>(error), stale(winner, term));
            }
            winners.push(winner);
            let (_, winning) = witnesses.iter_mut().find(|(n, _)| *n == winner).unwrap();
            winning.release(term).await.unwrap();
        }
        println!("{kind:?}: winners {winners:?}");
    }

    async fn a_record_of_somebody_else_is_told_and_left_alone(kind) {
        let server = Server::start(kind).await;
        let mut a = server.witness(1);
        let key = match kind {
            Etcd => {
                // "/harbor-ha/7/51/solo" and "yours".
                server.etcd("kv/put", r#"{"key":"L2hhcmJvci1oYS83LzUxL3NvbG8=","value":"eW91cnM="}"#);
                "/harbor-ha/7/51/solo"
            }
            Redis => {
                let client = redis::Client::open(format!("redis://127.0.0.1:{}", server.port)).unwrap();
                let mut connection = client.get_multiplexed_async_connection().await.unwrap();
                let mut set = redis::cmd("SET");
                set.arg("{harbor-ha:7:51}:solo").arg("yours");
                set.exec_async(&mut connection).await.unwrap();
                "{harbor-ha:7:51}:solo"
            }
        };
        for _ in 0..2 {
            let foreign = WitnessError::Foreign { key: key.into(), text: "yours".into() };
            assert_eq!(a.acquire(5, 0).await, Err(foreign));
        }
    }

    async fn a_round_trip_takes_how_long(kind) {
        let server = Server::start(kind).await;
        let mut a = server.witness(1);
        for what in ["acquire", "renew"] {
            a.acquire(5, 0).await.unwrap();
            let mut took = Vec::new();
            for _ in 0..300 {
                let begun = Instant::now();
                if what == "renew" { a.renew(5).await } else { a.acquire(5, 0).await }.unwrap();
                took.push(begun.elapsed());
            }
            took.sort();
            println!("{kind:?}: {what} p50 {:?} p99 {:?} max {:?}", took[150], took[297], took[299]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_with_accounts_denies_a_wrong_password_and_knows_the_right_one_after_a_restart_too() {
    if !is_there(Etcd) {
        return;
    }
    let mut server = Server::start(Etcd).await;
    for (path, body) in [
        ("auth/user/add", r#"{"name":"root","password":"r00t"}"#),
        ("auth/role/add", r#"{"name":"root"}"#),
        ("auth/user/grant", r#"{"user":"root","role":"root"}"#),
        ("auth/user/add", r#"{"name":"harbor","password":"s3cret"}"#),
        ("auth/role/add", r#"{"name":"witness"}"#),
        // From "/harbor-ha/" to "/harbor-ha0": the prefix alone.
        (
            "auth/role/grant",
            r#"{"name":"witness","perm":{"permType":2,"key":"L2hhcmJvci1oYS8=","range_end":"L2hhcmJvci1oYTA="}}"#,
        ),
        ("auth/user/grant", r#"{"user":"harbor","role":"witness"}"#),
        ("auth/enable", "{}"),
    ] {
        let answer = server.etcd(path, body);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    let as_who = |login| node(1, &Settings { login, ..server.settings() });
    let elsewhere = Settings { prefix: "other".into(), ..server.settings() };
    let elsewhere = Settings { login: login("harbor", "s3cret"), ..elsewhere };
    for mut witness in
        [as_who(None), as_who(login("harbor", "wrong")), as_who(login("nobody", "x")), node(1, &elsewhere)]
    {
        let begun = Instant::now();
        let why = denied(witness.acquire(5, 0).await);
        println!("etcd: {why} ({:?})", begun.elapsed());
        assert!(!why.contains("wrong"));
    }
    let mut harbor = as_who(login("harbor", "s3cret"));
    harbor.acquire(5, 0).await.unwrap();
    harbor.revoke(5).await.unwrap();
    // Its tokens do not outlive it.
    server.restart(Signal::SIGTERM).await;
    harbor.acquire(5, 0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_with_accounts_denies_a_wrong_password() {
    if !is_there(Redis) {
        return;
    }
    let account = ["--user", "harbor", "on", ">s3cret", "~{harbor-ha:*", "+@all", "-@dangerous"];
    let accounts = [&["--requirepass", "master"], &account[..]].concat();
    let server = Server::start_with(Redis, &accounts).await;
    let as_who = |login| node(1, &Settings { login, ..server.settings() });
    let elsewhere = Settings { prefix: "other".into(), ..server.settings() };
    let elsewhere = Settings { login: login("harbor", "s3cret"), ..elsewhere };
    for mut witness in [as_who(None), as_who(login("", "wrong")), as_who(login("harbor", "wrong")), node(1, &elsewhere)]
    {
        let why = denied(witness.acquire(5, 0).await);
        println!("Redis: {why}");
        assert!(!why.contains("wrong"));
    }
    as_who(login("", "master")).acquire(5, 0).await.unwrap();
    as_who(login("harbor", "s3cret")).acquire(5, 0).await.unwrap();
}
