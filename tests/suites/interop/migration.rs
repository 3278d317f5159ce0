//! docs/migration.md, step by step: a running pair of keepalived becomes one of harbor-ha, node by node, while a client asks
//! the address each millisecond; and back again.

use std::fs;

use anyhow::ensure;
use harbor_ha_tests::lab::dropin::Dropin;
use harbor_ha_tests::lab::keepalived::{Keepalived, State};
use harbor_ha_tests::lab::ping::Pings;
use harbor_ha_tests::lab::wire::{What, Wire};
use harbor_ha_tests::lab::{Lab, Side, clock};

use super::keepalived::{has_vip, with_keepalived};
use super::seed::{called_last, check, furnish, import, seed};
use super::waits::{adverts_of, is};
use super::{LIMIT, settled};

/// What a client and a tester see of a migration.
struct Watch<'a> {
    lab: &'a Lab,
    wire: Wire,
    pings: Pings,
    told: Vec<(&'static str, u64)>,
}

impl Watch<'_> {
    /// One step of the checklist, to its end; the longest time without an answer in it, in nanoseconds.
    fn step(&mut self, what: &'static str, step: impl FnOnce(&Lab)) -> u64 {
        let from = clock::now_ns();
        step(self.lab);
        // What was dark at the end of the step ends with an answer, or the wait does.
        let done = clock::now_ns();
        let waited = self.lab.wait("the address answers", LIMIT, || {
            ensure!(self.pings.answered_since(done), "no answer");
            Ok(())
        });
        settled(self.lab, waited);
        let gap = self.pings.longest_gap(from).unwrap_or(u64::MAX);
        eprintln!("migration: {:7.1} ms without an answer: {what}", gap as f64 / 1e6);
        self.told.push((what, gap));
        gap
    }

    /// Five adverts of the master, in whose time the other one has nothing to say.
    fn five_adverts_of(&self, side: Side) {
        let from = adverts_of(self.lab, &self.wire, side, 5);
        let other = self.wire.first(from, |what| matches!(what, What::Advert(from, _) if from == side.other()));
        assert_eq!(other, None, "{} speaks too: {:?}", side.other(), self.wire.since(from));
    }

    /// Since an instant nobody said good-bye: the address went from a living master to another.
    fn nobody_resigned(&self, from_ns: u64) {
        let resigned = self.wire.first(from_ns, |what| matches!(what, What::Advert(_, 0)));
        assert_eq!(resigned, None, "{:?}", self.wire.since(from_ns));
    }
}

/// The keys that a file differs by while its node shall take over from a living master.
fn stronger(lab: &Lab, side: Side, priority: u8) {
    let file = Dropin::on(lab.node(side)).etc().unwrap().join("harbor-ha.toml");
    let mut text: toml::Table = fs::read_to_string(&file).unwrap().parse().unwrap();
    let instance = text["instance"].as_array_mut().and_then(|list| list[0].as_table_mut()).expect("an instance");
    instance.insert("priority".into(), i64::from(priority).into());
    instance.insert("preempt".into(), true.into());
    fs::write(&file, toml::to_string(&text).unwrap()).unwrap();
    check(lab, side, FILE);
}

const FILE: &str = "/etc/keepalived/harbor-ha.toml";

fn stop_keepalived(lab: &Lab, side: Side) {
    let keepalived = Keepalived::on(lab.node(side));
    keepalived.terminate().unwrap();
    let waited = lab.wait("keepalived has ended", LIMIT, || {
        ensure!(keepalived.processes().is_empty(), "it runs");
        Ok(())
    });
    settled(lab, waited);
}

fn start_keepalived(lab: &Lab, side: Side) {
    let keepalived = Keepalived::on(lab.node(side));
    // The words of an earlier run would be taken for its own.
    let _absent = fs::remove_file(keepalived.log());
    keepalived.start_on(&seed(lab, side)).unwrap();
}

fn stop_ours(lab: &Lab, side: Side) {
    let dropin = Dropin::on(lab.node(side));
    dropin.terminate().unwrap();
    settled(lab, lab.wait("harbor-ha has ended", LIMIT, || dropin.ended()));
}

fn start_ours(lab: &Lab, side: Side) {
    Dropin::on(lab.node(side)).start_on(FILE.as_ref()).unwrap();
}

