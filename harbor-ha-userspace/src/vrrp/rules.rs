//! What the engine needs of the configuration. Ranges are types: what cannot be written on the wire cannot be built.

use std::net::Ipv4Addr;
use std::num::NonZeroU8;

use harbor_ha_ebpf::units::{Centis, Nanos, Priority, Vrid, skew, skew_v2};

use super::track::{Track, TrackerRules};

/// Index into [`Rules::instances`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u16);

/// Index into [`Rules::groups`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u16);

/// Index into [`Rules::trackers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackerId(pub u16);

/// A whole router.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Adverts are ignored and none is sent until so long after the start (`vrrp_startup_delay`).
    pub startup_delay: Nanos,
    /// The same, until so long after the boot, where `CLOCK_MONOTONIC` begins (`vrrp_delay_after_boot`).
    pub delay_after_boot: Nanos,
    /// Its virtual routers.
    pub instances: Vec<InstanceRules>,
    /// Those of them that move together.
    pub groups: Vec<GroupRules>,
    /// What is watched: interfaces, scripts, processes, files.
    pub trackers: Vec<TrackerRules>,
}

/// One virtual router.
#[derive(Clone, Debug)]
pub struct InstanceRules {
    /// Its name in logs and notifications.
    pub name: String,
    /// Its number on the wire.
    pub vrid: Vrid,
    /// Version and interval, which have no meaning without each other.
    pub protocol: Protocol,
    /// Its priority before trackers move it.
    pub priority: Base,
    /// Whether an owner is master at once (RFC 9568 §6.4.1); otherwise it waits one Master_Down_Interval, as an owner with
    /// keepalived's `state BACKUP` does. Of no meaning to others.
    pub owns_at_once: bool,
    /// The address that its adverts come from: equal priorities are decided by the greater one (RFC 9568 §6.4.3).
    pub source: Ipv4Addr,
    /// Whether it takes over from a living master of a lower priority.
    pub preempt: bool,
    /// How long it bears with such a master first.
    pub preempt_delay: Nanos,
    /// Missed adverts until the master is dead.
    pub down_adverts: DownAdverts,
    /// A master does not answer a weaker advert by one of its own: the rule before RFC 9568.
    pub lower_prio_no_advert: bool,
    /// A master that yields says so by one more advert, so that the winner announces its addresses again.
    pub higher_prio_send_advert: bool,
    /// Another list of addresses is looked for only when the sender changes.
    pub skip_check_adv_addr: bool,
    /// Gratuitous ARPs.
    pub announce: Announce,
    /// What moves its priority or stops it.
    pub tracks: Vec<Track>,
    /// Whether a change of its priority is an event.
    pub priority_changes: bool,
}

/// Instances that are masters together or not at all (`vrrp_sync_group`).
#[derive(Clone, Debug)]
pub struct GroupRules {
    /// Its name in logs and notifications.
    pub name: String,
    /// Its members; an instance is in one group at most.
    pub instances: Vec<InstanceId>,
    /// What stops or weighs each of its members, besides their own.
    pub tracks: Vec<Track>,
    /// Weights of the members' trackers count. Otherwise each of them is an obstacle, as with a weight of zero: members
    /// whose priorities differ would never be masters together.
    pub tracking_weight: bool,
}

/// Version and advertisement interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 3768: whole seconds.
    V2(NonZeroU8),
    /// RFC 9568: hundredths of a second.
    V3(Centis),
}

impl Protocol {
    /// The version on the wire.
    pub const fn version(self) -> u8 {
        match self {
            Self::V2(_) => 2,
            Self::V3(_) => 3,
        }
    }

    /// Between two adverts of ours.
    pub const fn interval(self) -> Nanos {
        match self {
            Self::V2(seconds) => Nanos::from_secs(seconds.get() as u64),
            Self::V3(centis) => centis.nanos(),
        }
    }

    /// The interval in the units of the wire.
    pub const fn on_the_wire(self) -> u16 {
        match self {
            Self::V2(seconds) => seconds.get() as u16,
            Self::V3(centis) => centis.as_u16(),
        }
    }

    /// Skew_Time against a master that advertises every `interval` (RFC 3768 §6.1, RFC 9568 §6.1).
    pub const fn skew(self, mine: Priority, interval: Nanos) -> Nanos {
        match self {
            Self::V2(_) => skew_v2(mine),
            Self::V3(_) => skew(mine, interval),
        }
    }

    /// Master_Down_Interval, likewise, with keepalived's count of adverts in place of the RFCs' three.
    pub const fn master_down(self, mine: Priority, interval: Nanos, adverts: DownAdverts) -> Nanos {
        interval.times(adverts.0.get() as u64).after(self.skew(mine, interval))
    }
}

/// A configured priority: 1 to 255, and 255 owns the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base(NonZeroU8);

impl Base {
    /// `None` for 0, which resigns and cannot be configured.
    pub const fn new(priority: u8) -> Option<Self> {
        match NonZeroU8::new(priority) {
            Some(priority) => Some(Self(priority)),
            None => None,
        }
    }

    /// As it is on the wire while nothing moves it.
    pub const fn priority(self) -> Priority {
        Priority(self.0.get())
    }

    /// Trackers do not move an owner (RFC 9568 §5.2.4).
    pub const fn is_owner(self) -> bool {
        self.0.get() == Priority::OWNER.0
    }
}

/// Adverts that a master may miss (`vrrp_down_timer_adverts`): 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DownAdverts(NonZeroU8);

impl DownAdverts {
    /// What both RFCs say.
    pub const RFC: Self = Self(NonZeroU8::new(3).expect("three is not zero"));

    /// `None` outside 1 to 100.
    pub const fn new(count: u8) -> Option<Self> {
        match NonZeroU8::new(count) {
            Some(some) if count <= 100 => Some(Self(some)),
            _ => None,
        }
    }
}

/// Gratuitous ARPs per address. The gap between two on one interface is the adapter's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// At once when the addresses are up, and again after `delay`.
    pub repeat: u32,
    /// Until the second burst; zero: none.
    pub delay: Nanos,
    /// Between refreshes; zero: none.
    pub refresh: Nanos,
    /// In each refresh.
    pub refresh_repeat: u32,
    /// When a weaker advert was heard: somebody may have announced the addresses as its own.
    pub lower_priority_repeat: u32,
    /// Until the second burst after that; zero: none.
    pub lower_priority_delay: Nanos,
}

impl Announce {
    /// keepalived's own values.
    pub const KEEPALIVED: Self = Self {
        repeat: 5,
        delay: Nanos::from_secs(5),
        refresh: Nanos(0),
        refresh_repeat: 1,
        lower_priority_repeat: 5,
        lower_priority_delay: Nanos::from_secs(5),
    };
}
