//! The router form: what it takes, and every refusal with its way out.

use std::time::Duration;

use super::settings::{Checksum, MailTls, Scope, Settings, Tracked, Wish};
use crate::config::settings::VrrpVersion;
use crate::config::tests::Fake;
use crate::config::{Configuration, parse, parse_any};

mod example;

/// The smallest file of this form.
const LEAST: &str = "[[instance]]\nname = \"VI_1\"\ninterface = \"eth0\"\nvrid = 51\nvips = [\"10.0.0.5/32\"]\n";

#[track_caller]
fn accepted(text: &str) -> Settings {
    match parse_any(text, &host()) {
        Ok(Configuration::Router(settings)) => *settings,
        Ok(Configuration::Pair(_)) => panic!("taken for a pair:\n{text}"),
        Err(problems) => panic!("should be accepted:\n{text}\n{problems}"),
    }
}

#[track_caller]
fn refused(text: &str) -> Vec<String> {
    match parse_any(text, &host()) {
        Ok(_) => panic!("should be refused:\n{text}"),
        Err(problems) => problems.to_string().lines().map(|line| line.replacen("harbor-ha.toml:", "", 1)).collect(),
    }
}

/// One problem, at `place`, that says `words`.
#[track_caller]
fn refused_once(text: &str, place: &str, words: &str) {
    let found = refused(text);
    let [problem] = found.as_slice() else { panic!("one problem expected: {found:#?}") };
    assert!(problem.contains(&format!(" {place}: ")) && problem.contains(words), "{problem}");
}

fn host() -> Fake {
    Fake::new().file("/p", 0o600, "111111\n").file("/open", 0o644, "1")
}

fn least_with(more: &str) -> String {
    format!("{LEAST}{more}\n")
}

#[test]
fn the_smallest_file_has_keepaliveds_defaults() {
    let settings = accepted(LEAST);
    let [instance] = settings.instances.as_slice() else { panic!("{settings:?}") };
    assert_eq!((instance.version, instance.priority.0, instance.state), (VrrpVersion::V2, 100, Wish::Backup));
    assert_eq!((instance.advert_interval, instance.down_timer_adverts), (Duration::from_secs(1), 3));
    assert!(instance.preempt && instance.peers.is_empty() && instance.track_primary && instance.check_source);
    assert_eq!((instance.announce.repeat, instance.announce.delay), (5, Duration::from_secs(5)));
    assert_eq!(instance.announce.lower_priority_delay, Duration::from_secs(5));
    assert_eq!((instance.vips[0].interface.as_str(), instance.vips[0].scope), ("eth0", Scope::Global));
    assert_eq!(settings.router.name, "router");
}

#[test]
fn a_file_is_of_one_form_and_a_mix_is_refused_where_it_begins() {
    refused_once(&least_with("[node]\ninterface = \"eth0\""), "node", "one file describes one of the two");
    let found = refused("[pulse]\n\n[router]\n");
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("3: router: [router] is of plain VRRP and [pulse] of a pair of nodes"), "{found:?}");
    let error = parse(LEAST, &host()).unwrap_err().to_string();
    assert!(error.contains("is for plain VRRP ([[instance]]); this needs one for a pair"), "{error}");
}

#[test]
fn a_router_without_an_instance_is_refused() {
    refused_once("[router]\nname = \"x\"\n", "instance", "add at least one [[instance]]");
}

#[test]
fn all_problems_are_reported_at_once_with_their_lines() {
    let found = refused(
        "[[instance]]\nname = \"A\"\ninterface = \"eth0\"\nvrid = 0\nvips = [\"10.0.0.5\"]\npeer = [\"10.0.0.1\"]\n\
         [instance.track]\nscripts = [\"chk\"]\n[[script]]\nname = \"chk_pg\"\ncommand = \"check\"\n\
         [[instance]]\nname = \"A\"\ninterface = \"eth0\"\n",
    );
    let places: Vec<_> = found.iter().map(|problem| problem.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        places,
        [
            "4: instance[0].vrid:",
            "5: instance[0].vips[0]:",
            "6: instance[0].peer:",
            "11: script[0].command:",
            "12: instance[1].vrid:",
            "12: instance[1].vips:",
        ]
    );
    assert!(found[2].contains("did you mean `peers`?"), "{found:?}");
    assert!(found[4].contains("is missing; add `vrid = 51`"), "{found:?}");
}

#[test]
fn an_announce_of_a_pair_and_a_word_of_keepalived_are_sent_home() {
    refused_once(&format!("[announce]\n{LEAST}"), "announce", "did you mean [instance.announce]?");
    refused_once(&least_with("nopreempt = true"), "instance[0].nopreempt", "use instance.preempt = false");
    refused_once(&least_with("auth_pass = \"x\""), "instance[0].auth_pass", "use instance.password_file");
}

