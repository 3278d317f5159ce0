//! `[cloud]`.

use super::limits::limits_with;
use super::*;
use crate::config::settings::Endpoint;
use crate::config::settings::cloud::CredentialSource;

const CLOUD: [(&str, &str); 2] = [("cloud.havip", "\"auto\""), ("cloud.peer_instance", "\"i-peer1\"")];

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    CLOUD.iter().chain(more).copied().collect()
}

fn plain(host: &str, port: u16) -> Endpoint {
    Endpoint { tls: false, host: host.into(), port }
}

#[test]
fn without_its_table_nobody_is_asked() {
    assert_eq!(accepted(&[]).cloud, None);
}

#[test]
fn the_shortest_cloud_learns_the_rest_from_metadata_and_fences_nobody() {
    let cloud = accepted(&CLOUD).cloud.unwrap();
    assert_eq!((&cloud.region, &cloud.havip, &cloud.instance, &cloud.vswitch), (&None, &None, &None, &None));
    assert_eq!((cloud.address.to_string().as_str(), cloud.peer_instance.as_str()), ("10.0.0.5", "i-peer1"));
    assert_eq!((cloud.credentials, cloud.eip), (CredentialSource::Auto, None));
    assert_eq!(cloud.metadata_endpoint, plain("100.100.100.200", 80));
    assert_eq!((cloud.connect_timeout, cloud.timeout), (Duration::from_secs(1), Duration::from_secs(5)));
    assert!(!cloud.fence.is_on() && !cloud.fence.dry_run);
    assert_eq!((cloud.fence.cooldown, cloud.fence.limit), (Duration::from_secs(600), 3));
}

#[test]
fn what_must_be_set_is_asked_for() {
    let found = refused(&[("cloud.region", "\"cn-hangzhou\"")]);
    assert!(found.len() == 2, "{found:#?}");
    assert!(found[0].contains("cloud.havip: is missing; add `havip = \"auto\"`"), "{found:?}");
    assert!(found[1].contains("cloud.peer_instance: is missing"), "{found:?}");
}

#[test]
fn a_peer_that_may_be_serving_is_not_fenced() {
    let fence = ("cloud.fence", "[\"havip-unassociate\"]");
    let found = refused(&with(&[fence, ("lease.isolated", "\"serve\"")]));
    assert!(found[0].contains("cloud.fence: fences a living primary: with lease.isolated = \"serve\""), "{found:?}");
    let found = refused(&with(&[fence, ("pulse.enabled", "false")]));
    let told = found.iter().any(|line| line.contains("cloud.fence: fences a living primary: without pulses"));
    assert!(told, "{found:?}");
    assert!(accepted(&with(&[fence])).cloud.unwrap().fence.is_on());
}

#[test]
fn values_arrive() {
    let cloud = accepted(&with(&[
        ("cloud.region", "\"cn-beijing\""),
        ("cloud.havip", "\"havip-2zeo05qre24nhrqpy\""),
        ("cloud.eip", "\"eip-2zeerraiwb7uj6i0d\""),
        ("cloud.instance", "\"i-own\""),
        ("cloud.vswitch", "\"vsw-1\""),
        ("cloud.credentials", "\"ram-role\""),
        ("cloud.ram_role", "\"harbor-ha.role_1\""),
        ("cloud.vpc_endpoint", "\"https://vpc.example.org\""),
        ("cloud.ecs_endpoint", "\"http://10.0.0.9:8080\""),
        ("cloud.fence", "[\"ecs-stop\", \"havip-unassociate\"]"),
        ("cloud.fence_dry_run", "true"),
    ]));
    let cloud = cloud.cloud.unwrap();
    assert_eq!(cloud.havip.as_deref(), Some("havip-2zeo05qre24nhrqpy"));
    assert_eq!(cloud.vpc_endpoint, Some(Endpoint { tls: true, host: "vpc.example.org".into(), port: 443 }));
    assert_eq!(cloud.ecs_endpoint, Some(plain("10.0.0.9", 8080)));
    assert!(cloud.fence.unassociate && cloud.fence.stop && cloud.fence.dry_run);
}

