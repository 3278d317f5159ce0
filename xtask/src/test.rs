//! `cargo xtask test`: the pure tests for everyone, then the suites that need root.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::{cargo, lint, setup, tidy};

/// A suite, as `cargo xtask test SUITE` names it.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// No root: tidiness, lints, unit tests, conformance, configuration.
    Pure,
    /// Root: the programs in the kernel, pins, timers.
    Kernel,
    /// Root, keepalived: a pair of ours and theirs, forged packets on a wire.
    Interop,
    /// Root, PostgreSQL 13: failovers in the lab.
    Lab,
}

/// Runs one suite, or all of them.
pub fn verb(only: Option<Suite>) -> Result<ExitCode> {
    let ready = setup::ensure()?;
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
        if !run(&ready, &["test", "--release", "--workspace"])? {
            failed.push("pure");
        }
    }
    for (suite, name) in [(Suite::Kernel, "kernel"), (Suite::Interop, "interop"), (Suite::Lab, "lab")] {
        if !wanted(suite) {
            continue;
        }
        if !nix::unistd::geteuid().is_root() {
            skipped.push(format!("suite `{name}`: not root, run: sudo -E cargo xtask test {name}"));
            continue;
        }
        // The lab starts the daemon's binary, which a test target does not make cargo build.
        cargo::build(&ready)?;
        // One at a time: two cores, and each test watches milliseconds. `--nocapture` shows skips and progress.
        let arguments =
            ["test", "--release", "-p", "harbor-ha-tests", "--test", name, "--", "--test-threads=1", "--nocapture"];
        if !run(&ready, &arguments)? {
            failed.push(name);
        }
    }
    for what in &skipped {
        eprintln!("skipped {what}");
    }
    if !failed.is_empty() {
        eprintln!("failed: {}", failed.join(", "));
        return Ok(ExitCode::FAILURE);
    }
    Ok(if strict && !skipped.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn run(ready: &setup::Ready, arguments: &[&str]) -> Result<bool> {
    eprintln!("test: cargo {}", arguments.join(" "));
    let mut cargo = cargo::command();
    cargo.args(arguments);
    if !ready.can_build_ebpf() {
        cargo.env("AYA_BUILD_SKIP", "1");
    }
    Ok(cargo.status().context("cannot start cargo")?.success())
}
