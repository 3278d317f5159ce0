//! Connections that were open before a fault: every client learns of it, also one that only waits, and is served again.

use harbor_ha_tests::lab::fault::Fault;
use harbor_ha_tests::lab::need::{self, LAB};
use harbor_ha_tests::lab::{Lab, Options};
use harbor_ha_tests::run::{judge, rounds};

/// A third of them idle, a third waiting for a reply, a third busy.
const OPEN: usize = 30;

fn all_are_served_again(test: &str, fault: Fault) {
    if !need::has(test, &LAB) {
        return;
    }
    let lab = Lab::up(&Options::default()).unwrap();
    let done = rounds(&lab, fault, 1, OPEN, |round| eprintln!("{}", round.timeline())).unwrap();
    let figures = done[0].pool.as_ref().expect("there was a pool").json();
    let count = |what: &str| figures["all"][what].as_u64();
    if judge(&done, 1).is_err() || count("replaced") != Some(OPEN as u64) {
        lab.keep_logs();
    }
    judge(&done, 1).unwrap();
    assert_eq!((count("noticed"), count("replaced")), (Some(OPEN as u64), Some(OPEN as u64)), "{figures:#}");
}

#[test]
fn a_power_loss_is_noticed_by_every_open_connection() {
    all_are_served_again("a_power_loss_is_noticed_by_every_open_connection", Fault::Node);
}

#[test]
fn a_hand_over_is_noticed_by_every_open_connection() {
    all_are_served_again("a_hand_over_is_noticed_by_every_open_connection", Fault::Graceful);
}
