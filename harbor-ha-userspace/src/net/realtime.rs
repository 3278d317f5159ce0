//! Real-time scheduling and locked memory: asked for, and reported as it turned out.
//!
//! `SCHED_DEADLINE` and `SCHED_FIFO` can be refused, e.g. with `RT_GROUP_SCHED` (Alibaba Cloud Linux 3). Then the best niceness is next, and
//! `status` says so; nothing else depends on it.
//!
//! The pulse thread alone would not do: what it sends bears the age of the core's last sign, and a core that starves
//! beside somebody's real-time process is, to the peer, one that hangs. So the threads on which the loop runs are raised
//! as well, to just below it. Those on which files are copied and processes waited for are not, and neither is what the
//! daemon starts (`SCHED_RESET_ON_FORK`): PostgreSQL, scripts.

use std::cell::Cell;
use std::io;
use std::sync::mpsc;

use nix::errno::Errno;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use tokio::runtime::Runtime;

/// Of each interval, the share that the pulse thread may compute: a pulse costs some tens of microseconds, its journey
/// through a virtual cable and back included.
const SHARE: u64 = 10;

/// Raises the pulse thread; the sentence is for `status`.
///
/// By a deadline where the kernel grants one: whatever is real-time is held back for the sake of all that is not, for 50
/// ms of each second where a real-time process never sleeps (throttling; since Linux 6.12 the fair server, which is
/// above every `SCHED_FIFO`). A thread that has a deadline is not held back, and the lease of a fast profile is shorter
/// than that.
pub fn raise_pulse_thread(priority: u8, interval_ns: u64) -> String {
    if priority != 0 && set_deadline(interval_ns / SHARE, interval_ns).is_ok() {
        return format!("SCHED_DEADLINE {} us in {} us", interval_ns / SHARE / 1000, interval_ns / 1000);
    }
    raise_this_thread(priority)
}

fn set_deadline(runtime_ns: u64, period_ns: u64) -> Result<(), Errno> {
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_DEADLINE as u32,
        sched_flags: libc::SCHED_FLAG_RESET_ON_FORK as u64,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: runtime_ns,
        sched_deadline: period_ns,
        sched_period: period_ns,
    };
    // SAFETY: 0 means the calling thread; the structure, whose size it says, outlives the call. The last word is flags.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    Errno::result(set).map(drop)
}

/// Raises the calling thread; the sentence is for `status`.
pub fn raise_this_thread(priority: u8) -> String {
    if priority == 0 {
        return "default scheduling (realtime.priority = 0)".to_owned();
    }
    let parameters = libc::sched_param { sched_priority: i32::from(priority) };
    // SAFETY: 0 means the calling thread; the structure outlives the call.
    let refused =
        unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &parameters) } != 0;
    if !refused {
        return format!("SCHED_FIFO {priority}");
    }
    let why = Errno::last();
    let usual = libc::sched_param { sched_priority: 0 };
    // Whatever this thread starts shall not have its niceness.
    // SAFETY: 0 means the calling thread; the structure outlives the call.
    let _kept_to_itself = unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, &usual) };
    // SAFETY: plain numbers; on Linux the thread alone is meant.
    let nice_refused = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) } != 0;
    if nice_refused {
        return format!(
            "default scheduling: SCHED_FIFO {priority} refused ({why}), nice -20 refused ({})",
            Errno::last()
        );
    }
    format!("nice -20: SCHED_FIFO {priority} refused ({why})")
}

/// A runtime whose `workers` are raised to just below `pulses`; its other threads are not.
///
/// It is returned once each of them was: what is spawned on it is real-time from its first step.
///
/// # Errors
///
/// Threads or an epoll descriptor that the kernel does not give.
pub fn runtime_of_raised_workers(workers: usize, pulses: u8) -> io::Result<Runtime> {
    // The pulses never wait for the loop.
    let priority = if pulses > 1 { pulses - 1 } else { pulses };
    runtime_of_workers(workers, move || drop(raise_this_thread(priority)))
}

