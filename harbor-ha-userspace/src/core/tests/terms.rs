//! Terms: stored before they are acted in, the later one wins, and former primaries know who was the last.

use super::*;

fn stored(node: &Node) -> Terms {
    node.core.terms
}

/// A node whose PostgreSQL is at rest and was a primary, with these terms on disk.
fn former(terms: Terms) -> Node {
    let rules = Rules { postgres: true, start_wait: ms(500), ..rules(100) };
    let mut node = Node::of_terms(rules, terms, ms(10_000));
    node.feed(Input::Link(true));
    node.news(Postgres::AtRest(at_rest(1)));
    node
}

fn starts_as_primary(node: &Node) -> bool {
    node.did(&Action::Start { standby: false })
}

impl Node {
    /// A pulse of the peer with a term of its own.
    fn pulse_of_term(&mut self, flags: u16, term: u64) {
        let verdict = Verdict {
            at: self.now,
            last_heard: self.now,
            kind: VerdictKind::Said,
            source: Source::Pulse,
            priority: 90,
            flags,
            term,
            timeline: 1,
            lsn: 100,
            system_identifier: 7,
        };
        self.feed(Input::Verdict(verdict));
    }
}

#[test]
fn a_standby_reserves_the_next_term_ahead_of_time() {
    let mut node = Node::standby();
    assert_eq!(stored(&node), Terms { seen: 1, mine: 0, reserved: 2, waived: 0 });
    node.pulse_of_term(PRIMARY | flag::SYNC, 6);
    assert_eq!(stored(&node), Terms { seen: 6, mine: 0, reserved: 7, waived: 0 });
}

#[test]
fn a_takeover_is_in_the_reserved_term_and_writes_nothing_before_it_serves() {
    let mut node = Node::standby();
    node.disk = Err("no space".to_owned());
    node.dead();
    assert!(node.did(&Action::Promote));
    node.promoted();
    node.served();
    assert!(node.core.serving);
    assert_eq!((node.core.pulse.term, stored(&node)), (2, Terms { seen: 1, mine: 0, reserved: 2, waived: 0 }));
    node.disk = Ok(());
    node.pass(RETRY);
    assert_eq!(stored(&node), Terms { seen: 2, mine: 2, reserved: 0, waived: 0 });
}

#[test]
fn a_standby_without_a_stored_term_refuses_and_says_so_and_takes_over_once_it_is_stored() {
    let mut node = Node::standby();
    node.disk = Err("no space".to_owned());
    node.pulse_of_term(PRIMARY | flag::SYNC, 6);
    node.dead();
    assert!(!node.did(&Action::Promote));
    assert!(node.core.snapshot().refusal.is_some_and(|refusal| refusal.contains("not on disk")));
    node.disk = Ok(());
    assert!(node.pass(RETRY).contains(&Action::Promote));
}

#[test]
fn a_term_heard_during_the_promotion_does_not_change_ours() {
    let mut node = Node::standby();
    node.dead();
    node.pulse_of_term(PRIMARY, 9);
    assert_eq!(stored(&node).reserved, 2);
    node.promoted();
    assert!(node.did(&Action::Stop(StopMode::Fast)), "theirs is later");
}

#[test]
fn a_fresh_primary_stores_its_first_term_before_it_serves() {
    let rules = Rules { postgres: true, start_wait: ms(500), ..rules(100) };
    let mut node = Node::of_terms(rules, Terms::default(), ms(10_000));
    node.disk = Err("no space".to_owned());
    node.feed(Input::Link(true));
    node.says(primary(1));
    node.pulse_of_term(flag::PG_UP, 0);
    assert!(!node.did(&Action::Serve));
    node.disk = Ok(());
    assert!(node.pass(RETRY).contains(&Action::Serve));
    assert_eq!(stored(&node), Terms { seen: 1, mine: 1, reserved: 0, waived: 0 });
}

