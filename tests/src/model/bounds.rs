//! How far the space is explored, and which protocol is explored.

use super::kernel;

/// The limits of the space.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// D in ticks; L follows as `gate::LEASE_TENTHS` says, rounded down.
    pub detection: u8,
    /// Life of the witness's key, in ticks.
    pub ttl: u8,
    /// Packets under way per direction.
    pub slots: u8,
    /// Highest term.
    pub terms: u8,
    /// Daemons that crash or hang.
    pub crashes: u8,
    /// Hosts that lose power, or their maps.
    pub losses: u8,
    /// Resignations.
    pub resigns: u8,
    /// Waivers.
    pub waivers: u8,
    /// Questions for the witness's key.
    pub asks: u8,
    /// `failover --force`.
    pub forces: u8,
    /// The two halves of an echo, and withdrawing and reading the promise, are steps of their own.
    pub halves: bool,
}

/// What serves without the peer's echoes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// `isolated = "hold"`: nothing but the right.
    Hold,
    /// `isolated = "witness"`: the key.
    Witness,
    /// `isolated = "serve"`: everybody who likes. Two may, so I1 is not claimed.
    Serve,
}

/// A protocol with a mistake. The last group is what docs/protocol.md says, or leaves open, where the model does otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deviation {
    /// L > D.
    LeaseOutlivesPromise,
    /// The gate opens before the term is on disk.
    TermNotStored,
    /// A takeover does without the key.
    WitnessIgnored,
    /// A node that waived its right takes over by the key.
    KeyUndoesWaiver,
    /// An echo bears the echoing node's own time instead of the stamp that it heard.
    EchoOfOwnClock,
    /// The echo stays on during a takeover.
    EchoNotWithdrawn,
    /// `LEASED` is said before the solo right is given up.
    LeasedSaidEarly,
    /// `WAIVED` is said before it is stored.
    WaiverSaidEarly,
    /// Whoever heard a primary may succeed it.
    RightUnheard,
    /// The kernel looks at the permission before it writes the promise.
    PermissionFirst,
    /// `RESIGN` is said before the gate is shut.
    ResignSaidEarly,
    /// The promise is not waited for where the peer is alive.
    LivingPeerNotWaitedFor,

    /// A waived right comes back in the same term.
    WaiverReturnsInTerm,
    /// A waiver that is on its way to the disk does not stop a takeover.
    WaiverStoredMeanwhile,
    /// A resignation is acted on though something newer was heard before the echo was off.
    ResignNotReread,
    /// The gate is ordered open while reflections still say `RESIGN`.
    ResignLingers,
    /// An echo of a stamp from before the gate was ordered open counts.
    EchoFromBefore,
    /// A started node goes on in its former term, at once.
    StartInFormerTerm,
    /// A node whose maps are new does not wait for what it may have promised.
    PromiseForgotten,
    /// A takeover with the key is solo without end.
    KeyWithoutEnd,
    /// After a resignation no key is needed, and solo is without end.
    ResignWithoutKey,
    /// A release frees whatever the node holds by then.
    ReleaseOfAnyGrant,
}

impl Bounds {
    /// Nothing goes wrong but the network and the timing, which always may: any packet may be late, lost, doubled and,
    /// with two slots, overtaken; any party may stand still for any time.
    pub const CALM: Self = Self {
        detection: 2,
        ttl: 2,
        slots: 1,
        terms: 4,
        crashes: 0,
        losses: 0,
        resigns: 0,
        waivers: 0,
        asks: 0,
        forces: 0,
        halves: false,
    };

    /// Age from which on a stamp is only old.
    pub const fn old(&self, deviation: Option<Deviation>) -> u8 {
        kernel::useless(self.lease_detection(deviation))
    }

    /// What the lease is computed from.
    pub const fn lease_detection(&self, deviation: Option<Deviation>) -> u8 {
        match deviation {
            Some(Deviation::LeaseOutlivesPromise) => 2 * self.detection,
            _ => self.detection,
        }
    }
}

impl Deviation {
    /// Every one.
    pub const ALL: [Self; 22] = [
        Self::LeaseOutlivesPromise,
        Self::TermNotStored,
        Self::WitnessIgnored,
        Self::KeyUndoesWaiver,
        Self::EchoOfOwnClock,
        Self::EchoNotWithdrawn,
        Self::LeasedSaidEarly,
        Self::WaiverSaidEarly,
        Self::RightUnheard,
        Self::PermissionFirst,
        Self::ResignSaidEarly,
        Self::LivingPeerNotWaitedFor,
        Self::WaiverReturnsInTerm,
        Self::WaiverStoredMeanwhile,
        Self::ResignNotReread,
        Self::ResignLingers,
        Self::EchoFromBefore,
        Self::StartInFormerTerm,
        Self::PromiseForgotten,
        Self::KeyWithoutEnd,
        Self::ResignWithoutKey,
        Self::ReleaseOfAnyGrant,
    ];
}
