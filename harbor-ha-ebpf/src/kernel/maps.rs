//! The maps, under the names that `harbor_ha_ebpf::names` lists.

use aya_ebpf::btf_maps::{Array, RingBuf};
use aya_ebpf::macros::btf_map;
use harbor_ha_ebpf::records::{Config, Detector, PEERS_MAX, PeerConfig, SOURCES, Secrets, Stats, Verdict};

/// Who we are; written by userspace.
#[btf_map(name = "config")]
pub static CONFIG: Array<Config, 1> = Array::new();

/// Keys; written by userspace.
#[btf_map(name = "secrets")]
pub static SECRETS: Array<Secrets, 1> = Array::new();

/// The peers' addresses; written by userspace.
#[btf_map(name = "peer_config")]
pub static PEER_CONFIG: Array<PeerConfig, PEERS_MAX> = Array::new();

/// A detector record with its timer. Userspace reads it as `harbor_ha_ebpf::records::TimedDetector`, never writes it.
#[repr(C)]
pub struct Peer {
    /// The kernel's own; first, as it must be aligned to eight bytes.
    pub timer: aya_ebpf::bindings::bpf_timer,
    /// What the timer is about.
    pub detector: Detector,
}

/// One element per heartbeat of a peer.
#[btf_map(name = "peers")]
pub static PEERS: Array<Peer, { PEERS_MAX * SOURCES }> = Array::new();

/// One element per peer, one for strangers.
#[btf_map(name = "stats")]
pub static STATS: Array<Stats, { PEERS_MAX + 1 }> = Array::new();

/// Room for some 800 events: a userspace that sleeps longer than that reads the records instead.
#[btf_map(name = "verdicts")]
pub static VERDICTS: RingBuf<Verdict, 65536> = RingBuf::new();
