//! What is still to do until the HaVip is as it should be. Pure: made anew from what is there after each step, so a
//! `provision` that was killed anywhere goes on where it was, and one that has nothing to do does nothing.

use std::fmt;
use std::net::Ipv4Addr;

use crate::cloud::{Eip, HaVip, Instance};

/// What is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub havip: Option<HaVip>,
    pub eip: Option<Eip>,
    /// Those of ours that there are.
    pub instances: Vec<Instance>,
    /// Ids of other EIPs that are bound to the HaVip.
    pub other_eips: Vec<String>,
}

/// What should be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// `None`: the one that has the address.
    pub havip: Option<String>,
    pub address: Ipv4Addr,
    pub vswitch: String,
    pub own: String,
    pub peer: String,
    pub eip: Option<String>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Something is in transition.
    Settle(String),
    /// Make the HaVip.
    Create { vswitch: String, address: Ipv4Addr },
    /// Bind an instance; `None`: to the HaVip that is made before.
    Bind { havip: Option<String>, instance: String },
    /// Bind the EIP.
    BindEip { havip: Option<String>, eip: String },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = |havip: &Option<String>| havip.clone().unwrap_or_else(|| "the new HaVip".to_owned());
        match self {
            Self::Settle(what) => write!(f, "wait: {what}"),
            Self::Create { vswitch, address } => write!(f, "make a HaVip with the address {address} in {vswitch}"),
            Self::Bind { havip, instance } => write!(f, "bind instance {instance} to {}", to(havip)),
            Self::BindEip { havip, eip } => write!(f, "bind EIP {eip} to {}", to(havip)),
        }
    }
}

/// What an operator has to clear away first, with the way to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Obstacle {
    #[error("there is no HaVip {0}; correct cloud.havip, or use \"auto\" to have one made")]
    NoHaVip(String),
    #[error("{havip} has the address {}, and node.vips has {wanted}; correct one of the two",
            found.map_or_else(|| "of nobody knows where".to_owned(), |it| it.to_string()))]
    Address { havip: String, found: Option<Ipv4Addr>, wanted: Ipv4Addr },
    #[error("{what} is in the vSwitch {}, and must be in {wanted}: a HaVip and its instances are in one vSwitch",
            found.as_deref().unwrap_or("of nobody knows what name"))]
    VSwitch { what: String, found: Option<String>, wanted: String },
    #[error("{havip} is bound to network interfaces ({members}), and cannot have instances beside them; unbind those")]
    Interfaces { havip: String, members: String },
    #[error("there is no instance {0} in this region; correct cloud.instance or cloud.peer_instance")]
    NoInstance(String),
    #[error("there is no EIP {0} in this region; correct cloud.eip")]
    NoEip(String),
    #[error("EIP {eip} is bound to {to}; unbind it there, or name another one")]
    EipElsewhere { eip: String, to: String },
    #[error("EIP {eip} is locked ({why}); settle that with Alibaba Cloud")]
    EipLocked { eip: String, why: String },
    #[error("{havip} has another EIP, {other}, and can have one; unbind that, or name it as cloud.eip")]
    OtherEip { havip: String, other: String },
}

/// What to do, in order; empty: nothing.
///
/// # Errors
/// Everything that is in the way.
pub(super) fn plan(state: &State, wanted: &Wanted) -> Result<Vec<Step>, Vec<Obstacle>> {
    let mut obstacles = Vec::new();
    let mut steps = Vec::new();
    match (&state.havip, &wanted.havip) {
        (Some(havip), _) => of_havip(havip, wanted, &mut steps, &mut obstacles),
        (None, Some(id)) => obstacles.push(Obstacle::NoHaVip(id.clone())),
        (None, None) => steps.push(Step::Create { vswitch: wanted.vswitch.clone(), address: wanted.address }),
    }
    for id in [&wanted.own, &wanted.peer] {
        of_instance(state, wanted, id, &mut steps, &mut obstacles);
    }
    if let Some(id) = &wanted.eip {
        of_eip(state, id, &mut steps, &mut obstacles);
    }
    if !obstacles.is_empty() {
        return Err(obstacles);
    }
    // Nothing may be begun while something is under way.
    steps.sort_by_key(|step| !matches!(step, Step::Settle(_)));
    Ok(steps)
}

