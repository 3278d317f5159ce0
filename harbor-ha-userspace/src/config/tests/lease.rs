//! `[lease]` and `[witness]`: what a primary does that its standby no longer confirms.

use super::limits::{limits, limits_with};
use super::*;
use crate::config::settings::{Endpoint, Isolated, WitnessKind};

/// A witness, and no choice beside it.
const ETCD: [(&str, &str); 3] =
    [("lease.isolated", ""), ("witness.kind", "\"etcd\""), ("witness.endpoints", "[\"http://10.0.0.7:2379\"]")];
const REDIS: [(&str, &str); 3] =
    [("lease.isolated", ""), ("witness.kind", "\"redis\""), ("witness.endpoints", "[\"redis://cache:6379\"]")];

fn and<'a>(base: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    base.iter().chain(more).copied().collect()
}

#[test]
fn what_an_isolated_primary_does_must_be_chosen_and_both_ways_are_explained() {
    let found = refused(&[("lease.isolated", "")]);
    assert_eq!(found.len(), 1, "{found:#?}");
    for words in ["lease.isolated: is missing", "\"hold\"", "\"serve\"", "never two primaries", "both nodes serve"] {
        assert!(found[0].contains(words), "{words}: {found:?}");
    }
    assert_eq!(accepted(&[]).lease.unwrap().isolated, Isolated::Hold);
    assert_eq!(accepted(&[("lease.isolated", "\"serve\"")]).lease.unwrap().isolated, Isolated::Serve);
    refused_once(&[("lease.isolated", "\"held\"")], "lease.isolated", "did you mean \"hold\"?");
    refused_once(&[("lease.isolated", "\"witness\"")], "lease.isolated", "use \"hold\" or \"serve\"");
}

#[test]
fn with_a_witness_there_is_nothing_to_choose() {
    assert_eq!(accepted(&ETCD).lease.unwrap().isolated, Isolated::Witness);
    let both = and(&ETCD, &[("lease.isolated", "\"hold\"")]);
    refused_once(&both, "lease.isolated", "it is the witness that decides; remove it");
}

#[test]
fn without_pulses_there_is_no_lease_and_no_witness() {
    assert_eq!(accepted(&[("pulse.enabled", "false")]).lease, None);
    assert_eq!(accepted(&[("pulse.enabled", "false"), ("lease.isolated", "")]).lease, None);
    refused_once(&and(&ETCD, &[("pulse.enabled", "false")]), "witness.kind", "without pulses there is none");
}

#[test]
fn a_hang_is_longer_than_a_death() {
    limits(
        "lease.hang",
        &["\"300ms\"", "\"60s\""],
        &[("\"61s\"", "\"1min\" or less"), ("\"99ms\"", "\"100ms\" or more")],
    );
    limits("lease.hang", &[], &[("\"299ms\"", "(100ms); use \"300ms\" or more")]);
    refused_once(&[("pulse.interval", "\"100ms\"")], "lease.hang", "(500ms); use \"1500ms\" or more");
    let slowest = [("pulse.interval", "\"1s\""), ("pulse.threshold", "21"), ("lease.hang", "\"60s\"")];
    refused_once(&slowest, "lease.hang", "(21s); use shorter pulses, as it can be \"1min\" at most");
    assert_eq!(accepted(&[]).lease.unwrap().hang, Duration::from_secs(1));
}

#[test]
fn a_witness_has_defaults_and_its_values_arrive() {
    let witness = accepted(&ETCD).witness.unwrap();
    assert_eq!(witness.endpoints, [Endpoint { tls: false, host: "10.0.0.7".into(), port: 2379 }]);
    assert_eq!((witness.kind, witness.login), (WitnessKind::Etcd, None));
    assert_eq!((witness.ttl, witness.timeout), (Duration::from_secs(3), Duration::from_millis(500)));
    assert_eq!(witness.prefix, "harbor-ha");
    let witness = accepted(&and(&REDIS, &[("witness.endpoints", "[\"rediss://cache:6380/\"]")])).witness.unwrap();
    assert_eq!(witness.kind, WitnessKind::Redis);
    assert_eq!(witness.endpoints, [Endpoint { tls: true, host: "cache".into(), port: 6380 }]);
    assert_eq!(accepted(&[]).witness, None);
}

#[test]
fn a_havip_is_no_witness_and_an_unknown_kind_is_none() {
    limits_with(
        &ETCD,
        "witness.kind",
        &["\"etcd\""],
        &[
            ("\"havip\"", "could make two primaries (docs/cloud.md, `As a witness`); use \"etcd\" or \"redis\""),
            ("\"etdc\"", "did you mean \"etcd\"?"),
            ("", "is missing"),
        ],
    );
}

