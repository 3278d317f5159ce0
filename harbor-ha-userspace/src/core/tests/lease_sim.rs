//! What the simulator found in the lease's core, one schedule each, made short and told by hand.

use harbor_ha_ebpf::records::Order;

use super::*;
use crate::core::rules::{Isolated, LeaseRules};
use crate::core::witness::{Answer, WitnessCall};

const D: Nanos = ms(30);
/// A primary that serves by our echoes, and whose commits wait for us.
const LEASED: u16 = PRIMARY | flag::SYNC | flag::LEASED;

fn rules_of_the_lease(isolated: Isolated) -> Rules {
    let lease = LeaseRules::new(D, true, ms(1000), ms(5000), isolated);
    Rules { postgres: true, start_wait: ms(500), lease: Some(lease), ..rules(100) }
}

fn node(isolated: Isolated, terms: Terms, adopted: Adopted) -> Node {
    let mut node = Node::of_terms(rules_of_the_lease(isolated), terms, ms(10_000));
    node.core = Core::new(rules_of_the_lease(isolated), terms, adopted, ms(10_000));
    node.feed(Input::Link(true));
    node
}

impl Node {
    /// The other node says this of itself, in this term and at this position.
    fn hears(&mut self, kind: VerdictKind, flags: u16, term: u64, lsn: u64) {
        let timeline = if term > 2 { 2 } else { 1 };
        let verdict = Verdict {
            at: self.now,
            last_heard: self.now,
            kind,
            source: Source::Pulse,
            priority: 90,
            flags,
            term,
            timeline,
            lsn,
            system_identifier: 7,
        };
        self.feed(Input::Verdict(verdict));
    }

    fn order(&self) -> Order {
        self.core.lease.order
    }
}

/// A standby of a primary of term 2.
fn standby_of(isolated: Isolated, flags: u16, lsn: u64) -> Node {
    let mut node = node(isolated, Terms { seen: 2, mine: 0, reserved: 3, waived: 0 }, Adopted::default());
    node.says(standby(1));
    node.hears(VerdictKind::Alive, flags, 2, lsn);
    node
}

#[test]
fn a_directory_of_a_standby_is_started_as_one_although_an_operator_wants_it_anew() {
    let mut node = standby_of(Isolated::Hold, LEASED, 100);
    node.feed(Input::Command(Command::Reinit));
    node.hears(VerdictKind::Resigned, flag::RESIGN | flag::SYNC, 2, 100);
    node.done(Done::Stop(Ok(())));
    node.news(Postgres::AtRest(AtRest { standby_signal: true, ..at_rest(1) }));
    assert!(node.did(&Action::Start { standby: true }) && !node.did(&Action::Start { standby: false }));
}

#[test]
fn a_restarted_daemon_reads_its_promise_although_its_order_is_the_one_in_force() {
    let shut = Order { hang_ns: ms(1000).0, ..Order::default() };
    let terms = Terms { seen: 2, mine: 2, reserved: 0, waived: 0 };
    let node = node(Isolated::Hold, terms, Adopted { order: shut, ..Adopted::default() });
    assert!(node.did.iter().any(|action| matches!(action, Action::Order(order) if order.echo == 0)));
    assert_eq!(node.core.lease.promise, Some(node.promise));
}

#[test]
fn a_primary_at_rest_says_where_its_log_ended() {
    let terms = Terms { seen: 2, mine: 2, reserved: 0, waived: 0 };
    let mut node = node(Isolated::Hold, terms, Adopted::default());
    node.says(PgFacts { lsn: Lsn(900), ..primary(1) });
    node.news(Postgres::Exited);
    node.news(Postgres::AtRest(at_rest(1)));
    assert_eq!(node.core.pulse.lsn, 900);
}

#[test]
fn a_standby_that_commits_did_not_wait_for_does_not_take_over_however_much_it_has() {
    let mut node = standby_of(Isolated::Hold, LEASED & !flag::SYNC, 1);
    node.hears(VerdictKind::Resigned, flag::RESIGN, 2, 1);
    assert!(matches!(node.core.refusal(), Some(NotPromotable::Behind { .. })), "{:?}", node.core.refusal());
}

#[test]
fn a_standby_that_was_named_before_it_had_caught_up_does_not_take_over() {
    for (named_at, refused) in [(100, false), (101, true)] {
        // It has the log up to 100.
        let mut node = standby_of(Isolated::Hold, LEASED, named_at);
        node.hears(VerdictKind::Resigned, flag::RESIGN | flag::SYNC, 2, 500);
        assert_eq!(node.core.refusal().is_some(), refused, "named at {named_at}: {:?}", node.core.refusal());
    }
}

#[test]
fn a_primary_of_an_earlier_term_is_not_granted_the_lease() {
    let mut node = standby_of(Isolated::Hold, LEASED, 100);
    assert_eq!(node.order().echo, 1);
    node.core.terms = Terms { seen: 3, mine: 3, reserved: 5, waived: 0 };
    node.hears(VerdictKind::Said, LEASED, 2, 100);
    assert_eq!(node.order().echo, 0);
}

