//! Whatever the text is: no panic, one verdict for each line, no secret told, and what is written runs.
//!
//! A few thousand cases by default; HARBOR_HA_IMPORT_CASES=1000000 for more, best with `--release`.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::Config;

use super::super::keywords::{GLOBALS, INSTANCE, TOP};
use super::*;

const CASES: u32 = 2000;

fn config() -> Config {
    let cases = std::env::var("HARBOR_HA_IMPORT_CASES").ok().map(|number| number.parse().expect("a number of cases"));
    Config { cases: cases.unwrap_or(CASES), failure_persistence: None, ..Config::default() }
}

/// Words that are judged by hand and are in no list.
const MORE: &[&str] = &[
    "state",
    "interface",
    "virtual_router_id",
    "priority",
    "advert_int",
    "version",
    "authentication",
    "auth_type",
    "unicast_src_ip",
    "unicast_peer",
    "unicast_ttl",
    "virtual_ipaddress",
    "virtual_ipaddress_excluded",
    "nopreempt",
    "preempt_delay",
    "garp_master_delay",
    "garp_master_repeat",
    "garp_lower_prio_repeat",
    "garp_master_refresh",
    "down_timer_adverts",
    "track_interface",
    "track_script",
    "track_process",
    "track_file",
    "notify_master",
    "notify",
    "notify_stop",
    "smtp_alert",
    "script",
    "interval",
    "timeout",
    "rise",
    "fall",
    "weight",
    "user",
    "init_fail",
    "process",
    "param_match",
    "quorum",
    "quorum_max",
    "delay",
    "full_command",
    "file",
    "init_file",
    "group",
    "router_id",
    "notification_email",
    "notification_email_from",
    "smtp_server",
    "vrrp_version",
    "vrrp_garp_master_delay",
    "vrrp_notify_fifo",
    "vrrp_notify_fifo_script",
    "script_user",
    "include",
    "vrrp_garp_interval",
    "dont_track_primary",
    "check_unicast_src",
    "v3_checksum_as_v2",
    "vrrp_min_garp",
    "vrrp_rt_priority",
    "vrrp_startup_delay",
];

const ARGUMENTS: &[&str] = &[
    "MASTER",
    "BACKUP",
    "PASS",
    "AH",
    "0",
    "1",
    "2",
    "3",
    "51",
    "100",
    "254",
    "255",
    "256",
    "-1",
    "-254",
    "0.01",
    "0.4",
    "1.5",
    "99999999999",
    "1e9",
    "on",
    "off",
    "eth0",
    "eth1",
    "lo",
    "eth0:1",
    "VI_1",
    "VI_2",
    "chk",
    "none",
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.5/32",
    "10.0.0.0/24",
    "10.0.0.7/24",
    "172.16.0.9",
    "127.0.0.1",
    "224.0.0.18",
    "0.0.0.0",
    "fe80::1",
    "::/0",
    "dev",
    "label",
    "scope",
    "brd",
    "weight",
    "reverse",
    "noreverse",
    "min_ttl",
    "max_ttl",
    "/x.sh",
    "\"/x.sh a\"",
    "\"/x 'a b' \\x41\"",
    "\"/x 'open\"",
    "killall",
    "\"killall -0 x\"",
    "~/x",
    "root",
    "nobody",
    "a@b",
    "\"A B <a@b>\"",
    "mx",
    "25",
    "\"",
    "'",
    "\\",
    "\"\"",
    "$V",
    "${V}",
    "$W",
    "${W}",
    "${",
    "$",
    "${_PWD}",
    "é",
    "\u{0}",
    "\u{202e}",
    "{",
    "}",
    "{ x }",
    "#",
    "overwrite",
    "initial",
    "partial",
    "global",
    "link",
    "a\tb",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
];

/// In no other place of the texts than behind `auth_pass`.
const PASSWORD: &str = "s3cr3t";

fn keyword() -> impl Strategy<Value = &'static str> {
    let listed = [TOP, GLOBALS, INSTANCE].into_iter().flatten().map(|(word, ..)| *word);
    select(listed.chain(MORE.iter().copied()).collect::<Vec<_>>())
}

fn argument() -> impl Strategy<Value = String> {
    prop_oneof![9 => select(ARGUMENTS).prop_map(str::to_owned), 1 => "\\PC{0,6}"]
}

fn statement() -> impl Strategy<Value = String> {
    (keyword(), prop::collection::vec(argument(), 0..4))
        .prop_map(|(word, arguments)| format!("{word} {}", arguments.join(" ")))
}