#[test]
fn of_two_primaries_the_later_term_wins_whatever_the_timelines() {
    for (theirs, stands_down) in [(4, false), (6, true)] {
        let mut node = Node::with(primary(1));
        node.core.terms = Terms { seen: 5, mine: 5, reserved: 0, waived: 0 };
        node.pulse_of_term(flag::PG_UP, 5);
        node.served();
        node.pulse_of_term(PRIMARY, theirs);
        assert_eq!(node.did(&Action::Stop(StopMode::Fast)), stands_down, "{theirs}");
    }
}

#[test]
fn a_timeline_tells_of_a_later_primary_where_no_pulse_did() {
    let mut node = Node::standby();
    node.says(standby(5));
    assert_eq!(stored(&node), Terms { seen: 5, mine: 0, reserved: 6, waived: 0 });
    // Promoted by hand: its term follows.
    let mut node = Node::primary();
    node.says(primary(4));
    assert_eq!(stored(&node), Terms { seen: 4, mine: 4, reserved: 0, waived: 0 });
}

#[test]
fn of_two_former_primaries_the_later_one_starts() {
    let mut later = former(Terms { seen: 4, mine: 4, reserved: 0, waived: 0 });
    later.pulse_of_term(flag::FORMER, 3);
    assert!(starts_as_primary(&later));
    let mut earlier = former(Terms { seen: 3, mine: 3, reserved: 0, waived: 0 });
    earlier.pulse_of_term(flag::FORMER, 4);
    earlier.pass(ms(60_000));
    assert!(!starts_as_primary(&earlier));
}

#[test]
fn having_heard_of_a_later_term_is_not_having_been_its_primary() {
    // It saw the peer take over in term 4, and crashed before it could rejoin; then the peer crashed too.
    let mut node = former(Terms { seen: 4, mine: 3, reserved: 0, waived: 0 });
    node.pulse_of_term(flag::FORMER, 4);
    node.pass(ms(60_000));
    assert!(!starts_as_primary(&node));
}

#[test]
fn a_reservation_of_a_node_that_is_no_standby_any_more_was_used() {
    // Promoted, and crashed before it could write that it was.
    let mut node = former(Terms { seen: 3, mine: 1, reserved: 4, waived: 0 });
    assert_eq!(stored(&node), Terms { seen: 4, mine: 4, reserved: 0, waived: 0 });
    node.pulse_of_term(flag::FORMER, 3);
    assert!(starts_as_primary(&node));
}

#[test]
fn former_primaries_of_one_term_wait_for_a_human() {
    let mut node = former(Terms { seen: 3, mine: 3, reserved: 0, waived: 0 });
    node.pulse_of_term(flag::FORMER, 3);
    node.pass(ms(60_000));
    assert!(!starts_as_primary(&node));
    assert!(node.core.why.contains("pg_ctl"), "{}", node.core.why);
}

#[test]
fn a_running_primary_that_a_later_one_followed_does_not_serve_while_that_one_is_silent() {
    let rules = Rules { postgres: true, start_wait: ms(500), ..rules(100) };
    let mut node = Node::of_terms(rules, Terms { seen: 4, mine: 3, reserved: 0, waived: 0 }, ms(10_000));
    node.feed(Input::Link(true));
    node.says(primary(1));
    node.feed(Input::PeerPostgres(None));
    node.pass(ms(5_000));
    node.feed(Input::PeerPostgres(None));
    node.pass(ms(5_000));
    assert!(!node.did(&Action::Serve));
    assert!(node.core.why.contains("term 3"), "{}", node.core.why);
}

#[test]
fn what_a_former_primary_was_is_on_disk_before_it_rejoins() {
    let rules = Rules { postgres: true, start_wait: ms(500), ..rules(100) };
    let mut node = Node::of_terms(rules, Terms { seen: 1, mine: 0, reserved: 2, waived: 0 }, ms(10_000));
    node.disk = Err("no space".to_owned());
    node.feed(Input::Link(true));
    node.news(Postgres::AtRest(at_rest(1)));
    node.pulse_of_term(PRIMARY, 3);
    assert!(!node.did(&REJOIN));
    node.disk = Ok(());
    assert!(node.pass(RETRY).contains(&REJOIN));
}
