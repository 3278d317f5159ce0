//! The lease with a third party, a real etcd and a real Redis: it decides between two, and is not missed while they
//! hear each other.

use anyhow::ensure;
use harbor_ha_tests::lab::fault::Fault;
use harbor_ha_tests::lab::need::{self, LAB, Need};
use harbor_ha_tests::lab::witness::Witness;
use harbor_ha_tests::lab::{Options, Side, clock};

use super::SOON;
use super::watched::{Watched, ms};

/// Longer than the witness of the lab remembers.
const A_WHILE: u64 = 3;

#[test]
fn etcd_decides_between_two() {
    if need::has("etcd_decides_between_two", &[&LAB[..], &[Need::Tool("etcd")]].concat()) {
        decides(Witness::Etcd);
    }
}

#[test]
fn redis_decides_between_two() {
    if need::has("redis_decides_between_two", &[&LAB[..], &[Need::Tool("redis-server")]].concat()) {
        decides(Witness::Redis);
    }
}

fn decides(witness: Witness) {
    let mut it = Watched::up(&Options { witness, ..Options::default() });
    lost_witness(&mut it);
    let primary = partition(&mut it);
    lost_standby(&mut it, primary);
    it.never_two();
    it.end();
}

/// While the standby grants the lease the witness is not asked, and may be away.
fn lost_witness(it: &mut Watched) {
    let before = it.dark(Side::A);
    it.lab.inject(Fault::WitnessDown, Side::A).unwrap();
    it.endure(A_WHILE, || {
        let (one, two) = (it.says(Side::A), it.says(Side::B));
        ensure!(one.is_primary(), "a: {}", one.summary());
        ensure!(two.text("/role") == "standby" && two.text("/vrrp") != "master", "b: {}", two.summary());
        Ok(())
    });
    it.calm(Side::A);
    eprintln!("  without a witness: dark {before:?} before, {:?} after", it.dark(Side::A));
    it.lab.undo(Fault::WitnessDown, Side::A).unwrap();
    it.lab.wait_serving(Side::A, SOON).unwrap();
}

/// Either may win; who does, serves, and the other one does not.
fn partition(it: &mut Watched) -> Side {
    let at_ns = it.lab.inject(Fault::Partition, Side::A).unwrap();
    it.endure(A_WHILE, || Ok(()));
    let open = || Side::BOTH.into_iter().filter(|side| it.says(*side).text("/gate/state") == "open");
    it.lab
        .wait("exactly one gate is open", SOON, || {
            let open: Vec<Side> = open().collect();
            ensure!(open.len() == 1, "{open:?}");
            Ok(())
        })
        .unwrap();
    let primary = open().next().unwrap();
    let from_ns = clock::now_ns();
    it.endure(A_WHILE, || {
        let other = it.says(primary.other());
        ensure!(other.text("/gate/state") != "open", "{}", other.summary());
        Ok(())
    });
    assert!(it.answered_since(primary, from_ns) && !it.answered_since(primary.other(), from_ns));
    eprintln!("  parted: {primary} serves, dark for clients {:.1} ms", ms(it.observers.dark_for_clients(at_ns)));
    it.lab.undo(Fault::Partition, Side::A).unwrap();
    it.lab.wait_serving(primary, SOON).unwrap();
    it.calm(primary);
    it.nothing_lost(primary);
    primary
}

/// The primary asks the witness, and serves on: its reads, as commits wait for the standby until somebody says else.
fn lost_standby(it: &mut Watched, primary: Side) {
    let before = it.dark(primary);
    let at_ns = it.lab.inject(Fault::Standby, primary).unwrap();
    it.endure(A_WHILE, || {
        let said = it.says(primary);
        ensure!(said.is_primary(), "{}", said.summary());
        Ok(())
    });
    let said = it.wait("it serves by the witness's word", primary, |said| said.text("/gate/state") == "open");
    let from_ns = clock::now_ns();
    it.endure(1, || Ok(()));
    assert!(it.answered_since(primary, from_ns), "it serves, and nobody is answered");
    let (gone_ns, dark) = (it.observers.dark_for_clients(at_ns), it.dark(primary));
    let right = said.text("/lease/right");
    eprintln!("  alone: right `{right}`, dark for clients {:.1} ms; gate {before:?}, {dark:?}", ms(gone_ns));
    it.lab.undo(Fault::Standby, primary).unwrap();
    it.lab.wait_serving(primary, SOON).unwrap();
    it.observers.revive(|_| true).unwrap();
    it.calm(primary);
    it.wait("it serves by the standby's echoes again", primary, |said| said.text("/lease/right") == "leased");
    it.nothing_lost(primary);
}
