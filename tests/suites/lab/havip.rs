//! What the daemons make of the lab's cloud: that the HaVip followed, that it did not, and what is taken from a dead peer.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use harbor_ha_tests::cloud::journal::Entry;
use harbor_ha_tests::cloud::keys::MARK;
use harbor_ha_tests::cloud::scenario::ids;
use harbor_ha_tests::lab::cloud::instance;
use harbor_ha_tests::lab::config::Tuned;
use harbor_ha_tests::lab::fault::Fault;
use harbor_ha_tests::lab::need::{self, LAB};
use harbor_ha_tests::lab::{Lab, Options, Side, netns};
use serde_json::{Value, json};

use super::SOON;

/// Said once for each time that the HaVip stays away.
pub(super) const ALERT: &str = "this node serves, and the HaVip is ";

fn up(lines: &[&str]) -> Lab {
    let cloud = lines.iter().map(|line| (*line).to_owned()).collect();
    let lab = Lab::up(&Options { cloud: true, tuned: Tuned { cloud, ..Tuned::default() }, ..Options::default() });
    let lab = lab.unwrap();
    is_with(&lab, Side::A);
    lab
}

/// Waits until the HaVip is with a node that serves, and both daemons have seen it.
pub(super) fn is_with(lab: &Lab, side: Side) {
    lab.wait(&format!("{side} sees the HaVip with itself"), SOON, || {
        let status = lab.node(side).status()?;
        let seen = (status.is("/cloud/master_is_us"), status.is("/cloud/agrees"), status.text("/cloud/master"));
        ensure!(seen == (true, true, instance(side)), "{}", status.0["cloud"]);
        Ok(())
    })
    .unwrap();
    assert_eq!(lab.cloud().master(ids::HAVIP).unwrap().as_deref(), Some(instance(side)));
}

/// Kills a daemon, and waits until it is reaped: it has its lock until then, and the next one would not start.
fn kill_daemon(lab: &Lab, side: Side) {
    let before = lab.node(side).daemons();
    lab.inject(Fault::Daemon, side).unwrap();
    lab.wait("the daemon is gone", SOON, || {
        let gone = before.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists());
        ensure!(gone, "not yet");
        Ok(())
    })
    .unwrap();
}

fn calls(lab: &Lab, from: Side, action: &str) -> Vec<Entry> {
    let own = lab.state().address(from);
    let mut all = lab.cloud().journal().unwrap();
    all.retain(|entry| entry.action == action && entry.from == own);
    all
}

pub(super) fn lines_with(lab: &Lab, side: Side, words: &str) -> usize {
    let log = fs::read_to_string(lab.node(side).daemon_log()).unwrap();
    log.lines().filter(|line| line.contains(words)).count()
}

