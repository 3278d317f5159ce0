//! Each reason to refuse a takeover: said once, counted once, and over when it is mended or an operator insists.

use std::collections::BTreeMap;

use super::super::promotable::NotPromotable;
use super::super::rules::Isolated;
use super::super::witness::{Answer, WitnessCall};
use super::lease::{answer, leased, standby_of};
use super::*;

/// A reason, on a node that has it before its peer is gone.
struct Case {
    name: &'static str,
    /// Of its sentence.
    words: &'static str,
    node: Node,
    /// What makes a takeover due.
    due: fn(&mut Node),
    /// What ends the reason.
    end: fn(&mut Node),
}

const LEASED: u16 = PRIMARY | flag::LEASED | flag::SYNC;
/// Of the standby of a primary of term 2.
const KEY: WitnessCall = WitnessCall::Acquire { term: 3, follows: 2 };

fn dies(node: &mut Node) {
    node.dead();
}

fn forced(node: &mut Node) {
    node.feed(Input::Command(Command::Failover));
}

fn well(node: &mut Node) {
    node.says(standby(1));
}

/// A standby that says this of itself, of a primary that says that.
fn standby_with(facts: PgFacts, flags: u16, timeline: u32) -> Node {
    let mut node = Node::with(facts);
    node.pulse(flags, timeline);
    node
}

/// With rules and a disk of its own, of a primary that does not count on it.
fn standby_by(rules: Rules, disk: Result<(), String>) -> Node {
    let mut node = Node::of_terms(rules, Terms { seen: 1, ..Terms::default() }, ms(10_000));
    node.disk = disk;
    node.feed(Input::Link(true));
    node.says(PgFacts { lsn: Lsn(50), ..standby(1) });
    node
}

/// The witness gives the key after all.
fn granted(node: &mut Node) {
    node.pass(super::super::ASK);
    assert!(node.did(&Action::Witness(KEY)), "{:?}", node.did);
    answer(node, KEY, Answer::Granted { ttl: ms(3000) });
}

fn of_the_server() -> Vec<Case> {
    let down = || {
        let mut node = standby_with(standby(1), PRIMARY | flag::SYNC, 1);
        node.news(Postgres::Exited);
        node.news(Postgres::NotReady("the database system is starting up".to_owned()));
        node
    };
    let paused = PgFacts { replay_paused: true, ..standby(1) };
    let behind = PgFacts { lsn: Lsn(50), ..standby(1) };
    let mut lags = standby_by(Rules { sync: SyncPolicy::Off, max_lag: 10, ..Node::standby().core.rules }, Ok(()));
    lags.pulse(PRIMARY, 1);
    let mut another = Node::with(standby(1));
    another.pulse_of_another_cluster(VerdictKind::Alive, PRIMARY | flag::SYNC);
    vec![
        Case { name: "down", words: "does not answer", node: down(), due: dies, end: well },
        Case {
            name: "replay_paused",
            words: "replay is paused",
            node: standby_with(paused, PRIMARY | flag::SYNC, 1),
            due: dies,
            end: well,
        },
        Case {
            name: "behind",
            words: "acknowledged writes would be lost",
            node: standby_with(behind, PRIMARY, 1),
            due: dies,
            end: well,
        },
        Case {
            name: "never_heard",
            words: "has not heard of a primary",
            node: Node::with(standby(1)),
            due: |node| {
                node.feed(Input::PeerPostgres(None)); // asked, and silent
                node.pass(ms(500));
            },
            end: forced,
        },
        Case { name: "lag", words: "`postgres.max_lag`", node: lags, due: dies, end: well },
        Case {
            name: "other_cluster",
            words: "another cluster",
            node: another,
            due: |node| node.pulse_of_another_cluster(VerdictKind::Dead, PRIMARY | flag::SYNC),
            end: |node| {
                node.pulse(PRIMARY | flag::SYNC, 1); // its directory was made anew
                node.dead();
            },
        },
        Case {
            name: "timeline",
            words: "rejoin first",
            node: standby_with(standby(1), PRIMARY | flag::SYNC, 2),
            due: dies,
            end: |node| _ = node.says(standby(2)),
        },
    ]
}

