//! What a daemon decides: takeovers, rights, waivers, resignations.

use super::action::Step;
use super::bounds::{Deviation, Policy};
use super::state::{FOREVER, Node, OVER, Phase, Release, Solo, State};
use super::step::Protocol;

impl Protocol {
    /// The lowest term of this node's above all that it knows.
    pub fn next_term(node: &Node, me: usize) -> u8 {
        Self::above(node.known(), me)
    }

    fn above(term: u8, me: usize) -> u8 {
        let next = term + 1;
        next + u8::from(usize::from(next % 2) != me)
    }

    /// A step of a daemon that runs.
    pub(super) fn decide(&self, state: &mut State, me: usize, step: Step) -> bool {
        match step {
            Step::Withdraw | Step::ReadPromise | Step::Cancel | Step::Promote | Step::Force => {
                self.take_over(state, me, step)
            }
            Step::Open | Step::Start => self.open(state, me, step),
            Step::GoSolo | Step::GoLeased | Step::CallBack | Step::ServeIsolated => self.rights(state, me, step),
            Step::Resign | Step::Demote | Step::Rejoin => self.give_up(state, me, step),
            Step::Early => self.early(&mut state.nodes[me]),
            step => self.waive(state, me, step),
        }
    }

    fn take_over(&self, state: &mut State, me: usize, step: Step) -> bool {
        let node = &mut state.nodes[me];
        let may_begin = node.user.storing == 0 || self.has(Deviation::WaiverStoredMeanwhile);
        match (step, node.user.phase) {
            (Step::Withdraw, Phase::Idle) if node.kernel.serving == 0 && may_begin => {
                if Self::next_term(node, me) > self.bounds.terms || !self.has_reason(node) {
                    return false;
                }
                node.kernel.echo = self.has(Deviation::EchoNotWithdrawn);
                node.user.phase = Phase::Withdrawn;
                if !self.bounds.halves {
                    node.user.phase = Phase::Waiting(node.kernel.promise.max(0));
                }
                true
            }
            (Step::ReadPromise, Phase::Withdrawn) => {
                node.user.phase = Phase::Waiting(node.kernel.promise.max(0));
                true
            }
            (Step::Cancel, Phase::Withdrawn | Phase::Waiting(_)) => {
                node.user.phase = Phase::Idle;
                node.kernel.echo = true;
                if node.kernel.solo_until != OVER {
                    node.kernel.solo_until = OVER;
                    node.release = Release::Last;
                }
                true
            }
            (Step::Promote, phase) => self.succession(node, phase).is_some_and(|solo| self.promote(node, me, solo)),
            (Step::Force, Phase::Waiting(0)) if state.budget.forces > 0 => {
                state.budget.forces -= 1;
                state.budget.forced = true;
                self.promote(node, me, Solo::TookOver)
            }
            _ => false,
        }
    }

    /// A takeover could come of it. Whether the peer *is* dead, hung or cut off does not matter to what must never be.
    fn has_reason(&self, node: &Node) -> bool {
        self.policy != Policy::Hold || self.bounds.forces > 0 || self.succession(node, Phase::Waiting(0)).is_some()
    }

    /// The right that a takeover brings now; `None`: it has to wait.
    fn succession(&self, node: &Node, phase: Phase) -> Option<Solo> {
        let heard = &node.kernel.heard;
        let resigned = heard.resign && heard.term == node.known() && !node.disk.primary;
        let alone = match self.policy {
            Policy::Witness if !self.has(Deviation::ResignWithoutKey) => Solo::No,
            _ => Solo::TookOver,
        };
        match phase {
            Phase::Withdrawn | Phase::Waiting(_) if resigned => Some(alone),
            Phase::ToldToSucceed => Some(alone),
            Phase::Waiting(0) => match self.right(node) {
                // A living peer that does not serve, or one that was never heard: by its echoes, if at all.
                Solo::No if heard.primary && self.policy == Policy::Hold => None,
                // A key does not undo a waiver: only an operator's word is above it.
                Solo::No if heard.primary && (node.kernel.solo_until < 0 || self.is_bound_by_a_waiver(node)) => None,
                solo => Some(solo),
            },
            Phase::Waiting(_) | Phase::Withdrawn if self.has(Deviation::LivingPeerNotWaitedFor) && !heard.primary => {
                Some(Solo::No)
            }
            _ => None,
        }
    }

    fn right(&self, node: &Node) -> Solo {
        let unheard = self.has(Deviation::RightUnheard) && node.kernel.heard.primary && !node.disk.primary;
        let right = node.has_right() || unheard;
        let key = node.kernel.solo_until >= 0 && !node.has_waived();
        let alone = match self.policy {
            Policy::Hold | Policy::Serve => right,
            Policy::Witness if self.has(Deviation::WitnessIgnored) => right,
            Policy::Witness => key && self.has(Deviation::KeyWithoutEnd),
        };
        if alone { Solo::TookOver } else { Solo::No }
    }

    /// With a waiver for the term that it knows only an operator makes a node take over.
    pub(super) fn is_bound_by_a_waiver(&self, node: &Node) -> bool {
        node.has_waived() && !self.has(Deviation::KeyUndoesWaiver)
    }

    fn promote(&self, node: &mut Node, me: usize, solo: Solo) -> bool {
        let term = Self::next_term(node, me);
        if term > self.bounds.terms {
            return false;
        }
        if self.is_bound_by_a_waiver(node) {
            // It may not use a key either.
            node.kernel.solo_until = OVER;
        }
        if !self.has(Deviation::TermNotStored) {
            node.disk.mine = term;
        }
        node.disk.seen = node.disk.seen.max(node.kernel.highest);
        node.disk.primary = true;
        node.user.resigned = false;
        node.user.outrun = 0;
        node.user.phase = Phase::Promoted(solo);
        node.kernel.echo = self.has(Deviation::EchoNotWithdrawn);
        true
    }

