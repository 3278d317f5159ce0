//! What the rest of the daemon knows of its configuration: checked values, no text.
//!
//! Made only by [`super::parse`], so a `Settings` that exists is one that can run.

pub mod cloud;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use harbor_ha_ebpf::units::{Priority, Vrid};

use super::router::settings::{Mail, Notify, Track, Trackers};
use super::secret::Secret;

/// Everything one node needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `[node]`
    pub node: Node,
    /// `[vrrp]`
    pub vrrp: Vrrp,
    /// `[pulse]`; `None` when pulses are switched off (a keepalived peer).
    pub pulse: Option<Pulse>,
    /// `[lease]`; there is one exactly when there are pulses.
    pub lease: Option<Lease>,
    /// `[witness]`; `None` without one.
    pub witness: Option<Witness>,
    /// `[announce]`
    pub announce: Announce,
    /// `[postgres]`; `None` for a daemon that manages addresses only.
    pub postgres: Option<Postgres>,
    /// `[realtime]`
    pub realtime: Realtime,
    /// `[observe]`: where metrics and the status are served over HTTP; `None`: nowhere.
    pub observe: Option<SocketAddr>,
    /// `[kernel]`
    pub xdp_mode: XdpMode,
    /// `[kernel]`: the control group whose sockets the gate guards; `None`: the root of the hierarchy.
    pub cgroup: Option<PathBuf>,
    /// `[[script]] [[process]] [[file]]`
    pub trackers: Trackers,
    /// `[track]`
    pub track: Track,
    /// `[notify]`
    pub notify: Notify,
    /// `[mail]`
    pub mail: Option<Mail>,
    /// `[cloud]`; `None` without it.
    pub cloud: Option<cloud::Cloud>,
}

/// Who this node is and where its things live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Names pins and the status socket.
    pub instance: String,
    /// Interface of adverts, pulses and virtual addresses.
    pub interface: String,
    /// This node's own address.
    pub address: Ipv4Addr,
    /// The other node's.
    pub peer: Ipv4Addr,
    /// Virtual addresses, at least one.
    pub vips: Vec<Vip>,
    /// Journals; survives a reboot.
    pub state_dir: PathBuf,
    /// Status socket and lock.
    pub runtime_dir: PathBuf,
    /// Mount point of the BPF file system.
    pub bpffs: PathBuf,
}

/// A virtual address with its prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vip {
    /// The address.
    pub address: Ipv4Addr,
    /// 1 to 32.
    pub prefix: u8,
}

/// VRRP, RFC 3768 and RFC 9568.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vrrp {
    /// 2 or 3.
    pub version: VrrpVersion,
    /// Virtual router id.
    pub vrid: Vrid,
    /// 1 to 254, or 255 for the address owner.
    pub priority: Priority,
    /// Between adverts.
    pub advert_interval: Duration,
    /// Whether adverts are sent and expected at all.
    pub adverts: bool,
    /// Whether a higher priority takes over from a living peer.
    pub preempt: bool,
    /// How long a preempting node waits.
    pub preempt_delay: Duration,
    /// VRRPv2 PASS authentication, zero-filled to eight bytes.
    pub password: Option<Secret<[u8; 8]>>,
    /// Adverts below this TTL are dropped.
    pub min_ttl: u8,
}

/// Protocol version of the adverts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VrrpVersion {
    /// RFC 3768.
    V2,
    /// RFC 9568.
    V3,
}

/// harbor-ha's own heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// Between pulses.
    pub interval: Duration,
    /// Missed pulses until the peer is dead, 2 to 255.
    pub threshold: u8,
    /// UDP port, both ends.
    pub port: u16,
    /// UDP port of the table of open connections, both ends.
    pub flows_port: u16,
    /// SipHash key: sent, and accepted.
    pub key: Secret<[u8; 16]>,
    /// Accepted too, while the nodes change from one key to another.
    pub other_key: Option<Secret<[u8; 16]>>,
    /// Tells clusters on one network apart.
    pub cluster_id: u64,
}

