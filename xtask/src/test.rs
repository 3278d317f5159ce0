//! `cargo xtask test`: the pure tests for everyone, then the suites that need root or other servers.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::{cargo, lint, setup, tidy};

/// A suite, as `cargo xtask test SUITE` names it.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// No root: tidiness, lints, unit tests, conformance, configuration.
    Pure,
    /// Root: the programs in the kernel, pins, timers.
    Kernel,
    /// etcd, Redis: the witness against real servers.
    Witness,
    /// Alibaba Cloud's SDK for Python: the double of the cloud, seen from outside.
    Cloud,
    /// Root, PostgreSQL 13: the PostgreSQL room against real servers, with rewinds and crashes in the middle of them.
    Postgres,
    /// Root, keepalived: a pair of ours and theirs, forged packets on a wire.
    Interop,
    /// Root, PostgreSQL 13: failovers in the lab.
    Lab,
}

/// The suites that need more than cargo, and whether they need root: `test = false` in their packages, so that a plain
/// `cargo test` leaves them out.
const SUITES: [(Suite, &str, bool); 6] = [
    (Suite::Witness, "witness", false),
    (Suite::Cloud, "cloud", false),
    (Suite::Kernel, "kernel", true),
    (Suite::Postgres, "postgres", true),
    (Suite::Interop, "interop", true),
    (Suite::Lab, "lab", true),
];

/// How every test is built, with nothing in between: cargo builds a dependency anew for each set of features that it is
/// asked for, and a package by itself, or a build without the tests' own dependencies, asks for other ones.
const TEST: [&str; 3] = ["test", "--release", "--workspace"];
/// All of them.
const EVERY: [&str; 4] = ["--lib", "--bins", "--test", "*"];
/// A test of the daemon's package: cargo builds the package's program with it, and labs start that.
const WITH_DAEMON: [&str; 2] = ["--test", "unit"];

/// Runs one suite, or all of them.
pub fn verb(only: Option<Suite>) -> Result<ExitCode> {
    let mut parts = Parts { last: Instant::now(), told: Vec::new() };
    let ready = setup::ensure()?;
    parts.end("set-up");
    ready.insist_on_build()?;
    let strict = std::env::var_os("CI").is_some_and(|value| value == "true");
    if strict {
        ready.insist()?;
    }
    let wanted = |suite| only.is_none_or(|one| one == suite);
    let mut skipped: Vec<String> = ready.missing().iter().map(|what| format!("what needs it: {what}")).collect();
    let mut failed = Vec::new();
    if wanted(Suite::Pure) {
        let mut judged = |name, outcome: Result<()>| {
            if let Err(why) = outcome {
                eprintln!("{name}: {why:#}");
                failed.push(name);
            }
        };
        judged("tidy", tidy::verb());
        match lint::missing() {
            Some(what) => skipped.push(what),
            None => judged("lint", lint::verb(&ready)),
        }
        parts.end("lint");
        // Several at once are built faster than each before its run; most of them are for root.
        if only.is_none() && nix::unistd::geteuid().is_root() {
            ensure!(run(&ready, &[&TEST[..], &["--no-run"], &EVERY].concat())?, "the build failed, see above");
            parts.end("build");
        }
        if !run(&ready, &TEST)? {
            failed.push("pure");
        }
        parts.end("pure");
    }
    for (suite, name, root) in SUITES {
        if !wanted(suite) {
            continue;
        }
        if root && !nix::unistd::geteuid().is_root() {
            skipped.push(format!("suite `{name}`: not root, run: sudo -E cargo xtask test {name}"));
            continue;
        }
        let this = ["--test", name];
        if only.is_some() {
            let build = [&TEST[..], &["--no-run"], &WITH_DAEMON, &this].concat();
            ensure!(run(&ready, &build)?, "the build failed, see above");
        }
        // One at a time: two cores, and each test watches milliseconds. Those beside keepalived assert no times, and spend
        // most of theirs waiting for adverts. `--nocapture` shows skips and progress.
        let threads = if suite == Suite::Interop { "--test-threads=2" } else { "--test-threads=1" };
        if !run(&ready, &[&TEST[..], &this, &["--", threads, "--nocapture"]].concat())? {
            failed.push(name);
        }
        parts.end(name);
    }
    eprintln!("test: {}", parts.told.join(", "));
    for what in &skipped {
        eprintln!("skipped {what}");
    }
    if !failed.is_empty() {
        eprintln!("failed: {}", failed.join(", "));
        return Ok(ExitCode::FAILURE);
    }
    if skipped.is_empty() {
        eprintln!("test: all passed");
    }
    Ok(if strict && !skipped.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What took how long, builds included: told at the end, where a slow part is looked for.
struct Parts {
    last: Instant,
    told: Vec<String>,
}

impl Parts {
    fn end(&mut self, name: &str) {
        self.told.push(format!("{name} {} s", self.last.elapsed().as_secs()));
        self.last = Instant::now();
    }
}

fn run(ready: &setup::Ready, arguments: &[&str]) -> Result<bool> {
    eprintln!("test: cargo {}", arguments.join(" "));
    let mut cargo = cargo::command();
    cargo.args(arguments);
    if let Some(bin) = ready.postgres_bin() {
        cargo.env("HARBOR_HA_PG_BIN", bin);
    }
    if !ready.can_build_ebpf() {
        cargo.env("AYA_BUILD_SKIP", "1");
    }
    Ok(cargo.status().context("cannot start cargo")?.success())
}