#[test]
fn an_endpoint_is_a_scheme_a_host_and_a_port_of_a_third_party() {
    let bad = [
        ("[\"10.0.0.7:2379\"]", "use \"http://HOST:2379\" or https://"),
        ("[\"redis://10.0.0.7:6379\"]", "use \"http://HOST:2379\" or https://"),
        ("[\"http://10.0.0.7\"]", "names no port; use \"http://10.0.0.7:2379\""),
        ("[\"http://10.0.0.7:0\"]", "no host and port"),
        ("[\"http://10.0.0.7:2379/v3\"]", "without a path"),
        ("[\"http://10.0.0.1:2379\"]", "10.0.0.1 is this node itself"),
        ("[\"http://localhost:2379\"]", "localhost is this node itself"),
        ("[\"http://10.0.0.2:2379\"]", "10.0.0.2 is the other node"),
        ("[\"http://10.0.0.5:2379\"]", "10.0.0.5 is the virtual address"),
        ("[\"http://me:hunter2@10.0.0.7:2379\"]", "a secret has no place in this file"),
    ];
    for (value, words) in bad {
        let found = refused(&and(&ETCD, &[("witness.endpoints", value)]));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("witness.endpoints[0]: ") && found[0].contains(words), "{found:?}");
        assert!(!found[0].contains("hunter2"));
    }
    limits_with(
        &ETCD,
        "witness.endpoints",
        &["[\"https://etcd-1.example:2379\", \"https://etcd-2.example:2379\"]"],
        &[("[]", "is empty"), ("", "is missing"), ("\"http://10.0.0.7:2379\"", "use a list")],
    );
    limits_with(
        &REDIS,
        "witness.endpoints",
        &[],
        &[("[\"redis://a:1\", \"redis://b:1\"]", "know nothing of each other's keys")],
    );
}

#[test]
fn a_ttl_leaves_time_for_a_second_request() {
    limits_with(
        &ETCD,
        "witness.ttl",
        &["\"1500ms\"", "\"60s\""],
        &[
            ("\"999ms\"", "\"1s\" or more"),
            ("\"61s\"", "\"1min\" or less"),
            ("\"1499ms\"", "witness.timeout (500ms); use \"1500ms\""),
        ],
    );
    limits_with(&ETCD, "witness.timeout", &["\"50ms\"", "\"1s\""], &[("\"49ms\"", "\"50ms\""), ("\"11s\"", "\"10s\"")]);
    let slow = and(&ETCD, &[("pulse.interval", "\"300ms\""), ("lease.hang", "\"10s\"")]);
    refused_once(&slow, "witness.ttl", "pulse.interval x pulse.threshold (1500ms); use \"4500ms\" or more");
}

#[test]
fn a_login_is_whole() {
    let host = Fake::new().file("/w", 0o600, "s3cret\n").file("/open", 0o644, "s3cret");
    let judge = |base: &[(&str, &str)], more: &[(&str, &str)]| {
        let text = text(&and(base, more));
        parse(&text, &host).map(|settings| settings.witness.unwrap().login).map_err(|_| refusal(&text, &host))
    };
    let file = ("witness.password_file", "\"/w\"");
    let login = judge(&ETCD, &[file, ("witness.user", "\"root\"")]).unwrap().unwrap();
    assert_eq!((login.user.as_str(), login.password.reveal().as_str()), ("root", "s3cret"));
    assert_eq!(judge(&REDIS, &[file]).unwrap().unwrap().user, "");
    for (base, more, words) in [
        (&ETCD, &[file][..], "witness.user: is missing"),
        (&ETCD, &[("witness.user", "\"root\"")], "witness.password_file: is missing"),
        (&REDIS, &[("witness.user", "\"root\"")], "witness.password_file: is missing"),
        (&REDIS, &[("witness.password_file", "\"/open\"")], "run `chmod 600 /open`"),
        (&REDIS, &[("witness.password", "\"s3cret\"")], "witness.password: a secret has no place"),
    ] {
        let found = judge(base, more).unwrap_err();
        assert!(found.len() == 1 && found[0].contains(words) && !found[0].contains("s3cret"), "{found:?}");
    }
}

#[test]
fn a_prefix_fits_into_a_key() {
    limits_with(
        &ETCD,
        "witness.prefix",
        &["\"a\"", "\"Harbor_ha.2-x\"", &format!("{:?}", "p".repeat(64))],
        &[
            ("\"\"", "use 1 to 64"),
            ("\"a/b\"", "use 1 to 64"),
            ("\"{a}\"", "use 1 to 64"),
            (&format!("{:?}", "p".repeat(65)), "use 1 to 64"),
        ],
    );
}
