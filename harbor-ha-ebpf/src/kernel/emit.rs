//! What leaves the program besides packets: counters, verdicts, traces.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::debug;
use harbor_ha_ebpf::decide::filter::Reject;
use harbor_ha_ebpf::records::{Detector, SOURCES, STRANGERS, Stats, Verdict, VerdictKind};
use harbor_ha_ebpf::units::Nanos;

use super::maps::{STATS, VERDICTS};

/// Adds one to the counter that `field` picks in the element `index`.
#[inline(always)]
pub fn count(index: u32, field: impl FnOnce(&mut Stats) -> &mut u64) {
    if let Some(stats) = STATS.get_ptr_mut(index) {
        // SAFETY: the element lives as long as the map, and its counters are only touched atomically.
        add(unsafe { field(&mut *stats) });
    }
}

/// Adds one to a counter in an element of a map.
#[inline(always)]
pub fn add(counter: *mut u64) {
    // SAFETY: who calls has the element from the map, where it stays. The intrinsic, because `AtomicU64` has no
    // `fetch_add` on a target without compare-and-swap.
    unsafe {
        atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, 1);
    }
}

/// A packet that claims to be ours is refused.
#[inline(always)]
pub fn rejected(ctx: &XdpContext, peer: Option<u32>, source: [u8; 4], reject: Reject) {
    count(peer.unwrap_or(STRANGERS), |stats| reject.counter(stats));
    debug!(ctx, "dropped a packet of {:i}: {}", u32::from_be_bytes(source), reject.name());
}

/// Tells userspace; a full ring loses the event, and the record still holds its truth.
#[inline(always)]
pub fn verdict(slot: u32, detector: &Detector, kind: VerdictKind, now: Nanos) {
    let Some(mut entry) = VERDICTS.reserve(0) else {
        return;
    };
    entry.write(Verdict {
        at_ns: now.0,
        last_arrival_ns: detector.last_arrival_ns,
        interval_ns: detector.interval_ns,
        term: detector.term,
        lsn: detector.lsn,
        system_identifier: detector.system_identifier,
        kind: kind as u32,
        peer: slot / SOURCES as u32,
        source: slot % SOURCES as u32,
        missed: detector.missed,
        flags: detector.flags,
        priority: detector.priority,
        timeline: detector.timeline,
        reserved: 0,
    });
    entry.submit(0);
}
