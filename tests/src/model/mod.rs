//! The lease, the terms and the witness as a state machine, and every state of it.
//!
//! docs/protocol.md as a program for an exhaustive search (stateright): two nodes, the packets between them, a witness.
//! The gate, the lease, the promise and the echo are not modelled: they are the functions of
//! `harbor_ha_ebpf::decide::gate` themselves, with a tick of 10 ns. [`check`] lists the runs and their bounds;
//! `suites/model.rs` runs the small ones, `cargo xtask model` all of them.
//!
//! # What is in it
//!
//! * A node's kernel ([`state::Kernel`]) outlives its daemon and is lost with power, or with its maps at any moment; a
//!   daemon ([`state::User`]) that crashes comes back with what the maps and the disk say; the disk outlives everything.
//! * Every word of the maps changes in a step of its own where the order matters: `order` before or after `own`, the
//!   promise before or after the permission is looked at, storing before or after saying.
//! * A refusal of the witness that names a later term ([`state::Ask::Outrun`]) is an answer like a grant: late, or lost.
//! * Time passes at any moment, also when something is overdue: any party may stand still for any time. Packets are
//!   late, lost, doubled and, with two slots, overtaken: what is in a slot may be delivered any number of times, until
//!   another packet takes its place.
//!
//! # What is left out, always on the hostile side
//!
//! * Verdicts: a standby may believe its primary dead or hung at any time. What must never be may not depend on it.
//! * H: a solo right does not end with its userspace.
//! * The checks of sequences and MACs: a packet may be replayed for its echo and its term.
//! * Drift of clocks: both nodes count the same ticks, and L is at least a tick less than D. **Assumed**: a clock of a
//!   host that is paused goes on. Where it stands still (a hypervisor that hides the pause), a lease outlives its
//!   promise, as with [`bounds::Deviation::LeaseOutlivesPromise`].
//! * Reboots keep the clock, as unloaded maps do. **Assumed**: a stamp of an earlier boot is not taken for one of this.
//!
//! # What it holds beyond the text
//!
//! The second group of [`bounds::Deviation`] is what docs/protocol.md says, or leaves open, and where a counterexample
//! follows. The model without a deviation does this instead:
//!
//! 1. A waived right does not come back in its term: the primary takes a new one of its own and serves leased in it.
//! 2. While a waiver is on its way to the disk no takeover begins.
//! 3. A takeover from a peer that resigned clears the echo first, and goes without waiting only if `RESIGN` is the
//!    newest word *then*.
//! 4. The gate is not ordered open while `own` says `RESIGN`.
//! 5. An echo counts only if its stamp is not older than the order to serve.
//! 6. A node that is to serve again, after a resignation or a start, takes a new term like any takeover.
//! 7. Whose maps are new waits D before it takes over: it may have promised.
//! 8. Every takeover waits for the promise but the one of 3.
//! 9. With a witness no right is without end but the one by a waiver, also after a resignation.
//! 10. A release of the key names the grant that it gives back.

pub mod action;
pub mod bounds;
pub mod check;
mod daemon;
mod kernel;
pub mod properties;
pub mod state;
pub mod step;
mod witness;

use stateright::{Model, Property};

use action::Action;
use state::State;
use step::Protocol;

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        self.starts()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.steps(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        if !self.take(&mut next, action) {
            return None;
        }
        self.tidy(&mut next);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(self)
    }
}
