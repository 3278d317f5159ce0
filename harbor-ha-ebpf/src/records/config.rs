//! What userspace tells the kernel, in maps without timers: written once at start, but for the priority.

/// Peers that one instance can have; a pair has one, the rest is room for a third node.
pub const PEERS_MAX: usize = 4;
/// Element of the stats map that counts packets from nobody we know.
pub const STRANGERS: u32 = PEERS_MAX as u32;

/// Virtual addresses that one instance can have: as many as an advert carries here.
pub const VIPS_MAX: usize = 20;

/// Bits of [`Config::accept`].
pub mod accept {
    /// Adverts to our address are ours to judge.
    pub const ADVERTS: u8 = 0x01;
    /// Pulses to our address are ours to judge.
    pub const PULSES: u8 = 0x02;
    /// Traffic of the virtual addresses passes the gate only.
    pub const GATE: u8 = 0x04;
}

/// Map `config`: who we are and what a valid packet looks like. All zero: nothing is ours, everything passes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Our node address, network order.
    pub own_address: [u8; 4],
    /// Virtual router id.
    pub vrid: u8,
    /// VRRP version of adverts, 2 or 3.
    pub vrrp_version: u8,
    /// Adverts below this TTL are dropped; pulses need 255.
    pub min_ttl: u8,
    /// Bits of [`accept`].
    pub accept: u8,
    /// Our own priority, as what is tracked makes it: for the skew.
    pub priority: u8,
    /// Missed pulses until a peer is dead.
    pub pulse_threshold: u8,
    /// UDP port of the pulses.
    pub pulse_port: u16,
    /// v2: 0 none, 1 PASS.
    pub auth_type: u8,
    /// Keeps the next field aligned.
    pub reserved: [u8; 3],
    /// Between our adverts.
    pub advert_interval_ns: u64,
    /// Between our pulses.
    pub pulse_interval_ns: u64,
    /// Tells clusters apart.
    pub cluster_id: u64,
    /// Tells this boot from others.
    pub boot: u64,
    /// A peer whose userspace gave no sign for longer hangs.
    pub hang_ns: u64,
    /// The virtual addresses, network order; the first that is all zero ends the list.
    pub vips: [[u8; 4]; VIPS_MAX],
}
const _: () = assert!(size_of::<Config>() == 4 + 8 + 4 + 5 * 8 + 4 * VIPS_MAX);

/// Map `secrets`, apart from [`Config`] so that a dump of that one can be shown around.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Secrets {
    /// SipHash key of the pulses: sent, and accepted.
    pub pulse_key: [u64; 2],
    /// Accepted too, while keys are exchanged; the same as `pulse_key` otherwise.
    pub other_key: [u64; 2],
    /// Zero-filled VRRPv2 password.
    pub password: [u8; 8],
}
const _: () = assert!(size_of::<Secrets>() == 40);

/// Map `peer_config`, one element per peer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerConfig {
    /// The peer's node address, network order; all zero: no peer.
    pub address: [u8; 4],
}
const _: () = assert!(size_of::<PeerConfig>() == 4);