#[test]
fn two_instances_share_no_vrid_unless_their_peers_differ() {
    let two = |first: &str, second: &str| {
        format!(
            "{LEAST}{first}\n[[instance]]\nname = \"VI_2\"\ninterface = \"eth0\"\nvrid = 51\n\
             vips = [\"10.0.0.6/32\"]\n{second}\n"
        )
    };
    refused_once(&two("", ""), "instance[1].vrid", "51 is that of \"VI_1\" on eth0 too (line 1)");
    let (one, other) = ("peers = [\"10.0.0.1\"]", "peers = [\"10.0.0.2\"]");
    refused_once(&two(one, one), "instance[1].vrid", "use another number");
    assert_eq!(accepted(&two(one, other)).instances.len(), 2);
    assert_eq!(accepted(&two(one, "")).instances.len(), 2);
    assert_eq!(accepted(&two("", "").replacen("eth0", "eth1", 1)).instances.len(), 2);
}

#[test]
fn two_instances_share_no_name_and_no_address() {
    let two = |name: &str, vip: &str| {
        format!("{LEAST}[[instance]]\nname = \"{name}\"\ninterface = \"eth0\"\nvrid = 52\nvips = [\"{vip}\"]\n")
    };
    refused_once(&two("VI_1", "10.0.0.6/32"), "instance[1].name", "is there twice (line 1)");
    refused_once(&two("VI_2", "10.0.0.5/24"), "instance[1].vips", "is an address of \"VI_1\" too");
}

#[test]
fn addresses_come_with_more_than_an_address() {
    let text = LEAST.replace(
        "vips = [\"10.0.0.5/32\"]",
        "vips = [\"10.0.0.5/32\", { address = \"10.1.0.5/24\", interface = \"eth1\", label = \"eth1:1\", scope = \"link\" }]",
    );
    let vips = accepted(&text).instances.remove(0).vips;
    assert_eq!(
        (vips[1].interface.as_str(), vips[1].label.as_deref(), vips[1].scope),
        ("eth1", Some("eth1:1"), Scope::Link)
    );
    refused_once(&text.replace("link", "lnk"), "instance[0].vips[1].scope", "did you mean \"link\"?");
    refused_once(&text.replace("label =", "lable ="), "instance[0].vips[1].lable", "did you mean `label`?");
    refused_once(
        &text.replace("10.1.0.5/24", "10.0.0.5/24").replace("\"eth1\"", "\"eth0\""),
        "instance[0].vips[1]",
        "twice",
    );
    let many: Vec<_> = (1..=21).map(|n| format!("\"10.2.0.{n}/32\"")).collect();
    let many = |most: usize| LEAST.replace("\"10.0.0.5/32\"", &many[..most].join(", "));
    assert_eq!(accepted(&many(20)).instances[0].vips.len(), 20);
    refused_once(&many(21), "instance[0].vips", "21 addresses are more than 20; remove 1");
    refused_once(&LEAST.replace("vips = [\"10.0.0.5/32\"]", ""), "instance[0].vips", "is missing");
    assert!(accepted(&LEAST.replace("\"10.0.0.5/32\"", "")).instances[0].vips.is_empty());
}

#[test]
fn what_a_version_or_a_way_of_sending_does_not_have_is_refused() {
    refused_once(&least_with("checksum = \"auto\""), "instance[0].checksum", "version 2 has one kind");
    assert_eq!(accepted(&least_with("version = 3\nchecksum = \"auto\"")).instances[0].checksum, Checksum::Auto);
    refused_once(&least_with("version = 3\npassword_file = \"/p\""), "instance[0].password_file", "no authentication");
    refused_once(&least_with("advert_interval = \"1500ms\""), "instance[0].advert_interval", "use \"2s\"");
    refused_once(&least_with("version = 3\nadvert_interval = \"15ms\""), "instance[0].advert_interval", "use \"20ms\"");
    refused_once(&least_with("min_ttl = 0"), "instance[0].min_ttl", "multicast");
    assert_eq!(accepted(&least_with("min_ttl = 0\npeers = [\"10.0.0.1\"]")).instances[0].min_ttl, 0);
    refused_once(&least_with("preempt = false\npreempt_delay = \"1s\""), "instance[0].preempt_delay", "remove it");
    refused_once(&least_with("priority = 255\npreempt = false"), "instance[0].preempt", "always preempts");
    refused_once(&least_with("source = \"10.0.0.1\"\npeers = [\"10.0.0.1\"]"), "instance[0].peers[0]", "own address");
    refused_once(&least_with("peers = [\"fe80::1\"]"), "instance[0].peers[0]", "IPv6");
}

