//! The page as Prometheus reads it, of cores that went through something.

mod router;

use std::collections::{BTreeMap, BTreeSet};

use harbor_ha_ebpf::records::{Detector, Lease, Order, Signs, Source, Stats, VerdictKind};
use harbor_ha_ebpf::units::{Nanos, Priority};
use harbor_ha_ebpf::wire::pulse::flag;
use prometheus_parse::{Scrape, Value};

use super::*;
use crate::core::facts::{Lsn, PgFacts};
use crate::core::lag::Lag;
use crate::core::promotable::NotPromotable;
use crate::core::rules::{Isolated, LeaseRules, Rules, SyncPolicy};
use crate::core::snapshot::Takeover;
use crate::core::{Actions, Adopted, Core, Done, Handover, Input, Postgres, Terms, Verdict};
use crate::observe::cloud::Cloud;
use crate::observe::outside::Facts;
use crate::observe::status::{GateView, Heard, PulseCounters, RejectCount, SavedWal};
use crate::vrrp::snapshot::TrackView;
use crate::vrrp::track::Level;

const NOW: Nanos = Nanos::from_secs(1000);

fn rules(sync: SyncPolicy) -> Rules {
    let millis = Nanos::from_millis;
    Rules {
        priority: Priority(100),
        addresses: (2, 1),
        adverts: false,
        advert_interval: millis(1000),
        start_wait: millis(100),
        preempt: false,
        preempt_delay: Nanos(0),
        announce_repeat: 5,
        announce_delay: millis(1000),
        announce_refresh: millis(5000),
        announce_refresh_repeat: 1,
        postgres: true,
        sync,
        max_lag: 10,
        probe_fall: 3,
        lease: Some(LeaseRules::new(millis(100), true, millis(1000), millis(60_000), Isolated::Hold)),
    }
}

fn facts(lsn: u64) -> PgFacts {
    PgFacts {
        in_recovery: true,
        system_identifier: 7,
        timeline: 1,
        lsn: Lsn(lsn),
        streaming: true,
        ..PgFacts::default()
    }
}

/// A standby, fed with what is in the list; its terms are stored at once.
fn standby(inputs: Vec<Input>) -> Core {
    let terms = Terms { seen: 1, mine: 0, reserved: 2, waived: 0 };
    let mut core = Core::new(rules(SyncPolicy::Off), terms, Adopted::default(), NOW);
    let mut out = Actions::default();
    for input in
        [Input::Link(true), Input::Postgres { asked: NOW, news: Postgres::Facts(facts(100)) }].into_iter().chain(inputs)
    {
        core.handle(NOW, input, &mut out);
        let stored: Vec<_> = out.drain().collect();
        for action in stored {
            if let crate::core::Action::StoreTerms(terms) = action {
                core.handle(NOW, Input::Done(Done::StoreTerms(Ok(terms))), &mut Actions::default());
            }
        }
    }
    core
}

fn pulse(kind: VerdictKind, lsn: u64) -> Input {
    Input::Verdict(Verdict {
        at: NOW,
        last_heard: NOW,
        kind,
        source: Source::Pulse,
        priority: 90,
        flags: flag::PRIMARY | flag::PG_UP | flag::PG_PRIMARY | flag::LEASED,
        term: 1,
        timeline: 1,
        lsn,
        system_identifier: 7,
    })
}

