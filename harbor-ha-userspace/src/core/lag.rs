//! How far this standby is behind its primary, as far as both have said.
//!
//! The primary's position comes with its pulses and with its WAL stream, this node's own with each look at PostgreSQL:
//! so the two are compared when the latter comes, and what was written since then nobody knows of.

use harbor_ha_ebpf::units::Nanos;
use serde::Serialize;

use super::facts::PgFacts;
use super::{Core, Local};

/// WAL that the primary had and this standby has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lag {
    /// How much.
    pub bytes: u64,
    /// Since when it is not zero, `CLOCK_MONOTONIC` nanoseconds; 0: it is.
    pub since_ns: u64,
    /// With how much more than this the standby refuses to take over; `None` where commits wait for it instead.
    pub limit: Option<u64>,
}

impl Core {
    /// Compares what the standby just said with what is known of its primary.
    pub(super) fn weigh_lag(&mut self, now: Nanos) {
        let Local::Up(facts) = &self.local else { return };
        if facts.streaming {
            // Of a receiver that has just begun it may be what an earlier one was told.
            self.peer.reached(facts.timeline, facts.upstream);
        }
        let last = self.peer.last_primary.filter(|last| compares(facts, last.timeline));
        let before = self.lag;
        self.lag = last.map(|last| {
            let bytes = last.lsn.0.saturating_sub(facts.lsn.0);
            let since_ns = match before {
                _ if bytes == 0 => 0,
                Some(Lag { since_ns, .. }) if since_ns != 0 => since_ns,
                Some(_) | None => now.0,
            };
            Lag { bytes, since_ns, limit: (!self.rules.sync.names_standby()).then_some(self.rules.max_lag) }
        });
    }

    /// The lag of a standby; `None` for a node that is none, or whose primary was never heard.
    pub(super) fn lag(&self) -> Option<Lag> {
        self.lag.filter(|_| matches!(&self.local, Local::Up(facts) if facts.in_recovery))
    }
}

/// Positions of different timelines say nothing of each other.
const fn compares(facts: &PgFacts, timeline: u32) -> bool {
    facts.in_recovery && facts.timeline == timeline
}
