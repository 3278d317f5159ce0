//! The postmaster by pidfd, and every process that holds the data directory.
//!
//! A dead postmaster does not mean a stopped PostgreSQL: a busy backend goes on, commits, and tells its client so.
//! Hence two questions: who is the postmaster (`postmaster.pid`, verified), and who else is there (`/proc`).
//! The `unsafe` of this room is here and in `process`: the standard library has no stable pidfd yet.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;

use nix::sys::signal::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Pg;

/// A process, pinned: its number cannot come to mean another one.
#[derive(Clone, Debug)]
pub struct Postmaster {
    pid: i32,
    pidfd: Arc<OwnedFd>,
}

impl Postmaster {
    /// Process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Pins a process; `None` when there is none of that number.
    pub(super) fn pin(pid: i32) -> Option<Self> {
        // SAFETY: pidfd_open(2) takes two integers and touches no memory of this process.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            return None;
        }
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        let pidfd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
        Some(Self { pid, pidfd: Arc::new(pidfd) })
    }

    /// Comes back within microseconds of the process's death, or at once when it is dead already.
    ///
    /// Cancel-safe: nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// The descriptor could not be watched (out of descriptors).
    pub async fn exited(&self) -> io::Result<()> {
        let pidfd = self.pidfd.try_clone()?;
        // SAFETY: the descriptor is open, and owned by what is registered, for as long as that lives.
        let watched = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
        watched.readable().await?.retain_ready();
        Ok(())
    }

    /// Sends a signal; a process that is gone is no error.
    pub(super) fn signal(&self, signal: Signal) {
        let info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: pidfd_send_signal(2) reads nothing through the null pointer, and the descriptor is open.
        let done = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.pidfd.as_raw_fd(), signal as libc::c_int, info, 0)
        };
        if done < 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::ESRCH) {
                tracing::warn!(pid = self.pid, %signal, %error, "cannot signal a process of PostgreSQL");
            }
        }
    }
}

impl Pg {
    /// The postmaster, when there is one: named by `postmaster.pid`, alive, at work in the data directory, a postgres.
    pub fn running(&self) -> Option<Postmaster> {
        let text = fs::read_to_string(self.in_data_dir("postmaster.pid")).ok()?;
        let pid = text.lines().next()?.trim().parse().ok().filter(|pid| *pid > 0)?; // negative: single user
        self.pin_server(pid)
    }

    /// Removes the locks (of the data directory, of the socket) whose process has ended and is only not gone yet.
    ///
    /// PostgreSQL asks with `kill(pid, 0)`, which is answered until somebody has reaped the process: a start right after
    /// a kill would fail now and then on a busy machine, and in a container whose init is slow to reap for long. Every
    /// other leftover lock is PostgreSQL's own to judge, shared memory included.
    pub(super) fn clear_locks_of_the_dead(&self) -> io::Result<()> {
        let settings = self.settings();
        let socket = settings.socket_dir.join(format!(".s.PGSQL.{}.lock", settings.port));
        for path in [self.in_data_dir("postmaster.pid"), socket] {
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let pid = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok());
            if pid.is_some_and(|pid| has_ended(pid.abs())) && self.holders().is_empty() {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Pins one of the servers' processes by its number.
    pub(super) fn pin_server(&self, pid: i32) -> Option<Postmaster> {
        // Pin first and look afterwards: what was looked at is then what was pinned.
        Postmaster::pin(pid).filter(|_| is_in(pid, self.data_dir()) && is_postgres(pid))
    }

    /// Every postgres that works in the data directory: postmaster, backends, single-user ones.
    pub(super) fn servers(&self) -> Vec<Postmaster> {
        self.inhabitants().into_iter().filter_map(|pid| self.pin_server(pid)).collect()
    }

    /// Every program of PostgreSQL that works in the data directory: a server, or a `pg_rewind` that a killed daemon
    /// left behind.
    pub(super) fn holders(&self) -> Vec<i32> {
        self.inhabitants().into_iter().filter(|pid| exe_begins(*pid, &["postgres", "pg_"])).collect()
    }

    /// Every process whose working directory is the data directory, whatever it is. Zombies have none.
    pub(super) fn inhabitants(&self) -> Vec<i32> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        names.filter(|pid| is_in(*pid, self.data_dir())).collect()
    }
}

fn is_in(pid: i32, data_dir: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data_dir)
}

fn is_postgres(pid: i32) -> bool {
    exe_begins(pid, &["postgres"])
}

/// By the name of its file, which may have been replaced by an upgrade (`postgres (deleted)`).
fn exe_begins(pid: i32, names: &[&str]) -> bool {
    let Ok(exe) = fs::read_link(format!("/proc/{pid}/exe")) else { return false };
    let exe = exe.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    names.iter().any(|name| exe.starts_with(name))
}

/// Whether a process will never run a line of its program again, though it still has its number.
fn has_ended(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| tells_an_end(&stat))
}

/// `/proc/PID/stat`, proc_pid_stat(5): state and flags are the first and the seventh word after the name, which is in
/// brackets and may hold anything.
///
/// A process that dies is no zombie at once. It lets go of its memory, its files and its directory first, and counts as
/// running in the meantime, which its flags alone tell.
fn tells_an_end(stat: &str) -> bool {
    /// `include/linux/sched.h`: "Getting shut down"; the process is in `do_exit`, from which there is no return.
    const PF_EXITING: u32 = 0x4;
    let Some((_, rest)) = stat.rsplit_once(')') else { return false };
    let mut words = rest.split_ascii_whitespace();
    let zombie = words.next().is_some_and(|state| matches!(state, "Z" | "X"));
    let flags: u32 = words.nth(5).and_then(|flags| flags.parse().ok()).unwrap_or(0);
    zombie || flags & PF_EXITING != 0
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_has_ended_from_its_exit_on_and_not_before() {
        let stat = |state, flags| format!("15118 (post) gres Z 4) {state} 1 15118 15118 0 -1 {flags} 3037 0 2 0 1 2\n");
        // PF_RANDOMIZE alone, as every program has it.
        assert!(!tells_an_end(&stat("R", 0x40_0000)) && !tells_an_end(&stat("S", 0x40_0000)));
        assert!(tells_an_end(&stat("R", 0x40_0004)) && tells_an_end(&stat("Z", 0x40_0004)));
        assert!(!tells_an_end("") && !tells_an_end("1 (x"));
    }

    #[test]
    fn a_child_that_is_not_reaped_has_ended_once_it_is_killed() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = child.id() as i32;
        assert!(!has_ended(pid));
        child.kill().unwrap();
        // As soon as it has let go of its directory it is no inhabitant any more, and so must count as ended.
        while fs::read_link(format!("/proc/{pid}/cwd")).is_ok() {}
        assert!(has_ended(pid));
        child.wait().unwrap();
        assert!(!has_ended(pid));
    }
}