fn metric(lab: &Lab, side: Side, name: &str) -> String {
    let page = lab.node(side).page("/metrics").unwrap();
    let line = page.lines().find(|line| line.starts_with(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name}: {page}")).to_owned()
}

#[test]
fn a_havip_that_overhears_the_first_bursts_is_announced_to_until_it_moves() {
    if !need::has("a_havip_that_overhears_the_first_bursts_is_announced_to_until_it_moves", &LAB) {
        return;
    }
    let lab = up(&[]);
    // More than the burst of a takeover and the one after `announce.delay`.
    lab.cloud().order("quirks", &json!({ "ignore_announcements": 14 })).unwrap();
    lab.inject(Fault::Node, Side::A).unwrap();
    is_with(&lab, Side::B);
    let status = lab.node(Side::B).status().unwrap();
    assert!(status.number("/cloud/repeated") > Some(0), "{}", status.0["cloud"]);
    assert!(status.number("/cloud/followed_ns") > Some(0), "{}", status.0["cloud"]);
    assert_eq!((status.number("/cloud/alerts"), lines_with(&lab, Side::B, ALERT)), (Some(0), 0));
}

#[test]
fn a_havip_that_is_stuck_raises_one_alert_and_no_storm() {
    if !need::has("a_havip_that_is_stuck_raises_one_alert_and_no_storm", &LAB) {
        return;
    }
    let lab = up(&["follow_deadline = \"3s\"", "poll_interval = \"5s\""]);
    lab.cloud().order("quirks", &json!({ "havip_stuck": [ids::HAVIP] })).unwrap();
    lab.inject(Fault::Node, Side::A).unwrap();
    lab.wait("b raises the alert", SOON, || {
        let status = lab.node(Side::B).status()?;
        ensure!(status.text("/cloud/alert").contains(instance(Side::A)), "{}", status.0["cloud"]);
        Ok(())
    })
    .unwrap();
    let before = calls(&lab, Side::B, "DescribeHaVips").len();
    lab.wait("b looks on", SOON, || {
        let now = calls(&lab, Side::B, "DescribeHaVips").len();
        ensure!(now >= before + 4, "{now} looks");
        Ok(())
    })
    .unwrap();
    // What it may not do often: a look begins `poll_interval` after the answer to the one before.
    let looks: Vec<_> = calls(&lab, Side::B, "DescribeHaVips")[before..].iter().map(|entry| entry.at_ms).collect();
    assert!(looks.windows(2).all(|two| two[1] - two[0] >= 5000), "{looks:?}");
    let status = lab.node(Side::B).status().unwrap();
    assert_eq!((status.number("/cloud/alerts"), lines_with(&lab, Side::B, ALERT)), (Some(1), 1));
    assert_eq!(metric(&lab, Side::B, "harbor_ha_havip_alert"), "harbor_ha_havip_alert 1");
    assert_eq!(metric(&lab, Side::B, "harbor_ha_havip_held"), "harbor_ha_havip_held 0");

    lab.cloud().heal().unwrap();
    is_with(&lab, Side::B);
    assert_eq!(metric(&lab, Side::B, "harbor_ha_havip_alert"), "harbor_ha_havip_alert 0");
    assert_eq!(metric(&lab, Side::B, "harbor_ha_havip_alerts_total"), "harbor_ha_havip_alerts_total 1");
}

/// Instance, binding and audit as fencing leaves them.
fn fenced(lab: &Lab, dead: Side) -> Result<()> {
    let state = lab.cloud().state()?;
    let dead_one = &state["instances"][instance(dead)];
    ensure!(dead_one["status"] == "Stopped" && dead_one["stopped_mode"] == "KeepCharging", "{dead_one}");
    ensure!(!is_bound(&state, dead), "{}", state["havips"]);
    tells(lab, dead.other(), "stop: done")
}

/// Of fencing, in the status of a node.
fn tells(lab: &Lab, side: Side, what: &str) -> Result<()> {
    let status = lab.node(side).status()?;
    ensure!(status.text("/cloud/fence").contains(what), "{}", status.0["cloud"]);
    Ok(())
}

fn is_bound(state: &Value, side: Side) -> bool {
    let members = state["havips"][ids::HAVIP]["members"].as_array();
    members.is_some_and(|members| members.iter().any(|member| member == instance(side)))
}

/// The lines of a node's audit.
fn lines_of_audit(lab: &Lab, side: Side) -> Vec<Value> {
    let node = lab.node(side);
    let file = node.home().join("state").join(format!("{}.fence.jsonl", node.instance()));
    let lines = fs::read_to_string(file).unwrap_or_default();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What, and its outcome.
fn audit(lab: &Lab, side: Side) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    lines_of_audit(lab, side).iter().map(|line| (text(&line["what"]), text(&line["outcome"]))).collect()
}

fn words(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(what, outcome)| ((*what).to_owned(), (*outcome).to_owned())).collect()
}

