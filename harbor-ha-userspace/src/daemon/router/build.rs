//! From settings to the router's rules, and to what its adapters need.

use std::net::Ipv4Addr;
use std::time::Duration;

use harbor_ha_ebpf::records::Config;
use harbor_ha_ebpf::units::{Centis, Nanos};
use harbor_ha_ebpf::wire::vrrp::{Checksum as Form, auth};

use super::desk::Spot;
use super::engine::Speaker;
use crate::config::router::settings::{Checksum, Instance, Settings, VirtualAddress, Wish};
use crate::config::settings::VrrpVersion;
use crate::daemon::tracking::Numbers;
use crate::net::netlink::Place;
use crate::vrrp::rules::{Announce, Base, DownAdverts, GroupRules, InstanceRules, Protocol};
use crate::vrrp::track::Track;
use crate::vrrp::{InstanceId, Rules};

/// Interfaces by name, each once, in the order in which the settings name them.
#[derive(Debug, Default)]
pub(super) struct Interfaces(Vec<String>);

impl Interfaces {
    /// All that instances speak on or put addresses on.
    pub fn of(settings: &Settings) -> Self {
        let mut all = Self::default();
        for instance in &settings.instances {
            let vips = instance.vips.iter().chain(&instance.excluded_vips).map(|vip| &vip.interface);
            for name in std::iter::once(&instance.interface).chain(vips) {
                if !all.0.contains(name) {
                    all.0.push(name.clone());
                }
            }
        }
        all
    }

    pub fn names(&self) -> &[String] {
        &self.0
    }

    fn index(&self, name: &str) -> usize {
        self.0.iter().position(|known| known == name).unwrap_or(0)
    }
}

/// The trackers by number.
pub(super) fn numbers(settings: &Settings) -> Numbers {
    let tracks = settings.instances.iter().map(|it| &it.track).chain(settings.groups.iter().map(|it| &it.track));
    let named = tracks.flat_map(|track| track.interfaces.iter().map(|tracked| &tracked.name));
    let own = settings.instances.iter().filter(|it| it.track_primary).map(|it| &it.interface);
    Numbers::new(&settings.trackers, named.chain(own))
}

const fn nanos(duration: Duration) -> Nanos {
    Nanos(duration.as_nanos() as u64)
}

fn protocol(instance: &Instance) -> Protocol {
    match instance.version {
        VrrpVersion::V2 => {
            let seconds = instance.advert_interval.as_secs().clamp(1, 255) as u8;
            Protocol::V2(seconds.try_into().expect("at least one"))
        }
        VrrpVersion::V3 => {
            let centis = (instance.advert_interval.as_millis() / 10).clamp(1, u128::from(Centis::MAX)) as u16;
            Protocol::V3(Centis::new(centis).expect("within its range"))
        }
    }
}

/// The router's view of the settings; `sources` are those of the adverts, one for each instance.
pub fn rules(settings: &Settings, sources: &[Ipv4Addr]) -> Rules {
    let numbers = numbers(settings);
    let instances = settings.instances.iter().zip(sources).map(|(instance, &source)| {
        let announce = &instance.announce;
        let mut tracks = numbers.tracks(&settings.trackers, &instance.track);
        let primary = numbers.interfaces.get(&instance.interface).copied();
        if let Some(tracker) = primary.filter(|_| instance.track_primary)
            && !tracks.iter().any(|track| track.tracker == tracker)
        {
            tracks.insert(0, Track { tracker, weight: 0, reverse: false });
        }
        InstanceRules {
            name: instance.name.clone(),
            vrid: instance.vrid,
            protocol: protocol(instance),
            priority: Base::new(instance.priority.0).expect("the configuration allows no 0"),
            owns_at_once: instance.state == Wish::Master,
            source,
            preempt: instance.preempt,
            preempt_delay: nanos(instance.preempt_delay),
            down_adverts: DownAdverts::new(instance.down_timer_adverts).expect("the configuration allows 1 to 100"),
            lower_prio_no_advert: instance.lower_prio_no_advert,
            higher_prio_send_advert: instance.higher_prio_send_advert,
            skip_check_adv_addr: instance.skip_check_adv_addr,
            announce: Announce {
                repeat: announce.repeat,
                delay: nanos(announce.delay),
                refresh: nanos(announce.refresh),
                refresh_repeat: announce.refresh_repeat,
                lower_priority_repeat: announce.lower_priority_repeat,
                lower_priority_delay: nanos(announce.lower_priority_delay),
            },
            tracks,
            priority_changes: instance.notify.priority_changes,
        }
    });
    let id = |name: &String| settings.instances.iter().position(|it| it.name == *name);
    let groups = settings.groups.iter().map(|group| GroupRules {
        name: group.name.clone(),
        instances: group.instances.iter().filter_map(id).map(|index| InstanceId(index as u16)).collect(),
        tracks: numbers.tracks(&settings.trackers, &group.track),
        tracking_weight: group.tracking_weight,
    });
    Rules {
        startup_delay: nanos(settings.router.startup_delay),
        delay_after_boot: nanos(settings.router.delay_after_boot),
        instances: instances.collect(),
        groups: groups.collect(),
        trackers: numbers.rules(&settings.trackers),
    }
}

/// How an instance speaks.
pub(super) fn speaker(instance: &Instance, source: Ipv4Addr, interfaces: &Interfaces) -> Speaker {
    let protocol = protocol(instance);
    let multicast = instance.peers.is_empty();
    let password = instance.password.as_ref().map(|password| *password.reveal());
    let mut announced: Vec<(usize, Vec<Ipv4Addr>)> = Vec::new();
    for vip in instance.vips.iter().chain(&instance.excluded_vips) {
        let interface = interfaces.index(&vip.interface);
        match announced.iter_mut().find(|(known, _)| *known == interface) {
            Some((_, addresses)) => addresses.push(vip.address),
            None => announced.push((interface, vec![vip.address])),
        }
    }
    Speaker {
        name: instance.name.clone(),
        port: interfaces.index(&instance.interface),
        source,
        peers: instance.peers.clone(),
        ttl: if multicast { 255 } else { instance.ttl },
        min_ttl: if multicast { 255 } else { instance.min_ttl },
        check_source: instance.check_source,
        addresses: instance.vips.iter().map(|vip| vip.address.octets()).collect(),
        interval: protocol.on_the_wire(),
        password,
        checksum: match instance.checksum {
            Checksum::PseudoHeader => (Form::PseudoHeader, Some(Form::PseudoHeader)),
            Checksum::Rfc9568 => (Form::Rfc9568, Some(Form::Rfc9568)),
            Checksum::Auto => (Form::PseudoHeader, None),
        },
        config: Config {
            vrid: instance.vrid.as_u8(),
            vrrp_version: protocol.version(),
            auth_type: if password.is_some() { auth::PASSWORD } else { auth::NONE },
            advert_interval_ns: protocol.interval().0,
            ..Config::default()
        },
        announced,
    }
}

/// Where its addresses go.
pub(super) fn spots(instance: &Instance, interfaces: &Interfaces) -> Vec<Spot> {
    let spot = |vip: &VirtualAddress| Spot {
        interface: interfaces.index(&vip.interface),
        place: Place { address: vip.address, prefix: vip.prefix, label: vip.label.clone(), scope: vip.scope as u8 },
    };
    instance.vips.iter().chain(&instance.excluded_vips).map(spot).collect()
}
