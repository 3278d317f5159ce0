//! What the core needs of the configuration, in its own units.

use harbor_ha_ebpf::units::{Nanos, Priority, skew, skew_v2};
use serde::Serialize;

/// Settings of the core; made by the daemon from the checked configuration, or by a test.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Our priority.
    pub priority: Priority,
    /// Our node address and the peer's, as numbers: equal priorities are decided by the greater one (RFC 9568 §6.4.3).
    pub addresses: (u32, u32),
    /// Whether adverts are sent.
    pub adverts: bool,
    /// Between adverts.
    pub advert_interval: Nanos,
    /// A node that has heard nobody waits this long before it serves.
    pub start_wait: Nanos,
    /// Whether a higher priority takes over from a living peer; only without PostgreSQL.
    pub preempt: bool,
    /// How long it waits first.
    pub preempt_delay: Nanos,
    /// Gratuitous ARPs at once, and again after `announce_delay`.
    pub announce_repeat: u32,
    /// Until the second burst; zero: none.
    pub announce_delay: Nanos,
    /// Between refreshes; zero: none.
    pub announce_refresh: Nanos,
    /// Gratuitous ARPs per refresh.
    pub announce_refresh_repeat: u32,
    /// Whether a PostgreSQL is managed.
    pub postgres: bool,
    /// Whether commits wait for the standby.
    pub sync: SyncPolicy,
    /// Bytes of WAL that a takeover may lose where commits do not wait.
    pub max_lag: u64,
    /// Failed probes in a row until PostgreSQL counts as hung.
    pub probe_fall: u32,
    /// The lease; `None` without pulses, where the peer's kernel grants nothing, or without a PostgreSQL.
    pub lease: Option<LeaseRules>,
}

/// Whether commits wait for the standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Always, once it has streamed: without it writes wait.
    Required,
    /// Until the standby's right to take over is durably revoked.
    Preferred,
    /// Never.
    Off,
}

impl SyncPolicy {
    /// Whether the standby is named in `synchronous_standby_names` when it streams.
    pub const fn names_standby(self) -> bool {
        matches!(self, Self::Required | Self::Preferred)
    }
}

/// What a primary does whose standby no longer grants the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolated {
    /// It stays dark: never two, at the price that the loss of the standby alone stops the service.
    Hold,
    /// It serves on: always available, at the price that a partition makes two.
    Serve,
    /// A third party decides.
    Witness,
}

/// The lease protocol's settings.
#[derive(Clone, Copy, Debug)]
pub struct LeaseRules {
    /// Of the two nodes this one takes the odd terms: no term has two primaries.
    pub odd: bool,
    /// H: how long a living kernel may answer for a silent userspace.
    pub hang: Nanos,
    /// How long a hold lasts at most.
    pub hold: Nanos,
    /// Between two looks at the lease.
    pub look: Nanos,
    /// A lease that ends sooner is low.
    pub margin: Nanos,
    /// Without the peer.
    pub isolated: Isolated,
}

impl LeaseRules {
    /// For a detection time of `detection` on a node whose address is `greater` than its peer's.
    pub const fn new(detection: Nanos, greater: bool, hang: Nanos, hold: Nanos, isolated: Isolated) -> Self {
        Self { odd: greater, hang, hold, look: Nanos(detection.0 / 5), margin: Nanos(detection.0 / 4), isolated }
    }

    /// The lowest term of this node above `known`.
    pub const fn next_term(self, known: u64) -> u64 {
        let next = known + 1;
        if (next % 2 == 1) == self.odd { next } else { next + 1 }
    }
}

/// Master_Down_Interval of a node that has heard nobody (RFC 9568 §6.1; v2: RFC 3768 §6.1).
pub const fn master_down(version: u8, priority: Priority, interval: Nanos) -> Nanos {
    let skew = if version == 2 { skew_v2(priority) } else { skew(priority, interval) };
    interval.times(3).after(skew)
}

/// With pulses: two deadlines, and never less than this, which a peer that starts at the same time needs to be heard.
pub fn pulse_wait(interval: Nanos, threshold: u32) -> Nanos {
    interval.times(u64::from(threshold) * 2).max(Nanos::from_millis(500))
}
