//! Who may serve: the gate, the lease, takeovers and why they are refused, the witness.

use std::fmt;

use harbor_ha_ebpf::decide::gate::Gate;

use super::super::status::{GateView, Status};
use super::families::{ALONE, Families, word};
use super::seconds;
use crate::core::promotable::NotPromotable;
use crate::core::rules::Isolated;
use crate::core::snapshot::{ENDS, RIGHTS};
use crate::core::tally::Answers;
use crate::core::witness::WitnessCall;

pub(super) fn write(families: &mut Families<'_>, status: &Status) -> fmt::Result {
    let core = &status.core;
    let open = status.gate.as_ref().is_none_or(|gate| gate.state == Gate::Open.name());
    families.flag("address_held", "Whether the virtual addresses are on this node's interface.", core.vip)?;
    families.flag(
        "serving",
        "Whether this node serves: it has the virtual addresses, and its gate, where there is one, is open.",
        core.vip && open,
    )?;
    if let Some(view) = &status.gate {
        gate(families, view)?;
    }
    lease(families, status)?;
    takeovers(families, status)?;
    let count = |of: fn(&Answers) -> u64, outcome: &'static str| {
        WitnessCall::NAMES.map(|question| {
            let answers = core.witness_answers.get(question).copied().unwrap_or_default();
            ([("question", question), ("outcome", outcome)], of(&answers))
        })
    };
    let answers = [
        count(|answers| answers.granted, "granted"),
        count(|answers| answers.refused, "refused"),
        count(|answers| answers.unreachable, "unreachable"),
    ];
    families.counter(
        "witness_answers",
        "Questions to the witness since the daemon began, by what was asked and what came of it.",
        answers.into_iter().flatten(),
    )
}

fn gate(families: &mut Families<'_>, gate: &GateView) -> fmt::Result {
    let states = [Gate::Open, Gate::NotServing, Gate::HigherTerm, Gate::Expired].map(Gate::name);
    families.states("gate_state", "The kernel's gate: 1 for the state that is.", "state", &states, |state| {
        state == gate.state
    })?;
    families.count(
        "gate_dark_seconds",
        "Seconds in which this node was to serve and its gate was shut, counted when each darkness ends.",
        Some(seconds(gate.dark_ns)),
    )?;
    families.count(
        "gate_darkenings",
        "How often the gate of a node that was to serve went dark and came back.",
        Some(gate.darkenings),
    )?;
    families.count(
        "gate_passed_packets",
        "Packets of the virtual addresses that passed the sockets' gate.",
        Some(gate.passed),
    )?;
    let dropped =
        |name: &'static str| gate.dropped.iter().find(|found| found.reason == name).map_or(0, |found| found.count);
    families.counter(
        "gate_dropped_packets",
        "Packets of the virtual addresses that the shut gate dropped, by where: ARP and ingress on the interface, in and \
         out at the sockets.",
        ["arp", "ingress", "in", "out"].map(|place| ([("place", place)], dropped(place))),
    )?;
    families.counter(
        "gate_shut_packets",
        "The same packets, by why the gate was shut.",
        [Gate::NotServing, Gate::HigherTerm, Gate::Expired].map(|why| ([("reason", why.name())], dropped(why.name()))),
    )?;
    families.gauge(
        "lease_left_seconds",
        "How long this node may still serve, in seconds: by the standby's answers, or by its own or the witness's word.",
        [("peer", gate.leased_ns), ("own", gate.solo_ns)].map(|(by, ns)| ([("by", by)], seconds(ns))),
    )
}

fn lease(families: &mut Families<'_>, status: &Status) -> fmt::Result {
    let Some(lease) = &status.core.lease else { return Ok(()) };
    families.states(
        "lease_right",
        "By what right a primary serves: 1 for the one that is.",
        "right",
        &RIGHTS,
        |right| right == lease.right,
    )?;
    let modes = ["hold", "serve", "witness"];
    let mode = match lease.isolated {
        Isolated::Hold => "hold",
        Isolated::Serve => "serve",
        Isolated::Witness => "witness",
    };
    families.states(
        "isolated_mode",
        "What a primary does whose standby does not confirm it, as configured: 1 for the one that is.",
        "mode",
        &modes,
        |configured| configured == mode,
    )?;
    families.flag("echoing", "Whether this node confirms the other one, which may serve by that.", lease.echo)?;
    families.flag("waits_for_tail", "Whether the gate waits until the standby has all WAL.", lease.waits_for_tail)?;
    families.flag(
        "peer_waived",
        "Whether the standby of this primary has given up its right to take over.",
        lease.peer_waived,
    )?;
    families.flag("hold", "Whether the other node is asked to bear with a silent daemon here.", lease.hold)?;
    families.flag(
        "witness_trouble",
        "Whether the last answer of the witness was a complaint.",
        lease.witness_trouble.is_some(),
    )
}

fn takeovers(families: &mut Families<'_>, status: &Status) -> fmt::Result {
    let core = &status.core;
    families.states(
        "takeover_refused",
        "Why this standby would not take over now: 1 for the reason, 0 for the others; all 0 when it would.",
        "reason",
        &NotPromotable::NAMES,
        |reason| core.refusal_name == Some(reason),
    )?;
    families.counter(
        "takeover_refusals",
        "Takeovers that were due and refused since the daemon began, by reason.",
        NotPromotable::NAMES.map(|reason| ([("reason", reason)], core.refusals.get(reason).copied().unwrap_or(0))),
    )?;
    families.counter(
        "takeovers",
        "Takeovers since the daemon began that ended with the virtual addresses here, by what became of the other node.",
        ENDS.map(|why| ([("why", word(why))], core.takeovers.get(why).copied().unwrap_or(0))),
    )?;
    families.count(
        "handovers",
        "Hand-overs since the daemon began after which the other node served.",
        Some(core.handovers),
    )?;
    let last = core.takeover.filter(|takeover| takeover.vip_ns != 0);
    families.single(
        "last_takeover_timestamp_seconds",
        "When the kernel gave the verdict that led to the last takeover, in seconds since 1970.",
        last.map(|takeover| status.unix_seconds(takeover.verdict_ns)),
    )?;
    families.single(
        "last_takeover_detection_seconds",
        "From the last packet of the other node to the kernel's verdict, in seconds, where it ended by silence.",
        last.filter(|takeover| takeover.last_heard_ns != 0)
            .map(|it| seconds(it.verdict_ns.saturating_sub(it.last_heard_ns))),
    )?;
    let steps = last.map(|it| {
        [("decided", it.begun_ns), ("promoted", it.promoted_ns), ("address", it.vip_ns), ("announced", it.garp_ns)]
            .map(|(step, at)| (step, at, it.verdict_ns))
    });
    families.gauge(
        "last_takeover_step_seconds",
        "From the kernel's verdict to each step of the last takeover, in seconds: decided, PostgreSQL promoted, address \
         here, first gratuitous ARP sent.",
        steps.into_iter().flatten().filter(|(_, at, _)| *at != 0).map(|(step, at, verdict)| {
            ([("step", step)], seconds(at.saturating_sub(verdict)))
        }),
    )?;
    let refused = core.handover.filter(|stamps| stamps.peer_serves_ns != 0);
    families.gauge(
        "last_handover_seconds",
        "How long nobody could write when this node last handed over, in seconds.",
        refused.map(|stamps| (ALONE, seconds(stamps.peer_serves_ns.saturating_sub(stamps.shut_ns)))),
    )
}
