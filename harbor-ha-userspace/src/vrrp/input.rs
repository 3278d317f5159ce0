//! What comes into the router.

use std::net::Ipv4Addr;

use harbor_ha_ebpf::decide::filter::Reject;
use harbor_ha_ebpf::units::Nanos;
use harbor_ha_ebpf::wire::vrrp::Advert;

use super::rules::{InstanceId, TrackerId};
use super::track::TrackValue;

/// Everything that can happen to a router.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Input {
    /// A well-formed advert that counts: right version, router id, sender, password.
    Advert(Heard),
    /// One that does not, and claims to be of this instance.
    Refused {
        /// Whose.
        instance: InstanceId,
        /// Its sender.
        from: Ipv4Addr,
        /// When the kernel received it.
        at: Nanos,
        /// Why.
        why: Reject,
        /// What the sender said, where that could be read.
        said: Option<Said>,
    },
    /// A fact.
    Tracked {
        /// Of which tracker.
        tracker: TrackerId,
        /// What.
        value: TrackValue,
    },
    /// Somebody took addresses of ours off their interface.
    AddressesGone(InstanceId),
    /// The instant that [`super::Actions::wake_at`] asked for, or any other. Only this lets timers run: the adapter
    /// brings every packet that has arrived first, so that a late daemon does not bury a living master.
    Wake,
    /// End: masters resign.
    Stop,
}

/// An advert that counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heard {
    /// Whose.
    pub instance: InstanceId,
    /// Its sender.
    pub from: Ipv4Addr,
    /// When the kernel received it.
    pub at: Nanos,
    /// What it says.
    pub advert: Advert,
    /// It lists the addresses that we have.
    pub same_addresses: bool,
}

/// What the sender of a refused advert said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its priority.
    pub priority: u8,
    /// Its interval.
    pub interval: Nanos,
}
