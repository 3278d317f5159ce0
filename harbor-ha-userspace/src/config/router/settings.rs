//! What the daemon knows of the router form: checked values, no text. Made by [`crate::config::read`] only.
// size: one list of types

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use harbor_ha_ebpf::units::{Priority, Vrid};

use crate::config::secret::Secret;
use crate::config::settings::cloud::Cloud;
use crate::config::settings::{Login, Realtime, VrrpVersion};

/// Plain VRRP, as many instances as there are; no PostgreSQL, no pulses, no lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `[router]`
    pub router: Router,
    /// `[[instance]]`, at least one; names are unique.
    pub instances: Vec<Instance>,
    /// `[[group]]`
    pub groups: Vec<Group>,
    /// `[[script]] [[process]] [[file]]`
    pub trackers: Trackers,
    /// `[mail]`
    pub mail: Option<Mail>,
    /// `[realtime]`
    pub realtime: Realtime,
    /// `[observe]`: where metrics and the status are served over HTTP; `None`: nowhere.
    pub observe: Option<SocketAddr>,
    /// `[cloud]`: the HaVip that one of the virtual addresses is; nobody is fenced.
    pub cloud: Option<Cloud>,
}

impl Settings {
    /// The instance that has the HaVip's address, with its place in the list; `None` without `[cloud]`.
    pub fn of_havip(&self) -> Option<(usize, &Instance, &Cloud)> {
        let cloud = self.cloud.as_ref()?;
        let has = |instance: &Instance| instance.addresses().any(|vip| vip.address == cloud.address);
        let index = self.instances.iter().position(has)?;
        Some((index, &self.instances[index], cloud))
    }
}

/// What the instances share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Router {
    /// Names the status socket and the lock.
    pub name: String,
    /// Names this host in mails; `None`: the host's name.
    pub router_id: Option<String>,
    /// Status socket and lock.
    pub runtime_dir: PathBuf,
    /// After the start: adverts are neither sent nor heard for so long.
    pub startup_delay: Duration,
    /// The same, counted from the boot of the host.
    pub delay_after_boot: Duration,
    /// Who runs scripts that name nobody; `None`: `keepalived_script` if there is such a user, else the daemon's.
    pub script_user: Option<Account>,
    /// Where events are written to.
    pub fifo: Option<Fifo>,
}

/// A named pipe with one line per event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fifo {
    /// The pipe; made when it is not there.
    pub path: PathBuf,
    /// Its owner; `None`: as [`Router::script_user`].
    pub user: Option<Account>,
    /// What reads it, started by the daemon with the path as its last argument.
    pub reader: Option<Run>,
}

/// One virtual router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Names it to scripts, mails and operators.
    pub name: String,
    /// Where its adverts go and its addresses are.
    pub interface: String,
    /// 2 or 3.
    pub version: VrrpVersion,
    /// Virtual router id.
    pub vrid: Vrid,
    /// 1 to 254, or 255 for the address owner.
    pub priority: Priority,
    /// How an owner of the addresses (priority 255) starts; of no effect below.
    pub state: Wish,
    /// Between adverts.
    pub advert_interval: Duration,
    /// Source of the adverts; `None`: the first address of the interface.
    pub source: Option<Ipv4Addr>,
    /// Whom the adverts go to; empty: multicast.
    pub peers: Vec<Ipv4Addr>,
    /// TTL of the adverts; multicast: always 255.
    pub ttl: u8,
    /// Adverts below this TTL are dropped; multicast: always 255. 0: any.
    pub min_ttl: u8,
    /// Unicast: adverts of others than [`Self::peers`] are dropped.
    pub check_source: bool,
    /// Virtual addresses, in the order of the adverts; at most 20.
    pub vips: Vec<VirtualAddress>,
    /// Put up and announced like those, and not advertised.
    pub excluded_vips: Vec<VirtualAddress>,
    /// VRRPv2 PASS authentication, zero-filled to eight bytes.
    pub password: Option<Secret<[u8; 8]>>,
    /// What the checksum of version 3 covers.
    pub checksum: Checksum,
    /// Whether a higher priority takes over from a living peer.
    pub preempt: bool,
    /// How long a preempting node waits.
    pub preempt_delay: Duration,
    /// Intervals without an advert until the master counts as gone, 1 to 100.
    pub down_timer_adverts: u8,
    /// A master says nothing to an advert of lower priority.
    pub lower_prio_no_advert: bool,
    /// A master that yields sends one more advert, so that the new one announces itself again.
    pub higher_prio_send_advert: bool,
    /// The addresses in an advert are not compared again while it comes from the same source.
    pub skip_check_adv_addr: bool,
    /// The loss of [`Self::interface`] is a fault.
    pub track_primary: bool,
    /// `[instance.announce]`
    pub announce: Announce,
    /// `[instance.track]`
    pub track: Track,
    /// `[instance.notify]`
    pub notify: Notify,
}