#[test]
fn a_dead_peer_is_fenced_once_bound_again_when_it_streams_and_not_fenced_within_the_cool_down() {
    let name = "a_dead_peer_is_fenced_once_bound_again_when_it_streams_and_not_fenced_within_the_cool_down";
    if !need::has(name, &LAB) {
        return;
    }
    let lab = up(&["fence = [\"havip-unassociate\", \"ecs-stop\"]"]);
    lab.cloud().order("quirks", &json!({ "stuck": [instance(Side::A)] })).unwrap();
    // It hangs, so that something of it is left for the power switch.
    lab.inject(Fault::Hang, Side::A).unwrap();
    let looks = || calls(&lab, Side::B, "DescribeInstanceStatus").len();
    lab.wait("b looks whether what was accepted is done", SOON, || {
        ensure!(looks() > 1, "{} looks", looks());
        Ok(())
    })
    .unwrap();
    assert_eq!(audit(&lab, Side::B).pop(), words(&[("stop", "begun")]).pop(), "accepted, which is not stopped");
    lab.cloud().heal().unwrap();
    lab.wait("a is fenced", SOON, || fenced(&lab, Side::A)).unwrap();
    let wanted = |call: &Entry, name: &str, value: &str| {
        assert!(call.parameters.iter().any(|(key, found)| key == name && found == value), "{call:?}");
    };
    let (unbound, stopped) = (calls(&lab, Side::B, "UnassociateHaVip"), calls(&lab, Side::B, "StopInstance"));
    assert_eq!((unbound.len(), stopped.len()), (1, 1));
    wanted(&unbound[0], "Force", "True");
    wanted(&stopped[0], "ForceStop", "true");
    wanted(&stopped[0], "StoppedMode", "KeepCharging");
    let all = [
        ("fence", "begun"),
        ("unassociate", "begun"),
        ("unassociate", "done"),
        ("stop", "begun"),
        ("stop", "done"),
        ("associate", "begun"),
        ("associate", "done"),
    ];
    assert_eq!(audit(&lab, Side::B), words(&all[..5]));

    // An operator starts it again; it comes back as a standby.
    lab.wait("the power switch was turned", SOON, || power_is_off(&lab, Side::A)).unwrap();
    lab.cloud().order("instance", &json!({ "id": instance(Side::A), "status": "Running" })).unwrap();
    lab.undo(Fault::Node, Side::A).unwrap();
    lab.wait_serving(Side::B, SOON).unwrap();
    lab.wait("a is bound again", SOON, || {
        ensure!(is_bound(&lab.cloud().state()?, Side::A), "not yet");
        Ok(())
    })
    .unwrap();
    lab.wait("and that is in the audit", SOON, || {
        ensure!(audit(&lab, Side::B) == words(&all), "{:?}", audit(&lab, Side::B));
        Ok(())
    })
    .unwrap();

    // Handed back, and dead again; what b did is known to its next daemon.
    lab.node(Side::B).request("switchover").unwrap();
    lab.wait_serving(Side::A, SOON).unwrap();
    is_with(&lab, Side::A);
    kill_daemon(&lab, Side::B);
    lab.undo(Fault::Daemon, Side::B).unwrap();
    lab.wait_serving(Side::A, SOON).unwrap();
    lab.inject(Fault::Node, Side::A).unwrap();
    lab.wait("b tells why it does not fence", SOON, || tells(&lab, Side::B, "cloud.fence_cooldown")).unwrap();
    is_with(&lab, Side::B);
    assert_eq!(audit(&lab, Side::B), words(&all));
    assert_eq!(calls(&lab, Side::B, "StopInstance").len(), 1);
    assert_eq!(lines_with(&lab, Side::B, "the peer is not fenced"), 1);
    assert_eq!(calls(&lab, Side::A, "StopInstance").len(), 0, "a handed over to, and never took over from, the dead");
}

