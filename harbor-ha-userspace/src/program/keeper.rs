//! The keeper: a process between the daemon and one program, so that nothing of the program outlives its time.
//!
//! A program may fork, start a session of its own and let its parent die; neither its group nor its session would find
//! it then. So a small process of ours stands above it as the *child subreaper*: whatever the program leaves becomes the
//! keeper's child, and it ends when it has no child any more. The daemon itself cannot be the subreaper, since that
//! holds for a whole process: PostgreSQL, which is to outlive the daemon, would become its child too. A control group
//! would do the same, but cannot be made in every container, nor beside a systemd that was not told to delegate.
//!
//! ```text
//! daemon ──lifeline──► keeper (root, subreaper, all signals blocked) ──fork──► program (user, session of its own)
//!        ◄──report───    SIGTERM at the deadline, or when the lifeline closes; after the grace SIGKILL until none is left
//! ```
//!
//! The lifeline closes too when the daemon dies, however it dies.
//!
//! With [`Plan::leaves`] the keeper is no subreaper: a process that the program leaves becomes init's child and lives, and
//! what is ended with the program is its process group alone. What was left may hold the program's output and write to it
//! for years; so the keeper stays and reads that until nobody can write any more, as a write to nobody would be SIGPIPE.
//!
//! The keeper is forked and not executed, so between `fork` and `_exit` it does what is allowed after the fork of a
//! program with threads: system calls, on memory from before.
// size: one process's life, whose rules hold for each line of it

use std::ffi::{CString, c_char, c_int};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

/// Everything that the two processes need, made before the fork.
pub(super) struct Plan {
    /// Program and arguments.
    pub argv: Vec<CString>,
    /// The whole environment.
    pub env: Vec<CString>,
    /// The file to execute.
    pub path: CString,
    /// Whom to become, if not who we are.
    pub identity: Option<Identity>,
    /// For so long it may run.
    pub deadline: Option<Duration>,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// What it leaves in the background lives on.
    pub leaves: bool,
}

/// Numbers of a user.
pub(super) struct Identity {
    pub uid: libc::uid_t,
    pub gid: libc::gid_t,
    pub groups: Vec<libc::gid_t>,
}

/// The daemon's ends.
pub(super) struct Kept {
    /// Of the keeper, to be waited for.
    pub pidfd: OwnedFd,
    /// Closing it ends the program.
    pub lifeline: OwnedFd,
    /// [`Word`]s; its end is the keeper's.
    pub report: OwnedFd,
    /// The program's standard output and error.
    pub output: OwnedFd,
}

/// One word of a report: what, and a number.
pub(super) type Word = [u32; 2];
/// Bytes of a word.
pub(super) const WORD: usize = size_of::<Word>();
/// A step before the program failed: `step << 16 | errno`.
pub(super) const FAILED: u32 = 1;
/// It ended; as `waitpid` says.
pub(super) const ENDED: u32 = 2;
/// Its time was over, or the lifeline was closed, before it ended.
pub(super) const CUT: u32 = 3;
/// It ended and left so many processes, which were ended then.
pub(super) const LEFT: u32 = 4;

/// The steps, in their order.
pub(super) const STEPS: [&str; 7] = [
    "cannot fork",
    "cannot start a session",
    "cannot take its groups",
    "cannot become its group",
    "cannot become its user",
    "cannot set up its descriptors",
    "cannot execute it",
];

