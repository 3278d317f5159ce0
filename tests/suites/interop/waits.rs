//! What the tests wait for, one function each; whatever does not come shows what the daemons said.

use std::path::PathBuf;

use anyhow::ensure;
use harbor_ha_tests::lab::dropin::Dropin;
use harbor_ha_tests::lab::keepalived::{Keepalived, State};
use harbor_ha_tests::lab::wire::{What, Wire};
use harbor_ha_tests::lab::{Lab, Side, clock};

use super::{LIMIT, settled};

/// A daemon that says in which state it is, ours or theirs.
pub(super) trait Stated: Copy {
    fn state(self) -> State;

    /// Tells which one it is, too.
    fn log(self) -> PathBuf;
}

impl Stated for Keepalived<'_> {
    fn state(self) -> State {
        self.state()
    }

    fn log(self) -> PathBuf {
        self.log()
    }
}

impl Stated for Dropin<'_> {
    fn state(self) -> State {
        self.state()
    }

    fn log(self) -> PathBuf {
        self.log()
    }
}

/// Until it is in this state.
pub(super) fn is(lab: &Lab, daemon: impl Stated, wanted: State) {
    let waited = lab.wait(&format!("{} says {wanted:?}", daemon.log().display()), LIMIT, || {
        let state = daemon.state();
        ensure!(state == wanted, "it is {state:?}");
        Ok(())
    });
    settled(lab, waited);
}

/// An ordinary advert of a node, which does not resign.
pub(super) fn advert_of(side: Side) -> impl Fn(What) -> bool {
    move |what| matches!(what, What::Advert(from, priority) if from == side && priority != 0)
}

/// Until a node has sent so many adverts from now on. Returns the instant from which they were counted.
pub(super) fn adverts_of(lab: &Lab, wire: &Wire, side: Side, wanted: usize) -> u64 {
    let from = clock::now_ns();
    adverts_since(lab, wire, side, from, wanted);
    from
}

/// The same, from an instant on.
pub(super) fn adverts_since(lab: &Lab, wire: &Wire, side: Side, from_ns: u64, wanted: usize) {
    let waited = lab.wait(&format!("{wanted} adverts of {side}"), LIMIT, || {
        let count = count(wire, side, from_ns);
        ensure!(count >= wanted, "{count}");
        Ok(())
    });
    settled(lab, waited);
}

/// How many adverts of a node there were since an instant.
pub(super) fn count(wire: &Wire, side: Side, from_ns: u64) -> usize {
    wire.since(from_ns).into_iter().filter(|it| advert_of(side)(it.what)).count()
}

/// Until there is a frame at or after an instant; returns its own.
pub(super) fn seen(lab: &Lab, wire: &Wire, from_ns: u64, what: &str, wanted: impl Fn(What) -> bool) -> u64 {
    let waited = lab.wait(what, LIMIT, || {
        ensure!(wire.first(from_ns, &wanted).is_some(), "seen so far: {:?}", wire.since(from_ns));
        Ok(())
    });
    settled(lab, waited);
    wire.first(from_ns, wanted).expect("just seen")
}