/// What the daemon would make of it.
fn status(core: &Core) -> Status {
    let detector = Detector {
        arrivals: 5,
        answers: 3,
        deaths: 1,
        gap_max_ns: 21_000_000,
        last_arrival_ns: NOW.0 - 2_000_000,
        ..Detector::default()
    };
    let mut gate = GateView::new(NOW, &Order::default(), &Signs::default(), &Lease::default(), Default::default());
    gate.dark_ns = 1_500_000_000;
    gate.dropped = vec![RejectCount { reason: "ingress", count: 3 }];
    Status {
        instance: "with \"quotes\"".to_owned(),
        version: "0.1.0",
        now_ns: NOW.0,
        unix_ns: 1_700_000_000_123_456_789,
        core: core.snapshot(),
        xdp_mode: "generic",
        realtime: None,
        memory: String::new(),
        pulses: Some(PulseCounters { sent: 9, failed: 0, late_max_ns: 250_000 }),
        adverts_heard: Heard::new(&Detector::default(), NOW.0),
        pulses_heard: Heard::new(&detector, NOW.0),
        rejects: crate::observe::status::rejects(Stats { reject_mac: 4, ..Stats::default() }),
        gate: Some(gate),
        strangers: 2,
        outside: Default::default(),
        cloud: Some(cloud()),
        saved_wal: Some(SavedWal { path: "/s/lost-wal".into(), directories: 2, bytes: 48 << 20 }),
    }
}

/// A HaVip that went astray.
fn cloud() -> Cloud {
    let mut cloud = Cloud {
        master_is_us: Some(false),
        agrees: Some(false),
        seen_ns: NOW.0 - 2_000_000_000,
        alert: Some("the HaVip is with i-2".to_owned()),
        alerts: 1,
        followed_ns: Some(1_500_000_000),
        repeated: 30,
        ..Cloud::default()
    };
    cloud.called("look", true);
    cloud.called("look", false);
    cloud
}

/// Name and labels as in a query, and the value.
fn scraped<S: Measured>(status: S) -> BTreeMap<String, f64> {
    let text = exposition(Arc::new(status)).unwrap();
    let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
    let told = text.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(scrape.samples.len(), told, "lines that a parser does not understand:\n{text}");
    let mut found = BTreeMap::new();
    for sample in scrape.samples {
        let counts = sample.metric.ends_with("_total");
        let number = match sample.value {
            Value::Counter(number) if counts => number,
            Value::Gauge(number) if !counts => number,
            other => panic!("{}: {other:?}", sample.metric),
        };
        let help = scrape.docs.get(&sample.metric).unwrap_or_else(|| panic!("no HELP of {}", sample.metric));
        assert!(help.ends_with('.') && help.starts_with(|c: char| c.is_uppercase()), "{}: {help}", sample.metric);
        let labels = sample.labels.to_string();
        let name = if labels.is_empty() { sample.metric } else { format!("{}{{{labels}}}", sample.metric) };
        assert_eq!(found.insert(name.clone(), number), None, "`{name}` is there twice");
    }
    found
}

/// The series of a family, by the value of their last label.
fn series<'a>(found: &'a BTreeMap<String, f64>, family: &str) -> BTreeMap<&'a str, f64> {
    let start = format!("{family}{{");
    let of = |(name, number): (&'a String, &f64)| {
        let labels = name.strip_prefix(&start)?;
        Some((labels.rsplit('"').nth(1)?, *number))
    };
    found.iter().filter_map(of).collect()
}

#[test]
fn names_have_base_units_and_a_prefix_and_a_family_is_told_once() {
    let text = exposition(Arc::new(status(&standby(Vec::new())))).unwrap();
    let families: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let names: BTreeSet<_> = families.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(families.len(), names.len());
    for name in names {
        assert!(name.starts_with("harbor_ha_") && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'_')), "{name}");
        assert!(!["_ms", "_ns", "_us", "_millis", "_kb"].iter().any(|unit| name.contains(unit)), "{name}");
    }
}

#[test]
fn every_reason_to_refuse_is_there_from_the_start() {
    let found = scraped(status(&standby(Vec::new())));
    for family in ["harbor_ha_takeover_refusals_total", "harbor_ha_takeover_refused"] {
        let reasons = series(&found, family);
        assert_eq!(reasons.keys().copied().collect::<BTreeSet<_>>(), NotPromotable::NAMES.into());
    }
    assert!(series(&found, "harbor_ha_takeover_refusals_total").values().all(|count| *count == 0.0));
}