/// A line of any kind.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => statement(),
        3 => keyword().prop_map(|word| format!("{word} {{")),
        3 => Just("}".to_owned()),
        1 => Just("{".to_owned()),
        1 => Just(String::new()),
        1 => Just("# comment".to_owned()),
        1 => argument().prop_map(|value| format!("$V={value}")),
        1 => Just("$W=\\".to_owned()),
        1 => statement().prop_map(|text| format!("{text} \\")),
        1 => statement().prop_map(|text| format!("@node1 {text}")),
        1 => statement().prop_map(|text| format!("@^node1 {text}")),
        1 => (0..6i32, -3..3i32, 0..6i32, statement()).prop_map(|(a, b, c, text)| format!("~SEQ(N,{a},{b},{c}) {text} $N")),
        1 => Just("include /part/*".to_owned()),
        1 => "\\PC{0,30}",
    ]
}

fn lines(most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(line(), 0..most).prop_map(|lines| lines.join("\n"))
}

/// A statement that an instance takes, with a value that it may take.
fn sensible() -> impl Strategy<Value = String> {
    let values = select(ARGUMENTS);
    prop_oneof![
        (select(MORE), values.clone()).prop_map(|(word, value)| format!("{word} {value}")),
        (
            select(
                &[
                    "virtual_ipaddress",
                    "virtual_ipaddress_excluded",
                    "unicast_peer",
                    "track_interface",
                    "track_script",
                    "track_process",
                    "track_file",
                    "notification_email",
                    "group"
                ][..]
            ),
            prop::collection::vec((values, argument(), argument()), 0..4)
        )
            .prop_map(|(word, items)| {
                let items: Vec<_> =
                    items.iter().map(|(first, second, third)| format!("{first} {second} {third}")).collect();
                format!("{word} {{\n{}\n}}", items.join("\n"))
            }),
        statement(),
    ]
}

/// A block as operators write it, mostly.
fn block() -> impl Strategy<Value = String> {
    let sensible = || prop::collection::vec(sensible(), 0..10).prop_map(|lines| lines.join("\n"));
    let name = || select(&["VI_1", "VI_2", "chk", "A B", "\"A B\"", ""][..]);
    let interface = select(&["eth0", "eth1", "eth0:1"][..]);
    prop_oneof![
        4 => (name(), interface, 0..300u32, sensible(), any::<bool>()).prop_map(|(name, interface, vrid, more, auth)| {
            let auth = if auth { format!("authentication {{\nauth_type PASS\nauth_pass {PASSWORD}\n}}\n") } else { String::new() };
            format!("vrrp_instance {name} {{\ninterface {interface}\nvirtual_router_id {vrid}\n{auth}virtual_ipaddress {{\n10.0.{vrid}.5\n}}\n{more}\n}}")
        }),
        1 => (name(), sensible()).prop_map(|(name, more)| format!("vrrp_script {name} {{\nscript /x.sh\n{more}\n}}")),
        1 => (name(), sensible()).prop_map(|(name, more)| format!("vrrp_track_process {name} {{\nprocess p\n{more}\n}}")),
        1 => (name(), sensible()).prop_map(|(name, more)| format!("track_file {name} {{\nfile /f\n{more}\n}}")),
        1 => (name(), sensible()).prop_map(|(name, more)| format!("vrrp_sync_group {name} {{\ngroup {{\nVI_1\nVI_2\n}}\n{more}\n}}")),
        2 => sensible().prop_map(|more| format!("global_defs {{\n{more}\n}}")),
        1 => line(),
    ]
}

/// What must hold of every import.
fn holds(text: &str, options: &Options) {
    let files = Files::default().with("/part/a", "priority 7\n\ninclude /part/*\n").with("/part/b", "} {\n");
    let path = Path::new("/etc/keepalived/keepalived.conf");
    let import = import(path, text, options, &files);
    let of_main = import.verdicts.iter().filter(|verdict| verdict.file == path);
    let judged: Vec<usize> = of_main.map(|verdict| verdict.line).collect();
    let there = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(|(n, _)| n + 1);
    assert_eq!(judged, there.collect::<Vec<_>>(), "one verdict for each line:\n{text}");
    for verdict in &import.verdicts {
        assert!(verdict.why != NOT_UNDERSTOOD, "{verdict:?}\n{text}");
        assert!(!verdict.keyword.contains(char::is_control), "{verdict:?}");
        assert!(!verdict.why.contains(PASSWORD) && !verdict.keyword.contains(PASSWORD), "{verdict:?}");
    }
    match &import.toml {
        Ok(toml) => {
            assert!(!toml.contains(PASSWORD), "{toml}");
            let read = configuration(&import);
            assert_eq!(matches!(read, Configuration::Pair(_)), options.pair.is_some());
        }
        Err(why) => assert!(!why.contains("please report it"), "{why}\n{text}"),
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        holds(&String::from_utf8_lossy(&bytes), &options());
    }

    #[test]
    fn any_lines_of_keywords_are_judged(text in lines(40)) {
        holds(&text, &options());
    }

    #[test]
    fn configurations_that_operators_could_have_are_judged_and_run(blocks in prop::collection::vec(block(), 0..6), pair in any::<bool>()) {
        let options = if pair { for_pair() } else { options() };
        holds(&blocks.join("\n"), &options);
    }
}