    fn open(&self, state: &mut State, me: usize, step: Step) -> bool {
        let node = &mut state.nodes[me];
        match (step, node.user.phase) {
            (Step::Open, Phase::Promoted(solo)) => {
                if node.kernel.own.resign && !self.has(Deviation::ResignLingers) {
                    // Its reflections would still say that it has resigned.
                    return false;
                }
                let stored = !self.has(Deviation::TermNotStored);
                node.kernel.serving = if stored { node.disk.mine } else { Self::next_term(node, me) };
                node.kernel.solo = solo;
                if solo != Solo::No {
                    node.kernel.solo_until = FOREVER;
                }
                node.user.phase = Phase::Idle;
                if !self.has(Deviation::EchoFromBefore) && !self.has(Deviation::LivingPeerNotWaitedFor) {
                    self.void_stamps(state, me);
                }
                true
            }
            (Step::Start, Phase::Idle)
                if self.has(Deviation::StartInFormerTerm) && node.disk.primary && node.kernel.serving == 0 =>
            {
                if node.user.resigned {
                    node.user.resigned = false;
                    return true;
                }
                if node.kernel.own.resign {
                    return false;
                }
                node.kernel.serving = node.disk.mine;
                node.kernel.echo = false;
                self.void_stamps(state, me);
                true
            }
            _ => false,
        }
    }

    fn rights(&self, state: &mut State, me: usize, step: Step) -> bool {
        let node = &mut state.nodes[me];
        let kernel = &mut node.kernel;
        if kernel.serving == 0 {
            return false;
        }
        let waived = kernel.heard.waived == kernel.serving;
        let echoes_flow = kernel.leased >= 0;
        match step {
            Step::GoSolo if waived && kernel.solo == Solo::No => {
                kernel.solo = Solo::Waived;
                kernel.solo_until = FOREVER;
            }
            Step::GoLeased if !waived && echoes_flow && kernel.solo != Solo::No => {
                kernel.solo = Solo::No;
                kernel.solo_until = OVER;
                node.user.early = false;
            }
            Step::CallBack if waived && echoes_flow && !self.has(Deviation::WaiverReturnsInTerm) => {
                // What the witness granted the other node counts, though nobody ever served in it.
                let term = Self::above(kernel.serving.max(node.user.outrun), me);
                if term > self.bounds.terms {
                    return false;
                }
                node.disk.mine = term;
                kernel.serving = term;
                kernel.solo = Solo::No;
                kernel.solo_until = OVER;
            }
            Step::ServeIsolated if kernel.solo_until == OVER => kernel.solo_until = FOREVER,
            _ => return false,
        }
        true
    }

    fn give_up(&self, state: &mut State, me: usize, step: Step) -> bool {
        let node = &mut state.nodes[me];
        let serves = node.kernel.serving != 0;
        match step {
            Step::Resign if serves && state.budget.resigns > 0 => {
                state.budget.resigns -= 1;
                node.kernel.shut();
                node.kernel.echo = true;
                node.user.resigned = true;
                node.user.early = false;
            }
            Step::Demote if serves && node.kernel.highest > node.kernel.serving => {
                node.kernel.shut();
                node.kernel.echo = true;
                node.user.early = false;
            }
            Step::Rejoin if !serves && node.disk.primary && node.user.phase == Phase::Idle => {
                let heard = &node.kernel.heard;
                if !heard.primary || heard.term <= node.disk.mine {
                    return false;
                }
                node.disk.primary = false;
                node.disk.seen = node.known();
                node.user.resigned = false;
            }
            _ => return false,
        }
        true
    }

    fn waive(&self, state: &mut State, me: usize, step: Step) -> bool {
        let node = &mut state.nodes[me];
        let heard = node.kernel.heard;
        let follows = heard.primary && heard.term == node.known() && !node.disk.primary;
        let waived = node.disk.waived;
        match step {
            Step::Waive if follows && state.budget.waivers > 0 && node.user.phase == Phase::Idle => {
                if node.user.storing != 0 || waived >= heard.term {
                    return false;
                }
                state.budget.waivers -= 1;
                node.user.storing = heard.term;
            }
            Step::Stored if node.user.storing != 0 => {
                node.disk.waived = node.user.storing;
                node.disk.seen = node.disk.seen.max(node.user.storing);
                node.user.storing = 0;
                node.user.early = false;
            }
            Step::StopWaiving if follows && waived == heard.term && !heard.leased && !node.user.returning => {
                if !self.has(Deviation::WaiverReturnsInTerm) {
                    return false;
                }
                node.user.returning = true;
            }
            Step::TakeRightBack if follows && waived == heard.term && heard.leased && node.user.returning => {
                node.disk.waived = 0;
                node.user.returning = false;
            }
            _ => return false,
        }
        true
    }

    fn early(&self, node: &mut Node) -> bool {
        let kernel = &node.kernel;
        let serves = kernel.serving != 0;
        let heard = &kernel.heard;
        if self.has(Deviation::ResignNotReread) {
            let told = heard.resign && heard.term == node.known() && !node.disk.primary;
            if !told || node.user.phase != Phase::Idle || serves {
                return false;
            }
            node.user.phase = Phase::ToldToSucceed;
            return true;
        }
        let may = match self.deviation {
            Some(Deviation::ResignSaidEarly) => serves,
            Some(Deviation::LeasedSaidEarly) => serves && kernel.solo != Solo::No,
            Some(Deviation::WaiverSaidEarly) => node.user.storing != 0,
            _ => false,
        };
        let begins = may && !node.user.early;
        node.user.early |= may;
        begins
    }
}
