//! The status as text, for a terminal.

use std::fmt::Write as _;

use serde_json::Value;

/// Renders the JSON answer of the status socket.
///
/// From the JSON and not from the structs, so that a client shows what any daemon of this format tells.
pub fn render(status: &Value) -> String {
    let mut text = String::new();
    let now = status["now_ns"].as_u64().unwrap_or(0);
    let mut line = |name: &str, value: String| {
        let _infallible = writeln!(text, "{name:<12} {value}");
    };
    line("instance", format!("{} (harbor-ha {})", word(&status["instance"]), word(&status["version"])));
    let since = now.saturating_sub(status["since_ns"].as_u64().unwrap_or(now));
    line(
        "role",
        format!("{} for {} (vrrp {})", word(&status["role"]).to_uppercase(), age(since), word(&status["vrrp"])),
    );
    line("why", word(&status["why"]));
    if let Some(terms) = status["terms"].as_object() {
        line("term", term(terms));
    }
    if status["operation"] != "none" {
        line("running", word(&status["operation"]));
    }
    line("address", if status["vip"] == true { "served here".to_owned() } else { "not served here".to_owned() });
    line("peer", peer(status));
    if let Some(postgres) = status["postgres"].as_object() {
        line("postgresql", postgresql(postgres));
    }
    if let Some(refusal) = status["refusal"].as_str() {
        line("TAKEOVER", format!("would be refused: {refusal}"));
    }
    line(
        "heartbeats",
        format!("pulses {}; adverts {}", heard(&status["pulses_heard"]), heard(&status["adverts_heard"])),
    );
    let rejects = status["rejects"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut dropped: Vec<String> =
        rejects.iter().map(|reject| format!("{} {}", word(&reject["reason"]), reject["count"])).collect();
    if status["strangers"].as_u64().unwrap_or(0) > 0 {
        dropped.push(format!("from strangers {}", status["strangers"]));
    }
    line("dropped", if dropped.is_empty() { "nothing".to_owned() } else { dropped.join(", ") });
    line("kernel", format!("XDP {}; {}", word(&status["xdp_mode"]), word(&status["memory"])));
    if let Some(realtime) = status["realtime"].as_str() {
        line("scheduling", realtime.to_owned());
    }
    if let Some(takeover) = status["takeover"].as_object() {
        line("takeover", stamps(takeover, now));
    }
    text
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn term(terms: &serde_json::Map<String, Value>) -> String {
    let number = |name: &str| terms.get(name).and_then(Value::as_u64).unwrap_or(0);
    let mut text = format!("{} seen", number("seen"));
    text += &match number("mine") {
        0 => ", never a primary".to_owned(),
        mine => format!(", primary in {mine}"),
    };
    if number("reserved") != 0 {
        text += &format!(", would take over in {}", number("reserved"));
    }
    text
}

fn peer(status: &Value) -> String {
    let peer = &status["peer"];
    let alive = if peer["alive"] == true { "alive" } else { "NOT alive" };
    // 0 was never configured: it is not known.
    let priority = peer["priority"].as_u64().filter(|&priority| priority != 0);
    let priority = priority.map_or_else(|| "-".to_owned(), |priority| priority.to_string());
    format!("{alive}, {}, priority {priority}, timeline {}", word(&peer["role"]), word(&peer["timeline"]))
}

fn postgresql(postgres: &serde_json::Map<String, Value>) -> String {
    let state = postgres.get("state").map(word).unwrap_or_default();
    let Some(facts) = postgres.get("facts").filter(|facts| facts.is_object()) else {
        let detail = postgres.get("detail").and_then(Value::as_str);
        return detail.map_or_else(|| state.clone(), |detail| format!("{state}: {detail}"));
    };
    let mut text = format!("{state}, timeline {}, {}", facts["timeline"], word(&facts["lsn"]));
    let streaming = facts["streaming"] == true;
    if facts["in_recovery"] == true {
        text += if streaming { ", streams from the peer" } else { ", DOES NOT STREAM" };
    } else {
        text += match (streaming, facts["peer_is_sync"] == true) {
            (true, true) => ", the peer streams synchronously",
            (true, false) => ", the peer streams asynchronously",
            (false, _) => ", NO STANDBY STREAMS",
        };
        if let Some(names) = facts["sync_names"].as_str().filter(|names| !names.is_empty()) {
            text += &format!(", commits wait for {names}");
        }
    }
    text
}

fn heard(heard: &Value) -> String {
    if heard["arrivals"].as_u64().unwrap_or(0) == 0 {
        return "never heard".to_owned();
    }
    format!(
        "{}, {} heard, last {} ago, longest gap {}, {} missed, {} stalled",
        word(&heard["state"]),
        heard["arrivals"],
        age(heard["age_ns"].as_u64().unwrap_or(0)),
        age(heard["gap_max_ns"].as_u64().unwrap_or(0)),
        heard["missed"],
        heard["stalled"],
    )
}

fn stamps(takeover: &serde_json::Map<String, Value>, now: u64) -> String {
    let stamp = |name: &str| takeover.get(name).and_then(Value::as_u64).filter(|&ns| ns != 0);
    let Some(verdict) = stamp("verdict_ns") else {
        return "-".to_owned();
    };
    let mut text =
        format!("{} ago ({})", age(now.saturating_sub(verdict)), takeover.get("why").map(word).unwrap_or_default());
    for (name, label) in
        [("begun_ns", "decided"), ("promoted_ns", "promoted"), ("vip_ns", "address"), ("garp_ns", "announced")]
    {
        if let Some(at) = stamp(name) {
            let _infallible = write!(text, ", {label} +{}", age(at.saturating_sub(verdict)));
        }
    }
    text
}

/// A length of time with the unit that reads best.
fn age(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{} µs", ns / 1000),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        1_000_000_000..60_000_000_000 => format!("{:.1} s", ns as f64 / 1e9),
        60_000_000_000..600_000_000_000 => format!("{} s", ns / 1_000_000_000),
        _ => format!("{} min", ns / 60_000_000_000),
    }
}
