//! What an operator orders a running daemon to do: bad arguments, no daemon, and a daemon that cannot obey.

use std::sync::mpsc::Receiver;

use crate::place::Place;

/// Each with the arguments that make it a complete order.
const ORDERS: [(&str, &[&str]); 6] = [
    ("switchover", &[]),
    ("failover", &["--force", "--reason", "the primary is off"]),
    ("pause", &[]),
    ("resume", &[]),
    ("hold", &[]),
    ("reinit", &["--yes"]),
];

const STANDBY: &str = r#"{"role":"standby","why":"well","paused":false,"operation":"none","now_ns":1,
    "peer":{"role":"primary","alive":true},"postgres":{"state":"standby","facts":{"lsn":"0/3000148"}},
    "lease":{"right":"none"},"refusal":"WAL replay is paused","refusal_name":"REFUSAL"}"#;
const PRIMARY: &str = r#"{"role":"primary","why":"well","paused":false,"operation":"none","now_ns":1,
    "peer":{"role":"dead","alive":false},"postgres":{"state":"primary","facts":{"streaming":false}},
    "lease":{"right":"leased","hold":true,"hold_agreed":false}}"#;

fn one_line(status: &str) -> String {
    status.replace('\n', "")
}

/// Exit status and words, against a daemon that always answers the same; and what it was asked besides its status.
fn against(status: &str, verb: &str, more: &[&str]) -> (Option<i32>, String, Vec<String>) {
    let place = Place::new("eth0");
    let asked: Receiver<String> = place.daemon(&one_line(status));
    let (code, text) = place.order(verb, more);
    let orders = asked.try_iter().filter(|line| !line.contains("status")).collect();
    (code, text, orders)
}

#[test]
fn without_a_daemon_each_order_is_69_and_names_the_socket() {
    let place = Place::new("eth0");
    for (verb, more) in ORDERS {
        let (code, text) = place.order(verb, more);
        assert!(
            code == Some(69) && text.contains(".sock") && text.contains("is it running"),
            "{verb} {code:?}: {text}"
        );
    }
}

#[test]
fn arguments_that_are_none_are_64() {
    let place = Place::new("eth0");
    let wrong: [(&str, &[&str]); 7] = [
        ("failover", &["--force"]),
        ("failover", &["--force", "--reason"]),
        ("failover", &["--force", "--reason", "  "]),
        ("failover", &["--force", "--reason", "two\nlines"]),
        ("hold", &["--for", "1h"]),
        ("pause", &["now"]),
        ("reinit", &["yes"]),
    ];
    for (verb, more) in wrong {
        let (code, text) = place.order(verb, more);
        assert_eq!(code, Some(64), "{verb} {more:?}: {text}");
    }
}

#[test]
fn a_failover_without_force_explains_and_asks_nothing_of_the_daemon() {
    for more in [&[][..], &["--reason", "just so"]] {
        let (code, text, orders) = against(&STANDBY.replace("REFUSAL", "no_right"), "failover", more);
        assert!(code == Some(64) && orders.is_empty(), "{code:?} {orders:?}: {text}");
        for word in ["takes over when the primary is silent", "Now it would be refused: WAL replay", "--force --reason"]
        {
            assert!(text.contains(word), "`{word}` in: {text}");
        }
    }
}

#[test]
fn a_failover_that_force_cannot_help_and_one_on_the_primary_are_refused() {
    let force = ["--force", "--reason", "the primary is off"];
    let (code, text, orders) = against(&STANDBY.replace("REFUSAL", "replay_paused"), "failover", &force);
    assert!(code == Some(69) && orders.is_empty() && text.contains("not even by force"), "{code:?}: {text}");
    let (code, text, orders) = against(PRIMARY, "failover", &force);
    assert!(code == Some(69) && orders.is_empty() && text.contains("on the standby"), "{code:?}: {text}");
}

#[test]
fn a_forced_failover_says_what_may_be_lost_and_tells_the_daemon_why() {
    let (code, text, orders) =
        against(&STANDBY.replace("REFUSAL", "behind"), "failover", &["--force", "--reason", "rack 7 burns"]);
    assert!(text.contains("ARE LOST") && text.contains("0/3000148"), "{text}");
    assert!(orders.len() == 1 && orders[0].contains("rack 7 burns"), "{orders:?}");
    assert!(code == Some(69) && text.contains("has not taken over"), "this daemon does nothing; {code:?}: {text}");
}

#[test]
fn a_reinit_without_yes_names_the_price_and_one_of_a_primary_is_refused() {
    let (code, text, orders) = against(STANDBY, "reinit", &[]);
    // The configuration of this test has no [postgres], so no folder to name.
    assert!(code == Some(64) && orders.is_empty(), "{code:?}: {text}");
    let (code, text, orders) = against(PRIMARY, "reinit", &["--yes"]);
    assert!(code == Some(69) && orders.is_empty() && text.contains("switchover"), "{code:?}: {text}");
}

#[test]
fn a_switchover_from_the_wrong_node_or_without_a_peer_stops_nothing() {
    let (code, text, orders) = against(STANDBY, "switchover", &[]);
    assert!(code == Some(69) && orders.is_empty() && text.contains("on the primary"), "{code:?}: {text}");
}

#[test]
fn a_peer_that_does_not_agree_to_a_hold_is_69_within_seconds() {
    let (code, text, orders) = against(PRIMARY, "hold", &[]);
    assert!(code == Some(69) && orders.len() == 1 && text.contains("not alive"), "{code:?} {orders:?}: {text}");
    let (code, text, orders) = against(STANDBY, "hold", &[]);
    assert!(code == Some(0) && orders.is_empty() && text.contains("no hold is needed"), "{code:?}: {text}");
}

#[test]
fn orders_to_a_paused_daemon_are_refused_instead_of_kept_for_later() {
    let paused = |status: &str| status.replace("\"paused\":false", "\"paused\":true");
    let (code, text, orders) =
        against(&paused(&STANDBY.replace("REFUSAL", "paused")), "failover", &["--force", "--reason", "x"]);
    assert!(code == Some(69) && orders.is_empty() && text.contains("resume"), "{code:?}: {text}");
    let (code, text, _) = against(&paused(STANDBY), "pause", &[]);
    assert!(code == Some(0) && text.contains("paused already"), "{code:?}: {text}");
}
