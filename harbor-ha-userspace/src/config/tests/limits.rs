//! Every limit from both of its sides.

use super::*;

/// `within` are accepted; each of `outside` is refused at the same place, with these words.
#[track_caller]
pub(super) fn limits(place: &str, within: &[&str], outside: &[(&str, &str)]) {
    limits_with(&[], place, within, outside);
}

#[track_caller]
pub(super) fn limits_with(others: &[(&str, &str)], place: &str, within: &[&str], outside: &[(&str, &str)]) {
    let with = |value| others.iter().copied().chain([(place, value)]).collect::<Vec<_>>();
    for value in within {
        accepted(&with(value));
    }
    for (value, words) in outside {
        refused_once(&with(value), place, words);
    }
}

#[test]
fn vrrp_numbers_have_the_ranges_of_the_protocol() {
    limits("vrrp.version", &["2", "3"], &[("1", "use 2 or more"), ("4", "use 3 or less")]);
    limits("vrrp.vrid", &["1", "255"], &[("0", "use 1 or more"), ("256", "use 255 or less")]);
    limits("vrrp.priority", &["1", "254", "255"], &[("0", "use 1 or more"), ("256", "1 to 254; use 254 or less")]);
    limits("vrrp.min_ttl", &["1", "255"], &[("0", "use 1 or more"), ("256", "use 255 or less")]);
    limits("vrrp.priority", &[], &[("-1", "use 1 or more"), ("18446744073709551616", "use 254 or less")]);
}

#[test]
fn a_value_of_the_wrong_type_comes_with_the_right_one() {
    limits(
        "vrrp.vrid",
        &["0x33"],
        &[
            ("\"51\"", "\"51\" is a string; use 51, without quotes"),
            ("\"many\"", "is not a number"),
            ("5.5", "is not whole"),
            ("true", "is a truth value; use a whole number from 1 to 255"),
        ],
    );
    limits(
        "vrrp.adverts",
        &["true", "false"],
        &[
            ("\"yes\"", "is a string; use true, without quotes"),
            ("\"off\"", "use false"),
            ("1", "is an integer; use true or false"),
        ],
    );
    limits("node.interface", &[], &[("5", "5 is an integer; use \"5\""), ("[]", "is a list; use a string")]);
}

#[test]
fn version_2_advertises_in_whole_seconds() {
    limits_with(
        &[("vrrp.version", "2")],
        "vrrp.advert_interval",
        &["\"1s\"", "\"255s\"", "\"2000ms\""],
        &[
            ("\"999ms\"", "use \"1s\" or more"),
            ("\"256s\"", "use \"255s\" or less"),
            ("\"1400ms\"", "whole seconds only; use \"1s\" instead of \"1400ms\""),
            ("\"1500ms\"", "use \"2s\""),
            ("1", "use \"1s\""),
        ],
    );
}

#[test]
fn version_3_advertises_in_steps_of_ten_milliseconds() {
    limits(
        "vrrp.advert_interval",
        &["\"10ms\"", "\"40950ms\"", "\"1s\""],
        &[
            ("\"9ms\"", "use \"10ms\" or more"),
            ("\"40951ms\"", "use \"40950ms\" or less"),
            ("\"14ms\"", "steps of 10 ms; use \"10ms\" instead of \"14ms\""),
            ("\"15ms\"", "use \"20ms\""),
            ("\"40949ms\"", "use \"40950ms\""),
        ],
    );
}

