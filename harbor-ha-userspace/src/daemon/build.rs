//! From settings to parts: everything that can fail at start fails here, before anything acts.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use harbor_ha_ebpf::names;
use harbor_ha_ebpf::records::Order;
use harbor_ha_ebpf::units::Nanos;
use nix::fcntl::{Flock, FlockArg};

use super::outside::Wants;
use super::tracking::Numbers;
use crate::clock;
use crate::config::settings::{self, Settings, Sync, VrrpVersion};
use crate::core::health::Tracking;
use crate::core::rules::{Isolated, LeaseRules, SyncPolicy, master_down, pulse_wait};
use crate::core::{Rules, Terms};
use crate::kernel::flows::FlowMap;
use crate::kernel::gate;
use crate::kernel::load::{self, Attached, Attachment, Fresh, LoadError};
use crate::kernel::maps::{self, Maps};
use crate::kernel::own::OwnWriter;
use crate::kernel::probe::{self, Capability};
use crate::kernel::trace;
use crate::kernel::verdicts::Verdicts;
use crate::net::advert::Adverts;
use crate::net::announce::Announcer;
use crate::net::flows::Flows;
use crate::net::netlink::{Interface, NetlinkError};
use crate::net::pulse::{Identity, Pulses};
use crate::net::{realtime, sequence};
use crate::notify::Kind;
use crate::pg::{OpenError, Pg};
use crate::store::pause::PauseFile;
use crate::store::term::{TermError, TermFile};

/// How long a peer that was asked for it bears with the silence of this daemon.
const HOLD: Nanos = Nanos::from_secs(60);