/// Forks the keeper, which forks the program.
///
/// # Errors
/// There are no descriptors, or no processes, to be had.
pub(super) fn start(plan: &Plan) -> io::Result<Kept> {
    let (lifeline_there, lifeline) = pipe2(OFlag::O_CLOEXEC)?;
    let (report, report_there) = pipe2(OFlag::O_CLOEXEC)?;
    let (output, output_there) = pipe2(OFlag::O_CLOEXEC)?;
    let argv = pointers(&plan.argv);
    let env = pointers(&plan.env);
    let ends = Ends {
        lifeline: lifeline_there.as_raw_fd(),
        report: report_there.as_raw_fd(),
        output: output_there.as_raw_fd(),
        reader: output.as_raw_fd(),
    };

    // A handler of ours must not run in the keeper: it would write into a pipe that belongs to the daemon's runtime.
    let before = block_all()?;
    // SAFETY: the child does system calls only, on what was made above, and never returns from `keep`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: this is the only thread of the new process.
        unsafe { keep(plan, &argv, &env, &ends) }
    }
    let forked = if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid) };
    // SAFETY: the mask was filled in by `block_all`.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut()) };
    let pid = forked?;
    // SAFETY: pidfd_open(2) takes two integers; the number is ours until it is waited for, which only its owner does.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        // The lifeline closes with this return, and the keeper ends; it stays a zombie until the daemon ends.
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
    Ok(Kept { pidfd, lifeline, report, output })
}

