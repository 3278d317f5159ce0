//! The runs: which bounds, and what came of them.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::{Duration, Instant};

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use super::bounds::{Bounds, Deviation, Policy};
use super::properties;
use super::step::Protocol;

/// One exhaustive run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// What is tried in it.
    pub name: &'static str,
    /// The protocol.
    pub protocol: Protocol,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Of the run.
    pub name: &'static str,
    /// Different states.
    pub unique: usize,
    /// Steps taken.
    pub steps: usize,
    /// Of the longest shortest way, in states.
    pub depth: usize,
    /// Of the run.
    pub took: Duration,
    /// Each property, whether it was to hold always, and whether all is as it has to be.
    pub verdicts: Vec<(&'static str, bool, bool)>,
    /// Steps to the first state in which something that must always hold does not.
    pub trace: Option<String>,
    /// The whole space was seen.
    pub complete: bool,
}

/// What a plain `cargo test` explores.
pub fn small() -> Vec<Run> {
    let calm = Bounds::CALM;
    let run = |name, policy, bounds| Run { name, protocol: Protocol { policy, bounds, deviation: None } };
    let hold = |name, bounds| run(name, Policy::Hold, bounds);
    vec![
        hold("hold: late, lost and doubled packets", calm),
        hold("hold, a waiver and its return", Bounds { waivers: 1, ..calm }),
        hold("hold, a resignation", Bounds { resigns: 1, ..calm }),
        hold("hold, a daemon crashes", Bounds { crashes: 1, terms: 3, ..calm }),
        hold("hold, a host loses power or its maps", Bounds { losses: 1, terms: 3, ..calm }),
        hold("hold, both halves of an echo", Bounds { halves: true, terms: 3, ..calm }),
        run("witness, two questions for the key", Policy::Witness, Bounds { asks: 2, terms: 3, ..calm }),
    ]
}

/// Takes tens of minutes and some GB.
pub fn full() -> Vec<Run> {
    let calm = Bounds::CALM;
    let run = |name, policy, bounds| Run { name, protocol: Protocol { policy, bounds, deviation: None } };
    let hold = |name, bounds| run(name, Policy::Hold, bounds);
    let mut runs = small();
    runs.extend([
        hold("hold, D of three ticks", Bounds { detection: 3, ..calm }),
        hold("hold, packets that overtake each other", Bounds { slots: 2, terms: 3, ..calm }),
        hold("hold, a crash, four terms", Bounds { crashes: 1, ..calm }),
        hold("hold, a loss, four terms", Bounds { losses: 1, ..calm }),
        hold("hold, a waiver and a crash", Bounds { waivers: 1, crashes: 1, ..calm }),
        hold("hold, a waiver and a resignation", Bounds { waivers: 1, resigns: 1, ..calm }),
        hold("hold, a resignation and a crash", Bounds { resigns: 1, crashes: 1, ..calm }),
        hold("hold, a waiver and a loss", Bounds { waivers: 1, losses: 1, ..calm }),
        hold("hold, an operator forces", Bounds { forces: 1, terms: 3, ..calm }),
        run("serve", Policy::Serve, Bounds { terms: 3, ..calm }),
        run("witness, three questions", Policy::Witness, Bounds { asks: 3, terms: 3, ..calm }),
        run("witness, one that grants more than is taken", Policy::Witness, Bounds { asks: 2, waivers: 1, ..calm }),
        run("witness, a resignation", Policy::Witness, Bounds { asks: 2, resigns: 1, ..calm }),
        run("witness, a loss", Policy::Witness, Bounds { asks: 2, losses: 1, terms: 3, ..calm }),
    ]);
    runs
}

