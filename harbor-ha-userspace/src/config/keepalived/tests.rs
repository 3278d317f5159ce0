//! `keepalived.conf` as operators have it, and as nobody should.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::verdict::NOT_UNDERSTOOD;
use super::{Import, Kind, Memory, Options, Pair, Surroundings, Verdict, import};
use crate::config::router::Settings as Router;
use crate::config::router::settings::{Checksum, Scope, Wish};
use crate::config::settings::VrrpVersion;
use crate::config::tests::Fake;
use crate::config::{Configuration, parse_any};

mod fuzz;
mod keywords;
mod safety;
mod text;
mod twice;

/// Files that exist only here; a pattern ends with `*` or names one.
#[derive(Default)]
struct Files(BTreeMap<PathBuf, String>);

impl Files {
    fn with(mut self, path: &str, text: &str) -> Self {
        self.0.insert(path.into(), text.into());
        self
    }
}

impl Surroundings for Files {
    fn include(&self, from: &Path, pattern: &str) -> Result<Vec<(PathBuf, String)>, String> {
        let whole = from.parent().unwrap().join(pattern);
        let whole = whole.to_str().unwrap();
        let fits = |path: &Path| match whole.strip_suffix('*') {
            Some(start) => path.to_str().unwrap().starts_with(start),
            None => path == Path::new(whole),
        };
        Ok(self.0.iter().filter(|(path, _)| fits(path)).map(|(path, text)| (path.clone(), text.clone())).collect())
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        (name == "killall").then(|| "/usr/bin/killall".into())
    }

    fn name(&self) -> Option<String> {
        Some("node1".into())
    }
}

fn options() -> Options {
    Options { config_id: "node1".into(), secrets_dir: "/etc/harbor-ha".into(), pair: None }
}

fn for_pair() -> Options {
    let pair = Pair {
        data_dir: "/data".into(),
        bin_dir: "/usr/pgsql-13/bin".into(),
        pulse_key_file: "/etc/harbor-ha/pulse.key".into(),
        isolated: "hold".into(),
        names: None,
        keep_notify: false,
    };
    Options { pair: Some(pair), ..options() }
}

fn imported(text: &str) -> Import {
    import(Path::new("/etc/keepalived/keepalived.conf"), text, &options(), &Files::default())
}

/// What it would run, read as the daemon would read it.
#[track_caller]
fn configuration(import: &Import) -> Configuration {
    let toml = import.toml.as_ref().unwrap_or_else(|why| panic!("{why}\n{:#?}", import.verdicts));
    parse_any(toml, &Memory::new(&import.secrets, &Fake::new())).unwrap_or_else(|problems| panic!("{toml}\n{problems}"))
}

#[track_caller]
fn router(text: &str) -> Router {
    match configuration(&imported(text)) {
        Configuration::Router(settings) => *settings,
        Configuration::Pair(_) => panic!("a pair"),
    }
}

/// The verdict on the line that holds `needle`.
#[track_caller]
fn verdict(text: &str, needle: &str) -> Verdict {
    let line = text.lines().position(|line| line.contains(needle)).expect(needle) + 1;
    let found: Vec<_> = imported(text).verdicts.into_iter().filter(|verdict| verdict.line == line).collect();
    let [verdict] = found.as_slice() else { panic!("one verdict for {needle}: {found:#?}") };
    verdict.clone()
}

#[track_caller]
fn judged(text: &str, needle: &str, kind: Kind, words: &str) {
    let verdict = verdict(text, needle);
    assert!(verdict.kind == kind && verdict.why.contains(words), "{verdict:#?}");
}

/// An instance that runs, with more lines in it.
fn instance(more: &str) -> String {
    format!(
        "vrrp_instance VI_1 {{\n interface eth0\n virtual_router_id 51\n virtual_ipaddress {{\n 10.0.0.5\n }}\n{more}\n}}\n"
    )
}

const UNICAST: &str = "unicast_src_ip 10.0.0.1\nunicast_peer {\n10.0.0.2\n}\n";

#[test]
fn the_smallest_instance_runs_with_keepaliveds_defaults() {
    let settings = router(&instance(""));
    let it = &settings.instances[0];
    assert_eq!((it.name.as_str(), it.vrid.as_u8(), it.priority.0, it.version), ("VI_1", 51, 100, VrrpVersion::V2));
    assert!(it.preempt && it.peers.is_empty());
    assert_eq!((it.announce.repeat, it.announce.delay.as_secs()), (5, 5));
}

