//! Three routers on one switch, each with the other two as its `unicast_peer`s.

use harbor_ha_tests::lab::keepalived::{Setup, State};
use harbor_ha_tests::lab::wire::{What, Wire};
use harbor_ha_tests::lab::{Lab, Side};

use super::either::Who::{Ours, Theirs};
use super::either::{Daemon, Who};
use super::keepalived::{Protocol, V3, has_vip, with_keepalived};
use super::waits::{Stated, advert_of, adverts_of, seen};
use super::{LIMIT, settled};

/// Far apart where it counts: the second waits a fortieth of an interval more than three of them, the third a whole one, so
/// that a busy machine does not make the third the first to miss the master.
const PRIORITIES: [u8; 3] = [254, 250, 1];
const SLOW: Protocol = Protocol { advert_int: "0.4", interval_ms: 400, routers: &["a", "b", "c"], ..V3 };

fn of_the_third(what: What) -> bool {
    matches!(what, What::Third(_))
}

fn a_life_of_three(test: &str, who: [Who; 3]) {
    with_keepalived(test, |lab| {
        let wires = ["a", "b", "c"].map(|host| Wire::on(lab, host).unwrap());
        let [a, b, c] = Daemon::each(lab, who);
        let start = |daemon: Daemon<'_>, priority| {
            daemon.start(&Setup { preempt: true, ..SLOW.keepalived(priority) });
        };
        let are = |states: [State; 3]| {
            [a, b, c].into_iter().zip(states).for_each(|(daemon, state)| daemon.is(state));
            only_masters_have_it(lab, [a, b, c]);
        };
        let [strongest, second, third] = PRIORITIES;
        // The election, the weakest first: each one that comes is stronger than who serves.
        start(c, third);
        c.is(State::Master);
        start(b, second);
        b.is(State::Master);
        start(a, strongest);
        are([State::Master, State::Backup, State::Backup]);
        // Each peer has an advert of its own.
        let elected = wires.each_ref().map(|wire| adverts_of(lab, wire, Side::A, 5)).into_iter().max().expect("three");
        assert_eq!(wires[1].first(elected, of_the_third), None, "two backups are silent");
        assert_eq!(wires[2].first(elected, advert_of(Side::B)), None, "two backups are silent");

        // The master dies: the second takes over, and the third stays what it is.
        let killed = a.kill();
        b.is(State::Master);
        adverts_of(lab, &wires[2], Side::B, 5);
        assert_eq!(c.state(), State::Backup);
        // It returns, leaves in order, and returns again: the same three.
        start(a, strongest);
        are([State::Master, State::Backup, State::Backup]);
        let stopped = a.terminate();
        for wire in &wires[1..] {
            seen(lab, wire, stopped, "priority 0", |what| what == What::Advert(Side::A, 0));
        }
        b.is(State::Master);
        adverts_of(lab, &wires[2], Side::B, 5);
        assert_eq!(c.state(), State::Backup);
        assert_eq!(wires[1].first(killed, of_the_third), None, "the third has never served");

        // Now nobody is left but the third.
        let killed = b.kill();
        c.is(State::Master);
        seen(lab, &wires[0], killed, "an advert of c", of_the_third);
        start(a, strongest);
        start(b, second);
        are([State::Master, State::Backup, State::Backup]);
        for daemon in [a, b, c].into_iter().filter(|it| it.who == Ours) {
            let status = daemon.ours().status().unwrap();
            assert_eq!(status.0["instances"][0]["rejects"], serde_json::json!([]), "{}", status.0);
            assert_eq!(status.number("/interfaces/0/strangers"), Some(0), "{}", status.0);
        }
    });
}

/// The address is where a master is, and nowhere else.
fn only_masters_have_it(lab: &Lab, daemons: [Daemon<'_>; 3]) {
    let waited = lab.wait("the master alone has the address", LIMIT, || {
        let wanted = daemons.map(|it| (it.host, it.state() == State::Master));
        let found = daemons.map(|it| (it.host, has_vip(lab, it.host)));
        anyhow::ensure!(found == wanted, "{found:?}, the masters are {wanted:?}");
        Ok(())
    });
    settled(lab, waited);
}

#[test]
fn we_are_the_strongest_of_three_routers() {
    a_life_of_three("we_are_the_strongest_of_three_routers", [Ours, Theirs, Theirs]);
}

#[test]
fn we_are_the_second_of_three_routers() {
    a_life_of_three("we_are_the_second_of_three_routers", [Theirs, Ours, Theirs]);
}

#[test]
fn we_are_all_but_the_second_of_three_routers() {
    a_life_of_three("we_are_all_but_the_second_of_three_routers", [Ours, Theirs, Ours]);
}
