//! Comments, quotes, braces, includes, conditions and definitions.

use super::*;

#[test]
fn comments_stand_anywhere_and_braces_on_either_line() {
    let text = "! head\nvrrp_instance VI_1 # the first\n{\n  interface eth0 ! x\n  virtual_router_id 51\n\
                virtual_ipaddress { 10.0.0.5 }\n}\n";
    let import = imported(text);
    let keywords: Vec<_> = import.verdicts.iter().map(|verdict| (verdict.line, verdict.keyword.as_str())).collect();
    assert_eq!(
        keywords,
        [
            (1, "!"),
            (2, "vrrp_instance"),
            (3, "}"),
            (4, "interface"),
            (5, "virtual_router_id"),
            (6, "virtual_ipaddress"),
            (7, "}")
        ]
    );
    assert!(!import.loses());
    assert_eq!(router(text).instances[0].vips.len(), 1);
}

#[test]
fn a_brace_too_many_and_one_too_few_are_told() {
    let text = format!("{}}}\n", instance(""));
    let last = imported(&text).verdicts.pop().unwrap();
    assert!(last.kind == Kind::NotSupported && last.why == "closes no block", "{last:?}");
    let open = instance("").trim_end().trim_end_matches('}').to_owned();
    judged(&open, "vrrp_instance", Kind::Changed, "its block is not closed");
    judged(&format!("{{\n{}", instance("")), "{", Kind::NotSupported, "opens a block that has no name");
}

#[test]
fn included_files_have_verdicts_of_their_own() {
    let files = Files::default()
        .with("/etc/keepalived/conf.d/a.conf", &instance("include ../priority\n"))
        .with("/etc/keepalived/priority", "priority 7\n");
    let import = import(Path::new("/etc/keepalived/keepalived.conf"), "include conf.d/*\n", &options(), &files);
    let Configuration::Router(settings) = configuration(&import) else { panic!() };
    // The fake does not fold `..`: the file is not there, which keepalived takes in silence.
    assert_eq!(settings.instances[0].priority.0, 100);
    assert_eq!(import.verdicts[0].kind, Kind::Carried);
    assert!(import.verdicts.iter().any(|it| it.file.ends_with("a.conf") && it.keyword == "interface"));
    assert!(import.verdicts.iter().any(|it| it.keyword == "include" && it.kind == Kind::NotNeeded));
}

#[test]
fn a_file_that_includes_itself_is_told_once() {
    let files = Files::default().with("/k/a", "include a\n").with("/k/b", "include a\n");
    let found = import(Path::new("/k/b"), "include a\n", &options(), &files);
    let loops: Vec<_> = found.verdicts.iter().filter(|it| it.why.contains("would include itself")).collect();
    assert_eq!(loops.len(), 1, "{:#?}", found.verdicts);
}

#[test]
fn includes_stand_behind_conditions_and_hold_definitions() {
    let files = Files::default().with("/k/p", "priority 7\n").with("/k/q", "advert_int 2\n");
    let text = format!("$NAME=q\n{}", instance("@node1 include p\n@node2 include nowhere\ninclude ${NAME}\n"));
    let Configuration::Router(settings) = configuration(&import(Path::new("/k/k.conf"), &text, &options(), &files))
    else {
        panic!("a pair")
    };
    assert_eq!((settings.instances[0].priority.0, settings.instances[0].advert_interval.as_secs()), (7, 2));
}

#[test]
fn conditions_hold_for_the_host_that_is_named() {
    let text = instance("@node1 priority 150\n@node2 priority 50\n@^node2 advert_int 2\n");
    let it = router(&text).instances.remove(0);
    assert_eq!((it.priority.0, it.advert_interval.as_secs()), (150, 2));
    judged(&text, "@node2", Kind::NotNeeded, "holds for another host only (config-id here: `node1`)");
}

#[test]
fn definitions_are_put_in_where_they_are_used() {
    let text = format!(
        "$BASE=10.0.${{SUB}}\n$SUB=0\n$PRIO=70\n{}",
        instance("priority $PRIO\nnotify_master \"/x.sh ${BASE}.1 $NONE ${_PWD} ${_HASH}1\"\n")
    );
    let it = router(&text).instances.remove(0);
    assert_eq!(it.priority.0, 70);
    assert_eq!(it.notify.master.unwrap().words, ["/x.sh", "10.0.0.1", "$NONE", "/etc/keepalived", "#1"]);
    judged(&text, "$PRIO=", Kind::Carried, "its value is written where it is used");
}

#[test]
fn a_sequence_is_written_out() {
    let text = instance("virtual_ipaddress_excluded {\n~SEQ(N, 1, 3) 10.9.0.${N}\n}\n");
    assert_eq!(router(&text).instances[0].excluded_vips.len(), 3);
    judged(&text, "~SEQ", Kind::Carried, "instance.excluded_vips");
    judged(&instance("~SEQ(N, 1, 0, 3) debug"), "~SEQ", Kind::NotSupported, "without end");
    judged(&instance("~LST(N, 1, 2) debug"), "~LST", Kind::NotSupported, "write the lines out");
}

