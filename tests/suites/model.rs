//! The protocol of docs/protocol.md, explored exhaustively; and each mistake that it could have, found. No root.

use harbor_ha_tests::model::bounds::Deviation;
use harbor_ha_tests::model::check;

#[test]
#[cfg_attr(debug_assertions, ignore = "millions of states: with `--release`, as `cargo xtask test` does")]
fn two_gates_are_never_open_in_any_reachable_state() {
    let mut seen = std::collections::BTreeMap::new();
    for run in check::small() {
        let outcome = run.explore(2);
        eprintln!("{}: {} states, depth {}, {:?}", outcome.name, outcome.unique, outcome.depth, outcome.took);
        assert!(outcome.complete, "{}: {}", outcome.name, outcome.trace.unwrap_or_default());
        for (name, always, good) in outcome.verdicts {
            *seen.entry(name).or_insert(false) |= good || always;
        }
    }
    // What must happen somewhere happens in one run or another: each has its own faults.
    let missing: Vec<_> = seen.iter().filter(|(_, seen)| !**seen).collect();
    assert!(missing.is_empty(), "never happened: {missing:?}");
}

#[test]
#[cfg_attr(debug_assertions, ignore = "millions of states: with `--release`, as `cargo xtask test` does")]
fn every_known_mistake_leads_to_a_counterexample() {
    for deviation in Deviation::ALL {
        let (run, broken) = check::hunt(deviation);
        let outcome = run.seek(broken);
        eprintln!("{deviation:?}: {} states, depth {}, {:?}", outcome.unique, outcome.depth, outcome.took);
        assert!(outcome.breaks(broken), "{deviation:?} breaks nothing: {outcome:?}");
    }
}