#[test]
fn a_node_that_was_fenced_and_serves_now_binds_itself() {
    if !need::has("a_node_that_was_fenced_and_serves_now_binds_itself", &LAB) {
        return;
    }
    let lab = up(&["fence = [\"havip-unassociate\"]", "poll_interval = \"5s\""]);
    // What a took when b was dead, and could not give back.
    lab.cloud().order("members", &json!({ "id": ids::HAVIP, "members": [instance(Side::A)] })).unwrap();
    lab.wait("b says that it is not bound", SOON, || {
        let status = lab.node(Side::B).status()?;
        ensure!(status.0["cloud"]["bound"] == false, "{}", status.0["cloud"]);
        Ok(())
    })
    .unwrap();
    assert_eq!(calls(&lab, Side::B, "AssociateHaVip").len(), 0, "a serves");
    lab.inject(Fault::Node, Side::A).unwrap();
    is_with(&lab, Side::B);
    assert!(is_bound(&lab.cloud().state().unwrap(), Side::B));
    let lines = lines_of_audit(&lab, Side::B);
    let own = lines.iter().filter(|line| line["what"] == "bind-own");
    let own: Vec<_> = own.map(|line| (line["outcome"].as_str().unwrap(), line["instance"].as_str().unwrap())).collect();
    assert_eq!(own, [("begun", instance(Side::B)), ("done", instance(Side::B))], "{lines:?}");
    assert_eq!(lines_with(&lab, Side::B, "is not bound to the HaVip"), 1);
}

#[test]
fn a_takeover_waits_for_no_answer_of_the_cloud() {
    if !need::has("a_takeover_waits_for_no_answer_of_the_cloud", &LAB) {
        return;
    }
    let lab = up(&["fence = [\"havip-unassociate\"]", "timeout = \"60s\""]);
    lab.cloud().fault(&serde_json::from_value(json!({ "kind": "black-hole" })).unwrap()).unwrap();
    let answered = |side| lab.node(side).status().unwrap().number("/cloud/calls/look/ok");
    let before = answered(Side::B);
    lab.inject(Fault::Node, Side::A).unwrap();
    lab.wait("b serves", SOON, || {
        let status = lab.node(Side::B).living_status()?;
        ensure!(status.is_primary(), "{}", status.summary());
        Ok(())
    })
    .unwrap();
    // Every call hangs, for longer than all this took.
    assert_eq!(answered(Side::B), before);
    assert_eq!(lab.node(Side::B).status().unwrap().number("/cloud/calls/look/failed").unwrap_or(0), 0);
}

#[test]
fn an_instance_with_local_disks_is_not_stopped() {
    if !need::has("an_instance_with_local_disks_is_not_stopped", &LAB) {
        return;
    }
    let lab = up(&["fence = [\"ecs-stop\"]"]);
    lab.cloud().order("instance", &json!({ "id": instance(Side::A), "local_disks": 2 })).unwrap();
    lab.inject(Fault::Node, Side::A).unwrap();
    lab.wait("b tells when it tries again", SOON, || tells(&lab, Side::B, "cloud.fence_cooldown")).unwrap();
    assert_eq!(audit(&lab, Side::B), words(&[("fence", "begun"), ("stop", "begun"), ("stop", "failed")]));
    assert_eq!(lines_with(&lab, Side::B, "it has local disks, which a stop clears"), 1);
    assert_eq!(calls(&lab, Side::B, "StopInstance").len(), 0);
    assert_eq!(lab.cloud().state().unwrap()["instances"][instance(Side::A)]["status"], "Running");
}

/// The program that the double runs when an instance is stopped has begun, as nothing lives there, and has ended.
fn power_is_off(lab: &Lab, side: Side) -> Result<()> {
    let living = netns::processes(netns::inode(&lab.node(side).netns())?);
    ensure!(living.is_empty(), "{living:?} live yet");
    let words = format!("fault\0--run\0{}\0node\0--node\0{side}\0", lab.run());
    for entry in fs::read_dir("/proc")?.flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(&words) {
            bail!("it runs yet");
        }
    }
    Ok(())
}

