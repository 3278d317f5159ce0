//! What is tracked, and what was told to others: the same families on the page of a pair and on that of a router.

use std::fmt;

use prometheus_client::encoding::EncodeLabelSet;

use super::super::outside::Outside;
use super::super::status::Status;
use super::families::{ALONE, Families};
use crate::core::health::Stays;
use crate::vrrp::snapshot::TrackView;
use crate::vrrp::track::Level;

pub(super) fn of_pair(families: &mut Families<'_>, status: &Status) -> fmt::Result {
    let core = &status.core;
    priorities(families, || [(ALONE, core.priority, core.configured_priority)].into_iter())?;
    trackers(families, || core.trackers.iter().map(|it| ([("tracker", it.name.clone())], it)))?;
    families.flag(
        "tracked_fault",
        "Whether something that this node tracks with weight 0 has failed.",
        core.tracked_failed,
    )?;
    families.states(
        "handover_withheld",
        "Why this primary serves on although something that it tracks has failed: 1 for the reason, 0 for the others.",
        "reason",
        &Stays::NAMES,
        |reason| core.stays_name == Some(reason),
    )?;
    write(families, &status.outside)
}

/// By labels: the priority now, and as configured.
pub(super) fn priorities<L: EncodeLabelSet, I: Iterator<Item = (L, u8, u8)>>(
    families: &mut Families<'_>,
    all: impl Fn() -> I,
) -> fmt::Result {
    families.gauge(
        "priority",
        "The VRRP priority that is sent, as what is tracked makes it.",
        all().map(|(labels, now, _)| (labels, u32::from(now))),
    )?;
    families.gauge(
        "priority_configured",
        "The VRRP priority of the configuration.",
        all().map(|(labels, _, configured)| (labels, u32::from(configured))),
    )
}

/// Each use of a tracker.
pub(super) fn trackers<'a, L: EncodeLabelSet, I: Iterator<Item = (L, &'a TrackView)>>(
    families: &mut Families<'_>,
    all: impl Fn() -> I,
) -> fmt::Result {
    families.gauge(
        "tracker_well",
        "Whether something that is tracked is as it should be; not before the first look, and never for a file that is \
         only added up.",
        all().filter(|(_, it)| matches!(it.level, Level::Good | Level::Bad) || it.weight == 0).map(|(labels, it)| {
            let well = it.level != Level::Unknown && if it.weight == 0 { !it.stops } else { it.level == Level::Good };
            (labels, u32::from(well))
        }),
    )?;
    families.gauge(
        "tracker_adds",
        "What something that is tracked adds to the priority now.",
        all().map(|(labels, it)| (labels, i64::from(it.adds))),
    )
}

pub(super) fn write(families: &mut Families<'_>, outside: &Outside) -> fmt::Result {
    let name = |it: &super::super::outside::Facts| [("tracker", it.tracker.clone())];
    families.counter(
        "tracker_facts",
        "Looks at something that is tracked: runs of a script, news of anything else.",
        outside.facts.iter().map(|it| (name(it), it.facts)),
    )?;
    families.counter(
        "tracker_failures",
        "Those of them that found it failed: runs of a script, and how often an interface was down.",
        outside.facts.iter().map(|it| (name(it), it.failed)),
    )?;
    families.counter(
        "notify_scripts",
        "Notify scripts since the daemon began: ended well, not well, or left out as a newer state came first.",
        [("ok", outside.scripts_ok), ("failed", outside.scripts_failed), ("replaced", outside.scripts_replaced)]
            .map(|(outcome, count)| ([("outcome", outcome)], count)),
    )?;
    families.counter(
        "notify_mails",
        "Mails since the daemon began: sent, or given up.",
        [("sent", outside.mails_sent), ("lost", outside.mails_lost)]
            .map(|(outcome, count)| ([("outcome", outcome)], count)),
    )?;
    families.count(
        "notify_fifo_dropped_lines",
        "Lines that the reader of the FIFO was too slow for.",
        Some(outside.fifo_lines_dropped),
    )
}
