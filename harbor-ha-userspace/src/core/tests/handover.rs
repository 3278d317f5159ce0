//! A primary that goes in good order: the stamps of a switchover, and a restart that the peer bears with.

use super::super::rules::{Isolated, LeaseRules};
use super::*;

fn streamed() -> PgFacts {
    PgFacts { streaming: true, peer_is_sync: true, sync_names: "peer".to_owned(), ..primary(1) }
}

/// A primary with a streaming standby, and a lease.
fn leased() -> Node {
    let lease = LeaseRules::new(ms(30), true, ms(1000), ms(60_000), Isolated::Hold);
    let rules = Rules { postgres: true, start_wait: ms(500), lease: Some(lease), ..rules(100) };
    let mut node = Node::of_terms(rules, Terms { seen: 1, mine: 1, ..Terms::default() }, ms(10_000));
    node.feed(Input::Link(true));
    node.says(streamed());
    node.leased = node.now.after(ms(30));
    node.pulse(flag::PG_UP, 1);
    node.served();
    assert_eq!(node.core.state, VrrpState::Master);
    node
}

fn stamps(node: &Node) -> Option<[u64; 4]> {
    let found = node.core.snapshot().handover?;
    Some([found.begun_ns, found.shut_ns, found.stopped_ns, found.peer_serves_ns].map(|ns| ns / MS))
}

#[test]
fn a_switchover_is_stamped_from_the_checkpoint_to_the_peer_s_first_word_as_the_primary() {
    let mut node = leased();
    node.feed(Input::Command(Command::Switchover));
    assert_eq!(stamps(&node), Some([10_000, 0, 0, 0]));
    node.now = ms(10_300);
    node.done(Done::Checkpoint);
    assert_eq!(stamps(&node), Some([10_000, 10_300, 0, 0]));
    node.now = ms(10_350);
    node.done(Done::Stop(Ok(())));
    node.now = ms(10_400);
    node.pulse(PRIMARY, 2);
    node.now = ms(10_500);
    node.pulse(PRIMARY | flag::SYNC, 2);
    assert_eq!(stamps(&node), Some([10_000, 10_300, 10_350, 10_400]));
    assert_eq!(node.core.snapshot().handovers, 1);
}

#[test]
fn a_stop_that_hands_nothing_over_has_no_stamps() {
    let mut node = leased();
    node.news(Postgres::Exited);
    node.done(Done::Stop(Ok(())));
    node.pulse(PRIMARY, 2);
    assert_eq!(stamps(&node), None);
    assert_eq!(node.core.snapshot().handovers, 0);
}

#[test]
fn a_daemon_that_the_peer_bears_with_ends_and_leaves_the_gate_open() {
    let mut node = leased();
    let order = node.core.lease.order;
    assert_eq!(order.serving_term, 1);
    node.feed(Input::Command(Command::Hold));
    assert_ne!(node.core.pulse.flags & flag::HOLD, 0);
    node.pulse(flag::PG_UP | flag::HOLDS, 1);
    node.feed(Input::Command(Command::Terminate));
    assert!(node.did(&Action::Exit));
    let touches = |action: &Action| {
        matches!(action, Action::Order(_) | Action::Withdraw | Action::Stop(_) | Action::Checkpoint | Action::Pulse(_))
    };
    assert!(!node.did.iter().any(touches), "{:?}", node.did);
    assert_eq!((node.core.lease.order, node.core.pulse.flags & flag::RESIGN), (order, 0));
}

#[test]
fn without_the_peer_s_agreement_or_after_its_end_the_end_is_a_hand_over() {
    for agrees in [false, true] {
        let mut node = leased();
        node.feed(Input::Command(Command::Hold));
        if agrees {
            node.pulse(flag::PG_UP | flag::HOLDS, 1);
            node.leased = ms(100_000);
            node.pass(ms(60_000));
        }
        node.feed(Input::Command(Command::Terminate));
        assert!(node.did(&Action::Checkpoint) && !node.did(&Action::Exit), "{agrees}: {:?}", node.did);
    }
}

#[test]
fn a_hold_is_not_renewed_while_it_lasts() {
    let mut node = leased();
    node.feed(Input::Command(Command::Hold));
    let until = node.core.hold_until;
    node.now = node.now.after(ms(1));
    node.feed(Input::Command(Command::Hold));
    assert_eq!(node.core.hold_until, until, "the peer counts from the first one");
}

#[test]
fn a_forced_takeover_that_is_refused_is_not_kept_for_later() {
    let mut node = Node::standby();
    node.says(PgFacts { replay_paused: true, ..standby(1) });
    node.feed(Input::Command(Command::Failover));
    assert!(!node.core.snapshot().forced && !node.did(&Action::Promote));
    node.says(standby(1));
    assert!(!node.did(&Action::Promote), "the peer lives");
}
