//! The page of a router.

use std::net::Ipv4Addr;

use harbor_ha_ebpf::decide::filter::Reject;
use harbor_ha_ebpf::units::{Centis, Vrid};

use super::*;
use crate::observe::cloud::Cloud;
use crate::observe::outside::{Facts, Outside};
use crate::observe::router::Status as RouterStatus;
use crate::observe::router::{About, Addresses, Interface};
use crate::vrrp::rules::{Announce, Base, DownAdverts, InstanceRules, Protocol};
use crate::vrrp::track::{Track, TrackValue, TrackerKind, TrackerRules};
use crate::vrrp::{self, InstanceId, Router, TrackerId};

const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// Two virtual routers, the first of which has a check that fails, and has dropped an advert.
fn status() -> RouterStatus {
    let instance = |name: &str, vrid, tracks| InstanceRules {
        name: name.to_owned(),
        vrid: Vrid::new(vrid).unwrap(),
        protocol: Protocol::V3(Centis::new(100).unwrap()),
        priority: Base::new(100).unwrap(),
        owns_at_once: true,
        source: Ipv4Addr::new(10, 0, 0, 1),
        preempt: true,
        preempt_delay: Nanos(0),
        down_adverts: DownAdverts::RFC,
        lower_prio_no_advert: false,
        higher_prio_send_advert: false,
        skip_check_adv_addr: false,
        announce: Announce::KEEPALIVED,
        tracks,
        priority_changes: false,
    };
    let track = |tracker, weight| Track { tracker: TrackerId(tracker), weight, reverse: false };
    let script = |name: &str| TrackerRules {
        name: name.to_owned(),
        kind: TrackerKind::Script { rise: 1, fall: 1, init_fail: false },
    };
    let rules = vrrp::Rules {
        instances: vec![
            instance("VI_1", 51, vec![track(0, -20), track(1, 0)]),
            instance("VI \"2\"", 52, vec![track(1, 0)]),
        ],
        trackers: vec![script("load"), script("check")],
        ..vrrp::Rules::default()
    };
    let mut router = Router::new(rules, NOW);
    let mut out = vrrp::Actions::default();
    let tracked = |tracker, value| vrrp::Input::Tracked { tracker: TrackerId(tracker), value };
    for input in [
        vrrp::Input::Wake,
        tracked(0, TrackValue::Failed),
        tracked(1, TrackValue::Ok),
        vrrp::Input::Refused {
            instance: InstanceId(0),
            from: PEER,
            at: NOW,
            why: Reject::Password,
            said: Some(vrrp::Said { priority: 90, interval: Nanos::from_secs(1) }),
        },
    ] {
        router.handle(NOW, input, &mut out);
    }
    // Nobody speaks: both become master.
    router.handle(NOW.after(Nanos::from_secs(4)), vrrp::Input::Wake, &mut out);
    RouterStatus {
        about: About {
            form: "router",
            instance: "r".to_owned(),
            version: "0.1.0",
            realtime: String::new(),
            memory: String::new(),
        },
        now_ns: NOW.after(Nanos::from_secs(5)).0,
        unix_ns: 1_700_000_000_000_000_000,
        router: router.snapshot(),
        addresses: vec![Addresses { instance: "VI_1".to_owned(), up: true, not_ours: Vec::new() }],
        interfaces: vec![Interface { name: "eth0".to_owned(), strangers: 3, rejects: Vec::new(), garp_sent: 10 }],
        outside: Outside {
            facts: vec![Facts { tracker: "load".to_owned(), facts: 7, failed: 2 }],
            scripts_failed: 1,
            mails_sent: 4,
            ..Outside::default()
        },
        cloud: Some(Cloud {
            master_is_us: Some(true),
            agrees: Some(true),
            seen_ns: NOW.0,
            followed_ns: Some(1),
            alerts: 2,
            ..Cloud::default()
        }),
    }
}

#[test]
fn each_instance_has_its_own_series_and_what_never_happened_is_zero() {
    let found = scraped(status());
    for (name, number) in [
        ("harbor_ha_vrrp_state{state=\"master\",virtual_router=\"VI_1\"}", 1.0),
        ("harbor_ha_vrrp_state{state=\"fault\",virtual_router=\"VI_1\"}", 0.0),
        ("harbor_ha_state_change_timestamp_seconds{virtual_router=\"VI_1\"}", 1_699_999_999.0),
        ("harbor_ha_priority{virtual_router=\"VI_1\"}", 80.0),
        ("harbor_ha_priority_configured{virtual_router=\"VI_1\"}", 100.0),
        ("harbor_ha_became_master_total{virtual_router=\"VI_1\"}", 1.0),
        ("harbor_ha_released_master_total{virtual_router=\"VI_1\"}", 0.0),
        ("harbor_ha_adverts_sent_total{virtual_router=\"VI_1\"}", 1.0),
        ("harbor_ha_adverts_rejected_total{reason=\"password\",virtual_router=\"VI_1\"}", 1.0),
        ("harbor_ha_adverts_rejected_total{reason=\"ttl\",virtual_router=\"VI_1\"}", 0.0),
        ("harbor_ha_peer_advert_age_seconds{peer=\"10.0.0.2\",virtual_router=\"VI_1\"}", 5.0),
        ("harbor_ha_address_held{virtual_router=\"VI_1\"}", 1.0),
        ("harbor_ha_addresses_not_ours{virtual_router=\"VI_1\"}", 0.0),
        ("harbor_ha_havip_held", 1.0),
        ("harbor_ha_havip_alerts_total", 2.0),
        ("harbor_ha_tracker_well{tracker=\"load\",virtual_router=\"VI_1\"}", 0.0),
        ("harbor_ha_tracker_well{tracker=\"check\",virtual_router=\"VI_1\"}", 1.0),
        ("harbor_ha_tracker_adds{tracker=\"load\",virtual_router=\"VI_1\"}", -20.0),
        ("harbor_ha_garp_sent_total{interface=\"eth0\"}", 10.0),
        ("harbor_ha_adverts_of_strangers_total{interface=\"eth0\"}", 3.0),
        ("harbor_ha_tracker_facts_total{tracker=\"load\"}", 7.0),
        ("harbor_ha_tracker_failures_total{tracker=\"load\"}", 2.0),
        ("harbor_ha_notify_scripts_total{outcome=\"failed\"}", 1.0),
        ("harbor_ha_notify_mails_total{outcome=\"sent\"}", 4.0),
    ] {
        assert_eq!(found.get(name), Some(&number), "{name} in {found:#?}");
    }
    let states = found.iter().filter(|(name, _)| name.starts_with("harbor_ha_vrrp_state{"));
    assert_eq!(states.map(|(_, number)| number).sum::<f64>(), 2.0, "each of the two is in one state");
}

#[test]
fn the_manual_names_every_metric_of_a_router_and_its_alerts_none_that_is_not() {
    let page = exposition(Arc::new(status())).unwrap();
    let told: BTreeSet<_> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let manual = include_str!("../../../../../docs/operations.md");
    assert_eq!(documented_in(manual, "\n### Metrics of a router\n"), told);
    let rules = rules_of("harbor-ha-router");
    assert!(rules.len() > 1 && rules.is_subset(&told), "{:?}", rules.difference(&told));
}
