//! The status of a router: one JSON object; and as text: one line for each instance, and below it what is not as it should
//! be.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use super::cloud::{self, Cloud};
use super::http::Shown;
use super::outside::Outside;
use super::status::RejectCount;
use super::words::{self, age};
use crate::vrrp::snapshot::Snapshot;

/// What does not change while it runs.
#[derive(Clone, Debug, Serialize)]
pub struct About {
    /// Tells this answer from that of a pair.
    pub form: &'static str,
    /// Name of the router.
    pub instance: String,
    /// Version of the daemon.
    pub version: &'static str,
    /// How the engine is scheduled.
    pub realtime: String,
    /// Whether memory is locked.
    pub memory: String,
}

/// Everything that `harbor-ha status` shows of a router.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// What does not change while it runs.
    #[serde(flatten)]
    pub about: About,
    /// `CLOCK_MONOTONIC` of this answer; every other `*_ns` is to be compared with it.
    pub now_ns: u64,
    /// The same instant in nanoseconds since 1970.
    pub unix_ns: u64,
    /// The machine's view.
    #[serde(flatten)]
    pub router: Snapshot,
    /// By instance, in the order of `instances`.
    pub addresses: Vec<Addresses>,
    /// Those that instances speak on or put addresses on.
    pub interfaces: Vec<Interface>,
    /// What was seen of the things that are tracked, and what was told to others.
    pub outside: Outside,
    /// The HaVip that one of the addresses is; `None` without `[cloud]`.
    pub cloud: Option<Cloud>,
}

/// The virtual addresses of an instance.
#[derive(Clone, Debug, Serialize)]
pub struct Addresses {
    /// Its name.
    pub instance: String,
    /// On their interfaces.
    pub up: bool,
    /// Those that are here although the instance is not master, as others put them there: `ADDRESS dev INTERFACE`.
    pub not_ours: Vec<String>,
}

/// One interface.
#[derive(Clone, Debug, Serialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Adverts of router ids that nobody here has.
    pub strangers: u64,
    /// Packets that could not be told to be any instance's, by reason; only what occurred.
    pub rejects: Vec<RejectCount>,
    /// Gratuitous ARPs that left.
    pub garp_sent: u64,
}

impl Status {
    /// A stamp of this answer as seconds since 1970, in whole milliseconds, as that of a pair.
    pub fn unix_seconds(&self, stamp_ns: u64) -> f64 {
        super::status::unix_seconds(self.now_ns, self.unix_ns, stamp_ns)
    }
}

impl Shown for Status {
    fn render(status: &Value) -> String {
        render(status, None)
    }
}

/// The columns.
const HEAD: [&str; 7] = ["INSTANCE", "STATE", "SINCE", "PRIORITY", "MASTER", "ADVERTS", "ADDRESSES"];

/// Renders the JSON answer of the status socket. The width is the longest line's: rows are not wrapped.
pub fn render(status: &Value, _width: Option<usize>) -> String {
    let now = status["now_ns"].as_u64().unwrap_or(0);
    let mut text = String::new();
    let mut put = |line: String| {
        let _infallible = writeln!(text, "{}", line.trim_end());
    };
    put(format!("router {} (harbor-ha {})", word(&status["instance"]), word(&status["version"])));
    put(format!("scheduling {}; {}", word(&status["realtime"]), word(&status["memory"])));
    if let Some(until) = status["silent_until_ns"].as_u64().filter(|&until| until > now) {
        put(format!("SILENT for {} more: a start-up delay", age(until - now)));
    }
    put(String::new());
    let instances = list(&status["instances"]);
    let rows: Vec<[String; 7]> =
        instances.iter().enumerate().map(|(index, it)| row(it, &status["addresses"][index], now)).collect();
    let mut widths = HEAD.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String; 7]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ")
    };
    put(line(&HEAD.map(str::to_owned)));
    for (index, (row, instance)) in rows.iter().zip(instances).enumerate() {
        put(line(row));
        let not_ours: Vec<_> = list(&status["addresses"][index]["not_ours"]).iter().map(word).collect();
        if instance["state"] != "master" && !not_ours.is_empty() {
            put(format!("    somebody else put up {}: two nodes may have it", not_ours.join(", ")));
        }
        remarks(instance, now).into_iter().for_each(|remark| put(format!("    {remark}")));
    }
    for (name, line) in cloud::lines(&status["cloud"], now) {
        put(format!("{name}: {line}"));
    }
    for group in list(&status["groups"]) {
        let names: Vec<String> = list(&group["instances"]).iter().map(word).collect();
        put(format!("group {}: {} ({})", word(&group["name"]), word(&group["state"]).to_uppercase(), names.join(", ")));
    }
    for interface in list(&status["interfaces"]) {
        let mut dropped: Vec<String> = counts(&interface["rejects"]);
        if interface["strangers"].as_u64().unwrap_or(0) > 0 {
            dropped.push(format!("of other routers {}", interface["strangers"]));
        }
        if !dropped.is_empty() {
            put(format!("interface {}: adverts dropped: {}", word(&interface["name"]), dropped.join(", ")));
        }
    }
    text
}

