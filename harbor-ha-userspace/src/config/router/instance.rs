//! Judges one `[[instance]]`.

use std::net::Ipv4Addr;
use std::time::Duration;

use harbor_ha_ebpf::units::{Priority, Vrid};
use toml::de::DeValue;

use super::settings::{Announce, Checksum, Instance, Scope, VirtualAddress, Wish};
use super::shared::{self, Known};
use crate::config::check::{interface, interval_v2, interval_v3, pass, version};
use crate::config::reader::{Entry, Section};
use crate::config::secret::Secret;
use crate::config::settings::{Vip, VrrpVersion};
use crate::config::values::{self, Reading, boolean, duration, host_address, integer};

/// How many addresses an advert of ours carries at most (`wire::vrrp::ADDRESSES_MAX`).
pub(in crate::config) const MOST_VIPS: usize = harbor_ha_ebpf::wire::vrrp::ADDRESSES_MAX;
/// How many addresses an instance has at most beside those.
const MOST_EXCLUDED: usize = 1000;
/// keepalived's limit of preempt_delay.
const LONGEST_DELAY: Duration = Duration::from_secs(1000);

/// `known`: `None` when a list that it may refer to was found wrong.
pub(super) fn instance(section: &Section<'_>, known: Option<&Known>) -> Option<Instance> {
    let name = section.required("name", "\"VI_1\"", shared::name);
    let interface = section.required("interface", "\"eth0\"", interface);
    let version = section.or("version", VrrpVersion::V2, version);
    let vrid = section.required("vrid", "51", |value| integer(value, 1..=255u8));
    let priority = section.or("priority", Priority(100), |value| integer(value, 1..=255u8).map(Priority));
    let wishes = [("backup", Wish::Backup), ("master", Wish::Master)];
    // RFC 9568 §6.4.1, and keepalived where nothing is said.
    let usual = if priority == Some(Priority::OWNER) { Wish::Master } else { Wish::Backup };
    let state = section.or("state", usual, |value| values::word(value, &wishes));
    let any = Duration::from_millis(10)..=Duration::from_secs(255);
    let advert_interval = section.or("advert_interval", Duration::from_secs(1), |value| match version {
        Some(VrrpVersion::V2) => interval_v2(value),
        Some(VrrpVersion::V3) => interval_v3(value),
        None => duration(value, any.clone()),
    });
    let source = section.optional("source", host_address);
    let peers = peers(section, source.flatten());
    let unicast = peers.as_ref().map(|peers| !peers.is_empty());
    let ttl = section.or("ttl", 255, |value| integer(value, 1..=255u8));
    let min_ttl = section.or("min_ttl", 255, |value| integer(value, 0..=255u8));
    let check_source = section.or("check_source", true, boolean);
    let (vips, excluded_vips) = addresses(section, interface.as_deref());
    let password = password(section, version);
    let kinds = [("pseudo-header", Checksum::PseudoHeader), ("rfc9568", Checksum::Rfc9568), ("auto", Checksum::Auto)];
    let checksum = section.or("checksum", Checksum::PseudoHeader, |value| values::word(value, &kinds));
    let preempt = section.or("preempt", true, boolean);
    let preempt_delay =
        section.or("preempt_delay", Duration::ZERO, |value| duration(value, Duration::ZERO..=LONGEST_DELAY));
    let down_timer_adverts = section.or("down_timer_adverts", 3, |value| integer(value, 1..=100u8));
    let lower_prio_no_advert = section.or("lower_prio_no_advert", false, boolean);
    let higher_prio_send_advert = section.or("higher_prio_send_advert", false, boolean);
    let skip_check_adv_addr = section.or("skip_check_adv_addr", false, boolean);
    let track_primary = section.or("track_primary", true, boolean);
    let announce = announce(&section.table("announce", "instance.announce"));
    let track = shared::track(&section.table("track", "instance.track"), known);
    let notify = shared::notify(&section.table("notify", "instance.notify"), known);

    if unicast == Some(false) {
        for (key, value) in [("ttl", ttl), ("min_ttl", min_ttl)] {
            if value.is_some_and(|value| value != 255) {
                section.problem::<()>(key, "multicast adverts have a TTL of 255, always; remove it, or name `peers`");
            }
        }
    }
    if version == Some(VrrpVersion::V2) && checksum.is_some_and(|checksum| checksum != Checksum::PseudoHeader) {
        section.problem::<()>("checksum", "version 2 has one kind of checksum; remove it, or use version = 3");
    }
    if preempt == Some(false) && preempt_delay.is_some_and(|delay| !delay.is_zero()) {
        section.problem::<()>("preempt_delay", "does nothing while preempt is false; remove it");
    }
    if preempt == Some(false) && priority == Some(Priority::OWNER) {
        section.problem::<()>("preempt", "the owner of the address (priority 255) always preempts; remove it");
    }
    Some(Instance {
        name: name?,
        interface: interface?,
        version: version?,
        vrid: Vrid::new(vrid?)?,
        priority: priority?,
        state: state?,
        advert_interval: advert_interval?,
        source: source?,
        peers: peers?,
        ttl: ttl?,
        min_ttl: min_ttl?,
        check_source: check_source?,
        vips: vips?,
        excluded_vips: excluded_vips?,
        password: password?,
        checksum: checksum?,
        preempt: preempt?,
        preempt_delay: preempt_delay?,
        down_timer_adverts: down_timer_adverts?,
        lower_prio_no_advert: lower_prio_no_advert?,
        higher_prio_send_advert: higher_prio_send_advert?,
        skip_check_adv_addr: skip_check_adv_addr?,
        track_primary: track_primary?,
        announce: announce?,
        track: track?,
        notify: notify?,
    })
}

