//! The compiler that builds the eBPF object, and its linker.
//!
//! The ordinary one is rustup's nightly with `rust-src`. Where rustup can fetch nothing, Debian's
//! `rustc-web` and `rust-web-src` are a compiler and the matching source of `core`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{announce, debian, find_program};
use crate::cargo;

/// Newer ones want an LLVM that the compilers of today do not bring.
const LINKER_VERSION: &str = "0.10.3";
/// A mirror that does not answer must not hold up the set-up.
const RUSTUP_LIMIT: Duration = Duration::from_secs(300);
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Exactly one of `rustc` and `toolchain` is set.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Toolchain {
    /// A compiler with its source, to be called directly.
    pub rustc: Option<PathBuf>,
    /// A toolchain of rustup.
    pub toolchain: Option<String>,
    /// The linker, absolute.
    pub bpf_linker: PathBuf,
}

/// Finds or installs a toolchain.
///
/// # Errors
/// There is none, and none could be installed.
pub fn ensure(before: Option<&Toolchain>) -> Result<Toolchain> {
    // Asking rustup costs as much as everything else together: what worked last time is only looked at.
    if let Some(known) = before
        && known.still_there()
    {
        return Ok(known.clone());
    }
    let bpf_linker = linker().context("the linker of the eBPF object")?;
    if nightly_has_source() || install_nightly_source() {
        return Ok(Toolchain { rustc: None, toolchain: Some("nightly".into()), bpf_linker });
    }
    if !has_source(Path::new(DEBIAN_RUSTC)) {
        let why = "a compiler for the eBPF object (rustup's nightly with rust-src was not to be had)";
        debian::install(why, &["rustc-web", "rust-web-src"])?;
        ensure!(has_source(Path::new(DEBIAN_RUSTC)), "{DEBIAN_RUSTC} has no source of `core` beside it");
    }
    Ok(Toolchain { rustc: Some(DEBIAN_RUSTC.into()), toolchain: None, bpf_linker })
}

impl Toolchain {
    fn still_there(&self) -> bool {
        let compiler = match (&self.rustc, &self.toolchain) {
            (Some(rustc), None) => rustc.is_file() && Path::new("/usr/lib/rustlib/src/rust/library/core").is_dir(),
            (None, Some(name)) => rustup_home().is_some_and(|home| toolchain_has_source(&home, name)),
            _ => false,
        };
        compiler && self.bpf_linker.is_file()
    }
}

/// Where rustup keeps toolchains, without asking it.
fn rustup_home() -> Option<PathBuf> {
    std::env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".rustup")))
}

fn toolchain_has_source(home: &Path, name: &str) -> bool {
    let toolchains = std::fs::read_dir(home.join("toolchains")).into_iter().flatten().flatten();
    toolchains.into_iter().any(|entry| {
        let matches = entry.file_name().to_string_lossy().starts_with(name);
        matches && entry.path().join("lib/rustlib/src/rust/library/core").is_dir()
    })
}

fn nightly_has_source() -> bool {
    let printed = Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]).output();
    let sysroot = printed.ok().filter(|output| output.status.success());
    sysroot.is_some_and(|output| source_below(Path::new(String::from_utf8_lossy(&output.stdout).trim())))
}

fn has_source(rustc: &Path) -> bool {
    let printed = Command::new(rustc).args(["--print", "sysroot"]).output();
    let sysroot = printed.ok().filter(|output| output.status.success());
    sysroot.is_some_and(|output| source_below(Path::new(String::from_utf8_lossy(&output.stdout).trim())))
}

fn source_below(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core").is_dir()
}

/// Asks rustup, within a limit. Failing is fine: there is another way.
fn install_nightly_source() -> bool {
    if find_program("rustup").is_none() {
        return false;
    }
    let have = Command::new("rustup").args(["toolchain", "list"]).output();
    let have = have.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("nightly-"));
    // `toolchain install` would also update a nightly that is there, which is its owner's choice.
    let arguments: &[&str] = match have {
        true => &["component", "add", "rust-src", "--toolchain", "nightly"],
        false => &["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"],
    };
    announce("rustup's nightly compiler with the source of `core`", &format!("rustup {}", arguments.join(" ")));
    let done = within(RUSTUP_LIMIT, Command::new("rustup").args(arguments).stdin(Stdio::null()));
    if !done || !nightly_has_source() {
        eprintln!("setup:   that did not work; trying Debian's packages instead");
        return false;
    }
    true
}

/// Whether the command ended well within the limit; it is killed otherwise.
fn within(limit: Duration, command: &mut Command) -> bool {
    let Ok(mut child) = command.spawn() else { return false };
    let begun = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if begun.elapsed() < limit => std::thread::sleep(Duration::from_millis(50)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}

/// The linker under `target/tools`, else one on PATH of the same series, else a new one.
fn linker() -> Result<PathBuf> {
    let tools = cargo::target().join("tools");
    let ours = tools.join("bin/bpf-linker");
    if ours.is_file() {
        return Ok(ours);
    }
    if let Some(theirs) = find_program("bpf-linker").filter(|file| suitable(file)) {
        return Ok(theirs);
    }
    let command = format!("cargo install bpf-linker --version {LINKER_VERSION} --root {}", tools.display());
    announce(&format!("bpf-linker {LINKER_VERSION} (about two minutes)"), &command);
    let status = cargo::command()
        .args(["install", "bpf-linker", "--version", LINKER_VERSION, "--root"])
        .arg(&tools)
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "`{command}` failed, see above");
    Ok(ours)
}

fn suitable(linker: &Path) -> bool {
    let series = LINKER_VERSION.rsplit_once('.').map_or(LINKER_VERSION, |(series, _)| series);
    let said = Command::new(linker).arg("--version").output();
    said.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(&format!(" {series}.")))
}