/// Who is bound to the HaVip besides the two: somebody's own wish, perhaps, and so not undone by a plan.
pub(super) fn strangers(state: &State, wanted: &Wanted) -> Vec<String> {
    let havip = state.havip.as_ref().filter(|havip| !havip.of_interfaces);
    let members = havip.into_iter().flat_map(|havip| &havip.members);
    members.filter(|id| **id != wanted.own && **id != wanted.peer).cloned().collect()
}

fn of_havip(havip: &HaVip, wanted: &Wanted, steps: &mut Vec<Step>, obstacles: &mut Vec<Obstacle>) {
    if !havip.is_at_rest() {
        steps.push(Step::Settle(format!("HaVip {} is {}", havip.id, havip.status)));
        // What it is to be is not told yet by one that is only being made.
        if havip.status.is("Creating") {
            return;
        }
    }
    if havip.address != Some(wanted.address) {
        let (havip, found) = (havip.id.clone(), havip.address);
        obstacles.push(Obstacle::Address { havip, found, wanted: wanted.address });
    }
    if havip.vswitch.as_ref() != Some(&wanted.vswitch) {
        let (what, found) = (format!("HaVip {}", havip.id), havip.vswitch.clone());
        obstacles.push(Obstacle::VSwitch { what, found, wanted: wanted.vswitch.clone() });
    }
    if havip.of_interfaces && !havip.members.is_empty() {
        obstacles.push(Obstacle::Interfaces { havip: havip.id.clone(), members: havip.members.join(", ") });
    }
}

fn of_instance(state: &State, wanted: &Wanted, id: &str, steps: &mut Vec<Step>, obstacles: &mut Vec<Obstacle>) {
    let Some(instance) = state.instances.iter().find(|instance| instance.id == id) else {
        return obstacles.push(Obstacle::NoInstance(id.to_owned()));
    };
    if instance.vswitch.as_ref() != Some(&wanted.vswitch) {
        let (what, found) = (format!("instance {id}"), instance.vswitch.clone());
        obstacles.push(Obstacle::VSwitch { what, found, wanted: wanted.vswitch.clone() });
    }
    if state.havip.as_ref().is_some_and(|havip| havip.members.iter().any(|member| member == id)) {
        return;
    }
    if !instance.is_at_rest() {
        steps.push(Step::Settle(format!("instance {id} is {}", instance.status)));
    }
    steps.push(Step::Bind { havip: state.havip.as_ref().map(|havip| havip.id.clone()), instance: id.to_owned() });
}

fn of_eip(state: &State, id: &str, steps: &mut Vec<Step>, obstacles: &mut Vec<Obstacle>) {
    let Some(eip) = &state.eip else {
        return obstacles.push(Obstacle::NoEip(id.to_owned()));
    };
    let havip = state.havip.as_ref().map(|havip| havip.id.clone());
    if !eip.is_at_rest() {
        steps.push(Step::Settle(format!("EIP {id} is {}", eip.status)));
    }
    match (&eip.bound_to, &havip) {
        (Some(to), Some(havip)) if to == havip => return,
        (Some(to), _) => obstacles.push(Obstacle::EipElsewhere { eip: id.to_owned(), to: to.clone() }),
        (None, Some(havip)) => obstacles.extend(
            state.other_eips.iter().map(|other| Obstacle::OtherEip { havip: havip.clone(), other: other.clone() }),
        ),
        (None, None) => {}
    }
    if !eip.locks.is_empty() {
        obstacles.push(Obstacle::EipLocked { eip: id.to_owned(), why: eip.locks.join(", ") });
    }
    steps.push(Step::BindEip { havip, eip: id.to_owned() });
}

#[cfg(test)]
mod tests;
