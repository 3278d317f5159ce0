//! Failovers of a real PostgreSQL 13 in the lab, and the lab's own manners. Outcomes, never times.

use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, ChildStderr, Command, Stdio};

use harbor_ha_tests::lab::fault::Fault;
use harbor_ha_tests::lab::need::{self, LAB};
use harbor_ha_tests::lab::{Lab, Options, Profile, Side, residue, teardown};
use harbor_ha_tests::run::report::Round;
use harbor_ha_tests::run::{judge, rounds};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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
        panic!("a test failed (this one does so on purpose)");
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
    let mut done = rounds(&lab, fault, 1, |round| eprintln!("{}", round.timeline())).unwrap();
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
fn a_hung_daemon_fails_over_without_loss() {
    fails_over_without_loss("a_hung_daemon_fails_over_without_loss", Fault::Hang, &Options::default());
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
fn a_partition_loses_no_acknowledged_row() {
    // Two may serve for a while until the gate is there: only the rows are judged.
    let done = round("a_partition_loses_no_acknowledged_row", Fault::Partition, &Options::default());
    if let Some(round) = done {
        assert_eq!(round.lost, Some(0));
    }
}

#[test]
fn the_seed_s_adverts_fail_over_without_loss() {
    let seed = Options { profile: Profile::Seed, ..Options::default() };
    fails_over_without_loss("the_seed_s_adverts_fail_over_without_loss", Fault::Node, &seed);
}
