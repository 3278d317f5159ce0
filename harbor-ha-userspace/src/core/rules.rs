//! What the core needs of the configuration, in its own units.

use harbor_ha_ebpf::units::{Nanos, Priority, skew, skew_v2};

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
    pub sync_required: bool,
    /// Failed probes in a row until PostgreSQL counts as hung.
    pub probe_fall: u32,
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
