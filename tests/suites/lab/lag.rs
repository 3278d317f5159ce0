//! An asynchronous standby that is too far behind: it says so, refuses, and does as an operator says.

use std::io::Write;
use std::process::Stdio;

use anyhow::ensure;
use harbor_ha_tests::lab::config::Tuned;
use harbor_ha_tests::lab::fault::Fault;
use harbor_ha_tests::lab::need::{self, LAB};
use harbor_ha_tests::lab::{Lab, Options, Side, netns};

use super::SOON;
use super::watched::Watched;

/// Loses what the primary's PostgreSQL sends to b, and nothing else: the nodes go on hearing each other.
fn cut_replication(lab: &Lab, cut: bool) {
    let (node, other) = (lab.node(Side::B), lab.node(Side::A).address());
    let rules = match cut {
        true => format!(
            "table ip lag {{\n chain input {{\n type filter hook input priority 0\n \
             ip saddr {other} tcp sport 5432 drop\n }}\n}}"
        ),
        false => "delete table ip lag".to_owned(),
    };
    let mut nft = netns::command(&node.netns(), "nft").unwrap();
    let mut child = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// A position as PostgreSQL writes it.
fn position(text: &str) -> u64 {
    let (high, low) = text.split_once('/').unwrap();
    let number = |hex| u64::from_str_radix(hex, 16).unwrap();
    (number(high) << 32) + number(low)
}

#[test]
fn a_standby_that_is_too_far_behind_refuses_until_it_is_forced() {
    if !need::has("a_standby_that_is_too_far_behind_refuses_until_it_is_forced", &LAB) {
        return;
    }
    let tuned = Tuned { sync: Some("off".into()), max_lag: Some("256KiB".into()), ..Tuned::default() };
    let mut it = Watched::up(&Options { tuned, ..Options::default() });
    cut_replication(&it.lab, true);
    // A megabyte and more, which nobody waits for.
    it.lab
        .node(Side::A)
        .postgres()
        .sql("CREATE TABLE much AS SELECT repeat(md5(n::text), 10) FROM generate_series(1, 5000) n")
        .unwrap();
    // As the primary's pulses have it: what its server said when it was last asked.
    let behind = || {
        let [one, two] = Side::BOTH.map(|side| position(it.says(side).text("/postgres/facts/lsn")));
        ensure!(one > two + (1 << 20), "{one} and {two}");
        Ok(())
    };
    it.lab.wait("b is a megabyte behind", SOON, behind).unwrap();
    // And has been told: what is written after the last pulse that left, nobody knows of.
    it.endure(1, || Ok(()));

    it.lab.inject(Fault::Node, Side::A).unwrap();
    let said = it.wait("b refuses", Side::B, |said| said.text("/refusal_name") == "lag");
    eprintln!("  b: {}", said.text("/refusal"));
    it.endure(2, || Ok(()));
    assert!(it.lab.node(Side::B).postgres().in_recovery().unwrap(), "b was promoted");
    let log = std::fs::read_to_string(it.lab.node(Side::B).daemon_log()).unwrap();
    let line = log.lines().find(|line| line.contains("refused to take over")).unwrap();
    eprintln!("  {line}");
    assert!(line.contains("behind the primary, more than `postgres.max_lag`"), "{line}");

    let answer = it.lab.node(Side::B).ask(r#"{"cmd":"failover","reason":"the rest may be lost"}"#).unwrap();
    assert!(answer.get("error").is_none(), "{answer}");
    it.calm(Side::B);
    it.never_two();
    cut_replication(&it.lab, false);
    it.lab.undo(Fault::Node, Side::A).unwrap();
    it.lab.wait_serving(Side::B, SOON).unwrap();
    it.end();
}
