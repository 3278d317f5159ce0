//! The files that the users have, imported: what they were written for happens, and one thing more, as `nopreempt` holds.
//!
//! Their addresses are replaced by those of the lab, and nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use harbor_ha_tests::lab::dropin::Dropin;
use harbor_ha_tests::lab::keepalived::State;
use harbor_ha_tests::lab::state::VIP;
use harbor_ha_tests::lab::wire::{What, Wire};
use harbor_ha_tests::lab::{Lab, Options, Side, clock, netns, residue};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::keepalived::has_vip;
use super::waits::{advert_of, adverts_since, is, seen};
use super::{LIMIT, judged, on_a_network, requirements_met, settled};

/// As the users have them.
const SEEDS: [&str; 2] = [
    include_str!("../../../harbor-ha-userspace/src/cli/import/testdata/keepalived-master.conf"),
    include_str!("../../../harbor-ha-userspace/src/cli/import/testdata/keepalived-backup.conf"),
];

/// The file of a node: that of the ECS 253 on `a`, that of 254 on `b`.
pub(super) fn seed(lab: &Lab, side: Side) -> String {
    let [a, b] = Side::BOTH.map(|it| lab.state().address(it).to_string());
    let text = SEEDS[usize::from(side == Side::B)];
    text.replace("172.19.48.253", &a).replace("172.19.48.254", &b).replace("172.19.48.188", &VIP.to_string())
}

/// The node's `/etc/keepalived`: its file, and the script that the file names, which notes what it is called with and does
/// what `more` says.
pub(super) fn furnish(lab: &Lab, side: Side, text: &str, more: &str) -> PathBuf {
    let etc = Dropin::on(lab.node(side)).etc().unwrap();
    fs::create_dir_all(etc.join("script")).unwrap();
    fs::write(etc.join("keepalived.conf"), text).unwrap();
    let script = etc.join("script/pg13_action.sh");
    fs::write(&script, format!("#!/bin/sh\necho \"$1\" >> /etc/keepalived/calls\n{more}")).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    etc
}

/// What the script of a node was called with, in order.
pub(super) fn calls(lab: &Lab, side: Side) -> Vec<String> {
    let etc = Dropin::on(lab.node(side)).etc().unwrap();
    fs::read_to_string(etc.join("calls")).unwrap_or_default().lines().map(str::to_owned).collect()
}

pub(super) fn called_last(lab: &Lab, side: Side, word: &str) {
    let waited = lab.wait(&format!("the script of {side} was called with {word}"), LIMIT, || {
        let calls = calls(lab, side);
        ensure!(calls.last().is_some_and(|last| last == word), "{calls:?}");
        Ok(())
    });
    settled(lab, waited);
}

/// `harbor-ha import`, and `check` on what it wrote; returns that file, as the node's programs see it.
pub(super) fn import(lab: &Lab, side: Side, more: &[&str]) -> &'static str {
    const FILE: &str = "/etc/keepalived/harbor-ha.toml";
    let dropin = Dropin::on(lab.node(side));
    let words = [&["import", "/etc/keepalived/keepalived.conf", "--output", FILE], more].concat();
    let output = dropin.run(&words).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains(", 0 not supported;"), "{said}");
    FILE
}

