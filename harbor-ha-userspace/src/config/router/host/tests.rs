use std::fs::Permissions;

use super::*;
use crate::config::tests::Fake;
use crate::config::{Configuration, parse_any};

struct Here {
    uid: u32,
}

impl Host for Here {
    fn addresses(&self, interface: &str) -> Option<Vec<Ipv4Addr>> {
        let address = |last| Ipv4Addr::new(10, 0, 0, last);
        match interface {
            "eth0" => Some(vec![address(1)]),
            "eth1" => Some(vec![address(2), address(3)]),
            "eth2" => Some(vec![]),
            _ => None,
        }
    }

    fn user(&self, name: &str) -> Option<u32> {
        (name == "nobody").then_some(65534)
    }

    fn has_group(&self, name: &str) -> bool {
        name == "nogroup"
    }

    fn own_user(&self) -> u32 {
        self.uid
    }
}

/// Everything that is not well.
fn troubles(text: &str, uid: u32) -> Vec<(Level, String)> {
    let Ok(Configuration::Router(settings)) = parse_any(text, &Fake::new()) else { panic!("{text}") };
    let found = findings(&settings, &Here { uid }).into_iter().filter(|finding| finding.level != Level::Ok);
    found.map(|finding| (finding.level, format!("{}: {}", finding.subject, finding.text))).collect()
}

fn instance(more: &str) -> String {
    format!("[[instance]]\nname = \"A\"\nvrid = 1\nvips = [\"10.0.0.9/32\"]\n{more}\n")
}

#[track_caller]
fn one(text: &str, uid: u32, level: Level, words: &str) {
    let found = troubles(text, uid);
    assert!(matches!(found.as_slice(), [(l, text)] if *l == level && text.contains(words)), "{found:#?}");
}

#[test]
fn an_interface_and_the_source_on_it_must_be_there() {
    assert_eq!(troubles(&instance("interface = \"eth0\"\nsource = \"10.0.0.1\""), 0), []);
    one(&instance("interface = \"eth9\""), 0, Level::Error, "instance A: there is no interface `eth9`");
    one(&instance("interface = \"eth2\""), 0, Level::Error, "has no IPv4 address");
    one(&instance("interface = \"eth0\"\nsource = \"10.0.0.7\""), 0, Level::Error, "it has 10.0.0.1");
    one(&instance("interface = \"eth1\""), 0, Level::Warning, "name one as `source = \"10.0.0.2\"`");
    one(&instance("interface = \"eth0\"\n[instance.track]\ninterfaces = [\"eth9\"]"), 0, Level::Warning, "eth9");
    let vip = "interface = \"eth0\"\nexcluded_vips = [{ address = \"10.1.0.1/24\", interface = \"eth9\" }]";
    one(&instance(vip), 0, Level::Error, "eth9");
}

#[test]
fn a_script_must_be_there_and_executable_and_root_s_alone_when_root_runs_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("check.sh");
    let with = |more: &str| {
        instance(&format!("interface = \"eth0\"\n[[script]]\nname = \"chk\"\ncommand = [{path:?}]\n{more}"))
    };
    one(&with(""), 1, Level::Error, "script chk: ");
    fs::write(&path, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    one(&with(""), 1, Level::Error, "is not executable; run `chmod +x ");
    fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
    assert_eq!(troubles(&with(""), 1), []);
    // Whoever runs the tests: either another user owns it, or others may write to it.
    one(&with(""), 0, Level::Error, "is run by root, and ");
    assert_eq!(troubles(&with("user = \"nobody:nogroup\""), 0), []);
    one(&with("user = \"somebody\""), 0, Level::Error, "there is no user `somebody`");
    one(&with("user = \"nobody:some\""), 0, Level::Error, "there is no group `some`");
    // What the system itself keeps is safe, links on the way included.
    let system = instance("interface = \"eth0\"\n[instance.notify]\nall = [\"/bin/sh\"]");
    assert_eq!(troubles(&system, 0), []);
}

#[test]
fn this_host_has_a_loopback_and_a_root() {
    assert!(System.addresses("lo").is_some() && System.addresses("no-such-one").is_none());
    assert_eq!(System.user("root"), Some(0));
}
