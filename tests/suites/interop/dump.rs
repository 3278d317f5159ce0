//! What a real keepalived says that it read (`-d`) of lines that stand twice, of definitions and includes, and of trackers
//! below their instance: the importer has the same, or tells what it has instead.

use std::fs;

use anyhow::ensure;
use harbor_ha::config::Configuration;
use harbor_ha::config::keepalived::{Verdict, host};
use harbor_ha::config::router::Settings;
use harbor_ha_tests::lab::keepalived::Keepalived;
use harbor_ha_tests::lab::{Lab, Options, Side, residue};

use super::{LIMIT, requirements_met, settled};

/// `@^nobody` holds everywhere.
const TEXT: &str = r#"global_defs {
    script_user root
    notification_email {
        a@b.c d@e.f
    }
    notification_email_from x@y
    notification_email {
        g@h.i
    }
    notification_email_from z@y
    smtp_server 10.77.0.200
}
$PEERS= \
    unicast_peer { \
        # of two \
        10.77.0.201 # one \
        @^nobody 10.77.0.${N} \
        @nobody 10.77.0.209 \
        ~SEQ(K, 203, 204) 10.77.0.${K} \
    }
$N=202
$MORE= \
        10.77.0.205 \
        10.77.0.206/24
vrrp_track_process pr {
    process no_such_process
}
vrrp_track_process first {
    process a
    weight 3
    process b
    weight 4
    quorum 5
    quorum_max 2
}
vrrp_script late_too {
    script /usr/bin/true
    interval 60
    interval 50
}
vrrp_instance definitions {
    state BACKUP
    state MASTER
    state BACKUP
    interface eth0
    virtual_router_id 1
    unicast_src_ip OWN
    @^nobody $PEERS
    unicast_peer { ${MORE}
    }
    $PRIORITY=7
    priority $PRIORITY
    @^nobody include part
    virtual_ipaddress {
        10.77.1.1
    }
    track_process {
        pr
        first
    }
}
vrrp_instance twice {
    interface eth0
    virtual_router_id 2
    virtual_router_id 3
    priority 90
    priority 80
    version 3
    version 2
    nopreempt
    preempt_delay 3
    preempt
    notify_master /usr/bin/true
    notify_master /usr/bin/false
    virtual_ipaddress {
        10.77.1.2
    }
}
vrrp_instance once {
    interface eth0
    virtual_router_id 4
    preempt
    nopreempt
    track_script {
        late_too
        late
    }
    virtual_ipaddress {
        10.77.1.3
    }
}
vrrp_script late {
    script /usr/bin/true
}
"#;

/// Of each instance, in the words of keepalived's dump, as far as they are compared.
fn theirs(log: &str) -> Vec<String> {
    const KEYS: [&str; 7] = [
        "Email notification from",
        "Virtual Router ID",
        "VRRP Version",
        "Wantstate",
        "Priority",
        "Preempt",
        "Preempt delay",
    ];
    let (mut name, mut list, mut said) = (String::new(), "", Vec::new());
    for line in log.lines() {
        let Some((_, line)) = line.split_once(": ") else { continue };
        let (depth, line) = (line.len() - line.trim_start().len(), line.trim());
        match line.split_once(" = ") {
            Some(("VRRP Instance", found)) => name = found.to_owned(),
            Some(("Master state transition script", found)) => {
                said.push(format!("{name}: master {}", found.split(',').next().unwrap_or_default()));
            }
            Some((key, value)) if KEYS.contains(&key) => said.push(format!("{name}: {key} {value}")),
            _ => {}
        }
        let item = match list {
            "Email notification to:" if depth == 3 => Some(line),
            "Unicast Peer :" if depth == 5 => line.split(' ').next(),
            "Tracked scripts :" | "Tracked processes :" if depth == 5 => Some(line),
            _ => None,
        };
        match item {
            Some(item) => said.push(format!("{name}: {list} {item}")),
            None => list = line,
        }
        if line.starts_with("------< VRRP Sc") {
            break;
        }
    }
    said.sort();
    said
}