/// Until when a primary may serve that its standby no longer confirms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// How long a live kernel may answer for a silent userspace.
    pub hang: Duration,
    /// What a primary does when its lease runs out.
    pub isolated: Isolated,
}

/// What an isolated primary does, as the operator chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolated {
    /// Stops serving: never two primaries, and none when the standby alone is lost.
    Hold,
    /// Serves on: always one primary, and two in a partition.
    Serve,
    /// Asks the witness.
    Witness,
}

/// The third party that decides between two nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// What it is.
    pub kind: WitnessKind,
    /// Where it is: members of one etcd, or one Redis; at least one.
    pub endpoints: Vec<Endpoint>,
    /// Who we are there; `None` where nobody asks.
    pub login: Option<Login>,
    /// How long it remembers who serves alone.
    pub ttl: Duration,
    /// Limit of each request.
    pub timeout: Duration,
    /// First part of the names of its records.
    pub prefix: String,
}

/// Kinds of witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WitnessKind {
    /// An etcd, API v3.
    Etcd,
    /// A Redis.
    Redis,
}

/// A server of a witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether to speak TLS, trusting the certificates that the host trusts.
    pub tls: bool,
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    /// `host:port`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// An account at a witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Empty where a password alone will do (Redis).
    pub user: String,
    /// Its password.
    pub password: Secret<String>,
}

/// Gratuitous ARP, with keepalived's meaning of the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// How many at once.
    pub repeat: u32,
    /// Until the second burst.
    pub delay: Duration,
    /// Between refreshes; zero: none.
    pub refresh: Duration,
    /// How many per refresh.
    pub refresh_repeat: u32,
}

/// The PostgreSQL of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postgres {
    /// PGDATA.
    pub data_dir: PathBuf,
    /// Where `pg_ctl`, `pg_rewind`, `postgres` are.
    pub bin_dir: PathBuf,
    /// TCP port and socket name.
    pub port: u16,
    /// Directory of the Unix socket.
    pub socket_dir: PathBuf,
    /// Superuser role on both nodes.
    pub user: String,
    /// Database of the daemon's own connections.
    pub dbname: String,
    /// Role named in `primary_conninfo`.
    pub replication_user: String,
    /// Password of `user`.
    pub password: Option<Secret<String>>,
    /// Password of `replication_user`.
    pub replication_password: Option<Secret<String>>,
    /// The peer's node address; replication never runs over the VIP.
    pub peer: IpAddr,
    /// The virtual addresses, which no replication may use.
    pub vips: Vec<Ipv4Addr>,
    /// Physical slot that each node keeps for the other.
    pub slot: String,
    /// `application_name` of this node's WAL receiver.
    pub name: String,
    /// `application_name` of the peer's WAL receiver.
    pub peer_name: String,
    /// Whether commits wait for the standby.
    pub sync: Sync,
    /// Bytes of WAL that a takeover may lose where commits do not wait.
    pub max_lag: u64,
    /// Keep the data directory that a base backup replaced, also when the new one streams.
    pub keep_old: bool,
    /// More words for the server's command line.
    pub start_options: String,
    /// Between probes.
    pub probe_interval: Duration,
    /// Deadline of one probe.
    pub probe_timeout: Duration,
    /// Failed probes in a row until PostgreSQL counts as hung.
    pub probe_fall: u32,
    /// Limit of a fast shutdown.
    pub stop_timeout: Duration,
}

/// Replication policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// A commit waits for the standby from the moment it first streamed.
    Required,
    /// The same, until the standby is gone and its right to take over with it.
    Preferred,
    /// Asynchronous.
    Off,
}

/// Scheduling of the pulse thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Realtime {
    /// `SCHED_FIFO` priority; 0 does not ask.
    pub priority: u8,
    /// Whether to call `mlockall`.
    pub lock_memory: bool,
}

/// How to attach the XDP program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// Native where the driver allows, else generic.
    Auto,
    /// Native or nothing.
    Native,
    /// The generic hook.
    Generic,
}
