//! Failovers of a real PostgreSQL 13 in the lab, and the lab's own manners. Outcomes, never times.

#[path = "lab/cloud.rs"]
mod cloud;
#[path = "lab/havip.rs"]
mod havip;
#[path = "lab/hosts.rs"]
mod hosts;
#[path = "lab/imported.rs"]
mod imported;
#[path = "lab/lag.rs"]
mod lag;
#[path = "lab/lease.rs"]
mod lease;
#[path = "lab/points.rs"]
mod points;
#[path = "lab/pool.rs"]
mod pool;
#[path = "lab/tells.rs"]
mod tells;
#[path = "lab/third.rs"]
mod third;
#[path = "lab/watched.rs"]
mod watched;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use harbor_ha_tests::lab::fault::Fault;
use harbor_ha_tests::lab::need::{self, LAB, Need};
use harbor_ha_tests::lab::node::Node;
use harbor_ha_tests::lab::state::VIP;
use harbor_ha_tests::lab::{Lab, Options, Profile, Side, link, netns, residue, teardown};
use harbor_ha_tests::run::report::Round;
use harbor_ha_tests::run::{judge, rounds};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// More than anything here takes.
const SOON: Duration = Duration::from_secs(60);
const NO_DAEMON: fn() -> Options = || Options { daemon: false, ..Options::default() };

#[test]
fn two_labs_run_side_by_side_and_leave_nothing() {
    if !need::has("two_labs_run_side_by_side_and_leave_nothing", &LAB) {
        return;
    }
    let labs = [Lab::up(&NO_DAEMON()).unwrap(), Lab::up(&NO_DAEMON()).unwrap()];
    let runs = [labs[0].run().to_owned(), labs[1].run().to_owned()];
    assert_ne!(runs[0], runs[1]);
    for (number, lab) in labs.iter().enumerate() {
        let row = format!("INSERT INTO lab_rows (id, round) VALUES ({number}, 0)");
        lab.node(Side::A).postgres().sql(&row).unwrap();
    }
    // The same addresses in both, and still each sees its own row only.
    for (number, lab) in labs.iter().enumerate() {
        assert_eq!(lab.node(Side::A).postgres().rows().unwrap(), [number as i64].into());
    }
    drop(labs);
    for run in runs {
        assert_eq!(residue::of(&run), Vec::<String>::new());
    }
}

#[test]
fn a_panic_takes_the_lab_down() {
    if !need::has("a_panic_takes_the_lab_down", &LAB) {
        return;
    }
    let mut run = String::new();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let lab = Lab::up(&NO_DAEMON()).unwrap();
        lab.run().clone_into(&mut run);
        // As a panic, but without its noise: it is on purpose.
        resume_unwind(Box::new("a test failed"));
    }));
    assert!(panicked.is_err());
    assert_eq!(residue::of(&run), Vec::<String>::new());
}