/// The same of ours.
fn ours(settings: &Settings) -> Vec<String> {
    let mut said = Vec::new();
    let mail = settings.mail.as_ref().expect("mail");
    said.push(format!(": Email notification from {}", mail.from));
    said.extend(mail.to.iter().map(|to| format!(": Email notification to: {to}")));
    for it in &settings.instances {
        let mut say = |words: String| said.push(format!("{}: {words}", it.name));
        say(format!("Virtual Router ID {}", it.vrid.as_u8()));
        say(format!("VRRP Version {}", format!("{:?}", it.version).trim_start_matches('V')));
        say(format!("Wantstate {}", format!("{:?}", it.state).to_uppercase()));
        say(format!("Priority {}", it.priority.0));
        say(format!("Preempt {}", if it.preempt { "enabled" } else { "disabled" }));
        if !it.preempt_delay.is_zero() {
            say(format!("Preempt delay {} secs", it.preempt_delay.as_secs()));
        }
        if let Some(run) = &it.notify.master {
            say(format!("master '{}'", run.words.join("' '")));
        }
        it.peers.iter().for_each(|peer| say(format!("Unicast Peer : {peer}")));
        it.track.scripts.iter().for_each(|on| say(format!("Tracked scripts : {} weight {}", on.name, on.weight)));
        it.track.processes.iter().for_each(|on| say(format!("Tracked processes : {}, weight {}", on.name, on.weight)));
    }
    said.sort();
    said
}

/// What keepalived on a says that it read of `text`, once all is told that is waited for.
pub(super) fn dumped(lab: &Lab, text: &str, is_told: impl Fn(&str) -> bool) -> String {
    let keepalived = Keepalived::on(lab.node(Side::A));
    keepalived.start_with(text, &["-d"], &[]).unwrap();
    let mut log = String::new();
    let waited = lab.wait("keepalived told what it read", LIMIT, || {
        log = String::from_utf8_lossy(&fs::read(keepalived.log()).unwrap_or_default()).into_owned();
        ensure!(is_told(&log), "{log}");
        Ok(())
    });
    settled(lab, waited);
    log
}

/// What ours would run on a by the same words, and what it says of them.
pub(super) fn loaded(lab: &Lab, text: &str) -> Result<(Settings, Vec<Verdict>), String> {
    let file = lab.node(Side::A).home().join("dump.conf");
    fs::write(&file, text).unwrap();
    match host::load(&file).map_err(|problems| problems.to_string())? {
        (Configuration::Router(settings), verdicts) => Ok((*settings, verdicts)),
        (Configuration::Pair(_), _) => panic!("a pair"),
    }
}

#[test]
fn what_stands_twice_or_in_definitions_is_read_as_keepalived_reads_it() {
    if !requirements_met("what_stands_twice_or_in_definitions_is_read_as_keepalived_reads_it", &["keepalived"]) {
        return;
    }
    let lab = Lab::network(&Options { daemon: false, ..Options::default() }).unwrap();
    let run = lab.run().to_owned();
    let text = TEXT.replace("OWN", &lab.state().address(Side::A).to_string());
    fs::create_dir_all(lab.node(Side::A).home()).unwrap();
    fs::write(lab.node(Side::A).home().join("part"), "priority 66\n").unwrap();
    let log = dumped(&lab, &text, |log| log.contains("------< VRRP Scripts >------"));
    let (settings, verdicts) = loaded(&lab, &text).unwrap();
    let mut ours = ours(&settings);
    // The one thing that differs, and is told: it stands below, and is tracked.
    assert!(log.contains("track script late not found, ignoring"), "{log}");
    let late = ours.iter().position(|it| it == "once: Tracked scripts : late weight 0").expect("it is tracked");
    ours.remove(late);
    assert!(verdicts.iter().any(|it| it.keyword == "late" && it.trap && it.why.contains("does not find it")));
    assert_eq!(ours, theirs(&log));

    // What keepalived leaves out so that it would be master beside another one is not run.
    let wrong = text.replacen("10.77.0.201", "b.example.com", 1);
    let said = loaded(&lab, &wrong).map(|_| ()).unwrap_err();
    assert!(said.contains("b.example.com: its instance is not carried over"), "{said}");
    drop(lab);
    assert_eq!(residue::of(&run), Vec::<String>::new());
}