#[test]
fn every_reason_to_refuse_has_a_counter_of_its_own() {
    let mut status = status(&standby(Vec::new()));
    status.core.refusals = NotPromotable::NAMES.into_iter().zip(1..).collect();
    let found = scraped(status);
    for (reason, count) in NotPromotable::NAMES.into_iter().zip(1..) {
        assert_eq!(found[&format!("harbor_ha_takeover_refusals_total{{reason=\"{reason}\"}}")], f64::from(count));
    }
}

#[test]
fn a_standby_that_is_too_far_behind_is_seen_before_and_after_its_refusal() {
    let lives = vec![pulse(VerdictKind::Alive, 100), Input::PeerWal { timeline: 1, lsn: Lsn(130) }];
    let look = Input::Postgres { asked: NOW, news: Postgres::Facts(facts(105)) };
    let found = scraped(status(&standby([lives.clone(), vec![look.clone()]].concat())));
    assert_eq!(found["harbor_ha_replication_lag_bytes"], 25.0);
    assert_eq!(found["harbor_ha_replication_lag_limit_bytes"], 10.0);
    assert_eq!(found["harbor_ha_saved_wal_bytes"], 50_331_648.0);
    assert_eq!(found["harbor_ha_havip_held"], 0.0);
    assert_eq!(found["harbor_ha_havip_alert"], 1.0);
    assert_eq!(found["harbor_ha_havip_seen_age_seconds"], 2.0);
    assert_eq!(found["harbor_ha_takeover_refused{reason=\"lag\"}"], 1.0);
    assert_eq!(found["harbor_ha_takeover_refusals_total{reason=\"lag\"}"], 0.0, "nothing was due yet");
    let dead = vec![look, pulse(VerdictKind::Dead, 130)];
    let found = scraped(status(&standby([lives, dead].concat())));
    assert_eq!(found["harbor_ha_takeover_refused{reason=\"lag\"}"], 1.0);
    assert_eq!(found["harbor_ha_takeover_refusals_total{reason=\"lag\"}"], 1.0);
    assert_eq!(found["harbor_ha_peer_role{role=\"dead\"}"], 1.0);
}

#[test]
fn of_several_states_exactly_one_is() {
    let found = scraped(status(&standby(Vec::new())));
    for family in ["role", "vrrp_state", "peer_role", "gate_state", "lease_right", "isolated_mode", "postgres_state"] {
        let states = series(&found, &format!("harbor_ha_{family}"));
        assert!(states.len() > 2 && states.values().sum::<f64>() == 1.0, "{family}: {states:?}");
    }
    assert_eq!(found["harbor_ha_role{role=\"standby\"}"], 1.0);
    assert_eq!(found["harbor_ha_isolated_mode{mode=\"hold\"}"], 1.0);
}

#[test]
fn what_the_kernel_counts_comes_in_seconds_and_with_its_zeros() {
    let found = scraped(status(&standby(Vec::new())));
    for (name, number) in [
        ("harbor_ha_gate_dark_seconds_total", 1.5),
        ("harbor_ha_gate_dropped_packets_total{place=\"ingress\"}", 3.0),
        ("harbor_ha_gate_dropped_packets_total{place=\"arp\"}", 0.0),
        ("harbor_ha_packets_rejected_total{reason=\"mac\",source=\"peer\"}", 4.0),
        ("harbor_ha_packets_rejected_total{reason=\"ttl\",source=\"peer\"}", 0.0),
        ("harbor_ha_packets_rejected_total{reason=\"source\",source=\"stranger\"}", 2.0),
        ("harbor_ha_heartbeat_answers_total{heartbeat=\"pulse\"}", 3.0),
        ("harbor_ha_heartbeat_deaths_total{heartbeat=\"pulse\"}", 1.0),
        ("harbor_ha_heartbeat_age_seconds{heartbeat=\"pulse\"}", 0.002),
        ("harbor_ha_heartbeat_gap_max_seconds{heartbeat=\"pulse\"}", 0.021),
        ("harbor_ha_pulse_lateness_max_seconds", 0.00025),
        ("harbor_ha_state_change_timestamp_seconds", 1_700_000_000.123),
        ("harbor_ha_witness_answers_total{outcome=\"granted\",question=\"acquire\"}", 0.0),
        ("harbor_ha_takeovers_total{why=\"nobody_serves\"}", 0.0),
        ("harbor_ha_serving", 0.0),
    ] {
        assert_eq!(found.get(name), Some(&number), "{name}");
    }
    assert!(!found.contains_key("harbor_ha_heartbeat_age_seconds{heartbeat=\"advert\"}"), "it never heard one");
}

