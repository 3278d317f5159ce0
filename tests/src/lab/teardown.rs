//! Taking a lab down, from what stands on the disk: the same way for a drop, an interrupt and a later start.
//!
//! Nothing here fails: each step does what it can, and [`super::residue`] tells what stayed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};

use super::state::{self, Owner, State};
use super::{Side, cgroup, netns, residue};

/// Kills, unmounts, deletes.
pub fn down(state: &State) {
    // A drop and an interrupt may meet, or two who clean up after a third.
    let lock = fs::File::create(state::labs().join(format!(".{}.lock", state.run)));
    let _locked = lock.and_then(|file| file.lock().map(|()| file));
    for name in state.namespaces() {
        if let Ok(inode) = netns::inode(&name) {
            netns::kill_all(inode);
        }
    }
    for folder in [&state.folder(), &state.home] {
        kill_below(folder);
    }
    forget_shared_memory(&state.home);
    let _ = umount2(&state.bpffs(), MntFlags::MNT_DETACH);
    for name in state.namespaces() {
        if netns::path(&name).exists() {
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
        }
        cgroup::remove(&name);
    }
    // `state.json` goes last: whoever is killed before that leaves something that can be found again.
    for entry in fs::read_dir(state.folder()).into_iter().flatten().flatten() {
        if entry.file_name() != "state.json" {
            delete(&entry.path());
        }
    }
    if state.home != state.folder() {
        delete(&state.home);
    }
    delete(&state.folder());
    let _ = fs::remove_file(state::index().join(&state.run));
    let _ = fs::remove_dir(state::index());
    let _ = fs::remove_file(state::labs().join(format!(".{}.lock", state.run)));
}

/// The small System V segment by which a server keeps others off its data directory outlives a kill. Its id is in line 7
/// of `postmaster.pid`; one that somebody is attached to is not ours to remove.
fn forget_shared_memory(home: &Path) {
    for side in Side::BOTH {
        let pid_file = home.join(side.name()).join("data/postmaster.pid");
        let text = fs::read_to_string(pid_file).unwrap_or_default();
        let id = text.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)).and_then(|id| id.parse().ok());
        let Some(id): Option<libc::c_int> = id else { continue };
        // SAFETY: `shmctl` fills the structure, which is plain numbers, and keeps no pointer.
        unsafe {
            let mut about: libc::shmid_ds = std::mem::zeroed();
            if libc::shmctl(id, libc::IPC_STAT, &mut about) == 0 && about.shm_nattch == 0 {
                libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut());
            }
        }
    }
}

/// Programs that were started in the lab's folder but left its namespaces (`initdb`, for one).
fn kill_below(folder: &Path) {
    let below = || residue::processes_below(folder);
    for _ in 0..1000 {
        let living = below();
        if living.is_empty() {
            return;
        }
        for pid in living {
            let _ = kill(pid, Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A program that was just killed may still have made a file: once more, then.
fn delete(path: &Path) {
    for _ in 0..20 {
        if !path.is_dir() {
            let _ = fs::remove_file(path);
            return;
        }
        if fs::remove_dir_all(path).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Takes down the labs whose owner died without doing it.
pub fn clean_orphans() {
    for state in State::all() {
        if state.owner.is_some_and(|owner| !owner.lives()) {
            eprintln!("lab {}: its owner died, taking it down", state.run);
            down(&state);
        }
    }
    for run in fs::read_dir(state::labs()).into_iter().flatten().flatten() {
        forget_unborn(&run.path());
    }
}

/// A folder whose maker was killed before it could write who it is; nothing was built for it yet.
fn forget_unborn(folder: &Path) {
    let age = fs::metadata(folder).and_then(|it| it.modified()).ok().and_then(|at| at.elapsed().ok());
    let old = age.is_some_and(|age| age > Duration::from_secs(60));
    if let (true, true, Some(run)) = (old, folder.is_dir(), folder.file_name())
        && !folder.join("state.json").exists()
    {
        delete(folder);
        let _ = fs::remove_file(state::index().join(run));
    }
}

/// Takes down the labs of this process, after an interrupt.
pub fn clean_mine() {
    let me = Owner::me();
    for state in State::all().into_iter().filter(|state| state.owner == Some(me)) {
        eprintln!("lab {}: interrupted, taking it down", state.run);
        down(&state);
        for left in residue::of(&state.run) {
            eprintln!("lab {}: LEFT BEHIND: {left}", state.run);
        }
    }
}
