//! Loads the program, attaches it, and pins its link and maps below the instance's folder.
//!
//! Pins keep detector and timers alive while the daemon is away. A later start finds the pinned maps, replaces the
//! program of the pinned link in place, and goes on: no packet passes unseen in between. The timers' callbacks belong
//! to the old program until the next packet of the peer sets the new one's.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use aya::maps::MapError;
use aya::pin::PinError;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use harbor_ha_ebpf::names;
use harbor_ha_ebpf::records::{
    Config, Flow, GateStats, Lease, Order, Own, PeerConfig, Secrets, Signs, Stats, TimedDetector,
};

use super::cgroup::CgroupError;
use super::link::{self, XdpHook};
use crate::config::settings::XdpMode as Wanted;

/// The object that `build.rs` made.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/harbor-ha-ebpf"));

/// An RCU grace period and a work queue: milliseconds, on any host that is of use.
const LINK_GONE: Duration = Duration::from_secs(1);

/// Why the kernel side cannot run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Built with `AYA_BUILD_SKIP=1`.
    #[error("this binary was built without its XDP program (AYA_BUILD_SKIP=1): build it again without that")]
    NoObject,
    /// The folder of the pins.
    #[error("cannot use `{path}` for pins: {source}; is a BPF file system mounted there (`mount -t bpf bpf {mount}`)?")]
    Pins {
        /// The instance's folder.
        path: PathBuf,
        /// The BPF file system.
        mount: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refuses the object.
    #[error("the kernel refused the XDP program or its maps: {}; `harbor-ha check` tells what this kernel can do", in_full(.0))]
    Load(#[from] EbpfError),
    /// The verifier's words, the program's mistake.
    #[error("the kernel refused the XDP program: {0}")]
    Program(#[source] ProgramError),
    /// The interface has no such hook.
    #[error("cannot attach the XDP program to `{interface}`: {}; another `kernel.xdp_mode` may do", in_full(source))]
    Attach {
        /// Interface.
        interface: String,
        /// What aya says, with the verifier's words.
        source: ProgramError,
    },
    /// Another XDP program is there already.
    #[error(
        "`{interface}` already runs another XDP program; it is left alone. Detach that one first \
         (`ip link set dev {interface} xdp off`) or run this instance on another interface"
    )]
    Foreign {
        /// Interface.
        interface: String,
    },
    /// A pin.
    #[error("cannot pin below `{path}`: {source}")]
    Pin {
        /// The instance's folder.
        path: PathBuf,
        /// What aya says.
        source: PinError,
    },
    /// A map.
    #[error("map `{name}`: {source}")]
    Map {
        /// Its name.
        name: &'static str,
        /// What aya says.
        source: MapError,
    },
    /// The gate's programs.
    #[error("cannot attach the gate to control group `{path}`: {}; another kernel.cgroup may do", in_full(source))]
    Gate {
        /// The group.
        path: PathBuf,
        /// What aya says.
        source: ProgramError,
    },
    /// The group that the gate shall guard.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A pin that cannot be exchanged or removed.
    #[error("cannot exchange the pin `{path}`: {source}")]
    Rename {
        /// The pin.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The link.
    #[error("cannot replace the program of the pinned link: {0}")]
    Link(#[from] LinkError),
}

impl LoadError {
    /// Whether the kernel has no objection but that this process may not.
    pub fn is_denied(&self) -> bool {
        let causes = std::iter::successors(Some(self as &dyn Error), |&error| error.source());
        // EACCES is the verifier's answer, about the program and not about us.
        causes
            .filter_map(|error| error.downcast_ref::<io::Error>())
            .any(|error| error.raw_os_error() == Some(libc::EPERM))
    }
}

/// An error with its causes, each once: aya's own words leave out what the kernel said.
fn in_full(error: &dyn Error) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |&error| error.source()).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// What a start adds to the pins of an instance, and takes away again unless it is told to keep it.
#[derive(Debug)]
pub struct Fresh {
    folder: PathBuf,
    /// Pins of an earlier run, which keep detector and timers alive: not ours to remove.
    before: Vec<&'static str>,
    keep: bool,
}

impl Fresh {
    /// Looks at what is there before anything is loaded.
    pub fn new(bpffs: &Path, instance: &str) -> Self {
        let folder = pin_folder(bpffs, instance);
        let before = pins().filter(|name| folder.join(name).exists()).collect();
        Self { folder, before, keep: false }
    }

    /// Whether an earlier run left this pin.
    pub fn had(&self, name: &str) -> bool {
        self.before.contains(&name)
    }

    /// The start went well.
    pub fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        for name in pins().filter(|name| !self.before.contains(name)) {
            let _absent = std::fs::remove_file(self.folder.join(name));
        }
        // Only when empty, each.
        let _kept = std::fs::remove_dir(&self.folder);
        let _kept = self.folder.parent().map(std::fs::remove_dir);
    }
}

