//! The solo key: asked for, granted, given back; each message takes its time, or is lost.

use super::action::Step;
use super::bounds::Deviation;
use super::kernel;
use super::state::{Ask, FOREVER, OVER, Phase, Release, Solo, State};
use super::step::Protocol;

impl Protocol {
    /// The node's side.
    pub(super) fn with_the_witness(&self, state: &mut State, me: usize, step: Step) -> bool {
        let node = &mut state.nodes[me];
        let serving = node.kernel.serving;
        let takes_over = matches!(node.user.phase, Phase::Waiting(_)) && !self.is_bound_by_a_waiver(node);
        let term = if serving != 0 { serving } else { Self::next_term(node, me) };
        match (step, node.ask) {
            (Step::Ask, Ask::No) if state.budget.asks > 0 => {
                let runs_low = serving != 0 && node.kernel.solo == Solo::No && node.kernel.leased <= 0;
                if !takes_over && !runs_low {
                    return false;
                }
                state.budget.asks -= 1;
                node.ask = Ask::Sent { age: 0, term };
                // Without halves the witness answers at once; the answer takes its time.
                return self.bounds.halves || self.at_the_witness(state, me, Step::Grant);
            }
            (Step::Granted, Ask::Granted { age, term: asked }) => {
                node.ask = Ask::No;
                // An answer that is for another undertaking is left alone; the key runs out.
                if (serving != 0 || takes_over) && asked == term && node.kernel.solo_until != FOREVER {
                    node.kernel.solo_until = node.kernel.solo_until.max(kernel::key_rest(self.bounds.ttl, age));
                }
            }
            (Step::Granted, Ask::Outrun { term, .. }) => {
                node.ask = Ask::No;
                node.user.outrun = node.user.outrun.max(term);
            }
            (Step::TakeBack, ask) if serving != 0 && node.kernel.leased >= 0 => {
                if node.kernel.solo_until == OVER || node.kernel.solo_until == FOREVER {
                    return false;
                }
                node.kernel.solo_until = OVER;
                // It names the grant that arrived. One whose answer is still under way is another.
                node.release = if matches!(ask, Ask::Granted { .. }) { Release::Older } else { Release::Last };
            }
            _ => return false,
        }
        true
    }

    /// The witness's side.
    pub(super) fn at_the_witness(&self, state: &mut State, me: usize, step: Step) -> bool {
        let (node, witness) = (&mut state.nodes[me], &mut state.witness);
        let mine = witness.holder == Some(me as u8);
        match (step, node.ask) {
            (Step::Grant, Ask::Sent { age, term }) => {
                let free = witness.holder.is_none() || witness.ttl <= 0 || mine;
                if term < witness.highest {
                    node.ask = Ask::Outrun { age, term: witness.highest };
                    return true;
                }
                if !free {
                    node.ask = Ask::No;
                    return true;
                }
                witness.holder = Some(me as u8);
                witness.ttl = self.bounds.ttl as i8;
                witness.highest = term;
                node.ask = Ask::Granted { age, term };
                if node.release == Release::Last {
                    node.release = Release::Older;
                }
            }
            (Step::Released, _) if node.release != Release::No => {
                let counts = node.release == Release::Last || self.has(Deviation::ReleaseOfAnyGrant);
                if counts && mine {
                    witness.holder = None;
                    witness.ttl = OVER;
                }
                node.release = Release::No;
            }
            _ => return false,
        }
        true
    }
}
