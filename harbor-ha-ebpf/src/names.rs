//! Names of programs, maps and pins; `status`, `detach` and the lab's leftover check walk the same lists.

/// The XDP program on the interface.
pub const XDP_PROGRAM: &str = "harbor_ha_xdp";
/// What the pinned link of [`XDP_PROGRAM`] is called.
pub const XDP_LINK: &str = "xdp_link";
/// The program before the sockets, inbound.
pub const GATE_IN_PROGRAM: &str = "harbor_ha_gate_in";
/// The program behind the sockets, outbound.
pub const GATE_OUT_PROGRAM: &str = "harbor_ha_gate_out";
/// What the pinned link of [`GATE_IN_PROGRAM`] is called.
pub const GATE_IN_LINK: &str = "gate_in_link";
/// What the pinned link of [`GATE_OUT_PROGRAM`] is called.
pub const GATE_OUT_LINK: &str = "gate_out_link";
/// Where the link of [`GATE_IN_PROGRAM`] is pinned until it replaces the one before; no dot, which the BPF file system
/// keeps for itself.
pub const GATE_IN_NEXT: &str = "gate_in_next";
/// The same for [`GATE_OUT_PROGRAM`].
pub const GATE_OUT_NEXT: &str = "gate_out_next";
/// Every pin of a link.
pub const LINKS: [&str; 5] = [XDP_LINK, GATE_IN_LINK, GATE_OUT_LINK, GATE_IN_NEXT, GATE_OUT_NEXT];
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
    /// [`crate::records::Own`], two elements.
    pub const OWN: &str = "own";
    /// [`crate::records::Signs`], one element.
    pub const SIGNS: &str = "signs";
    /// [`crate::records::Order`], one element.
    pub const ORDER: &str = "order";
    /// [`crate::records::Lease`], one element.
    pub const LEASE: &str = "lease";
    /// [`crate::records::GateStats`], one element.
    pub const GATE_STATS: &str = "gate_stats";
    /// [`crate::records::Flow`] by [`crate::records::FlowKey`].
    pub const FLOWS: &str = "flows";
    /// Every map that is pinned.
    pub const PINNED: [&str; 12] =
        [CONFIG, SECRETS, PEER_CONFIG, PEERS, STATS, VERDICTS, OWN, SIGNS, ORDER, LEASE, GATE_STATS, FLOWS];
}