/// A run in which this mistake has to be found, with the property that it breaks.
pub fn hunt(deviation: Deviation) -> (Run, &'static str) {
    use Deviation as D;
    let calm = Bounds { terms: 3, ..Bounds::CALM };
    let (policy, bounds) = match deviation {
        D::LeaseOutlivesPromise | D::TermNotStored | D::EchoOfOwnClock | D::LeasedSaidEarly | D::RightUnheard => {
            (Policy::Hold, calm)
        }
        D::LivingPeerNotWaitedFor => (Policy::Hold, calm),
        D::EchoNotWithdrawn | D::PermissionFirst => (Policy::Hold, Bounds { halves: true, ..calm }),
        D::WaiverSaidEarly => (Policy::Hold, Bounds { crashes: 1, waivers: 1, ..calm }),
        D::ResignSaidEarly => (Policy::Hold, Bounds { resigns: 1, ..calm }),
        D::WaiverReturnsInTerm | D::WaiverStoredMeanwhile => (Policy::Hold, Bounds { waivers: 1, ..calm }),
        D::ResignNotReread | D::ResignLingers | D::EchoFromBefore => {
            (Policy::Hold, Bounds { resigns: 1, terms: 4, ..calm })
        }
        D::StartInFormerTerm => (Policy::Hold, Bounds { resigns: 1, waivers: 1, ..calm }),
        D::PromiseForgotten => (Policy::Hold, Bounds { losses: 1, ..calm }),
        D::WitnessIgnored => (Policy::Witness, Bounds { asks: 1, ..calm }),
        D::KeyUndoesWaiver => (Policy::Witness, Bounds { asks: 1, waivers: 1, ..calm }),
        D::KeyWithoutEnd => (Policy::Witness, Bounds { asks: 2, terms: 4, ..calm }),
        D::ResignWithoutKey => (Policy::Witness, Bounds { asks: 1, resigns: 1, terms: 4, ..calm }),
        D::ReleaseOfAnyGrant => (Policy::Witness, Bounds { asks: 3, ..calm }),
    };
    let broken = match deviation {
        D::TermNotStored => properties::TERM_STORED,
        _ => properties::ONE_GATE,
    };
    (Run { name: "hunt", protocol: Protocol { policy, bounds, deviation: Some(deviation) } }, broken)
}

impl Run {
    /// Explores the whole space, or up to the first fault.
    pub fn explore(&self, threads: usize) -> Outcome {
        self.until(threads, HasDiscoveries::AnyFailures)
    }

    /// Explores until this property is broken. One thread, so that the way there is a shortest one.
    pub fn seek(&self, broken: &'static str) -> Outcome {
        self.until(1, HasDiscoveries::AnyOf(BTreeSet::from([broken])))
    }

    fn until(&self, threads: usize, end: HasDiscoveries) -> Outcome {
        let began = Instant::now();
        let checker = self.protocol.checker().threads(threads).finish_when(end).spawn_bfs().join();
        let found = checker.discoveries();
        let properties = self.protocol.properties();
        let mut trace = None;
        let mut verdicts = Vec::new();
        for property in &properties {
            let always = property.expectation == Expectation::Always;
            let discovered = found.get(property.name);
            verdicts.push((property.name, always, always == discovered.is_none()));
            if let (true, Some(path)) = (always, discovered) {
                trace = Some(told(property.name, &path.clone().into_vec()));
            }
        }
        Outcome {
            name: self.name,
            unique: checker.unique_state_count(),
            steps: checker.state_count(),
            depth: checker.max_depth(),
            took: began.elapsed(),
            verdicts,
            complete: trace.is_none(),
            trace,
        }
    }
}

impl Outcome {
    /// Everything is as it has to be.
    pub fn holds(&self) -> bool {
        self.complete && self.verdicts.iter().all(|(_, _, good)| *good)
    }

    /// The property is broken.
    pub fn breaks(&self, name: &str) -> bool {
        self.verdicts.iter().any(|(known, _, good)| *known == name && !good)
    }
}

fn told(property: &str, path: &[(super::state::State, Option<super::action::Action>)]) -> String {
    let mut text = format!("broken: {property}\n");
    for (state, action) in path {
        for (me, node) in state.nodes.iter().enumerate() {
            let kernel = &node.kernel;
            let gate = if kernel.is_open() { "open" } else { "shut" };
            let _ = writeln!(
                text,
                "    {me}: gate {gate}, serving {}, {:?}, lease {}, promise {}, disk {:?}, {:?}",
                kernel.serving, kernel.solo, kernel.leased, kernel.promise, node.disk, node.user.phase
            );
        }
        if let Some(action) = action {
            let _ = writeln!(text, "  {action:?}");
        }
    }
    text
}