/// Every pin of an instance, the links first: without them no packet touches the maps.
fn pins() -> impl Iterator<Item = &'static str> {
    names::LINKS.into_iter().chain(names::map::PINNED)
}

/// How the program is attached; shown in `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// In the driver.
    Native,
    /// On the socket buffer.
    Generic,
}

impl Attached {
    /// One word for `status`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// What [`attach`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// How.
    pub mode: Attached,
    /// An earlier run's link goes on: the program listened all the time.
    pub adopted: bool,
}

/// Folder of an instance's pins.
pub fn pin_folder(bpffs: &Path, instance: &str) -> PathBuf {
    bpffs.join(names::PIN_FOLDER).join(instance)
}

/// Loads the program with its maps pinned in `folder`, but attaches nothing yet.
///
/// # Errors
///
/// [`LoadError`]; nothing is attached then.
pub fn load(bpffs: &Path, instance: &str, trace: bool) -> Result<Ebpf, LoadError> {
    if OBJECT.is_empty() {
        return Err(LoadError::NoObject);
    }
    let folder = pin_folder(bpffs, instance);
    std::fs::create_dir_all(&folder).map_err(|source| LoadError::Pins {
        path: folder.clone(),
        mount: bpffs.to_owned(),
        source,
    })?;
    drop_outdated(&folder);
    let mut loader = EbpfLoader::new();
    // aya-log's levels: 0 removes every trace from the program before the verifier sees it.
    let level: u8 = if trace { 4 } else { 0 };
    loader.override_global("AYA_LOG_LEVEL", &level, true);
    for name in names::map::PINNED {
        loader.map_pin_path(name, folder.join(name));
    }
    let mut ebpf = loader.load(OBJECT)?;
    program(&mut ebpf).load().map_err(LoadError::Program)?;
    Ok(ebpf)
}

/// Attaches the loaded program to `interface` and pins the link.
///
/// # Errors
///
/// [`LoadError`]; the interface is as it was then.
pub fn attach(
    ebpf: &mut Ebpf,
    bpffs: &Path,
    instance: &str,
    interface: &str,
    wanted: Wanted,
) -> Result<Attachment, LoadError> {
    let folder = pin_folder(bpffs, instance);
    let pin = folder.join(names::XDP_LINK);
    let failed = |source| LoadError::Attach { interface: interface.to_owned(), source };
    if let Ok(link) = PinnedLink::from_pin(&pin) {
        match adopt(ebpf, link, interface, wanted) {
            Ok(mode) => return Ok(Attachment { mode, adopted: true }),
            Err(why) => tracing::warn!(why, "the pinned link is of no use any more, attaching anew"),
        }
        let _gone = std::fs::remove_file(&pin);
        wait_until_off(ebpf, interface);
    }
    let tries: &[(XdpMode, Attached)] = match wanted {
        Wanted::Auto => &[(XdpMode::Driver, Attached::Native), (XdpMode::Skb, Attached::Generic)],
        Wanted::Native => &[(XdpMode::Driver, Attached::Native)],
        Wanted::Generic => &[(XdpMode::Skb, Attached::Generic)],
    };
    let mut last = None;
    for &(mode, attached) in tries {
        match program(ebpf).attach(interface, mode) {
            Ok(id) => {
                let link = program(ebpf).take_link(id).map_err(failed)?;
                let link: FdLink = link.try_into()?;
                link.pin(&pin).map_err(|source| LoadError::Pin { path: folder, source })?;
                return Ok(Attachment { mode: attached, adopted: false });
            }
            Err(error) => {
                if is_busy(&error) {
                    return Err(LoadError::Foreign { interface: interface.to_owned() });
                }
                tracing::info!(%error, mode = attached.name(), "XDP mode refused");
                last = Some(error);
            }
        }
    }
    Err(failed(last.expect("at least one mode was tried")))
}

