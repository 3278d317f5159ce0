//! What has occurred in a sweep. What never occurred was not tested.

use harbor_ha::core::health::Stays;
use harbor_ha::core::promotable::NotPromotable;
use harbor_ha::core::witness::WitnessCall;
use harbor_ha::core::{Action, StopMode};
use harbor_ha_ebpf::decide::filter::Reject;
use harbor_ha_ebpf::decide::gate::Gate;

use super::schedule::Kind;

/// Actions, finer than their variants where a plan's steps differ.
pub const ACTIONS: [&str; 30] = [
    "advert",
    "pulse",
    "serve",
    "announce",
    "withdraw",
    "promote",
    "checkpoint",
    "stop fast",
    "stop kill",
    "start as standby",
    "start as primary",
    "rejoin",
    "rejoin anew",
    "name the standby",
    "name nobody",
    "store terms",
    "order",
    "read lease",
    "prepare",
    "acquire key",
    "renew key",
    "release key",
    "revoke",
    "restore",
    "store pause",
    "ask peer",
    "report",
    "tickle",
    "reset",
    "notify",
];
/// Verdicts of the detector, by number.
pub const VERDICTS: [&str; 9] = ["none", "alive", "said", "missed", "dead", "resigned", "stalled", "hung", "awake"];
/// States of the gate.
pub const GATES: [&str; 4] = ["open", "not serving", "higher term", "expired"];

/// Moves of a base backup into the data directory's place.
pub const MOVES: [&str; 7] = ["copy", "aside", "in", "note", "stream", "remove", "stop"];

/// What cannot occur in the simulator, and why.
pub const EXCEPTIONS: [(&str, &str); 15] = [
    ("move stop", "a directory would have to be removed by somebody else"),
    ("advert", "adverts carry no lease: the core's own random walk goes with them"),
    ("reject source", "decided by the parser of frames, before a pulse exists: suite `kernel`"),
    ("reject ttl", "as above"),
    ("reject length", "as above"),
    ("reject type", "of adverts only"),
    ("reject addresses", "of adverts only"),
    ("reject checksum", "of adverts only"),
    ("reject auth_type", "of adverts only"),
    ("reject password", "of adverts only"),
    ("refusal paused", "a paused node decides nothing; `status` shows it: see the core's own tests"),
    ("verdict none", "no number of a verdict"),
    ("stays no_pulses", "there are pulses"),
    ("refusal timeline", "of two standbys one has to be promoted unseen by the other: see the core's own tests"),
    ("refusal other_cluster", "two clusters are set up by hand: see the core's own tests"),
];

/// Counts.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    pub(super) actions: [u64; ACTIONS.len()],
    pub(super) failed: u64,
    pub(super) rejects: [u64; 16],
    pub(super) refusals: [u64; NotPromotable::NAMES.len()],
    /// Looks of a primary at a failed check that led to no hand-over.
    pub(super) stays: [u64; Stays::NAMES.len()],
    pub(super) verdicts: [u64; VERDICTS.len()],
    pub(super) gates: [u64; 4],
    pub(super) moves: [u64; MOVES.len()],
    pub(super) faults: [u64; Kind::ALL.len()],
    pub(super) acks: [u64; 2],
    pub(super) reads: u64,
    pub(super) takeovers: u64,
    /// Hand-overs that a failed check began.
    pub(super) moved: u64,
    /// Runs that ended with a word for the operator: which command.
    pub by_hand: std::collections::BTreeMap<String, u64>,
}