impl Instance {
    /// All that it puts up.
    pub fn addresses(&self) -> impl Iterator<Item = &VirtualAddress> {
        self.vips.iter().chain(&self.excluded_vips)
    }
}

/// How an instance of priority 255 starts. All others wait one Master_Down_Interval, whatever they wish for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It waits one Master_Down_Interval first.
    Backup,
    /// It serves at once.
    Master,
}

/// What the checksum of a version 3 advert over IPv4 covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// A pseudo header too (RFC 5798 as keepalived reads it).
    PseudoHeader,
    /// The message alone (RFC 9568 §5.2.8).
    Rfc9568,
    /// Sent with a pseudo header, heard with and without one.
    Auto,
}

/// A virtual address and where it is put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualAddress {
    /// The address.
    pub address: Ipv4Addr,
    /// 1 to 32.
    pub prefix: u8,
    /// The interface that gets it.
    pub interface: String,
    /// Name of the address, `eth0:1`.
    pub label: Option<String>,
    /// `rtnetlink`'s scope.
    pub scope: Scope,
}

/// Scope of an address, with the numbers of `rtnetlink`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Scope {
    /// Valid everywhere.
    Global = 0,
    /// Within a site.
    Site = 200,
    /// On this link.
    Link = 253,
    /// On this host.
    Host = 254,
}

/// Gratuitous ARP, with keepalived's meaning of the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// How many at once.
    pub repeat: u32,
    /// Until the second burst; zero: there is none.
    pub delay: Duration,
    /// Between refreshes; zero: none.
    pub refresh: Duration,
    /// How many per refresh.
    pub refresh_repeat: u32,
    /// Between two on one interface.
    pub interval: Duration,
    /// How many when a master hears an advert of lower priority.
    pub lower_priority_repeat: u32,
    /// Until the second burst after such an advert; zero: there is none.
    pub lower_priority_delay: Duration,
}

/// What decides on the priority and on FAULT. Weight and direction are resolved: the list's own, or the tracker's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Track {
    /// Interfaces by name.
    pub interfaces: Vec<Tracked>,
    /// Names of [`Script`]s.
    pub scripts: Vec<Tracked>,
    /// Names of [`Process`]es.
    pub processes: Vec<Tracked>,
    /// Names of [`File`]s.
    pub files: Vec<Tracked>,
}

impl Track {
    /// Whether nothing is tracked.
    pub fn is_empty(&self) -> bool {
        [&self.interfaces, &self.scripts, &self.processes, &self.files].iter().all(|list| list.is_empty())
    }
}

/// Something tracked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// The interface or tracker.
    pub name: String,
    /// 0: a failure is a FAULT. Above: added while all is well. Below: subtracted while it is not. Of files: a factor.
    pub weight: i32,
    /// Success counts as failure and the other way round.
    pub reverse: bool,
}

/// What runs and who hears of a change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// On becoming master.
    pub master: Option<Run>,
    /// On becoming backup.
    pub backup: Option<Run>,
    /// On a fault.
    pub fault: Option<Run>,
    /// At the end of the daemon.
    pub stop: Option<Run>,
    /// On each of these, afterwards, with type, name, state and priority as further arguments.
    pub all: Option<Run>,
    /// When a master hears an advert of lower priority.
    pub lower_priority: Option<Run>,
    /// Limit of each.
    pub timeout: Duration,
    /// What they leave in the background lives on; else it is ended with them.
    pub leave_background: bool,
    /// A mail for each change of state; there is a [`Mail`] then.
    pub mail: bool,
    /// A line in the FIFO for each change of the priority.
    pub priority_changes: bool,
}

