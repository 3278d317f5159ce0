//! The pulse thread: one datagram each interval, on time whatever the rest of the daemon does.
//!
//! Before a pulse leaves, this node's own kernel hears what it says (`core::speaks`): the kernel answers the peer's
//! pulses with it, and takes answers to no pulse of which it has not heard.
//!
//! A plain thread, not a tokio task: `SCHED_FIFO`, a timerfd, no allocation and no lock that can block in its loop. It
//! owns the sequence, so pulses leave in order; others change what it says and ring its eventfd.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use harbor_ha_ebpf::records::{Own, Signs};
use harbor_ha_ebpf::units::Nanos;
use harbor_ha_ebpf::wire::pulse::{self, Pulse};
use harbor_ha_ebpf::wire::siphash::Key;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use socket2::{Domain, Protocol, Socket, Type};

use super::realtime;
use crate::clock;
use crate::config::settings::{Pulse as Settings, Realtime};
use crate::core::PulseState;
use crate::core::speaks::Speaks;
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
    /// Of this boot: see [`clock::boot_id`].
    pub boot: u64,
    /// Above every sequence that was ever sent: see [`super::sequence`].
    pub sequence: u64,
}

/// What the threads share.
#[derive(Debug)]
struct Shared {
    state: Mutex<PulseState>,
    /// Says that the state changed and one pulse is wanted at once.
    bell: EventFd,
    stop: AtomicBool,
    /// The core's last sign of life.
    alive_ns: AtomicU64,
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
    pub fn start(
        settings: &Settings,
        identity: Identity,
        realtime: Realtime,
        kernel: Box<dyn Speaks>,
    ) -> io::Result<Self> {
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
            alive_ns: AtomicU64::new(clock::now().0),
            sent: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            late_max_ns: AtomicU64::new(0),
        });
        let before = kernel.said();
        let sender = Sender {
            socket,
            kernel,
            asked: before.asked,
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
                boot: identity.boot,
                // Of the two elements that the kernel reads from, the first pulse writes the one that is not read now.
                sequence: identity.sequence + u64::from(identity.sequence & 1 != before.sent & 1),
                ..Pulse::default()
            },
        };
        let (tell, told) = std::sync::mpsc::channel();
        let interval_ns = sender.interval_ns;
        let thread = std::thread::Builder::new().name("pulse".to_owned()).spawn(move || {
            let _nobody_waits = tell.send(realtime::raise_pulse_thread(realtime.priority, interval_ns));
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

    /// The core lives: called with each turn of its loop.
    pub fn alive(&self, now: Nanos) {
        self.shared.alive_ns.store(now.0, Ordering::Relaxed);
    }

    /// Whether the thread still sends. Without it the peer takes over, whatever else works here.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
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

/// The last word is said this often: one datagram can be lost, and a peer that missed it waits a whole deadline.
const LAST_WORDS: u32 = 3;
/// Between two of them: a full queue on the way has moved on by then.
const LAST_WORDS_GAP: Duration = Duration::from_millis(1);

/// The thread's own.
struct Sender {
    socket: Socket,
    kernel: Box<dyn Speaks>,
    asked: u64,
    timer: TimerFd,
    shared: Arc<Shared>,
    key: Key,
    interval_ns: u64,
    pulse: Pulse,
}

impl Sender {
    fn run(mut self) {
        let interval = TimeSpec::from_duration(Duration::from_nanos(self.interval_ns));
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
            if self.shared.stop.load(Ordering::Acquire) {
                for _ in 0..LAST_WORDS {
                    self.send();
                    std::thread::sleep(LAST_WORDS_GAP);
                }
                return;
            }
            if rang || ticked {
                self.send();
            }
        }
    }

    fn send(&mut self) {
        // Held by the main loop at this instant: say the old state once more, or, if a bell asked for the new one, the
        // next tick says it.
        if let Ok(state) = self.shared.state.try_lock() {
            self.pulse.flags = state.flags;
            if state.priority != 0 {
                self.pulse.priority = state.priority;
            }
            self.pulse.term = state.term;
            self.pulse.timeline = state.timeline;
            self.pulse.lsn = state.lsn;
            self.pulse.system_identifier = state.system_identifier;
        }
        self.pulse.sequence += 1;
        self.asked += 1;
        (self.pulse.echo_ns, self.pulse.echo_boot) = self.kernel.echo();
        let now = clock::now();
        self.pulse.stamp_ns = now.0;
        let heard = self.tell_kernel(now);
        let bytes = pulse::emit(&self.pulse, self.key);
        // A peer whose port was closed for a while answers with an error, which the next call reports instead of sending.
        let sent = match self.socket.send(&bytes) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => self.socket.send(&bytes),
            sent => sent,
        };
        let counter = match sent {
            Ok(_) if heard => &self.shared.sent,
            Ok(_) | Err(_) => &self.shared.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Before the pulse leaves: an answer may be here before the next line of this thread runs.
    fn tell_kernel(&mut self, now: Nanos) -> bool {
        let sign = Nanos(self.shared.alive_ns.load(Ordering::Relaxed).min(now.0));
        self.pulse.userspace_age_us = u32::try_from(now.since(sign).0 / 1000).unwrap_or(u32::MAX);
        let signs = Signs { sign_ns: sign.0, sent: self.pulse.sequence, asked: self.asked };
        let own = Own {
            term: self.pulse.term,
            lsn: self.pulse.lsn,
            system_identifier: self.pulse.system_identifier,
            timeline: self.pulse.timeline,
            flags: self.pulse.flags,
            priority: self.pulse.priority,
            reserved: 0,
        };
        self.kernel.say(&own, &signs)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::config::secret::Secret;

    /// A kernel that hears everything.
    #[derive(Clone, Default)]
    struct Ear(Arc<Mutex<Vec<(Own, Signs)>>>, Signs);

    impl Speaks for Ear {
        fn say(&mut self, own: &Own, signs: &Signs) -> bool {
            self.0.lock().unwrap().push((*own, *signs));
            true
        }

        fn said(&self) -> Signs {
            self.1
        }

        fn echo(&self) -> (u64, u64) {
            (77, 3)
        }
    }

    /// A thread that sends when it is told to only, and its peer's end.
    fn pulses(host: u8, sequence: u64, ear: &Ear) -> (Pulses, UdpSocket) {
        let [us, them] = [host, host + 1].map(|last| Ipv4Addr::new(127, 0, 0, last));
        let peer = UdpSocket::bind((them, 0)).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let settings = Settings {
            interval: Duration::from_secs(3600),
            threshold: 3,
            port: peer.local_addr().unwrap().port(),
            flows_port: 0,
            key: Secret::new([7; 16]),
            other_key: None,
            cluster_id: 1,
        };
        let identity = Identity { source: us, peer: them, vrid: 1, priority: 90, boot: 5, sequence };
        let realtime = Realtime { priority: 0, lock_memory: false };
        (Pulses::start(&settings, identity, realtime, Box::new(ear.clone())).unwrap(), peer)
    }

    fn hear(peer: &UdpSocket) -> Pulse {
        let mut bytes = [0; pulse::LENGTH];
        assert_eq!(peer.recv(&mut bytes).unwrap(), pulse::LENGTH);
        pulse::parse(&bytes, Key::from_bytes([7; 16])).unwrap()
    }

    #[test]
    fn the_last_word_is_said_more_than_once_with_growing_sequences() {
        let (pulses, peer) = pulses(11, 1000, &Ear::default());
        assert!(pulses.is_running());
        pulses.say(PulseState { flags: 8, ..PulseState::default() }, false);
        drop(pulses);
        let mut last = 1000;
        for _ in 0..LAST_WORDS {
            let heard = hear(&peer);
            assert!(heard.flags == 8 && heard.sequence > last, "{heard:?} after {last}");
            last = heard.sequence;
        }
    }

    #[test]
    fn the_kernel_hears_of_a_pulse_before_it_leaves_and_the_peer_what_the_kernel_may_echo() {
        let ear = Ear(Arc::default(), Signs { sent: 501, asked: 40, ..Signs::default() });
        let (pulses, peer) = pulses(13, 1000, &ear);
        let sign = clock::now();
        pulses.alive(sign);
        pulses.say(PulseState { flags: 1, term: 4, timeline: 3, lsn: 2, system_identifier: 9, priority: 70 }, true);
        let heard = hear(&peer);
        let (own, signs) = ear.0.lock().unwrap()[0];
        assert_eq!((signs.sent, signs.asked, signs.sign_ns), (heard.sequence, 41, sign.0));
        assert_ne!(signs.sent & 1, 501 & 1, "the element that nobody reads is written");
        assert_eq!(
            own,
            Own { term: 4, lsn: 2, system_identifier: 9, timeline: 3, flags: 1, priority: 70, reserved: 0 }
        );
        assert_eq!(heard.priority, 70);
        assert_eq!((heard.echo_ns, u64::from(heard.userspace_age_us)), (77, (heard.stamp_ns - sign.0) / 1000));
    }
}
