//! `bpf_timer`, wrapped: init, set the callback, start.
//!
//! Facts that the code relies on: a second init says -EBUSY and changes nothing; the callback is set at each arrival,
//! so that after an upgrade of the program the new one takes over with the next packet; the expiry is relative, as
//! absolute ones need Linux 6.4.

use core::ffi::c_void;

use aya_ebpf::bindings::bpf_timer;
use aya_ebpf::helpers::{bpf_timer_init, bpf_timer_set_callback, bpf_timer_start};
use harbor_ha_ebpf::decide::detector::expiry;
use harbor_ha_ebpf::units::Nanos;

use super::maps::{PEERS, Peer, SIGNS};
use super::{emit, time};

const CLOCK_MONOTONIC: u64 = 1;

/// Arms the timer of `peer` for `deadline`.
#[inline(always)]
pub fn arm(peer: *mut Peer, deadline: Nanos, now: Nanos) {
    // SAFETY: `peer` is an element of map `peers`, where the timer is the first field.
    unsafe {
        let timer: *mut bpf_timer = &raw mut (*peer).timer;
        let _already = bpf_timer_init(timer, (&raw const PEERS).cast_mut().cast::<c_void>(), CLOCK_MONOTONIC);
        bpf_timer_set_callback(timer, expire as *mut c_void);
        bpf_timer_start(timer, deadline.since(now).0, 0);
    }
}

/// The kernel calls this in softirq context when a deadline passes.
#[inline(never)]
extern "C" fn expire(_map: *mut c_void, key: *mut u32, peer: *mut Peer) -> i32 {
    let now = time::now();
    // SAFETY: the kernel passes the element that holds the timer, and its key.
    let (slot, detector) = unsafe { (*key, &mut (*peer).detector) };
    // The map has one element, always.
    let asked = SIGNS.get(0).map_or(0, |signs| signs.asked);
    let next = expiry(detector, now, asked);
    if let Some(kind) = next.event {
        emit::verdict(slot, detector, kind, now);
    }
    if let Some(deadline) = next.deadline {
        // SAFETY: as above; the callback stays set.
        unsafe { bpf_timer_start(&raw mut (*peer).timer, deadline.since(now).0, 0) };
    }
    0
}
