//! What this host can do, found by trying.
//!
//! A version number promises what a vendor's kernel may have left out, and a capability what a namespace may
//! refuse; so each ability is exercised once, on an object of its own that is gone when the answer is there.
//! Nothing on the host is changed. Each fact fails for itself: [`super::findings()`] says what that means.

use std::ffi::c_int;
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aya::maps::MapType;
use aya::programs::{ProgramError, ProgramType};
use aya::sys::{BpfHelper, SyscallError, is_helper_supported, is_map_supported, is_program_supported};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

pub use super::link::{Attached, Interface, Link, XdpHook};
use super::{cgroup, link};
use crate::config::settings::Settings;

/// Why a fact could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<nix::Error> for Unreadable {
    fn from(error: nix::Error) -> Self {
        Self(error.desc().to_owned())
    }
}

impl From<SyscallError> for Unreadable {
    fn from(error: SyscallError) -> Self {
        if error.io_error.raw_os_error() == Some(libc::ENOSYS) {
            return Self(format!("this kernel has no `{}` (CONFIG_BPF_SYSCALL)", error.call));
        }
        Self(format!("`{}`: {}", error.call, error.io_error))
    }
}

impl From<ProgramError> for Unreadable {
    fn from(error: ProgramError) -> Self {
        match error {
            ProgramError::SyscallError(error) => error.into(),
            error => Self(error.to_string()),
        }
    }
}

/// The facts about one host, for one configuration.
#[derive(Clone, Debug)]
pub struct Host {
    /// As `uname -r` prints it.
    pub release: Result<Release, Unreadable>,
    /// Effective ones of this process.
    pub capabilities: Result<Capabilities, Unreadable>,
    /// PostgreSQL's files and processes are another user's than this process's.
    pub foreign_postgres: bool,
    /// What bpf(2) allowed.
    pub bpf: Bpf,
    /// The control group that the gate guards; `None` without pulses, and so without a gate.
    pub cgroup: Option<Result<PathBuf, Unreadable>>,
    /// Whether a BPF file system is mounted at `node.bpffs`.
    pub bpffs: Result<bool, Unreadable>,
    /// All interfaces of this network namespace.
    pub interfaces: Result<Vec<Interface>, Unreadable>,
    /// `node.interface`; `None` when there is none of that name.
    pub link: Result<Option<Link>, Unreadable>,
    /// Whether a thread could take `SCHED_FIFO` at `realtime.priority`; `None` when that is 0.
    pub fifo: Option<Result<(), Unreadable>>,
    /// `RLIMIT_MEMLOCK` in bytes, `u64::MAX` without a limit.
    pub memory_lock: Result<u64, Unreadable>,
    /// What the kernel reads the time from.
    pub clock: Result<Clock, Unreadable>,
}

impl Host {
    /// Looks at this host and tries what `settings` will need. Takes a few milliseconds, in which it blocks.
    pub fn look(settings: &Settings) -> Self {
        Self {
            release: release(),
            capabilities: capabilities(),
            foreign_postgres: foreign_postgres(settings),
            bpf: bpf(),
            cgroup: settings.pulse.as_ref().map(|_| cgroup(settings.cgroup.as_deref())),
            bpffs: is_bpffs(&settings.node.bpffs),
            interfaces: link::interfaces(),
            link: link::link(&settings.node.interface),
            fifo: (settings.realtime.priority > 0).then(|| fifo(settings.realtime.priority)),
            memory_lock: getrlimit(Resource::RLIMIT_MEMLOCK).map(|(soft, _)| soft).map_err(Unreadable::from),
            clock: clock(),
        }
    }
}

/// A kernel version; ordered by its numbers, so that `Release::new(5, 15)` is a limit to compare with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    major: u32,
    minor: u32,
    text: String,
}

impl Release {
    /// The first release of a version.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor, text: String::new() }
    }

    /// `None` when `text` does not begin with two numbers.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(|c: char| !c.is_ascii_digit());
        let (major, minor) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { major, minor, text: text.to_owned() })
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.is_empty() { write!(f, "{}.{}", self.major, self.minor) } else { f.write_str(&self.text) }
    }
}

fn release() -> Result<Release, Unreadable> {
    let name = nix::sys::utsname::uname()?;
    let text = name.release().to_string_lossy();
    Release::parse(&text).ok_or_else(|| Unreadable(format!("`{text}` does not begin with a version")))
}

