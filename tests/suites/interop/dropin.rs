//! `harbor-ha run --config keepalived.conf` and a real keepalived, each in both places of a pair, on files that differ in
//! nothing but the addresses: whichever of the two a host runs, the other host sees the same.

use anyhow::ensure;
use harbor_ha_tests::lab::keepalived::{Setup, State};
use harbor_ha_tests::lab::tshark::Checksum;
use harbor_ha_tests::lab::wire::{What, Wire};
use harbor_ha_tests::lab::{Lab, Side, clock, link};

use super::either::Who::{Ours, Theirs};
use super::either::{Daemon, EITHER_WAY, Who, address_is_on};
use super::keepalived::{Protocol, STRONG, V2, V3, VRID, WEAK, addresses, has_vip, last_word, told, with_keepalived};
use super::waits::{Stated, advert_of, adverts_of, count, seen};
use super::{LIMIT, on_a_judged_network, requirements_met, settled};

fn lives(test: &str, protocol: Protocol) {
    for who in EITHER_WAY {
        with_keepalived(test, |lab| live(lab, test, who, protocol));
    }
}

/// Everything that happens to a pair in its life, one after the other.
pub(super) fn live(lab: &Lab, test: &str, who: [Who; 2], protocol: Protocol) {
    let wire = Wire::on(lab, "b").unwrap();
    let [a, b] = Daemon::each(lab, who);
    let (strong, weak) = (protocol.keepalived(STRONG), protocol.keepalived(WEAK));
    let preempting = Setup { preempt: true, ..strong.clone() };

    // Whoever is alone serves; whoever is stronger and may, takes over: the other one yields while it lives.
    b.start(&weak);
    b.is(State::Master);
    let (from, before) = (clock::now_ns(), wire.last(u64::MAX, advert_of(Side::B)));
    a.start(&preempting);
    a.is(State::Master);
    b.is(State::Backup);
    address_is_on(lab, Side::A);
    assert!(before.is_some() && wire.first(from, |what| what == What::Advert(Side::B, 0)).is_none(), "b resigned");

    // A good-bye.
    let stopped = a.terminate();
    let resigned = seen(lab, &wire, stopped, "priority 0", |what| what == What::Advert(Side::A, 0));
    b.is(State::Master);
    let first = seen(lab, &wire, stopped, "an advert of b", advert_of(Side::B));
    assert!(resigned < first, "{resigned} {first}");
    assert_eq!(wire.first(resigned, advert_of(Side::A)), None, "nothing after the good-bye");
    address_is_on(lab, Side::B);
    told(test, protocol, "priority 0 to the first advert of b", resigned, first, protocol.skew_ms(WEAK));

    // The return of the stronger one, with `nopreempt`.
    let from = clock::now_ns();
    a.start(&strong);
    a.is(State::Backup);
    adverts_of(lab, &wire, Side::B, 5);
    assert_eq!((a.state(), b.state()), (State::Backup, State::Master));
    assert_eq!(wire.first(from, |what| matches!(what, What::Advert(Side::A, _))), None, "a backup is silent");
    address_is_on(lab, Side::B);

    // A crash leaves the address behind; started anew, it takes it off and waits.
    let killed = b.kill();
    a.is(State::Master);
    let first = seen(lab, &wire, killed, "an advert of a", advert_of(Side::A));
    let last = last_word(&wire, Side::B, first);
    assert!(has_vip(lab, Side::A) && has_vip(lab, Side::B));
    told(test, protocol, "the last advert of b to the first of a", last, first, protocol.master_down_ms(STRONG));
    let from = clock::now_ns();
    b.start(&Setup { preempt: true, ..weak.clone() });
    b.is(State::Backup);
    address_is_on(lab, Side::A);
    adverts_of(lab, &wire, Side::A, 5);
    assert_eq!((a.state(), b.state()), (State::Master, State::Backup));
    assert_eq!(wire.first(from, |what| matches!(what, What::Advert(Side::B, _))), None, "a backup is silent");

    // A crash of the stronger one, and its return without `nopreempt`.
    let killed = a.kill();
    b.is(State::Master);
    let first = seen(lab, &wire, killed, "an advert of b", advert_of(Side::B));
    let last = last_word(&wire, Side::A, first);
    told(test, protocol, "the last advert of a to the first of b", last, first, protocol.master_down_ms(WEAK));
    a.start(&preempting);
    a.is(State::Master);
    b.is(State::Backup);
    address_is_on(lab, Side::A);
    for daemon in [a, b].into_iter().filter(|it| it.who == Ours) {
        let status = daemon.ours().status().unwrap();
        assert_eq!(status.0["instances"][0]["rejects"], serde_json::json!([]), "{}", status.0);
        assert_eq!(status.number("/interfaces/0/strangers"), Some(0), "{}", status.0);
    }
}

