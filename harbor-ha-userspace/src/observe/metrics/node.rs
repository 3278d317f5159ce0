//! Who this node is, what it does, and what an operator has ordered.

use std::fmt;

use super::super::status::Status;
use super::families::{ALONE, Families};
use super::seconds;
use crate::core::VrrpState;
use crate::core::snapshot::ROLES;

pub(super) fn write(families: &mut Families<'_>, status: &Status) -> fmt::Result {
    let core = &status.core;
    families.info(
        "build",
        "Which harbor-ha runs, and how its program is attached to the interface.",
        &[("version", status.version), ("name", &status.instance), ("xdp", status.xdp_mode)],
    )?;
    families.states("role", "What this node does: 1 for its role, 0 for the others.", "role", &ROLES, |role| {
        role == core.role
    })?;
    let vrrp = [VrrpState::Init, VrrpState::Backup, VrrpState::Master, VrrpState::Fault].map(|state| {
        let name = state.to_string();
        ([("state", name)], u32::from(state == core.vrrp))
    });
    families.gauge("vrrp_state", "The VRRP state of this node: 1 for the one that is.", vrrp)?;
    families.single(
        "state_change_timestamp_seconds",
        "When the VRRP state last changed, in seconds since 1970.",
        Some(status.unix_seconds(core.since_ns)),
    )?;
    families.flag("paused", "Whether an operator has paused automatic action.", core.paused)?;
    families.flag("failover_forced", "Whether a failover that an operator forces is under way.", core.forced)?;
    let terms = core.terms;
    families.single(
        "term_highest",
        "The highest term that this node has heard of, its own included.",
        terms.map(|terms| terms.seen),
    )?;
    families.single(
        "term_own",
        "The last term in which this node was the primary; 0 when it never was.",
        terms.map(|terms| terms.claim()),
    )?;
    families.single(
        "term_waived",
        "The term whose primary this standby has promised not to succeed; 0 for none.",
        terms.map(|terms| terms.waived),
    )?;
    families.flag("peer_alive", "Whether the other node was heard within its deadline.", core.peer.alive)?;
    let roles = ["primary", "standby", "resigned", "dead", "unknown"];
    families.states(
        "peer_role",
        "What the other node does: 1 for its role, 0 for the others.",
        "role",
        &roles,
        |role| role == core.peer.role.name(),
    )?;
    let pulses = status.pulses;
    families.count("pulses_sent", "Pulses that this node has sent.", pulses.map(|pulses| pulses.sent))?;
    families.count(
        "pulses_failed",
        "Pulses that the network refused to take from this node.",
        pulses.map(|pulses| pulses.failed),
    )?;
    families.gauge(
        "pulse_lateness_max_seconds",
        "The latest that the pulse thread of this node ever was, in seconds.",
        pulses.map(|pulses| (ALONE, seconds(pulses.late_max_ns))),
    )
}