#[test]
fn a_nopreempt_that_state_master_cancels_holds_and_is_a_trap() {
    let text = instance("state MASTER\nnopreempt\npreempt_delay 5\n");
    assert!(!router(&text).instances[0].preempt);
    assert_eq!(router(&text).instances[0].state, Wish::Master);
    judged(&text, "nopreempt", Kind::Changed, "keepalived cancels it because of `state MASTER`");
    assert!(verdict(&text, "nopreempt").trap);
    judged(&text, "preempt_delay", Kind::NotNeeded, "does nothing beside nopreempt");
    let backup = instance("state BACKUP\nnopreempt\n");
    judged(&backup, "nopreempt", Kind::Carried, "instance.preempt = false");
    assert!(!verdict(&backup, "nopreempt").trap);
    judged(&instance("priority 255\nnopreempt\n"), "nopreempt", Kind::NotNeeded, "always preempts");
    judged(&instance("state MASTER\npreempt_delay 5\n"), "preempt_delay", Kind::Changed, "here it holds");
}

#[test]
fn mail_that_nobody_asked_for_is_a_trap_and_mail_without_a_server_is_none() {
    let mail = "global_defs {\nnotification_email {\na@b\n}\nsmtp_server mx 2525\n";
    let text = format!("{mail}}}\n{}", instance(""));
    assert!(verdict(&text, "notification_email").trap);
    judged(&text, "notification_email", Kind::Carried, "there is no `smtp_alert`");
    let found = router(&text).mail.unwrap();
    assert_eq!((found.host.as_str(), found.port, found.all), ("mx", 2525, false));

    let asked = format!("{mail}smtp_alert\n}}\n{}", instance(""));
    assert!(!verdict(&asked, "notification_email").trap && router(&asked).instances[0].notify.mail);
    let one = format!("{mail}}}\n{}", instance("smtp_alert on\n"));
    assert!(!verdict(&one, "notification_email").trap && router(&one).instances[0].notify.mail);

    let without = format!("global_defs {{\nnotification_email {{\na@b\n}}\n}}\n{}", instance("smtp_alert\n"));
    judged(&without, "a@b", Kind::NotNeeded, "keepalived sends no mail without smtp_server");
    judged(&without, "smtp_alert", Kind::NotNeeded, "keepalived sends no mail");
    assert_eq!(router(&without).mail, None);
}

#[test]
fn an_interval_is_rounded_as_keepalived_rounds_it() {
    let of = |more: &str| router(&instance(more)).instances[0].advert_interval.as_millis();
    assert_eq!((of("advert_int 1"), of("advert_int 0.4"), of("advert_int 1.5")), (1000, 1000, 2000));
    assert_eq!((of("version 3\nadvert_int 0.015"), of("version 3\nadvert_int 0.01")), (20, 10));
    judged(&instance("advert_int 0.4"), "advert_int", Kind::Changed, "\"1s\", as keepalived rounds it");
    judged(&instance("advert_int 2"), "advert_int", Kind::Carried, "instance.advert_interval");
    judged(&instance("advert_int soon"), "advert_int", Kind::NotSupported, "takes seconds");
}

#[test]
fn a_password_is_cut_as_keepalived_cuts_it_and_shown_nowhere() {
    let text = instance("authentication {\nauth_type PASS\nauth_pass 123456789\n}\n");
    let import = imported(&text);
    assert_eq!(import.secrets[0].path, Path::new("/etc/harbor-ha/vi-1.password"));
    let Configuration::Router(settings) = configuration(&import) else { panic!() };
    assert_eq!(settings.instances[0].password.as_ref().unwrap().reveal(), b"12345678");
    judged(&text, "auth_pass", Kind::Changed, "its first 8 of 9 bytes");
    assert!(verdict(&text, "auth_pass").trap);
    assert!(!format!("{import:?}").contains("12345678"));
    // A slip in the keyword must not tell it either.
    let slip = imported(&instance("authentication {\nauth_type PASS\n12345678 x\n}\n"));
    assert!(!format!("{slip:?}").contains("12345678"));
}