#[test]
fn lives_of_ours_beside_a_weaker_and_a_stronger_keepalived_v2() {
    lives("lives_of_ours_beside_a_weaker_and_a_stronger_keepalived_v2", V2);
}

#[test]
fn lives_of_ours_beside_a_weaker_and_a_stronger_keepalived_v3() {
    lives("lives_of_ours_beside_a_weaker_and_a_stronger_keepalived_v3", V3);
}

/// Two of one priority that both serve after a partition: the greater address keeps it (RFC 9568 §6.4.3).
fn the_address_decides(test: &str, who: [Who; 2]) {
    with_keepalived(test, |lab| {
        let client = Wire::on(lab, "c").unwrap();
        let [a, b] = Daemon::each(lab, who);
        a.start(&V3.keepalived(STRONG));
        a.is(State::Master);
        b.start(&V3.keepalived(STRONG));
        b.is(State::Backup);
        link::set_partition(lab.state(), true).unwrap();
        b.is(State::Master);
        assert_eq!(a.state(), State::Master);
        let healed = link::set_partition(lab.state(), false).unwrap();
        a.is(State::Backup);
        address_is_on(lab, Side::B);
        assert_eq!(b.state(), State::Master);
        seen(lab, &client, healed, "b's announcement", |what| what == What::Garp(Side::B));
    });
}

#[test]
fn of_two_of_one_priority_keepalived_keeps_the_address_when_its_own_is_greater() {
    the_address_decides("of_two_of_one_priority_keepalived_keeps_the_address_when_its_own_is_greater", [Ours, Theirs]);
}

#[test]
fn of_two_of_one_priority_we_keep_the_address_when_our_own_is_greater() {
    the_address_decides("of_two_of_one_priority_we_keep_the_address_when_our_own_is_greater", [Theirs, Ours]);
}

/// Version 3: a backup waits by the interval of the master's adverts, not by its own, which is well below half of it here,
/// and still long enough for a newcomer to hear the master before it has waited in vain.
fn the_master_s_interval_counts(test: &str, who: [Who; 2]) {
    with_keepalived(test, |lab| {
        let wire = Wire::on(lab, "b").unwrap();
        let [a, b] = Daemon::each(lab, who);
        let slow = Protocol { advert_int: "1", interval_ms: 1000, ..V3 };
        a.start(&slow.keepalived(STRONG));
        a.is(State::Master);
        b.start(&Setup { advert_int: "0.4", ..V3.keepalived(WEAK) });
        b.is(State::Backup);
        adverts_of(lab, &wire, Side::A, 4);
        let served = count(&wire, Side::B, 0);
        assert_eq!((served, b.state()), (0, State::Backup), "it heard the master and waited as long as that needs");
        if b.who == Ours {
            let status = b.ours().status().unwrap();
            assert!(status.number("/instances/0/counters/interval_differs").is_some_and(|it| it > 0), "{}", status.0);
            assert_eq!(status.number("/instances/0/master_interval_ns"), Some(1_000_000_000));
        }
        let killed = a.kill();
        b.is(State::Master);
        let first = seen(lab, &wire, killed, "an advert of b", advert_of(Side::B));
        let last = last_word(&wire, Side::A, first);
        told(test, slow, "the last advert of a to the first of b", last, first, slow.master_down_ms(WEAK));
        // By its own interval it would have waited for less than two of the master's.
        let adverts: Vec<u64> =
            wire.since(0).iter().filter(|it| advert_of(Side::A)(it.what)).map(|it| it.at_ns).collect();
        let shortest = adverts.windows(2).map(|pair| pair[1] - pair[0]).min().expect("more than one");
        assert!(first - last > 2 * shortest, "{} ns, the master spoke each {shortest} ns at least", first - last);
    });
}

