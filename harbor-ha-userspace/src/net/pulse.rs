//! The pulse thread: one datagram each interval, on time whatever the rest of the daemon does.
//!
//! A plain thread, not a tokio task: `SCHED_FIFO`, a timerfd, no allocation and no lock that can block in its loop. It
//! owns the sequence, so pulses leave in order; others change what it says and ring its eventfd.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use harbor_ha_ebpf::wire::pulse::{self, Pulse};
use harbor_ha_ebpf::wire::siphash::Key;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use socket2::{Domain, Protocol, Socket, Type};

use super::{clock, realtime};
use crate::config::settings::{Pulse as Settings, Realtime};
use crate::core::PulseState;
use crate::observe::status::PulseCounters;

/// Everything of a pulse that does not change while the daemon runs.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Our node address.
    pub source: Ipv4Addr,
    /// The peer's.
    pub peer: Ipv4Addr,
    /// Virtual router id.
    pub vrid: u8,
    /// Configured priority.
    pub priority: u8,
}

/// What the threads share.
#[derive(Debug)]
struct Shared {
    state: Mutex<PulseState>,
    /// Says that the state changed and one pulse is wanted at once.
    bell: EventFd,
    stop: AtomicBool,
    sent: AtomicU64,
    failed: AtomicU64,
    late_max_ns: AtomicU64,
}

/// The running thread; stops when dropped.
#[derive(Debug)]
pub struct Pulses {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// How the thread is scheduled, for `status`.
    pub scheduling: String,
}

impl Pulses {
    /// Opens the socket and starts the thread.
    ///
    /// # Errors
    ///
    /// The socket, the timer or the thread cannot be made.
    pub fn start(settings: &Settings, identity: Identity, realtime: Realtime) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.set_ttl_v4(255)?;
        socket.set_tos_v4(0xc0)?;
        // Pulses end in the XDP program; what gets here (before it is attached) is not read.
        socket.set_recv_buffer_size(2048)?;
        socket.bind(&SocketAddrV4::new(identity.source, settings.port).into())?;
        socket.connect(&SocketAddrV4::new(identity.peer, settings.port).into())?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        let shared = Arc::new(Shared {
            state: Mutex::new(PulseState::default()),
            bell: EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK)?,
            stop: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            late_max_ns: AtomicU64::new(0),
        });
        let sender = Sender {
            socket,
            timer,
            shared: Arc::clone(&shared),
            key: Key::from_bytes(*settings.key.reveal()),
            interval_ns: settings.interval.as_nanos() as u64,
            pulse: Pulse {
                vrid: identity.vrid,
                priority: identity.priority,
                threshold: settings.threshold,
                interval_us: settings.interval.as_micros() as u32,
                cluster_id: settings.cluster_id,
                // Grows over restarts as long as the clock is not set back by more than the daemon was away.
                sequence: clock::wall_ns(),
                ..Pulse::default()
            },
        };
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("pulse".to_owned()).spawn(move || {
            let _nobody_waits = tell.send(realtime::raise_this_thread(realtime.priority));
            sender.run();
        })?;
        let scheduling = told.recv().unwrap_or_else(|_| "unknown".to_owned());
        Ok(Self { shared, thread: Some(thread), scheduling })
    }

    /// What the pulses say from now on; `now` sends one at once.
    pub fn say(&self, state: PulseState, now: bool) {
        *self.shared.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = state;
        if now {
            // Full means that it rings already.
            let _rings = self.shared.bell.write(1);
        }
    }

    /// Counters for `status`.
    pub fn counters(&self) -> PulseCounters {
        PulseCounters {
            sent: self.shared.sent.load(Ordering::Relaxed),
            failed: self.shared.failed.load(Ordering::Relaxed),
            late_max_ns: self.shared.late_max_ns.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Pulses {
    /// Sends what was said last, then ends: a resignation must not be lost to the end of the daemon.
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        let _rings = self.shared.bell.write(1);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// The thread's own.
struct Sender {
    socket: Socket,
    timer: TimerFd,
    shared: Arc<Shared>,
    key: Key,
    interval_ns: u64,
    pulse: Pulse,
}

impl Sender {
    fn run(mut self) {
        let interval = TimeSpec::from_duration(std::time::Duration::from_nanos(self.interval_ns));
        if let Err(error) = self.timer.set(Expiration::Interval(interval), TimerSetTimeFlags::empty()) {
            tracing::error!(%error, "the pulse timer cannot be set: no pulses");
            return;
        }
        let mut due = clock::now().0 + self.interval_ns;
        loop {
            let mut fds = [
                PollFd::new(self.timer.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.shared.bell.as_fd(), PollFlags::POLLIN),
            ];
            // Interrupted by a signal: look again.
            if poll(&mut fds, PollTimeout::NONE).is_err() {
                continue;
            }
            let rang = self.shared.bell.read().is_ok();
            let mut expirations = [0; 8];
            let ticked = nix::unistd::read(self.timer.as_fd(), &mut expirations).is_ok();
            if ticked {
                let now = clock::now().0;
                self.shared.late_max_ns.fetch_max(now.saturating_sub(due), Ordering::Relaxed);
                due += self.interval_ns * u64::from_ne_bytes(expirations).max(1);
            }
            if rang || ticked {
                self.send();
            }
            if self.shared.stop.load(Ordering::Acquire) {
                return;
            }
        }
    }

    fn send(&mut self) {
        // Held by the main loop at this instant: say the old state once more, or, if a bell asked for the new one, the
        // next tick says it.
        if let Ok(state) = self.shared.state.try_lock() {
            self.pulse.flags = state.flags;
            self.pulse.term = state.term;
            self.pulse.timeline = state.timeline;
            self.pulse.lsn = state.lsn;
            self.pulse.system_identifier = state.system_identifier;
        }
        self.pulse.sequence += 1;
        self.pulse.stamp_ns = clock::now().0;
        let counter = match self.socket.send(&pulse::emit(&self.pulse, self.key)) {
            Ok(_) => &self.shared.sent,
            Err(_) => &self.shared.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
