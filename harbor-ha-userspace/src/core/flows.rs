//! Connections that were open when the service moved: who tells their clients, and when.
//!
//! A client that waits for a reply never learns that the server is gone. The new primary asks each known connection
//! where it stands ([`Action::Tickle`]), and its kernel, which knows none of them, resets what answers. A node that leaves
//! the service resets its own ([`Action::Reset`]), but leaves to a living standby what that one knows of: whoever is reset
//! before somebody serves comes back to a shut gate, which drops its first segment, and TCP sends the next one a second
//! later.

use harbor_ha_ebpf::records::{Flow, FlowKey};
use harbor_ha_ebpf::units::Nanos;

use super::{Action, Actions, After, Core, VrrpState};

/// Which connections a node resets that leaves the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Every one: there is nobody who could do it later.
    All,
    /// Those of which the peer has not confirmed to know; it resets the others when it serves.
    Unshared,
}

/// The kernel's memory of connections, so that the rooms of the network and of the kernel need not know each other.
pub trait SeesFlows: Send {
    /// The connections of the virtual addresses, as this node's interface has seen them; what is too old is forgotten.
    fn flows(&mut self, now: Nanos) -> Vec<(FlowKey, Flow)>;
}

impl Core {
    /// The gate is shut: the connections behind it are over.
    pub(super) fn reset_flows(&self, after: After, out: &mut Actions) {
        if self.state != VrrpState::Master || !self.rules.postgres {
            return;
        }
        let peer_follows = after.resign && self.peer_lives();
        out.push(Action::Reset(if peer_follows { Reset::Unshared } else { Reset::All }));
    }
}
