//! Calls of cargo and of what it built.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::setup;

/// The checkout that this xtask was built from.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// Where everything that is built or fetched goes.
pub fn target() -> PathBuf {
    root().join("target")
}

/// A cargo that works on this checkout.
///
/// The target folder is named because the lab looks there, whatever `CARGO_TARGET_DIR` says.
pub fn command() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).env("CARGO_TARGET_DIR", target());
    cargo
}

/// Builds the workspace; cargo shows its own progress.
pub fn build(ready: &setup::Ready) -> Result<()> {
    let mut cargo = command();
    cargo.args(["build", "--release", "--workspace", "--exclude", "xtask"]);
    if !ready.can_build_ebpf() {
        cargo.env("AYA_BUILD_SKIP", "1");
    }
    let status = cargo.status().context("cannot start cargo")?;
    ensure!(status.success(), "the build failed, see above");
    Ok(())
}

/// Builds and becomes `harbor-ha-model`. It needs no eBPF object, so none is built.
pub fn become_model(arguments: &[OsString]) -> Result<ExitCode> {
    let mut cargo = command();
    cargo.args(["run", "--release", "-p", "harbor-ha-tests", "--bin", "harbor-ha-model", "--"]).args(arguments);
    let error = cargo.env("AYA_BUILD_SKIP", "1").exec();
    Err(error).context("cannot start cargo")
}

/// Sets up, builds, and becomes `harbor-ha-lab`, so that signals and the exit code are its own.
pub fn become_lab(verb: Option<&str>, arguments: &[OsString]) -> Result<ExitCode> {
    let ready = setup::ensure()?;
    ready.insist()?;
    build(&ready)?;
    let program = target().join("release/harbor-ha-lab");
    let error = Command::new(&program).args(verb).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start `{}`", program.display()))
}

/// Builds the simulator, which needs neither root nor PostgreSQL, and becomes it.
pub fn become_sim(arguments: &[OsString]) -> Result<ExitCode> {
    let ready = setup::ensure()?;
    let mut cargo = command();
    cargo.args(["build", "--release", "--package", "harbor-ha-tests", "--bin", "harbor-ha-sim"]);
    if !ready.can_build_ebpf() {
        cargo.env("AYA_BUILD_SKIP", "1");
    }
    let status = cargo.status().context("cannot start cargo")?;
    ensure!(status.success(), "the build failed, see above");
    let program = target().join("release/harbor-ha-sim");
    let error = Command::new(&program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start `{}`", program.display()))
}