#[test]
fn without_a_lease_and_a_server_their_families_are_not_there() {
    let none = Rules { postgres: false, lease: None, ..rules(SyncPolicy::Off) };
    let core = Core::new(none, Terms::default(), Adopted::default(), NOW);
    let found = scraped(Status { gate: None, pulses: None, ..status(&core) });
    for absent in ["gate", "lease", "isolated", "postgres", "replication", "term", "pulses"] {
        let prefix = format!("harbor_ha_{absent}");
        assert!(!found.keys().any(|name| name.starts_with(&prefix)), "{absent}: {found:?}");
    }
    assert!(found.contains_key("harbor_ha_serving") && found.contains_key("harbor_ha_peer_alive"));
}

/// Every name in a text that looks like a metric of ours.
fn named(text: &str) -> BTreeSet<&str> {
    let word = |at: usize| {
        let rest = &text[at..];
        let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c == '_')).unwrap_or(rest.len());
        &rest[..end]
    };
    text.match_indices("harbor_ha_").map(|(at, _)| word(at)).collect()
}

#[test]
fn the_manual_names_every_metric_and_neither_it_nor_an_alert_one_that_is_not() {
    let mut status = status(&standby(vec![pulse(VerdictKind::Alive, 100)]));
    status.core.takeover = Some(Takeover {
        why: "silence",
        last_heard_ns: 1,
        verdict_ns: 2,
        vip_ns: 3,
        garp_ns: 4,
        ..Takeover::default()
    });
    status.core.handover = Some(Handover { shut_ns: 1, peer_serves_ns: 2, ..Handover::default() });
    status.core.lag = Some(Lag { bytes: 1, since_ns: 1, limit: Some(2) });
    let (name, level) = ("check".to_owned(), Level::Bad);
    status.core.trackers =
        vec![TrackView { name: name.clone(), level, weight: 0, reverse: false, adds: 0, stops: true }];
    status.outside.facts = vec![Facts { tracker: name, facts: 1, failed: 1 }];
    let page = exposition(Arc::new(status)).unwrap();
    let told: BTreeSet<_> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let manual = include_str!("../../../../docs/operations.md");
    let documented = documented_in(manual, "\n## Metrics\n");
    assert_eq!(documented, told);
    let rules = rules_of("harbor-ha");
    assert!(rules.len() > 3 && rules.is_subset(&told), "{:?}", rules.difference(&told));
}

fn documented_in<'a>(manual: &'a str, heading: &str) -> BTreeSet<&'a str> {
    let section = manual.split(heading).nth(1).expect("the section").split("\n## ").next().unwrap();
    named(section).into_iter().filter(|name| *name != "harbor_ha_").collect()
}

/// The names that the alerts of a group use.
fn rules_of(group: &str) -> BTreeSet<&'static str> {
    let file = include_str!("../../../../packaging/harbor-ha.rules.yml");
    let rest = file.split_once(&format!("- name: {group}\n")).expect("the group").1;
    named(rest.split("- name: ").next().unwrap())
}
