//! Names of programs, maps and pins; `status`, `detach` and the lab's leftover check walk the same lists.

/// The XDP program on the interface.
pub const XDP_PROGRAM: &str = "harbor_ha_xdp";
/// What the pinned link of [`XDP_PROGRAM`] is called.
pub const XDP_LINK: &str = "xdp_link";
/// Folder below the BPF file system; each instance has one of its own in it.
pub const PIN_FOLDER: &str = "harbor-ha";

/// Names of the maps, as the object and the pins spell them.
pub mod map {
    /// [`crate::records::Config`], one element.
    pub const CONFIG: &str = "config";
    /// [`crate::records::Secrets`], one element.
    pub const SECRETS: &str = "secrets";
    /// [`crate::records::PeerConfig`], one element per peer.
    pub const PEER_CONFIG: &str = "peer_config";
    /// Detector records with their timers; never written by userspace, a write would cancel the timer.
    pub const PEERS: &str = "peers";
    /// [`crate::records::Stats`], one element per peer and one for strangers.
    pub const STATS: &str = "stats";
    /// Ring buffer of [`crate::records::Verdict`].
    pub const VERDICTS: &str = "verdicts";
    /// Every map that is pinned.
    pub const PINNED: [&str; 6] = [CONFIG, SECRETS, PEER_CONFIG, PEERS, STATS, VERDICTS];
}