#[test]
fn a_duration_is_a_whole_number_and_a_unit() {
    limits_with(
        &[("lease.hang", "\"60s\"")],
        "pulse.interval",
        &["\"1ms\"", "\"1500us\"", "\"1s\"", "\" 20ms \""],
        &[
            ("\"999us\"", "use \"1ms\" or more"),
            ("\"1001ms\"", "use \"1s\" or less"),
            ("20", "20 has no unit; use \"20ms\""),
            ("1", "1 has no unit; use \"1ms\" or \"1s\""),
            ("\"20\"", "has no unit"),
            ("\"20 ms\"", "use \"20ms\""),
            ("\"2seconds\"", "use \"2s\""),
            ("\"2parsecs\"", "is not a number and a unit"),
            ("\"20msec\"", "\"msec\" is not a unit; use \"20ms\""),
            ("\"1m\"", "use \"1min\" or \"1ms\""),
            ("\"2.5ms\"", "use \"2500us\""),
            ("\"-1ms\"", "is not a number and a unit (us, ms, s, min or h)"),
            ("\"\"", "is not a number and a unit"),
            ("\"99999999999999999999999999999999999999999s\"", "use"),
            ("20.0", "is a fraction"),
        ],
    );
}

#[test]
fn pulse_numbers_have_their_ranges() {
    limits_with(
        &[("lease.hang", "\"60s\"")],
        "pulse.threshold",
        &["2", "255"],
        &[("1", "use 2 or more"), ("256", "use 255 or less")],
    );
    limits("pulse.port", &["1", "65535"], &[("0", "use 1 or more"), ("65536", "use 65535 or less")]);
    limits(
        "pulse.cluster_id",
        &["1", "18446744073709551615"],
        &[("0", "use 1 or more"), ("18446744073709551616", "or less")],
    );
}

#[test]
fn some_heartbeat_must_be_left() {
    accepted(&[("vrrp.adverts", "false")]);
    accepted(&[("pulse.enabled", "false")]);
    refused_once(&[("vrrp.adverts", "false"), ("pulse.enabled", "false")], "vrrp.adverts", "leave no heartbeat");
}

#[test]
fn preemption_is_refused_beside_postgresql_and_only_there() {
    refused_once(&[("vrrp.preempt", "true")], "vrrp.preempt", "harbor-ha switchover");
    accepted(&[("vrrp.preempt", "true"), ("vrrp.preempt_delay", "\"1000s\""), ("postgres.", "")]);
    refused_once(
        &[("vrrp.preempt", "true"), ("vrrp.preempt_delay", "\"1001s\""), ("postgres.", "")],
        "vrrp.preempt_delay",
        "use \"1000s\" or less",
    );
    refused_once(&[("vrrp.preempt_delay", "\"1s\"")], "vrrp.preempt_delay", "does nothing while preempt is false");
}

#[test]
fn a_virtual_address_has_a_prefix_and_is_a_host() {
    limits("node.vips", &["[\"10.0.0.5/32\", \"10.0.0.6/24\", \"10.0.0.8/31\", \"10.0.1.1/1\"]"], &[]);
    for (vip, words) in [
        ("10.0.0.5", "use \"10.0.0.5/32\" instead of \"10.0.0.5\""),
        ("10.0.0.5/33", "use \"10.0.0.5/32\" instead of \"10.0.0.5/33\""),
        ("10.0.0.5/0", "use \"10.0.0.5/32\""),
        ("10.0.0.5/", "use \"10.0.0.5/32\""),
        ("10.0.0.5/+8", "use \"10.0.0.5/32\""),
        ("10.0.0.0/24", "network address"),
        ("10.0.0.255/24", "broadcast address"),
        ("fe80::1/64", "IPv6"),
        ("10.0.0/24", "is not an IPv4 address"),
        ("127.0.0.5/8", "unicast"),
        ("224.0.0.18/32", "unicast"),
        ("0.0.0.0/32", "unicast"),
    ] {
        refused_once(&[("node.vips", &format!("[{vip:?}]"))], "node.vips[0]", words);
    }
    refused_once(&[("node.vips", "\"10.0.0.5/32\"")], "node.vips", "use a list, [\"10.0.0.5/32\"]");
}

#[test]
fn there_are_one_to_twenty_virtual_addresses() {
    let vips = |count: u8| format!("{:?}", (10..10 + count).map(|n| format!("10.0.0.{n}/32")).collect::<Vec<_>>());
    limits("node.vips", &[&vips(1), &vips(20)], &[("[]", "name at least one"), (&vips(21), "remove 1")]);
}

