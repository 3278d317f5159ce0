//! The simulator: the daemon's own core and the kernel's own detector, filter and gate on virtual time.
//!
//! A seed makes a schedule: policies, clocks, and faults. A run begins with a primary and its standby, lets the faults
//! happen, heals everything and waits until the pair is whole. Checkers watch from outside, with models of their own.
//! What fails is printed with its seed, a story, and a schedule that was made as short as it still fails.

mod checkers;
mod clock;
mod coverage;
mod daemon;
mod dice;
mod event;
mod faults;
mod havip;
mod kernel;
mod mutants;
mod network;
mod node;
mod perform;
mod postgres;
mod renewal;
mod replication;
mod schedule;
mod shrink;
mod sweep;
mod witness;
mod world;

pub use checkers::Violation;
pub use coverage::{Coverage, EXCEPTIONS};
pub use mutants::Mutant;
pub use schedule::Schedule;
pub use shrink::shrink;
pub use sweep::{Sweep, sweep, sweep_of};

use schedule::{FAULTY, MS, Theme};
use world::World;

/// What became of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The first promise that was broken.
    pub violation: Option<Violation>,
    /// What occurred.
    pub coverage: Coverage,
    /// Virtual time, nanoseconds.
    pub took: u64,
    /// Line by line, if it was asked for.
    pub story: Vec<String>,
}

/// Runs one schedule; `tells` keeps the story.
pub fn run(schedule: &Schedule, mutant: Option<Mutant>, tells: bool) -> Outcome {
    let mut world = World::new(schedule.clone(), mutant, tells);
    let begun = world.now;
    // A panic of the core is a violation: it dies, which is safe and is not what it shall do.
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| live(&mut world)));
    if let Err(panic) = ran {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        world.violate("panic", text.unwrap_or_default());
    }
    Outcome {
        violation: world.violation.take(),
        took: world.now - begun,
        story: world.story.take().unwrap_or_default(),
        coverage: std::mem::take(&mut world.coverage),
    }
}

fn live(world: &mut World) {
    if !world.settle(20_000 * MS) {
        let views = world.views().join("\n");
        world.violate("I4", format!("never began\n{views}"));
        return;
    }
    world.checkers.quiet = matches!(world.schedule.theme, Theme::Calm | Theme::WitnessOnly);
    world.plan_faults();
    let begun = world.now;
    let last = world.faults.iter().map(|fault| fault.at + fault.length).max().unwrap_or(0).min(FAULTY);
    world.run_until(begun + last + 200 * MS);
    if world.violation.is_none() {
        world.check_liveness();
    }
}
