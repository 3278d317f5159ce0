//! `cargo xtask lint`: the formatter, clippy and rustdoc, as they judge in `cargo xtask test`.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::{cargo, setup};

/// The judges in turn; none is asked after one that is not content, as clippy's answer takes minutes.
///
/// # Errors
/// A judge is missing, or not content; its own words are above.
pub fn verb(ready: &setup::Ready) -> Result<()> {
    ready.insist_on_build()?;
    run(ready, "fmt", &["fmt", "--all", "--check"])?;
    // Same profile and environment as the build, so that the build script runs once for both.
    run(ready, "clippy", &["clippy", "--release", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
    run(ready, "rustdoc", &["doc", "--release", "--workspace", "--no-deps"])
}

/// Why it cannot be run here, when it cannot.
pub fn missing() -> Option<String> {
    let absent = |tool: &&str| {
        let answer = cargo::command().args([tool, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        !answer.is_ok_and(|status| status.success())
    };
    let absent: Vec<&str> = ["fmt", "clippy"].into_iter().filter(absent).collect();
    let with = "rustup component add rustfmt clippy, or Debian's packages rustfmt and rust-clippy";
    (!absent.is_empty()).then(|| format!("lint: no cargo {}; {with}", absent.join(", no cargo ")))
}

fn run(ready: &setup::Ready, what: &str, arguments: &[&str]) -> Result<()> {
    eprintln!("lint: cargo {}", arguments.join(" "));
    let mut cargo = cargo::command();
    cargo.args(arguments).env("RUSTDOCFLAGS", "--deny warnings");
    if !ready.can_build_ebpf() {
        cargo.env("AYA_BUILD_SKIP", "1");
    }
    let status = cargo.status().context("cannot start cargo")?;
    ensure!(status.success(), "{what} is not content, see above");
    Ok(())
}
