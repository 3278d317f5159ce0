//! What a packet of the peer does to the lease, and what of it may be echoed (docs/protocol.md).
//!
//! Pulses and reflections have the same addresses and ports, so one queue and one CPU sees them all, in order: that is
//! why the record needs no lock.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use harbor_ha_ebpf::decide::gate;
use harbor_ha_ebpf::records::{Lease, Order};
use harbor_ha_ebpf::units::Nanos;
use harbor_ha_ebpf::wire::pulse::Pulse;

use super::emit;
use super::maps::{LEASE, ORDER, SIGNS};

/// An authentic packet that was heard at `now`; answers with the stamp to echo, 0 for none. `detection` is D.
#[inline(always)]
pub fn heard(pulse: &Pulse, boot: u64, now: Nanos, detection: Nanos) -> Nanos {
    let (Some(lease), Some(order), Some(signs)) = (LEASE.get_ptr_mut(0), ORDER.get_ptr(0), SIGNS.get(0)) else {
        return Nanos(0);
    };
    // SAFETY: elements of maps, which live as long as those. Userspace writes `order` word by word, and the kernel alone
    // writes `lease`.
    let (lease, asked): (&mut Lease, Order) = unsafe { (&mut *lease, *order) };
    gate::heard_term(lease, pulse.term);
    // A stamp of another boot of ours is a number without a meaning.
    if pulse.echo_ns != 0 && pulse.echo_boot == boot {
        emit::add(&raw mut lease.echoes);
        gate::echoed(lease, now, Nanos(pulse.echo_ns), detection, &asked, signs);
    }
    if !gate::grants(&asked, pulse.flags) {
        return gate::echo(lease, &asked, Nanos(0), 0);
    }
    gate::promise(lease, now, detection);
    barrier(&raw mut lease.promise_until_ns);
    // SAFETY: as above; volatile, so that the permission is looked at again and not remembered.
    let still = unsafe { (&raw const (*order).echo).read_volatile() };
    gate::echo(lease, &Order { echo: still, ..asked }, Nanos(pulse.stamp_ns), pulse.boot)
}

/// Everything before it is visible to every CPU before anything after it is read: an addition that fetches is a full
/// barrier on each architecture, one that does not (`emit::add`) is none on arm64.
#[inline(always)]
fn barrier(word: *mut u64) {
    // SAFETY: a word of a map's element; it stays what it is.
    let _same = unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(word, 0) };
}