#[test]
fn a_password_comes_from_a_file_that_is_closed_to_others() {
    let settings = accepted(&least_with("password_file = \"/p\""));
    assert_eq!(settings.instances[0].password.as_ref().unwrap().reveal(), b"111111\0\0");
    refused_once(&least_with("password_file = \"/open\""), "instance[0].password_file", "run `chmod 600 /open`");
    let found = refused(&least_with("password = \"hunter2\""));
    assert!(found.len() == 1 && !found[0].contains("hunter2"), "{found:?}");
}

const SCRIPT: &str = "[[script]]\nname = \"chk\"\ncommand = \"/bin/check 'a b'\"\nweight = -20\n";

#[test]
fn a_tracker_brings_its_weight_unless_the_list_names_another() {
    let text = |list: &str| format!("{LEAST}[instance.track]\nscripts = [{list}]\n{SCRIPT}");
    let tracked = |list: &str| accepted(&text(list)).instances.remove(0).track.scripts;
    let expected = |weight, reverse| vec![Tracked { name: "chk".into(), weight, reverse }];
    assert_eq!(tracked("\"chk\""), expected(-20, false));
    assert_eq!(tracked("{ name = \"chk\", weight = 5, reverse = true }"), expected(5, true));
    refused_once(&text("\"chl\""), "instance[0].track.scripts[0]", "did you mean \"chk\"?");
    refused_once(&text("\"other\""), "instance[0].track.scripts[0]", "there is no [[script]] named \"other\"; add one");
    refused_once(&text("\"chk\", \"chk\""), "instance[0].track.scripts[1]", "twice");
    refused_once(&text("{ name = \"chk\", weight = 254 }"), "instance[0].track.scripts[0].weight", "use 253 or less");
    refused_once(&text("{ name = \"chk\", weight = -254 }"), "instance[0].track.scripts[0].weight", "use -253 or more");
}

#[test]
fn a_command_is_a_list_or_a_text_and_begins_with_a_path() {
    let settings = accepted(&least_with(SCRIPT));
    assert_eq!(settings.trackers.scripts[0].run.words, ["/bin/check", "a b"]);
    assert_eq!(settings.trackers.scripts[0].timeout, Duration::from_secs(1));
    let with = |command: &str| least_with(&SCRIPT.replace("\"/bin/check 'a b'\"", command));
    refused_once(&with("\"killall -0 postgres\""), "script[0].command", "begin it with `/`");
    refused_once(&with("[]"), "script[0].command", "is empty");
    refused_once(&with("\"/bin/check 'a\""), "script[0].command", "does not close it");
    assert_eq!(accepted(&with("[\"/bin/x\", \"\"]")).trackers.scripts[0].run.words, ["/bin/x", ""]);
}

#[test]
fn a_script_has_the_user_of_its_own_entry_or_of_its_table() {
    let settings = accepted(&least_with(
        "[instance.notify]\nuser = \"a:b\"\nmaster = \"/bin/x\"\nbackup = { command = [\"/bin/y\"], user = \"c\" }",
    ));
    let notify = &settings.instances[0].notify;
    assert_eq!(notify.master.as_ref().unwrap().user.as_ref().unwrap().to_string(), "a:b");
    assert_eq!(notify.backup.as_ref().unwrap().user.as_ref().unwrap().to_string(), "c");
    refused_once(&least_with("[instance.notify]\nuser = \"a:\""), "instance[0].notify.user", "names no user");
}

const MAIL: &str = "[mail]\nserver = \"mx\"\nfrom = \"a@b\"\nto = [\"Some One <c@d>\"]\n";

#[test]
fn mail_is_sent_where_it_is_wanted() {
    let mails = |mail: &str, notify: &str| {
        accepted(&format!("{LEAST}[instance.notify]\n{notify}\n{MAIL}{mail}\n")).instances[0].notify.mail
    };
    assert!(
        !mails("", "") && mails("all = true", "") && mails("", "mail = true") && !mails("all = true", "mail = false")
    );
    refused_once(&least_with("[instance.notify]\nmail = true"), "instance[0].notify.mail", "there is no [mail]");
    let mail = accepted(&format!("{LEAST}{MAIL}")).mail.unwrap();
    assert_eq!((mail.host.as_str(), mail.port, mail.tls), ("mx", 25, MailTls::Opportunistic));
    refused_once(&format!("{LEAST}{MAIL}user = \"x\"\npassword_file = \"/p\""), "mail.tls", "use \"required\"");
    refused_once(&format!("{LEAST}{MAIL}").replace("a@b", "a b"), "mail.from", "is no mail address");
    refused_once(&format!("{LEAST}{MAIL}").replace("mx", "mx:smtp"), "mail.server", "is no server");
}

