//! What a user of keepalived on ECS gets: the imported file and a `[cloud]`, and plain VRRP whose HaVip is looked after.

use std::fs;
use std::process::Output;

use anyhow::ensure;
use harbor_ha_tests::cloud::scenario::ids;
use harbor_ha_tests::lab::cloud::{SERVICE, instance};
use harbor_ha_tests::lab::need::{self, LAB};
use harbor_ha_tests::lab::state::VIP;
use harbor_ha_tests::lab::{Lab, Options, Side, netns, node};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::SOON;
use super::havip::{ALERT, is_with, lines_with};

fn ours(lab: &Lab, side: Side, words: &[&str]) -> Output {
    let mut command = netns::command(&lab.node(side).netns(), node::daemon_program().unwrap()).unwrap();
    command.args(words).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Imports a file of the kind that most have, adds the cloud, and lets `check` look at it.
fn import(lab: &Lab, side: Side, priority: u8) {
    let node = lab.node(side);
    let home = node.home().display().to_string();
    let old = format!("{home}/keepalived.conf");
    let text = format!(
        "global_defs {{\n router_id LVS\n}}\nvrrp_instance VI_1 {{\n state BACKUP\n nopreempt\n interface eth0\n \
         virtual_router_id 51\n priority {priority}\n advert_int 1\n unicast_src_ip {own}\n unicast_peer {{\n {peer}\n \
         }}\n authentication {{\n auth_type PASS\n auth_pass 1111\n }}\n virtual_ipaddress {{\n {VIP}/32\n }}\n}}\n",
        own = node.address(),
        peer = node.peer_address(),
    );
    fs::create_dir_all(node.home().join("run")).unwrap();
    fs::write(&old, text).unwrap();
    let new = node.config().display().to_string();
    let imported = ours(lab, side, &["import", &old, "--output", &new, "--force"]);
    assert!(imported.status.success(), "{}", said(&imported));
    // Two nodes on one host: each has its own folder.
    let text = fs::read_to_string(&new).unwrap();
    assert_eq!(text.matches("[router]\n").count(), 1, "{text}");
    let own = format!("[router]\nname = \"{}\"\nruntime_dir = \"{home}/run\"\n", node.instance());
    let cloud = format!(
        "\n[cloud]\nhavip = \"auto\"\npeer_instance = \"{}\"\ncredentials = \"ram-role\"\nvpc_endpoint = \
         \"http://{SERVICE}\"\necs_endpoint = \"http://{SERVICE}\"\nfollow_deadline = \"2s\"\npoll_interval = \"5s\"\n",
        instance(side.other())
    );
    fs::write(&new, text.replace("[router]\n", &own) + &cloud).unwrap();
    let checked = ours(lab, side, &["check", "--config", &new]);
    assert!(checked.status.success() && said(&checked).contains("harbor-ha havip verify"), "{}", said(&checked));

    let refused = ours(lab, side, &["havip", "show", "--config", &old]);
    assert_eq!(refused.status.code(), Some(78), "{}", said(&refused));
    assert!(said(&refused).contains("harbor-ha import") && said(&refused).contains("[cloud]"), "{}", said(&refused));
}

/// Of a backup: that it sees the HaVip where it should be.
fn agrees(lab: &Lab, side: Side) {
    lab.wait(&format!("{side} sees the HaVip with the other one"), SOON, || {
        let status = lab.node(side).status()?;
        let seen = (status.is("/cloud/master_is_us"), status.is("/cloud/agrees"), status.text("/cloud/master"));
        ensure!(seen == (false, true, instance(side.other())), "{}", status.0["cloud"]);
        Ok(())
    })
    .unwrap();
}

#[test]
fn an_imported_keepalived_follows_its_havip_and_raises_the_alert_when_it_does_not() {
    if !need::has("an_imported_keepalived_follows_its_havip_and_raises_the_alert_when_it_does_not", &LAB) {
        return;
    }
    let lab = Lab::network(&Options { cloud: true, ..Options::default() }).unwrap();
    lab.start_cloud().unwrap();
    import(&lab, Side::A, 100);
    import(&lab, Side::B, 90);
    lab.node(Side::A).start_daemon().unwrap();
    is_with(&lab, Side::A);
    lab.node(Side::B).start_daemon().unwrap();
    agrees(&lab, Side::B);
    for (side, serves) in [
        (Side::A, json!({"serves": true, "peer_serves": false})),
        (Side::B, json!({"serves": false, "peer_serves": true})),
    ] {
        let config = lab.node(side).config().display().to_string();
        let shown = ours(&lab, side, &["havip", "show", "--json", "--config", &config]);
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap_or_else(|_| panic!("{}", said(&shown)));
        assert_eq!((&shown["agrees"], &shown["daemon"]), (&json!(true), &serves), "{shown}");
        let verified = ours(&lab, side, &["havip", "verify", "--config", &config]);
        assert!(verified.status.success() && said(&verified).contains("IP protocol 112"), "{}", said(&verified));
    }

    // More than its first two bursts are overheard.
    lab.cloud().order("quirks", &json!({ "ignore_announcements": 14 })).unwrap();
    lab.node(Side::A).signal_daemon(Signal::SIGTERM).unwrap();
    is_with(&lab, Side::B);
    let status = lab.node(Side::B).status().unwrap();
    assert!(status.number("/cloud/repeated") > Some(0), "{}", status.0["cloud"]);

    lab.wait("a has ended", SOON, || {
        ensure!(lab.node(Side::A).daemons().is_empty(), "it lives");
        Ok(())
    })
    .unwrap();
    lab.node(Side::A).start_daemon().unwrap();
    agrees(&lab, Side::A);
    lab.cloud().order("quirks", &json!({ "havip_stuck": [ids::HAVIP] })).unwrap();
    let before = lines_with(&lab, Side::A, ALERT);
    lab.node(Side::B).signal_daemon(Signal::SIGTERM).unwrap();
    lab.wait("a raises the alert", SOON, || {
        let status = lab.node(Side::A).status()?;
        ensure!(status.text("/cloud/alert").contains(instance(Side::B)), "{}", status.0["cloud"]);
        Ok(())
    })
    .unwrap();
    let config = lab.node(Side::A).config().display().to_string();
    let shown = said(&ours(&lab, Side::A, &["status", "--config", &config]));
    assert!(shown.contains("\nHAVIP: this node serves"), "{shown}");
    lab.cloud().heal().unwrap();
    is_with(&lab, Side::A);
    assert_eq!(lines_with(&lab, Side::A, ALERT), before + 1, "one, however often it looked");
    let status = lab.node(Side::A).status().unwrap();
    assert_eq!((status.text("/cloud/alert"), status.number("/cloud/fenced")), ("", Some(0)), "{}", status.0["cloud"]);
}
