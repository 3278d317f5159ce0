//! The simulator: a sweep in which no promise is broken and everything occurs, and mutants that are caught. No root.
//!
//! Made for the release profile, in which `cargo xtask test` runs it; a debug build does a share of it.

use harbor_ha_tests::sim::{self, EXCEPTIONS, Mutant, Schedule, sweep, sweep_of};

/// How many schedules: as many as two processors do in a minute.
const SEEDS: u64 = if cfg!(debug_assertions) { 300 } else { 30_000 };

#[test]
fn no_schedule_breaks_a_promise_and_everything_occurs() {
    let found = sweep(0, SEEDS, None, 1);
    if let Some((seed, violation)) = found.failed.first() {
        let short = sim::shrink(&Schedule::new(*seed), None);
        let story = sim::run(&short, None, true).story;
        let last = story.len().saturating_sub(60);
        let (promise, what) = (violation.promise, &violation.what);
        panic!(
            "seed {seed} breaks {promise}: {what}\n{short}\n{}\ncargo xtask sim --replay {seed}",
            story[last..].join("\n")
        );
    }
    let missing = found.coverage.missing();
    assert!(cfg!(debug_assertions) || missing.is_empty(), "never occurred: {}", missing.join(", "));
}

#[test]
fn what_is_excused_from_occurring_is_counted() {
    let rows = sweep(1_000_000, SEEDS / 30, None, 1).coverage.rows();
    for (name, why) in EXCEPTIONS {
        let counted = rows.iter().find(|(known, _)| known == name);
        // A name that is counted nowhere is a mistake in the list.
        assert!(counted.is_some(), "`{name}` ({why}) is not counted at all");
    }
}

#[test]
fn a_havip_is_a_witness_by_rules_that_rest_on_how_old_a_look_may_be() {
    let found = sweep_of(|seed| Schedule::new(seed).with_havip(), 0, SEEDS / 3, None, 1);
    assert!(found.failed.is_empty(), "{:?}; cargo xtask sim --havip --replay SEED", found.failed);
    // What breaks with looks that are older: a tenth of a thousand is enough for it.
    let found = sweep_of(|seed| Schedule::of(seed, Some(Mutant::HaVipLooksOld)), 0, SEEDS / 10, None, 1);
    assert!(found.failed.is_empty(), "{:?}", found.failed);
}

#[test]
fn every_mutant_is_caught() {
    // Some need a rare coincidence; most are caught within a hundred schedules.
    let seeds = if cfg!(debug_assertions) { return } else { 60_000 };
    for (mutant, name) in Mutant::ALL {
        let found = sweep(0, seeds, Some(mutant), 1);
        assert!(!found.failed.is_empty(), "mutant `{name}` lives after {} schedules", found.runs);
    }
}

#[test]
fn a_seed_is_the_same_story_every_time() {
    for seed in 0..20 {
        let schedule = Schedule::new(seed);
        assert_eq!(sim::run(&schedule, None, true).story, sim::run(&schedule, None, true).story, "seed {seed}");
    }
}
