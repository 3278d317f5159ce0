//! From a file to rules, and which adverts count.

use std::ffi::OsString;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use harbor_ha_ebpf::decide::filter::Reject;
use harbor_ha_ebpf::units::{Nanos, Priority};
use harbor_ha_ebpf::wire::cursor::Cursor;
use harbor_ha_ebpf::wire::{ipv4, vrrp as wire};

use super::build::{self, Interfaces};
use super::engine::Speaker;
use crate::config::lookup::SecretFile;
use crate::config::router::Settings;
use crate::config::secret::Secret;
use crate::config::{Configuration, Lookup, parse_any};
use crate::vrrp::Rules;
use crate::vrrp::track::TrackerKind;

const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);

struct NoHost;

impl Lookup for NoHost {
    fn file(&self, _path: &Path) -> io::Result<SecretFile> {
        Ok(SecretFile { mode: 0o600, content: Secret::new(b"111111".to_vec()) })
    }

    fn env(&self, _name: &str) -> Option<OsString> {
        None
    }
}

fn settings(text: &str) -> Settings {
    match parse_any(text, &NoHost) {
        Ok(Configuration::Router(settings)) => *settings,
        other => panic!("{other:?}"),
    }
}

fn rules(text: &str) -> Rules {
    let settings = settings(text);
    build::rules(&settings, &vec![OURS; settings.instances.len()])
}

const TWO: &str = r#"
[router]
name = "router"
startup_delay = "3s"
[[instance]]
name = "VI_1"
interface = "eth0"
vrid = 51
priority = 100
vips = ["10.0.0.100/32"]
[instance.track]
interfaces = [{ name = "eth1", weight = 10, reverse = true }]
scripts = ["chk"]
[[instance]]
name = "VI_2"
version = 3
interface = "eth1"
vrid = 52
advert_interval = "250ms"
track_primary = false
preempt = false
down_timer_adverts = 5
vips = ["10.0.0.101/32"]
[[group]]
name = "G"
instances = ["VI_2", "VI_1"]
[group.track]
files = ["number"]
[[script]]
name = "chk"
command = ["/bin/true"]
rise = 2
weight = -20
[[file]]
name = "number"
path = "/run/number"
weight = 3
"#;

#[test]
fn a_file_becomes_rules_with_each_thing_in_its_place() {
    let rules = rules(TWO);
    let names: Vec<&str> = rules.trackers.iter().map(|tracker| tracker.name.as_str()).collect();
    assert_eq!(names, ["eth1", "eth0", "chk", "number"]);
    assert_eq!(rules.trackers[2].kind, TrackerKind::Script { rise: 2, fall: 1, init_fail: false });
    let uses = |tracks: &[crate::vrrp::track::Track]| -> Vec<(u16, i16, bool)> {
        tracks.iter().map(|track| (track.tracker.0, track.weight, track.reverse)).collect()
    };
    let [one, two] = rules.instances.as_slice() else { panic!("{:?}", rules.instances) };
    assert_eq!(uses(&one.tracks), [(1, 0, false), (0, 10, true), (2, -20, false)], "its own interface first");
    assert_eq!(uses(&two.tracks), []);
    assert_eq!(uses(&rules.groups[0].tracks), [(3, 3, false)]);
    assert_eq!(rules.groups[0].instances.iter().map(|id| id.0).collect::<Vec<_>>(), [1, 0]);
    assert_eq!((one.protocol.version(), one.protocol.interval()), (2, Nanos::from_secs(1)));
    assert_eq!((two.protocol.version(), two.protocol.interval()), (3, Nanos::from_millis(250)));
    let down = two.protocol.master_down(Priority(100), two.protocol.interval(), two.down_adverts);
    assert_eq!(down, Nanos(1_250_000_000 + 156 * 250_000_000 / 256));
    assert_eq!((one.preempt, two.preempt, rules.startup_delay), (true, false, Nanos::from_secs(3)));
}

/// An instance with a password and one peer; then what is changed of it.
fn speaker(more: &str) -> Speaker {
    let text = format!(
        "[[instance]]\nname = \"VI_1\"\ninterface = \"eth0\"\nvrid = 51\nsource = \"{OURS}\"\n\
         vips = [\"10.0.0.100/32\", \"10.0.0.101/32\"]\n{more}\n[router]\nname = \"router\"\n"
    );
    let settings = settings(&text);
    build::speaker(&settings.instances[0], OURS, &Interfaces::of(&settings))
}

