//! The records of the lease and the gate (docs/protocol.md). Each has one writer, so no lock is needed.

/// Map `own`, two elements: what this node says, as its reflections carry it. Written by the pulse thread into the
/// element that [`Signs::sent`] does not point at; a reader takes element `sent & 1` and never sees half a change.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Term, as in a pulse.
    pub term: u64,
    /// WAL position.
    pub lsn: u64,
    /// PostgreSQL system identifier.
    pub system_identifier: u64,
    /// PostgreSQL timeline.
    pub timeline: u32,
    /// Bits of `wire::pulse::flag`.
    pub flags: u16,
    /// Priority, as what is tracked makes it.
    pub priority: u8,
    /// Padding.
    pub reserved: u8,
}
const _: () = assert!(size_of::<Own>() == 32);

/// Map `signs`: userspace's signs of life, written by the pulse thread before each pulse leaves.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// The older of the pulse thread's sign and the core's, `CLOCK_MONOTONIC`; 0: no daemon ever ran.
    pub sign_ns: u64,
    /// Sequence of the newest pulse: no answer to a later one can be true.
    pub sent: u64,
    /// Pulses sent since the maps were made: how many questions the peer has had. Goes on over restarts.
    pub asked: u64,
}
const _: () = assert!(size_of::<Signs>() == 24);

/// Map `order`: what the core wants of the gate and of the echo; written synchronously.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The term in which this node serves; 0: the gate is shut.
    pub serving_term: u64,
    /// Non-zero: the peer's stamps may be echoed.
    pub echo: u64,
    /// Non-zero: the right to serve in `serving_term` is this node's alone. The kernel does not look at it: it tells a
    /// restarted daemon.
    pub solo: u64,
    /// Until when this node may serve without its peer's echo, while its userspace lives; 0: not at all.
    pub solo_until_ns: u64,
    /// Userspace lives while its sign is not older.
    pub hang_ns: u64,
}
const _: () = assert!(size_of::<Order>() == 40);

/// Map `lease`: written by the kernel alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// The peer's kernel grants service until then.
    pub leased_until_ns: u64,
    /// Our newest stamp that came back.
    pub echoed_ns: u64,
    /// Highest term in any authentic packet of the peer.
    pub highest_term: u64,
    /// The peer's stamp to echo; 0: none.
    pub echo_stamp_ns: u64,
    /// The peer's boot of that stamp.
    pub echo_boot: u64,
    /// This node does not take over before.
    pub promise_until_ns: u64,
    /// Stamps of ours that came back.
    pub echoes: u64,
    /// Time in which this node was to serve and its gate was dark, as far as it is over.
    pub dark_ns: u64,
    /// How often that happened.
    pub darkenings: u64,
}
const _: () = assert!(size_of::<Lease>() == 72);

/// Map `gate_stats`: what the gate did. Only ever added to, by the kernel, atomically.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GateStats {
    /// Packets of a virtual address that passed the sockets' gate, both ways.
    pub passed: u64,
    /// ARP for a virtual address, dropped on the interface.
    pub dropped_arp: u64,
    /// IPv4 to a virtual address, dropped on the interface.
    pub dropped_ingress: u64,
    /// To a socket on a virtual address, dropped.
    pub dropped_in: u64,
    /// From a socket on a virtual address, dropped.
    pub dropped_out: u64,
    /// Of the dropped: no service was ordered here.
    pub shut_not_serving: u64,
    /// Of the dropped: a higher term was heard.
    pub shut_higher_term: u64,
    /// Of the dropped: the lease had run out.
    pub shut_expired: u64,
}
const _: () = assert!(size_of::<GateStats>() == 64);