/// Why the daemon does not start. Nothing was changed on the host then.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A folder or file of the daemon's own.
    #[error("`{path}`: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another daemon runs this instance.
    #[error("another harbor-ha runs instance `{instance}` on this host (it holds `{path}`)")]
    Running {
        /// Name of the instance.
        instance: String,
        /// The lock.
        path: PathBuf,
    },
    /// The interface.
    #[error(transparent)]
    Interface(#[from] NetlinkError),
    /// The node's address is not on the interface.
    #[error("`{interface}` does not have this node's address {address} (node.address); it has {found}")]
    Address {
        /// The interface.
        interface: String,
        /// What is configured.
        address: std::net::Ipv4Addr,
        /// What is there.
        found: String,
    },
    /// There is nothing that adverts could come from.
    #[error(
        "`{interface}` has no address that the adverts of instance `{instance}` could come from; give it one, or set `source`"
    )]
    NoAddress {
        /// The interface.
        interface: String,
        /// Whose.
        instance: String,
    },
    /// Scripts, mail: what others shall do.
    #[error("{what}: {why}")]
    Outside {
        /// What it is about.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// This process may not what the daemon must.
    #[error("not permitted: {}; run as root, or give the service these capabilities", list(.0))]
    Capabilities(Vec<(Capability, &'static str)>),
    /// A socket.
    #[error("cannot open the socket for {what}: {source}")]
    Socket {
        /// What it is for.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel side.
    #[error("{0}{hint}", hint = if .0.is_denied() { DENIED } else { "" })]
    Kernel(#[from] LoadError),
    /// PostgreSQL.
    #[error(transparent)]
    Postgres(#[from] OpenError),
    /// It ran, and something that it is built on is no more. It has left the service in order.
    #[error("{0}; harbor-ha has to be started anew")]
    Lost(String),
    /// The terms.
    #[error(transparent)]
    Terms(#[from] TermError),
}

impl BuildError {
    /// Exit status, after `sysexits.h`.
    ///
    /// The service manager tries again after all of them but 64, 77 and 78: an interface, an address or a file system
    /// that is not there while the host boots is there a moment later.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Running { .. } => 75,
            Self::Interface(_)
            | Self::Address { .. }
            | Self::NoAddress { .. }
            | Self::Outside { .. }
            | Self::Postgres(_)
            | Self::Lost(_) => 69,
            Self::Capabilities(_) => 77,
            Self::Socket { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => 77,
            Self::Kernel(error) if error.is_denied() => 77,
            Self::Socket { .. } | Self::Kernel(_) => 69,
            Self::File { .. } | Self::Terms(TermError::File { .. }) => 73,
            Self::Terms(TermError::Content { .. }) => 78,
        }
    }
}

/// What stands in the way of a process that has the capabilities.
const DENIED: &str = "; no capability is missing, so look for a seccomp filter (a container's), lockdown \
                      (`/sys/kernel/security/lockdown`) or an LSM in the way";

fn list(missing: &[(Capability, &str)]) -> String {
    let names: Vec<_> = missing.iter().map(|(capability, purpose)| format!("{capability} ({purpose})")).collect();
    names.join(", ")
}

/// Everything that runs.
pub(super) struct Parts {
    pub interface: Interface,
    pub adverts: Option<Adverts>,
    pub announcer: Announcer,
    pub pulses: Option<Pulses>,
    /// `None` without a gate, which is where connections are seen.
    pub flows: Option<Flows>,
    pub maps: Maps,
    pub verdicts: Verdicts,
    pub pg: Option<Pg>,
    pub attached: Attached,
    /// The program listened since an earlier run.
    pub adopted: bool,
    /// Where the terms are kept, and what they were at start.
    pub term_file: TermFile,
    /// Says by being there that automatic action is paused.
    pub pause_file: PauseFile,
    /// What an earlier run left in force.
    pub adopted_order: Order,
    /// Darkness of the gate that ended by an order, and how often.
    pub dark: (Nanos, u64),
    /// The kernel's maps are new: what was promised before is not in them.
    pub forgotten: bool,
    pub terms: Terms,
    pub memory: String,
    /// To be kept once nothing can fail any more.
    pub fresh: Fresh,
    /// Keeps the program's own maps (aya-log's, the constants) and the lock alive.
    #[expect(dead_code, reason = "held, not read")]
    pub held: (aya::Ebpf, Flock<File>),
}

/// Opens everything, in an order in which the host is changed last.
pub(super) async fn parts(settings: &Settings) -> Result<Parts, BuildError> {
    let node = &settings.node;
    let missing = probe::missing(settings);
    if !missing.is_empty() {
        return Err(BuildError::Capabilities(missing));
    }
    let interface = Interface::open(&node.interface).await?;
    let found: Vec<_> = interface.addresses().await?.into_iter().map(|it| it.address).collect();
    if !found.contains(&node.address) {
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        return Err(BuildError::Address {
            interface: node.interface.clone(),
            address: node.address,
            found: if found.is_empty() { "none".to_owned() } else { found.join(", ") },
        });
    }
    let term_file = TermFile::new(&node.state_dir, &node.instance);
    let terms = term_file.load()?;
    let pg = settings.postgres.clone().map(|postgres| Pg::open(postgres, &node.state_dir)).transpose()?;
    // From here on the host is touched: folders and a lock that may stay, then what a failure takes back.
    for folder in [&node.runtime_dir, &node.state_dir] {
        std::fs::create_dir_all(folder).map_err(|source| BuildError::File { path: folder.clone(), source })?;
    }
    let lock = lock(&node.runtime_dir.join(format!("{}.lock", node.instance)), &node.instance)?;
    let socket = |what| move |source| BuildError::Socket { what, source };
    let adverts = if settings.vrrp.adverts { Some(Adverts::open(settings).map_err(socket("adverts"))?) } else { None };
    let announcer = Announcer::open(interface.index, interface.mac, &node.vips).map_err(socket("gratuitous ARP"))?;
    let memory = if settings.realtime.lock_memory {
        realtime::lock_memory(probe::capabilities().is_ok_and(|found| found.has(Capability::IpcLock)))
    } else {
        "memory not locked by choice".to_owned()
    };
    let fresh = Fresh::new(&node.bpffs, &node.instance);
    let pinned_before = fresh.had(names::map::LEASE);
    let traced = tracing::enabled!(target: "harbor_ha_ebpf", tracing::Level::DEBUG);
    let mut ebpf = load::load(&node.bpffs, &node.instance, traced)?;
    if traced {
        trace::start(&mut ebpf);
    }
    let verdicts = maps::verdicts(&mut ebpf)?;
    let mut maps = Maps::take(&mut ebpf)?;
    let boot = clock::boot_id()
        .map_err(|source| BuildError::File { path: "/proc/sys/kernel/random/boot_id".into(), source })?;
    maps.configure(settings, boot)?;
    // Before XDP, so that there is no interface on which the address answers and no gate behind it.
    let gated = match settings.pulse {
        Some(_) => Some(gate::attach(&mut ebpf, &node.bpffs, &node.instance, settings.cgroup.as_deref())?),
        None => gate::detach(&node.bpffs, &node.instance).map(|()| None)?,
    };
    let Attachment { mode: attached, adopted } =
        load::attach(&mut ebpf, &node.bpffs, &node.instance, &node.interface, settings.xdp_mode)?;
    let adopted_order = maps.current_order()?;
    // Pins of an older layout were replaced: nothing of them is known either.
    let forgotten = !pinned_before || maps.lease()?.promise_until_ns == 0;
    if let Some(group) = gated {
        tracing::info!(group = %group.display(), "the sockets are gated");
    }
    let pulses = settings.pulse.as_ref().map(|pulse| {
        let identity = identity(settings, "pulse-sequence", boot);
        let kernel = Box::new(OwnWriter::open(&node.bpffs, &node.instance)?);
        Pulses::start(pulse, identity, settings.realtime, kernel).map_err(socket("pulses"))
    });
    let pulses = pulses.transpose()?;
    let flows = flows(settings, boot);
    let verdicts = Verdicts::new(verdicts).map_err(socket("verdicts"))?;
    let held = (ebpf, lock);
    let parts = Parts {
        interface,
        adverts,
        announcer,
        pulses,
        flows,
        maps,
        verdicts,
        pg,
        attached,
        adopted,
        term_file,
        pause_file: PauseFile::new(&node.state_dir, &node.instance),
        adopted_order,
        forgotten,
        dark: (Nanos(0), 0),
        terms,
        memory,
        fresh,
        held,
    };
    Ok(parts)
}

/// Who we are, with a sequence above all that this host ever sent of that kind.
fn identity(settings: &Settings, kind: &str, boot: u64) -> Identity {
    let node = &settings.node;
    Identity {
        source: node.address,
        peer: node.peer,
        vrid: settings.vrrp.vrid.as_u8(),
        priority: settings.vrrp.priority.0,
        boot,
        sequence: sequence::begin(&node.state_dir.join(kind), clock::wall_ns()),
    }
}

/// The table of open connections. A node that cannot share it is better than none: its clients wait for their own limits.
fn flows(settings: &Settings, boot: u64) -> Option<Flows> {
    let (pulse, _) = settings.pulse.as_ref().zip(settings.postgres.as_ref())?;
    let kernel = match FlowMap::open(&settings.node.bpffs, &settings.node.instance) {
        Ok(kernel) => Box::new(kernel),
        Err(error) => {
            tracing::error!(%error, "open connections are not reset at a takeover");
            return None;
        }
    };
    let started = Flows::start(pulse, identity(settings, "flows-sequence", boot), kernel);
    started
        .inspect_err(|error| {
            tracing::error!(%error, port = pulse.flows_port, "open connections are not reset at a takeover");
        })
        .ok()
}

/// One daemon per instance and host.
pub(super) fn lock(path: &Path, instance: &str) -> Result<Flock<File>, BuildError> {
    let failed = |source| BuildError::File { path: path.to_owned(), source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| BuildError::Running { instance: instance.to_owned(), path: path.to_owned() })
}

/// The lease protocol: with pulses, and where there is a PostgreSQL to guard.
fn lease_rules(settings: &Settings) -> Option<LeaseRules> {
    let (pulse, lease, _) = (settings.pulse.as_ref()?, settings.lease.as_ref()?, settings.postgres.as_ref()?);
    let nanos = |duration: std::time::Duration| Nanos(duration.as_nanos() as u64);
    let isolated = match lease.isolated {
        settings::Isolated::Hold => Isolated::Hold,
        settings::Isolated::Serve => Isolated::Serve,
        settings::Isolated::Witness => Isolated::Witness,
    };
    let detection = nanos(pulse.interval).times(u64::from(pulse.threshold));
    let greater = settings.node.address > settings.node.peer;
    Some(LeaseRules::new(detection, greater, nanos(lease.hang), HOLD, isolated))
}

/// What is watched, and who is told.
pub(super) fn wants(settings: &Settings) -> Wants<'_> {
    Wants {
        trackers: &settings.trackers,
        numbers: numbers(settings),
        receivers: vec![(Kind::Instance, settings.node.instance.as_str(), &settings.notify)],
        script_user: None,
        fifo: None,
        mail: settings.mail.as_ref(),
        router_id: None,
    }
}

fn numbers(settings: &Settings) -> Numbers {
    Numbers::new(&settings.trackers, settings.track.interfaces.iter().map(|tracked| &tracked.name))
}

/// The core's view of what is tracked.
pub fn tracking(settings: &Settings) -> Tracking {
    let numbers = numbers(settings);
    Tracking {
        trackers: numbers.rules(&settings.trackers),
        tracks: numbers.tracks(&settings.trackers, &settings.track),
    }
}

/// The core's view of the settings.
pub fn rules(settings: &Settings) -> Rules {
    let nanos = |duration: std::time::Duration| Nanos(duration.as_nanos() as u64);
    let vrrp = &settings.vrrp;
    let version = match vrrp.version {
        VrrpVersion::V2 => 2,
        VrrpVersion::V3 => 3,
    };
    let start_wait = match &settings.pulse {
        Some(pulse) => pulse_wait(nanos(pulse.interval), u32::from(pulse.threshold)),
        None => master_down(version, vrrp.priority, nanos(vrrp.advert_interval)),
    };
    Rules {
        priority: vrrp.priority,
        addresses: (settings.node.address.into(), settings.node.peer.into()),
        adverts: vrrp.adverts,
        advert_interval: nanos(vrrp.advert_interval),
        start_wait,
        preempt: vrrp.preempt,
        preempt_delay: nanos(vrrp.preempt_delay),
        announce_repeat: settings.announce.repeat,
        announce_delay: nanos(settings.announce.delay),
        announce_refresh: nanos(settings.announce.refresh),
        announce_refresh_repeat: settings.announce.refresh_repeat,
        postgres: settings.postgres.is_some(),
        sync: match settings.postgres.as_ref().map(|postgres| postgres.sync) {
            Some(Sync::Required) => SyncPolicy::Required,
            Some(Sync::Preferred) => SyncPolicy::Preferred,
            Some(Sync::Off) | None => SyncPolicy::Off,
        },
        max_lag: settings.postgres.as_ref().map_or(0, |postgres| postgres.max_lag),
        lease: lease_rules(settings),
        probe_fall: settings.postgres.as_ref().map_or(1, |postgres| postgres.probe_fall),
    }
}
