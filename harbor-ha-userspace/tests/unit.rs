//! `packaging/harbor-ha.service`: systemd accepts it, and it gives what the daemon asks for.

use std::fs;
use std::path::Path;
use std::process::Command;

const UNIT: &str = include_str!("../../packaging/harbor-ha.service");

/// Values of a key, in order; a comment is no value.
fn values(key: &str) -> Vec<&'static str> {
    UNIT.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

#[test]
fn systemd_accepts_the_unit() {
    let version = Command::new("systemd-analyze").arg("--version").output();
    if !version.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "systemd-analyze is missing: cargo xtask setup");
        eprintln!("skipped systemd_accepts_the_unit: it needs the program `systemd-analyze` (Debian: systemd)");
        return;
    }
    // `verify` wants the program to exist, so the unit is given the one that was built.
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("harbor-ha.service");
    let built = env!("CARGO_BIN_EXE_harbor-ha");
    assert!(Path::new(built).is_file() && UNIT.contains("ExecStart=/usr/sbin/harbor-ha run "));
    fs::write(&unit, UNIT.replace("/usr/sbin/harbor-ha", built)).unwrap();
    let output = Command::new("systemd-analyze").arg("verify").arg(&unit).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    // It also speaks of other units of the host, which are not ours to mend.
    let ours: Vec<&str> = words.lines().filter(|line| line.contains("harbor-ha")).collect();
    assert!(output.status.success() && ours.is_empty(), "{}: {words}", output.status);
}

#[test]
fn the_unit_gives_every_capability_that_the_daemon_insists_on_and_leaves_postgresql_alone() {
    let given: Vec<&str> = values("CapabilityBoundingSet").iter().flat_map(|line| line.split(' ')).collect();
    let needed = harbor_ha::kernel::probe::needed().map(|capability| capability.to_string());
    for capability in needed {
        assert!(given.contains(&capability.as_str()), "{capability} is not in {given:?}");
    }
    // Anything else would end the server with the daemon, or give it a file system of its own.
    assert_eq!(values("KillMode"), ["process"]);
    assert_eq!(values("OOMPolicy"), ["continue"]);
    for key in ["PrivateTmp", "ProtectSystem", "ProtectHome", "PrivateDevices", "MemoryDenyWriteExecute"] {
        assert_eq!(values(key), Vec::<&str>::new(), "{key}");
    }
}
