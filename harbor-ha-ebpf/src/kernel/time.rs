//! The clock.

use harbor_ha_ebpf::units::Nanos;

/// `CLOCK_MONOTONIC`.
#[inline(always)]
pub fn now() -> Nanos {
    // SAFETY: the helper has no preconditions.
    Nanos(unsafe { aya_ebpf::helpers::bpf_ktime_get_ns() })
}
