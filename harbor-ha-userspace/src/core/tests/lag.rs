//! What a standby knows of its lag, while its primary lives and when it decides.

use super::*;

/// A standby of a primary whose commits wait for nobody: it may lose ten bytes.
fn asynchronous() -> Node {
    let rules = Rules { postgres: true, start_wait: ms(500), sync: SyncPolicy::Off, max_lag: 10, ..rules(100) };
    let terms = Terms { seen: 1, mine: 0, reserved: 2, waived: 0 };
    let mut node = Node::of_terms(rules, terms, ms(10_000));
    node.feed(Input::Link(true));
    node.says(standby(1));
    node.pulse(PRIMARY, 1);
    node
}

fn at(lsn: u64) -> PgFacts {
    PgFacts { lsn: Lsn(lsn), ..standby(1) }
}

fn lag(node: &Node) -> (u64, u64) {
    let lag = node.core.snapshot().lag.expect("a lag");
    assert_eq!(lag.limit, Some(10));
    (lag.bytes, lag.since_ns)
}

#[test]
fn a_standby_says_how_far_it_is_behind_and_since_when_while_its_primary_lives() {
    let mut node = asynchronous();
    node.says(at(100));
    assert_eq!(lag(&node), (0, 0));
    node.feed(Input::PeerWal { timeline: 1, lsn: Lsn(130) });
    assert_eq!(lag(&node), (0, 0), "what was written since the last look is no lag yet");
    node.says(at(125));
    let begun = node.now.0;
    assert_eq!(lag(&node), (5, begun));
    assert_eq!(node.core.snapshot().refusal_name, None);
    node.now = node.now.after(ms(1000));
    node.feed(Input::PeerWal { timeline: 1, lsn: Lsn(140) });
    node.says(at(125));
    assert_eq!(lag(&node), (15, begun), "it did not catch up between the two");
    assert_eq!(node.core.snapshot().refusal_name, Some("lag"));
    node.says(at(140));
    assert_eq!(lag(&node), (0, 0));
    assert_eq!(node.core.snapshot().refusal_name, None);
}

#[test]
fn what_the_stream_told_of_the_primary_counts_when_it_dies() {
    let mut node = asynchronous();
    // Its pulses said 100, its stream more.
    node.says(PgFacts { upstream: Lsn(111), ..at(100) });
    assert_eq!(lag(&node).0, 11);
    assert_eq!(node.core.snapshot().refusal_name, Some("lag"));
    // A stream that stands tells nothing: what is in the record may be an earlier one's.
    let mut node = asynchronous();
    node.says(PgFacts { upstream: Lsn(111), streaming: false, ..at(100) });
    assert_eq!(lag(&node).0, 0);
}

#[test]
fn positions_of_another_timeline_are_not_compared() {
    let mut node = asynchronous();
    node.feed(Input::PeerWal { timeline: 2, lsn: Lsn(900) });
    node.says(at(100));
    assert_eq!(lag(&node).0, 0, "no word of the primary that was heard");
    node.pulse(PRIMARY, 2);
    node.says(at(100));
    assert_eq!(node.core.snapshot().lag, None);
}

#[test]
fn a_primary_and_a_standby_that_never_heard_one_have_no_lag() {
    assert_eq!(Node::primary().core.snapshot().lag, None);
    assert_eq!(Node::with(standby(1)).core.snapshot().lag, None);
}

#[test]
fn where_commits_wait_there_is_no_limit_to_the_lag() {
    let mut node = Node::standby();
    node.says(at(90));
    let lag = node.core.snapshot().lag.expect("a lag");
    assert_eq!((lag.bytes, lag.limit), (10, None));
}

#[test]
fn what_happened_is_counted() {
    let mut node = Node::standby();
    node.dead();
    node.promoted();
    node.served();
    node.served();
    assert_eq!(
        node.core.snapshot().takeovers.into_iter().collect::<Vec<_>>(),
        [("silence", 1)],
        "put back is no takeover"
    );
    assert_eq!(node.core.snapshot().handovers, 0);
}