fn peers(section: &Section<'_>, source: Option<Ipv4Addr>) -> Option<Vec<Ipv4Addr>> {
    if !section.has("peers") {
        // So that it is a known key.
        section.optional("peers", |_| Ok(()));
        return Some(Vec::new());
    }
    let found = section.list("peers", "[\"10.0.0.2\"]", host_address)?;
    let judge = |(n, (line, peer)): (usize, &(usize, Option<Ipv4Addr>))| {
        let peer = (*peer)?;
        let text = if source == Some(peer) {
            format!("{peer} is this node's own address (source); name the others alone")
        } else if found[..n].iter().any(|(_, earlier)| *earlier == Some(peer)) {
            format!("{peer} is there twice; remove one of them")
        } else {
            return Some(peer);
        };
        section.problem_at(Some(*line), &format!("peers[{n}]"), text)
    };
    found.iter().enumerate().map(judge).collect::<Vec<_>>().into_iter().collect()
}

type Addresses = Option<Vec<VirtualAddress>>;

/// `vips` and `excluded_vips`, none of them twice.
fn addresses(section: &Section<'_>, interface: Option<&str>) -> (Addresses, Addresses) {
    let mut seen: Vec<(Ipv4Addr, String)> = Vec::new();
    let mut read = |key: &str, most: usize| -> Addresses {
        let entries = section.entries(key, "instance.vip")?;
        if let Some((line, _)) = entries.get(most) {
            let text = format!("{} addresses are more than {most}; remove {}", entries.len(), entries.len() - most);
            return section.problem_at(Some(*line), key, text);
        }
        let mut judge = |(n, (line, entry)): (usize, (usize, Option<Entry<'_>>))| {
            let place = format!("{key}[{n}]");
            let found = match entry? {
                Entry::Name(text) => match vip(&text) {
                    Ok(Vip { address, prefix }) => {
                        let interface = interface.unwrap_or_default().to_owned();
                        VirtualAddress { address, prefix, interface, label: None, scope: Scope::Global }
                    }
                    Err(why) => return section.problem_at(Some(line), &place, why),
                },
                Entry::Table(table) => address_table(&table, interface)?,
            };
            let same = (found.address, found.interface.clone());
            if seen.contains(&same) {
                let text = format!("{} is there twice; remove one of them", found.address);
                return section.problem_at(Some(line), &place, text);
            }
            seen.push(same);
            Some(found)
        };
        entries.into_iter().enumerate().map(&mut judge).collect::<Vec<_>>().into_iter().collect()
    };
    let vips = read("vips", MOST_VIPS);
    let excluded = read("excluded_vips", MOST_EXCLUDED);
    if let (Some([]), Some([])) = (vips.as_deref(), excluded.as_deref())
        && !section.has("vips")
    {
        return (section.missing("vips", "[\"10.0.0.5/32\"]"), excluded);
    }
    (vips, excluded)
}

fn vip(text: &str) -> Reading<Vip> {
    values::vip(&DeValue::String(text.to_owned().into()))
}

fn address_table(table: &Section<'_>, instance: Option<&str>) -> Option<VirtualAddress> {
    let address = table.required("address", "\"10.0.0.5/32\"", values::vip);
    let device = table.or("interface", instance.unwrap_or_default().to_owned(), interface);
    let label = table.optional("label", label);
    let scopes = [("global", Scope::Global), ("site", Scope::Site), ("link", Scope::Link), ("host", Scope::Host)];
    let scope = table.or("scope", Scope::Global, |value| values::word(value, &scopes));
    let Vip { address, prefix } = address?;
    Some(VirtualAddress { address, prefix, interface: device?, label: label?, scope: scope? })
}

/// The kernel's limit is that of a name of an interface (`IFA_LABEL`).
pub(in crate::config) fn label(value: &DeValue<'_>) -> Reading<String> {
    let text = values::line(value)?;
    if text.is_empty() || text.len() > 15 || text.contains(|c: char| c == '/' || c.is_whitespace()) {
        return Err(format!("{text:?} would not do as a label; use 1 to 15 bytes, like \"eth0:1\""));
    }
    Ok(text)
}

/// What the kernel takes for a name; `lo` may be tracked.
pub(in crate::config) fn interface_name(text: &str) -> Reading<()> {
    if text == "lo" {
        return Ok(());
    }
    interface(&DeValue::String(text.to_owned().into())).map(|_| ())
}

fn password(section: &Section<'_>, version: Option<VrrpVersion>) -> Option<Option<Secret<[u8; 8]>>> {
    match (version, section.secret("password")?) {
        (_, None) => Some(None),
        (Some(VrrpVersion::V3), Some(_)) => section.problem(
            &section.source("password"),
            "version 3 has no authentication (RFC 9568 §9); remove the password, or use version = 2",
        ),
        (_, Some(password)) => pass(section, &password).map(Some),
    }
}

fn announce(section: &Section<'_>) -> Option<Announce> {
    let hour = Duration::from_secs(3600);
    let length = |value: &DeValue<'_>| duration(value, Duration::ZERO..=hour);
    let repeat = section.or("repeat", 5, |value| integer(value, 1..=100u32));
    let delay = section.or("delay", Duration::from_secs(5), length);
    let refresh = section.or("refresh", Duration::ZERO, length);
    let refresh_repeat = section.or("refresh_repeat", 1, |value| integer(value, 1..=100u32));
    let interval =
        section.or("interval", Duration::ZERO, |value| duration(value, Duration::ZERO..=Duration::from_secs(60)));
    let lower_priority_repeat =
        section.or("lower_priority_repeat", repeat.unwrap_or(5), |value| integer(value, 0..=100u32));
    let lower_priority_delay = section.or("lower_priority_delay", delay.unwrap_or_default(), length);
    if refresh.is_some_and(|refresh| !refresh.is_zero() && refresh < Duration::from_millis(100)) {
        section
            .problem::<()>("refresh", "more than ten a second only load the network; use \"100ms\" or more, or \"0s\"");
    }
    Some(Announce {
        repeat: repeat?,
        delay: delay?,
        refresh: refresh?,
        refresh_repeat: refresh_repeat?,
        interval: interval?,
        lower_priority_repeat: lower_priority_repeat?,
        lower_priority_delay: lower_priority_delay?,
    })
}
