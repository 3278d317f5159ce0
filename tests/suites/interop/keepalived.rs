//! A pair of one harbor-ha and one keepalived, as during a migration from the users' set-up.

use std::fmt::Display;

use harbor_ha_tests::lab::keepalived::{Keepalived, Setup, State};
use harbor_ha_tests::lab::state::VIP;
use harbor_ha_tests::lab::wire::{What, Wire};
use harbor_ha_tests::lab::{Lab, Side, clock, link, netns};
use nix::sys::signal::Signal;

use super::waits::{advert_of, adverts_of, count, is, seen};
use super::{on_a_network, requirements_met, secret, serves, start_ours, until};

/// The master of a fresh pair, and its backup: the users' priorities.
pub(super) const STRONG: u8 = 100;
pub(super) const WEAK: u8 = 10;
pub(super) const VRID: u8 = 51;

/// A protocol version as both are told it.
#[derive(Clone, Copy)]
pub(super) struct Protocol {
    pub version: u8,
    pub advert_int: &'static str,
    pub interval_ms: u64,
    pub password: Option<&'static str>,
    pub multicast: bool,
    pub routers: &'static [&'static str],
}

/// The routers of a pair.
const PAIR: &[&str] = &["a", "b"];

pub(super) const V2: Protocol = Protocol {
    version: 2,
    advert_int: "1",
    interval_ms: 1000,
    password: Some("111111"),
    multicast: false,
    routers: PAIR,
};
/// Fast, but no faster than a busy machine can follow: here a false failover is a failed test.
pub(super) const V3: Protocol =
    Protocol { version: 3, advert_int: "0.2", interval_ms: 200, password: None, multicast: false, routers: PAIR };

impl Protocol {
    pub(super) fn keepalived(self, priority: u8) -> Setup {
        let Self { version, advert_int, password, multicast, routers, .. } = self;
        Setup { version, advert_int, priority, vrid: VRID, preempt: false, password, multicast, routers }
    }

    /// Skew_Time: RFC 3768 §6.1 counts in seconds, RFC 9568 §6.1 in intervals. With these figures, both do.
    pub(super) fn skew_ms(self, priority: u8) -> f64 {
        (256.0 - f64::from(priority)) / 256.0 * self.interval_ms as f64
    }

    pub(super) fn master_down_ms(self, priority: u8) -> f64 {
        3.0 * self.interval_ms as f64 + self.skew_ms(priority)
    }
}

pub(super) fn ours(lab: &Lab, side: Side, protocol: Protocol, priority: u8) {
    let Protocol { version, interval_ms, password, .. } = protocol;
    let file = lab.node(side).home().join("vrrp.password");
    let auth = password.map_or(String::new(), |password| {
        secret(&file, password);
        format!("password_file = \"{}\"\n", file.display())
    });
    let vrrp = format!(
        "[vrrp]\nversion = {version}\nvrid = {VRID}\npriority = {priority}\nadvert_interval = \"{interval_ms}ms\"\n{auth}\n\
         [pulse]\nenabled = false\n"
    );
    start_ours(lab, side, &vrrp);
}

/// When `b` announced the address, by its own wire: frames of two wires have no order. The client must have heard it.
fn announced(lab: &Lab, wire: &Wire, client: &Wire, from_ns: u64) -> u64 {
    let by_b = |what| what == What::Garp(Side::B);
    seen(lab, client, from_ns, "the client hears b's announcement", by_b);
    seen(lab, wire, from_ns, "b's announcement", by_b)
}

pub(super) fn told(test: &str, protocol: Protocol, what: &str, from_ns: u64, to_ns: u64, rfc_ms: f64) {
    let measured = to_ns.saturating_sub(from_ns) as f64 / 1e6;
    eprintln!("{test}, v{}: {what} {measured:.1} ms; the RFC says {rfc_ms:.1} ms", protocol.version);
}

/// The last advert of a node before an instant must be an ordinary one: a crash says no good-bye.
pub(super) fn last_word(wire: &Wire, side: Side, before_ns: u64) -> u64 {
    let last = wire.last(before_ns, |what| matches!(what, What::Advert(from, _) if from == side));
    let ordinary = wire.last(before_ns, advert_of(side));
    assert_eq!(last, ordinary, "{side} resigned: {:?}", wire.since(0));
    ordinary.expect("it advertised")
}

pub(super) fn has_vip(lab: &Lab, host: impl Display) -> bool {
    addresses(lab, host).contains(&format!(" {VIP}/"))
}

