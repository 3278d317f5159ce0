//! Debian's packages: only the missing ones, and no service is started by their installation.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::{announce, find_program};

/// What the lab and its tests call, and the package it comes in.
const LAB_TOOLS: [(&str, &str); 11] = [
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("nft", "nftables"),
    ("bpftool", "bpftool"),
    ("tcpdump", "tcpdump"),
    ("keepalived", "keepalived"),
    // Judges captures that exist: nobody is given a right to capture (`wireshark-common` asks, and its default is no).
    ("tshark", "tshark"),
    // The witnesses of the lab.
    ("etcd", "etcd-server"),
    ("redis-server", "redis-server"),
    // Load beside the daemons: `cargo xtask calm`.
    ("stress-ng", "stress-ng"),
    // Of it only `systemd-analyze`, which judges the unit; no init is replaced.
    ("systemd-analyze", "systemd"),
];

/// `etcd-client` generates its messages while it is built: the compiler, and the files that its words refer to.
const PROTOC: [&str; 2] = ["protobuf-compiler", "libprotobuf-dev"];

/// Services of these packages that would start at the next boot; keepalived's does not, as it has no configuration.
const SERVICES: [(&str, &str); 2] = [("etcd-server", "etcd"), ("redis-server", "redis-server")];

/// Installs the lab's tools that are missing.
///
/// # Errors
/// They are missing and cannot be installed: says by which command they would be.
pub fn lab_tools() -> Result<()> {
    let missing: Vec<(&str, &str)> =
        LAB_TOOLS.into_iter().filter(|(program, _)| find_program(program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let programs: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    install(&format!("the lab's tools ({})", programs.join(", ")), &packages)?;
    disable(&packages);
    Ok(())
}

/// Installs `protoc`, without which nothing but this xtask is built.
///
/// # Errors
/// It is missing and cannot be installed: says by which command it would be.
pub fn protoc() -> Result<()> {
    // One that is named is the builder's business.
    if std::env::var_os("PROTOC").is_some() {
        return Ok(());
    }
    // Where it looks itself: beside its own folder, behind every link.
    let files = |program: PathBuf| {
        let program = program.canonicalize().ok()?;
        Some(program.parent()?.parent()?.join("include/google/protobuf/descriptor.proto"))
    };
    match find_program("protoc").and_then(files) {
        Some(file) if file.is_file() => Ok(()),
        _ => install("the compiler of etcd's messages (protoc, with its include files)", &PROTOC),
    }
}

/// Keeps what was just installed from starting at the next boot. Without systemd nothing would start it anyway.
fn disable(packages: &[&str]) {
    for (_, service) in SERVICES.into_iter().filter(|(package, _)| packages.contains(package)) {
        let disabled = Command::new("systemctl").args(["--quiet", "disable", service]).status();
        if !disabled.is_ok_and(|status| status.success()) {
            eprintln!("setup:   `{service}` may start at the next boot; if it does: systemctl disable --now {service}");
        }
    }
}

/// Installs packages with apt-get.
///
/// # Errors
/// No Debian, no root, or apt-get failed: says what to run.
pub fn install(what: &str, packages: &[&str]) -> Result<()> {
    let command = format!("apt-get install -y --no-install-recommends {}", packages.join(" "));
    if find_program("apt-get").is_none() {
        bail!("{what}: this is no Debian; install what matches its packages {}", packages.join(", "));
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("{what}: not root, so run: sudo {command}");
    }
    announce(what, &command);
    let _quiet = NoServices::install()?;
    // Lists are fetched only when a package is unknown: it is slow, and an operator's lists are his own.
    if !packages.iter().all(|package| known(package)) {
        eprintln!("setup:   first: apt-get update");
        let status = Command::new("apt-get").args(["-q", "update"]).status()?;
        ensure!(status.success(), "{what}: `apt-get update` failed, see above");
    }
    if apt_install(packages)? {
        return Ok(());
    }
    eprintln!("setup:   failed: the lists may be old; again after: apt-get update");
    let _ = Command::new("apt-get").args(["-q", "update"]).status()?;
    ensure!(apt_install(packages)?, "{what}: `{command}` failed, see above");
    Ok(())
}

fn apt_install(packages: &[&str]) -> Result<bool> {
    let status = Command::new("apt-get")
        .args(["-q", "install", "-y", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(std::process::Stdio::null())
        .status()
        .context("cannot start apt-get")?;
    Ok(status.success())
}

fn known(package: &str) -> bool {
    let shown = Command::new("apt-cache").args(["show", package]).output();
    shown.is_ok_and(|output| output.status.success() && !output.stdout.is_empty())
}

/// While it lives, maintainer scripts start nothing (`policy-rc.d`, as Debian's policy describes it).
struct NoServices {
    ours: bool,
}

impl NoServices {
    const FILE: &str = "/usr/sbin/policy-rc.d";

    fn install() -> Result<Self> {
        if Path::new(Self::FILE).exists() {
            return Ok(Self { ours: false });
        }
        fs::write(Self::FILE, "#!/bin/sh\nexit 101\n").with_context(|| format!("cannot write `{}`", Self::FILE))?;
        fs::set_permissions(Self::FILE, fs::Permissions::from_mode(0o755))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(Self::FILE);
        }
    }
}
