//! The router form: many instances, met by a keepalived, by another router, and by what happens to a host.

use std::fs;
use std::process::Command;

use anyhow::ensure;
use harbor_ha_tests::lab::config::OBSERVE;
use harbor_ha_tests::lab::keepalived::{Keepalived, Setup, State};
use harbor_ha_tests::lab::node::Status;
use harbor_ha_tests::lab::wire::{What, Wire};
use harbor_ha_tests::lab::{Lab, Side, netns};
use nix::sys::signal::Signal;

use super::keepalived::{STRONG, V2, addresses, ours};
use super::{LIMIT, on_a_network, requirements_met, secret, serves, settled, until};

/// The address of the unicast instance, as the keepalived of the lab has it, and that of the multicast one.
const FIRST: &str = "10.77.0.100/32";
const SECOND: &str = "10.77.0.101/32";

/// A router with a unicast instance of version 2 and a multicast one of version 3, of these priorities.
fn router(lab: &Lab, side: Side, [first, second]: [u8; 2]) {
    let node = lab.node(side);
    let home = node.home();
    let password = home.join("vrrp.password");
    secret(&password, "111111");
    let text = format!(
        "[router]\nname = \"{name}\"\nruntime_dir = \"{home}/run\"\n\n\
         [observe]\nlisten = \"{OBSERVE}\"\n\n\
         [[instance]]\nname = \"first\"\ninterface = \"eth0\"\nvrid = 51\npriority = {first}\nsource = \"{own}\"\n\
         peers = [\"{peer}\"]\npassword_file = \"{password}\"\nvips = [\"{FIRST}\"]\n\n\
         [[instance]]\nname = \"second\"\nversion = 3\ninterface = \"eth0\"\nvrid = 52\npriority = {second}\n\
         advert_interval = \"200ms\"\nsource = \"{own}\"\nvips = [\"{SECOND}\"]\n",
        name = node.instance(),
        home = home.display(),
        password = password.display(),
        own = node.address(),
        peer = node.peer_address(),
    );
    fs::write(node.config(), text).unwrap();
    node.start_daemon().unwrap();
}

/// The states of both instances, once they are as they should be and the addresses follow.
fn are(lab: &Lab, side: Side, wanted: [&str; 2]) -> Status {
    let mut last = None;
    let waited = lab.wait(&format!("the instances of {side} are {wanted:?}"), LIMIT, || {
        let status = lab.node(side).status()?;
        let states = ["/instances/0/state", "/instances/1/state"].map(|at| status.text(at).to_owned());
        let up = ["/addresses/0/up", "/addresses/1/up"].map(|at| status.is(at));
        last = Some(status);
        ensure!(states == wanted && up == wanted.map(|state| state == "master"), "{states:?}, addresses {up:?}");
        // Those of a backup go a moment after its state.
        let found = addresses(lab, side);
        for (address, state) in [FIRST, SECOND].into_iter().zip(wanted) {
            ensure!(found.contains(&format!(" {address} ")) == (state == "master"), "{address} in\n{found}");
        }
        Ok(())
    });
    settled(lab, waited);
    last.expect("it answered")
}

/// What a and b show over HTTP while each has one instance.
fn shown(lab: &Lab) {
    let page = |side: Side, path| lab.node(side).page(path).unwrap();
    for (side, first, second) in [(Side::A, 1, 0), (Side::B, 0, 1)] {
        let metrics = page(side, "/metrics");
        for (name, is) in [("first", first), ("second", second)] {
            let line = format!("harbor_ha_vrrp_state{{virtual_router=\"{name}\",state=\"master\"}} {is}");
            assert!(metrics.lines().any(|found| found == line), "no `{line}` in\n{metrics}");
            let line = format!("harbor_ha_address_held{{virtual_router=\"{name}\"}} {is}");
            assert!(metrics.lines().any(|found| found == line), "no `{line}` in\n{metrics}");
        }
        let json: serde_json::Value = serde_json::from_str(&page(side, "/status")).unwrap();
        assert_eq!((&json["form"], json["instances"].as_array().map(Vec::len)), (&"router".into(), Some(2)), "{json}");
        let text = page(side, "/");
        assert!(text.contains("INSTANCE") && text.contains("MASTER") && text.contains("BACKUP"), "{text}");
    }
    // Gratuitous ARP is counted where it left.
    let metrics = page(Side::A, "/metrics");
    let sent = metrics.lines().find_map(|line| line.strip_prefix("harbor_ha_garp_sent_total{interface=\"eth0\"} "));
    assert!(sent.is_some_and(|sent| sent != "0"), "{metrics}");
}