#[test]
fn every_virtual_address_is_judged_at_its_own_line() {
    let vips = "[\n\"10.0.0.5/32\",\n\"10.0.0.5/24\",\n\"10.0.0.1/32\",\n\"10.0.0.2/24\",\n]";
    assert_eq!(
        refused(&[("node.vips", vips)]),
        [
            "7: node.vips[1]: 10.0.0.5 is there twice; remove one of them",
            "8: node.vips[2]: 10.0.0.1/32 is this node's own address; use an address that neither node has",
            "9: node.vips[3]: 10.0.0.2/24 is the peer's own address, which replication uses; use an address that \
             neither node has",
        ]
    );

    let found = refused(&[("node.vips", "[\"10.0.0.5\", \"10.0.0.1/32\"]")]);
    assert_eq!(found.len(), 2, "one that is wrong in itself hides no other: {found:?}");
}

#[test]
fn both_nodes_have_addresses_of_their_own() {
    limits(
        "node.peer",
        &["\"10.0.0.3\""],
        &[
            ("\"10.0.0.1\"", "this node's own address too"),
            ("\"10.0.0.2/24\"", "use \"10.0.0.2\""),
            ("\"db2.example\"", "is not an IPv4 address"),
        ],
    );
}

#[test]
fn an_instance_names_a_directory_of_pins() {
    limits(
        "node.instance",
        &["\"a\"", "\"harbor-2\"", &format!("{:?}", "a".repeat(32))],
        &[
            ("\"\"", "use 1 to 32 of"),
            (&format!("{:?}", "a".repeat(33)), "use 1 to 32 of"),
            ("\"Harbor_2\"", "use \"harbor-2\""),
            ("\"../x\"", "use 1 to 32 of"),
        ],
    );
}

#[test]
fn an_interface_has_a_name_that_the_kernel_takes() {
    limits(
        "node.interface",
        &["\"e\"", "\"enp0s31f6.100-x\""],
        &[
            ("\"enp0s31f6.100-xy\"", "has 16 bytes"),
            ("\"\"", "is no name of an interface"),
            ("\"a/b\"", "is no name of an interface"),
            ("\"a b\"", "is no name of an interface"),
            ("\"..\"", "is no name of an interface"),
            ("\"eth0:1\"", "use \"eth0\""),
            ("\"lo\"", "never leaves this host"),
        ],
    );
}

#[test]
fn paths_are_absolute_and_sockets_fit() {
    limits(
        "node.state_dir",
        &["\"/x\""],
        &[("\"x\"", "begin it with `/`"), ("\"~/x\"", "shell"), ("\"\"", "is empty")],
    );
    limits("postgres.data_dir", &[], &[("\"data\"", "relative"), ("\"/a\\nb\"", "control character")]);
    // 107 bytes for `sun_path`, of which "/harbor.sock" takes 12 and "/.s.PGSQL.5432" 14.
    let path = |length: usize| format!("\"/{}\"", "d".repeat(length - 1));
    limits("node.runtime_dir", &[&path(95)], &[(&path(96), "has 108 bytes, a socket at most 107")]);
    limits("postgres.socket_dir", &[&path(93)], &[(&path(94), "has 108 bytes, a socket at most 107")]);
}

#[test]
fn announcements_have_their_ranges() {
    limits("announce.repeat", &["1", "100"], &[("0", "use 1 or more"), ("101", "use 100 or less")]);
    limits("announce.refresh_repeat", &["1", "100"], &[("0", "use 1 or more"), ("101", "use 100 or less")]);
    limits("announce.delay", &["\"0s\"", "\"1h\""], &[("\"3601s\"", "use \"1h\" or less")]);
    limits(
        "announce.refresh",
        &["\"0s\"", "\"100ms\"", "\"60min\""],
        &[("\"99ms\"", "use \"100ms\" or more"), ("\"3601s\"", "use \"1h\" or less")],
    );
}

