//! An asynchronous standby that is too far behind: it says so, refuses, and does as an operator says.

use std::io::Write;
use std::process::Stdio;

use anyhow::ensure;
use harbor_ha_tests::lab::config::Tuned;
use harbor_ha_tests::lab::fault::Fault;
use harbor_ha_tests::lab::need::{self, LAB};
use harbor_ha_tests::lab::{Lab, Options, Side, netns};

use prometheus_parse::{Sample, Scrape, Value};

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

/// The value of a series of b's metrics, by its family and the reason in its label, as Prometheus reads them.
fn scraped(lab: &Lab, family: &str, reason: Option<&str>) -> f64 {
    let text = lab.node(Side::B).page("/metrics").unwrap();
    let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
    let of = |sample: &&Sample| sample.metric == family && sample.labels.get("reason") == reason;
    let found: Vec<_> = scrape.samples.iter().filter(of).collect();
    let [sample] = found.as_slice() else { panic!("{family} {reason:?}: {found:?} in\n{text}") };
    match sample.value {
        Value::Counter(value) | Value::Gauge(value) => value,
        _ => panic!("{family}: {sample:?}"),
    }
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
    // What is written after the last pulse that left, nobody knows of: so b has to have been told.
    let told = it.wait("b knows that it is a megabyte behind", Side::B, |said| {
        said.number("/lag/bytes").is_some_and(|bytes| bytes > 1 << 20)
    });
    // Seen while the primary lives: that is when somebody can still do something.
    assert_eq!(told.text("/refusal_name"), "lag");
    assert!(scraped(&it.lab, "harbor_ha_replication_lag_bytes", None) > f64::from(1 << 20));
    assert_eq!(scraped(&it.lab, "harbor_ha_replication_lag_limit_bytes", None), f64::from(256 << 10));
    assert_eq!(scraped(&it.lab, "harbor_ha_takeover_refused", Some("lag")), 1.0);
    let before = scraped(&it.lab, "harbor_ha_takeover_refusals_total", Some("lag"));
    assert_eq!(before, 0.0, "nothing was due yet");

    it.lab.inject(Fault::Node, Side::A).unwrap();
    let said = it.wait("b refuses", Side::B, |said| said.text("/refusal_name") == "lag");
    eprintln!("  b: {}", said.text("/refusal"));
    let refused = || {
        ensure!(scraped(&it.lab, "harbor_ha_takeover_refusals_total", Some("lag")) >= 1.0, "not counted");
        ensure!(scraped(&it.lab, "harbor_ha_takeover_refused", Some("lag")) == 1.0, "not told");
        Ok(())
    };
    it.lab.wait("the metrics have it", SOON, refused).unwrap();
    it.endure(2, || Ok(()));
    assert!(it.lab.node(Side::B).postgres().in_recovery().unwrap(), "b was promoted");
    let log = std::fs::read_to_string(it.lab.node(Side::B).daemon_log()).unwrap();
    let line = log.lines().find(|line| line.contains("refused to take over")).unwrap();
    eprintln!("  {line}");
    assert!(line.contains("behind the primary, more than `postgres.max_lag`"), "{line}");

    let answer = it.lab.node(Side::B).ask(r#"{"cmd":"failover","reason":"the rest may be lost"}"#).unwrap();
    assert!(answer.get("error").is_none(), "{answer}");
    it.calm(Side::B);
    assert_eq!(scraped(&it.lab, "harbor_ha_takeover_refused", Some("lag")), 0.0);
    assert_eq!(scraped(&it.lab, "harbor_ha_serving", None), 1.0);
    it.never_two();
    cut_replication(&it.lab, false);
    it.lab.undo(Fault::Node, Side::A).unwrap();
    it.lab.wait_serving(Side::B, SOON).unwrap();
    it.end();
}