fn gone(lab: &Lab, side: Side) {
    let waited = lab.wait("it is dead", LIMIT, || {
        ensure!(lab.node(side).daemons().is_empty(), "it lives");
        Ok(())
    });
    settled(lab, waited);
}

fn with_routers(test: &str, run: impl FnOnce(&Lab)) {
    if requirements_met(test, &[]) {
        on_a_network(run);
    }
}

#[test]
fn each_instance_of_two_routers_has_its_own_master_and_moves_alone() {
    with_routers("each_instance_of_two_routers_has_its_own_master_and_moves_alone", |lab| {
        router(lab, Side::A, [200, 100]);
        router(lab, Side::B, [100, 200]);
        are(lab, Side::A, ["master", "backup"]);
        let status = are(lab, Side::B, ["backup", "master"]);
        assert_eq!(status.number("/instances/0/counters/became_master"), Some(0), "{}", status.0);
        assert_eq!(status.0["instances"][0]["rejects"], serde_json::json!([]));
        shown(lab);
        // A good-bye: the other one serves both, and nothing is left here.
        lab.node(Side::A).signal_daemon(Signal::SIGTERM).unwrap();
        are(lab, Side::B, ["master", "master"]);
        let left = addresses(lab, Side::A);
        assert!(!left.contains("10.77.0.10"), "{left}");
        // Back again it preempts what it is stronger in, and that alone.
        router(lab, Side::A, [200, 100]);
        are(lab, Side::A, ["master", "backup"]);
        are(lab, Side::B, ["backup", "master"]);
    });
}

#[test]
fn what_a_killed_router_left_is_taken_off_before_it_speaks_again() {
    with_routers("what_a_killed_router_left_is_taken_off_before_it_speaks_again", |lab| {
        router(lab, Side::A, [100, 100]);
        are(lab, Side::A, ["master", "master"]);
        lab.node(Side::A).signal_daemon(Signal::SIGKILL).unwrap();
        gone(lab, Side::A);
        assert!(addresses(lab, Side::A).contains(FIRST), "a crash takes nothing off");
        router(lab, Side::B, [200, 200]);
        are(lab, Side::B, ["master", "master"]);
        router(lab, Side::A, [100, 100]);
        let status = are(lab, Side::A, ["backup", "backup"]);
        assert_eq!(status.number("/instances/0/counters/became_master"), Some(0), "{}", status.0);
    });
}

#[test]
fn an_address_that_was_there_before_us_stays_and_one_that_is_taken_away_comes_back() {
    with_routers("an_address_that_was_there_before_us_stays_and_one_that_is_taken_away_comes_back", |lab| {
        let ip = |words: &[&str]| {
            let mut ip = netns::command(&lab.node(Side::A).netns(), "ip").unwrap();
            assert!(ip.args(words).status().unwrap().success(), "ip {words:?}");
        };
        ip(&["address", "add", FIRST, "dev", "eth0"]);
        router(lab, Side::A, [100, 100]);
        are(lab, Side::A, ["master", "master"]);
        ip(&["address", "del", SECOND, "dev", "eth0"]);
        let waited = lab.wait("the address is back", LIMIT, || {
            let found = addresses(lab, Side::A);
            ensure!(found.contains(SECOND), "{found}");
            Ok(())
        });
        settled(lab, waited);
        let status = are(lab, Side::A, ["master", "master"]);
        assert_eq!(status.number("/instances/1/counters/addresses_restored"), Some(1), "{}", status.0);
        let ours_is_off = || {
            let waited = lab.wait("ours is off", LIMIT, || {
                let found = addresses(lab, Side::A);
                ensure!(!found.contains(SECOND), "{found}");
                Ok(())
            });
            settled(lab, waited);
            assert!(addresses(lab, Side::A).contains(FIRST), "it was not ours to take");
        };
        lab.node(Side::A).signal_daemon(Signal::SIGTERM).unwrap();
        ours_is_off();
        // The same after a crash: the next run tells both apart.
        gone(lab, Side::A);
        router(lab, Side::A, [100, 100]);
        are(lab, Side::A, ["master", "master"]);
        lab.node(Side::A).signal_daemon(Signal::SIGKILL).unwrap();
        gone(lab, Side::A);
        let left = addresses(lab, Side::A);
        assert!(left.contains(FIRST) && left.contains(SECOND), "a crash takes nothing off: {left}");
        router(lab, Side::B, [200, 200]);
        are(lab, Side::B, ["master", "master"]);
        router(lab, Side::A, [100, 100]);
        ours_is_off();
    });
}

