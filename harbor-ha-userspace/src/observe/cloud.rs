//! What the daemon has seen of Alibaba Cloud, and done there.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::words::age;

/// Every [`Cloud::calls`], in the order of the table.
pub const CALLS: [&str; 5] = ["look", "unassociate", "stop", "associate", "bind-own"];

/// `[cloud]`, as of now.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cloud {
    /// This node's instance, once it is known.
    pub instance: Option<String>,
    /// The peer's, as configured.
    pub peer_instance: String,
    /// The HaVip, once it was found.
    pub havip: Option<String>,
    /// The instance that has it, by the last look that was answered; `None`: nobody, or never seen.
    pub master: Option<String>,
    /// Whether that is this node; `None`: never seen.
    pub master_is_us: Option<bool>,
    /// Whether this node's own instance is bound to it; `None`: not seen.
    pub bound: Option<bool>,
    /// Whether that is the node that serves; `None`: never seen, or no node is known to serve.
    pub agrees: Option<bool>,
    /// When the last look was answered, `CLOCK_MONOTONIC` nanoseconds; 0: never.
    pub seen_ns: u64,
    /// Why the last look was not; `None`: it was.
    pub trouble: Option<String>,
    /// This node serves, and the HaVip did not follow within `cloud.follow_deadline`: what is known of it.
    pub alert: Option<String>,
    /// Alerts since the daemon began.
    pub alerts: u64,
    /// How long it took to follow the last time; `None`: it never had to.
    pub followed_ns: Option<u64>,
    /// Announcements that were repeated because it had not.
    pub repeated: u64,
    /// What was asked of the service, by [`CALLS`].
    pub calls: BTreeMap<&'static str, Calls>,
    /// Times that this daemon fenced its peer, dry runs included.
    pub fenced: u64,
    /// The last word about fencing.
    pub fence: Option<String>,
}

/// How often, and how often for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Calls {
    /// It came to something.
    pub ok: u64,
    /// It did not, repetitions included.
    pub failed: u64,
}

impl Cloud {
    /// Counts one.
    pub fn called(&mut self, call: &'static str, ok: bool) {
        let calls = self.calls.entry(call).or_default();
        *(if ok { &mut calls.ok } else { &mut calls.failed }) += 1;
    }
}

/// The lines of the table; loud where an operator is needed.
pub(super) fn lines(cloud: &Value, now: u64) -> Vec<(&'static str, String)> {
    let Some(seen) = cloud["seen_ns"].as_u64() else { return Vec::new() };
    let mut lines = Vec::new();
    let ago = (seen != 0).then(|| age(now.saturating_sub(seen)));
    let master = cloud["master"].as_str().unwrap_or("nobody");
    let place = match (&ago, cloud["master_is_us"].as_bool()) {
        (None, _) => "not looked at yet".to_owned(),
        (Some(ago), Some(true)) => format!("with this node ({master}), seen {ago} ago"),
        (Some(ago), _) => format!("with {master}, seen {ago} ago"),
    };
    let agrees = match cloud["agrees"].as_bool() {
        Some(false) => "; NOT with the node that serves",
        Some(true) | None => "",
    };
    let trouble = cloud["trouble"].as_str().map(|why| format!("; the last look failed: {why}")).unwrap_or_default();
    let unbound = match cloud["bound"].as_bool() {
        Some(false) => "; this instance is NOT BOUND to it (`harbor-ha havip bind own`)",
        Some(true) | None => "",
    };
    let trouble = format!("{unbound}{trouble}");
    match cloud["alert"].as_str() {
        Some(alert) => lines.push(("HAVIP", format!("{alert}; {place}{trouble}"))),
        None => lines.push(("havip", format!("{place}{agrees}{trouble}"))),
    }
    if let Some(fence) = cloud["fence"].as_str() {
        lines.push(("fencing", fence.to_owned()));
    }
    lines
}