#[test]
fn keepalived_waits_by_our_slower_interval_v3() {
    the_master_s_interval_counts("keepalived_waits_by_our_slower_interval_v3", [Ours, Theirs]);
}

#[test]
fn we_wait_by_keepalived_s_slower_interval_v3() {
    the_master_s_interval_counts("we_wait_by_keepalived_s_slower_interval_v3", [Theirs, Ours]);
}

/// Both serve, as each refuses what the other says; ours tells why.
fn they_stay_apart(test: &str, who: [Who; 2], protocol: Protocol, reason: &str, mistake: impl FnOnce(&mut Setup)) {
    with_keepalived(test, |lab| {
        let [a, b] = Daemon::each(lab, who);
        a.start(&protocol.keepalived(STRONG));
        a.is(State::Master);
        let mut setup = protocol.keepalived(WEAK);
        mistake(&mut setup);
        b.start(&setup);
        b.is(State::Master);
        a.refuses(reason);
        b.refuses(reason);
        assert_eq!((a.state(), b.state()), (State::Master, State::Master));
    });
}

#[test]
fn another_password_keeps_a_router_and_keepalived_apart() {
    for who in EITHER_WAY {
        they_stay_apart("another_password_keeps_a_router_and_keepalived_apart", who, V2, "password", |setup| {
            setup.password = Some("222222");
        });
    }
}

#[test]
fn another_router_id_keeps_a_router_and_keepalived_apart() {
    for who in EITHER_WAY {
        they_stay_apart("another_router_id_keeps_a_router_and_keepalived_apart", who, V3, "stranger", |setup| {
            setup.vrid = VRID + 1;
        });
    }
}

#[test]
fn another_interval_keeps_a_router_and_keepalived_apart_v2() {
    for who in EITHER_WAY {
        they_stay_apart("another_interval_keeps_a_router_and_keepalived_apart_v2", who, V2, "interval", |setup| {
            setup.advert_int = "2";
        });
    }
}

/// The second address, of the second instance of a group.
const SECOND: &str = "10.77.0.101";

/// Two instances that are one group; the second one tracks an interface that nothing else needs.
fn grouped(daemon: Daemon<'_>, priority: u8) -> String {
    let first = daemon.theirs().config(&Setup { preempt: true, ..V3.keepalived(priority) });
    let (globals, instance) = first.split_once("vrrp_instance").expect("there is one");
    let second = instance
        .replace("VI_1", "VI_2")
        .replace("virtual_router_id 51", "virtual_router_id 52")
        .replace("10.77.0.100", SECOND)
        .replace("    interface eth0\n", "    interface eth0\n    track_interface {\n        dum0\n    }\n");
    format!(
        "{globals}vrrp_sync_group G1 {{\n    group {{\n        VI_1\n        VI_2\n    }}\n}}\n\
         vrrp_instance{instance}vrrp_instance{second}"
    )
}