impl Coverage {
    pub(super) fn action(&mut self, action: &Action) {
        let at = match action {
            Action::Advert(_) => 0,
            Action::Pulse(_) => 1,
            Action::Serve => 2,
            Action::Announce(_) => 3,
            Action::Withdraw => 4,
            Action::Promote => 5,
            Action::Checkpoint => 6,
            Action::Stop(StopMode::Fast) => 7,
            Action::Stop(StopMode::Kill) => 8,
            Action::Start { standby: true } => 9,
            Action::Start { standby: false } => 10,
            Action::Rejoin { anew: false } => 11,
            Action::Rejoin { anew: true } => 12,
            Action::SetSync { peer: true } => 13,
            Action::SetSync { peer: false } => 14,
            Action::StoreTerms(_) => 15,
            Action::Order(_) => 16,
            Action::ReadLease => 17,
            Action::Prepare => 18,
            Action::Witness(WitnessCall::Acquire { follows: 1.., .. }) => 19,
            Action::Witness(WitnessCall::Acquire { .. }) => 20,
            Action::Witness(WitnessCall::Release { .. }) => 21,
            Action::Witness(WitnessCall::Revoke { .. }) => 22,
            Action::Witness(WitnessCall::Restore { .. }) => 23,
            Action::StorePause(_) => 24,
            Action::AskPeer => 25,
            // The end of the daemon is counted as the fault that asked for it.
            Action::Report(_) | Action::Exit => 26,
            Action::Tickle => 27,
            Action::Reset(_) => 28,
            Action::Notify(_) => 29,
        };
        self.actions[at] += 1;
    }

    pub(super) fn refusal(&mut self, refusal: NotPromotable) {
        let at = NotPromotable::NAMES.iter().position(|name| *name == refusal.name());
        self.refusals[at.expect("the list has every name: a test of the core")] += 1;
    }

    pub(super) const fn gate(&mut self, gate: Gate) {
        self.gates[gate as usize] += 1;
    }

    /// Adds another run's counts.
    pub(super) fn add(&mut self, other: &Self) {
        let sum = |ours: &mut [u64], theirs: &[u64]| ours.iter_mut().zip(theirs).for_each(|(a, b)| *a += b);
        sum(&mut self.actions, &other.actions);
        sum(&mut self.rejects, &other.rejects);
        sum(&mut self.refusals, &other.refusals);
        sum(&mut self.stays, &other.stays);
        sum(&mut self.verdicts, &other.verdicts);
        sum(&mut self.gates, &other.gates);
        sum(&mut self.moves, &other.moves);
        sum(&mut self.faults, &other.faults);
        sum(&mut self.acks, &other.acks);
        self.failed += other.failed;
        self.reads += other.reads;
        self.takeovers += other.takeovers;
        self.moved += other.moved;
        for (why, count) in &other.by_hand {
            *self.by_hand.entry(why.clone()).or_default() += count;
        }
    }

    /// Everything that was counted, with its name.
    pub fn rows(&self) -> Vec<(String, u64)> {
        let mut rows = Vec::new();
        let mut list = |kind: &str, names: &[&str], counts: &[u64]| {
            rows.extend(names.iter().zip(counts).map(|(name, count)| (format!("{kind}{name}"), *count)));
        };
        list("", &ACTIONS, &self.actions);
        list("move ", &MOVES, &self.moves);
        list("reject ", &Reject::ALL.map(Reject::name), &self.rejects);
        list("refusal ", &NotPromotable::NAMES, &self.refusals);
        list("stays ", &Stays::NAMES, &self.stays);
        list("verdict ", &VERDICTS, &self.verdicts);
        list("gate ", &GATES, &self.gates);
        list("ack ", &["remote", "local"], &self.acks);
        let names = ["read", "failed action", "takeover", "hand-over for a check"];
        list("", &names, &[self.reads, self.failed, self.takeovers, self.moved]);
        rows.extend(Kind::ALL.iter().zip(&self.faults).map(|(kind, count)| (format!("fault {kind:?}"), *count)));
        rows
    }

    /// What should have occurred, and has not.
    pub fn missing(&self) -> Vec<String> {
        let excused = |name: &str| EXCEPTIONS.iter().any(|(known, _)| *known == name);
        self.rows().into_iter().filter(|(name, count)| *count == 0 && !excused(name)).map(|(name, _)| name).collect()
    }
}