#[test]
fn a_definition_over_several_lines_is_put_in_at_the_end_of_a_line() {
    let text = format!(
        "$PEERS= \\\n unicast_peer {{ \\\n # those of \\\n @node2 10.0.0.9 \\\n 10.0.0.${{N}} # two \\\n }}\n$MORE= \\\n 10.0.0.8 \\\n 10.0.0.7\n\
         $N=2\n$NONE= \\\n\n$LEFT= \\\n debug\n{}",
        instance("unicast_src_ip 10.0.0.1\n@node1 $PEERS\nunicast_peer { ${MORE}\n}\n$NONE\npriority 7\n")
    );
    let it = router(&text).instances.remove(0);
    let peers: Vec<_> = it.peers.iter().map(ToString::to_string).collect();
    assert_eq!((peers, it.priority.0), (["10.0.0.2", "10.0.0.8", "10.0.0.7"].map(str::to_owned).to_vec(), 7));
    for (line, words) in [
        ("$PEERS=", "its lines are written where it is used"),
        ("10.0.0.${N}", "instance.peers"),
        ("@node1 $PEERS", "each of its lines is told where it stands"),
        ("10.0.0.7", "instance.peers"),
    ] {
        judged(&text, line, Kind::Carried, words);
    }
    judged(&text, "10.0.0.9", Kind::NotNeeded, "holds for another host only");
    judged(&text, "debug", Kind::NotNeeded, "put in nowhere");
}

#[test]
fn what_cannot_be_read_takes_its_instance_along_and_is_not_run() {
    let long = "$P= \\\n 10.0.0.2\n";
    for (before, line, words) in [
        (long, "unicast_peer { $P }", "at the end of a line alone"),
        ("", "~LST(P, 2, 3) debug", "write the lines out"),
        ("$A=${B}\n$B=${A}\n", "priority ${A}", "hold each other"),
    ] {
        let text = format!("{before}{}", instance(&format!("{line}\n")));
        judged(&text, line, Kind::NotSupported, words);
        assert!(verdict(&text, line).stops, "{line}");
        judged(&text, "vrrp_instance", Kind::NotSupported, "could not be read");
        assert!(imported(&text).toml.is_err(), "{line}");
    }
    let tracker =
        |more: &str| format!("vrrp_script chk {{\nscript /x.sh\n{more}}}\n{}", instance("track_script {\nchk\n}\n"));
    assert_eq!(router(&tracker("")).instances[0].track.scripts.len(), 1);
    judged(
        &tracker("~LST(P, 2) debug\n"),
        "vrrp_instance",
        Kind::NotSupported,
        "`chk`, which it tracks, is not carried over",
    );
}

#[test]
fn definitions_that_hold_each_other_or_grow_end() {
    judged("$A=${B}\n$B=${A}\nx ${A}\n", "x ${A}", Kind::NotSupported, "hold each other");
    judged("$A=${A}${A}\nx ${A}\n", "x ${A}", Kind::NotSupported, "grows beyond all bounds");
    let nested = "~SEQ(A,1,900) ~SEQ(B,1,900) ~SEQ(C,1,900) @none x\n";
    assert_eq!(imported(nested).verdicts.len(), 1);
    assert_eq!(imported(&"x {\n".repeat(5000)).verdicts.len(), 5000);
    assert_eq!(imported(&"\\".repeat(100_000)).verdicts.len(), 1);
}

#[test]
fn an_unknown_word_is_named_with_its_line_and_the_word_that_was_meant() {
    let text = instance("prioritty 100\nfrobnicate 3\nsmtp_server x\nrouter_id y\n");
    judged(&text, "prioritty", Kind::NotSupported, "was `priority` meant?");
    judged(&text, "frobnicate", Kind::NotSupported, "is no keyword that harbor-ha knows");
    assert_eq!(verdict(&text, "frobnicate").line, 8);
    judged(
        "virtual_server 10.0.0.1 80 {\nreal_server 10.0.0.2 80 {\n}\n}\n",
        "real_server",
        Kind::NotSupported,
        "belongs to",
    );
    judged(
        "static_routes {\n10.0.0.0/8 via 10.0.0.1\n}\n",
        "static_routes",
        Kind::NotSupported,
        "network configuration",
    );
}

#[test]
fn a_quote_that_nothing_closes_is_told() {
    let text = instance("unicast_src_ip \"10.0.0.1\ntrack_interface {\n\"eth1\n}\n");
    judged(&text, "\"eth1", Kind::NotSupported, "opens a quote");
    let import = imported(&text);
    let line = import.verdicts.iter().find(|it| it.keyword == "unicast_src_ip").unwrap();
    assert!(line.kind == Kind::NotSupported, "{line:?}");
}
