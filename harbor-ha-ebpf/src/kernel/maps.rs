//! The maps, under the names that `harbor_ha_ebpf::names` lists.

use aya_ebpf::btf_maps::{Array, LruHashMap, RingBuf};
use aya_ebpf::macros::btf_map;
use harbor_ha_ebpf::records::{
    Config, Detector, FLOWS_MAX, Flow, FlowKey, GateStats, Lease, Order, Own, PEERS_MAX, PeerConfig, SOURCES, Secrets,
    Signs, Stats, Verdict,
};

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

/// What our reflections say; written by userspace, the element that `signs.sent` does not point at.
#[btf_map(name = "own")]
pub static OWN: Array<Own, 2> = Array::new();

/// Userspace's signs of life.
#[btf_map(name = "signs")]
pub static SIGNS: Array<Signs, 1> = Array::new();

/// What the core wants of the gate and the echo.
#[btf_map(name = "order")]
pub static ORDER: Array<Order, 1> = Array::new();

/// The lease; the one record that only the kernel writes and that is no counter.
#[btf_map(name = "lease")]
pub static LEASE: Array<Lease, 1> = Array::new();

/// What the gate did.
#[btf_map(name = "gate_stats")]
pub static GATE_STATS: Array<GateStats, 1> = Array::new();

/// The connections of the virtual addresses; userspace only removes.
#[btf_map(name = "flows")]
pub static FLOWS: LruHashMap<FlowKey, Flow, FLOWS_MAX> = LruHashMap::new();