struct Ends {
    lifeline: RawFd,
    report: RawFd,
    output: RawFd,
    /// The daemon's end of the output.
    reader: RawFd,
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

fn block_all() -> io::Result<libc::sigset_t> {
    let mut all = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: both are written before they are read.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        match libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) {
            0 => Ok(before.assume_init()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

fn errno() -> c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// As many as the kernel has.
const SIGNALS: c_int = 64;
/// Where the keeper keeps its ends; what follows is closed.
const LIFELINE: RawFd = 0;
const REPORT: RawFd = 1;
/// With [`Plan::leaves`].
const READER: RawFd = 2;
/// Where the program's report is while it is no program yet.
const REPORT_THERE: RawFd = 3;

/// The keeper's life.
///
/// # Safety
/// To be called in a process that has just been forked, with all signals blocked.
unsafe fn keep(plan: &Plan, argv: &[*const c_char], env: &[*const c_char], ends: &Ends) -> ! {
    // SAFETY: system calls on numbers and on this function's own memory.
    unsafe {
        default_handlers();
        ordinary_scheduling();
        libc::prctl(libc::PR_SET_NAME, c"harbor-ha-keep".as_ptr());
        if !plan.leaves {
            libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
        }
        let program = libc::fork();
        if program == 0 {
            become_program(plan, argv, env, ends);
        }
        let report = ends.report;
        if program < 0 {
            say(report, FAILED, errno() as u32 & 0xffff);
            libc::_exit(1);
        }
        // Nothing of the daemon's may be held open here: not the other programs' lifelines, not a listening socket.
        // (Each is above the standard three, so neither copy covers the other's source.)
        if libc::dup2(ends.lifeline, LIFELINE) < 0 || libc::dup2(report, REPORT) < 0 {
            libc::kill(program, libc::SIGKILL);
            libc::_exit(1);
        }
        let stays = plan.leaves && libc::dup2(ends.reader, READER) == READER;
        libc::syscall(libc::SYS_close_range, if stays { READER + 1 } else { READER }, libc::c_uint::MAX, 0);
        watch(program, plan);
        if stays {
            // The daemon knows now, and reads what the program said.
            libc::close(REPORT);
            drain();
        }
        libc::_exit(0);
    }
}

/// Reads the output of what was left, once the daemon does not any more, until nobody can write to it.
unsafe fn drain() {
    let mut of = libc::pollfd { fd: LIFELINE, events: libc::POLLIN, revents: 0 };
    let mut words = MaybeUninit::<[u8; 4096]>::uninit();
    // SAFETY: system calls on numbers and on this function's own memory.
    unsafe {
        while libc::poll(&mut of, 1, -1) < 0 {}
        of.fd = READER;
        loop {
            libc::poll(&mut of, 1, -1);
            let length = libc::read(READER, words.as_mut_ptr().cast(), 4096);
            // The daemon made it one that does not wait.
            if length == 0 || length < 0 && !matches!(errno(), libc::EAGAIN | libc::EINTR) {
                return;
            }
        }
    }
}

/// Until nothing is left.
unsafe fn watch(program: libc::pid_t, plan: &Plan) {
    // SAFETY: system calls on numbers and on this function's own memory.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        let deaths = libc::signalfd(-1, set.as_ptr(), libc::SFD_NONBLOCK | libc::SFD_CLOEXEC);
        let deadline = plan.deadline.map(|deadline| now().saturating_add(deadline));
        let mut phase = Phase::Runs;
        let mut main = Some(program);
        let mut round: u64 = 0;
        loop {
            if reap(&mut main) {
                return;
            }
            let at = now();
            if matches!(phase, Phase::Runs) {
                let over = deadline.is_some_and(|deadline| at >= deadline);
                let cut = closed(LIFELINE);
                if main.is_none() {
                    say(REPORT, LEFT, each_child(libc::SIGTERM));
                    phase = Phase::Grace(at.saturating_add(plan.grace));
                } else if over || cut {
                    say(REPORT, CUT, u32::from(cut));
                    each_child(libc::SIGTERM);
                    phase = Phase::Grace(at.saturating_add(plan.grace));
                }
            }
            if let Phase::Grace(until) = phase
                && at >= until
            {
                phase = Phase::Kills;
            }
            let wait = match phase {
                Phase::Runs => deadline.map(|deadline| deadline.saturating_sub(at)),
                Phase::Grace(until) => Some(until.saturating_sub(at)),
                Phase::Kills => {
                    each_child(libc::SIGKILL);
                    // What a killed one leaves is ours only when it is dead. One that the kernel does not let die
                    // (NFS) is looked after seldom.
                    round += 1;
                    Some(Duration::from_millis(if round < 100 { 5 } else { 500 }))
                }
            };
            // In the phases that follow the lifeline has nothing more to say, and it would not let the poll wait.
            let lifeline = if matches!(phase, Phase::Runs) { LIFELINE } else { -1 };
            let mut of = [
                libc::pollfd { fd: deaths, events: libc::POLLIN, revents: 0 },
                libc::pollfd { fd: lifeline, events: libc::POLLIN, revents: 0 },
            ];
            let time = wait.map(|wait| libc::timespec {
                tv_sec: wait.as_secs() as libc::time_t,
                tv_nsec: wait.subsec_nanos() as libc::c_long,
            });
            libc::ppoll(of.as_mut_ptr(), 2, time.as_ref().map_or(ptr::null(), ptr::from_ref), ptr::null());
            let mut news = MaybeUninit::<[u8; 1024]>::uninit();
            libc::read(deaths, news.as_mut_ptr().cast(), 1024);
        }
    }
}

#[derive(Clone, Copy)]
enum Phase {
    Runs,
    Grace(Duration),
    Kills,
}

/// Waits for whoever is dead; true when no child is left. Tells of the program's own end.
unsafe fn reap(main: &mut Option<libc::pid_t>) -> bool {
    loop {
        let mut status = 0;
        // SAFETY: the status is this function's own.
        let dead = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
        if dead == 0 {
            return false;
        }
        if dead < 0 {
            return true;
        }
        if *main == Some(dead) {
            *main = None;
            say(REPORT, ENDED, status as u32);
        }
    }
}

/// Signals every child and the groups of theirs; how many children that were. A group is signalled as a whole, so that
/// one which forks at the same moment does not get away.
unsafe fn each_child(signal: c_int) -> u32 {
    let mut buffer = [0u8; 4096];
    // SAFETY: system calls on numbers and on this function's own memory.
    let length = unsafe {
        let list = libc::open(c"/proc/thread-self/children".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        let length = libc::read(list, buffer.as_mut_ptr().cast(), buffer.len());
        libc::close(list);
        length
    };
    let mut count = 0;
    let mut pid: libc::pid_t = 0;
    // Each number ends in a blank; one that the buffer cut does not, and its turn comes with the next round.
    for byte in buffer.iter().take(usize::try_from(length).unwrap_or(0)) {
        if byte.is_ascii_digit() {
            pid = pid.saturating_mul(10).saturating_add(libc::pid_t::from(byte - b'0'));
            continue;
        }
        if pid > 1 {
            count += 1;
            // SAFETY: a child's number is its own until it is waited for, which only this process does.
            unsafe {
                let group = libc::getpgid(pid);
                // Before it has a session of its own it is in the daemon's group, as the keeper is.
                if group > 1 && group != libc::getpgid(0) {
                    libc::kill(-group, signal);
                }
                libc::kill(pid, signal);
                libc::kill(pid, libc::SIGCONT);
            }
        }
        pid = 0;
    }
    count
}

/// The program's life until it is one.
unsafe fn become_program(plan: &Plan, argv: &[*const c_char], env: &[*const c_char], ends: &Ends) -> ! {
    let failed = |report: RawFd, step: u32| -> ! {
        say(report, FAILED, step << 16 | errno() as u32 & 0xffff);
        // SAFETY: ends this process and nothing else.
        unsafe { libc::_exit(127) }
    };
    // SAFETY: system calls on numbers and on what the plan holds.
    unsafe {
        if libc::setsid() < 0 {
            failed(ends.report, 1);
        }
        if let Some(identity) = &plan.identity {
            if libc::setgroups(identity.groups.len(), identity.groups.as_ptr()) < 0 {
                failed(ends.report, 2);
            }
            if libc::setresgid(identity.gid, identity.gid, identity.gid) < 0 {
                failed(ends.report, 3);
            }
            if libc::setresuid(identity.uid, identity.uid, identity.uid) < 0 {
                failed(ends.report, 4);
            }
        }
        libc::chdir(c"/".as_ptr());
        let nothing = libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY);
        // Out of the way of number 3 first; the copy is closed below.
        let report = libc::fcntl(ends.report, libc::F_DUPFD_CLOEXEC, REPORT_THERE + 1);
        let placed = nothing >= 0
            && report >= 0
            && libc::dup2(nothing, 0) == 0
            && libc::dup2(ends.output, 1) == 1
            && libc::dup2(ends.output, 2) == 2
            && libc::dup3(report, REPORT_THERE, libc::O_CLOEXEC) == REPORT_THERE
            && libc::syscall(libc::SYS_close_range, REPORT_THERE + 1, libc::c_uint::MAX, 0) == 0;
        if !placed {
            failed(ends.report, 5);
        }
        let mut none = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
        libc::execve(plan.path.as_ptr(), argv.as_ptr(), env.as_ptr());
        failed(REPORT_THERE, 6);
    }
}

/// Rust ignores SIGPIPE, and the runtime catches some: a program that inherits that misses them. By the bare system call,
/// as the C library lets nobody touch the two that its threads use, and whoever started the daemon may have ignored them.
unsafe fn default_handlers() {
    // The kernel's `struct sigaction`, at most: zeros are SIG_DFL, no flags, no mask.
    let default = [0u64; 4];
    for signal in 1..=SIGNALS {
        // SAFETY: reads the array; the two signals that cannot be caught are refused, harmlessly.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null::<u64>(), SIGNALS as usize / 8);
        }
    }
}

/// What the daemon has for its own haste is not for its scripts.
unsafe fn ordinary_scheduling() {
    // SAFETY: plain numbers; lowering oneself is always allowed.
    unsafe {
        let parameters = libc::sched_param { sched_priority: 0 };
        libc::sched_setscheduler(0, libc::SCHED_OTHER, &parameters);
        libc::setpriority(libc::PRIO_PROCESS, 0, 0);
    }
}

/// Not `crate::clock`: between `fork` and the end of this process nothing may be called that could allocate or panic.
fn now() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is this function's own; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Whether the other end of a pipe is closed.
fn closed(fd: RawFd) -> bool {
    let mut of = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure, this function's own.
    unsafe { libc::poll(&mut of, 1, 0) > 0 }
}

fn say(report: RawFd, what: u32, number: u32) {
    let word: Word = [what, number];
    // SAFETY: the word is this function's own. So few bytes go into a pipe at once or not at all; nobody to read them is
    // the daemon's death, and SIGPIPE is blocked.
    unsafe { libc::write(report, word.as_ptr().cast(), WORD) };
}
