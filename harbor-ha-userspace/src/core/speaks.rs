//! What the pulse thread says to this node's own kernel, and hears from it.

use harbor_ha_ebpf::records::{Own, Signs};

/// The kernel's ear for the pulse thread, so that the rooms of the network and of the kernel need not know each other.
///
/// Called by a real-time thread before each pulse: nothing here may allocate, block or log.
pub trait Speaks: Send {
    /// What this node says of itself and its signs of life, before the pulse `signs.sent` leaves. Whether the kernel took
    /// it; a refusal is counted and changes nothing else, as the peer then sees the age of the last one.
    fn say(&mut self, own: &Own, signs: &Signs) -> bool;

    /// What was said last, also by an earlier run.
    fn said(&self) -> Signs;

    /// The peer's stamp to echo, 0 for none, and the peer's boot that it is of.
    fn echo(&self) -> (u64, u64);
}
