//! What happened since this daemon began: only counted, never asked.

use std::collections::BTreeMap;

use serde::Serialize;

use super::witness::{Answer, WitnessCall};

/// Answers of the witness to one kind of question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Answers {
    /// Yes.
    pub granted: u64,
    /// No.
    pub refused: u64,
    /// Nobody answered in time.
    pub unreachable: u64,
}

/// The counters.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Refused takeovers, by [`super::promotable::NotPromotable::name`].
    pub refusals: BTreeMap<&'static str, u64>,
    /// Takeovers that put the addresses up, by the end of the peer.
    pub takeovers: BTreeMap<&'static str, u64>,
    /// Hand-overs after which the peer served.
    pub handovers: u64,
    /// The witness's answers, by question.
    pub witness: BTreeMap<&'static str, Answers>,
}

impl Tally {
    pub(super) fn refused(&mut self, why: &'static str) {
        *self.refusals.entry(why).or_default() += 1;
    }

    pub(super) fn took_over(&mut self, why: &'static str) {
        *self.takeovers.entry(why).or_default() += 1;
    }

    pub(super) fn answered(&mut self, call: WitnessCall, answer: &Answer) {
        let answers = self.witness.entry(call.name()).or_default();
        *match answer {
            Answer::Granted { .. } => &mut answers.granted,
            Answer::Refused(_) | Answer::Outrun { .. } => &mut answers.refused,
            Answer::Unreachable(_) => &mut answers.unreachable,
        } += 1;
    }
}