/// Puts the new program into the link that an earlier run pinned; says how that one is attached.
///
/// # Errors
///
/// Why the link is of no use: its interface went away and came back, or the configuration now wants another one, or
/// another mode. A link that stayed there would feed the detector nothing, and a living peer would count as dead.
fn adopt(ebpf: &mut Ebpf, link: PinnedLink, interface: &str, wanted: Wanted) -> Result<Attached, String> {
    let link = XdpLink::try_from(FdLink::from(link)).map_err(|error| error.to_string())?;
    let ours = program(ebpf);
    let id = ours.attach_to_link(link).map_err(|error| in_full(&error))?;
    let attached = ours.info().map_err(|error| in_full(&error)).and_then(|program| {
        let found = link::link(interface).map_err(|error| error.to_string())?;
        let found = found.and_then(|found| found.xdp.into_iter().find(|xdp| xdp.id == program.id()));
        match (found.map(|xdp| xdp.hook), wanted) {
            (Some(XdpHook::Native), Wanted::Auto | Wanted::Native) => Ok(Attached::Native),
            (Some(XdpHook::Generic), Wanted::Auto | Wanted::Generic) => Ok(Attached::Generic),
            (Some(hook), _) => Err(format!("it is attached in another mode: {hook:?}")),
            (None, _) => Err(format!("it does not lead to `{interface}`")),
        }
    });
    if attached.is_err() {
        // Else the program keeps it, and the interface with it.
        drop(ours.take_link(id));
    }
    attached
}

/// The kernel takes a link down a moment after its last pin and descriptor are gone, and takes no second mode meanwhile.
fn wait_until_off(ebpf: &mut Ebpf, interface: &str) {
    let Ok(ours) = program(ebpf).info().map(|info| info.id()) else { return };
    let begun = Instant::now();
    while begun.elapsed() < LINK_GONE {
        let there = link::link(interface).ok().flatten().is_some_and(|link| link.xdp.iter().any(|xdp| xdp.id == ours));
        if !there {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Removes every pin of an instance: the program leaves the interface, the maps leave the kernel.
///
/// # Errors
///
/// What the file system said; pins that were there before the failing one are gone.
pub fn detach(bpffs: &Path, instance: &str) -> io::Result<Vec<PathBuf>> {
    let folder = pin_folder(bpffs, instance);
    let mut removed = Vec::new();
    for name in pins() {
        let pin = folder.join(name);
        match std::fs::remove_file(&pin) {
            Ok(()) => removed.push(pin),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    for folder in [folder.as_path(), &bpffs.join(names::PIN_FOLDER)] {
        match std::fs::remove_dir(folder) {
            Ok(()) => removed.push(folder.to_owned()),
            // Not there, or other instances have pins in it.
            Err(_) => break,
        }
    }
    Ok(removed)
}

/// Pinned maps of an older layout cannot be adopted: their pins go, and with them what they knew.
fn drop_outdated(folder: &Path) {
    let sizes = [
        (names::map::CONFIG, size_of::<Config>()),
        (names::map::SECRETS, size_of::<Secrets>()),
        (names::map::PEER_CONFIG, size_of::<PeerConfig>()),
        (names::map::PEERS, size_of::<TimedDetector>()),
        (names::map::STATS, size_of::<Stats>()),
        (names::map::OWN, size_of::<Own>()),
        (names::map::SIGNS, size_of::<Signs>()),
        (names::map::ORDER, size_of::<Order>()),
        (names::map::LEASE, size_of::<Lease>()),
        (names::map::GATE_STATS, size_of::<GateStats>()),
        (names::map::FLOWS, size_of::<Flow>()),
    ];
    let outdated = sizes.iter().any(|&(name, size)| {
        aya::maps::MapInfo::from_pin(folder.join(name)).is_ok_and(|info| info.value_size() as usize != size)
    });
    if outdated {
        tracing::warn!(folder = %folder.display(), "the pinned maps are of another version; starting with new ones");
        for name in pins() {
            let _absent = std::fs::remove_file(folder.join(name));
        }
    }
}

fn program(ebpf: &mut Ebpf) -> &mut Xdp {
    let program = ebpf.program_mut(names::XDP_PROGRAM).expect("the object holds the program that it is built from");
    program.try_into().expect("it is an XDP program")
}

/// `EBUSY`: somebody else's program is attached.
fn is_busy(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::EBUSY))
}
