//! Whatever is tracked weighs as much with ours as with a real keepalived: the cases are what happens to both, and the
//! priorities that both must show for it.

use std::ffi::OsString;
use std::fs;
use std::process::Command;

use harbor_ha_tests::lab::{Lab, Side, link};

use super::keepalived::with_keepalived;
use super::twins::Happens::{End, Ip, Remove, Replace, Runs, Start, Write};
use super::twins::{Processes, Step, Twins, Words};
use super::{on_a_network, requirements_met};

#[test]
fn scripts_weigh_as_much_with_us_as_with_keepalived() {
    const STEPS: [Step; 11] = [
        (Runs("up", "x"), &[95]),
        (Runs("down", "x"), &[65]),
        (Runs("up", "."), &[85]),
        (Runs("down", "."), &[115]),
        (Runs("reversed", "x"), &[120]),
        (Runs("reversed", "."), &[115]),
        // One alone is neither a failure nor a recovery.
        (Runs("slow", "x.xx.x.."), &[75, 115]),
        (Runs("down", "hx."), &[85, 115]),
        (Runs("up", "k."), &[95, 115]),
        (Runs("fatal", "x"), &[0]),
        (Runs("fatal", "."), &[115]),
    ];
    const SCRIPTS: [(&str, &str); 5] = [
        ("up", "weight 20"),
        ("down", "weight -30"),
        ("reversed", "weight 5 reverse"),
        ("slow", "weight -40\n    rise 2\n    fall 2"),
        ("fatal", ""),
    ];
    let script = |(name, words): (&str, &str)| {
        format!(
            "vrrp_script {name} {{\n    script \"/etc/keepalived/check {name}\"\n    interval 1\n    timeout 2\n    {words}\n}}\n"
        )
    };
    let trackers: String = SCRIPTS.into_iter().map(script).collect();
    let tracks: String = SCRIPTS.iter().map(|(name, _)| format!("        {name}\n")).collect();
    with_keepalived("scripts_weigh_as_much_with_us_as_with_keepalived", |lab| {
        let mut twins = Twins::on(lab);
        // Neither waits for a script with a weight, so the priority that it enters BACKUP with is chance.
        twins.from_line = 1;
        SCRIPTS.iter().for_each(|(name, _)| twins.write(name, ".\n"));
        let instance = format!("    track_script {{\n{tracks}    }}\n");
        let words = Words { trackers: &trackers, instance: &instance, ..Words::default() };
        twins.live(words, 115, &STEPS);
    });
}

#[test]
fn files_weigh_as_much_with_us_as_with_keepalived() {
    const STEPS: [Step; 19] = [
        (Write("twice", "10\n"), &[127]),
        (Write("twice", "-10"), &[87]),
        (Replace("twice", "12 and more\n20\n"), &[131]),
        (Replace("twice", "0x10"), &[139]),
        (Write("twice", "010"), &[123]),
        (Write("twice", "up"), &[107]),
        (Write("twice", "1000"), &[254]),
        // No number of 32 bits: what was before stays.
        (Write("twice", "3000000000"), &[]),
        (Write("twice", "-100"), &[1]),
        (Remove("twice"), &[107]),
        (Write("less", "5"), &[92]),
        (Write("twice", "5"), &[102]),
        (Remove("less"), &[117]),
        (Write("made", "0"), &[110]),
        // Below -253 there is no priority left. The number before is none: with FAULT keepalived
        // tells the priority that it stopped with, ours the one without this file.
        (Write("twice", "0"), &[100]),
        (Write("twice", "-127"), &[0]),
        (Write("twice", "0"), &[100]),
        (Write("fatal", "1"), &[0]),
        (Write("fatal", "0"), &[100]),
    ];
    let file =
        |name: &str, words: &str| format!("track_file {name} {{\n    file /etc/keepalived/{name}\n    {words}\n}}\n");
    let trackers = [
        file("twice", "weight 2"),
        file("less", "weight 3 reverse"),
        file("fatal", "weight 0"),
        file("made", "init_file 7"),
    ];
    with_keepalived("files_weigh_as_much_with_us_as_with_keepalived", |lab| {
        let words = Words {
            trackers: &trackers.concat(),
            instance: "    track_file {\n        twice\n        less\n        fatal\n        made\n    }\n",
            ..Words::default()
        };
        Twins::on(lab).live(words, 107, &STEPS);
    });
}