fn of_the_right() -> Vec<Case> {
    let waived = || {
        let mut node = standby_of(Isolated::Hold, LEASED);
        node.pulse(LEASED | flag::ASKS_WAIVER, 2);
        node
    };
    let paused = || {
        let mut node = Node::standby();
        node.feed(Input::Command(Command::Pause));
        node
    };
    let full = || {
        let rules = Rules { sync: SyncPolicy::Off, ..leased(Isolated::Hold) };
        let mut node = standby_by(rules, Err("full".to_owned()));
        node.pulse(LEASED, 1);
        node
    };
    let keyed = || standby_of(Isolated::Witness, LEASED);
    vec![
        Case {
            name: "no_right",
            words: "may serve still",
            node: standby_of(Isolated::Hold, PRIMARY | flag::SYNC),
            due: dies,
            end: forced,
        },
        Case { name: "waived", words: "waived its right", node: waived(), due: dies, end: forced },
        Case {
            name: "witness_refused",
            words: "to the other node",
            node: keyed(),
            due: |node| {
                node.dead();
                answer(node, KEY, Answer::Refused("it is b's".to_owned()));
            },
            end: granted,
        },
        Case {
            name: "witness_unreachable",
            words: "the witness does not answer",
            node: keyed(),
            due: |node| {
                node.dead();
                answer(node, KEY, Answer::Unreachable("refused".to_owned()));
            },
            end: granted,
        },
        Case {
            name: "paused",
            words: "automatic action is paused",
            node: paused(),
            due: dies,
            end: |node| _ = node.feed(Input::Command(Command::Resume)),
        },
        Case {
            name: "term_not_stored",
            words: "is not on disk",
            node: full(),
            due: dies,
            end: |node| {
                node.disk = Ok(());
                node.pass(super::super::RETRY);
            },
        },
        Case {
            name: "tracked",
            words: "has failed",
            node: tracking::a_standby_whose_check_fails(),
            due: dies,
            end: tracking::mended,
        },
    ]
}

fn is_refusal(action: &Action) -> bool {
    matches!(action, Action::Report(report) if report.why.starts_with("refused to take over: "))
}

#[test]
fn every_refusal_is_reported_and_counted_once_and_ends_when_its_reason_does() {
    let mut seen = Vec::new();
    for Case { name, words, mut node, due, end } in of_the_server().into_iter().chain(of_the_right()) {
        let told = |did: &[Action]| did.iter().filter(|action| is_refusal(action)).count();
        assert_eq!(node.core.snapshot().refusals, BTreeMap::new(), "{name}: nothing was missed yet");
        due(&mut node);
        // A paused node decides nothing, so it refuses nothing: `status` and the gauge show what it would do.
        let counted = if name == "paused" { BTreeMap::new() } else { BTreeMap::from([(name, 1)]) };
        let refused = |node: &Node| {
            let snapshot = node.core.snapshot();
            assert_eq!((snapshot.refusal_name, snapshot.refusals), (Some(name), counted.clone()));
            assert!(snapshot.refusal.is_some_and(|text| text.contains(words)), "{name}");
            assert_eq!(node.core.op, None, "{name}");
        };
        refused(&node);
        let did = node.did.clone();
        assert_eq!(told(&did), counted.len(), "{name}: {did:?}");
        let later = node.pass(Nanos(super::super::ASK.0 / 2));
        assert_eq!(told(&later), 0, "{name}: said again");
        refused(&node);
        end(&mut node);
        assert_eq!(node.core.op, Some(Op::Promote), "{name}: {:?}", node.core);
        let snapshot = node.core.snapshot();
        assert_eq!((snapshot.refusal_name, snapshot.refusals), (None, counted), "{name}");
        seen.push(name);
    }
    seen.sort_unstable();
    let mut all = NotPromotable::NAMES;
    all.sort_unstable();
    assert_eq!(seen, all);
}
