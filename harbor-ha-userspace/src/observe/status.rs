//! The answer of the status socket, one JSON object.

use std::path::PathBuf;

use harbor_ha_ebpf::decide::filter::Reject;
use harbor_ha_ebpf::decide::gate::{self, Gate};
use harbor_ha_ebpf::records::{Detector, GateStats, JITTER_SLOTS, Lease, Order, Signs, State, Stats};
use harbor_ha_ebpf::units::Nanos;
use serde::Serialize;

use super::cloud::Cloud;
use super::outside::Outside;
use crate::core::snapshot::Snapshot;

/// Everything that `harbor-ha status` shows.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Name of the instance.
    pub instance: String,
    /// Version of the daemon.
    pub version: &'static str,
    /// `CLOCK_MONOTONIC` of this answer; every other `*_ns` is to be compared with it.
    pub now_ns: u64,
    /// The same instant in nanoseconds since 1970.
    pub unix_ns: u64,
    /// The core's view.
    #[serde(flatten)]
    pub core: Snapshot,
    /// `native` or `generic`.
    pub xdp_mode: &'static str,
    /// How the pulse thread is scheduled; `None` without pulses.
    pub realtime: Option<String>,
    /// Whether memory is locked.
    pub memory: String,
    /// Pulses sent; `None` without pulses.
    pub pulses: Option<PulseCounters>,
    /// The peer's adverts.
    pub adverts_heard: Heard,
    /// The peer's pulses.
    pub pulses_heard: Heard,
    /// Packets of the peer that were dropped, by reason; only reasons that occurred.
    pub rejects: Vec<RejectCount>,
    /// The kernel's gate; `None` without a lease.
    pub gate: Option<GateView>,
    /// Packets of senders that are no peer.
    pub strangers: u64,
    /// What was seen of the things that are tracked, and what was told to others.
    pub outside: Outside,
    /// The HaVip; `None` without `[cloud]`.
    pub cloud: Option<Cloud>,
    /// WAL that rejoins have put aside; `None` without a PostgreSQL, or when it cannot be read.
    pub saved_wal: Option<SavedWal>,
}

/// WAL of this node that the other one never had. Nobody but an operator removes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SavedWal {
    /// Where: a directory for each time that the histories parted.
    pub path: PathBuf,
    /// How many of them.
    pub directories: u64,
    /// What they take, in bytes.
    pub bytes: u64,
}

impl Status {
    /// A stamp of this answer as seconds since 1970. In whole milliseconds, as the two clocks are read one after the
    /// other, and a stamp that does not change shall look so.
    pub fn unix_seconds(&self, stamp_ns: u64) -> f64 {
        unix_seconds(self.now_ns, self.unix_ns, stamp_ns)
    }
}

/// A stamp of an answer of `now_ns`, which was `unix_ns`, as seconds since 1970.
pub(super) fn unix_seconds(now_ns: u64, unix_ns: u64, stamp_ns: u64) -> f64 {
    let ago = now_ns.saturating_sub(stamp_ns);
    (unix_ns.saturating_sub(ago) / 1_000_000) as f64 / 1e3
}

/// The gate, as the kernel weighs it at the instant of the answer.
#[derive(Clone, Debug, Serialize)]
pub struct GateView {
    /// `open`, or why not: `not_serving`, `higher_term`, `expired`.
    pub state: &'static str,
    /// How long the peer's grant lasts; 0 when it is over.
    pub leased_ns: u64,
    /// How long userspace's own right lasts; 0 when there is none.
    pub solo_ns: u64,
    /// Stamps of ours that came back.
    pub echoes: u64,
    /// Time in which this node was to serve and its gate was dark.
    pub dark_ns: u64,
    /// How often that happened.
    pub darkenings: u64,
    /// Packets of the virtual addresses that passed the sockets' gate.
    pub passed: u64,
    /// Packets of the virtual addresses that were dropped, by place and by reason; only what occurred.
    pub dropped: Vec<RejectCount>,
}

impl GateView {
    /// From the kernel's records.
    pub fn new(now: Nanos, order: &Order, signs: &Signs, lease: &Lease, stats: GateStats) -> Self {
        let left = |until: u64| until.saturating_sub(now.0);
        let dropped = [
            ("arp", stats.dropped_arp),
            ("ingress", stats.dropped_ingress),
            ("in", stats.dropped_in),
            ("out", stats.dropped_out),
            (Gate::NotServing.name(), stats.shut_not_serving),
            (Gate::HigherTerm.name(), stats.shut_higher_term),
            (Gate::Expired.name(), stats.shut_expired),
        ];
        let dropped = dropped.map(|(reason, count)| RejectCount { reason, count });
        Self {
            state: gate::state(now, order, signs, lease).name(),
            leased_ns: left(lease.leased_until_ns),
            solo_ns: left(gate::solo_until(order, signs)),
            echoes: lease.echoes,
            dark_ns: lease.dark_ns,
            darkenings: lease.darkenings,
            passed: stats.passed,
            dropped: dropped.into_iter().filter(|dropped| dropped.count > 0).collect(),
        }
    }
}

/// The pulse thread's own count.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PulseCounters {
    /// Pulses that left.
    pub sent: u64,
    /// Pulses that the kernel refused.
    pub failed: u64,
    /// Largest lateness of the thread, ns.
    pub late_max_ns: u64,
}

/// One heartbeat of the peer, as the kernel counts it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Heard {
    /// `unknown`, `alive`, `dead` or `resigned`.
    pub state: &'static str,
    /// Valid packets.
    pub arrivals: u64,
    /// Questions of ours that the peer's kernel answered (reflections); 0 of adverts.
    pub answers: u64,
    /// Age of the last one; `None` when there was none.
    pub age_ns: Option<u64>,
    /// Intervals without a packet.
    pub missed: u64,
    /// Expiries that ran too late to mean anything.
    pub stalled: u64,
    /// Verdicts of death.
    pub deaths: u64,
    /// Longest distance between two packets.
    pub gap_max_ns: u64,
    /// Slot n: deviations from the interval below 2^n µs.
    pub jitter: [u32; JITTER_SLOTS],
}

/// Dropped packets of one reason.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RejectCount {
    /// The reason.
    pub reason: &'static str,
    /// How many.
    pub count: u64,
}

impl Heard {
    /// From the kernel's record.
    pub fn new(detector: &Detector, now_ns: u64) -> Self {
        Self {
            state: match State::from_u32(detector.state) {
                State::Unknown => "unknown",
                State::Alive => "alive",
                State::Dead => "dead",
                State::Resigned => "resigned",
            },
            arrivals: detector.arrivals,
            answers: detector.answers,
            age_ns: (detector.arrivals > 0).then(|| now_ns.saturating_sub(detector.last_arrival_ns)),
            missed: detector.missed_total,
            stalled: detector.stalled,
            deaths: detector.deaths,
            gap_max_ns: detector.gap_max_ns,
            jitter: detector.jitter,
        }
    }
}

/// The reasons that occurred.
pub fn rejects(mut stats: Stats) -> Vec<RejectCount> {
    let counts = Reject::ALL.map(|reject| RejectCount { reason: reject.name(), count: *reject.counter(&mut stats) });
    counts.into_iter().filter(|reject| reject.count > 0).collect()
}