/// `harbor-ha-lab run`, stopped after so many lines of progress.
fn started(lines: usize) -> (Child, String, BufReader<ChildStderr>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harbor-ha-lab"));
    let mut child =
        command.args(["run", "--rounds", "9"]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut progress = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    for _ in 0..lines {
        line.clear();
        assert_ne!(progress.read_line(&mut line).unwrap(), 0, "it ended before it was interrupted");
    }
    let run = line.split([' ', ':']).nth(1).unwrap().to_owned();
    (child, run, progress)
}

#[test]
fn ctrl_c_takes_the_lab_down_at_every_step() {
    if !need::has("ctrl_c_takes_the_lab_down_at_every_step", &LAB) {
        return;
    }
    for lines in 1..=6 {
        let (mut child, run, progress) = started(lines);
        kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
        let rest: Vec<String> = progress.lines().map(Result::unwrap).collect();
        assert_eq!(child.wait().unwrap().code(), Some(130), "after {lines} lines: {rest:?}");
        assert_eq!(residue::of(&run), Vec::<String>::new(), "after {lines} lines");
    }
}

#[test]
fn the_lab_of_a_killed_owner_is_cleaned_at_the_next_start() {
    if !need::has("the_lab_of_a_killed_owner_is_cleaned_at_the_next_start", &LAB) {
        return;
    }
    let (mut child, run, _progress) = started(3);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_ne!(residue::of(&run), Vec::<String>::new(), "there is something to clean");
    teardown::clean_orphans();
    assert_eq!(residue::of(&run), Vec::<String>::new());
}

/// One round with a fault; `None` when this machine cannot.
fn round(test: &str, fault: Fault, options: &Options) -> Option<Round> {
    if !need::has(test, &LAB) {
        return None;
    }
    let lab = Lab::up(options).unwrap();
    let mut done = rounds(&lab, fault, 1, 0, |round| eprintln!("{}", round.timeline())).unwrap();
    if judge(&done, 1).is_err() {
        lab.keep_logs();
    }
    let run = lab.run().to_owned();
    drop(lab);
    assert_eq!(residue::of(&run), Vec::<String>::new());
    done.pop()
}

fn fails_over_without_loss(test: &str, fault: Fault, options: &Options) {
    if let Some(round) = round(test, fault, options) {
        judge(&[round], 1).unwrap();
    }
}

#[test]
fn a_power_loss_fails_over_without_loss() {
    fails_over_without_loss("a_power_loss_fails_over_without_loss", Fault::Node, &Options::default());
}

#[test]
fn a_killed_daemon_fails_over_without_loss() {
    fails_over_without_loss("a_killed_daemon_fails_over_without_loss", Fault::Daemon, &Options::default());
}

#[test]
fn a_killed_postmaster_fails_over_without_loss() {
    fails_over_without_loss("a_killed_postmaster_fails_over_without_loss", Fault::Postgres, &Options::default());
}

#[test]
fn a_hung_postmaster_fails_over_without_loss() {
    fails_over_without_loss("a_hung_postmaster_fails_over_without_loss", Fault::PostgresHang, &Options::default());
}

#[test]
fn a_pulled_cable_fails_over_without_loss() {
    fails_over_without_loss("a_pulled_cable_fails_over_without_loss", Fault::Link, &Options::default());
}

#[test]
fn a_graceful_stop_fails_over_without_loss() {
    fails_over_without_loss("a_graceful_stop_fails_over_without_loss", Fault::Graceful, &Options::default());
}

#[test]
fn the_seed_s_adverts_fail_over_without_loss() {
    let seed = Options { profile: Profile::Seed, ..Options::default() };
    fails_over_without_loss("the_seed_s_adverts_fail_over_without_loss", Fault::Node, &seed);
}

#[test]
fn what_others_do_to_the_interface_is_seen_and_mended() {
    if !need::has("what_others_do_to_the_interface_is_seen_and_mended", &LAB) {
        return;
    }
    let lab = Lab::up(&Options::default()).unwrap();
    lab.wait_serving(Side::A, SOON).unwrap();
    let (a, b) = (lab.node(Side::A), lab.node(Side::B));
    let ip = |node: Node<'_>, line: &str| link::batch(Some(&node.netns()), &format!("{line}\n")).unwrap();

    // A network manager flushes what is not its own: the address comes back, and nobody takes over.
    ip(a, &format!("address del {VIP}/32 dev eth0"));
    let back = || {
        let shown = netns::command(&a.netns(), "ip")?.args(["-4", "address", "show", "eth0"]).output()?;
        if String::from_utf8_lossy(&shown.stdout).contains(&VIP.to_string()) { Ok(()) } else { anyhow::bail!("gone") }
    };
    lab.wait("the address is back", SOON, back).unwrap();
    lab.wait_serving(Side::A, SOON).unwrap();
    assert_eq!(b.status().unwrap().number("/takeover/verdict_ns"), None, "b never took over");

    // Without its own address a node can say nothing: it leaves the service, and comes back when it can be heard.
    ip(a, &format!("address del {}/24 dev eth0", a.address()));
    let taken = || if b.living_status()?.is_primary() { Ok(()) } else { anyhow::bail!("not yet") };
    lab.wait("b serves", SOON, taken).unwrap();
    let left = || if a.living_status()?.is_primary() { anyhow::bail!("it serves") } else { Ok(()) };
    lab.wait("a does not", SOON, left).unwrap();
    ip(a, &format!("address add {}/24 dev eth0", a.address()));
    lab.wait_serving(Side::B, SOON).unwrap();

    // Another interface of the same name has neither program nor sockets: a service manager would start anew.
    ip(a, "link del eth0");
    ip(a, "link add eth0 type veth peer name end");
    let ended = || if a.daemons().is_empty() { Ok(()) } else { anyhow::bail!("it runs") };
    lab.wait("the daemon of a ends", SOON, ended).unwrap();
    let log = std::fs::read_to_string(a.daemon_log()).unwrap();
    assert!(log.contains("was removed and made anew; harbor-ha has to be started anew"), "{log}");
    assert!(b.living_status().unwrap().is_primary());
}

/// What `bpftool` prints of a pinned map of node a, as docs/bpftool.md shows it.
fn dump(lab: &Lab, map: &str) -> String {
    let node = lab.node(Side::A);
    let pin = lab.state().bpffs().join("harbor-ha").join(node.instance()).join(map);
    let mut bpftool = netns::command(&node.netns(), "bpftool").unwrap();
    let output = bpftool.args(["map", "dump", "pinned"]).arg(pin).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The largest number that stands behind a field of any element.
fn largest(dump: &str, field: &str) -> u64 {
    let name = format!("\"{field}\": ");
    let numbers = dump.split(&name).skip(1).filter_map(|rest| {
        rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse::<u64>().ok())
    });
    numbers.max().unwrap_or_else(|| panic!("no `{field}` in {dump}"))
}

#[test]
fn bpftool_prints_the_names_of_the_fields_and_numbers_that_move() {
    let test = "bpftool_prints_the_names_of_the_fields_and_numbers_that_move";
    if !need::has(test, &[LAB[0], LAB[1], LAB[2], Need::Tool("bpftool")]) {
        return;
    }
    let lab = Lab::up(&Options::default()).unwrap();
    let look = || (dump(&lab, "peers"), dump(&lab, "stats"));
    let before = look();
    for field in ["deadline_ns", "last_arrival_ns", "missed", "threshold", "state", "gap_max_ns", "jitter", "lsn"] {
        assert!(before.0.contains(&format!("\"{field}\": ")), "{field} in {}", before.0);
    }
    for field in ["adverts", "pulses", "reject_source", "reject_mac", "reject_sequence"] {
        assert!(before.1.contains(&format!("\"{field}\": ")), "{field} in {}", before.1);
    }
    let grew = |now: &(String, String)| {
        largest(&now.0, "arrivals") > largest(&before.0, "arrivals")
            && largest(&now.0, "last_arrival_ns") > largest(&before.0, "last_arrival_ns")
            && largest(&now.1, "pulses") > largest(&before.1, "pulses")
    };
    let grow = || if grew(&look()) { Ok(()) } else { anyhow::bail!("nothing moved") };
    lab.wait("the numbers move", Duration::from_secs(10), grow).unwrap();
    assert!(dump(&lab, "config").contains("\"pulse_interval_ns\": 10000000"));
}

/// `harbor-ha check` on node b.
fn check(lab: &Lab) -> (Option<i32>, String) {
    let node = lab.node(Side::B);
    let daemon = Path::new(env!("CARGO_BIN_EXE_harbor-ha-lab")).with_file_name("harbor-ha");
    let output = netns::command(&node.netns(), daemon).unwrap().args(["check", "--config"]).arg(node.config()).output();
    let output = output.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn check_looks_at_postgresql_and_knows_another_cluster() {
    if !need::has("check_looks_at_postgresql_and_knows_another_cluster", &LAB) {
        return;
    }
    let lab = Lab::up(&NO_DAEMON()).unwrap();
    let (code, text) = check(&lab);
    assert!(code == Some(0) && text.contains("the standby streams"), "{code:?}: {text}");

    let postgres = lab.node(Side::B).postgres();
    kill(postgres.postmaster().unwrap(), Signal::SIGINT).unwrap();
    let stopped = || if postgres.postmaster().is_err() { Ok(()) } else { anyhow::bail!("it runs") };
    lab.wait("PostgreSQL on b has stopped", Duration::from_secs(30), stopped).unwrap();
    let (code, text) = check(&lab);
    assert!(code == Some(69) && text.contains("no server runs in"), "{code:?}: {text}");

    // A cluster of its own where the standby was.
    let (data, away) = (postgres.data(), postgres.data().with_extension("away"));
    std::fs::rename(&data, &away).unwrap();
    let mut initdb = Command::new(postgres.bin().join("initdb"));
    initdb.arg("--pgdata").arg(&data).args(["--username", "postgres", "--auth", "trust", "--no-sync", "--no-locale"]);
    lab.state().user.apply(&mut initdb);
    assert!(initdb.current_dir("/").stdout(Stdio::null()).status().unwrap().success());
    for file in ["postgresql.conf", "pg_hba.conf"] {
        std::fs::copy(away.join(file), data.join(file)).unwrap();
    }
    postgres.start().unwrap();
    let (code, text) = check(&lab);
    assert!(code == Some(69) && text.contains("another cluster"), "{code:?}: {text}");
}

/// The daemons of both nodes with the capabilities of packaging/harbor-ha.service and no other, through a takeover and
/// a rejoin in both directions.
#[test]
fn the_capabilities_of_the_unit_suffice() {
    let test = "the_capabilities_of_the_unit_suffice";
    if !need::has(test, &[LAB[0], LAB[1], LAB[2], Need::Tool("setpriv")]) {
        return;
    }
    let unit = include_str!("../../packaging/harbor-ha.service");
    let given = unit.lines().filter_map(|line| line.strip_prefix("CapabilityBoundingSet=")).flat_map(|l| l.split(' '));
    let set: String = given.map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase())).collect();
    let lab = Path::new(env!("CARGO_BIN_EXE_harbor-ha-lab"));
    let folder = tempfile::tempdir().unwrap();
    let wrapper = folder.path().join("harbor-ha");
    let exec = format!("exec setpriv --bounding-set=-all{set} --inh-caps=-all {:?}", lab.with_file_name("harbor-ha"));
    std::fs::write(&wrapper, format!("#!/bin/sh\n{exec} \"$@\"\n")).unwrap();
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    for (fault, rounds) in [("postgres", "2"), ("graceful", "1")] {
        let mut run = Command::new(lab);
        run.args(["run", "--fault", fault, "--rounds", rounds]).env("HARBOR_HA_DAEMON", &wrapper);
        assert!(run.status().unwrap().success(), "{fault}");
    }
}
