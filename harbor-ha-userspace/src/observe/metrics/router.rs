//! The page of a router: its instances, each by its name, and its interfaces.

use std::fmt;

use harbor_ha_ebpf::decide::filter::Reject;

use super::super::router::Status;
use super::families::Families;
use super::{Measured, cloud, outside, seconds};
use crate::vrrp::State;
use crate::vrrp::snapshot::InstanceView;

/// `instance` is Prometheus's own word for the host.
const NAME: &str = "virtual_router";

impl Measured for Status {
    fn measure(&self, families: &mut Families<'_>) -> fmt::Result {
        families.info(
            "build",
            "Which harbor-ha runs.",
            &[("version", self.about.version), ("name", self.about.instance.as_str())],
        )?;
        states(families, self)?;
        adverts(families, self)?;
        let of_instance = |it: &InstanceView| [(NAME, it.name.clone())];
        let all = &self.router.instances;
        outside::priorities(families, || all.iter().map(|it| (of_instance(it), it.priority, it.configured_priority)))?;
        outside::trackers(families, || {
            all.iter().flat_map(|it| {
                it.trackers
                    .iter()
                    .map(move |tracker| ([(NAME, it.name.clone()), ("tracker", tracker.name.clone())], tracker))
            })
        })?;
        interfaces(families, self)?;
        outside::write(families, &self.outside)?;
        cloud::write(families, self.cloud.as_ref(), self.now_ns)
    }
}

/// One of the numbers of each instance, by its name.
fn per_instance(
    all: &[InstanceView],
    of: fn(&InstanceView) -> u64,
) -> impl Iterator<Item = ([(&'static str, String); 1], u64)> {
    all.iter().map(move |it| ([(NAME, it.name.clone())], of(it)))
}

fn states(families: &mut Families<'_>, status: &Status) -> fmt::Result {
    let all = &status.router.instances;
    let states = [State::Init, State::Backup, State::Master, State::Fault];
    families.gauge(
        "vrrp_state",
        "The VRRP state of each virtual router: 1 for the one that is.",
        all.iter().flat_map(|it| {
            states.map(|state| ([(NAME, it.name.clone()), ("state", state.to_string())], u32::from(state == it.state)))
        }),
    )?;
    families.gauge(
        "state_change_timestamp_seconds",
        "When the VRRP state last changed, in seconds since 1970.",
        all.iter().map(|it| ([(NAME, it.name.clone())], status.unix_seconds(it.since_ns))),
    )?;
    families.gauge(
        "address_held",
        "Whether the virtual addresses are on this node's interface.",
        status.addresses.iter().map(|it| ([(NAME, it.instance.clone())], u32::from(it.up))),
    )?;
    families.gauge(
        "addresses_not_ours",
        "How many of its virtual addresses somebody else put on this node, which is not their master.",
        status.addresses.iter().map(|it| ([(NAME, it.instance.clone())], it.not_ours.len() as u32)),
    )?;
    let count = |of| per_instance(all, of);
    families.counter(
        "became_master",
        "How often a virtual router became master.",
        count(|it| it.counters.became_master),
    )?;
    families.counter(
        "released_master",
        "How often a virtual router was master no more.",
        count(|it| it.counters.released_master),
    )?;
    families.counter(
        "addresses_restored",
        "How often somebody took addresses away that were then put up again.",
        count(|it| it.counters.addresses_restored),
    )?;
    families.counter(
        "detector_stalls",
        "How often this host stood still, so that silence meant nothing.",
        count(|it| it.counters.stalls),
    )
}

fn adverts(families: &mut Families<'_>, status: &Status) -> fmt::Result {
    let all = &status.router.instances;
    let count = |of| per_instance(all, of);
    families.counter("adverts_sent", "Adverts sent, resignations among them.", count(|it| it.counters.adverts_sent))?;
    families.counter(
        "adverts_received",
        "Adverts that counted, resignations among them.",
        count(|it| it.counters.adverts_received),
    )?;
    families.counter("resignations_sent", "Adverts of priority 0 sent.", count(|it| it.counters.priority_zero_sent))?;
    families.counter(
        "resignations_received",
        "Adverts of priority 0 that counted.",
        count(|it| it.counters.priority_zero_received),
    )?;
    families.counter(
        "adverts_ignored",
        "Adverts in INIT and FAULT, during a start-up delay, or from this node's own address.",
        count(|it| it.counters.ignored),
    )?;
    families.counter(
        "adverts_differing",
        "Adverts that counted and named other addresses or another interval than ours.",
        all.iter().flat_map(|it| {
            [("addresses", it.counters.address_list_differs), ("interval", it.counters.interval_differs)]
                .map(|(what, count)| ([(NAME, it.name.clone()), ("what", what.to_owned())], count))
        }),
    )?;
    families.counter(
        "adverts_rejected",
        "Adverts of a router id of ours that were dropped, by reason.",
        all.iter().flat_map(|it| {
            Reject::ALL.map(|reason| {
                let found = it.rejects.iter().find(|found| found.reason == reason.name());
                let labels = [(NAME, it.name.clone()), ("reason", reason.name().to_owned())];
                (labels, found.map_or(0, |found| found.count))
            })
        }),
    )?;
    families.gauge(
        "peer_advert_age_seconds",
        "How long ago a peer was heard last.",
        all.iter().flat_map(|it| {
            it.peers.iter().map(|peer| {
                let labels = [(NAME, it.name.clone()), ("peer", peer.address.to_string())];
                (labels, seconds(status.now_ns.saturating_sub(peer.last_ns)))
            })
        }),
    )
}

fn interfaces(families: &mut Families<'_>, status: &Status) -> fmt::Result {
    let all = &status.interfaces;
    families.counter(
        "garp_sent",
        "Gratuitous ARPs sent.",
        all.iter().map(|it| ([("interface", it.name.clone())], it.garp_sent)),
    )?;
    families.counter(
        "adverts_of_strangers",
        "Adverts of router ids that no virtual router here has.",
        all.iter().map(|it| ([("interface", it.name.clone())], it.strangers)),
    )?;
    families.counter(
        "malformed_adverts",
        "Packets of protocol 112 that could not be told to be any virtual router's.",
        all.iter()
            .map(|it| ([("interface", it.name.clone())], it.rejects.iter().map(|found| found.count).sum::<u64>())),
    )
}
