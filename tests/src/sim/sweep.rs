//! Many seeds on all processors.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Coverage, Mutant, Schedule, Violation, run};

/// What a sweep found.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Schedules that ran to their end.
    pub runs: u64,
    /// Seeds that broke a promise, in order.
    pub failed: Vec<(u64, Violation)>,
    /// What occurred in all of them.
    pub coverage: Coverage,
    /// Virtual time of all of them, nanoseconds.
    pub took: u64,
}

/// Runs the schedules of the seeds from `from` on; stops once `enough` of them have failed.
pub fn sweep(from: u64, seeds: u64, mutant: Option<Mutant>, enough: usize) -> Sweep {
    sweep_of(|seed| Schedule::of(seed, mutant), from, seeds, mutant, enough)
}

/// The same with schedules that `make` makes of the seeds.
pub fn sweep_of(
    make: impl Fn(u64) -> Schedule + Sync,
    from: u64,
    seeds: u64,
    mutant: Option<Mutant>,
    enough: usize,
) -> Sweep {
    let next = AtomicU64::new(from);
    let found = Mutex::new(Sweep::default());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let work = || {
        let mut ours = Sweep::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + seeds {
                break;
            }
            let outcome = run(&make(seed), mutant, false);
            ours.runs += 1;
            ours.took += outcome.took;
            ours.coverage.add(&outcome.coverage);
            if let Some(violation) = outcome.violation {
                let mut all = found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                all.failed.push((seed, violation));
                if all.failed.len() >= enough {
                    next.store(from + seeds, Ordering::Relaxed);
                }
            }
        }
        let mut all = found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.runs += ours.runs;
        all.took += ours.took;
        all.coverage.add(&ours.coverage);
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    found.failed.sort_by_key(|(seed, _)| *seed);
    found
}