/// A capability that some part of the daemon needs; the number is the kernel's (`linux/capability.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "capabilities(7) describes them under these names")]
pub enum Capability {
    Chown = 0,
    DacOverride = 1,
    Kill = 5,
    SetGid = 6,
    SetUid = 7,
    NetAdmin = 12,
    NetRaw = 13,
    IpcLock = 14,
    SysPtrace = 19,
    SysAdmin = 21,
    SysNice = 23,
    Perfmon = 38,
    Bpf = 39,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chown => "CAP_CHOWN",
            Self::DacOverride => "CAP_DAC_OVERRIDE",
            Self::Kill => "CAP_KILL",
            Self::SetGid => "CAP_SETGID",
            Self::SetUid => "CAP_SETUID",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::IpcLock => "CAP_IPC_LOCK",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysNice => "CAP_SYS_NICE",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        })
    }
}

/// A set of capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Those of `list`.
    pub fn of(list: &[Capability]) -> Self {
        Self(list.iter().fold(0, |set, capability| set | 1 << *capability as u32))
    }

    /// Reads the line `CapEff:` of a `/proc/<pid>/status`.
    pub fn parse(status: &str) -> Option<Self> {
        let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(digits.trim(), 16).ok().map(Self)
    }

    /// What is needed and not in the set, with the purpose of each.
    pub fn missing(self, foreign_postgres: bool) -> Vec<(Capability, &'static str)> {
        let for_postgres = if foreign_postgres { &NEEDED_FOR_POSTGRES[..] } else { &[] };
        NEEDED.iter().chain(for_postgres).filter(|(capability, _)| !self.allows(*capability)).copied().collect()
    }

    /// Whether `capability` is in the set, or the one that it was split from.
    fn allows(self, capability: Capability) -> bool {
        let split = matches!(capability, Capability::Bpf | Capability::Perfmon);
        self.has(capability) || split && self.has(Capability::SysAdmin)
    }

    /// Whether `capability` is in the set.
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & 1 << capability as u32 != 0
    }
}

/// What the daemon cannot work without, and what for. Each was found by leaving it out.
const NEEDED: [(Capability, &str); 4] = [
    (Capability::NetAdmin, "attaches the XDP program and moves addresses"),
    (Capability::NetRaw, "sends adverts and gratuitous ARP"),
    (Capability::Bpf, "loads programs (CAP_SYS_ADMIN before 5.8)"),
    (Capability::Perfmon, "lets the verifier allow pointer arithmetic (CAP_SYS_ADMIN before 5.8)"),
];

/// The same for a PostgreSQL that belongs to another user.
const NEEDED_FOR_POSTGRES: [(Capability, &str); 6] = [
    (Capability::SetUid, "runs PostgreSQL's programs as the owner of its data directory"),
    (Capability::SetGid, "runs PostgreSQL's programs as the owner of its data directory"),
    (Capability::Kill, "stops PostgreSQL"),
    (Capability::Chown, "gives the files of a rejoin to PostgreSQL's user"),
    (Capability::DacOverride, "reads PostgreSQL's data directory"),
    (Capability::SysPtrace, "tells which processes work in PostgreSQL's data directory"),
];

/// Everything that the daemon insists on when PostgreSQL is another user's.
pub fn needed() -> impl Iterator<Item = Capability> {
    NEEDED.into_iter().chain(NEEDED_FOR_POSTGRES).map(|(capability, _)| capability)
}

/// What this process lacks of it, with the purpose of each; unreadable capabilities count as there.
pub fn missing(settings: &Settings) -> Vec<(Capability, &'static str)> {
    capabilities().map_or_else(|_| Vec::new(), |found| found.missing(foreign_postgres(settings)))
}

/// Whether PostgreSQL's files are another user's; one that cannot be seen is taken for such a one.
fn foreign_postgres(settings: &Settings) -> bool {
    let Some(postgres) = &settings.postgres else { return false };
    std::fs::metadata(&postgres.data_dir).map_or(true, |meta| meta.uid() != nix::unistd::geteuid().as_raw())
}

/// What this process may.
///
/// # Errors
///
/// `/proc` does not tell.
pub fn capabilities() -> Result<Capabilities, Unreadable> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    Capabilities::parse(&status).ok_or_else(|| Unreadable("`/proc/self/status` has no `CapEff`".into()))
}

/// What bpf(2) allowed; `Ok(false)` means that this kernel does not know it.
#[derive(Clone, Debug)]
pub struct Bpf {
    /// An array map of one element.
    pub array: Result<bool, Unreadable>,
    /// A ring buffer of one page.
    pub ring_buffer: Result<bool, Unreadable>,
    /// An XDP program of two instructions.
    pub xdp: Result<bool, Unreadable>,
    /// A cgroup-skb program of two instructions.
    pub cgroup_skb: Result<bool, Unreadable>,
    /// The verifier's answer to an XDP program that calls `bpf_timer_init`.
    pub timer: Result<bool, Unreadable>,
}