/// What `theirs` says, as `ours` judges it when it comes from an address to another with a TTL.
fn judged(ours: &Speaker, theirs: &Speaker, from: Ipv4Addr, to: Ipv4Addr, ttl: u8) -> Result<u8, Reject> {
    let advert = wire::Outgoing {
        version: theirs.config.vrrp_version,
        vrid: theirs.config.vrid,
        priority: Priority(77),
        interval: theirs.interval,
        addresses: &theirs.addresses,
        password: theirs.password,
        checksum: theirs.checksum.0,
    };
    let mut buffer = [0; wire::LENGTH_MAX];
    let length = wire::emit(&advert, from.octets(), to.octets(), &mut buffer);
    let header = ipv4::Header {
        source: from.octets(),
        destination: to.octets(),
        protocol: ipv4::VRRP,
        ttl,
        payload: length as u16,
        fragment: false,
    };
    let message = &buffer[..length];
    ours.judge(&header, Cursor::new(message), message).map(|advert| advert.priority.0).map_err(|(why, _)| why)
}

#[test]
fn only_a_peer_with_our_password_and_our_interval_counts() {
    let unicast = "peers = [\"10.0.0.2\"]\npassword_file = \"/p\"";
    let ours = speaker(unicast);
    assert_eq!(judged(&ours, &ours, PEER, OURS, 255), Ok(77));
    assert_eq!(judged(&ours, &ours, STRANGER, OURS, 255), Err(Reject::Source));
    assert_eq!(judged(&ours, &ours, PEER, crate::net::vrrp::GROUP, 255), Err(Reject::Source));
    assert_eq!(judged(&ours, &ours, PEER, OURS, 254), Err(Reject::Ttl));
    assert_eq!(judged(&ours, &speaker("peers = [\"10.0.0.2\"]"), PEER, OURS, 255), Err(Reject::AuthType));
    let slower = speaker(&format!("{unicast}\nadvert_interval = \"2s\""));
    assert_eq!(judged(&ours, &slower, PEER, OURS, 255), Err(Reject::Interval));
    let third = speaker("version = 3\npeers = [\"10.0.0.2\"]");
    assert_eq!(judged(&ours, &third, PEER, OURS, 255), Err(Reject::Version));
    // What keepalived does unless told.
    let open = speaker(&format!("{unicast}\ncheck_source = false\nmin_ttl = 0"));
    assert_eq!(judged(&open, &ours, STRANGER, OURS, 3), Ok(77));
}

#[test]
fn multicast_is_for_the_group_and_never_routed() {
    let ours = speaker("");
    let group = crate::net::vrrp::GROUP;
    assert_eq!(judged(&ours, &ours, STRANGER, group, 255), Ok(77));
    assert_eq!(judged(&ours, &ours, STRANGER, OURS, 255), Err(Reject::Source));
    assert_eq!(judged(&ours, &ours, STRANGER, group, 254), Err(Reject::Ttl));
}

#[test]
fn the_form_of_the_checksum_is_asked_for_unless_both_are_taken() {
    let form = |name: &str| speaker(&format!("version = 3\npeers = [\"10.0.0.2\"]\nchecksum = \"{name}\""));
    let (pseudo, bare, auto) = (form("pseudo-header"), form("rfc9568"), form("auto"));
    for (ours, theirs, expected) in [
        (&pseudo, &pseudo, Ok(77)),
        (&pseudo, &bare, Err(Reject::Checksum)),
        (&bare, &pseudo, Err(Reject::Checksum)),
        (&bare, &bare, Ok(77)),
        (&auto, &pseudo, Ok(77)),
        (&auto, &bare, Ok(77)),
    ] {
        assert_eq!(judged(ours, theirs, PEER, OURS, 255), expected);
    }
}

#[test]
fn lists_of_addresses_are_compared_as_sets() {
    let ours = speaker("");
    let message = |addresses: &[[u8; 4]]| [&[0; 8][..], addresses.as_flattened()].concat();
    let [a, b] = [[10, 0, 0, 100], [10, 0, 0, 101]];
    assert!(ours.lists_ours(&message(&[a, b]), 2) && ours.lists_ours(&message(&[b, a]), 2));
    assert!(!ours.lists_ours(&message(&[a]), 1) && !ours.lists_ours(&message(&[a, [10, 0, 0, 102]]), 2));
    assert!(!ours.lists_ours(&message(&[a]), 2), "cut");
}
