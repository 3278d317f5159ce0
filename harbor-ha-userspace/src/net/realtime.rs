//! Real-time scheduling and locked memory: asked for, and reported as it turned out.
//!
//! `SCHED_FIFO` can be refused, e.g. with `RT_GROUP_SCHED` (Alibaba Cloud Linux 3). Then the best niceness is next, and
//! `status` says so; nothing else depends on it.

use nix::errno::Errno;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

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

/// Keeps the daemon's pages in memory; the sentence is for `status`.
///
/// Pages to come are locked only where no limit can be met (`CAP_IPC_LOCK`, or none set): at a limit the kernel refuses
/// the memory itself, and a thread that cannot get its stack is the end of the daemon.
pub fn lock_memory(may_lock_all: bool) -> String {
    let unlimited = may_lock_all || matches!(getrlimit(Resource::RLIMIT_MEMLOCK), Ok((RLIM_INFINITY, _)));
    let (flags, done) = if unlimited {
        (MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE, "memory locked")
    } else {
        (
            MlockAllFlags::MCL_CURRENT,
            "memory locked as it was at the start (no CAP_IPC_LOCK, and RLIMIT_MEMLOCK is set)",
        )
    };
    match mlockall(flags) {
        Ok(()) => done.to_owned(),
        Err(why) => format!("memory not locked ({why})"),
    }
}
