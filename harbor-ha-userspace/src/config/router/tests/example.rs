//! The commented example of the router form is the documentation of every key: it must not lie.

use toml::de::DeTable;

use super::super::check;
use super::*;
use crate::config::reader::Document;
use crate::config::tests::example::shows;

const EXAMPLE: &str = include_str!("../../../../../packaging/harbor-ha-router.toml");

/// The lines, each as `change` wants it.
fn lines(change: impl Fn(usize, &'static str) -> Option<&'static str>) -> String {
    EXAMPLE.lines().enumerate().map(|(n, line)| format!("{}\n", change(n, line).unwrap_or(line))).collect()
}

/// What stands behind `# `, a default.
fn default_of(line: &'static str) -> Option<&'static str> {
    let rest = line.strip_prefix("# ")?;
    let (key, _) = rest.split_once(" = ")?;
    key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_').then_some(rest)
}

/// What stands behind `#` alone, an example.
fn example_of(line: &'static str) -> Option<&'static str> {
    line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()))
}

fn host_with_all() -> Fake {
    host().file("/etc/harbor-ha/vi-1.password", 0o600, "1").file("/etc/harbor-ha/mail.password", 0o600, "2")
}

fn whole() -> String {
    lines(|_, line| example_of(line))
}

fn settings(text: &str) -> Settings {
    match parse_any(text, &host_with_all()) {
        Ok(Configuration::Router(settings)) => *settings,
        other => panic!("{other:#?}"),
    }
}

#[test]
fn the_shipped_example_is_accepted_as_it_is_and_with_every_example_in_it() {
    assert_eq!(settings(EXAMPLE).instances.len(), 1);
    let whole = settings(&whole());
    assert_eq!((whole.groups.len(), whole.trackers.scripts.len()), (1, 1));
    assert!(whole.mail.is_some() && whole.router.fifo.is_some());
    assert_eq!(whole.instances[0].excluded_vips[0].label.as_deref(), Some("eth1:1"));
}

#[test]
fn each_default_of_the_example_is_the_default_of_the_code() {
    let without = settings(EXAMPLE);
    let defaults: Vec<_> = EXAMPLE.lines().enumerate().filter(|(_, line)| default_of(line).is_some()).collect();
    assert!(defaults.len() > 30, "the example lost its defaults: {defaults:?}");
    for (at, line) in defaults {
        let with = lines(|n, line| default_of(line).filter(|_| n == at));
        assert_eq!(settings(&with), without, "line {}: {line}", at + 1);
    }
}

#[test]
fn what_an_example_shows_with_a_default_is_the_default() {
    let defaults =
        ["interval", "timeout", "rise", "fall", "weight", "reverse", "init_fail", "match", "quorum", "delay"];
    let more = ["fork_delay", "terminate_delay", "overwrite", "faults", "all", "tracking_weight"];
    let is_one = |rest: &str| defaults.iter().chain(&more).any(|key| rest.starts_with(&format!("{key} = ")));
    // `all` of [instance.notify] is a command.
    let without = lines(|_, line| example_of(line).filter(|rest| !is_one(rest) || rest.starts_with("all = [")));
    assert_eq!(settings(&without), settings(&whole()));
}

#[test]
fn each_key_of_the_code_is_in_the_example_and_in_its_table() {
    let text = whole();
    let root = DeTable::parse(&text).unwrap();
    let host = host_with_all();
    let document = Document::new(&text, root.get_ref(), &host);
    check::settings(&document).unwrap();
    // The tables of a group have the keys of those of an instance, which show them all.
    for (class, key) in document.keys().into_iter().filter(|(class, _)| !class.starts_with("group.")) {
        assert!(shows(&text, class, &key), "`{key}` is missing under [{class}]");
    }
}
