//! Which packets count. What claims to be ours and is wrong is dropped, under a reason of its own.

use crate::records::{Config, Secrets, Stats};
use crate::wire::pulse::Pulse;
use crate::wire::vrrp::Advert;

/// Why a packet that claims to be ours is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reject {
    /// The sender is no configured peer.
    Source,
    /// Time to live below the limit: it was routed, or forged from afar.
    Ttl,
    /// Shorter or longer than the layout says, or a fragment.
    Length,
    /// A version that we do not speak here.
    Version,
    /// A VRRP type other than advertisement.
    Type,
    /// No address, or more than twenty.
    Addresses,
    /// The VRRP checksum is wrong.
    Checksum,
    /// Another virtual router.
    Vrid,
    /// VRRPv2: the authentication type differs from ours.
    AuthType,
    /// VRRPv2: the password differs from ours.
    Password,
    /// An interval of zero; VRRPv2: an interval other than ours (RFC 3768 §7.1).
    Interval,
    /// On the pulse port, but no pulse.
    Magic,
    /// The pulse's MAC is wrong: another key, or a changed packet.
    Mac,
    /// A pulse of another cluster.
    Cluster,
    /// A pulse that is not newer than the last one.
    Sequence,
    /// A reflection that answers no open question of ours.
    Reflection,
}

impl Reject {
    /// All reasons, in the order of the counters.
    pub const ALL: [Self; 16] = [
        Self::Source,
        Self::Ttl,
        Self::Length,
        Self::Version,
        Self::Type,
        Self::Addresses,
        Self::Checksum,
        Self::Vrid,
        Self::AuthType,
        Self::Password,
        Self::Interval,
        Self::Magic,
        Self::Mac,
        Self::Cluster,
        Self::Sequence,
        Self::Reflection,
    ];

    /// Its counter.
    #[inline(always)]
    pub const fn counter(self, stats: &mut Stats) -> &mut u64 {
        match self {
            Self::Source => &mut stats.reject_source,
            Self::Ttl => &mut stats.reject_ttl,
            Self::Length => &mut stats.reject_length,
            Self::Version => &mut stats.reject_version,
            Self::Type => &mut stats.reject_type,
            Self::Addresses => &mut stats.reject_addresses,
            Self::Checksum => &mut stats.reject_checksum,
            Self::Vrid => &mut stats.reject_vrid,
            Self::AuthType => &mut stats.reject_auth_type,
            Self::Password => &mut stats.reject_password,
            Self::Interval => &mut stats.reject_interval,
            Self::Magic => &mut stats.reject_magic,
            Self::Mac => &mut stats.reject_mac,
            Self::Cluster => &mut stats.reject_cluster,
            Self::Sequence => &mut stats.reject_sequence,
            Self::Reflection => &mut stats.reject_reflection,
        }
    }

    /// Its name in tables and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Ttl => "ttl",
            Self::Length => "length",
            Self::Version => "version",
            Self::Type => "type",
            Self::Addresses => "addresses",
            Self::Checksum => "checksum",
            Self::Vrid => "vrid",
            Self::AuthType => "auth_type",
            Self::Password => "password",
            Self::Interval => "interval",
            Self::Magic => "magic",
            Self::Mac => "mac",
            Self::Cluster => "cluster",
            Self::Sequence => "sequence",
            Self::Reflection => "reflection",
        }
    }
}

/// Whether a well-formed advert counts here (RFC 9568 §7.1, RFC 3768 §7.1).
///
/// # Errors
///
/// The first rule that it breaks.
#[inline(always)]
pub fn advert(advert: &Advert, config: &Config, secrets: &Secrets) -> Result<(), Reject> {
    if advert.version != config.vrrp_version {
        return Err(Reject::Version);
    }
    if advert.vrid != config.vrid {
        return Err(Reject::Vrid);
    }
    if advert.version == 2 {
        if advert.auth_type != config.auth_type {
            return Err(Reject::AuthType);
        }
        // Compared as two words, in constant time; a password in clear deserves no more.
        if config.auth_type != 0 && u64::from_ne_bytes(advert.auth_data) != u64::from_ne_bytes(secrets.password) {
            return Err(Reject::Password);
        }
        if advert.interval.0 != config.advert_interval_ns {
            return Err(Reject::Interval);
        }
    }
    Ok(())
}

/// Whether an authentic pulse counts here. `last` is the sequence of the peer's last pulse, or, for a reflection, that of
/// our last pulse that was answered; `sent` is that of our newest one.
///
/// # Errors
///
/// The first rule that it breaks.
#[inline(always)]
pub fn pulse(pulse: &Pulse, config: &Config, last: u64, sent: u64) -> Result<(), Reject> {
    if pulse.cluster_id != config.cluster_id {
        return Err(Reject::Cluster);
    }
    if pulse.vrid != config.vrid {
        return Err(Reject::Vrid);
    }
    if pulse.interval_us == 0 || pulse.threshold == 0 {
        return Err(Reject::Interval);
    }
    if pulse.is_reflection() {
        if pulse.sequence <= last || pulse.sequence > sent {
            return Err(Reject::Reflection);
        }
    } else if pulse.sequence <= last {
        return Err(Reject::Sequence);
    }
    Ok(())
}
