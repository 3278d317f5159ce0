//! Packet counters of one peer, or of strangers. Only ever added to, by the kernel, atomically.

/// Map `stats`: one counter per reason, so that a dump explains itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Valid adverts.
    pub adverts: u64,
    /// Valid pulses.
    pub pulses: u64,
    /// Valid reflections: answers of the peer's kernel.
    pub reflections: u64,
    /// Pulses turned round for the peer.
    pub reflected: u64,
    /// Dropped: sender is no peer.
    pub reject_source: u64,
    /// Dropped: time to live too low.
    pub reject_ttl: u64,
    /// Dropped: too short, too long, a fragment.
    pub reject_length: u64,
    /// Dropped: version.
    pub reject_version: u64,
    /// Dropped: VRRP type other than advertisement.
    pub reject_type: u64,
    /// Dropped: no address, or more than twenty.
    pub reject_addresses: u64,
    /// Dropped: VRRP checksum.
    pub reject_checksum: u64,
    /// Dropped: another virtual router.
    pub reject_vrid: u64,
    /// Dropped: VRRPv2 authentication type.
    pub reject_auth_type: u64,
    /// Dropped: VRRPv2 password.
    pub reject_password: u64,
    /// Dropped: interval of zero, or (v2) other than ours.
    pub reject_interval: u64,
    /// Dropped: on the pulse port, but no pulse.
    pub reject_magic: u64,
    /// Dropped: pulse MAC.
    pub reject_mac: u64,
    /// Dropped: pulse of another cluster.
    pub reject_cluster: u64,
    /// Dropped: pulse sequence not above the last one (a replay, or reordering).
    pub reject_sequence: u64,
    /// Dropped: a reflection of no question of ours, or of one that was answered.
    pub reject_reflection: u64,
}
const _: () = assert!(size_of::<Stats>() == 20 * 8);