#[test]
fn authentication_that_is_not_there_is_refused_or_not_needed() {
    let ah = instance("authentication {\nauth_type AH\nauth_pass 1\n}\n");
    judged(&ah, "authentication", Kind::NotSupported, "use auth_type PASS");
    assert!(imported(&ah).toml.is_err() && verdict(&ah, "auth_type").stops);
    let v3 = instance("version 3\nauthentication {\nauth_type PASS\nauth_pass 1\n}\n");
    judged(&v3, "authentication", Kind::NotNeeded, "version 3 has no authentication");
    assert_eq!(router(&v3).instances[0].password, None);
    let none = instance("authentication {\nauth_pass 1\n}\n");
    judged(&none, "auth_pass", Kind::Changed, "not sent without auth_type PASS");
    // keepalived tells `pass` as an unknown type, and sends nothing.
    let small = instance("authentication {\nauth_type pass\nauth_pass 1\n}\n");
    judged(&small, "auth_type", Kind::Changed, "in capitals");
    assert!(verdict(&small, "auth_type").trap && router(&small).instances[0].password.is_none());
    judged(&instance("auth_hmac {\nkey x\n}\n"), "auth_hmac", Kind::NotSupported, "use auth_type PASS");
    judged(&instance("use_vmac\n"), "use_vmac", Kind::NotSupported, "gratuitous ARP");
}

#[test]
fn an_instance_of_ipv6_is_refused_as_a_whole_and_the_others_run() {
    let v6 = "vrrp_instance V6 {\ninterface eth0\nvirtual_router_id 6\nvirtual_ipaddress {\nfe80::1\n}\n}\n";
    let text = format!("{v6}{}", instance(""));
    judged(&text, "V6", Kind::NotSupported, "harbor-ha serves IPv4 only");
    judged(&text, "virtual_router_id 6", Kind::NotSupported, "belongs to `vrrp_instance`");
    assert_eq!(router(&text).instances.len(), 1);
    assert!(imported(v6).toml.unwrap_err().contains("no vrrp_instance that could be carried over"));
    let mixed = instance("virtual_ipaddress_excluded {\nfe80::2\n10.0.0.6/24 dev eth1 label eth1:1 scope link\n}\n");
    judged(&mixed, "fe80::2", Kind::NotSupported, "IPv6");
    let excluded = &router(&mixed).instances[0].excluded_vips[0];
    assert_eq!((excluded.prefix, excluded.interface.as_str(), excluded.scope), (24, "eth1", Scope::Link));
}

#[test]
fn addresses_keep_what_they_say_and_lose_what_there_is_not() {
    let with = |address: &str| instance(&format!("virtual_ipaddress_excluded {{\n{address}\n}}\n"));
    judged(
        &with("10.0.0.7/24 brd 10.0.0.255 no_track"),
        "10.0.0.7",
        Kind::Changed,
        "without `brd 10.0.0.255`, `no_track`",
    );
    judged(&with("10.0.0.0/24"), "10.0.0.0", Kind::NotSupported, "network address");
    judged(&with("10.0.0.7 use_vmac"), "10.0.0.7", Kind::NotSupported, "virtual MAC");
    judged(&with("10.0.0.5"), "10.0.0.5", Kind::Carried, "instance.vips");
    let twice = imported(&with("10.0.0.5"));
    assert!(twice.verdicts.iter().any(|it| it.line == 8 && it.kind == Kind::NotSupported), "{:#?}", twice.verdicts);
    let many: String = (1..=21).map(|n| format!("10.1.0.{n}\n")).collect();
    let text = instance("").replace("10.0.0.5", &many);
    judged(&text, "10.1.0.21", Kind::NotSupported, "moved to excluded_vips");
    judged(
        &text,
        "virtual_ipaddress",
        Kind::NotSupported,
        "more than 20 addresses in one instance both would be master",
    );
    assert!(verdict(&text, "virtual_ipaddress").trap);
    let settings = router(&text);
    assert_eq!((settings.instances[0].vips.len(), settings.instances[0].excluded_vips.len()), (20, 1));
}

#[test]
fn unicast_is_as_strict_as_ours_and_says_so() {
    let text = instance(UNICAST);
    let it = router(&text).instances.remove(0);
    assert_eq!((it.peers.len(), it.min_ttl, it.check_source), (1, 255, true));
    judged(&text, "unicast_peer", Kind::Changed, "a TTL below 255 is refused");
    assert_eq!(router(&instance(&format!("{UNICAST}unicast_ttl 64\n"))).instances[0].min_ttl, 0);
    let bounded = UNICAST.replace("10.0.0.2", "10.0.0.2 min_ttl 250");
    assert_eq!(router(&instance(&bounded)).instances[0].min_ttl, 250);
    judged(
        &instance(&UNICAST.replace("0.2", "0.2 max_ttl 254")),
        "max_ttl",
        Kind::NotSupported,
        "use instance.min_ttl",
    );
    assert_eq!(router(&instance("version 3\nv3_checksum_as_v2\n")).instances[0].checksum, Checksum::Rfc9568);
}

