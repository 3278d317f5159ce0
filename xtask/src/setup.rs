//! Set-up: what building and testing need and a fresh machine lacks.
//!
//! Idempotent. Each part first looks whether its thing is there; only then it says what it installs and
//! how, and does it. A part that cannot (no root, not Debian, no network) is not an error by itself: it is
//! listed with the command that would help, and whoever needs it insists.

mod debian;
mod ebpf;
mod postgres;
mod sdk;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::cargo;

/// `target/setup.json`: read by `harbor-ha-userspace/build.rs` and by the lab.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// What builds the eBPF object; `None` where nothing can.
    pub ebpf: Option<ebpf::Toolchain>,
    /// Folder of `postgres`, `initdb`, ...
    pub postgres_bin: Option<PathBuf>,
}

/// How the set-up ended.
pub struct Ready {
    facts: Facts,
    /// Why nothing can be built, when it cannot.
    no_protoc: Option<String>,
    missing: Vec<String>,
}

impl Ready {
    /// # Errors
    /// Not even the part without eBPF can be built here.
    pub fn insist_on_build(&self) -> Result<()> {
        self.no_protoc.as_ref().map_or(Ok(()), |why| bail!("nothing can be built: {why}"))
    }

    /// Whether the eBPF object can be built here.
    pub fn can_build_ebpf(&self) -> bool {
        self.facts.ebpf.is_some()
    }

    /// Where PostgreSQL's programs are.
    pub fn postgres_bin(&self) -> Option<&Path> {
        self.facts.postgres_bin.as_deref()
    }

    /// What is missing, one sentence each, with the command that helps.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// # Errors
    /// Something is missing.
    pub fn insist(&self) -> Result<()> {
        if self.missing.is_empty() {
            return Ok(());
        }
        bail!("this machine lacks:\n  - {}", self.missing.join("\n  - "))
    }
}

/// `cargo xtask setup`.
pub fn verb() -> Result<ExitCode> {
    ensure()?.insist()?;
    eprintln!("setup: everything is there");
    Ok(ExitCode::SUCCESS)
}

/// Brings this machine as far as it can be brought.
pub fn ensure() -> Result<Ready> {
    let file = cargo::target().join("setup.json");
    let before: Facts =
        std::fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let mut missing = Vec::new();
    let mut note = |part: Result<()>| {
        if let Err(why) = part {
            missing.push(format!("{why:#}"));
        }
    };
    let mut facts = Facts::default();
    let no_protoc = debian::protoc().err().map(|why| format!("{why:#}"));
    note(no_protoc.as_ref().map_or(Ok(()), |why| Err(anyhow!("{why}"))));
    note(debian::lab_tools());
    note(ebpf::ensure(before.ebpf.as_ref()).map(|found| facts.ebpf = Some(found)));
    note(postgres::ensure().map(|found| facts.postgres_bin = Some(found)));
    note(sdk::ensure());
    if facts != before {
        write(&file, &facts)?;
    }
    Ok(Ready { facts, no_protoc, missing })
}

/// Written only when it changed: the build script watches the file.
fn write(file: &Path, facts: &Facts) -> Result<()> {
    let text = serde_json::to_string_pretty(facts)?;
    std::fs::create_dir_all(cargo::target())?;
    std::fs::write(file, text + "\n").with_context(|| format!("cannot write `{}`", file.display()))
}

/// A program on PATH or where Debian keeps an administrator's tools.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Announces an installation before it begins.
fn announce(what: &str, how: &str) {
    eprintln!("setup: installing {what}\nsetup:   by: {how}");
}
