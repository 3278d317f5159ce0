//! What the kernel hears of the other node, and what it drops.

use std::fmt;

use harbor_ha_ebpf::decide::filter::Reject;

use super::super::status::{Heard, Status};
use super::families::Families;
use super::seconds;

pub(super) fn write(families: &mut Families<'_>, status: &Status) -> fmt::Result {
    // A counter of the kernel's, by heartbeat.
    let both = |of: fn(&Heard) -> u64| {
        [("pulse", &status.pulses_heard), ("advert", &status.adverts_heard)]
            .map(|(name, heard)| ([("heartbeat", name)], of(heard)))
    };
    families.counter(
        "heartbeats_heard",
        "Valid packets of the other node; a reflection by its kernel counts as a pulse.",
        both(|heard| heard.arrivals),
    )?;
    families.counter(
        "heartbeat_answers",
        "Pulses of ours that the other node's kernel answered, whatever its daemon did.",
        [([("heartbeat", "pulse")], status.pulses_heard.answers)],
    )?;
    families.counter(
        "heartbeats_missed",
        "Intervals in which no packet of the other node came.",
        both(|heard| heard.missed),
    )?;
    families.counter("heartbeat_deaths", "How often the other node was declared dead.", both(|heard| heard.deaths))?;
    families.counter(
        "detector_stalls",
        "Looks of the detector that came too late to mean anything: this host stood still.",
        both(|heard| heard.stalled),
    )?;
    let ages = both(|heard| heard.age_ns.unwrap_or(0)).into_iter();
    let heard = [&status.pulses_heard, &status.adverts_heard].map(|heard| heard.age_ns.is_some());
    families.gauge(
        "heartbeat_age_seconds",
        "How long ago the last packet of the other node came, in seconds; absent when none ever did.",
        ages.zip(heard).filter(|(_, heard)| *heard).map(|((labels, ns), _)| (labels, seconds(ns))),
    )?;
    families.gauge(
        "heartbeat_gap_max_seconds",
        "The longest time between two packets of the living other node, in seconds.",
        both(|heard| heard.gap_max_ns).map(|(labels, ns)| (labels, seconds(ns))),
    )?;
    let dropped = Reject::ALL.into_iter().filter(|reject| *reject != Reject::Source).map(|reject| {
        let count = status.rejects.iter().find(|found| found.reason == reject.name()).map_or(0, |found| found.count);
        ([("source", "peer"), ("reason", reject.name())], count)
    });
    let strangers = ([("source", "stranger"), ("reason", Reject::Source.name())], status.strangers);
    families.counter(
        "packets_rejected",
        "Packets that claimed to be adverts or pulses for this node and were dropped, by who sent them and why.",
        dropped.chain([strangers]),
    )
}