/// Runs `raise` once on each worker.
///
/// A thread of a runtime is no worker from its start on, but by the first task that it takes, and the kernel may start
/// them in any order: a count of starts would now and then raise one that copies files in place of the loop's. Only a
/// worker parks (`on_thread_park`), and one with nothing to do parks at once.
fn runtime_of_workers(workers: usize, raise: impl Fn() + Send + Sync + 'static) -> io::Result<Runtime> {
    thread_local!(static RAISED: Cell<bool> = const { Cell::new(false) });
    let (tell, told) = mpsc::channel();
    let on_park = move || {
        if !RAISED.replace(true) {
            raise();
            let _waited_for_no_longer = tell.send(());
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .on_thread_park(on_park)
        .enable_all()
        .build()?;
    told.iter().take(workers).for_each(drop);
    Ok(runtime)
}

/// How the calling thread is scheduled.
pub fn of_this_thread() -> String {
    let mut parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 means the calling thread; the structure is written and outlives the call.
    let read = unsafe { libc::sched_getparam(0, &mut parameters) } == 0;
    // SAFETY: 0 means the calling thread.
    let policy = unsafe { libc::sched_getscheduler(0) };
    if read && policy & !libc::SCHED_RESET_ON_FORK == libc::SCHED_FIFO {
        return format!("SCHED_FIFO {}", parameters.sched_priority);
    }
    // SAFETY: plain numbers; on Linux the thread alone is meant. A niceness of -1 looks like an error, and is not told.
    match unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) } {
        0 | -1 => "default scheduling".to_owned(),
        nice => format!("nice {nice}"),
    }
}

/// Keeps the daemon's pages in memory; the sentence is for `status`.
///
/// What there is, the program itself above all, is read in now: a takeover waits for no disk. What comes later is locked
/// once it is touched (`MCL_ONFAULT`): a thread's stack of 2 MiB is mostly never used, and would be held all the same.
/// Pages to come are locked only where no limit can be met (`CAP_IPC_LOCK`, or none set): at a limit the kernel refuses
/// the memory itself, and a thread that cannot get its stack is the end of the daemon.
pub fn lock_memory(may_lock_all: bool) -> String {
    let unlimited = may_lock_all || matches!(getrlimit(Resource::RLIMIT_MEMLOCK), Ok((RLIM_INFINITY, _)));
    // Two calls, as `MCL_ONFAULT` speaks for both kinds when they are locked by one.
    let locked = mlockall(MlockAllFlags::MCL_CURRENT).and_then(|()| match unlimited {
        // nix has no name for it.
        true => mlockall(MlockAllFlags::MCL_FUTURE | MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT)),
        false => Ok(()),
    });
    match (locked, unlimited) {
        (Ok(()), true) => "memory locked".to_owned(),
        (Ok(()), false) => {
            "memory locked as it was at the start (no CAP_IPC_LOCK, and RLIMIT_MEMLOCK is set)".to_owned()
        }
        (Err(why), _) => format!("memory not locked ({why})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local!(static RAISED: Cell<u32> = const { Cell::new(0) });

    #[test]
    fn the_loop_is_raised_and_threads_that_copy_files_are_not() {
        for _ in 0..50 {
            let runtime = runtime_of_workers(2, || RAISED.set(RAISED.get() + 1)).unwrap();
            runtime.block_on(async {
                let files: Vec<_> = (0..4).map(|_| tokio::task::spawn_blocking(|| RAISED.get())).collect();
                let tasks: Vec<_> = (0..4).map(|_| tokio::spawn(async { RAISED.get() })).collect();
                for task in tasks {
                    assert_eq!(task.await.unwrap(), 1, "a worker, raised once and before its first task");
                }
                for file in files {
                    assert_eq!(file.await.unwrap(), 0, "no worker");
                }
            });
            assert_eq!(RAISED.get(), 0, "the thread that waits for the runtime is none of its own");
        }
    }
}
