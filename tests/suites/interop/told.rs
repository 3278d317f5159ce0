//! Who is told what: the lines of the FIFO and the arguments of the `notify` script, of ours and of a real keepalived that
//! live through the same.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::ensure;
use harbor_ha_tests::lab::dropin::Dropin;
use harbor_ha_tests::lab::keepalived::{Setup, State};
use harbor_ha_tests::lab::{Lab, Side};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::either::Who::{Ours, Theirs};
use super::either::{Daemon, Who};
use super::keepalived::{STRONG, V3, WEAK, with_keepalived};
use super::{LIMIT, settled};

/// On its side of the network: a script of weight -95, a FIFO, and a `notify` script.
fn config(daemon: Daemon<'_>) -> String {
    let text = daemon.theirs().config(&Setup { preempt: true, ..V3.keepalived(STRONG) });
    let globals = "global_defs {\n    vrrp_notify_fifo /etc/keepalived/fifo\n    script_user root\n\
                   \x20   enable_script_security\n";
    let script =
        "vrrp_script chk {\n    script /etc/keepalived/check\n    interval 1\n    weight -95\n}\nvrrp_instance";
    let own = "    interface eth0\n    track_script {\n        chk\n    }\n    notify /etc/keepalived/notify\n\
               \x20   notify_priority_changes on\n";
    text.replacen("global_defs {\n", globals, 1).replacen("vrrp_instance", script, 1).replacen(
        "    interface eth0\n",
        own,
        1,
    )
}

/// Makes a FIFO and holds it open, so that nothing is lost with the daemon.
pub(super) fn made(fifo: &Path) -> File {
    mkfifo(fifo, Mode::from_bits_truncate(0o600)).unwrap();
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open(fifo).unwrap()
}

/// Whatever is in the pipe.
pub(super) fn drained(fifo: &mut File) -> String {
    let mut bytes = Vec::new();
    match fifo.read_to_end(&mut bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        other => panic!("a pipe with a writer, this test, has no end: {other:?}"),
    }
    String::from_utf8(bytes).unwrap()
}

/// What the FIFO and the script were told of a, from its start to its end.
fn told(lab: &Lab, who: Who) -> [Vec<String>; 2] {
    let [a, b] = Daemon::each(lab, [who, Theirs]);
    let etc = Dropin::on(lab.node(Side::A)).etc().unwrap();
    for (name, body) in
        [("check", "[ ! -e /etc/keepalived/bad ]"), ("notify", "echo \"$# $*\" >> /etc/keepalived/arguments")]
    {
        let path = etc.join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut fifo = made(&etc.join("fifo"));
    let arguments = || fs::read_to_string(etc.join("arguments")).unwrap_or_default();
    let heard = |word: &str| {
        let waited = lab.wait(&format!("the script of a was told {word}"), LIMIT, || {
            let arguments = arguments();
            ensure!(arguments.lines().last().is_some_and(|line| line.contains(word)), "{arguments}");
            Ok(())
        });
        settled(lab, waited);
    };
    a.start_on(&config(a));
    a.is(State::Master);
    heard("MASTER");
    b.start(&Setup { preempt: true, ..V3.keepalived(WEAK) });
    b.is(State::Backup);
    // 100 - 95 is less than b has.
    fs::write(etc.join("bad"), "").unwrap();
    a.is(State::Backup);
    b.is(State::Master);
    heard("BACKUP");
    fs::remove_file(etc.join("bad")).unwrap();
    a.is(State::Master);
    b.is(State::Backup);
    heard("MASTER");
    a.terminate();
    heard("STOP");
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let mut fifo = lines(&drained(&mut fifo));
    // Whether two adverts cross is chance.
    fifo.retain(|line| !line.contains("MASTER_RX_LOWER_PRI"));
    [fifo, lines(&arguments())]
}

#[test]
fn the_fifo_and_the_notify_script_are_told_by_us_what_keepalived_tells_them() {
    let mut both = Vec::new();
    for who in [Ours, Theirs] {
        with_keepalived("the_fifo_and_the_notify_script_are_told_by_us_what_keepalived_tells_them", |lab| {
            let told = told(lab, who);
            eprintln!("{who:?}: FIFO {:#?}, arguments {:#?}", told[0], told[1]);
            both.push(told);
        });
    }
    let [ours, theirs] = both.as_slice() else { return };
    assert_eq!(ours, theirs);
    assert!(ours[0].iter().any(|line| line == "INSTANCE \"VI_1\" MASTER_PRIORITY 5"), "{ours:?}");
}

/// What the import warns of.
#[test]
fn more_than_20_addresses_of_keepalived_make_both_master() {
    with_keepalived("more_than_20_addresses_of_keepalived_make_both_master", |lab| {
        let [a, b] = Daemon::each(lab, [Ours, Theirs]);
        let many: String = (1..=21).map(|last| format!("        10.77.1.{last}\n")).collect();
        let text = |daemon: Daemon<'_>, priority| {
            let text = daemon.theirs().config(&V3.keepalived(priority));
            text.replacen("virtual_ipaddress {\n", &format!("virtual_ipaddress {{\n{many}"), 1)
        };
        b.start_on(&text(b, WEAK));
        b.is(State::Master);
        a.start_on(&text(a, STRONG));
        a.is(State::Master);
        a.refuses("addresses");
        assert_eq!(b.theirs().state(), State::Master, "both are");
    });
}