#[test]
fn names_of_standbys_need_no_quotes_and_differ() {
    let longest = format!("{:?}", "n".repeat(63));
    limits(
        "postgres.peer_name",
        &["\"Node_2\"", "\"_\"", &longest],
        &[
            (&format!("{:?}", "n".repeat(64)), "has 64 bytes"),
            ("\"\"", "is empty"),
            ("\"ecs-254\"", "use \"ecs_254\""),
            ("\"254\"", "use \"node_254\""),
            ("\"Any\"", "use \"node_Any\""),
            ("\"node1\"", "this node's own name too"),
            ("\"NODE1\"", "this node's own name too"),
        ],
    );
}

#[test]
fn a_slot_has_the_letters_that_postgresql_allows() {
    limits(
        "postgres.slot",
        &["\"a\"", "\"harbor_ha_2\"", &format!("{:?}", "s".repeat(63))],
        &[
            (&format!("{:?}", "s".repeat(64)), "has 64 bytes"),
            ("\"\"", "is empty"),
            ("\"Harbor-HA\"", "use \"harbor_ha\""),
        ],
    );
}

#[test]
fn postgresql_has_its_ranges() {
    limits("postgres.port", &["1", "65535"], &[("0", "use 1 or more"), ("65536", "use 65535 or less")]);
    limits("postgres.probe_interval", &["\"10ms\"", "\"1min\""], &[("\"9ms\"", "\"10ms\""), ("\"61s\"", "\"1min\"")]);
    limits("postgres.probe_timeout", &["\"10ms\"", "\"60s\""], &[("\"9ms\"", "\"10ms\""), ("\"61s\"", "\"1min\"")]);
    limits("postgres.probe_fall", &["1", "100"], &[("0", "use 1 or more"), ("101", "use 100 or less")]);
    limits(
        "postgres.stop_timeout",
        &["\"1s\"", "\"1h\""],
        &[("\"999ms\"", "\"1s\""), ("\"2h\"", "\"1h\""), ("10", "\"10s\"")],
    );
    limits("postgres.user", &["\"Ä b\""], &[("\"\"", "is empty"), (&format!("{:?}", "u".repeat(64)), "has 64 bytes")]);
}

#[test]
fn the_gate_guards_the_whole_host_or_a_folder() {
    limits("kernel.cgroup", &["\"auto\"", "\"/sys/fs/cgroup/pg\""], &[("\"pg\"", "is relative")]);
}

#[test]
fn words_are_known_or_come_with_the_nearest() {
    limits(
        "postgres.sync",
        &["\"required\"", "\"off\""],
        &[("\"require\"", "did you mean \"required\"?"), ("\"x\"", "use \"required\", \"preferred\" or \"off\"")],
    );
    limits(
        "kernel.xdp_mode",
        &["\"auto\"", "\"native\"", "\"generic\""],
        &[("\"Native\"", "did you mean \"native\"?"), ("\"skb\"", "use \"auto\", \"native\" or \"generic\"")],
    );
}

#[test]
fn real_time_has_the_priorities_of_the_kernel() {
    limits("realtime.priority", &["0", "99"], &[("-1", "use 0 or more"), ("100", "use 99 or less")]);
}

#[test]
fn sizes_have_binary_units() {
    let value = |text: &str| toml::de::DeValue::String(text.to_owned().into());
    let size = |text| values::size(&value(text), 1024..=1 << 30);
    assert_eq!(size("16MiB"), Ok(16 << 20));
    assert_eq!((size("1KiB"), size("1GiB")), (Ok(1 << 10), Ok(1 << 30)));
    assert!(size("1023B").unwrap_err().contains("use \"1KiB\" or more"));
    assert!(size("1025MiB").unwrap_err().contains("use \"1GiB\" or less"));
    assert!(size("16MB").unwrap_err().contains("use \"16MiB\""));
}
