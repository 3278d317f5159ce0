//! The proof that nothing stays: walks what a lab can leave, whatever the code that takes it down believes.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use super::cgroup;
use super::netns;
use super::state;

/// What is left of one run.
pub fn of(run: &str) -> Vec<String> {
    let prefix = format!("hh-{run}-");
    let mut left = with_prefix(&prefix);
    let folders = [state::labs().join(run), PathBuf::from(format!("/var/tmp/harbor-ha-lab-{run}"))];
    for folder in folders {
        left.extend(processes_below(&folder).into_iter().map(|pid| format!("process {}", described(pid))));
        left.extend(mounts_below(&folder).into_iter().map(|mount| format!("mount {mount}")));
        if folder.exists() {
            left.push(format!("folder {}", folder.display()));
        }
    }
    if fs::symlink_metadata(state::index().join(run)).is_ok() {
        left.push(format!("link {}", state::index().join(run).display()));
    }
    left
}

/// What is left of labs that are no more: of no living one, in this checkout or another.
///
/// Looks again for a while: what another process builds or takes down at this moment is not left behind.
pub fn of_all() -> Vec<String> {
    for _ in 0..30 {
        if at_this_moment().is_empty() {
            return Vec::new();
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    at_this_moment()
}

fn at_this_moment() -> Vec<String> {
    let names = |folder: &Path, prefix: &str| -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let named = entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix(prefix).map(str::to_owned));
        named.filter(|name| !name.starts_with('.')).collect()
    };
    let mut runs = names(Path::new("/run/netns"), "hh-");
    runs.iter_mut().for_each(|name| name.truncate(name.find('-').unwrap_or(name.len())));
    runs.extend(names(Path::new("/var/tmp"), "harbor-ha-lab-"));
    runs.extend(names(&state::labs(), ""));
    runs.extend(names(state::index(), ""));
    runs.sort();
    runs.dedup();
    runs.retain(|run| !state::index().join(run).join("state.json").exists());
    runs.iter().flat_map(|run| of(run)).collect()
}

/// Namespaces, what runs in them, and pins outside the lab's own file system.
fn with_prefix(prefix: &str) -> Vec<String> {
    let mut left = Vec::new();
    for host in ["sw", "a", "b", "c"] {
        let name = format!("{prefix}{host}");
        if let Ok(inode) = netns::inode(&name) {
            left.extend(netns::processes(inode).into_iter().map(|pid| format!("process {}", described(pid))));
        }
        if netns::path(&name).exists() {
            left.push(format!("network namespace {name}"));
        }
        if let Ok(group) = cgroup::path(&name)
            && group.exists()
        {
            left.push(format!("control group {}", group.display()));
        }
        let pins = Path::new("/sys/fs/bpf/harbor-ha").join(&name);
        if pins.exists() {
            left.push(format!("pins {}", pins.display()));
        }
    }
    left
}

/// Processes that work in a folder or below it.
pub fn processes_below(folder: &Path) -> Vec<Pid> {
    let works_below = |pid: &Pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
    netns::all_processes().filter(works_below).collect()
}

fn described(pid: Pid) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    format!("{pid} {}", String::from_utf8_lossy(&line).replace('\0', " "))
}

fn mounts_below(folder: &Path) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    places.filter(|place| Path::new(place).starts_with(folder)).map(str::to_owned).collect()
}