#[test]
fn a_successor_at_rest_starts_again_and_does_not_rejoin_the_one_that_it_succeeded() {
    let terms = Terms { seen: 3, mine: 3, reserved: 0, waived: 0 };
    let mut node = node(Isolated::Hold, terms, Adopted::default());
    node.news(Postgres::AtRest(at_rest(2)));
    node.hears(VerdictKind::Alive, LEASED, 2, 100);
    assert!(node.did(&Action::Start { standby: false }) && !node.did(&REJOIN));
}

#[test]
fn a_standby_in_the_words_of_a_stale_kernel_is_no_reason_for_a_new_term() {
    for (hangs, term, takes) in [(false, 3, true), (false, 2, false), (true, 3, false)] {
        let terms = Terms { seen: 3, mine: 2, reserved: 0, waived: 0 };
        let mut node = node(Isolated::Hold, terms, Adopted::default());
        node.says(primary(2));
        node.core.terms = Terms { seen: 3, mine: 2, reserved: 0, waived: 0 };
        node.core.peer.pulse.hung = hangs;
        node.hears(VerdictKind::Said, flag::PG_UP, term, 100);
        assert_eq!(node.core.terms.mine > 3, takes, "hangs {hangs}, term {term}: {:?}", node.core.terms);
    }
}

#[test]
fn a_refusal_of_the_witness_is_no_reason_to_stand_down_before_a_peer_that_lives() {
    let terms = Terms { seen: 2, mine: 2, reserved: 0, waived: 0 };
    let call = WitnessCall::Acquire { term: 2, follows: 0 };
    for (lives, stands_down) in [(true, false), (false, true)] {
        let mut node = node(Isolated::Witness, terms, Adopted::default());
        node.says(primary(1));
        node.hears(VerdictKind::Alive, flag::PG_UP, 2, 100);
        assert_eq!(node.core.state, VrrpState::Master);
        node.served();
        node.pass(ms(100));
        if !lives {
            node.hears(VerdictKind::Dead, flag::PG_UP, 2, 100);
        }
        node.feed(Input::Lease(Nanos(0)));
        let answer = Answer::Refused("a later term was granted".to_owned());
        node.done(Done::Witness { call, asked: node.now, answer });
        assert_eq!(node.did(&Action::Stop(StopMode::Fast)), stands_down, "lives: {lives}");
    }
}

#[test]
fn a_primary_that_the_witness_has_outrun_goes_on_in_a_later_term_once_its_standby_is_back() {
    let terms = Terms { seen: 2, mine: 2, reserved: 0, waived: 0 };
    let call = WitnessCall::Acquire { term: 2, follows: 0 };
    let outrun = Answer::Outrun { term: 5, why: "term 5 was granted to b".to_owned() };
    let mut node = node(Isolated::Witness, terms, Adopted::default());
    node.says(primary(1));
    node.hears(VerdictKind::Alive, flag::PG_UP, 2, 100);
    node.served();
    node.done(Done::Witness { call, asked: node.now, answer: outrun });
    assert_eq!(node.core.pulse.flags & flag::ASKS_WAIVER, 0, "a standby that does not stream keeps its right");
    node.feed(Input::Lease(node.now.after(ms(500))));
    let names = "peer".to_owned();
    node.says(PgFacts { streaming: true, peer_is_sync: true, peer_has_tail: true, sync_names: names, ..primary(1) });
    assert_ne!(node.core.pulse.flags & flag::ASKS_WAIVER, 0);
    assert_eq!(node.core.terms.mine, 2, "not before the standby has given up its right in this one");
    node.hears(VerdictKind::Said, flag::PG_UP | flag::WAIVED, 2, 100);
    assert_eq!(node.core.pulse.flags & (flag::LEASED | flag::ASKS_WAIVER), 0);
    node.hears(VerdictKind::Said, flag::PG_UP, 2, 100);
    assert_eq!(node.core.terms.mine, 7, "this node's next above the one that was granted: {:?}", node.did);
    assert_ne!(node.core.pulse.flags & flag::LEASED, 0);
}

#[test]
fn a_lease_is_low_by_what_was_read_and_not_by_how_long_ago() {
    let terms = Terms { seen: 2, mine: 2, reserved: 0, waived: 0 };
    let mut node = node(Isolated::Serve, terms, Adopted::default());
    node.says(primary(1));
    node.hears(VerdictKind::Alive, flag::PG_UP, 2, 100);
    node.feed(Input::Lease(node.now.after(ms(12))));
    node.now = node.now.after(ms(5));
    node.feed(Input::Wake);
    assert_eq!(node.core.lease.limit, Nanos(0));
    node.feed(Input::Lease(node.now.after(ms(7))));
    assert_ne!(node.core.lease.limit, Nanos(0));
}

#[test]
fn a_paused_node_says_so_in_its_refusal() {
    let mut node = standby_of(Isolated::Hold, LEASED, 100);
    node.feed(Input::Command(Command::Pause));
    assert!(node.core.snapshot().refusal.is_some_and(|refusal| refusal.contains("harbor-ha resume")));
}