/// What happens to one instance happens to both.
fn a_group_moves_as_one(test: &str, who: [Who; 2]) {
    with_keepalived(test, |lab| {
        let [a, b] = Daemon::each(lab, who);
        let dum0 = |side: Side, what: &str| {
            link::batch(Some(&lab.node(side).netns()), &format!("link {what}\n")).unwrap();
        };
        let both_on = |side: Side| {
            let waited = lab.wait(&format!("both addresses are on {side} alone"), LIMIT, || {
                let found =
                    Side::BOTH.map(|it| (has_vip(lab, it), addresses(lab, it).contains(&format!(" {SECOND}/"))));
                let wanted = Side::BOTH.map(|it| (it == side, it == side));
                ensure!(found == wanted, "on a and b: {found:?}");
                Ok(())
            });
            settled(lab, waited);
        };
        for side in Side::BOTH {
            dum0(side, "add dum0 type veth peer name dum1");
            dum0(side, "set dum1 up");
            dum0(side, "set dum0 up");
        }
        a.start_on(&grouped(a, STRONG));
        both_on(Side::A);
        b.start_on(&grouped(b, WEAK));
        b.is(State::Backup);
        dum0(Side::A, "set dum0 down");
        a.is(State::Fault);
        both_on(Side::B);
        dum0(Side::A, "set dum0 up");
        both_on(Side::A);
        b.is(State::Backup);
    });
}

#[test]
fn a_group_of_ours_moves_as_one_to_keepalived_and_back() {
    a_group_moves_as_one("a_group_of_ours_moves_as_one_to_keepalived_and_back", [Ours, Theirs]);
}

#[test]
fn a_group_of_keepalived_moves_as_one_to_us_and_back() {
    a_group_moves_as_one("a_group_of_keepalived_moves_as_one_to_us_and_back", [Theirs, Ours]);
}

/// The file of a node with the checksum of RFC 9568, a keyword that keepalived knows since 2.2.8; Debian's is older.
fn as_v2(daemon: Daemon<'_>, priority: u8) -> String {
    let text = daemon.theirs().config(&V3.keepalived(priority));
    text.replace("    interface eth0\n", "    interface eth0\n    v3_checksum_as_v2\n")
}

#[test]
fn two_of_ours_with_the_checksum_of_rfc_9568_understand_each_other() {
    if !requirements_met("two_of_ours_with_the_checksum_of_rfc_9568_understand_each_other", &[]) {
        return;
    }
    let life = |lab: &Lab| {
        let wire = Wire::on(lab, "b").unwrap();
        let [a, b] = Daemon::each(lab, [Ours, Ours]);
        a.start_on(&as_v2(a, STRONG));
        a.is(State::Master);
        b.start_on(&as_v2(b, WEAK));
        b.is(State::Backup);
        adverts_of(lab, &wire, Side::A, 5);
        assert_eq!(b.ours().status().unwrap().0["instances"][0]["rejects"], serde_json::json!([]));
        a.terminate();
        b.is(State::Master);
        address_is_on(lab, Side::B);
    };
    on_a_judged_network(Checksum::AsV2, life, |judgement| judgement.insist());
}

#[test]
fn the_checksum_of_rfc_9568_keeps_us_apart_from_a_keepalived_that_does_not_know_it() {
    let test = "the_checksum_of_rfc_9568_keeps_us_apart_from_a_keepalived_that_does_not_know_it";
    if !requirements_met(test, &["keepalived"]) {
        return;
    }
    let life = |lab: &Lab| {
        let [a, b] = Daemon::each(lab, [Ours, Theirs]);
        a.start_on(&as_v2(a, STRONG));
        a.is(State::Master);
        b.start(&V3.keepalived(WEAK));
        b.is(State::Master);
        a.refuses("checksum");
        assert_eq!(a.state(), State::Master);
    };
    on_a_judged_network(Checksum::PseudoHeader, life, |judgement| {
        let ours = judgement.adverts.get("10.77.0.1").copied().unwrap_or_default();
        let objected: Vec<_> = judgement.objections.iter().filter(|it| it.source == "10.77.0.1").collect();
        ensure!(ours > 0 && objected.len() == ours, "{} of {ours}", objected.len());
        ensure!(judgement.objections.len() == ours, "keepalived's are good: {:?}", judgement.objections);
        Ok(())
    });
}
