//! `harbor-ha failover --force`: this standby takes over whatever the peer does, and whatever is lost.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::WithConfig;
use super::follow::{Progress, look_again, not_so, number, refused, summary, unless_paused, word};
use super::status::ask;
use crate::config::Settings;
use crate::daemon::Request;
use crate::observe::words::age;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    with: WithConfig,
    /// Take over although this node would not by itself; acknowledged writes may be lost.
    #[arg(long, requires = "reason")]
    force: bool,
    /// Why, in a sentence; it stands in the log of the daemon.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Option<String>,
}

/// PostgreSQL's own limit for a promotion, and room.
const PATIENCE: Duration = Duration::from_secs(90);

/// A line of the log, and not a longer one than a request may be.
fn reason(text: &str) -> Result<String, &'static str> {
    match text.trim() {
        "" => Err("say why: whoever reads the log later wants to know"),
        text if text.len() > 500 || text.contains(char::is_control) => Err("one line of 500 bytes at most"),
        text => Ok(text.to_owned()),
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, ExitCode> {
    let settings = arguments.with.load()?;
    super::block_on(async {
        let before = ask(&settings, Request::Status).await?;
        impossible(&before).map_or(Ok(()), |why| Err(refused(&why)))?;
        unless_paused(&before)?;
        let (true, Some(reason)) = (arguments.force, &arguments.reason) else {
            return Err(not_so(&unforced(&before)));
        };
        println!("{}", loss(&before));
        ask(&settings, Request::Failover { reason: reason.clone() }).await?;
        follow(&settings).await
    })
}

/// Why not even force helps.
fn impossible(status: &Value) -> Option<String> {
    let role = word(&status["role"]);
    if role == "primary" {
        return Some("this node is the primary; run the failover on the standby".to_owned());
    }
    if !status["postgres"].is_object() {
        return Some("there is no [postgres] in the configuration: VRRP alone decides who serves".to_owned());
    }
    if role != "standby" {
        return Some(format!(
            "this node is {role}, and only a running standby can take over: {}",
            word(&status["why"])
        ));
    }
    let refusal = word(&status["refusal"]);
    match word(&status["refusal_name"]) {
        "down" | "replay_paused" | "other_cluster" | "term_not_stored" => Some(format!("not even by force: {refusal}")),
        _ => None,
    }
}

/// What an automatic takeover needs, and what is in its way.
fn unforced(status: &Value) -> String {
    let now = match status["refusal"].as_str() {
        Some(refusal) => format!("Now it would be refused: {refusal}"),
        None if status["peer"]["role"] == "primary" => "Nothing is in its way, and the primary is alive: \
             `harbor-ha switchover` there hands over without loss"
            .to_owned(),
        None => "Nothing is in its way".to_owned(),
    };
    format!(
        "a takeover by itself needs no command: this standby takes over when the primary is silent, hangs or resigns, \
         and it is known that the primary serves no more and that no acknowledged write is missing here. {now}.\n\
         To take over all the same, and lose what is missing: `harbor-ha failover --force --reason TEXT`"
    )
}

/// What may be lost, before it is.
fn loss(status: &Value) -> String {
    let has = word(&status["postgres"]["facts"]["lsn"]);
    let lost = match word(&status["refusal_name"]) {
        "behind" | "lag" | "timeline" | "never_heard" | "waived" => {
            "writes that the primary acknowledged and this node does not have ARE LOST, or were not known to be here"
        }
        "no_right" | "witness_refused" | "witness_unreachable" => {
            "the primary may serve still: what it acknowledges from now on, until it hears of the new term, is lost"
        }
        _ => "no acknowledged write is known to be missing here",
    };
    let peer = match word(&status["peer"]["role"]) {
        "primary" => " The peer is alive and serves: its gate is shut before this one opens.",
        "dead" | "unknown" => {
            " The peer is not heard. If it is only cut off, it is not told, and two nodes may serve: make sure that it is \
             off."
        }
        _ => "",
    };
    format!("This node takes over with WAL up to {has}: {lost}.{peer}")
}

async fn follow(settings: &Settings) -> Result<ExitCode, ExitCode> {
    let mut progress = Progress::new();
    while progress.elapsed() < PATIENCE {
        let now = look_again(settings).await?;
        progress.show(summary(&now));
        let why = word(&now["why"]);
        if now["role"] == "primary" && now["vip"] == true {
            println!("{}", done(&now));
            return Ok(ExitCode::SUCCESS);
        }
        if now["role"] == "standby" && now["forced"] != true && now["operation"] == "none" {
            return Err(refused(&format!("it has not taken over: {why}")));
        }
    }
    Err(refused(&format!("not finished after {PATIENCE:?}; `harbor-ha status` tells where it is")))
}

/// How long it took, by the daemon's own stamps.
fn done(status: &Value) -> String {
    let stamps = &status["takeover"];
    let since_begun = |name: &str| age(number(&stamps[name]).saturating_sub(number(&stamps["begun_ns"])));
    format!(
        "this node serves: promoted after {}, announced after {}; the old primary rejoins when it is back",
        since_begun("promoted_ns"),
        since_begun("garp_ns")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standby(refusal_name: Option<&str>, peer: &str) -> Value {
        let refusal = refusal_name.map(|name| format!("the sentence of {name}"));
        let postgres = serde_json::json!({"facts": {"lsn": "0/3000148"}});
        serde_json::json!({"role": "standby", "peer": {"role": peer}, "postgres": postgres,
                           "refusal": refusal, "refusal_name": refusal_name})
    }

    #[test]
    fn what_force_cannot_mend_is_refused_with_its_sentence() {
        for name in ["down", "replay_paused", "other_cluster", "term_not_stored"] {
            let why = impossible(&standby(Some(name), "dead")).expect(name);
            assert!(why.contains("not even by force") && why.contains(name), "{why}");
        }
        for name in ["behind", "never_heard", "lag", "no_right", "waived", "timeline", "witness_refused"] {
            assert_eq!(impossible(&standby(Some(name), "dead")), None, "{name}");
        }
        let primary = serde_json::json!({"role": "primary"});
        assert!(impossible(&primary).unwrap().contains("on the standby"));
    }

    #[test]
    fn the_loss_is_told_by_what_stands_in_the_way() {
        assert!(loss(&standby(Some("behind"), "dead")).contains("ARE LOST"));
        assert!(loss(&standby(Some("no_right"), "dead")).contains("may serve still"));
        let clean = loss(&standby(None, "primary"));
        assert!(
            clean.contains("no acknowledged write is known to be missing") && clean.contains("0/3000148"),
            "{clean}"
        );
    }

    #[test]
    fn without_force_the_refusal_of_the_moment_is_explained() {
        assert!(unforced(&standby(Some("waived"), "dead")).contains("the sentence of waived"));
        assert!(unforced(&standby(None, "primary")).contains("switchover"));
    }

    #[test]
    fn a_reason_is_one_line_with_something_in_it() {
        assert_eq!(reason(" the primary's host burns ").as_deref(), Ok("the primary's host burns"));
        assert!(reason("  ").is_err() && reason("a\nb").is_err() && reason(&"x".repeat(501)).is_err());
    }
}
