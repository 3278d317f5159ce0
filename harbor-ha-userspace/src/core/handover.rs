//! A primary that goes in good order: its stamps, and the daemon that is restarted while its peer waits.

use harbor_ha_ebpf::records::State;
use harbor_ha_ebpf::units::Nanos;
use harbor_ha_ebpf::wire::pulse::flag;
use serde::Serialize;

use super::{Action, Actions, Core};

/// Stamps of the last time that this node handed over, `CLOCK_MONOTONIC` nanoseconds of this node; 0: not reached.
///
/// From `shut_ns` to `peer_serves_ns` nobody could write: the one ends what this node answers, the other is the peer's
/// first word as the primary, said when its gate opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Handover {
    /// The checkpoint began; this node goes on serving.
    pub begun_ns: u64,
    /// The gate was shut, and the stop of PostgreSQL began.
    pub shut_ns: u64,
    /// Every process of PostgreSQL was gone, and the peer was told.
    pub stopped_ns: u64,
    /// The peer said that it serves.
    pub peer_serves_ns: u64,
}

/// A step of [`Handover`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Shut,
    Stopped,
    PeerServes,
}

impl Core {
    pub(super) fn handover_begins(&mut self, now: Nanos) {
        self.handover = Some(Handover { begun_ns: now.0, ..Handover::default() });
    }

    /// Stamps a step, once and in order: a stop for another reason, or a peer that takes over much later, is no part
    /// of a hand-over that is over.
    pub(super) fn handover_reached(&mut self, step: Step, at: Nanos) {
        let Some(stamps) = &mut self.handover else { return };
        let (before, stamp) = match step {
            Step::Shut => (stamps.begun_ns, &mut stamps.shut_ns),
            Step::Stopped => (stamps.shut_ns, &mut stamps.stopped_ns),
            Step::PeerServes => (stamps.stopped_ns, &mut stamps.peer_serves_ns),
        };
        if before != 0 && *stamp == 0 {
            *stamp = at.0;
            if matches!(step, Step::PeerServes) {
                self.tally.handovers += 1;
            }
        }
    }

    /// This node serves: a hand-over that the peer did not end is none.
    pub(super) fn handover_failed(&mut self) {
        self.handover = self.handover.filter(|stamps| stamps.peer_serves_ns != 0);
    }

    /// The peer has agreed to bear with our silence, and still does.
    pub(super) fn is_borne_with(&self) -> bool {
        let pulse = &self.peer.pulse;
        self.now < self.hold_until && pulse.state == State::Alive && pulse.flags & flag::HOLDS != 0
    }

    /// Ends the daemon and nothing else: the gate, the addresses and PostgreSQL stay as they are, and the next run goes
    /// on. The kernel keeps the lease meanwhile; a peer that has waited in vain takes over as from a hung one.
    pub(super) fn go_silently(&mut self, out: &mut Actions) {
        self.silent = true;
        self.ended = true;
        self.why = "the daemon is restarted, and the peer bears with it".to_owned();
        out.push(Action::Exit);
    }
}
