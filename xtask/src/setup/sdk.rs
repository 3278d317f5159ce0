//! Alibaba Cloud's own SDK for Python, pinned with hashes, in an environment of its own below `target/`: the suite `cloud`
//! holds the double of the cloud against it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{announce, debian};
use crate::cargo;

/// What is pinned.
const REQUIREMENTS: &str = "tests/suites/cloud/requirements.txt";
/// Written last: holds what was installed.
const STAMP: &str = "installed.txt";

/// Installs it unless it is there as pinned.
///
/// # Errors
/// No Python, or the packages cannot be had.
pub fn ensure() -> Result<()> {
    let (home, file) = (cargo::target().join("alibaba-sdk"), cargo::root().join(REQUIREMENTS));
    let wanted = fs::read(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
    if fs::read(home.join(STAMP)).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    install(&home, &file).context("Alibaba Cloud's SDK for Python")?;
    fs::write(home.join(STAMP), wanted).with_context(|| format!("cannot write in `{}`", home.display()))
}

fn install(home: &Path, file: &Path) -> Result<()> {
    let what = "Alibaba Cloud's SDK for Python (90 MB, below target/)";
    announce(what, &format!("pip install --require-hashes -r {REQUIREMENTS}"));
    let _ = fs::remove_dir_all(home);
    if !environment(home)? {
        debian::install("Python's module `venv`", &["python3", "python3-venv"])?;
        let _ = fs::remove_dir_all(home);
        ensure!(environment(home)?, "`python3 -m venv` failed, see above");
    }
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"];
    let status = Command::new(home.join("bin/python3")).args(pip).arg(file).status()?;
    ensure!(status.success(), "`pip install -r {REQUIREMENTS}` failed, see above");
    Ok(())
}

/// Whether it could be made: Debian has the module `venv` in a package of its own.
fn environment(home: &Path) -> Result<bool> {
    let made = Command::new("python3").args(["-m", "venv"]).arg(home).status();
    match made {
        Ok(status) => Ok(status.success()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).context("cannot start python3"),
    }
}
