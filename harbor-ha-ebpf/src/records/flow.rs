//! The connections of the virtual addresses, as the interface sees them.

/// Connections that map `flows` has room for: several times what a PostgreSQL serves. The least recently used goes first.
pub const FLOWS_MAX: usize = 16384;

/// Key of map `flows`: the two ends of a TCP connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// The client's address, network order.
    pub client: [u8; 4],
    /// The virtual address, network order.
    pub vip: [u8; 4],
    /// The client's port.
    pub client_port: u16,
    /// The service's port.
    pub vip_port: u16,
}
const _: () = assert!(size_of::<FlowKey>() == 12);

/// Value of map `flows`. Written by the kernel; userspace only removes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// The client's last segment, a second too early at most, `CLOCK_MONOTONIC`.
    pub last_seen_ns: u64,
    /// Non-zero: the client has closed it, or knows nothing of it.
    pub closed: u64,
}
const _: () = assert!(size_of::<Flow>() == 16);
