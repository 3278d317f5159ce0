//! Alibaba Cloud: whether the HaVip followed, and what was done to a dead peer. Nothing without `[cloud]`.

use std::fmt;

use super::super::cloud::{CALLS, Cloud};
use super::families::Families;
use super::seconds;

pub(super) fn write(families: &mut Families<'_>, cloud: Option<&Cloud>, now_ns: u64) -> fmt::Result {
    let Some(cloud) = cloud else { return Ok(()) };
    families.single(
        "havip_held",
        "Whether the HaVip is with this node, by the last look that was answered.",
        cloud.master_is_us.map(u32::from),
    )?;
    families.single(
        "havip_agrees",
        "Whether the HaVip is with the node that serves, by the last look that was answered.",
        cloud.agrees.map(u32::from),
    )?;
    families.flag(
        "havip_alert",
        "Whether this node serves and the HaVip did not follow within cloud.follow_deadline.",
        cloud.alert.is_some(),
    )?;
    families.count("havip_alerts", "How often that began.", Some(cloud.alerts))?;
    families.single(
        "havip_seen_age_seconds",
        "How long ago a look at the HaVip was last answered.",
        (cloud.seen_ns != 0).then(|| seconds(now_ns.saturating_sub(cloud.seen_ns))),
    )?;
    families.single(
        "havip_follow_seconds",
        "How long the HaVip took to follow this node the last time.",
        cloud.followed_ns.map(seconds),
    )?;
    families.count(
        "havip_repeated_announcements",
        "Announcements that were repeated because the HaVip had not followed.",
        Some(cloud.repeated),
    )?;
    let counts = CALLS.iter().flat_map(|&call| {
        let calls = cloud.calls.get(call).copied().unwrap_or_default();
        [("ok", calls.ok), ("failed", calls.failed)]
            .map(|(outcome, count)| ([("call", call), ("outcome", outcome)], count))
    });
    families.counter("cloud_calls", "What was asked of the cloud; repetitions of one call are one.", counts)?;
    families.count("fencings", "Times that this node fenced its peer, dry runs included.", Some(cloud.fenced))
}
