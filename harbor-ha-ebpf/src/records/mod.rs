//! Map values and ring buffer events, as both sides of the kernel border lay them out.
//!
//! Plain numbers, padded by hand, sizes asserted: no `bool`, no `Option`, no enum, so that every bit pattern is a value.

mod config;
mod detector;
mod flow;
mod gate;
mod stats;
mod verdict;

pub use config::{Config, PEERS_MAX, PeerConfig, STRANGERS, Secrets, VIPS_MAX, accept};
pub use detector::{Detector, JITTER_SLOTS, SOURCES, Source, State, TimedDetector, slot};
pub use flow::{FLOWS_MAX, Flow, FlowKey};
pub use gate::{GateStats, Lease, Order, Own, Signs};
pub use stats::Stats;
pub use verdict::{Verdict, VerdictKind};

/// Lets aya read and write a record: it is plain data without padding.
#[cfg(feature = "user")]
mod pod {
    // SAFETY: `repr(C)`, integers only, no implicit padding (the size assertions beside each record), no pointers.
    unsafe impl aya::Pod for super::Config {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Secrets {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::PeerConfig {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::TimedDetector {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Stats {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Verdict {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Own {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Signs {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Order {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Lease {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::GateStats {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::FlowKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Flow {}
}