#[test]
fn interfaces_weigh_as_much_with_us_as_with_keepalived() {
    const STEPS: [Step; 15] = [
        (Ip("link set plus down"), &[95]),
        (Ip("link set plus up"), &[105]),
        // No carrier.
        (Ip("link set minus-peer down"), &[85]),
        (Ip("link set plus down"), &[75]),
        (Ip("link set minus-peer up"), &[95]),
        (Ip("link set plus up"), &[105]),
        (Ip("link set turned down"), &[110]),
        (Ip("link set turned up"), &[105]),
        // One that is not there is down, and may come back.
        (Ip("link del minus"), &[85]),
        (Ip("link add minus type veth peer name minus-peer\nlink set minus-peer up"), &[]),
        (Ip("link set minus up"), &[105]),
        (Ip("link set fatal down"), &[0]),
        (Ip("link set fatal up"), &[105]),
        (Ip("link set fatal-peer down"), &[0]),
        (Ip("link set fatal-peer up"), &[105]),
    ];
    const LINKS: [&str; 4] = ["plus", "minus", "turned", "fatal"];
    with_keepalived("interfaces_weigh_as_much_with_us_as_with_keepalived", |lab| {
        let add = |name| {
            format!("link add {name} type veth peer name {name}-peer\nlink set {name}-peer up\nlink set {name} up\n")
        };
        let lines: String = LINKS.into_iter().map(add).collect();
        Side::BOTH.iter().for_each(|side| link::batch(Some(&lab.node(*side).netns()), &lines).unwrap());
        let words = Words {
            instance: "    track_interface {\n        plus weight 10\n        minus weight -20\n        turned weight 5 reverse\n        fatal\n    }\n",
            ..Words::default()
        };
        Twins::on(lab).live(words, 105, &STEPS);
    });
}

/// What lets a daemon in a network namespace have the kernel's process events.
fn machine_netns(lab: &Lab) -> Vec<OsString> {
    let folder = lab.state().folder();
    let (source, library) = (folder.join("machine_netns.c"), folder.join("machine_netns.so"));
    fs::write(&source, include_str!("machine_netns.c")).unwrap();
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status().unwrap();
    assert!(made.success());
    let netns = format!("MACHINE_NETNS=/proc/{}/ns/net", std::process::id());
    vec![format!("LD_PRELOAD={}", library.display()).into(), netns.into()]
}

/// Theirs needs the kernel's events, which a lab's host does not have; ours is tried with them, and without.
#[test]
fn processes_weigh_as_much_with_us_as_with_keepalived() {
    const STEPS: [Step; 13] = [
        (Start("up"), &[120]),
        (Start("up"), &[]),
        (End("up"), &[]),
        (End("up"), &[100]),
        (End("down"), &[70]),
        (Start("down"), &[100]),
        (Start("two"), &[]),
        (Start("two"), &[105]),
        (Start("one"), &[112]),
        (Start("one"), &[105]),
        (End("one"), &[112]),
        (End("fatal"), &[0]),
        (Start("fatal"), &[112]),
    ];
    const TRACKED: [(&str, &str); 5] = [
        ("up", "weight 20"),
        ("down", "weight -30"),
        ("two", "quorum 2\n    weight 5"),
        ("one", "quorum_max 1\n    weight 7"),
        ("fatal", "weight 0"),
    ];
    let test = "processes_weigh_as_much_with_us_as_with_keepalived";
    if !requirements_met(test, &["keepalived", "cc"]) {
        return;
    }
    for told in [true, false] {
        on_a_network(|lab| {
            let block = |(name, words): (&str, &str)| {
                let process = Processes::name(lab.run(), name);
                format!("vrrp_track_process {name} {{\n    process {process}\n    {words}\n}}\n")
            };
            let trackers: String = TRACKED.into_iter().map(block).collect();
            let words = Words {
                trackers: &trackers,
                instance: "    track_process {\n        up\n        down\n        two\n        one\n        fatal\n    }\n",
                ..Words::default()
            };
            let events = machine_netns(lab);
            let mut twins = Twins::on(lab);
            ["down", "fatal"].into_iter().for_each(|name| twins.processes.start(name));
            twins.environment = [if told { events.clone() } else { Vec::new() }, events];
            twins.live(words, 100, &STEPS);
        });
    }
}
