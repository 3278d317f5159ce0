//! Network namespaces: entering them, and finding what runs in them.
//!
//! A host's processes are those in its namespace, whatever their names and parents are: a power loss and a
//! teardown kill by the namespace's inode.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{cgroup, host};

/// Where `ip netns` keeps it.
pub fn path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

fn open(name: &str) -> Result<File> {
    File::open(path(name)).with_context(|| format!("no network namespace `{name}`"))
}

/// The number that `/proc/PID/ns/net` shows for it.
///
/// # Errors
/// There is no such namespace.
pub fn inode(name: &str) -> Result<u64> {
    let inode = open(name)?.metadata()?.ino();
    let own = fs::metadata("/proc/self/ns/net")?.ino();
    ensure!(inode != own, "`{name}` is the machine's own network namespace");
    Ok(inode)
}

/// Moves the calling thread into the namespace, for good.
///
/// # Errors
/// There is no such namespace.
pub fn enter(name: &str) -> Result<()> {
    Ok(setns(open(name)?, CloneFlags::CLONE_NEWNET)?)
}

/// Runs a function on a thread inside the namespace; sockets it opens stay there.
///
/// # Errors
/// There is no such namespace, or the function failed.
pub fn inside<T: Send>(name: &str, function: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(name)?;
            function()
        });
        thread.join().unwrap_or_else(|_| Err(anyhow!("a thread in `{name}` panicked")))
    })
}

/// A command that will run on a host: inside its namespace, and in its control group.
///
/// # Errors
/// There is no such namespace.
pub fn command(name: &str, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
    let (file, door) = (open(name)?, cgroup::door(name)?);
    let mut command = Command::new(program);
    let enter = move || {
        (&door).write_all(b"0")?;
        Ok(setns(&file, CloneFlags::CLONE_NEWNET)?)
    };
    // SAFETY: the hook makes two system calls; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(enter) };
    Ok(command)
}

/// The processes of the namespace with this inode; those that are only waited for do not count.
pub fn processes(inode: u64) -> Vec<Pid> {
    let wanted = format!("net:[{inode}]");
    all_processes().filter(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|it| *it == *wanted)).collect()
}

/// Every process of the machine.
pub fn all_processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw))
}

/// Kills all processes of the namespace; asks again until none is left, as one may have forked meanwhile.
///
/// The host's `init`s end by themselves after the last of the others, whom they still reap.
pub fn kill_all(inode: u64) {
    for attempt in 0..1000 {
        let living = processes(inode);
        if living.is_empty() {
            return;
        }
        for pid in living {
            if attempt > 200 || !host::is_init(pid) {
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
