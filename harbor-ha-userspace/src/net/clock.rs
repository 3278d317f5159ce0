//! The one clock: `CLOCK_MONOTONIC`, the kernel's `bpf_ktime_get_ns`.

use harbor_ha_ebpf::units::Nanos;
use nix::time::{ClockId, clock_gettime};

/// Now.
pub fn now() -> Nanos {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC exists on every Linux");
    Nanos(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// Nanoseconds since 1970: only for numbers that must grow over restarts.
pub fn wall_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_REALTIME).expect("CLOCK_REALTIME exists on every Linux");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}