#[test]
fn plain_http_stays_near() {
    let far = ("\"http://47.1.2.3\"", "would send signed requests in clear");
    let named = ("\"http://vpc.aliyuncs.com\"", "use \"https://vpc.aliyuncs.com\"");
    let (below, above) = (("\"http://100.63.255.255\"", "in clear"), ("\"http://100.128.0.0\"", "in clear"));
    limits_with(
        &CLOUD,
        "cloud.vpc_endpoint",
        &[
            "\"auto\"",
            "\"http://127.0.0.1:1\"",
            "\"http://localhost:65535\"",
            "\"http://192.168.1.1/\"",
            "\"http://100.64.0.0\"",
            "\"http://100.127.255.255\"",
            "\"https://47.1.2.3\"",
        ],
        &[
            far,
            named,
            below,
            above,
            ("\"vpc.aliyuncs.com\"", "is no address of a web service"),
            ("\"https://a/b\"", "is no host and port"),
            ("\"https://a:0\"", "is no host and port"),
            ("\"https://u:hunter2@a\"", "a secret has no place in this file"),
        ],
    );
    let found = refused(&with(&[("cloud.vpc_endpoint", "\"https://u:hunter2@a\"")]));
    assert!(!found[0].contains("hunter2"), "{found:?}");
}

#[test]
fn ids_are_of_their_kind() {
    limits_with(&CLOUD, "cloud.havip", &["\"havip-1\""], &[("\"i-1\"", "begins with \"havip-\""), ("\"havip-\"", "")]);
    limits_with(&CLOUD, "cloud.eip", &["\"eip-1\""], &[("\"47.1.2.3\"", "begins with \"eip-\"")]);
    limits_with(&CLOUD, "cloud.region", &["\"us-west-1\""], &[("\"Hangzhou\"", "is no region"), ("\"a.b-c\"", "")]);
    limits_with(&CLOUD, "cloud.ram_role", &["\"auto\""], &[("\"../x\"", "is no name of a RAM role")]);
    refused_once(&with(&[("cloud.instance", "\"i-peer1\"")]), "cloud.peer_instance", "this node's own");
}

#[test]
fn times_and_counts_have_bounds() {
    limits_with(&CLOUD, "cloud.timeout", &["\"1min\"", "\"1s\""], &[("\"499ms\"", "or more"), ("\"61s\"", "or less")]);
    limits_with(&CLOUD, "cloud.connect_timeout", &["\"5s\""], &[("\"6s\"", "use \"5s\" or less"), ("\"99ms\"", "")]);
    limits_with(&CLOUD, "cloud.poll_interval", &["\"5s\""], &[("\"4s\"", "use \"5s\" or more")]);
    limits_with(&CLOUD, "cloud.follow_deadline", &["\"10min\""], &[("\"11min\"", "use \"10min\" or less")]);
    limits_with(&CLOUD, "cloud.fence_cooldown", &["\"1min\""], &[("\"59s\"", "use \"1min\" or more")]);
    limits_with(&CLOUD, "cloud.fence_limit", &["1", "100"], &[("0", "use 1 or more"), ("101", "use 100 or less")]);
    limits_with(&CLOUD, "cloud.fence", &["[]", "[\"ecs-stop\"]"], &[("\"ecs-stop\"", "use a list")]);
    refused_once(&with(&[("cloud.fence", "[\"reboot\"]")]), "cloud.fence[0]", "is unknown; use \"havip-unassociate\"");
    refused_once(&with(&[("cloud.fence", "[\"ecs-stpo\"]")]), "cloud.fence[0]", "did you mean \"ecs-stop\"");
}

#[test]
fn a_key_pair_has_no_place_in_this_file_and_is_not_repeated() {
    for key in ["cloud.access_key_id", "cloud.access_key_secret", "cloud.security_token"] {
        let found = refused(&with(&[(key, "\"hunter2\"")]));
        assert!(found.len() == 1 && found[0].contains(&format!("{key}: has no place in this file")), "{found:?}");
        assert!(!found[0].contains("hunter2"), "{found:?}");
    }
}

#[test]
fn one_havip_is_one_address() {
    let two = with(&[("node.vips", "[\"10.0.0.5/32\", \"10.0.0.6/32\"]")]);
    refused_once(&two, "cloud.havip", "is one address, and node.vips has 2");
}
