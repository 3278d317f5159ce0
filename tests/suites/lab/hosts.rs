//! What the lab promises its tests: cgroups, cables that are cut as they say, a witness, clients and observers.

use std::net::{TcpStream, UdpSocket};

use harbor_ha_tests::chaos;
use harbor_ha_tests::chaos::plan::{self, Deed};
use harbor_ha_tests::lab::fault::Fault;
use harbor_ha_tests::lab::need::{self, LAB, Need};
use harbor_ha_tests::lab::witness::{self, Witness};
use harbor_ha_tests::lab::{Lab, Options, Side, cgroup, netns, residue};

use super::{NO_DAEMON, SOON};

#[test]
fn everything_that_a_node_runs_is_in_its_cgroup() {
    if !need::has("everything_that_a_node_runs_is_in_its_cgroup", &LAB) {
        return;
    }
    let lab = Lab::up(&Options::default()).unwrap();
    for side in Side::BOTH {
        let node = lab.node(side);
        let inside = cgroup::processes(&node.cgroup().unwrap());
        assert!(inside.contains(&node.postgres().postmaster().unwrap()) && inside.contains(&node.daemons()[0]));
        // A server process may come or go between two looks; none stays outside.
        let same = || {
            let here = netns::processes(netns::inode(&node.netns())?);
            let there = cgroup::processes(&node.cgroup()?);
            let apart: Vec<_> = here.iter().filter(|pid| !there.contains(pid)).collect();
            if apart.is_empty() { Ok(()) } else { anyhow::bail!("outside: {apart:?}") }
        };
        lab.wait("all are inside", SOON, same).unwrap();
    }
    let run = lab.run().to_owned();
    drop(lab);
    assert_eq!(residue::of(&run), Vec::<String>::new());
}

/// Listens on a node, and tells what it hears.
fn ear(lab: &Lab, side: Side) -> UdpSocket {
    let node = lab.node(side);
    let ear = netns::inside(&node.netns(), || Ok(UdpSocket::bind((node.address(), 7000))?)).unwrap();
    ear.set_read_timeout(Some(SOON)).unwrap();
    ear
}

fn hear(ear: &UdpSocket) -> String {
    let mut buffer = [0; 64];
    let length = ear.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[test]
fn a_one_way_cut_and_a_partition_lose_what_they_shall_and_leave_the_witness() {
    let test = "a_one_way_cut_and_a_partition_lose_what_they_shall_and_leave_the_witness";
    if !need::has(test, &[&LAB[..], &[Need::Tool("redis-server")]].concat()) {
        return;
    }
    let lab = Lab::up(&Options { witness: Witness::Redis, ..NO_DAEMON() }).unwrap();
    let ears = Side::BOTH.map(|side| ear(&lab, side));
    let to_a = |word: &str| ears[1].send_to(word.as_bytes(), (lab.node(Side::A).address(), 7000)).unwrap();
    let to_b = |word: &str| ears[0].send_to(word.as_bytes(), (lab.node(Side::B).address(), 7000)).unwrap();
    // Both know each other's card by now: the one way is no way for a question by ARP, whose answer is lost.
    to_b("hello");
    assert_eq!(hear(&ears[1]), "hello");
    to_a("hello");
    assert_eq!(hear(&ears[0]), "hello");

    // What is lost is known by what comes in its place once the way is free.
    lab.inject(Fault::Asymmetric, Side::A).unwrap();
    to_b("lost");
    to_a("passes");
    assert_eq!(hear(&ears[0]), "passes");
    lab.undo(Fault::Asymmetric, Side::A).unwrap();
    to_b("healed");
    assert_eq!(hear(&ears[1]), "healed");

    lab.inject(Fault::Partition, Side::A).unwrap();
    to_b("lost");
    to_a("lost");
    for side in Side::BOTH {
        let reach = || Ok(TcpStream::connect_timeout(&(witness::ADDRESS, 6379).into(), SOON)?);
        netns::inside(&lab.node(side).netns(), reach).unwrap();
    }
    lab.heal().unwrap();
    to_b("healed");
    to_a("healed");
    assert_eq!((hear(&ears[0]), hear(&ears[1])), ("healed".into(), "healed".into()));

    lab.inject(Fault::WitnessDown, Side::A).unwrap();
    let refused = || match netns::inside(&lab.node(Side::A).netns(), || {
        Ok(TcpStream::connect_timeout(&(witness::ADDRESS, 6379).into(), SOON)?)
    }) {
        Ok(_) => anyhow::bail!("it answers"),
        Err(_) => Ok(()),
    };
    lab.wait("the witness is gone", SOON, refused).unwrap();
    lab.undo(Fault::WitnessDown, Side::A).unwrap();
}

#[test]
fn clients_on_all_hosts_and_the_observers_find_nothing_wrong_with_a_power_loss() {
    let test = "clients_on_all_hosts_and_the_observers_find_nothing_wrong_with_a_power_loss";
    if !need::has(test, &LAB) {
        return;
    }
    // A round of chaos in which the fresh lab's primary loses its power and nothing else happens.
    let alone = |number: &u32| {
        let deeds = plan::round(1, *number, false);
        deeds.len() == 1 && deeds[0].deed == Deed::Break(Fault::Node, Side::A)
    };
    let number = (1..=1000).find(alone).unwrap();
    let lab = Lab::up(&Options::default()).unwrap();
    let done = chaos::rounds(&lab, 1, number, 1, |round| eprintln!("{}", round.line())).unwrap();
    if chaos::judge(&done).is_err() {
        lab.keep_logs();
    }
    chaos::judge(&done).unwrap();
    assert!(done[0].acked > 0 && done[0].first_write_ns.is_some());
    let run = lab.run().to_owned();
    drop(lab);
    assert_eq!(residue::of(&run), Vec::<String>::new());
}
