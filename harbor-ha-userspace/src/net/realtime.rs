//! Real-time scheduling and locked memory: asked for, and reported as it turned out.
//!
//! `SCHED_FIFO` can be refused, e.g. with `RT_GROUP_SCHED` (Alibaba Cloud Linux 3). Then the best niceness is next, and
//! `status` says so; nothing else depends on it.

use nix::errno::Errno;
use nix::sys::mman::{MlockAllFlags, mlockall};

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
pub fn lock_memory() -> String {
    match mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE) {
        Ok(()) => "memory locked".to_owned(),
        Err(why) => format!("memory not locked ({why})"),
    }
}
