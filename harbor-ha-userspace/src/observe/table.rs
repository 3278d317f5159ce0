//! The status as text, for a terminal.

use std::fmt::Write as _;

use serde_json::Value;

use super::cloud;
use super::lease;
use super::words::{self, age, size};

/// Where the texts begin.
const INDENT: usize = 13;

/// Renders the JSON answer of the status socket for a terminal of `width` columns, or of any width.
///
/// From the JSON and not from the structs, so that a client shows what any daemon of this format tells.
pub fn render(status: &Value, width: Option<usize>) -> String {
    let mut text = String::new();
    let now = status["now_ns"].as_u64().unwrap_or(0);
    let mut line = |name: &str, value: String| {
        let _infallible = writeln!(text, "{name:<12} {}", wrapped(&value, width));
    };
    line("instance", format!("{} (harbor-ha {})", word(&status["instance"]), word(&status["version"])));
    let since = now.saturating_sub(status["since_ns"].as_u64().unwrap_or(now));
    line(
        "role",
        format!("{} for {} (vrrp {})", word(&status["role"]).to_uppercase(), age(since), word(&status["vrrp"])),
    );
    if status["paused"] == true {
        let text = "AUTOMATIC ACTION IS PAUSED: this node neither takes over nor hands over, starts or rejoins; run \
                    `harbor-ha resume`";
        line("PAUSED", text.to_owned());
    }
    line("why", word(&status["why"]));
    if status["operation"] != "none" {
        line("running", word(&status["operation"]));
    }
    let address = match (status["vip"] == true, status["gate"]["state"].as_str().unwrap_or("open")) {
        (true, "open") => "served here",
        (true, _) => "here, and DARK: the gate is shut",
        (false, _) => "not served here",
    };
    line("address", address.to_owned());
    for (name, text) in lease::lines(status) {
        line(name, text);
    }
    if status["priority"] != status["configured_priority"] {
        line("priority", format!("{} of {}", status["priority"], status["configured_priority"]));
    }
    if let Some(text) = status["tracked"].as_str().filter(|_| status["tracked_failed"] == true) {
        let then = status["stays"].as_str().map(|why| format!("; this node serves on: {why}"));
        line("TRACKED", text.to_owned() + &then.unwrap_or_default());
    }
    let tracked = words::tracked(&status["trackers"]);
    if !tracked.is_empty() {
        line("tracked", tracked.join(", "));
    }
    line("peer", peer(status));
    if let Some(postgres) = status["postgres"].as_object() {
        line("postgresql", postgresql(postgres));
    }
    if let Some((name, text)) = lag(&status["lag"], now) {
        line(name, text);
    }
    for (name, text) in cloud::lines(&status["cloud"], now) {
        line(name, text);
    }
    if let Some((name, text)) = saved_wal(&status["saved_wal"]) {
        line(name, text);
    }
    if let Some(terms) = status["terms"].as_object() {
        line("term", term(terms));
    }
    if let Some(text) = lease::isolated(status) {
        line("isolated", text);
    }
    line(
        "heartbeats",
        format!(
            "pulses {}{}; adverts {}",
            heard(&status["pulses_heard"]),
            unanswered(&status["pulses_heard"]),
            heard(&status["adverts_heard"])
        ),
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
        line("took over", stamps(takeover, now));
    }
    if let Some(text) = status["handover"].as_object().and_then(|stamps| handover(stamps, now)) {
        line("handed over", text);
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
    let unwell = if peer["unwell"] == true { ", A CHECK FAILS THERE: it would not take over" } else { "" };
    format!("{alive}, {}, priority {priority}, timeline {}{unwell}", word(&peer["role"]), word(&peer["timeline"]))
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

/// What rejoins have put aside, if there is any.
fn saved_wal(saved: &Value) -> Option<(&'static str, String)> {
    let directories = saved["directories"].as_u64().filter(|&count| count > 0)?;
    let (bytes, path) = (size(saved["bytes"].as_u64().unwrap_or(0)), word(&saved["path"]));
    let noun = if directories == 1 { "rejoin" } else { "rejoins" };
    Some(("saved WAL", format!("{bytes} of {directories} {noun} in {path}; remove what nobody wants to read any more")))
}

/// How far a standby is behind, as far as its primary has said; loud where it refuses for it.
fn lag(lag: &Value, now: u64) -> Option<(&'static str, String)> {
    let bytes = lag["bytes"].as_u64()?;
    if bytes == 0 {
        return Some(("lag", "none, as far as the primary has said".to_owned()));
    }
    let since = age(now.saturating_sub(lag["since_ns"].as_u64().unwrap_or(now)));
    let text = format!("{} behind what the primary has said, for {since}", size(bytes));
    Some(match lag["limit"].as_u64() {
        Some(limit) if bytes > limit => ("LAG", format!("{text}: more than `postgres.max_lag` ({})", size(limit))),
        Some(limit) => ("lag", format!("{text}; {} are allowed", size(limit))),
        None => ("lag", text),
    })
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

/// Loud when the peer's daemon is heard and its kernel never answered: then a starved daemon looks dead.
fn unanswered(pulses: &Value) -> &'static str {
    let silent = pulses["answers"] == 0 && pulses["arrivals"].as_u64().unwrap_or(0) >= 100;
    if silent {
        ", NONE OF OURS ANSWERED by its kernel: `kernel.xdp_mode = \"generic\"` there helps where a card cannot send back"
    } else {
        ""
    }
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

/// How long nobody could write when this node last handed over.
fn handover(stamps: &serde_json::Map<String, Value>, now: u64) -> Option<String> {
    let stamp = |name: &str| stamps.get(name).and_then(Value::as_u64).filter(|&ns| ns != 0);
    let shut = stamp("shut_ns")?;
    let ago = age(now.saturating_sub(shut));
    let Some(served) = stamp("peer_serves_ns") else {
        return Some(format!("{ago} ago, and the peer has not said yet that it serves"));
    };
    let refused = age(served.saturating_sub(shut));
    Some(format!("{ago} ago, writes were refused for {refused} as seen from this node"))
}

/// The text in lines that fit, the later ones below the first one's beginning.
fn wrapped(text: &str, width: Option<usize>) -> String {
    // Narrower than this nothing is gained.
    let Some(room) = width.map(|width| width.saturating_sub(INDENT)).filter(|&room| room >= 20) else {
        return text.to_owned();
    };
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is one");
        if line.is_empty() {
            *line = word.to_owned();
        } else if line.chars().count() + 1 + word.chars().count() <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join(&format!("\n{}", " ".repeat(INDENT)))
}
