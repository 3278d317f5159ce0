//! The lease without a third party: who serves when a daemon is silent, a standby is gone, or the nodes are parted.

use harbor_ha_tests::lab::config::Tuned;
use harbor_ha_tests::lab::fault::Fault;
use harbor_ha_tests::lab::need::{self, LAB};
use harbor_ha_tests::lab::{Isolated, Options, Side, clock};
use nix::sys::signal::Signal;

use super::SOON;
use super::watched::{Watched, ms};

#[test]
fn a_hung_primary_answers_nobody_once_another_does_and_never_serves_again() {
    hangs("a_hung_primary_answers_nobody_once_another_does_and_never_serves_again", "generic");
}

#[test]
fn a_driver_that_sends_back_answers_for_a_hung_primary_too() {
    hangs("a_driver_that_sends_back_answers_for_a_hung_primary_too", "native");
}

fn hangs(test: &str, xdp_mode: &str) {
    if !need::has(test, &LAB) {
        return;
    }
    let mut it = Watched::up(&Options { xdp_mode: xdp_mode.into(), ..Options::default() });
    for side in Side::BOTH {
        assert_eq!(it.says(side).text("/xdp_mode"), xdp_mode);
    }
    it.lab.inject(Fault::Hang, Side::A).unwrap();
    it.calm(Side::B);
    it.never_two();
    // Its kernel still answered: a node whose kernel is silent as well would be dead, and sooner.
    assert_eq!(it.says(Side::B).text("/takeover/why"), "hung");
    // The daemon that wakes up believes for a moment that it is still the primary.
    it.lab.undo(Fault::Hang, Side::A).unwrap();
    it.lab.wait_serving(Side::B, SOON).unwrap();
    it.calm(Side::B);
    it.never_two();
    it.nothing_lost(Side::B);
    it.end();
}

#[test]
fn a_daemon_that_comes_back_in_time_costs_nothing() {
    if !need::has("a_daemon_that_comes_back_in_time_costs_nothing", &LAB) {
        return;
    }
    // In time, however slow this machine is.
    let tuned = Tuned { hang: Some("20s".into()), ..Tuned::default() };
    let mut it = Watched::up(&Options { tuned, ..Options::default() });
    let before = it.says(Side::A);
    let error = it.writer.last_error();
    let at_ns = it.lab.inject(Fault::Daemon, Side::A).unwrap();
    let gone = || if it.lab.node(Side::A).daemons().is_empty() { Ok(()) } else { anyhow::bail!("it runs") };
    it.lab.wait("the daemon is gone", SOON, gone).unwrap();
    it.lab.undo(Fault::Daemon, Side::A).unwrap();
    it.lab.wait_serving(Side::A, SOON).unwrap();
    it.calm(Side::A);
    let after = it.says(Side::A);
    assert_eq!(before.0["terms"]["mine"], after.0["terms"]["mine"], "another term");
    assert_eq!(it.says(Side::B).number("/takeover/verdict_ns"), None, "b took over");
    assert_eq!(error, it.writer.last_error(), "a write was refused");
    let gap = it.writer.longest_gap(at_ns).unwrap_or_default();
    eprintln!("  longest time without an acknowledgement {:.1} ms; dark {:?}", ms(gap), it.dark(Side::A));
    it.never_two();
    it.nothing_lost(Side::A);
    it.end();
}

#[test]
fn of_two_parted_nodes_that_hold_one_serves() {
    if !need::has("of_two_parted_nodes_that_hold_one_serves", &LAB) {
        return;
    }
    let mut it = Watched::up(&Options::default());
    it.lab.inject(Fault::Partition, Side::A).unwrap();
    it.calm(Side::B);
    let from_ns = clock::now_ns();
    it.calm(Side::B);
    assert!(!it.answered_since(Side::A, from_ns));
    assert_ne!(it.says(Side::A).text("/gate/state"), "open");
    it.lab.undo(Fault::Partition, Side::A).unwrap();
    it.lab.wait_serving(Side::B, SOON).unwrap();
    it.calm(Side::B);
    it.never_two();
    it.nothing_lost(Side::B);
    it.end();
}