fn row(instance: &Value, addresses: &Value, now: u64) -> [String; 7] {
    let (priority, configured) = (&instance["priority"], &instance["configured_priority"]);
    let since = now.saturating_sub(instance["since_ns"].as_u64().unwrap_or(now));
    let counters = &instance["counters"];
    let master = match (&instance["master"], &instance["master_priority"]) {
        (Value::Null, _) => "-".to_owned(),
        (master, priority) => format!("{} ({priority})", word(master)),
    };
    [
        word(&instance["name"]),
        word(&instance["state"]).to_uppercase(),
        age(since),
        if priority == configured { priority.to_string() } else { format!("{priority} of {configured}") },
        master,
        format!("{} sent, {} heard", counters["adverts_sent"], counters["adverts_received"]),
        match (instance["state"] == "master", addresses["up"] == true) {
            (true, true) => "here".to_owned(),
            (true, false) => "NOT YET HERE".to_owned(),
            (false, _) if !list(&addresses["not_ours"]).is_empty() => "HERE, NOT OURS".to_owned(),
            (false, _) => "-".to_owned(),
        },
    ]
}

/// Why it is so, and what somebody should look at.
fn remarks(instance: &Value, now: u64) -> Vec<String> {
    let mut remarks = vec![word(&instance["why"])];
    if instance["waits_for_group"] == true {
        remarks.push("would be master, and waits for the others of its group".to_owned());
    }
    remarks.extend(words::tracked(&instance["trackers"]));
    for peer in list(&instance["peers"]) {
        let address = word(&peer["address"]);
        let last = age(now.saturating_sub(peer["last_ns"].as_u64().unwrap_or(now)));
        if peer["interval_differs"] == true {
            let theirs = age(peer["interval_ns"].as_u64().unwrap_or(0));
            let ours = age(instance["interval_ns"].as_u64().unwrap_or(0));
            let then = if instance["version"] == 2 { "; with version 2 its adverts are DROPPED" } else { "" };
            remarks.push(format!("{address} speaks every {theirs}, we every {ours} (last {last} ago){then}"));
        }
        if peer["addresses_differ"] == true {
            remarks.push(format!("{address} lists other addresses than ours (last {last} ago)"));
        }
    }
    let dropped = counts(&instance["rejects"]);
    if !dropped.is_empty() {
        remarks.push(format!("adverts dropped: {}", dropped.join(", ")));
    }
    remarks
}

fn counts(rejects: &Value) -> Vec<String> {
    list(rejects).iter().map(|reject| format!("{} {}", word(&reject["reason"]), reject["count"])).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_instance_has_a_line_and_what_is_wrong_stands_below_it() {
        let status = json!({
            "instance": "router", "version": "0.1.0", "realtime": "SCHED_FIFO 50", "memory": "memory locked",
            "now_ns": 20_000_000_000_u64, "silent_until_ns": 0,
            "instances": [
                {"name": "VI_1", "state": "backup", "since_ns": 10_000_000_000_u64, "why": "started", "version": 2,
                 "priority": 80, "configured_priority": 100, "interval_ns": 1_000_000_000, "master": "10.0.0.2",
                 "master_priority": 200, "counters": {"adverts_sent": 0, "adverts_received": 7},
                 "trackers": [{"name": "chk", "level": "bad", "adds": -20, "stops": false},
                              {"name": "file", "level": {"number": 3}, "adds": 0, "stops": true}],
                 "peers": [{"address": "10.0.0.2", "last_ns": 19_000_000_000_u64, "interval_ns": 2_000_000_000,
                            "interval_differs": true, "addresses_differ": false}],
                 "rejects": [{"reason": "interval", "count": 9}]},
                {"name": "VI_22", "state": "master", "since_ns": 0, "why": "nobody is master", "version": 3,
                 "priority": 100, "configured_priority": 100, "interval_ns": 1_000_000_000, "master": "10.0.0.1",
                 "master_priority": 100, "counters": {"adverts_sent": 20, "adverts_received": 0}},
            ],
            "addresses": [{"up": false, "not_ours": ["10.0.0.5/32 dev eth0"]}, {"up": true, "not_ours": ["10.0.0.6/32"]}],
            "groups": [{"name": "G", "state": "backup", "instances": ["VI_1"]}],
            "interfaces": [{"name": "eth0", "strangers": 4, "rejects": []}],
            "cloud": {"seen_ns": 18_000_000_000_u64, "master": "i-b", "master_is_us": false, "alert": "it is with i-b"},
        });
        let text = render(&status, None);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[3].starts_with("INSTANCE  STATE   SINCE"), "{text}");
        assert!(lines[4].starts_with("VI_1      BACKUP  10"), "{text}");
        assert!(lines[4].contains("80 of 100") && lines[4].contains("10.0.0.2 (200)"), "{text}");
        assert!(lines[4].ends_with("HERE, NOT OURS") && lines[5].contains("10.0.0.5/32 dev eth0"), "{text}");
        assert!(!text.contains("10.0.0.6"), "a master has them: {text}");
        for remark in ["chk is bad: -20", "file is 3: FAULT", "DROPPED", "adverts dropped: interval 9"] {
            assert!(text.contains(remark), "no `{remark}` in\n{text}");
        }
        assert!(text.contains("VI_22     MASTER") && text.contains("here"), "{text}");
        assert!(text.contains("\nHAVIP: it is with i-b; with i-b, seen 2.0 s ago"), "{text}");
        assert!(text.contains("group G: BACKUP (VI_1)") && text.contains("of other routers 4"), "{text}");
    }
}
