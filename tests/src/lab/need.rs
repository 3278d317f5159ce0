//! What a test needs, and a skip that says what is missing. With `CI=true` a skip is a failure.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::{cgroup, postgres};

/// A thing that not every machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// uid 0: namespaces, raw sockets, eBPF.
    Root,
    /// PostgreSQL 13 of the set-up.
    Postgres,
    /// The version 2 hierarchy of cgroups.
    Cgroup2,
    /// A program, by name.
    Tool(&'static str),
}

impl Need {
    /// Why it is missing, when it is.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!nix::unistd::geteuid().is_root()).then(|| "root".to_owned()),
            Self::Postgres => postgres::programs().err().map(|why| format!("PostgreSQL 13 ({why:#})")),
            Self::Cgroup2 => cgroup::mounted().err().map(|why| format!("cgroup2 ({why:#})")),
            Self::Tool(name) => find_program(name).is_none().then(|| format!("the program `{name}`")),
        }
    }
}

/// What every lab needs.
pub const LAB: [Need; 5] = [Need::Root, Need::Postgres, Need::Tool("ip"), Need::Tool("nft"), Need::Cgroup2];

/// Whether the test may go on; says what is missing when not.
///
/// # Panics
/// Something is missing and `CI=true`: there everything is expected to run.
pub fn has(test: &str, needs: &[Need]) -> bool {
    let missing: Vec<String> = needs.iter().filter_map(|need| need.missing()).collect();
    if missing.is_empty() {
        return true;
    }
    let sentence = format!("skipped {test}: it needs {}", missing.join(" and "));
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{sentence}");
    eprintln!("{sentence}");
    false
}

/// The same for verbs, as an error.
///
/// # Errors
/// Names what is missing.
pub fn tools() -> Result<()> {
    // Alone: whatever else is missing, root would install.
    if Need::Root.missing().is_some() {
        bail!(
            "the lab needs root, for network namespaces, raw sockets and eBPF: run it again with sudo -E, or as root"
        );
    }
    let missing: Vec<String> = LAB.iter().filter_map(|need| need.missing()).collect();
    if !missing.is_empty() {
        bail!("the lab needs {}: cargo xtask setup", missing.join(" and "));
    }
    Ok(())
}

/// Where a program lies; `sbin` folders count also for those who do not have them in their path.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(|folder| Path::new(folder).to_owned());
    std::env::split_paths(&path).chain(more).map(|folder| folder.join(name)).find(|file| file.is_file())
}
