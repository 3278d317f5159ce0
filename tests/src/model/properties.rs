//! What must always hold, and what must happen somewhere, so that the former is no empty word.

use stateright::Property;

use super::bounds::Policy;
use super::state::{Node, Phase, Solo, State};
use super::step::Protocol;

type Condition = fn(&Protocol, &State) -> bool;

/// I1.
pub const ONE_GATE: &str = "I1: no two gates are open";
/// I3, first half; the other is the parity of terms.
pub const TERM_STORED: &str = "I3: a node serves only in a term that is on its disk";
/// Who may serve, or come to serve, without the other.
pub const ONE_RIGHT: &str = "one node at most may do without the other";
/// What the release of commits rests on.
pub const WAIVER_STORED: &str = "a primary relies only on a waiver that is on disk";

/// Of this policy.
pub fn all(protocol: &Protocol) -> Vec<Property<Protocol>> {
    let mut properties = Vec::new();
    let mut always = |name, condition: Condition| properties.push(Property::always(name, condition));
    always(TERM_STORED, |_, state| {
        state.nodes.iter().enumerate().all(|(me, node)| {
            let serving = node.kernel.serving;
            serving == 0 || (serving == node.disk.mine && usize::from(serving % 2) == me)
        })
    });
    always(WAIVER_STORED, |_, state| {
        pairs(state).all(|(node, peer)| {
            node.kernel.solo != Solo::Waived || peer.disk.waived == node.kernel.serving || !follows(peer, node)
        })
    });
    if protocol.policy != Policy::Serve {
        always(ONE_GATE, |_, state| state.budget.forced || !state.nodes.iter().all(|node| node.kernel.is_open()));
    }
    if protocol.policy == Policy::Hold {
        always(ONE_RIGHT, |_, state| state.budget.forced || !state.nodes.iter().all(may_be_alone));
    }
    if protocol.deviation.is_none() {
        sometimes(protocol, &mut properties);
    }
    properties
}

fn sometimes(protocol: &Protocol, properties: &mut Vec<Property<Protocol>>) {
    let mut sometimes = |name, condition: Condition| properties.push(Property::sometimes(name, condition));
    sometimes("the standby succeeds a dead host", |_, state| {
        succession(state, |old| !old.kernel.up) && state.nodes[0].disk.mine == 2
    });
    sometimes("the standby succeeds a daemon that hangs", |_, state| {
        succession(state, |old| old.kernel.up && !old.user.up && old.kernel.serving != 0)
    });
    sometimes("the standby succeeds a living primary that it cannot hear", |_, state| {
        succession(state, |old| old.user.up && old.kernel.serving != 0)
    });
    sometimes("the standby succeeds one that resigned", |_, state| succession(state, |old| old.user.resigned));
    sometimes("a takeover returns to serving by echoes", |_, state| {
        pairs(state).any(|(node, peer)| {
            node.kernel.serving > 2 && node.kernel.solo == Solo::No && node.kernel.leased >= 0 && peer.has_right()
        })
    });
    sometimes("a primary goes on alone after a waiver", |_, state| {
        state.nodes.iter().any(|node| node.kernel.solo == Solo::Waived && node.kernel.is_open())
    });
    sometimes("a waived right comes back", |_, state| {
        state.nodes.iter().any(|node| node.disk.waived != 0 && node.has_right())
    });
    sometimes("node 0 takes over after node 1", |_, state| state.nodes[0].kernel.serving > 3);
    if protocol.policy == Policy::Witness {
        sometimes("the witness carries the primary", |_, state| by_key(state, 0));
        sometimes("the witness carries the standby", |_, state| by_key(state, 1));
    }
    if protocol.policy == Policy::Witness && protocol.bounds.waivers > 0 {
        sometimes("a primary that the witness has outrun goes on in a later term", |_, state| {
            state.nodes.iter().any(|node| called_back(node) && node.kernel.is_open())
        });
    }
    if protocol.policy == Policy::Serve {
        sometimes("two serve in a partition", |_, state| state.nodes.iter().all(|node| node.kernel.is_open()));
    }
    if protocol.bounds.forces > 0 {
        sometimes("an operator makes two", |_, state| {
            state.budget.forced && state.nodes.iter().all(|node| node.kernel.is_open())
        });
    }
}

fn pairs(state: &State) -> impl Iterator<Item = (&Node, &Node)> {
    let [one, other] = &state.nodes;
    [(one, other), (other, one)].into_iter()
}

/// It holds the right to serve alone, or to take it.
fn may_be_alone(node: &Node) -> bool {
    let serves = node.kernel.serving != 0 && node.kernel.solo != Solo::No;
    let will = matches!(node.user.phase, Phase::Promoted(solo) if solo != Solo::No);
    serves || will || (node.kernel.up && node.has_right())
}

/// It was outrun, and has taken a term above the one that the witness named: a takeover forgets what was named.
fn called_back(node: &Node) -> bool {
    node.user.outrun != 0 && node.kernel.serving > node.user.outrun
}

/// It is, by its own data, a standby of that primary.
fn follows(peer: &Node, node: &Node) -> bool {
    !peer.disk.primary && peer.known() <= node.kernel.serving
}

/// Node 1 has an open gate, and the former primary is like this.
fn succession(state: &State, old: fn(&Node) -> bool) -> bool {
    state.nodes[1].kernel.is_open() && state.nodes[0].disk.primary && old(&state.nodes[0])
}

fn by_key(state: &State, me: usize) -> bool {
    let kernel = &state.nodes[me].kernel;
    kernel.serving != 0 && kernel.solo == Solo::No && kernel.solo_until >= 0 && kernel.leased < 0
}
