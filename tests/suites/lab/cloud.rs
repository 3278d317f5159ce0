//! The cloud of a lab: its HaVip follows what is said on the wire, and nothing else.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use harbor_ha::cloud::Cloud;
use harbor_ha::config::settings::Endpoint;
use harbor_ha::config::settings::cloud::{Cloud as Settings, CredentialSource, Fence};
use harbor_ha_ebpf::wire::arp;
use harbor_ha_tests::cloud::garp;
use harbor_ha_tests::cloud::scenario::ids;
use harbor_ha_tests::lab::cloud::{METADATA, SERVICE, instance};
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
    lab.wait("b has seen it", SOON, || {
        let status = lab.node(Side::B).status()?;
        ensure!(status.is("/cloud/master_is_us") && status.is("/cloud/agrees"), "{}", status.0["cloud"]);
        Ok(())
    })
    .unwrap();
    lab.undo(Fault::Node, Side::A).unwrap();
    lab.wait_serving(Side::B, SOON).unwrap();
    master_is(&lab, Side::B).unwrap();
    lab.wait("a, its standby, sees that it is where it should be", SOON, || {
        let status = lab.node(Side::A).status()?;
        let seen = (status.text("/cloud/master"), status.is("/cloud/agrees"), status.is("/cloud/master_is_us"));
        ensure!(seen == (instance(Side::B), true, false), "{}", status.0["cloud"]);
        Ok(())
    })
    .unwrap();
    let heard = heard(&lab);
    assert!(heard.iter().all(|(from, outcome)| from.is_some() && outcome != "not-bound"), "{heard:?}");
    let moves = heard.iter().filter(|(_, outcome)| outcome == "moved").count();
    assert_eq!(moves, 2, "to a at the start, to b once: {heard:?}");
}

#[test]
fn a_node_is_its_instance_to_the_metadata_service_and_stopping_the_other_one_cuts_its_power() {
    if !need::has("a_node_is_its_instance_to_the_metadata_service_and_stopping_the_other_one_cuts_its_power", &LAB) {
        return;
    }
    let lab = Lab::network(&with_cloud()).unwrap();
    lab.start_cloud().unwrap();
    let b = lab.node(Side::B).netns();
    let mut living = netns::command(&b, "sleep").unwrap().arg("1000").spawn().unwrap();
    let outcome = netns::inside(&lab.node(Side::A).netns(), || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let cloud = Cloud::new(&as_instance(), SOON)?;
            ensure!(cloud.instance().await? == instance(Side::A), "it is {}", cloud.instance().await?);
            let other = cloud.ecs().describe(&[instance(Side::B)]).await?.remove(0);
            ensure!(other.address == Some(lab.state().address(Side::B)), "{other:?}");
            cloud.ecs().stop(instance(Side::B), true, true).await?;
            ensure!(netns::processes(netns::inode(&b)?).len() == 1, "a dry run stops nobody");
            Ok(cloud.ecs().stop(instance(Side::B), true, false).await?)
        })
    });
    if outcome.is_err() {
        // It would be waited for.
        living.kill().unwrap();
    }
    living.wait().unwrap();
    outcome.unwrap();
    lab.wait("b is stopped", SOON, || {
        let status = lab.cloud().state()?["instances"][instance(Side::B)]["status"].take();
        ensure!(status == "Stopped", "{status}");
        Ok(())
    })
    .unwrap();
    assert_eq!(netns::processes(netns::inode(&b).unwrap()), []);
}

/// What a node of the lab is told about its cloud: the rest is what the metadata service says, at its own address.
fn as_instance() -> Settings {
    let endpoint = |at: SocketAddr| Endpoint { tls: false, host: at.ip().to_string(), port: at.port() };
    Settings {
        region: None,
        havip: Some(ids::HAVIP.into()),
        address: VIP,
        eip: Some(ids::EIP.into()),
        instance: None,
        peer_instance: instance(Side::B).into(),
        vswitch: None,
        credentials: CredentialSource::RamRole,
        credentials_file: "/nowhere".into(),
        ram_role: None,
        vpc_endpoint: Some(endpoint(SERVICE)),
        ecs_endpoint: Some(endpoint(SERVICE)),
        metadata_endpoint: endpoint((METADATA, 80).into()),
        connect_timeout: SOON,
        timeout: SOON,
        follow_deadline: SOON,
        poll_interval: SOON,
        fence: Fence { unassociate: false, stop: true, dry_run: false, cooldown: SOON, limit: 1 },
    }
}