#[test]
fn an_address_that_somebody_else_left_on_a_backup_is_told_and_stays() {
    with_routers("an_address_that_somebody_else_left_on_a_backup_is_told_and_stays", |lab| {
        let ip = |word: &str| {
            let mut ip = netns::command(&lab.node(Side::A).netns(), "ip").unwrap();
            assert!(ip.args(["address", word, FIRST, "dev", "eth0"]).status().unwrap().success());
        };
        // As a keepalived does that is killed.
        ip("add");
        router(lab, Side::B, [200, 200]);
        are(lab, Side::B, ["master", "master"]);
        router(lab, Side::A, [100, 100]);
        let node = lab.node(Side::A);
        let told = |wanted: &[String]| {
            let waited = lab.wait(&format!("a tells of {wanted:?}"), LIMIT, || {
                let status = node.status()?;
                let found = &status.0["addresses"][0]["not_ours"];
                ensure!(*found == serde_json::json!(wanted), "{found}");
                ensure!(status.text("/instances/0/state") == "backup", "{}", status.0);
                Ok(())
            });
            settled(lab, waited);
        };
        told(&[format!("{FIRST} dev eth0")]);
        assert!(addresses(lab, Side::A).contains(FIRST), "it is not ours to take");
        let log = fs::read_to_string(node.daemon_log()).unwrap();
        let line = log.lines().find(|line| line.contains(&format!("`ip address del {FIRST} dev eth0`")));
        assert!(line.is_some_and(|line| line.contains("ERROR")), "{log}");
        let text = node.page("/").unwrap();
        assert!(text.contains("HERE, NOT OURS"), "{text}");
        let metrics = node.page("/metrics").unwrap();
        assert!(metrics.contains("harbor_ha_addresses_not_ours{virtual_router=\"first\"} 1"), "{metrics}");
        ip("del");
        told(&[]);
        are(lab, Side::A, ["backup", "backup"]);
    });
}

/// What keepalived takes for reload, dump, statistics, JSON and an end of the counting.
fn signals() -> [i32; 5] {
    [libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2, libc::SIGRTMIN() + 2, libc::SIGRTMAX() - 1]
}

/// Sends each of them to the daemon of a; what it says of itself before and after.
fn signalled(lab: &Lab) -> [Status; 2] {
    let node = lab.node(Side::A);
    let (before, daemons) = (node.status().unwrap(), node.daemons());
    let [pid] = daemons.as_slice() else { panic!("{daemons:?}") };
    for signal in signals() {
        let line = format!("kill -{signal} {pid}");
        assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success(), "{line}");
    }
    let waited = lab.wait("each is in the log", LIMIT, || {
        ensure!(node.daemons() == daemons, "it is gone");
        let log = fs::read_to_string(node.daemon_log())?;
        let said = log.lines().filter(|line| line.contains("nothing is done: ")).count();
        ensure!(said == signals().len(), "{said}");
        Ok(())
    });
    settled(lab, waited);
    [before, node.status().unwrap()]
}

