//! What a pair tracks and whom it tells: a check that fails on the primary moves the service, one that fails on both nodes
//! moves nothing, and scripts hear of each step once, in order.

use std::fs;

use anyhow::ensure;
use aya::maps::{Array, Map, MapData};
use harbor_ha::kernel::load::pin_folder;
use harbor_ha_ebpf::names;
use harbor_ha_ebpf::records::Config;
use harbor_ha_tests::lab::config::{Tells, Tuned};
use harbor_ha_tests::lab::need::{self, LAB};
use harbor_ha_tests::lab::node::Status;
use harbor_ha_tests::lab::{Options, Side};
use nix::sys::signal::Signal;

use super::SOON;
use super::watched::{Watched, ms};

/// The lines that the scripts of a node wrote, once they are these.
fn told(it: &Watched, side: Side, states: &[(&str, u8)]) {
    let node = it.lab.node(side);
    let (name, user) = (node.instance(), harbor_ha_tests::lab::user::User::unprivileged().unwrap().name);
    let lines = |&(state, priority): &(&str, u8)| {
        let own = format!("{} {user} {state}", state.to_lowercase());
        [own, format!("all INSTANCE {name} {state} {priority} {user} {state}")]
    };
    let wanted: Vec<String> = states.iter().flat_map(lines).collect();
    let look = || {
        let found = fs::read_to_string(Tells(node).log())?;
        let found: Vec<&str> = found.lines().collect();
        ensure!(found == wanted, "{found:?}, not {wanted:?}");
        Ok(())
    };
    it.lab.wait(&format!("scripts of {side} were told {states:?}"), SOON, look).unwrap();
}

/// From what the kernel of a node computes the skew of the detector of adverts.
fn priority_of_the_skew(it: &Watched, side: Side) -> u8 {
    let pin = pin_folder(&it.lab.state().bpffs(), &it.lab.node(side).instance()).join(names::map::CONFIG);
    let map = Map::Array(MapData::from_pin(pin).unwrap());
    let config: Array<_, Config> = map.try_into().unwrap();
    config.get(&0, 0).unwrap().priority
}

#[test]
fn a_check_that_fails_moves_the_service_if_the_standby_is_well_and_scripts_hear_of_it() {
    if !need::has("a_check_that_fails_moves_the_service_if_the_standby_is_well_and_scripts_hear_of_it", &LAB) {
        return;
    }
    let tuned = Tuned { tells: true, ..Tuned::default() };
    let mut it = Watched::up(&Options { tuned, ..Options::default() });
    let broken = |it: &Watched, side| Tells(it.lab.node(side)).broken();
    told(&it, Side::A, &[("MASTER", 100)]);
    told(&it, Side::B, &[("BACKUP", 90)]);

    // A weight moves the priority that the other one hears, and nobody.
    fs::write(Tells(it.lab.node(Side::A)).load(), "2\n").unwrap();
    it.wait("a is of priority 80", Side::A, |said| said.number("/priority") == Some(80));
    it.wait("b hears it", Side::B, |said| said.number("/peer/priority") == Some(80));
    assert_eq!(priority_of_the_skew(&it, Side::A), 80);

    fs::write(broken(&it, Side::A), "").unwrap();
    it.calm(Side::B);
    let refuses = |said: &Status| {
        said.text("/role") == "standby"
            && said.text("/postgres/state") == "standby"
            && said.text("/refusal_name") == "tracked"
    };
    let said = it.wait("a follows, and would not take over", Side::A, refuses);
    assert!(said.text("/refusal").starts_with("`check`, which this node tracks, has failed"), "{}", said.0["refusal"]);
    let stamps = ["shut_ns", "peer_serves_ns"].map(|name| said.number(&format!("/handover/{name}")).unwrap());
    eprintln!("  a handed over: writes were refused for {:.1} ms", ms(stamps[1] - stamps[0]));
    told(&it, Side::A, &[("MASTER", 100), ("FAULT", 80)]);
    told(&it, Side::B, &[("BACKUP", 90), ("MASTER", 90)]);
    let page = it.lab.node(Side::A).page("/metrics").unwrap();
    for line in ["harbor_ha_tracked_fault 1", "harbor_ha_priority 80", "harbor_ha_tracker_well{tracker=\"check\"} 0"] {
        assert!(page.lines().any(|found| found == line), "no `{line}` in\n{page}");
    }

    // What fails on both nodes moves nothing: the service is better where it is than nowhere.
    fs::write(broken(&it, Side::B), "").unwrap();
    it.wait("b stays, and says why", Side::B, |said| said.text("/stays_name") == "peer_tracked");
    it.endure(4, || {
        ensure!(it.says(Side::B).is_primary(), "it left");
        Ok(())
    });
    it.calm(Side::B);
    // The first one that is well again may have it.
    fs::remove_file(broken(&it, Side::A)).unwrap();
    it.calm(Side::A);
    it.wait("b follows", Side::B, refuses);
    fs::remove_file(broken(&it, Side::B)).unwrap();
    told(&it, Side::A, &[("MASTER", 100), ("FAULT", 80), ("BACKUP", 80), ("MASTER", 80)]);
    told(&it, Side::B, &[("BACKUP", 90), ("MASTER", 90), ("FAULT", 90), ("BACKUP", 90)]);

    it.lab.node(Side::B).signal_daemon(Signal::SIGTERM).unwrap();
    told(&it, Side::B, &[("BACKUP", 90), ("MASTER", 90), ("FAULT", 90), ("BACKUP", 90), ("STOP", 90)]);
    it.calm(Side::A);
    it.never_two();
    it.nothing_lost(Side::A);
    it.end();
}