fn bpf() -> Bpf {
    Bpf {
        array: is_map_supported(MapType::Array).map_err(Unreadable::from),
        ring_buffer: is_map_supported(MapType::RingBuf).map_err(Unreadable::from),
        xdp: is_program_supported(ProgramType::Xdp).map_err(Unreadable::from),
        cgroup_skb: is_program_supported(ProgramType::CgroupSkb).map_err(Unreadable::from),
        timer: is_helper_supported(ProgramType::Xdp, BpfHelper::BPF_FUNC_timer_init).map_err(Unreadable::from),
    }
}

fn cgroup(wanted: Option<&Path>) -> Result<PathBuf, Unreadable> {
    cgroup::open(wanted).map(|(_, path)| path).map_err(|why| Unreadable(why.to_string()))
}

fn is_bpffs(path: &Path) -> Result<bool, Unreadable> {
    Ok(statfs(path)?.filesystem_type() == BPF_FS_MAGIC)
}

/// Tries `SCHED_FIFO` on a thread of its own: the policy is the thread's and ends with it.
fn fifo(priority: u8) -> Result<(), Unreadable> {
    let attempt = move || {
        let parameters = libc::sched_param { sched_priority: c_int::from(priority) };
        // Not sched_setscheduler(2): musl refuses that one for being per thread.
        // SAFETY: the thread is the calling one; `parameters` outlives the call, which only reads it.
        match unsafe { libc::pthread_setschedparam(libc::pthread_self(), libc::SCHED_FIFO, &parameters) } {
            0 => Ok(()),
            error => Err(Unreadable::from(nix::Error::from_raw(error))),
        }
    };
    let thread = std::thread::Builder::new().name("probe-fifo".into()).spawn(attempt)?;
    thread.join().unwrap_or_else(|_| Err(Unreadable("the thread that tried it panicked".into())))
}

/// The kernel's clocksource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clock {
    /// In use.
    pub current: String,
    /// To choose from.
    pub available: Vec<String>,
}

fn clock() -> Result<Clock, Unreadable> {
    let read = |name: &str| std::fs::read_to_string(format!("/sys/devices/system/clocksource/clocksource0/{name}"));
    let available = read("available_clocksource").unwrap_or_default();
    let available = available.split_whitespace().map(str::to_owned).collect();
    Ok(Clock { current: read("current_clocksource")?.trim().to_owned(), available })
}

/// The address in a socket address of IPv4.
pub(super) fn ipv4(address: &nix::sys::socket::SockaddrStorage) -> Option<Ipv4Addr> {
    address.as_sockaddr_in().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_their_numbers_and_show_as_they_were_read() {
        let vendor = Release::parse("5.10.134-16.3.al8.x86_64").unwrap();
        assert!(vendor < Release::new(5, 15) && vendor > Release::new(5, 8));
        assert!(Release::parse("5.15.0").unwrap() >= Release::new(5, 15));
        assert!(Release::parse("6.1-rc1").unwrap() > Release::new(5, 15));
        assert_eq!(vendor.to_string(), "5.10.134-16.3.al8.x86_64");
        assert_eq!(Release::parse("Linux"), None);
    }

    #[test]
    fn capabilities_are_read_from_the_status_of_a_process() {
        let status = "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t0000008000003000\nCapBnd:\t0\n";
        let found = Capabilities::parse(status).unwrap();
        assert_eq!(found, Capabilities::of(&[Capability::NetAdmin, Capability::NetRaw, Capability::Bpf]));
        assert!(found.has(Capability::Bpf) && !found.has(Capability::SysNice));
        assert_eq!(Capabilities::parse("Name:\tx\n"), None);
    }

    #[test]
    fn looking_at_any_host_fails_softly_and_leaves_the_thread_as_it_was() {
        // SAFETY: asks for the policy of the calling thread; no memory is involved.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        let before = policy();
        let host = Host {
            release: release(),
            capabilities: capabilities(),
            foreign_postgres: false,
            bpf: bpf(),
            cgroup: Some(cgroup(Some(Path::new("/proc")))),
            bpffs: is_bpffs(Path::new("/proc")),
            interfaces: link::interfaces(),
            link: link::link("lo"),
            fifo: Some(fifo(1)),
            memory_lock: Ok(0),
            clock: clock(),
        };
        assert_eq!(policy(), before);
        assert!(host.release.is_ok() && host.capabilities.is_ok());
        assert_eq!(host.bpffs, Ok(false));
        assert!(host.cgroup.is_some_and(|found| found.is_err()));
        assert!(is_bpffs(Path::new("/nowhere")).is_err());
    }
}
