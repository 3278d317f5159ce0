//! A control group for each host: the gate guards sockets by group, and on one machine a network namespace alone would
//! leave the sockets of both nodes behind both nodes' gates.

use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;

use anyhow::{Context, Result};

/// Of the host whose network namespace has this name.
///
/// # Errors
/// The machine has no cgroup2 file system.
pub fn path(name: &str) -> Result<PathBuf> {
    let root = harbor_ha::kernel::cgroup::root().context("no cgroup2 file system is mounted: the gate needs one")?;
    Ok(root.join(name))
}

/// Makes it.
///
/// # Errors
/// The kernel refuses.
pub fn make(name: &str) -> Result<()> {
    let path = path(name)?;
    fs::create_dir(&path).with_context(|| format!("cannot make control group `{}`", path.display()))
}

/// The file that takes whoever is to move there: the one who writes `0` into it.
///
/// # Errors
/// There is no such group.
pub fn door(name: &str) -> Result<File> {
    let file = path(name)?.join("cgroup.procs");
    OpenOptions::new().write(true).open(&file).with_context(|| format!("no control group `{name}`"))
}

/// Removes it, if nobody is in it any more.
pub fn remove(name: &str) {
    let Ok(path) = path(name) else { return };
    // The kernel takes a moment to forget the last process.
    for _ in 0..100 {
        match fs::remove_dir(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            _ => return,
        }
    }
}
