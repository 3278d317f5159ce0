//! The table as a person sees it, from answers of a daemon.

use serde_json::{Value, json};

use super::table::render;

/// A leased primary with a synchronous standby.
fn primary() -> Value {
    json!({
        "instance": "harbor", "version": "0.1.0", "now_ns": 20_000_000_000_u64, "since_ns": 10_000_000_000_u64,
        "role": "primary", "vrrp": "master", "why": "PostgreSQL of this node is the primary",
        "terms": {"seen": 3, "mine": 3, "reserved": 0, "waived": 0}, "operation": "none", "vip": true,
        "peer": {"alive": true, "role": "standby", "priority": 90, "timeline": 1},
        "postgres": {"state": "primary", "facts": {
            "timeline": 1, "lsn": "0/3000060", "in_recovery": false, "streaming": true, "peer_is_sync": true,
            "sync_names": "ecs254"}},
        "refusal": null, "paused": false,
        "lease": {"isolated": "hold", "right": "leased", "waits_for_tail": false, "echo": false, "peer_waived": false,
                  "hold": false, "hold_until_ns": 0, "hold_agreed": false, "witness_trouble": null},
        "gate": {"state": "open", "leased_ns": 84_200_000, "solo_ns": 0, "dark_ns": 0, "darkenings": 0},
        "pulses_heard": {"state": "alive", "arrivals": 500, "age_ns": 3_000_000, "gap_max_ns": 21_000_000, "missed": 0,
                         "stalled": 0},
        "adverts_heard": {"arrivals": 0}, "rejects": [], "strangers": 0, "xdp_mode": "generic",
        "memory": "memory locked", "realtime": "SCHED_FIFO 50"
    })
}

/// Its standby.
fn standby() -> Value {
    let mut status = primary();
    for (pointer, value) in [
        ("/role", json!("standby")),
        ("/vrrp", json!("backup")),
        ("/why", json!("link and PostgreSQL are known")),
        ("/vip", json!(false)),
        ("/peer/role", json!("primary")),
        ("/postgres/state", json!("standby")),
        ("/postgres/facts/in_recovery", json!(true)),
        ("/lease/right", json!("none")),
        ("/lease/echo", json!(true)),
        ("/gate/state", json!("not_serving")),
    ] {
        *status.pointer_mut(pointer).expect(pointer) = value;
    }
    status
}

fn with(mut status: Value, changes: &[(&str, Value)]) -> String {
    for (pointer, value) in changes {
        *status.pointer_mut(pointer).expect(pointer) = value.clone();
    }
    render(&status, None)
}

/// The text of a line.
fn line(text: &str, name: &str) -> String {
    let found = text.lines().find(|line| line.split_whitespace().next() == Some(name));
    found.unwrap_or_else(|| panic!("no line `{name}` in:\n{text}")).to_owned()
}

#[test]
fn a_primary_at_a_glance() {
    let expected = "\
instance     harbor (harbor-ha 0.1.0)
role         PRIMARY for 10.0 s (vrrp master)
why          PostgreSQL of this node is the primary
address      served here
gate         open, leased by the peer, 84.2 ms left
peer         alive, standby, priority 90, timeline 1
postgresql   primary, timeline 1, 0/3000060, the peer streams synchronously, commits wait for ecs254
term         3 seen, primary in 3
isolated     hold: a primary whose standby does not confirm it stops serving: never two primaries, at the price that \
the loss of the standby alone stops the service
heartbeats   pulses alive, 500 heard, last 3.0 ms ago, longest gap 21.0 ms, 0 missed, 0 stalled; adverts never heard
dropped      nothing
kernel       XDP generic; memory locked
scheduling   SCHED_FIFO 50
";
    assert_eq!(render(&primary(), None), expected);
}

