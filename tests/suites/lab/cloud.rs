//! The cloud of a lab: its HaVip follows what is said on the wire, and nothing else.

use anyhow::{Result, ensure};
use harbor_ha_ebpf::wire::arp;
use harbor_ha_tests::cloud::garp;
use harbor_ha_tests::cloud::scenario::ids;
use harbor_ha_tests::lab::cloud::instance;
use harbor_ha_tests::lab::fault::Fault;
use harbor_ha_tests::lab::need::{self, LAB};
use harbor_ha_tests::lab::state::VIP;
use harbor_ha_tests::lab::{Lab, Options, Side, netns};
use serde_json::{Value, json};

use super::SOON;

/// RFC 826: 1 asks, 2 answers.
const REPLY: u8 = 2;
/// Where the operation is in a frame.
const OPERATION: usize = 21;

fn with_cloud() -> Options {
    Options { cloud: true, ..Options::default() }
}

/// A host says that it has the virtual address.
fn announce(lab: &Lab, host: &str, operation: u8) {
    let mut frame = arp::gratuitous(lab.state().mac(host), VIP.octets());
    frame[OPERATION] = operation;
    netns::inside(&lab.state().netns(host), || garp::say("eth0", &frame)).unwrap();
}

/// What came of the announcements so far.
fn heard(lab: &Lab) -> Vec<(Option<String>, String)> {
    let list = lab.cloud().state().unwrap()["announcements"].take();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    list.as_array().into_iter().flatten().map(|it| (text(&it["from"]), text(&it["outcome"]).unwrap())).collect()
}

fn master_is(lab: &Lab, side: Side) -> Result<()> {
    let master = lab.cloud().master(ids::HAVIP)?;
    ensure!(master.as_deref() == Some(instance(side)), "it is {master:?}");
    Ok(())
}

#[test]
fn a_havip_moves_to_the_bound_instance_that_announces_it_and_to_nobody_else() {
    if !need::has("a_havip_moves_to_the_bound_instance_that_announces_it_and_to_nobody_else", &LAB) {
        return;
    }
    let lab = Lab::network(&with_cloud()).unwrap();
    lab.start_cloud().unwrap();
    let after = |wanted: &[(Option<&str>, &str)]| {
        let wanted: Vec<_> = wanted.iter().map(|(from, what)| (from.map(str::to_owned), (*what).to_owned())).collect();
        lab.wait(&format!("{wanted:?}"), SOON, || {
            let heard = heard(&lab);
            ensure!(heard.ends_with(&wanted), "{heard:?}");
            Ok(())
        })
        .unwrap();
    };
    let [a, b] = Side::BOTH.map(|side| Some(instance(side)));
    assert_eq!(lab.cloud().master(ids::HAVIP).unwrap(), None);
    announce(&lab, "b", REPLY);
    after(&[(b, "moved")]);
    announce(&lab, "a", 1);
    after(&[(b, "moved"), (a, "moved")]);
    announce(&lab, "c", 1);
    after(&[(a, "moved"), (None, "not-bound")]);
    master_is(&lab, Side::A).unwrap();
    lab.cloud().order("quirks", &json!({ "ignore_announcements": 2 })).unwrap();
    (0..3).for_each(|_| announce(&lab, "b", 1));
    after(&[(b, "ignored"), (b, "ignored"), (b, "moved")]);
    lab.cloud().order("quirks", &json!({ "havip_stuck": [ids::HAVIP] })).unwrap();
    announce(&lab, "a", 1);
    after(&[(b, "moved"), (a, "ignored")]);
    master_is(&lab, Side::B).unwrap();
    lab.cloud().heal().unwrap();
    announce(&lab, "a", REPLY);
    after(&[(a, "ignored"), (a, "moved")]);
}

#[test]
fn a_takeover_moves_the_havip() {
    if !need::has("a_takeover_moves_the_havip", &LAB) {
        return;
    }
    let lab = Lab::up(&with_cloud()).unwrap();
    lab.wait("the HaVip is with a", SOON, || master_is(&lab, Side::A)).unwrap();
    lab.inject(Fault::Node, Side::A).unwrap();
    lab.wait("the HaVip is with b", SOON, || master_is(&lab, Side::B)).unwrap();
    lab.undo(Fault::Node, Side::A).unwrap();
    lab.wait_serving(Side::B, SOON).unwrap();
    master_is(&lab, Side::B).unwrap();
    let heard = heard(&lab);
    assert!(heard.iter().all(|(from, outcome)| from.is_some() && outcome != "not-bound"), "{heard:?}");
    let moves = heard.iter().filter(|(_, outcome)| outcome == "moved").count();
    assert_eq!(moves, 2, "to a at the start, to b once: {heard:?}");
}