#[test]
fn a_group_names_instances_that_are_there_and_in_no_other() {
    let groups = |more: &str| {
        format!(
            "{LEAST}[[instance]]\nname = \"VI_2\"\ninterface = \"eth1\"\nvrid = 52\nvips = [\"10.0.0.6/32\"]\n{more}\n"
        )
    };
    let one = "[[group]]\nname = \"G\"\ninstances = [\"VI_1\", \"VI_2\"]\n";
    assert_eq!(accepted(&groups(one)).groups[0].instances, ["VI_1", "VI_2"]);
    refused_once(&groups(&one.replace("VI_2", "VI_3")), "group[0].instances[1]", "did you mean \"VI_");
    refused_once(&groups(&one.replace("VI_2", "VI_1")), "group[0].instances[1]", "twice");
    refused_once(&groups("[[group]]\nname = \"G\"\ninstances = []"), "group[0].instances", "is empty");
    let two = format!("{one}[[group]]\nname = \"H\"\ninstances = [\"VI_2\"]\n");
    let found = refused(&groups(&two));
    assert!(found.len() == 1 && found[0].contains("can follow one group"), "{found:?}");
}

#[test]
fn a_process_and_a_file_have_limits_of_their_own() {
    let process = |more: &str| least_with(&format!("[[process]]\nname = \"p\"\nprocess = \"postgres\"\n{more}"));
    let settings = accepted(&process("delay = \"500ms\"\nterminate_delay = \"2s\""));
    let it = &settings.trackers.processes[0];
    assert_eq!((it.fork_delay, it.terminate_delay), (Duration::from_millis(500), Duration::from_secs(2)));
    refused_once(&process("match = \"initial\""), "process[0].match", "no arguments");
    refused_once(&process("quorum = 3\nquorum_max = 2"), "process[0].quorum_max", "use 3 or more");
    let file = |more: &str| least_with(&format!("[[file]]\nname = \"f\"\npath = \"/run/f\"\n{more}"));
    assert_eq!(accepted(&file("init = -3")).trackers.files[0].init, Some(-3));
    refused_once(&file("overwrite = true"), "file[0].init", "is missing");
    refused_once(&file("[[file]]\nname = \"f\"\npath = \"/g\""), "file[1].name", "is there twice");
}

#[test]
fn a_fifo_is_a_path_or_more() {
    let with = |fifo: &str| format!("[router]\nfifo = {fifo}\n{LEAST}");
    assert_eq!(accepted(&with("\"/run/f\"")).router.fifo.unwrap().path.to_str(), Some("/run/f"));
    let fifo = accepted(&with("{ path = \"/run/f\", user = \"u\", command = \"/bin/r x\" }")).router.fifo.unwrap();
    assert_eq!(fifo.reader.unwrap().words, ["/bin/r", "x"]);
    refused_once(&with("{ path = \"f\" }"), "router.fifo.path", "is relative");
    refused_once(&with("3"), "router.fifo", "use \"3\"");
}

const CLOUD: &str = "[cloud]\nhavip = \"auto\"\npeer_instance = \"i-b\"\n";

fn unicast(more: &str) -> String {
    format!("{}{more}", LEAST.replace("vips =", "peers = [\"10.0.0.2\"]\nvips ="))
}

#[test]
fn a_havip_is_the_only_address_or_the_one_that_is_named() {
    let settings = accepted(&unicast(CLOUD));
    let (index, instance, cloud) = settings.of_havip().unwrap();
    assert_eq!((index, instance.name.as_str(), cloud.address.to_string().as_str()), (0, "VI_1", "10.0.0.5"));
    assert!(!cloud.fence.is_on() && accepted(&unicast("")).of_havip().is_none());

    let second = "[[instance]]\nname = \"VI_2\"\ninterface = \"eth0\"\nvrid = 52\nvips = []\npeers = [\"10.0.0.2\"]\n\
                  excluded_vips = [\"10.0.0.6/32\"]\n";
    let both = |more: &str| unicast(&format!("{second}{CLOUD}{more}"));
    refused_once(&both(""), "cloud.address", "there are 2 virtual addresses");
    let settings = accepted(&both("address = \"10.0.0.6\"\n"));
    assert_eq!(settings.of_havip().map(|(index, instance, _)| (index, instance.name.as_str())), Some((1, "VI_2")));
    refused_once(&both("address = \"10.0.0.7\"\n"), "cloud.address", "10.0.0.7 is no virtual address of this file");
}

#[test]
fn a_havip_of_the_router_form_has_a_peer_that_can_hear_it_and_that_nobody_fences() {
    refused_once(&least_with(CLOUD), "cloud.address", "a VPC carries none");
    for fence in ["havip-unassociate", "ecs-stop"] {
        let text = unicast(&format!("{CLOUD}fence = [\"{fence}\"]\n"));
        refused_once(&text, "cloud.fence", "needs a lease");
    }
    assert!(accepted(&unicast(&format!("{CLOUD}fence = []\n"))).cloud.is_some());
    refused_once(&unicast("[cloud]\nhavip = \"auto\"\n"), "cloud.peer_instance", "is missing");
}
