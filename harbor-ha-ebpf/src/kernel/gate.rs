//! The gate: traffic of a virtual address, on the interface and at the sockets.

use aya_ebpf::programs::SkBuffContext;
use harbor_ha_ebpf::decide::gate::{self, Gate};
use harbor_ha_ebpf::records::{Config, GateStats, accept};
use harbor_ha_ebpf::wire::cursor::Cursor;
use harbor_ha_ebpf::wire::ipv4;

use super::maps::{CONFIG, GATE_STATS, LEASE, ORDER, SIGNS};
use super::{emit, time};

/// Which way a packet goes at the sockets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To a socket of this host.
    In,
    /// From one.
    Out,
}

/// Whether `address` is one that the gate guards.
#[inline(always)]
pub fn guards(config: &Config, address: [u8; 4]) -> bool {
    if config.accept & accept::GATE == 0 {
        return false;
    }
    for vip in &config.vips {
        let vip = u32::from_ne_bytes(*vip);
        if vip == 0 {
            return false;
        }
        if vip == u32::from_ne_bytes(address) {
            return true;
        }
    }
    false
}

/// Whether traffic of a virtual address passes now; what does not is counted, under `place` and its reason.
#[inline(always)]
pub fn is_open(place: impl FnOnce(&mut GateStats) -> &mut u64) -> bool {
    let (Some(order), Some(signs), Some(lease)) = (ORDER.get(0), SIGNS.get(0), LEASE.get(0)) else {
        return false;
    };
    let state = gate::state(time::now(), order, signs, lease);
    if state == Gate::Open {
        return true;
    }
    if let Some(stats) = GATE_STATS.get_ptr_mut(0) {
        // SAFETY: the element lives as long as the map, and its counters are only touched atomically.
        let stats = unsafe { &mut *stats };
        emit::add(place(stats));
        if let Some(reason) = state.counter(stats) {
            emit::add(reason);
        }
    }
    false
}

/// What becomes of a packet at the sockets: 1 passes, 0 does not. IPv6 and whatever else is there passes.
#[inline(always)]
pub fn at_socket(ctx: &SkBuffContext, way: Way) -> i32 {
    let Some(config) = CONFIG.get(0) else {
        return 1;
    };
    if config.accept & accept::GATE == 0 {
        return 1;
    }
    // Packets at this hook begin with their network header.
    let Ok(header) = ctx.load::<[u8; ipv4::HEADER]>(0) else {
        return 1;
    };
    let Some(parsed) = ipv4::parse(&mut Cursor::new(&header)) else {
        return 1;
    };
    let local = match way {
        Way::In => parsed.destination,
        Way::Out => parsed.source,
    };
    if !guards(config, local) {
        return 1;
    }
    // A reset acknowledges nothing, and tells a client that there is nothing to wait for.
    if way == Way::Out && parsed.protocol == ipv4::TCP && !parsed.fragment && is_reset(ctx, &header) {
        return 1;
    }
    let open = match way {
        Way::In => is_open(|stats| &mut stats.dropped_in),
        Way::Out => is_open(|stats| &mut stats.dropped_out),
    };
    if open && let Some(stats) = GATE_STATS.get_ptr_mut(0) {
        // SAFETY: as in `is_open`.
        emit::add(unsafe { &raw mut (*stats).passed });
    }
    open as i32
}

/// Whether a TCP segment resets its connection; `header` is that of IP.
#[inline(always)]
fn is_reset(ctx: &SkBuffContext, header: &[u8; ipv4::HEADER]) -> bool {
    const FLAGS: usize = 13;
    const RST: u8 = 0x04;
    let length = (header[0] & 0x0f) as usize * 4;
    ctx.load::<u8>(length + FLAGS).is_ok_and(|flags| flags & RST != 0)
}