#[test]
fn two_instances_that_keepalived_would_not_run_together_are_not_written_together() {
    let other = instance("").replace("VI_1", "VI_2").replace("10.0.0.5", "10.0.0.6");
    let text = format!("{}{other}", instance(""));
    judged(&text, "VI_2", Kind::NotSupported, "the same virtual_router_id");
    assert_eq!(router(&text).instances.len(), 1);
    let apart = format!(
        "{}{}",
        instance(UNICAST),
        other.replace("}\n\n}", &format!("}}\n{}\n}}", UNICAST.replace("0.2", "0.3")))
    );
    assert_eq!(router(&apart).instances.len(), 2);
    judged(&format!("{}{}", instance(""), instance("debug 1")), "debug", Kind::NotSupported, "belongs to");
}

#[test]
fn scripts_processes_and_files_are_tracked_with_their_weights() {
    let text = format!(
        "vrrp_script chk {{\nscript \"killall -0 postgres\"\ninterval 2.5\nweight -20 reverse\nuser nobody nogroup\ninit_fail\n}}\n\
         vrrp_track_process pg {{\nprocess postgres -D \"/var/lib/a b\"\nparam_match initial\nquorum 2\ndelay 0.5\n}}\n\
         vrrp_track_file old {{\nfile \"/run/f\"\nweight 3\ninit_file 7 overwrite\n}}\n{}",
        instance(
            "track_script {\nchk weight 5 noreverse\nnone\n}\ntrack_process {\npg\n}\ntrack_file {\nold weight -2\n}\n\
             track_interface {\neth0\neth1 weight 10\n}\n"
        )
    );
    let settings = router(&text);
    let script = &settings.trackers.scripts[0];
    assert_eq!(script.run.words, ["/usr/bin/killall", "-0", "postgres"]);
    assert_eq!((script.weight, script.reverse, script.init_fail, script.interval.as_millis()), (-20, true, true, 2500));
    assert_eq!(script.run.user.as_ref().unwrap().to_string(), "nobody:nogroup");
    let process = &settings.trackers.processes[0];
    // Whatever its manual says (1).
    assert_eq!((process.weight, process.quorum, process.fork_delay.as_millis()), (0, 2, 500));
    assert_eq!(process.arguments.as_deref().unwrap(), ["-D", "/var/lib/a b"]);
    assert_eq!((settings.trackers.files[0].init, settings.trackers.files[0].overwrite), (Some(7), true));
    let track = &settings.instances[0].track;
    assert_eq!((track.scripts[0].weight, track.scripts[0].reverse), (5, false));
    assert_eq!((track.files[0].weight, track.interfaces.len(), track.interfaces[0].weight), (-2, 1, 10));
    judged(&text, "killall", Kind::Changed, "a [[process]] would see the same");
    judged(&text, "none", Kind::NotSupported, "no `vrrp_script none`");
    let primary = verdict(&text, "eth1");
    assert_eq!(primary.kind, Kind::Carried);
}

#[test]
fn notify_scripts_have_their_arguments_and_their_users() {
    let text = instance(
        "notify_master \"/s.sh ' a  b' \\x41\" root wheel\nnotify /all.sh\nnotify_stop relative/x.sh\nnotify_master_rx_lower_pri /low.sh\n",
    );
    let notify = router(&text).instances.remove(0).notify;
    let master = notify.master.unwrap();
    assert_eq!(master.words, ["/s.sh", " a  b", "A"]);
    assert_eq!(master.user.unwrap().to_string(), "root:wheel");
    assert!(notify.all.is_some() && notify.lower_priority.is_some() && notify.stop.is_none());
    assert!(notify.leave_background, "keepalived ends nothing");
    assert_eq!(notify.timeout, std::time::Duration::from_secs(3600));
    for truth in ["one at a time", "overtakes is skipped", "ended after 1 h", "in the background lives on"] {
        judged(&text, "notify_master", Kind::Changed, truth);
    }
    judged(&text, "notify_stop", Kind::NotSupported, "names no program by an absolute path");
}