/// A program, its arguments, and who runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Absolute path and arguments; no shell is between.
    pub words: Vec<String>,
    /// `None`: as [`Router::script_user`].
    pub user: Option<Account>,
}

/// Who runs something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Name of a user.
    pub user: String,
    /// Name of a group; `None`: the user's own.
    pub group: Option<String>,
}

impl fmt::Display for Account {
    /// `user` or `user:group`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.user)?;
        self.group.iter().try_for_each(|group| write!(f, ":{group}"))
    }
}

/// Instances that change their state together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Names it to scripts, mails and operators.
    pub name: String,
    /// Names of [`Instance`]s, at least one; each is in one group at most.
    pub instances: Vec<String>,
    /// Weights change the priorities of the members; else only a FAULT counts.
    pub tracking_weight: bool,
    /// `[group.track]`
    pub track: Track,
    /// `[group.notify]`
    pub notify: Notify,
}

/// Everything that can be tracked by name; names are unique within a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trackers {
    /// `[[script]]`
    pub scripts: Vec<Script>,
    /// `[[process]]`
    pub processes: Vec<Process>,
    /// `[[file]]`
    pub files: Vec<File>,
}

/// A program that is run again and again; it succeeds with exit status 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Its name.
    pub name: String,
    /// What runs.
    pub run: Run,
    /// From start to start.
    pub interval: Duration,
    /// Then it has failed.
    pub timeout: Duration,
    /// Successes in a row until it counts as well.
    pub rise: u32,
    /// Failures in a row until it counts as failed.
    pub fall: u32,
    /// See [`Tracked::weight`].
    pub weight: i32,
    /// See [`Tracked::reverse`].
    pub reverse: bool,
    /// Counts as failed until it has succeeded.
    pub init_fail: bool,
}

/// Processes that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its name.
    pub name: String,
    /// Name of the program: what the kernel calls the process, or with [`Self::arguments`] its first word.
    pub process: String,
    /// The arguments that it must have; `None`: any.
    pub arguments: Option<Vec<String>>,
    /// How they are compared.
    pub matching: Matching,
    /// So many are enough.
    pub quorum: u32,
    /// More are too many.
    pub quorum_max: Option<u32>,
    /// See [`Tracked::weight`].
    pub weight: i32,
    /// See [`Tracked::reverse`].
    pub reverse: bool,
    /// How long there must be enough of them until they count.
    pub fork_delay: Duration,
    /// How long there must be too few of them until that counts.
    pub terminate_delay: Duration,
}

/// How arguments are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matching {
    /// All of them.
    Exact,
    /// As many as are named; the last may be longer.
    Initial,
    /// As many as are named.
    Partial,
}

/// A file that holds a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// The factor; 0: a number other than 0 is a FAULT.
    pub weight: i32,
    /// The factor counts with the other sign.
    pub reverse: bool,
    /// The number that the daemon writes to it at the start.
    pub init: Option<i32>,
    /// It is written also when the file is there.
    pub overwrite: bool,
}

/// Mail by SMTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Name or address of the server.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// Sender.
    pub from: String,
    /// Recipients, at least one.
    pub to: Vec<String>,
    /// What we call ourselves; `None`: the host's name.
    pub helo: Option<String>,
    /// Limit of one mail.
    pub timeout: Duration,
    /// Whether to speak TLS.
    pub tls: MailTls,
    /// Who we are there.
    pub login: Option<Login>,
    /// Also when an instance goes to FAULT.
    pub faults: bool,
    /// What [`Notify::mail`] is where it is not set.
    pub all: bool,
}

/// TLS of the mails (STARTTLS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailTls {
    /// In clear, as keepalived does.
    None,
    /// If the server offers it.
    Opportunistic,
    /// Or no mail.
    Required,
}