/// What `ip` says of a host.
pub(super) fn addresses(lab: &Lab, host: impl Display) -> String {
    let mut ip = netns::command(&lab.state().netns(&host.to_string()), "ip").unwrap();
    let output = ip.args(["-4", "-o", "address"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Ours serves on `a`, keepalived stands by on `b` and has seen five adverts of ours without moving.
fn ours_serves<'a>(lab: &'a Lab, protocol: Protocol) -> (Keepalived<'a>, Wire) {
    let wire = Wire::on(lab, "b").unwrap();
    ours(lab, Side::A, protocol, STRONG);
    until(lab, Side::A, "ours serves", serves);
    let keepalived = Keepalived::on(lab.node(Side::B));
    keepalived.start(&protocol.keepalived(WEAK)).unwrap();
    is(lab, keepalived, State::Backup);
    adverts_of(lab, &wire, Side::A, 5);
    assert_eq!(keepalived.states(), [State::Backup]);
    assert_eq!(wire.first(0, advert_of(Side::B)), None, "a backup does not advertise");
    (keepalived, wire)
}

/// keepalived serves on `a`, ours stands by on `b` and has counted five adverts of its.
fn keepalived_serves<'a>(lab: &'a Lab, protocol: Protocol) -> (Keepalived<'a>, [Wire; 2]) {
    let wires = ["b", "c"].map(|host| Wire::on(lab, host).unwrap());
    let keepalived = Keepalived::on(lab.node(Side::A));
    keepalived.start(&protocol.keepalived(STRONG)).unwrap();
    is(lab, keepalived, State::Master);
    ours(lab, Side::B, protocol, WEAK);
    let status = until(lab, Side::B, "five adverts of keepalived", |status| {
        status.number("/adverts_heard/arrivals").is_some_and(|count| count >= 5)
    });
    assert_eq!((status.text("/role"), status.is("/vip")), ("standby", false), "{}", status.0);
    assert_eq!(status.text("/adverts_heard/state"), "alive");
    assert_eq!(status.number("/peer/priority"), Some(u64::from(STRONG)));
    assert_eq!(status.number("/adverts_heard/deaths"), Some(0));
    assert_eq!(status.0["rejects"], serde_json::json!([]));
    assert_eq!(status.number("/strangers"), Some(0));
    assert_eq!(wires[0].first(0, advert_of(Side::B)), None, "a backup does not advertise");
    assert!(!has_vip(lab, Side::B));
    (keepalived, wires)
}

pub(super) fn with_keepalived(test: &str, run: impl FnOnce(&Lab)) {
    if requirements_met(test, &["keepalived"]) {
        on_a_network(run);
    }
}

fn our_death_hands_over_to_keepalived(test: &str, protocol: Protocol) {
    with_keepalived(test, |lab| {
        let (keepalived, wire) = ours_serves(lab, protocol);
        let client = Wire::on(lab, "c").unwrap();
        let killed = clock::now_ns();
        lab.node(Side::A).signal_daemon(Signal::SIGKILL).unwrap();
        is(lab, keepalived, State::Master);
        assert_eq!(keepalived.states(), [State::Backup, State::Master]);
        let first = seen(lab, &wire, killed, "an advert of keepalived", advert_of(Side::B));
        let garp = announced(lab, &wire, &client, killed);
        let last = last_word(&wire, Side::A, first);
        assert!(last < first && first < garp, "{last} {first} {garp}");
        assert!(has_vip(lab, Side::B));
        told(test, protocol, "our last advert to keepalived's first", last, first, protocol.master_down_ms(WEAK));
        // The killed one left its address behind. Started again, it must not keep it, nor take it back.
        assert!(has_vip(lab, Side::A));
        ours(lab, Side::A, protocol, STRONG);
        let status = until(lab, Side::A, "ours hears keepalived", |status| {
            status.text("/role") == "standby" && status.text("/adverts_heard/state") == "alive"
        });
        assert!(!status.is("/vip") && !has_vip(lab, Side::A), "{}", status.0);
        assert_eq!(keepalived.states(), [State::Backup, State::Master]);
    });
}

#[test]
fn keepalived_takes_over_from_our_killed_daemon_v2() {
    our_death_hands_over_to_keepalived("keepalived_takes_over_from_our_killed_daemon_v2", V2);
}

#[test]
fn keepalived_takes_over_from_our_killed_daemon_v3() {
    our_death_hands_over_to_keepalived("keepalived_takes_over_from_our_killed_daemon_v3", V3);
}

fn keepalived_s_death_hands_over_to_us(test: &str, protocol: Protocol) {
    with_keepalived(test, |lab| {
        let (keepalived, [wire, client]) = keepalived_serves(lab, protocol);
        let killed = keepalived.kill().unwrap();
        let status = until(lab, Side::B, "ours serves", serves);
        assert_eq!(status.text("/why"), "the peer is silent", "{}", status.0);
        let garp = announced(lab, &wire, &client, killed);
        let first = seen(lab, &wire, killed, "our advert", advert_of(Side::B));
        let last = last_word(&wire, Side::A, first);
        assert!(last < first && last < garp, "{last} {first} {garp}");
        assert!(has_vip(lab, Side::B));
        assert_eq!(status.0["rejects"], serde_json::json!([]));
        told(test, protocol, "keepalived's last advert to our GARP", last, garp, protocol.master_down_ms(WEAK));
    });
}

#[test]
fn we_take_over_from_a_killed_keepalived_v2() {
    keepalived_s_death_hands_over_to_us("we_take_over_from_a_killed_keepalived_v2", V2);
}

#[test]
fn we_take_over_from_a_killed_keepalived_v3() {
    keepalived_s_death_hands_over_to_us("we_take_over_from_a_killed_keepalived_v3", V3);
}

fn keepalived_s_good_bye_hands_over_to_us(test: &str, protocol: Protocol) {
    with_keepalived(test, |lab| {
        let (keepalived, [wire, client]) = keepalived_serves(lab, protocol);
        let stopped = keepalived.terminate().unwrap();
        let status = until(lab, Side::B, "ours serves", serves);
        assert_eq!(status.text("/why"), "the peer is resigning", "{}", status.0);
        let resigned = seen(lab, &wire, stopped, "priority 0", |what| what == What::Advert(Side::A, 0));
        let garp = announced(lab, &wire, &client, stopped);
        assert!(resigned < garp, "{resigned} {garp}");
        assert_eq!(status.0["rejects"], serde_json::json!([]));
        told(test, protocol, "keepalived's priority 0 to our GARP", resigned, garp, protocol.skew_ms(WEAK));
    });
}

#[test]
fn we_take_over_from_a_stopped_keepalived_v2() {
    keepalived_s_good_bye_hands_over_to_us("we_take_over_from_a_stopped_keepalived_v2", V2);
}

#[test]
fn we_take_over_from_a_stopped_keepalived_v3() {
    keepalived_s_good_bye_hands_over_to_us("we_take_over_from_a_stopped_keepalived_v3", V3);
}

fn our_good_bye_hands_over_to_keepalived(test: &str, protocol: Protocol) {
    with_keepalived(test, |lab| {
        let (keepalived, wire) = ours_serves(lab, protocol);
        let stopped = clock::now_ns();
        lab.node(Side::A).signal_daemon(Signal::SIGTERM).unwrap();
        let resigned = seen(lab, &wire, stopped, "priority 0", |what| what == What::Advert(Side::A, 0));
        is(lab, keepalived, State::Master);
        let first = seen(lab, &wire, stopped, "an advert of keepalived", advert_of(Side::B));
        assert!(resigned < first, "{resigned} {first}");
        assert_eq!(wire.first(resigned, advert_of(Side::A)), None, "nothing after the good-bye");
        assert!(!has_vip(lab, Side::A) && has_vip(lab, Side::B));
        told(test, protocol, "our priority 0 to keepalived's first advert", resigned, first, protocol.skew_ms(WEAK));
    });
}

#[test]
fn keepalived_takes_over_from_our_stopped_daemon_v2() {
    our_good_bye_hands_over_to_keepalived("keepalived_takes_over_from_our_stopped_daemon_v2", V2);
}

#[test]
fn keepalived_takes_over_from_our_stopped_daemon_v3() {
    our_good_bye_hands_over_to_keepalived("keepalived_takes_over_from_our_stopped_daemon_v3", V3);
}

#[test]
fn a_stronger_keepalived_that_comes_back_waits_or_preempts_as_it_was_told() {
    with_keepalived("a_stronger_keepalived_that_comes_back_waits_or_preempts_as_it_was_told", |lab| {
        let wire = Wire::on(lab, "b").unwrap();
        ours(lab, Side::A, V3, WEAK);
        until(lab, Side::A, "ours serves", serves);
        let keepalived = Keepalived::on(lab.node(Side::B));
        keepalived.start(&V3.keepalived(STRONG)).unwrap();
        is(lab, keepalived, State::Backup);
        adverts_of(lab, &wire, Side::A, 5);
        assert_eq!(keepalived.states(), [State::Backup], "nopreempt");

        keepalived.kill().unwrap();
        keepalived.start(&Setup { preempt: true, ..V3.keepalived(STRONG) }).unwrap();
        is(lab, keepalived, State::Master);
        let status = until(lab, Side::A, "ours stands down", |status| !status.is("/vip"));
        assert_eq!((status.text("/role"), status.text("/why")), ("standby", "the peer is a stronger primary"));
        assert!(!has_vip(lab, Side::A) && has_vip(lab, Side::B));
        let (first, last) = (wire.first(0, advert_of(Side::B)), wire.last(u64::MAX, advert_of(Side::A)));
        // One of ours may have been on its way.
        let after = count(&wire, Side::A, first.expect("it advertised"));
        assert!(after <= 1, "ours fell silent: {first:?} {last:?}");
    });
}

/// Two that lost each other both serve; when they meet again, the priority decides and the network is told.
fn after_a_partition(test: &str, ours_is: u8, keepalived_is_of: u8) {
    with_keepalived(test, |lab| {
        let client = Wire::on(lab, "c").unwrap();
        let keepalived = Keepalived::on(lab.node(Side::B));
        let ours_is_strong = ours_is > keepalived_is_of;
        if ours_is_strong {
            ours(lab, Side::A, V3, ours_is);
            until(lab, Side::A, "ours serves", serves);
            keepalived.start(&V3.keepalived(keepalived_is_of)).unwrap();
            is(lab, keepalived, State::Backup);
        } else {
            keepalived.start(&V3.keepalived(keepalived_is_of)).unwrap();
            is(lab, keepalived, State::Master);
            ours(lab, Side::A, V3, ours_is);
            until(lab, Side::A, "ours hears keepalived", |status| status.text("/adverts_heard/state") == "alive");
        }
        link::set_partition(lab.state(), true).unwrap();
        is(lab, keepalived, State::Master);
        until(lab, Side::A, "ours serves", serves);
        let healed = link::set_partition(lab.state(), false).unwrap();
        if ours_is_strong {
            is(lab, keepalived, State::Backup);
            assert!(serves(&lab.node(Side::A).status().unwrap()));
            seen(lab, &client, healed, "a's announcement", |what| what == What::Garp(Side::A));
        } else {
            until(lab, Side::A, "ours stands down", |status| status.text("/role") == "standby" && !status.is("/vip"));
            assert_eq!(keepalived.states(), [State::Backup, State::Master]);
            seen(lab, &client, healed, "b's announcement", |what| what == What::Garp(Side::B));
        }
        assert_eq!((has_vip(lab, Side::A), has_vip(lab, Side::B)), (ours_is_strong, !ours_is_strong));
    });
}

#[test]
fn after_a_partition_we_keep_the_address_when_we_are_stronger() {
    after_a_partition("after_a_partition_we_keep_the_address_when_we_are_stronger", STRONG, WEAK);
}

#[test]
fn after_a_partition_we_leave_the_address_to_a_stronger_keepalived() {
    after_a_partition("after_a_partition_we_leave_the_address_to_a_stronger_keepalived", WEAK, STRONG);
}

/// Two that are configured apart each serve; the operator reads the reason in our status.
fn a_mistake_shows_as(test: &str, protocol: Protocol, reason: &str, mistake: impl FnOnce(&mut Setup)) {
    with_keepalived(test, |lab| {
        ours(lab, Side::A, protocol, STRONG);
        until(lab, Side::A, "ours serves", serves);
        let keepalived = Keepalived::on(lab.node(Side::B));
        let mut setup = protocol.keepalived(WEAK);
        mistake(&mut setup);
        keepalived.start(&setup).unwrap();
        is(lab, keepalived, State::Master);
        let counted = |count: u64| serde_json::json!([{"reason": reason, "count": count}]);
        let status = until(lab, Side::A, &format!("three adverts refused for `{reason}`"), |status| {
            (3..1000).any(|count| status.0["rejects"] == counted(count))
        });
        assert!(serves(&status), "{}", status.0);
        assert_eq!(status.number("/adverts_heard/arrivals"), Some(0));
        assert_eq!(keepalived.state(), State::Master);
    });
}

#[test]
fn another_password_keeps_both_apart_v2() {
    a_mistake_shows_as("another_password_keeps_both_apart_v2", V2, "password", |setup| {
        setup.password = Some("222222");
    });
}

#[test]
fn no_password_keeps_both_apart_v2() {
    a_mistake_shows_as("no_password_keeps_both_apart_v2", V2, "auth_type", |setup| setup.password = None);
}

#[test]
fn another_router_id_keeps_both_apart_v2() {
    a_mistake_shows_as("another_router_id_keeps_both_apart_v2", V2, "vrid", |setup| setup.vrid = VRID + 1);
}

#[test]
fn another_router_id_keeps_both_apart_v3() {
    a_mistake_shows_as("another_router_id_keeps_both_apart_v3", V3, "vrid", |setup| setup.vrid = VRID + 1);
}

#[test]
fn another_version_keeps_both_apart() {
    // Not the other way round: each advert of a wrong version makes keepalived 2.2.7 wait a whole interval of its own
    // again, so that one that hears five a second and sends one a second falls silent.
    a_mistake_shows_as("another_version_keeps_both_apart", V2, "version", |setup| *setup = V3.keepalived(WEAK));
}