#[test]
fn fencing_stops_where_it_is_when_the_peer_is_heard_again() {
    if !need::has("fencing_stops_where_it_is_when_the_peer_is_heard_again", &LAB) {
        return;
    }
    let lab = up(&["fence = [\"havip-unassociate\", \"ecs-stop\"]"]);
    let away = json!({ "service": "vpc", "action": "UnassociateHaVip", "kind": "black-hole" });
    lab.cloud().fault(&serde_json::from_value(away).unwrap()).unwrap();
    lab.inject(Fault::Node, Side::A).unwrap();
    let reaches = |end: &[(&str, &str)]| {
        lab.wait(&format!("{end:?}"), SOON, || {
            let found = audit(&lab, Side::B);
            ensure!(found == words(end), "{found:?}");
            Ok(())
        })
        .unwrap();
    };
    reaches(&[("fence", "begun"), ("unassociate", "begun")]);
    lab.undo(Fault::Node, Side::A).unwrap();
    lab.wait_serving(Side::B, SOON).unwrap();
    lab.cloud().heal().unwrap();
    // The call may have been heard: whether the peer is bound is looked at, and it is.
    let end = [("unassociate", "failed"), ("associate", "begun"), ("associate", "was-so")];
    reaches(&[&[("fence", "begun"), ("unassociate", "begun")][..], &end].concat());
    assert_eq!(calls(&lab, Side::B, "StopInstance").len(), 0);
}

#[test]
fn a_dry_run_tells_what_it_would_take_and_takes_nothing() {
    if !need::has("a_dry_run_tells_what_it_would_take_and_takes_nothing", &LAB) {
        return;
    }
    let lab = up(&["fence = [\"havip-unassociate\", \"ecs-stop\"]", "fence_dry_run = true"]);
    lab.inject(Fault::Node, Side::A).unwrap();
    lab.wait("b tells", SOON, || tells(&lab, Side::B, "stop: would be done")).unwrap();
    is_with(&lab, Side::B);
    assert_eq!(audit(&lab, Side::B), words(&["fence", "unassociate", "stop"].map(|what| (what, "dry-run"))));
    let state = lab.cloud().state().unwrap();
    assert!(is_bound(&state, Side::A) && state["instances"][instance(Side::A)]["status"] == "Running", "{state}");
    for action in ["UnassociateHaVip", "StopInstance", "AssociateHaVip"] {
        assert_eq!(calls(&lab, Side::B, action).len(), 0, "{action}");
    }
}

#[test]
fn no_key_is_in_what_a_daemon_logs_shows_or_writes() {
    if !need::has("no_key_is_in_what_a_daemon_logs_shows_or_writes", &LAB) {
        return;
    }
    let lab = up(&["poll_interval = \"5s\"", "fence = [\"havip-unassociate\"]"]);
    // The next daemon of b says everything, its libraries too; it meets keys that are over, refusals and broken answers.
    kill_daemon(&lab, Side::B);
    lab.node(Side::B).start_daemon_with(&["RUST_LOG=trace".into()]).unwrap();
    lab.wait_serving(Side::A, SOON).unwrap();
    lab.cloud().order("expire-tokens", &Value::Null).unwrap();
    for kind in [json!("truncated"), json!("garbage"), json!({ "error": { "status": 403, "code": "Forbidden.RAM" } })] {
        let fault = json!({ "service": "vpc", "times": 2, "kind": kind });
        lab.cloud().fault(&serde_json::from_value(fault).unwrap()).unwrap();
    }
    lab.inject(Fault::Node, Side::A).unwrap();
    is_with(&lab, Side::B);
    lab.wait("b has tried to fence", SOON, || {
        let last = audit(&lab, Side::B).pop();
        // One of the faults may have hit it.
        ensure!(last.as_ref().is_some_and(|(what, how)| what == "unassociate" && how != "begun"), "{last:?}");
        Ok(())
    })
    .unwrap();
    let node = lab.node(Side::B);
    let log = fs::read_to_string(node.daemon_log()).unwrap();
    assert!(log.contains("a cloud call is repeated") && log.contains("TRACE"), "the log is not that of everything");
    let shown = [log, node.status().unwrap().0.to_string(), node.page("/metrics").unwrap()];
    let written = fs::read_dir(node.home().join("state")).unwrap().flatten();
    let written = written.filter_map(|entry| fs::read(entry.path()).ok());
    for text in shown.into_iter().chain(written.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())) {
        let at = text.find(MARK);
        assert!(at.is_none(), "a secret: {:?}", at.map(|at| &text[at.saturating_sub(200)..at]));
    }
}