#[test]
fn a_pair_of_keepalived_becomes_one_of_ours_node_by_node_and_back() {
    with_keepalived("a_pair_of_keepalived_becomes_one_of_ours_node_by_node_and_back", |lab| {
        let [a, b] = Side::BOTH.map(|side| Keepalived::on(lab.node(side)));
        for side in Side::BOTH {
            furnish(lab, side, &seed(lab, side), "");
        }
        start_keepalived(lab, Side::A);
        is(lab, a, State::Master);
        start_keepalived(lab, Side::B);
        is(lab, b, State::Backup);
        let (wire, pings) = (Wire::on(lab, "b").unwrap(), Pings::start(lab).unwrap());
        let mut watch = Watch { lab, wire, pings, told: Vec::new() };
        watch.five_adverts_of(Side::A);

        watch.step("1. import and check on both nodes", |lab| {
            for side in Side::BOTH {
                assert_eq!(import(lab, side, &[]), FILE);
                check(lab, side, FILE);
            }
        });
        watch.step("2. harbor-ha in the place of the backup's keepalived", |lab| {
            stop_keepalived(lab, Side::B);
            start_ours(lab, Side::B);
            is(lab, Dropin::on(lab.node(Side::B)), State::Backup);
        });
        watch.five_adverts_of(Side::A);
        let status = Dropin::on(lab.node(Side::B)).status().unwrap();
        assert_eq!(status.number("/instances/0/master_priority"), Some(100), "{}", status.0);
        assert_eq!(status.0["instances"][0]["rejects"], serde_json::json!([]));
        let from = clock::now_ns();
        let moved = watch.step("3. the address moves to it, by a priority above the master's", |lab| {
            stop_ours(lab, Side::B);
            stronger(lab, Side::B, 101);
            start_ours(lab, Side::B);
            is(lab, Dropin::on(lab.node(Side::B)), State::Master);
            is(lab, a, State::Backup);
        });
        watch.nobody_resigned(from);
        called_last(lab, Side::B, "MASTER");
        called_last(lab, Side::A, "BACKUP");
        assert!(!has_vip(lab, Side::A) && has_vip(lab, Side::B));
        watch.step("4. harbor-ha in the place of the other keepalived", |lab| {
            stop_keepalived(lab, Side::A);
            start_ours(lab, Side::A);
            is(lab, Dropin::on(lab.node(Side::A)), State::Backup);
        });
        watch.five_adverts_of(Side::B);
        let from = clock::now_ns();
        let home = watch.step("5. the address moves home, in the same way", |lab| {
            stop_ours(lab, Side::A);
            stronger(lab, Side::A, 102);
            start_ours(lab, Side::A);
            is(lab, Dropin::on(lab.node(Side::A)), State::Master);
            is(lab, Dropin::on(lab.node(Side::B)), State::Backup);
        });
        watch.nobody_resigned(from);
        watch.step("6. the imported file again, on the backup", |lab| {
            stop_ours(lab, Side::B);
            import(lab, Side::B, &["--force"]);
            start_ours(lab, Side::B);
            is(lab, Dropin::on(lab.node(Side::B)), State::Backup);
        });
        watch.five_adverts_of(Side::A);
        assert!(has_vip(lab, Side::A) && !has_vip(lab, Side::B));

        watch.step("back, 1. keepalived in the place of the backup", |lab| {
            stop_ours(lab, Side::B);
            start_keepalived(lab, Side::B);
            is(lab, b, State::Backup);
        });
        watch.five_adverts_of(Side::A);
        let stopped = watch.step("back, 2. harbor-ha on the master stops in order", |lab| {
            stop_ours(lab, Side::A);
            is(lab, b, State::Master);
        });
        assert!(!has_vip(lab, Side::A) && has_vip(lab, Side::B));
        watch.step("back, 3. keepalived in its place, which takes over as `state MASTER` makes it", |lab| {
            start_keepalived(lab, Side::A);
            is(lab, a, State::Master);
            is(lab, b, State::Backup);
        });
        assert!(has_vip(lab, Side::A) && !has_vip(lab, Side::B));
        // That a move costs nothing of the kind is what nobody's good-bye says; times are told, and no more.
        for (what, gap) in
            [("the move to the new daemon", moved), ("the move home", home), ("a stop in order", stopped)]
        {
            eprintln!("migration: {:7.1} ms dark: {what}", gap as f64 / 1e6);
        }
        let worst = watch.told.iter().filter(|(what, _)| !what.starts_with("back")).max_by_key(|(_, gap)| *gap);
        let (what, gap) = worst.expect("there were steps");
        eprintln!("migration: the longest on the way: {:.1} ms, in step {what}", *gap as f64 / 1e6);
    });
}
