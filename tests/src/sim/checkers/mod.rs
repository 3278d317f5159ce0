//! The promises, each with a model of its own that knows nothing of the code that keeps it.
//!
//! They see what an all-knowing observer sees: both gates at one true instant, both disks, both logs.

mod gate;
mod liveness;
mod term;
mod write;

use std::collections::BTreeMap;

use harbor_ha::core::rules::Isolated;

use super::schedule::{Schedule, Theme};

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which, by the names of the design: I1 to I11.
    pub promise: &'static str,
    /// How.
    pub what: String,
    /// True time.
    pub at: u64,
}

/// What the checkers remember.
#[derive(Debug, Default)]
pub struct Checkers {
    /// At most one may serve: not where an operator, or the configuration, chose otherwise.
    one_server: bool,
    /// Acknowledged writes are kept.
    keeps_writes: bool,
    /// No takeover may happen any more (I5, I10).
    pub quiet: bool,
    /// The highest term that each node's kernel was told since it booted.
    pub heard: [u64; 2],
    /// The latest term in which a primary said that its commits wait for its standby: only then it may succeed (I8).
    pub counted_term: u64,
    /// Whose gate was open in which term (I3).
    served: BTreeMap<u64, usize>,
    /// The latest term in which a write was acknowledged (I7).
    acked_term: u64,
    /// Ends of logs that were acknowledged or read: place and entry. A log that holds the end holds all of it.
    kept: Vec<(usize, u64)>,
}

impl Checkers {
    /// What is claimed of a run of this schedule.
    pub fn new(schedule: &Schedule) -> Self {
        let one_server = schedule.isolated != Isolated::Serve && schedule.theme != Theme::Forced;
        Self { one_server, keeps_writes: one_server && schedule.sync.names_standby(), ..Self::default() }
    }
}