#[test]
fn a_standby_says_whether_it_may_take_over_and_why_not() {
    let text = render(&standby(), None);
    assert!(line(&text, "takeover").contains("yes, this standby takes over when the primary falls silent or resigns"));
    assert!(line(&text, "gate").contains("shut, as this node does not serve; the peer's stamps are echoed"), "{text}");
    let text = with(standby(), &[("/refusal", json!("WAL replay is paused")), ("/lease/echo", json!(false))]);
    assert!(line(&text, "TAKEOVER").contains("NO, this standby may not take over: WAL replay is paused"), "{text}");
    assert!(line(&text, "gate").contains("NOT echoed"), "{text}");
}

#[test]
fn a_standby_says_how_far_it_is_behind_and_since_when() {
    let mut status = standby();
    status["lag"] = json!({"bytes": 0, "since_ns": 0, "limit": null});
    assert!(line(&render(&status, None), "lag").contains("none"));
    status["lag"] = json!({"bytes": 3 << 20, "since_ns": 8_000_000_000_u64, "limit": 16 << 20});
    let text = line(&render(&status, None), "lag");
    assert!(text.ends_with("3.0 MiB behind what the primary has said, for 12.0 s; 16.0 MiB are allowed"), "{text}");
    status["lag"]["bytes"] = json!(17 << 20);
    let text = line(&render(&status, None), "LAG");
    assert!(text.ends_with("for 12.0 s: more than `postgres.max_lag` (16.0 MiB)"), "{text}");
    assert!(!render(&primary(), None).to_lowercase().contains("\nlag"), "a primary has none");
}

#[test]
fn each_right_of_a_primary_has_its_words() {
    let gate = |right: &str| line(&with(primary(), &[("/lease/right", json!(right))]), "gate");
    assert!(gate("solo").contains("alone (solo)"));
    assert!(gate("witness").contains("by the witness's word"));
    assert!(gate("serve").contains("AND MAY SERVE TOO"));
}

#[test]
fn a_dark_primary_is_loud_and_says_what_it_waits_for() {
    let gate = |changes: &[(&str, Value)]| line(&with(primary(), changes), "GATE");
    let dark = gate(&[
        ("/gate/state", json!("expired")),
        ("/gate/darkenings", json!(2)),
        ("/gate/dark_ns", json!(1_500_000_000_u64)),
    ]);
    let text = with(primary(), &[("/gate/state", json!("expired"))]);
    assert!(line(&text, "address").contains("here, and DARK"), "{text}");
    assert!(dark.contains("stays dark until the standby's kernel answers; was dark 2 times, 1.5 s in all"), "{dark}");
    let refused = gate(&[("/gate/state", json!("expired")), ("/lease/isolated", json!("witness"))]);
    assert!(refused.contains("the witness has not granted"), "{refused}");
    assert!(gate(&[("/gate/state", json!("higher_term"))]).contains("later term"));
    let tail = gate(&[("/gate/state", json!("not_serving")), ("/lease/waits_for_tail", json!(true))]);
    assert!(tail.contains("until the standby has all WAL"), "{tail}");
}

#[test]
fn what_an_operator_asked_for_is_loud() {
    assert!(line(&with(standby(), &[("/paused", json!(true))]), "PAUSED").contains("harbor-ha resume"));
    let held = [("/lease/hold", json!(true)), ("/lease/hold_until_ns", json!(62_000_000_000_u64))];
    assert!(line(&with(primary(), &held), "HOLD").contains("NOT agreed"));
    let agreed = [held[0].clone(), held[1].clone(), ("/lease/hold_agreed", json!(true))];
    assert!(line(&with(primary(), &agreed), "HOLD").contains("for another 42.0 s"));
    assert!(line(&with(primary(), &[("/lease/peer_waived", json!(true))]), "WAIVED").contains("given up its right"));
    let trouble = [("/lease/witness_trouble", json!("10.0.0.7:2379 does not answer"))];
    assert!(line(&with(primary(), &trouble), "WITNESS").contains("10.0.0.7:2379"));
}