pub(super) fn check(lab: &Lab, side: Side, file: &str) {
    let output = Dropin::on(lab.node(side)).run(&["check", "--config", file]).unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn the_imported_files_behave_as_they_were_meant_to() {
    if !requirements_met("the_imported_files_behave_as_they_were_meant_to", &["unshare"]) {
        return;
    }
    on_a_network(|lab| {
        let wire = Wire::on(lab, "b").unwrap();
        let [a, b] = Side::BOTH.map(|side| Dropin::on(lab.node(side)));
        let files = Side::BOTH.map(|side| {
            furnish(lab, side, &seed(lab, side), "");
            let file = import(lab, side, &[]);
            check(lab, side, file);
            file
        });
        let start = |side: Side| {
            let index = usize::from(side == Side::B);
            [a, b][index].start_on(files[index].as_ref()).unwrap();
        };
        // Both at once: priority 100 is first.
        start(Side::A);
        start(Side::B);
        is(lab, Dropin::on(lab.node(Side::A)), State::Master);
        is(lab, Dropin::on(lab.node(Side::B)), State::Backup);
        called_last(lab, Side::A, "MASTER");
        called_last(lab, Side::B, "BACKUP");
        assert!(has_vip(lab, Side::A) && !has_vip(lab, Side::B));
        assert_eq!(wire.first(0, advert_of(Side::B)), None, "a backup does not advertise");

        // A crash; and the one that returns stays backup, although its file says `state MASTER` and priority 100.
        a.kill().unwrap();
        is(lab, Dropin::on(lab.node(Side::B)), State::Master);
        called_last(lab, Side::B, "MASTER");
        let from = clock::now_ns();
        start(Side::A);
        is(lab, Dropin::on(lab.node(Side::A)), State::Backup);
        called_last(lab, Side::A, "BACKUP");
        adverts_since(lab, &wire, Side::B, from, 5);
        assert_eq!((a.state(), b.state()), (State::Backup, State::Master));
        assert!(!has_vip(lab, Side::A) && has_vip(lab, Side::B));

        // A stop in order.
        let stopped = b.terminate().unwrap();
        seen(lab, &wire, stopped, "priority 0", |what| what == What::Advert(Side::B, 0));
        is(lab, Dropin::on(lab.node(Side::A)), State::Master);
        called_last(lab, Side::A, "MASTER");
        called_last(lab, Side::B, "STOP");
        assert_eq!(calls(lab, Side::A), ["BACKUP", "MASTER", "BACKUP", "MASTER"]);
        assert_eq!(calls(lab, Side::B), ["BACKUP", "MASTER", "STOP"]);
    });
}

/// What the script of a started last.
fn left(lab: &Lab) -> Option<Pid> {
    let etc = Dropin::on(lab.node(Side::A)).etc().unwrap();
    Some(Pid::from_raw(fs::read_to_string(etc.join("left")).ok()?.trim().parse().ok()?))
}

/// A `notify_master` that starts a service, as those with `pg_ctl start` do.
#[test]
fn what_a_notify_script_leaves_lives_on_in_an_imported_file_and_is_ended_where_the_file_does_not_say_so() {
    let test = "what_a_notify_script_leaves_lives_on_in_an_imported_file_and_is_ended_where_the_file_does_not_say_so";
    if !requirements_met(test, &["unshare", "setsid"]) {
        return;
    }
    on_a_network(|lab| {
        const SERVICE: &str =
            "[ \"$1\" != MASTER ] || { setsid sleep 100000 & echo $! > /etc/keepalived/left; }\nexit 0\n";
        let etc = furnish(lab, Side::A, &seed(lab, Side::A), SERVICE);
        let file = import(lab, Side::A, &[]);
        let dropin = Dropin::on(lab.node(Side::A));
        let done = |what: &str, [ok, failed]: [u64; 2]| {
            let waited = lab.wait(what, LIMIT, || {
                let status = dropin.status()?;
                let found = ["/outside/scripts_ok", "/outside/scripts_failed"].map(|at| status.number(at));
                ensure!(found == [Some(ok), Some(failed)], "{found:?}");
                Ok(())
            });
            settled(lab, waited);
        };
        let ended = || {
            dropin.terminate().unwrap();
            settled(lab, lab.wait("the daemon has ended", LIMIT, || dropin.ended()));
        };
        let lives = |pid: Pid| kill(pid, None).is_ok();
        dropin.start_on(file.as_ref()).unwrap();
        is(lab, dropin, State::Master);
        done("both scripts are done", [2, 0]);
        let service = left(lab).expect("it was started");
        assert!(lives(service));
        ended();
        assert!(lives(service), "it outlives the daemon too");
        kill(service, Signal::SIGKILL).unwrap();

        // As in a file of one's own.
        let toml = etc.join("harbor-ha.toml");
        let text = fs::read_to_string(&toml).unwrap();
        assert!(text.contains("leave_background = true\n"), "{text}");
        fs::write(&toml, text.replace("leave_background = true\n", "")).unwrap();
        dropin.start_on(file.as_ref()).unwrap();
        is(lab, dropin, State::Master);
        done("that it left something is no success", [1, 1]);
        let other = left(lab).expect("it was started");
        assert!(other != service && !lives(other));
        ended();
    });
}

/// Runs a test on hosts with a PostgreSQL primary on `a` and its standby on `b`.
fn with_postgres(test: &str, run: impl FnOnce(&Lab)) {
    if !requirements_met(test, &["unshare"]) {
        return;
    }
    let lab = Lab::up(&Options { daemon: false, ..Options::default() }).unwrap();
    let name = lab.run().to_owned();
    judged(&lab, Default::default(), run, |judgement| judgement.insist());
    drop(lab);
    assert_eq!(residue::of(&name), Vec::<String>::new());
}

/// Whether whoever has the address takes writes, as a client sees it.
fn client_writes(lab: &Lab) -> Result<()> {
    let psql = lab.node(Side::A).postgres().bin().join("psql");
    let mut client = netns::command(&lab.state().netns("c"), psql)?;
    client.env("PGCONNECT_TIMEOUT", "1").args(["-h", &VIP.to_string(), "-U", "postgres", "-d", "postgres", "-tAc"]);
    let output = client.arg("CREATE TABLE IF NOT EXISTS seen (); SELECT 'written'").output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(said.contains("written"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn stop_postgres(lab: &Lab, side: Side) {
    let postgres = lab.node(side).postgres();
    kill(postgres.postmaster().unwrap(), Signal::SIGINT).unwrap();
    let waited = lab.wait("PostgreSQL has stopped", LIMIT, || match postgres.postmaster() {
        Ok(pid) => bail!("it runs as {pid}"),
        Err(_) => Ok(()),
    });
    settled(lab, waited);
}

/// The files as they are have nothing that would look at PostgreSQL; with the three lines that look, the address follows.
#[test]
fn with_a_script_that_looks_at_postgresql_the_imported_files_move_the_address_when_it_stops() {
    let test = "with_a_script_that_looks_at_postgresql_the_imported_files_move_the_address_when_it_stops";
    with_postgres(test, |lab| {
        for side in Side::BOTH {
            let postgres = lab.node(side).postgres();
            let look = format!(
                "vrrp_script chk_postgres {{\n    script \"{} -q -h {}\"\n    interval 1\n    user {user} {user}\n}}\n",
                postgres.bin().join("pg_isready").display(),
                postgres.socket_folder().display(),
                user = "root",
            );
            let tracked = seed(lab, side).replace(
                "    garp_master_delay",
                "    track_script {\n        chk_postgres\n    }\n    garp_master_delay",
            );
            let text = tracked.replace("vrrp_instance", &format!("{look}vrrp_instance"));
            // The heart of every such script: the standby of a new master becomes the primary.
            let promote = format!(
                "[ \"$1\" = MASTER ] && [ -e {data}/standby.signal ] && exec setpriv --reuid {user} --clear-groups \
                 {pg_ctl} promote -s -D {data}\ntrue\n",
                data = postgres.data().display(),
                user = lab.state().user.name,
                pg_ctl = postgres.bin().join("pg_ctl").display(),
            );
            furnish(lab, side, &text, &promote);
            let file = import(lab, side, &[]);
            check(lab, side, file);
            Dropin::on(lab.node(side)).start_on(file.as_ref()).unwrap();
            // Whoever is first promotes nobody.
            is(lab, Dropin::on(lab.node(side)), if side == Side::A { State::Master } else { State::Backup });
        }
        settled(lab, lab.wait("the client writes on a", LIMIT, || client_writes(lab)));
        assert!(has_vip(lab, Side::A) && !has_vip(lab, Side::B));

        stop_postgres(lab, Side::A);
        is(lab, Dropin::on(lab.node(Side::A)), State::Fault);
        is(lab, Dropin::on(lab.node(Side::B)), State::Master);
        settled(lab, lab.wait("the client writes on b", LIMIT, || client_writes(lab)));
        assert!(!has_vip(lab, Side::A) && has_vip(lab, Side::B));
        assert!(!lab.node(Side::B).postgres().in_recovery().unwrap(), "promoted by the script");
        assert_eq!(calls(lab, Side::A).last().map(String::as_str), Some("FAULT"));

        // Its PostgreSQL runs again: it could serve, and is not asked to.
        lab.node(Side::A).postgres().start().unwrap();
        is(lab, Dropin::on(lab.node(Side::A)), State::Backup);
        called_last(lab, Side::A, "BACKUP");
        is(lab, Dropin::on(lab.node(Side::B)), State::Master);
        assert!(!has_vip(lab, Side::A) && has_vip(lab, Side::B));
    });
}

/// Imported with `--postgres`: harbor-ha itself looks at PostgreSQL, promotes and rejoins it.
#[test]
fn imported_for_a_pair_the_files_move_postgresql_too_and_the_old_primary_comes_back_as_standby() {
    let test = "imported_for_a_pair_the_files_move_postgresql_too_and_the_old_primary_comes_back_as_standby";
    with_postgres(test, |lab| {
        for side in Side::BOTH {
            let node = lab.node(side);
            let etc = furnish(lab, side, &seed(lab, side), "");
            let (data, bin) = (node.postgres().data(), node.postgres().bin());
            let (name, peer) = (format!("node_{side}"), format!("node_{}", side.other()));
            let key = node.home().join("pulse.key");
            let pair = ["--postgres", "--bin-dir", "--pulse-key-file", "--isolated", "--name", "--peer-name"];
            let values = [data.to_str(), bin.to_str(), key.to_str(), Some("hold"), Some(&name), Some(&peer)];
            let more: Vec<&str> =
                pair.into_iter().zip(values).flat_map(|(flag, value)| [flag, value.expect("plain")]).collect();
            import(lab, side, &more);
            let text = fs::read_to_string(etc.join("harbor-ha.toml")).unwrap();
            fs::write(node.config(), placed(lab, side, &text)).unwrap();
            node.start_daemon().unwrap();
            if side == Side::A {
                let waited = lab.wait("a serves", LIMIT, || match node.living_status()? {
                    status if status.is_primary() => Ok(()),
                    status => bail!("{}", status.summary()),
                });
                settled(lab, waited);
            }
        }
        lab.wait_serving(Side::A, LIMIT).unwrap();
        settled(lab, lab.wait("the client writes on a", LIMIT, || client_writes(lab)));
        stop_postgres(lab, Side::A);
        lab.wait_serving(Side::B, 3 * LIMIT).unwrap();
        settled(lab, lab.wait("the client writes on b", LIMIT, || client_writes(lab)));
        assert!(!has_vip(lab, Side::A) && has_vip(lab, Side::B));
        assert!(lab.node(Side::A).postgres().in_recovery().unwrap(), "it came back as a standby");
    });
}

/// Two nodes on one machine: each has paths, pins and a cgroup of its own. Nothing that decides is touched.
fn placed(lab: &Lab, side: Side, text: &str) -> String {
    let node = lab.node(side);
    let mut file: toml::Table = text.parse().unwrap();
    let home = node.home().display().to_string();
    let password = format!("{home}/etc/vi-1.password");
    let bpffs = lab.state().bpffs().display().to_string();
    let cgroup = node.cgroup().unwrap().display().to_string();
    let socket = node.postgres().socket_folder().display().to_string();
    for (table, key, value) in [
        ("node", "instance", node.instance()),
        ("node", "state_dir", format!("{home}/state")),
        ("node", "runtime_dir", format!("{home}/run")),
        ("node", "bpffs", bpffs),
        ("vrrp", "password_file", password),
        ("postgres", "socket_dir", socket),
        ("postgres", "start_options", node.postgres().start_options()),
        ("kernel", "xdp_mode", "generic".to_owned()),
        ("kernel", "cgroup", cgroup),
    ] {
        let table = file.entry(table).or_insert_with(|| toml::Table::new().into());
        table.as_table_mut().expect("a table").insert(key.to_owned(), value.into());
    }
    toml::to_string(&file).unwrap()
}
