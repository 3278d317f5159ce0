//! Deaths at the most telling steps. All of them: `cargo xtask points`.

use harbor_ha_tests::lab::need::{self, LAB};
use harbor_ha_tests::lab::{Options, residue};
use harbor_ha_tests::points::case::{self, Case, Kind};
use harbor_ha_tests::points::{judge, sweep};

/// In the middle of a promotion, of a demotion, of a rejoin, and where a data directory has no name.
const TELLING: [(&str, Kind); 4] = [
    ("promote.signalled", Kind::Daemon),
    ("order.done", Kind::Node),
    ("rejoin.stream", Kind::Node),
    ("basebackup.aside", Kind::Daemon),
];

#[test]
fn a_death_in_the_middle_of_a_step_needs_no_human() {
    if !need::has("a_death_in_the_middle_of_a_step_needs_no_human", &LAB) {
        return;
    }
    let first = |(point, kind): (&str, Kind)| -> (Case, Kind) { (case::cases(Some(point))[0], kind) };
    let todo = TELLING.map(first);
    let done = sweep(&Options::default(), &todo, |outcome| eprintln!("{}", outcome.line())).unwrap();
    judge(&done, "").unwrap();
    assert!(done.iter().all(|outcome| outcome.reached), "{done:?}");
    assert_eq!(residue::of_all(), Vec::<String>::new());
}
