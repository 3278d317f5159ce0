//! Remembers the connections of the virtual addresses, for whoever has to reset them one day.

use harbor_ha_ebpf::decide::flow;
use harbor_ha_ebpf::wire::tcp::Segment;

use super::maps::FLOWS;
use super::time;

/// A packet for a virtual address that passed the open gate.
#[inline(always)]
pub fn saw(segment: Option<Segment>) {
    let Some(Segment { key, flags }) = segment else {
        return;
    };
    let now = time::now();
    // By the copy, so that the common case, a segment of a flow that was seen a moment ago, writes nothing.
    // SAFETY: the element may change meanwhile, as a whole word each.
    let known = unsafe { FLOWS.get(key) }.copied();
    let Some(next) = flow::next(known, flags, now) else {
        return;
    };
    // Full only when each element is being replaced at this instant: the next segment tries again.
    let _full = FLOWS.insert(key, next, 0);
}
