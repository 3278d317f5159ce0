//! The kernel programs: parse, decide in the library, act. Every rule is in `harbor_ha_ebpf`; this file connects.
//!
//! What is not ours passes, even when it is malformed. What claims to be ours and is wrong is dropped and counted.
//! Traffic of a virtual address meets the gate, on the interface and at the sockets.
#![no_std]
#![no_main]
// Atomic addition (`kernel::emit`); the program is built by a nightly compiler, or one that is told to act as one.
#![allow(internal_features)]
#![feature(core_intrinsics)]

mod kernel;

use aya_ebpf::macros::{cgroup_skb, xdp};
use aya_ebpf::programs::{SkBuffContext, XdpContext};
use kernel::gate::{self, Way};
use kernel::packet::{self, Seen};
use kernel::{emit, flows, peer, time};

/// What becomes of a packet; a type of its own, so that no path forgets to say it.
#[must_use]
#[derive(Clone, Copy)]
pub enum Fate {
    /// On to the stack.
    Pass,
    /// Consumed, or refused.
    Drop,
    /// Back to where it came from.
    Turn,
}

impl Fate {
    #[inline(always)]
    const fn code(self) -> u32 {
        match self {
            Self::Pass => aya_ebpf::bindings::xdp_action::XDP_PASS,
            Self::Drop => aya_ebpf::bindings::xdp_action::XDP_DROP,
            Self::Turn => aya_ebpf::bindings::xdp_action::XDP_TX,
        }
    }
}

/// Attached to the interface that carries adverts, pulses and virtual addresses.
#[xdp]
pub fn harbor_ha_xdp(ctx: XdpContext) -> u32 {
    let fate = match packet::seen(&ctx) {
        Seen::Foreign => Fate::Pass,
        Seen::Stranger(source) => {
            emit::rejected(&ctx, None, source, harbor_ha_ebpf::decide::filter::Reject::Source);
            Fate::Drop
        }
        Seen::Advert(from, advert) => peer::advert(&ctx, from, advert, time::now()),
        Seen::Pulse(from, pulse) => peer::pulse(&ctx, from, pulse, time::now()),
        Seen::ToVip(segment) if gate::is_open(|stats| &mut stats.dropped_ingress) => {
            flows::saw(segment);
            Fate::Pass
        }
        Seen::ArpForVip if gate::is_open(|stats| &mut stats.dropped_arp) => Fate::Pass,
        Seen::ToVip(_) | Seen::ArpForVip => Fate::Drop,
    };
    fate.code()
}

/// Attached to a control group: what comes to its sockets, whichever interface it came by.
#[cgroup_skb(ingress)]
pub fn harbor_ha_gate_in(ctx: SkBuffContext) -> i32 {
    gate::at_socket(&ctx, Way::In)
}

/// Attached to a control group: what its sockets send.
#[cgroup_skb(egress)]
pub fn harbor_ha_gate_out(ctx: SkBuffContext) -> i32 {
    gate::at_socket(&ctx, Way::Out)
}

/// Never runs: the loop makes the verifier refuse a program in which a panic can be reached.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Timers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
