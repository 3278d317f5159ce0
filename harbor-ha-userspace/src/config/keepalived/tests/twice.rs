//! Of statements that are there twice the one counts that keepalived takes, and the other says so; and what stands below.

use super::*;

/// Both lines, of which the other one than `kept` is told.
#[track_caller]
fn told(text: &str, kept: &str, other: &str, words: &str) {
    judged(text, other, Kind::NotNeeded, words);
    assert!(verdict(text, other).trap, "{other}");
    assert!(!verdict(text, kept).why.contains("of the block"), "{kept}");
}

#[test]
fn of_most_statements_the_last_one_counts() {
    let text =
        instance("priority 90\nadvert_int 3\npriority 80\ngarp_master_delay 1\nadvert_int 2\ngarp_master_delay 2\n");
    let it = router(&text).instances.remove(0);
    assert_eq!((it.priority.0, it.advert_interval.as_secs(), it.announce.delay.as_secs()), (80, 2, 2));
    told(&text, "priority 80", "priority 90", "keeps the last one");
    let script = format!("vrrp_script chk {{\nscript /a.sh\nscript /b.sh\n}}\n{}", instance(""));
    assert_eq!(router(&script).trackers.scripts[0].run.words, ["/b.sh"]);
    told(&script, "/b.sh", "/a.sh", "keeps the last one");
}

#[test]
fn of_some_statements_the_first_one_counts() {
    let text = instance(
        "state MASTER\nversion 3\nstate BACKUP\nversion 2\nnotify_master /a.sh\nnotify \"/a.sh x\"\nnotify_master /b.sh\nnotify \"/b.sh y\"\n",
    );
    let it = router(&text).instances.remove(0);
    assert_eq!((it.state, it.version), (Wish::Master, VrrpVersion::V3));
    assert_eq!(
        (it.notify.master.unwrap().words, it.notify.all.unwrap().words),
        (vec!["/a.sh".into()], vec!["/a.sh".into(), "x".into()])
    );
    told(&text, "state MASTER", "state BACKUP", "keepalived keeps MASTER");
    assert_eq!(router(&instance("state BACKUP\nstate MASTER\n")).instances[0].state, Wish::Master);
    told(&text, "notify_master /a.sh", "notify_master /b.sh", "keeps the first one");
    let process = format!(
        "vrrp_track_process p {{\nprocess a\nweight 3\nquorum 5\nquorum_max 2\nprocess b\nweight 4\n}}\n\
         track_file f {{\nfile /a\nfile /b\n}}\nglobal_defs {{\nvrrp_notify_fifo /run/a\nvrrp_notify_fifo /run/b\n}}\n{}",
        instance("")
    );
    let found = router(&process);
    let tracked = &found.trackers.processes[0];
    assert_eq!((tracked.process.as_str(), tracked.weight, tracked.quorum), ("a", 3, 5));
    assert_eq!(found.trackers.files[0].path, Path::new("/a"));
    assert_eq!(found.router.fifo.unwrap().path, Path::new("/run/a"));
    told(&process, "fifo /run/a", "fifo /run/b", "keeps the first one");
    judged(&process, "quorum_max", Kind::NotNeeded, "keepalived ignores it");
}

#[test]
fn recipients_are_gathered_and_the_sender_is_keepaliveds() {
    let text = format!(
        "global_defs {{\nnotification_email {{\na@b\n}}\nnotification_email {{\nc@d\n}}\nsmtp_server mx\nsmtp_alert\n}}\n{}",
        instance("")
    );
    let mail = router(&text).mail.unwrap();
    assert_eq!((mail.to, mail.from.as_str()), (vec!["a@b".to_owned(), "c@d".to_owned()], "root@node1"));
    judged(&text, "notification_email", Kind::Carried, "mail.from = \"root@node1\"");
}

#[test]
fn of_nopreempt_and_preempt_the_last_one_counts() {
    let preempts = instance("nopreempt\npreempt_delay 3\npreempt\n");
    let it = router(&preempts).instances.remove(0);
    assert_eq!((it.preempt, it.preempt_delay.as_secs()), (true, 3));
    judged(&preempts, "nopreempt", Kind::NotNeeded, "a `preempt` below takes its place");
    let stays = instance("preempt_delay 3\npreempt\nnopreempt\n");
    assert!(!router(&stays).instances[0].preempt);
    judged(&stays, "preempt_delay", Kind::NotNeeded, "does nothing beside nopreempt");
}

#[test]
fn a_tracker_below_its_instance_counts_here_and_is_told() {
    let [script, process, file] = [
        "vrrp_script chk {\nscript /x.sh\n}\n",
        "vrrp_track_process pg {\nprocess postgres\n}\n",
        "track_file old {\nfile /run/f\n}\n",
    ];
    let track = instance("track_script {\nchk\n}\ntrack_process {\npg\n}\ntrack_file {\nold # f\n}\n");
    let text = format!("{script}{track}{process}{file}");
    assert_eq!(router(&text).instances[0].track.processes.len(), 1);
    for needle in ["pg\n", "old # f"] {
        let at = instance("").lines().count();
        let line = text.lines().position(|line| line == needle.trim_end()).unwrap() + 1;
        assert!(line > at);
        let found = imported(&text).verdicts.into_iter().find(|it| it.line == line).unwrap();
        assert!(
            found.trap && found.kind == Kind::Changed && found.why.contains("defined below this block"),
            "{found:?}"
        );
    }
    let line = text.lines().position(|line| line == "chk").unwrap() + 1;
    assert!(imported(&text).verdicts.iter().any(|it| it.line == line && it.kind == Kind::Carried && !it.trap));
}
