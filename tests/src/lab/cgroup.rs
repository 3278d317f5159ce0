//! A cgroup of its own for each node: everything that a node runs is in it, as everything on a machine is in the
//! machine's. What the daemon attaches to it sees the node's sockets and nobody else's.
//!
//! The version 2 hierarchy, wherever it is mounted: alone at `/sys/fs/cgroup`, or beside the old ones (hybrid).

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Side;

/// Before a run id.
const PREFIX: &str = "harbor-ha-lab-";

/// Where the version 2 hierarchy is mounted.
///
/// # Errors
/// Nowhere.
pub fn mounted() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    find(&mounts).context("no cgroup2 file system is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")
}

fn find(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (words.next()?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place))
    })
}

/// The cgroup of a whole lab.
///
/// # Errors
/// There is no version 2 hierarchy.
pub fn of_run(run: &str) -> Result<PathBuf> {
    Ok(mounted()?.join(format!("{PREFIX}{run}")))
}

/// The cgroup of a node.
///
/// # Errors
/// There is no version 2 hierarchy.
pub fn of_node(run: &str, side: Side) -> Result<PathBuf> {
    Ok(of_run(run)?.join(side.name()))
}

/// Run ids that have a cgroup.
pub fn runs() -> Vec<String> {
    let Ok(root) = mounted() else { return Vec::new() };
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix(PREFIX).map(str::to_owned)).collect()
}

/// Makes the cgroups of both nodes.
///
/// # Errors
/// The kernel refuses.
pub fn make(run: &str) -> Result<()> {
    for side in Side::BOTH {
        let folder = of_node(run, side)?;
        fs::create_dir_all(&folder).with_context(|| format!("cannot make the cgroup `{}`", folder.display()))?;
    }
    Ok(())
}

/// Kills what is in them and removes them; tries for a second, as a killed process needs a moment to leave.
pub fn remove(run: &str) {
    let Ok(top) = of_run(run) else { return };
    for _ in 0..1000 {
        for pid in processes(&top) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        for folder in below(&top).into_iter().chain([top.clone()]) {
            let _ = fs::remove_dir(folder);
        }
        if !top.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// The processes in a cgroup and in those directly below it.
pub fn processes(top: &Path) -> Vec<Pid> {
    let read = |folder: PathBuf| fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let texts: String = below(top).into_iter().chain([top.to_owned()]).map(read).collect();
    texts.lines().filter_map(|line| line.parse().ok().map(Pid::from_raw)).collect()
}

fn below(top: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(top).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Moves the calling process in.
///
/// # Errors
/// There is no such cgroup.
pub fn enter(folder: &Path) -> Result<()> {
    let file = folder.join("cgroup.procs");
    fs::write(&file, "0").with_context(|| format!("cannot enter the cgroup `{}`", folder.display()))
}

/// Lets a command be born in it: its children are, too.
///
/// # Errors
/// There is no such cgroup.
pub fn apply(folder: &Path, command: &mut Command) -> Result<()> {
    let file = folder.join("cgroup.procs");
    let file = OpenOptions::new().write(true).open(&file).with_context(|| format!("no `{}`", file.display()))?;
    let enter = move || (&file).write_all(b"0");
    // SAFETY: the hook makes one system call; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(enter) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_hierarchy_is_found_alone_and_beside_the_first() {
        let alone = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        assert_eq!(find(alone), Some(PathBuf::from("/sys/fs/cgroup")));
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(find(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(find("cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"), None);
    }
}
