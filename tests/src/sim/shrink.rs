//! A schedule that fails, made short: faults are left out as long as the same promise is still broken.

use super::{Mutant, Schedule, run};

/// The shortest that was found, by delta debugging and by halving what is left.
pub fn shrink(schedule: &Schedule, mutant: Option<Mutant>) -> Schedule {
    let Some(violation) = run(schedule, mutant, false).violation else { return schedule.clone() };
    let fails =
        |tried: &Schedule| run(tried, mutant, false).violation.is_some_and(|found| found.promise == violation.promise);
    let mut best = schedule.clone();
    let mut chunk = best.faults.len().div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        while at < best.faults.len() {
            let mut tried = best.clone();
            tried.faults.drain(at..(at + chunk).min(tried.faults.len()));
            if fails(&tried) {
                best = tried;
            } else {
                at += chunk;
            }
        }
        chunk /= 2;
    }
    for at in 0..best.faults.len() {
        for _ in 0..8 {
            let mut tried = best.clone();
            tried.faults[at].length /= 2;
            if tried.faults[at].length == 0 || !fails(&tried) {
                break;
            }
            best = tried;
        }
    }
    best
}