#[test]
fn a_primary_that_serves_in_isolation_is_never_dark_and_the_service_heals() {
    if !need::has("a_primary_that_serves_in_isolation_is_never_dark_and_the_service_heals", &LAB) {
        return;
    }
    let mut it = Watched::up(&Options { isolated: Isolated::Serve, ..Options::default() });
    let (before, at_ns) = (it.dark(Side::A), it.lab.inject(Fault::Partition, Side::A).unwrap());
    it.calm(Side::B);
    let both = Side::BOTH.map(|side| it.says(side).text("/gate/state").to_owned());
    assert_eq!(both, ["open", "open"], "who may serve in isolation does");
    let (gone_ns, dark) = (it.observers.dark_for_clients(at_ns), it.dark(Side::A));
    eprintln!("  a client host was answered nothing for {:.1} ms at most; dark {before:?}, {dark:?}", ms(gone_ns));
    it.lab.undo(Fault::Partition, Side::A).unwrap();
    let served = || it.lab.wait_serving(it.lab.primary()?, SOON / 60);
    it.lab.wait("one serves, the other streams", SOON, served).unwrap();
    let primary = it.lab.primary().unwrap();
    it.calm(primary);
    it.nothing_lost(primary);
    it.end();
}

#[test]
fn a_standby_that_ends_in_good_order_leaves_the_light_on_and_gets_its_right_back() {
    if !need::has("a_standby_that_ends_in_good_order_leaves_the_light_on_and_gets_its_right_back", &LAB) {
        return;
    }
    let mut it = Watched::up(&Options::default());
    it.wait("b may succeed", Side::B, |said| said.is("/lease/may_succeed"));
    let before = it.dark(Side::A);
    it.lab.node(Side::B).signal_daemon(Signal::SIGTERM).unwrap();
    let gone = || if it.lab.node(Side::B).daemons().is_empty() { Ok(()) } else { anyhow::bail!("it runs") };
    it.lab.wait("the daemon of b is gone", SOON, gone).unwrap();
    it.calm(Side::A);
    let alone = it.says(Side::A);
    assert_eq!((alone.text("/lease/right"), alone.text("/gate/state")), ("solo", "open"));
    it.lab.undo(Fault::Graceful, Side::B).unwrap();
    it.lab.wait_serving(Side::A, SOON).unwrap();
    it.wait("b may succeed again", Side::B, |said| said.is("/lease/may_succeed"));
    it.wait("a serves by b's echoes again", Side::A, |said| said.text("/lease/right") == "leased");
    eprintln!("  dark {before:?} before, {:?} after", it.dark(Side::A));
    // The right is worth what it was.
    it.lab.inject(Fault::Node, Side::A).unwrap();
    it.calm(Side::B);
    it.never_two();
    it.nothing_lost(Side::B);
    it.end();
}

#[test]
fn a_primary_that_holds_is_dark_without_its_standby_and_lit_by_its_return() {
    if !need::has("a_primary_that_holds_is_dark_without_its_standby_and_lit_by_its_return", &LAB) {
        return;
    }
    let mut it = Watched::up(&Options::default());
    let term = it.says(Side::A).0["terms"]["mine"].clone();
    it.lab.inject(Fault::Standby, Side::A).unwrap();
    it.wait("a is dark", Side::A, |said| said.text("/gate/state") == "expired");
    let from_ns = clock::now_ns();
    it.endure(2, || Ok(()));
    assert!(!it.answered_since(Side::A, from_ns), "a gate without a lease let something through");
    it.lab.undo(Fault::Standby, Side::A).unwrap();
    it.lab.wait_serving(Side::A, SOON).unwrap();
    it.observers.revive(|_| true).unwrap();
    it.calm(Side::A);
    assert_eq!(it.says(Side::A).0["terms"]["mine"], term, "the same primary");
    it.never_two();
    it.nothing_lost(Side::A);
    it.end();
}
