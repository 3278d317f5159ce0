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
use super::{netns, residue};

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
    let _ = umount2(&state.bpffs(), MntFlags::MNT_DETACH);
    for name in state.namespaces() {
        if netns::path(&name).exists() {
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
        }
    }
    for folder in [&state.home, &state.folder()] {
        delete(folder);
    }
    let _ = fs::remove_file(state::index().join(&state.run));
    let _ = fs::remove_dir(state::index());
    let _ = fs::remove_file(state::labs().join(format!(".{}.lock", state.run)));
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
fn delete(folder: &Path) {
    for _ in 0..20 {
        if fs::remove_dir_all(folder).is_ok() || !folder.exists() {
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
