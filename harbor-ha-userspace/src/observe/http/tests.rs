//! A client's view of the page, and the loop's view of its clients.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::core::rules::Rules;
use crate::core::{Adopted, Core, Terms};
use crate::observe::status::Heard;
use harbor_ha_ebpf::records::Detector;
use harbor_ha_ebpf::units::{Nanos, Priority};

fn status() -> Status {
    let rules = Rules {
        priority: Priority(100),
        addresses: (2, 1),
        adverts: true,
        advert_interval: Nanos::from_secs(1),
        start_wait: Nanos::from_secs(1),
        preempt: false,
        preempt_delay: Nanos(0),
        announce_repeat: 5,
        announce_delay: Nanos(0),
        announce_refresh: Nanos(0),
        announce_refresh_repeat: 1,
        postgres: false,
        sync: crate::core::rules::SyncPolicy::Off,
        max_lag: 0,
        probe_fall: 1,
        lease: None,
    };
    let core = Core::new(rules, Terms::default(), Adopted::default(), Nanos(5));
    Status {
        instance: "x".to_owned(),
        version: "0",
        now_ns: 5,
        unix_ns: 5,
        core: core.snapshot(),
        xdp_mode: "generic",
        realtime: None,
        memory: String::new(),
        pulses: None,
        adverts_heard: Heard::new(&Detector::default(), 5),
        pulses_heard: Heard::new(&Detector::default(), 5),
        rejects: Vec::new(),
        gate: None,
        strangers: 0,
        outside: Default::default(),
        cloud: None,
        saved_wal: None,
    }
}

/// A server with this patience; where it is, and the loop's end.
async fn served(patience: Duration) -> (SocketAddr, Looks) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (place, (ask, looks)) = (listener.local_addr().unwrap(), mpsc::channel(1));
    tokio::spawn(serve(listener, Arc::new(Desk::new(ask)), patience));
    (place, looks)
}

/// A loop that answers everybody; how many it answered, once all have left.
fn answering(mut looks: Looks) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(look) = looks.recv().await {
            let _gone = look.send(status());
        }
    })
}

async fn asks(place: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(place).await.unwrap();
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn each_path_has_its_kind_and_what_is_no_question_is_refused() {
    let (place, looks) = served(PATIENCE).await;
    let _answering = answering(looks);
    for (request, code, kind, words) in [
        ("GET /metrics", "200", "text/plain; version=0.0.4; charset=utf-8", "\nharbor_ha_role{role=\"init\"} 1\n"),
        ("GET /metrics?x=1", "200", "text/plain; version=0.0.4", "harbor_ha_build_info{version=\"0\""),
        ("GET /status", "200", "application/json", "\"role\":\"init\""),
        ("GET /", "200", "text/plain; charset=utf-8", "INIT for"),
        ("GET /other", "404", "text/plain", "/metrics and /status"),
        ("POST /status", "405", "text/plain", "only GET"),
        ("DELETE /metrics", "405", "text/plain", "only GET"),
    ] {
        let answer = asks(place, request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{request}: {answer}");
        assert!(answer.contains(&format!("content-type: {kind}")) && answer.contains(words), "{request}: {answer}");
    }
    assert!(!asks(place, "HEAD /metrics").await.contains("harbor_ha_role{"), "a head has no body");
}

#[tokio::test]
async fn what_is_no_http_and_what_is_too_long_ends() {
    let (place, looks) = served(PATIENCE).await;
    let _answering = answering(looks);
    let long = format!("GET /{}", "x".repeat(4 * REQUEST_MAX));
    for request in ["\u{1}\u{2}\u{3}", long.as_str()] {
        let answer = asks(place, request).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert!(asks(place, "GET /status").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn clients_that_say_nothing_make_room_for_one_that_asks() {
    let (place, looks) = served(Duration::from_millis(50)).await;
    let _answering = answering(looks);
    let mut idle = Vec::new();
    for _ in 0..CLIENTS * 2 {
        idle.push(TcpStream::connect(place).await.unwrap());
    }
    assert!(asks(place, "GET /metrics").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn clients_that_come_together_share_one_snapshot() {
    let (place, mut looks) = served(PATIENCE).await;
    let clients: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(asks(place, "GET /status"))).collect();
    let look = looks.recv().await.expect("somebody asks");
    // Nobody else does meanwhile.
    tokio::task::yield_now().await;
    assert!(looks.try_recv().is_err());
    look.send(status()).expect("it waits");
    let answering = answering(looks);
    for client in clients {
        assert!(client.await.unwrap().starts_with("HTTP/1.1 200"));
    }
    answering.abort();
}

#[tokio::test]
async fn a_loop_that_is_gone_is_said() {
    let (place, looks) = served(PATIENCE).await;
    drop(looks);
    let answer = asks(place, "GET /metrics").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("does not answer"), "{answer}");
}

#[tokio::test]
async fn a_loop_that_does_not_answer_is_waited_for_in_vain_and_asked_again() {
    let (place, mut looks) = served(PATIENCE).await;
    let first = tokio::spawn(asks(place, "GET /status"));
    drop(looks.recv().await.expect("somebody asks"));
    assert!(first.await.unwrap().starts_with("HTTP/1.1 503 "));
    let _answering = answering(looks);
    assert!(asks(place, "GET /status").await.starts_with("HTTP/1.1 200"));
}