#[test]
fn signals_that_mean_something_to_keepalived_change_nothing_in_a_router() {
    with_routers("signals_that_mean_something_to_keepalived_change_nothing_in_a_router", |lab| {
        router(lab, Side::A, [100, 100]);
        are(lab, Side::A, ["master", "master"]);
        let states = signalled(lab)
            .map(|status| ["state", "since_ns", "priority"].map(|key| status.0["instances"][0][key].clone()));
        assert_eq!(states[0], states[1]);
        let status = are(lab, Side::A, ["master", "master"]);
        assert_eq!(status.number("/instances/0/counters/priority_zero_sent"), Some(0), "{}", status.0);
    });
}

#[test]
fn signals_that_mean_something_to_keepalived_change_nothing_in_a_pair() {
    with_routers("signals_that_mean_something_to_keepalived_change_nothing_in_a_pair", |lab| {
        ours(lab, Side::A, V2, STRONG);
        until(lab, Side::A, "it serves", serves);
        let states = signalled(lab).map(|status| (status.text("/role").to_owned(), status.text("/why").to_owned()));
        assert_eq!(states[0], states[1]);
        assert!(serves(&lab.node(Side::A).status().unwrap()));
    });
}

#[test]
fn a_router_and_keepalived_follow_each_other() {
    let test = "a_router_and_keepalived_follow_each_other";
    if !requirements_met(test, &["keepalived"]) {
        return;
    }
    on_a_network(|lab| {
        let wire = Wire::on(lab, "b").unwrap();
        router(lab, Side::A, [100, 101]);
        are(lab, Side::A, ["master", "master"]);
        let keepalived = Keepalived::on(lab.node(Side::B));
        keepalived.start(&Setup { preempt: true, ..V2.keepalived(200) }).unwrap();
        // Stronger: it takes the instance that it has, and the other one stays.
        let status = are(lab, Side::A, ["backup", "master"]);
        assert_eq!(status.0["instances"][0]["rejects"], serde_json::json!([]));
        assert_eq!(status.number("/instances/0/master_priority"), Some(200), "{}", status.0);
        assert_eq!(keepalived.states(), [State::Backup, State::Master]);
        let stopped = keepalived.terminate().unwrap();
        are(lab, Side::A, ["master", "master"]);
        let ours = wire.first(stopped, |what| matches!(what, What::Advert(Side::A, 100)));
        let resigned = wire.first(stopped, |what| what == What::Advert(Side::B, 0));
        assert!(resigned.is_some() && resigned < ours, "{:?}", wire.since(stopped));
        let took = ours.zip(resigned).map_or(0.0, |(ours, zero)| (ours - zero) as f64 / 1e6);
        eprintln!("{test}: keepalived's priority 0 to our first advert {took:.1} ms; the RFC says 609.4 ms");
    });
}

/// Threads of the router on a node: name, scheduling policy and real-time priority (proc_pid_stat(5), fields 41 and 40).
fn threads(lab: &Lab, side: Side) -> Vec<(String, u32, u32)> {
    let pid = *lab.node(side).daemons().first().expect("it runs");
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    tasks
        .filter_map(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).ok()?;
            let (before, after) = stat.rsplit_once(')')?;
            // After the name comes field 3.
            let field = |number: usize| after.split_whitespace().nth(number - 3)?.parse().ok();
            Some((before.split_once('(')?.1.to_owned(), field(41)?, field(40)?))
        })
        .collect()
}

#[test]
fn the_machine_and_what_moves_addresses_are_real_time_and_nothing_else_is() {
    with_routers("the_machine_and_what_moves_addresses_are_real_time_and_nothing_else_is", |lab| {
        router(lab, Side::A, [100, 100]);
        are(lab, Side::A, ["master", "master"]);
        let mut raised = threads(lab, Side::A);
        raised.retain(|(_, policy, _)| *policy == libc::SCHED_FIFO as u32);
        raised.sort_by_key(|(_, _, priority)| std::cmp::Reverse(*priority));
        let raised: Vec<_> = raised.iter().map(|(name, _, priority)| (name.as_str(), *priority)).collect();
        assert_eq!(raised, [("vrrp", 50), ("tokio-rt-worker", 49), ("tokio-rt-worker", 49)]);
    });
}
