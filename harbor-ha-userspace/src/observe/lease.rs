//! The lines of the lease: who may serve, by what right, and who may take over (docs/protocol.md).

use serde_json::Value;

use super::words::{self, age};

/// Name and text of each line; nothing without a lease.
pub(super) fn lines(status: &Value) -> Vec<(&'static str, String)> {
    let lease = &status["lease"];
    if !lease.is_object() {
        return match status["postgres"].is_object() {
            true => vec![("LEASE", "none without pulses: nothing keeps two nodes from serving at once".to_owned())],
            false => Vec::new(),
        };
    }
    let mut lines = vec![gate(status)];
    let primary = status["role"] == "primary";
    if primary && lease["peer_waived"] == true {
        let text = "the standby has given up its right: it does not take over in this term, and a switchover is refused \
                    until it follows again";
        lines.push(("WAIVED", text.to_owned()));
    }
    if status["role"] == "standby" {
        lines.push(succession(status));
    }
    if let Some(hold) = hold(status) {
        lines.push(hold);
    }
    if let Some(trouble) = lease["witness_trouble"].as_str() {
        lines.push(("WITNESS", trouble.to_owned()));
    }
    lines
}

/// What a primary does whose standby does not confirm it.
pub(super) fn isolated(status: &Value) -> Option<String> {
    let choice = words::choice(status["lease"]["isolated"].as_str()?)?;
    Some(format!("{}: {}", words::name(choice), words::isolated(choice)))
}

/// Open or shut, and why; how often it was dark.
fn gate(status: &Value) -> (&'static str, String) {
    let (lease, gate) = (&status["lease"], &status["gate"]);
    let echoed = match lease["echo"] == true {
        true => "the peer's stamps are echoed, so it may serve",
        false => "the peer's stamps are NOT echoed: it may not serve by this node",
    };
    let primary = status["role"] == "primary";
    let (name, mut text) = match gate["state"].as_str().unwrap_or("unknown") {
        "open" => ("gate", format!("open, {}", right(status))),
        "not_serving" if !primary => ("gate", format!("shut, as this node does not serve; {echoed}")),
        "not_serving" if lease["waits_for_tail"] == true => {
            let text = "SHUT until the standby has all WAL: PostgreSQL was started, and shows commits that may never have \
                        been acknowledged";
            ("GATE", text.to_owned())
        }
        "not_serving" => ("GATE", "SHUT: not ordered open yet".to_owned()),
        "higher_term" => ("GATE", "SHUT: a primary of a later term was heard".to_owned()),
        "expired" => ("GATE", format!("SHUT: the standby does not confirm this node, {}", alone(status))),
        other => ("GATE", format!("{other}: the kernel's maps could not be read")),
    };
    let number = |name: &str| gate[name].as_u64().unwrap_or(0);
    if number("darkenings") > 0 {
        let times = if number("darkenings") == 1 { "once".to_owned() } else { format!("{} times", gate["darkenings"]) };
        text += &format!("; was dark {times}, {} in all", age(number("dark_ns")));
    }
    (name, text)
}

/// By what right the gate is open.
fn right(status: &Value) -> String {
    let gate = &status["gate"];
    let left = |name: &str| age(gate[name].as_u64().unwrap_or(0));
    match status["lease"]["right"].as_str().unwrap_or("-") {
        "leased" => format!("leased by the peer, {} left", left("leased_ns")),
        "solo" => "alone (solo): no other node may take over in this term".to_owned(),
        "witness" => format!("by the witness's word, {} left", left("solo_ns")),
        "serve" => "by `isolated = \"serve\"`: the peer does not confirm, AND MAY SERVE TOO".to_owned(),
        // The daemon was restarted, and what it left in force goes on.
        _ => format!("as an earlier run of the daemon left it, leased {}", left("leased_ns")),
    }
}

/// What a dark primary waits for.
fn alone(status: &Value) -> &'static str {
    match status["lease"]["isolated"].as_str().unwrap_or("-") {
        "hold" => "and with `isolated = \"hold\"` it stays dark until the standby's kernel answers",
        "witness" => "and the witness has not granted it to serve alone",
        _ => "and its userspace gave no sign for `lease.hang`",
    }
}

/// Whether a standby may take over.
fn succession(status: &Value) -> (&'static str, String) {
    match status["refusal"].as_str() {
        Some(refusal) => ("TAKEOVER", format!("NO, this standby may not take over: {refusal}")),
        None if status["peer"]["role"] == "primary" => {
            ("takeover", "yes, this standby takes over when the primary falls silent or resigns".to_owned())
        }
        None => ("takeover", "yes, this standby may take over".to_owned()),
    }
}

fn hold(status: &Value) -> Option<(&'static str, String)> {
    let lease = &status["lease"];
    if lease["hold"] != true {
        return None;
    }
    let left = lease["hold_until_ns"].as_u64().unwrap_or(0).saturating_sub(status["now_ns"].as_u64().unwrap_or(0));
    Some(match lease["hold_agreed"] == true {
        true => ("HOLD", format!("the peer bears with a silent daemon here for another {}: restart it now", age(left))),
        false => ("HOLD", "asked for, and the peer has NOT agreed: a restart is a hand-over".to_owned()),
    })
}
