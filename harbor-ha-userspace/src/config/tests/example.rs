//! The commented example is the documentation of every key: it must not lie.

use toml::de::DeTable;

use super::*;
use crate::config::{check, reader::Document};

const EXAMPLE: &str = include_str!("../../../../packaging/harbor-ha.toml");

/// Each `# key = value` of the example: the number of its line, the key, the line without its `# `.
fn defaults() -> Vec<(usize, &'static str, &'static str)> {
    let default = |(n, line): (usize, &'static str)| {
        let line = line.strip_prefix("# ")?;
        let (key, _) = line.split_once(" = ")?;
        key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_').then_some((n, key, line))
    };
    EXAMPLE.lines().enumerate().filter_map(default).collect()
}

fn uncommented(wanted: impl Fn(usize) -> bool) -> String {
    let defaults = defaults();
    let line = |(n, line): (usize, &'static str)| match defaults.iter().find(|(at, ..)| *at == n && wanted(n)) {
        Some((_, _, uncommented)) => format!("{uncommented}\n"),
        None => format!("{line}\n"),
    };
    EXAMPLE.lines().enumerate().map(line).collect()
}

/// Shown as an example: there is no default for a secret.
fn is_secret(key: &str) -> bool {
    key.ends_with("_file") || key.ends_with("_env")
}

#[test]
fn the_shipped_example_is_accepted() {
    let settings = parse(EXAMPLE, &Fake::new()).unwrap();
    assert_eq!(settings.node.instance, "harbor");
    assert!(settings.postgres.is_some());
}

#[test]
fn each_default_of_the_example_is_the_default_of_the_code() {
    let without = parse(EXAMPLE, &Fake::new()).unwrap();
    let values: Vec<_> = defaults().into_iter().filter(|(_, key, _)| !is_secret(key)).collect();
    assert!(values.len() > 25, "the example lost its defaults: {values:?}");
    for (at, key, _) in values {
        match parse(&uncommented(|n| n == at), &Fake::new()) {
            Ok(with) => assert_eq!(with, without, "`{key}` in line {}", at + 1),
            Err(problems) => panic!("`{key}`: {problems}"),
        }
    }
}

#[test]
fn each_secret_of_the_example_can_be_uncommented() {
    let host = Fake::new()
        .file("/etc/harbor-ha/vrrp.password", 0o600, "1111")
        .file("/etc/harbor-ha/pulse.next.key", 0o600, "00000000000000000000000000000001")
        .file("/etc/harbor-ha/postgres.password", 0o600, "x")
        .file("/etc/harbor-ha/replication.password", 0o600, "y");
    let secrets: Vec<_> = defaults().into_iter().filter(|(_, key, _)| is_secret(key)).map(|(at, ..)| at).collect();
    assert_eq!(secrets.len(), 4);
    let text = uncommented(|n| secrets.contains(&n)).replace("# version = 3", "version = 2");
    let settings = parse(&text, &host).unwrap();
    assert_eq!(settings.vrrp.password.unwrap().reveal(), b"1111\0\0\0\0");
    assert_eq!(settings.pulse.unwrap().other_key.unwrap().reveal()[15], 1);
    assert_eq!(settings.postgres.unwrap().replication_password.unwrap().reveal(), "y");
}

/// Whether `line` opens a table, whole behind `#` or not, and its name.
fn opens(line: &str) -> Option<&str> {
    let rest = line.strip_prefix('#').unwrap_or(line);
    Some(rest.strip_prefix('[')?.trim_start_matches('[').split(']').next().unwrap_or_default())
}

/// With what stands behind `#` without a blank, where it is `wanted` by its table and text.
fn uncommented_tables(wanted: impl Fn(&str, &str) -> bool) -> String {
    let mut table = "";
    let mut lines = String::new();
    for line in EXAMPLE.lines() {
        table = opens(line).unwrap_or(table);
        let rest = line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()));
        lines += rest.filter(|rest| wanted(table, rest)).unwrap_or(line);
        lines.push('\n');
    }
    lines
}

/// With the witness, and without what it replaces.
fn with_witness(wanted: impl Fn(&str) -> bool) -> String {
    uncommented_tables(|table, rest| table == "witness" && wanted(rest)).replace("\nisolated", "\n# isolated")
}

fn with_whole_witness() -> String {
    with_witness(|line| !line.starts_with("password"))
}

#[test]
fn the_witness_of_the_example_can_be_uncommented_and_shows_the_defaults() {
    let whole = parse(&with_whole_witness().replace("user = ", "# user = "), &Fake::new()).unwrap();
    let least = ["[witness]", "kind", "endpoints"];
    let without = parse(&with_witness(|line| least.iter().any(|key| line.starts_with(key))), &Fake::new()).unwrap();
    assert!(whole.witness.is_some());
    assert_eq!(whole, without);
}

#[test]
fn the_cloud_of_the_example_can_be_uncommented_and_shows_the_defaults() {
    let of_cloud = |wanted: &dyn Fn(&str) -> bool| uncommented_tables(|table, rest| table == "cloud" && wanted(rest));
    let whole = parse(&of_cloud(&|_| true), &Fake::new()).unwrap();
    let least = ["[cloud]", "havip", "peer_instance", "eip", "fence = "];
    let without = of_cloud(&|line| least.iter().any(|key| line.starts_with(key)));
    assert_eq!(whole, parse(&without, &Fake::new()).unwrap());
    assert!(whole.cloud.unwrap().fence.is_on());
}

#[test]
fn what_is_tracked_and_told_can_be_uncommented() {
    let host = Fake::new().file("/etc/harbor-ha/mail.password", 0o600, "x");
    let settings = parse(&uncommented_tables(|table, _| table != "witness"), &host).unwrap();
    assert_eq!(settings.track.scripts[0].name, "chk_harbor");
    assert_eq!(settings.track.files[0].weight, -10);
    assert!(settings.notify.master.is_some() && settings.notify.mail);
    assert_eq!(settings.trackers.processes[0].process, "harbor_core");
    assert_eq!(settings.mail.unwrap().login.unwrap().password.reveal(), "x");
}

#[test]
fn each_key_of_the_code_is_in_the_example_and_in_its_table() {
    let text = uncommented_tables(|_, _| true).replace("\nisolated", "\n# isolated");
    let root = DeTable::parse(&text).unwrap();
    let host = Fake::new().file("/etc/harbor-ha/witness.password", 0o600, "x").file(
        "/etc/harbor-ha/mail.password",
        0o600,
        "x",
    );
    let document = Document::new(&text, root.get_ref(), &host);
    check::settings(&document).unwrap();
    // Not asked for beside a witness, and there.
    assert!(EXAMPLE.contains("\nisolated = "));
    for (section, key) in document.keys().into_iter().filter(|(_, key)| key != "isolated") {
        assert!(shows(&text, section, &key), "`{key}` is missing under [{section}]");
    }
}

/// Whether the table of that class has the key; a table within a line is looked for everywhere.
pub(in crate::config) fn shows(text: &str, class: &str, key: &str) -> bool {
    if text.contains(&format!("\n[{class}.{key}]\n")) {
        return true;
    }
    let header = crate::config::reader::header(class);
    match text.split_once(&format!("\n{header}\n")) {
        Some((_, rest)) => rest.split("\n[").next().unwrap_or_default().contains(key),
        None => text.contains(&format!("{{ {key} = ")) || text.contains(&format!(", {key} = ")),
    }
}
