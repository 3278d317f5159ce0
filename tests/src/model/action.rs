//! What may happen next.

use super::bounds::Policy;
use super::state::{Ask, Phase, Release, State};
use super::step::Protocol;

/// One step of one party. `Option<u8>` is the place in the network that a packet takes; `None`: it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Time passes for everybody; nobody has to have done anything before.
    Tick,
    /// A step of a node.
    At(u8, Step),
}

/// A step of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A packet arrives: term, echo, state, and the first half of an echo of its own.
    Deliver(u8),
    /// A packet arrives and is turned round at once.
    Turn(u8),
    /// The second half; a reflection leaves. Only with [`Bounds::halves`](super::bounds::Bounds::halves).
    Reflect(Option<u8>),
    /// The pulse thread sends, and writes `own`.
    Pulse(Option<u8>),
    /// Of the mutants: it begins to say what is not true yet.
    Early,

    /// A takeover begins: the echo is off.
    Withdraw,
    /// The promise is read.
    ReadPromise,
    /// The peer is back.
    Cancel,
    /// The term is stored, PostgreSQL promoted.
    Promote,
    /// The gate is ordered open.
    Open,
    /// An operator's takeover.
    Force,
    /// Of the text: a started primary goes on in its old term.
    Start,

    /// The peer's waiver was heard: no echo is needed any more.
    GoSolo,
    /// The peer shall have the right: from now on its echoes are.
    GoLeased,
    /// A peer that waived shall have the right again: a new term.
    CallBack,
    /// The gate is shut, and said to be.
    Resign,
    /// A later primary was heard.
    Demote,
    /// A former primary follows the later one.
    Rejoin,

    /// A waiver is handed to the disk.
    Waive,
    /// It is there.
    Stored,
    /// Of the same-term return: the primary was heard without `LEASED`, so `WAIVED` is not said any more.
    StopWaiving,
    /// Of the same-term return: the primary was heard with `LEASED` again.
    TakeRightBack,

    /// The daemon crashes or hangs.
    Crash,
    /// It is back.
    Restart,
    /// Power is lost, or the maps are.
    Lose,
    /// The host starts.
    Boot,

    /// The witness is asked for the key.
    Ask,
    /// The witness answers.
    Grant,
    /// The answer arrives.
    Granted,
    /// Echoes flow again: the key goes back.
    TakeBack,
    /// The release reaches the witness.
    Released,
    /// With `isolated = "serve"`.
    ServeIsolated,
}

impl Protocol {
    /// The steps that are worth a try: a coarse sieve, [`Protocol::take`] is what decides.
    pub fn steps(&self, state: &State, out: &mut Vec<Action>) {
        out.push(Action::Tick);
        for me in 0..2 {
            self.steps_of(state, me, &mut |step| out.push(Action::At(me, step)));
        }
    }

    fn steps_of(&self, state: &State, me: u8, push: &mut impl FnMut(Step)) {
        let node = &state.nodes[usize::from(me)];
        match node.ask {
            Ask::Sent { .. } => push(Step::Grant),
            Ask::No | Ask::Granted { .. } | Ask::Outrun { .. } => {}
        }
        if node.release != Release::No {
            push(Step::Released);
        }
        if !node.kernel.up {
            push(Step::Boot);
            return;
        }
        let slots = 0..self.bounds.slots;
        if node.kernel.halfway.is_some() {
            push(Step::Reflect(None));
            slots.clone().for_each(|slot| push(Step::Reflect(Some(slot))));
        } else {
            slots.clone().for_each(|slot| push(Step::Deliver(slot)));
            if !self.bounds.halves {
                slots.clone().for_each(|slot| push(Step::Turn(slot)));
            }
        }
        if state.budget.losses > 0 {
            push(Step::Lose);
        }
        if !node.user.up {
            push(Step::Restart);
            return;
        }
        slots.for_each(|slot| push(Step::Pulse(Some(slot))));
        if state.budget.crashes > 0 {
            push(Step::Crash);
        }
        if node.user.storing != 0 {
            push(Step::Stored);
        }
        if self.policy == Policy::Witness {
            [Step::Ask, Step::Granted, Step::TakeBack].into_iter().for_each(&mut *push);
        }
        if self.deviation.is_some() {
            [Step::Early, Step::Start, Step::StopWaiving, Step::TakeRightBack].into_iter().for_each(&mut *push);
        }
        let serves = node.kernel.serving != 0;
        match node.user.phase {
            Phase::Idle if serves => {
                [Step::GoSolo, Step::GoLeased, Step::CallBack, Step::Resign, Step::Demote]
                    .into_iter()
                    .for_each(&mut *push);
                if self.policy == Policy::Serve {
                    push(Step::ServeIsolated);
                }
            }
            Phase::Idle => [Step::Withdraw, Step::Rejoin, Step::Waive].into_iter().for_each(push),
            Phase::Withdrawn => [Step::ReadPromise, Step::Cancel, Step::Promote].into_iter().for_each(push),
            Phase::Waiting(_) => [Step::Cancel, Step::Promote, Step::Force].into_iter().for_each(push),
            Phase::ToldToSucceed => push(Step::Promote),
            Phase::Promoted(_) => push(Step::Open),
        }
    }
}