#[test]
fn of_a_script_that_is_not_quoted_the_first_word_runs_as_in_keepalived() {
    let text = format!(
        "vrrp_script chk {{\nscript /usr/bin/pgrep -x nginx\n}}\n{}",
        instance("track_script {\nchk\n}\nnotify_backup \"/x 'a\"\n")
    );
    assert_eq!(router(&text).trackers.scripts[0].run.words, ["/usr/bin/pgrep"]);
    judged(&text, "pgrep", Kind::Changed, "put quotes around the whole command");
    assert!(verdict(&text, "pgrep").trap);
    judged(&text, "notify_backup", Kind::NotSupported, "does not close it");
}

#[test]
fn of_two_pipes_vrrps_own_is_kept_and_the_other_one_is_told_as_lost() {
    let [shared, own] = ["notify_fifo /run/all\n", "vrrp_notify_fifo /run/vrrp\n"];
    for pair in [[shared, own], [own, shared]] {
        let text = format!("global_defs {{\n{}}}\n{}", pair.concat(), instance(""));
        assert_eq!(router(&text).router.fifo.unwrap().path, Path::new("/run/vrrp"));
        judged(&text, "notify_fifo /run/all", Kind::NotSupported, "there is one pipe");
        judged(&text, "vrrp_notify_fifo", Kind::Carried, "router.fifo");
    }
}

#[test]
fn groups_keep_the_members_that_are_there() {
    let two = format!(
        "{}{}",
        instance(""),
        instance("").replace("VI_1", "VI_2").replace("51", "52").replace("10.0.0.5", "10.0.0.6")
    );
    let text = format!(
        "{two}vrrp_sync_group G {{\ngroup {{\nVI_1\nVI_2\nVI_3\n}}\nnotify_master /g.sh\nsync_group_tracking_weight\n}}\n"
    );
    let settings = router(&text);
    assert_eq!(settings.groups[0].instances, ["VI_1", "VI_2"]);
    assert!(settings.groups[0].tracking_weight && settings.groups[0].notify.master.is_some());
    judged(&text, "VI_3", Kind::NotSupported, "names no instance that was carried over");
    let none = format!("{two}vrrp_sync_group G {{\ngroup {{\nVI_3\n}}\ndebug\n}}\n");
    judged(&none, "vrrp_sync_group", Kind::NotSupported, "has no instance");
    assert!(router(&none).groups.is_empty());
}

#[test]
fn a_pair_is_made_where_there_is_one_and_the_scripts_that_promote_are_left_out() {
    let text = instance(&format!("{UNICAST}priority 100\nstate MASTER\nnopreempt\nnotify_master /promote.sh\n"));
    let path = Path::new("/etc/keepalived/keepalived.conf");
    let found = import(path, &text, &for_pair(), &Files::default());
    let Configuration::Pair(settings) = configuration(&found) else { panic!("a router") };
    assert_eq!((settings.node.peer.to_string(), settings.vrrp.priority.0), ("10.0.0.2".into(), 100));
    let postgres = settings.postgres.as_ref().unwrap();
    assert_eq!((postgres.name.as_str(), postgres.peer_name.as_str()), ("node_10_0_0_1", "node_10_0_0_2"));
    assert!(settings.notify.master.is_none());
    let script = found.verdicts.iter().find(|verdict| verdict.keyword == "notify_master").unwrap();
    assert!(script.kind == Kind::NotNeeded && script.why.contains("itself promotes"), "{script:?}");
    assert!(!found.loses(), "{:#?}", found.verdicts);

    let mut kept = for_pair();
    kept.pair.as_mut().unwrap().keep_notify = true;
    let Configuration::Pair(settings) = configuration(&import(path, &text, &kept, &Files::default())) else { panic!() };
    assert_eq!(settings.notify.master.as_ref().unwrap().words, ["/promote.sh"]);

    let refused = |text: &str| import(path, text, &for_pair(), &Files::default()).toml.unwrap_err();
    assert!(refused(&instance("")).contains("a pair has one peer, and unicast_peer names 0"));
    assert!(refused(&instance(&UNICAST.replace("10.0.0.2", "10.0.0.2\n10.0.0.3"))).contains("names 2"));
    assert!(refused(&instance(&UNICAST.replace("unicast_src_ip 10.0.0.1\n", ""))).contains("add unicast_src_ip"));
}

#[test]
fn in_a_pair_a_missing_nopreempt_is_told() {
    let text = instance(UNICAST);
    let found = import(Path::new("/k.conf"), &text, &for_pair(), &Files::default());
    assert!(found.verdicts[0].kind == Kind::Changed && found.verdicts[0].why.contains("does not take over"));
}