#[test]
fn a_hand_over_says_how_long_nobody_could_write() {
    let mut status = standby();
    status["handover"] = json!({"begun_ns": 5, "shut_ns": 10_000_000_000_u64, "stopped_ns": 10_050_000_000_u64,
                                "peer_serves_ns": 10_120_000_000_u64});
    assert!(render(&status, None).contains("10.0 s ago, writes were refused for 120.0 ms as seen from this node"));
}

#[test]
fn without_pulses_there_is_no_lease_and_that_is_loud() {
    let text = with(primary(), &[("/lease", Value::Null), ("/gate", Value::Null)]);
    assert!(line(&text, "LEASE").contains("nothing keeps two nodes from serving"), "{text}");
}

#[test]
fn long_lines_are_wrapped_between_words_where_the_terminal_ends() {
    for width in [80, 120] {
        let text = render(&primary(), Some(width));
        assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
        let unwrapped: Vec<_> = text.split_whitespace().collect();
        assert_eq!(unwrapped, render(&primary(), None).split_whitespace().collect::<Vec<_>>());
    }
    // Too narrow to be of use: as it is.
    assert_eq!(render(&primary(), Some(20)), render(&primary(), None));
}

#[test]
fn saved_wal_is_told_of_when_there_is_some() {
    let with_saved = |saved: Value| {
        let mut status = primary();
        status["saved_wal"] = saved;
        render(&status, None)
    };
    for nothing in [Value::Null, json!({"path": "/s/lost-wal", "directories": 0, "bytes": 0})] {
        assert_eq!(with_saved(nothing), render(&primary(), None));
    }
    let text = with_saved(json!({"path": "/s/lost-wal", "directories": 2, "bytes": 50_331_648}));
    assert_eq!(
        line(&text, "saved"),
        "saved WAL    48.0 MiB of 2 rejoins in /s/lost-wal; remove what nobody wants to read any more"
    );
}

#[test]
fn a_havip_says_where_it_is_and_is_loud_when_that_is_wrong() {
    let with_cloud = |cloud: Value| {
        let mut status = primary();
        status["now_ns"] = json!(60_000_000_000_u64);
        status["cloud"] = cloud;
        status["cloud"]["seen_ns"] = json!(58_000_000_000_u64);
        render(&status, None)
    };
    let well = json!({"master": "i-1", "master_is_us": true, "agrees": true});
    assert_eq!(line(&with_cloud(well), "havip"), "havip        with this node (i-1), seen 2.0 s ago");
    let parted = json!({"master": "i-1", "master_is_us": false, "agrees": false, "fence": "stop: done"});
    let text = with_cloud(parted);
    assert_eq!(line(&text, "havip"), "havip        with i-1, seen 2.0 s ago; NOT with the node that serves");
    assert_eq!(line(&text, "fencing"), "fencing      stop: done");
    let unbound = json!({"master": "i-1", "master_is_us": false, "agrees": true, "bound": false});
    let text = line(&with_cloud(unbound), "havip");
    assert!(text.ends_with("; this instance is NOT BOUND to it (`harbor-ha havip bind own`)"), "{text}");
    let astray =
        json!({"master": null, "master_is_us": false, "agrees": false, "alert": "it stays", "trouble": "no key"});
    let text = with_cloud(astray);
    assert_eq!(
        line(&text, "HAVIP"),
        "HAVIP        it stays; with nobody, seen 2.0 s ago; the last look failed: no key"
    );
}

#[test]
fn a_peer_whose_kernel_never_answers_is_loud() {
    let with_answers = |answers: Value| {
        let mut status = primary();
        status["pulses_heard"]["answers"] = answers;
        line(&render(&status, None), "heartbeats")
    };
    for usual in [Value::Null, json!(1)] {
        assert_eq!(with_answers(usual), line(&render(&primary(), None), "heartbeats"));
    }
    assert!(with_answers(json!(0)).contains("NONE OF OURS ANSWERED by its kernel"));
}
