//! The one clock: `CLOCK_MONOTONIC`, the kernel's `bpf_ktime_get_ns`. For every room that is not pure.

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

/// Tells this boot of the machine from every other one: `CLOCK_MONOTONIC` means nothing across them.
///
/// # Errors
///
/// `/proc` is not mounted, or is no Linux's.
pub fn boot_id() -> std::io::Result<u64> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_boot_has_one_id() {
        let id = super::boot_id().unwrap();
        assert!(id != 0 && id == super::boot_id().unwrap());
    }
}
