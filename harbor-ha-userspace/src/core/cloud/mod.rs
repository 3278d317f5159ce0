//! What this node does about Alibaba Cloud: whether the HaVip followed, and what to take from a dead peer.
//!
//! Pure, and beside the state machine of takeover and demotion, which knows nothing of it: a takeover waits for no cloud.
//! Whoever runs it tells what happened and carries out what comes back, one thing at a time.

pub mod desk;
pub mod fence;
pub mod follow;

use harbor_ha_ebpf::units::Nanos;

use super::peer::PeerRole;
use super::{Core, Local, VrrpState};
use fence::{Cause, Refusal};

/// What the state machine tells of itself here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The addresses are on this node's interface, and announced.
    pub serves: bool,
    /// When they were last put up.
    pub served_at: Nanos,
    /// It has the right to serve: its gate is open, or may be.
    pub rightful: bool,
    /// The last takeover: when it began, and how the peer had ended.
    pub takeover: Option<(Nanos, Cause)>,
    /// The peer is heard, and its userspace gives signs of life.
    pub peer_heard: bool,
    /// The peer serves.
    pub peer_serves: bool,
    /// The peer is a standby of this node: with PostgreSQL, it streams.
    pub peer_follows: bool,
    /// An operator has paused automatic action.
    pub paused: bool,
}

impl Told {
    /// Why fencing after the takeover that began at `begun` is not gone on with; `None`: it is. A call may take a minute,
    /// and the world is another one then: the peer may be back, or even serve.
    pub fn objects(&self, begun: Nanos) -> Option<Refusal> {
        let takeover = self.takeover.map(|(at, _)| at);
        match () {
            () if self.paused => Some(Refusal::Paused),
            () if !self.rightful || takeover != Some(begun) => Some(Refusal::NotServing),
            () if self.peer_heard => Some(Refusal::Heard),
            () => None,
        }
    }
}

impl Core {
    /// For whoever looks after the cloud. Cheap: it is asked after every input.
    pub fn tells_cloud(&self) -> Told {
        let role = self.peer.role();
        let heard = matches!(role, PeerRole::Primary | PeerRole::Standby | PeerRole::Resigned) && !self.peer.pulse.hung;
        let streams = matches!(&self.local, Local::Up(facts) if !facts.in_recovery && facts.streaming);
        Told {
            serves: self.serving,
            served_at: self.served_at,
            rightful: self.serving
                && self.state == VrrpState::Master
                && (self.rules.lease.is_none() || self.may_open()),
            takeover: self.takeover.map(|takeover| (Nanos(takeover.begun_ns), Cause::of(takeover.why))),
            peer_heard: heard,
            peer_serves: heard && role == PeerRole::Primary,
            peer_follows: heard && role == PeerRole::Standby && (streams || !self.rules.postgres),
            paused: self.paused,
        }
    }
}
