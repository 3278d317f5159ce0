//! By what right a node serves: docs/protocol.md, sentence by sentence.

use harbor_ha_ebpf::records::Order;

use super::super::promotable::NotPromotable;
use super::super::rules::{Isolated, LeaseRules};
use super::super::witness::{Answer, WitnessCall};
use super::*;

const D: Nanos = ms(30);
/// A peer that serves by our echoes, this node its synchronous standby.
const LEASED: u16 = PRIMARY | flag::LEASED | flag::SYNC;
const FOREVER: u64 = u64::MAX;

pub(super) fn leased(isolated: Isolated) -> Rules {
    let lease = LeaseRules::new(D, true, ms(1000), ms(30_000), isolated);
    Rules { postgres: true, start_wait: ms(500), lease: Some(lease), ..rules(100) }
}

/// A node that knows its link, its server, and terms that fit.
fn node(isolated: Isolated, facts: PgFacts, terms: Terms, adopted: Adopted) -> Node {
    let now = ms(10_000);
    let mut node = Node::of_terms(leased(isolated), terms, now);
    node.core = Core::new(leased(isolated), terms, adopted, now);
    node.feed(Input::Link(true));
    node.says(facts);
    node
}

pub(super) fn standby_of(isolated: Isolated, flags: u16) -> Node {
    let terms = Terms { seen: 2, mine: 0, reserved: 3, waived: 0 };
    let mut node = node(isolated, standby(2), terms, Adopted::default());
    node.pulse(flags, 2);
    node
}

fn streamed() -> PgFacts {
    PgFacts { streaming: true, peer_is_sync: true, peer_has_tail: true, sync_names: "peer".to_owned(), ..primary(1) }
}

/// A primary of term 1 that is leased, its standby alive.
fn primary_of(isolated: Isolated) -> Node {
    let terms = Terms { seen: 1, mine: 1, ..Terms::default() };
    let mut node = node(isolated, streamed(), terms, Adopted::default());
    node.leased = node.now.after(D);
    node.pulse(flag::PG_UP, 1);
    node.served();
    assert_eq!(node.core.state, VrrpState::Master);
    node
}

fn order(node: &Node) -> Order {
    node.core.lease.order
}

/// Where in what was done an action is.
fn at(node: &Node, wanted: impl Fn(&Action) -> bool) -> Option<usize> {
    node.did.iter().position(wanted)
}

fn acquire(term: u64, follows: u64) -> Action {
    Action::Witness(WitnessCall::Acquire { term, follows })
}

pub(super) fn answer(node: &mut Node, call: WitnessCall, answer: Answer) {
    let asked = node.now;
    node.done(Done::Witness { call, asked, answer });
}

#[test]
fn a_standby_echoes_and_a_primary_does_not() {
    assert_eq!(order(&standby_of(Isolated::Hold, LEASED)).echo, 1);
    let primary = primary_of(Isolated::Hold);
    assert_eq!((order(&primary).echo, order(&primary).serving_term, order(&primary).solo_until_ns), (0, 1, 0));
}

#[test]
fn a_dead_primary_is_succeeded_after_the_promise_and_the_gate_opens_after_the_promotion() {
    let mut node = standby_of(Isolated::Hold, LEASED);
    node.promise = node.now.after(ms(7));
    node.dead();
    assert_eq!(order(&node).echo, 0);
    assert!(!node.did(&Action::Promote), "the promise is not over");
    node.pass(ms(7));
    assert!(node.did(&Action::Promote) && node.did(&Action::Prepare));
    node.promoted();
    let wanted = Order { serving_term: 3, echo: 0, solo: 1, solo_until_ns: FOREVER, hang_ns: 1_000_000_000 };
    assert_eq!(order(&node), wanted);
    let ordered = at(&node, |action| matches!(action, Action::Order(_)));
    assert!(ordered.is_some() && ordered < at(&node, |action| *action == Action::Serve));
}

#[test]
fn a_primary_that_served_alone_may_serve_still() {
    let mut node = standby_of(Isolated::Hold, PRIMARY | flag::SYNC);
    node.dead();
    assert!(!node.did(&Action::Promote));
    assert_eq!(node.core.refusal, Some(NotPromotable::NoRight));
    assert_eq!(order(&node).echo, 1, "and its stamps are echoed on");
}

#[test]
fn who_waives_does_not_take_over_unless_an_operator_insists() {
    let mut node = standby_of(Isolated::Hold, LEASED);
    node.pulse(LEASED | flag::ASKS_WAIVER, 2);
    assert_eq!(node.core.terms.waived, 2);
    assert_ne!(node.core.pulse.flags & flag::WAIVED, 0);
    node.dead();
    node.pass(ms(1000));
    assert_eq!(node.core.refusal, Some(NotPromotable::Waived { term: 2 }));
    node.feed(Input::Command(Command::Failover));
    assert!(node.did(&Action::Promote));
    assert_eq!(node.core.takeover.map(|takeover| takeover.why), Some("ordered"));
}

#[test]
fn a_waiver_is_said_only_when_it_is_on_disk() {
    let mut node = standby_of(Isolated::Hold, LEASED);
    node.disk = Err("full".to_owned());
    node.pulse(LEASED | flag::ASKS_WAIVER, 2);
    assert_eq!(node.core.pulse.flags & flag::WAIVED, 0);
    assert!(!node.core.has_right(), "what is about to be waived is not used");
}

#[test]
fn a_waived_right_comes_back_in_a_new_term_only() {
    let mut node = standby_of(Isolated::Hold, LEASED);
    node.pulse(LEASED | flag::ASKS_WAIVER, 2);
    node.pulse(PRIMARY, 2);
    assert_eq!(node.core.pulse.flags & flag::WAIVED, 0, "heard: nothing more to say");
    node.pulse(LEASED, 2);
    assert_eq!(node.core.terms.waived, 2, "an old packet could make the primary rely on it again");
    assert!(!node.core.has_right());
    node.pulse(LEASED, 4);
    assert!(node.core.has_right());
}

#[test]
fn a_primary_takes_a_new_term_to_count_on_a_standby_that_waived() {
    let mut node = primary_of(Isolated::Hold);
    node.leased = Nanos(u64::MAX);
    node.pulse(flag::PG_UP | flag::WAIVED, 1);
    node.pulse(flag::PG_UP, 1);
    node.pass(ms(10));
    assert_eq!(node.core.terms.mine, 3);
    assert_eq!((order(&node).serving_term, order(&node).solo), (3, 0));
    assert_eq!((node.core.pulse.term, node.core.pulse.flags & flag::LEASED), (3, flag::LEASED));
    let opened = node.did.iter().all(|action| !matches!(action, Action::Order(order) if order.serving_term == 0));
    assert!(opened, "the gate stays open: {:?}", node.did);
}

#[test]
fn a_new_term_that_cannot_be_stored_leaves_the_gate_open_in_the_old_one() {
    let mut node = primary_of(Isolated::Hold);
    node.leased = Nanos(u64::MAX);
    node.pulse(flag::PG_UP | flag::WAIVED, 1);
    node.disk = Err("full".to_owned());
    node.pulse(flag::PG_UP, 1);
    let did = node.pass(ms(5000));
    assert!(did.iter().all(|action| !matches!(action, Action::Order(order) if order.serving_term != 1)), "{did:?}");
    assert_eq!((order(&node).serving_term, order(&node).solo), (1, 1));
}

#[test]
fn a_waiver_on_its_way_to_the_disk_is_one() {
    let mut node = standby_of(Isolated::Hold, LEASED);
    node.core.storing = Some(Terms { waived: 2, ..node.core.terms });
    node.dead();
    node.pass(ms(100));
    assert!(!node.did(&Action::Promote));
    assert_eq!(node.core.refusal, Some(NotPromotable::Waived { term: 2 }));
}

#[test]
fn new_maps_may_have_forgotten_a_promise() {
    let terms = Terms { seen: 1, mine: 1, ..Terms::default() };
    let fresh = Adopted { forgotten: true, ..Adopted::default() };
    let mut node = node(Isolated::Hold, streamed(), terms, fresh);
    node.pulse(flag::PG_UP, 1);
    assert_eq!((node.core.state, order(&node).serving_term), (VrrpState::Master, 0));
    node.pass(ms(600));
    assert_eq!(order(&node).serving_term, 1);
}

#[test]
fn a_restarted_standby_says_its_waiver_until_it_is_heard() {
    let terms = Terms { seen: 2, mine: 0, reserved: 3, waived: 2 };
    let mut node = node(Isolated::Hold, standby(2), terms, Adopted::default());
    node.pulse(LEASED, 2);
    assert_ne!(node.core.pulse.flags & flag::WAIVED, 0);
    assert_eq!(node.core.terms.waived, 2, "the primary may still hear of it");
    assert!(!node.core.has_right());
}

#[test]
fn a_standby_that_ends_waits_until_the_primary_does_without_it() {
    let mut node = standby_of(Isolated::Hold, LEASED);
    node.feed(Input::Command(Command::Terminate));
    assert!(!node.did(&Action::Exit));
    assert_eq!(node.core.terms.waived, 2);
    node.pulse(PRIMARY, 2);
    assert!(node.did(&Action::Exit));
}

#[test]
fn a_standby_that_ends_does_not_wait_for_ever() {
    let mut node = standby_of(Isolated::Hold, LEASED);
    node.feed(Input::Command(Command::Terminate));
    node.pass(ms(1000));
    assert!(node.did(&Action::Exit));
}

#[test]
fn a_hung_primary_is_succeeded_and_one_that_wakes_in_time_is_not() {
    let mut node = standby_of(Isolated::Hold, LEASED);
    node.promise = node.now.after(D);
    node.verdict(VerdictKind::Hung, Source::Pulse, 90, LEASED, 2);
    assert_eq!(order(&node).echo, 0);
    node.verdict(VerdictKind::Awake, Source::Pulse, 90, LEASED, 2);
    assert_eq!(order(&node).echo, 1);
    node.pass(ms(100));
    assert!(!node.did(&Action::Promote));
    node.promise = node.now.after(D);
    node.verdict(VerdictKind::Hung, Source::Pulse, 90, LEASED, 2);
    node.pass(D);
    assert!(node.did(&Action::Promote));
}

#[test]
fn the_silence_of_adverts_wakes_no_hung_primary() {
    let mut node = standby_of(Isolated::Hold, LEASED);
    node.verdict(VerdictKind::Alive, Source::Advert, 90, 0, 0);
    node.promise = node.now.after(D);
    node.verdict(VerdictKind::Hung, Source::Pulse, 90, LEASED, 2);
    // Its daemon sends none while it hangs.
    node.verdict(VerdictKind::Missed, Source::Advert, 90, 0, 0);
    node.verdict(VerdictKind::Dead, Source::Advert, 90, 0, 0);
    assert_eq!(order(&node).echo, 0);
    node.pass(D);
    assert!(node.did(&Action::Promote));
    // By this it is decided whether it is fenced.
    assert_eq!(node.core.snapshot().takeover.expect("one").why, "hung");
    assert!(!node.core.tells_cloud().peer_heard, "its kernel alone answers");
}

#[test]
fn a_hold_is_longer_than_a_hang() {
    let mut node = standby_of(Isolated::Hold, LEASED);
    node.pulse(LEASED | flag::HOLD, 2);
    assert_ne!(node.core.pulse.flags & flag::HOLDS, 0);
    node.verdict(VerdictKind::Hung, Source::Pulse, 90, LEASED | flag::HOLD, 2);
    node.pass(ms(29_000));
    assert!(!node.did(&Action::Promote));
    node.pass(ms(1100));
    assert!(node.did(&Action::Promote));
}

#[test]
fn a_resigned_primary_is_succeeded_at_once_and_its_gate_waited_for() {
    let mut node = standby_of(Isolated::Hold, LEASED);
    node.promise = node.now.after(ms(1000));
    node.pulse(flag::RESIGN | flag::SYNC | flag::PG_UP, 2);
    assert!(node.did(&Action::Promote));
    node.promoted();
    assert_eq!(order(&node).serving_term, 0);
    node.pass(ms(1000));
    assert_eq!((order(&node).serving_term, order(&node).solo), (3, 1));
}

#[test]
fn solo_ends_when_a_standby_follows_and_ends_before_it_is_said() {
    let mut node = standby_of(Isolated::Hold, LEASED);
    node.dead();
    node.pass(ms(1));
    node.promoted();
    node.served();
    assert_eq!(node.core.pulse.flags & flag::LEASED, 0);
    node.says(PgFacts { timeline: 3, ..streamed() });
    node.leased = node.now.after(ms(1000));
    node.verdict(VerdictKind::Alive, Source::Pulse, 90, flag::PG_UP, 3);
    node.pass(ms(10));
    assert_eq!((order(&node).solo, order(&node).solo_until_ns), (0, 0));
    assert_ne!(node.core.pulse.flags & flag::LEASED, 0);
    let ordered = at(&node, |action| matches!(action, Action::Order(order) if order.solo == 0));
    let said = at(&node, |action| matches!(action, Action::Pulse(pulse) if pulse.flags & flag::LEASED != 0));
    assert!(ordered.is_some() && said.is_some() && ordered < said, "{:?}", node.did);
}

#[test]
fn a_primary_whose_standby_waives_serves_alone() {
    let mut node = primary_of(Isolated::Hold);
    node.pulse(flag::PG_UP | flag::WAIVED, 1);
    assert_eq!((order(&node).solo, order(&node).solo_until_ns), (1, FOREVER));
    assert_eq!(node.core.pulse.flags & flag::LEASED, 0);
}

#[test]
fn a_waiver_of_another_term_is_none() {
    let mut node = primary_of(Isolated::Hold);
    node.pulse(flag::PG_UP | flag::WAIVED, 0);
    assert_eq!(order(&node).solo, 0);
}

#[test]
fn without_its_standby_a_primary_holds_or_serves_as_configured() {
    let mut hold = primary_of(Isolated::Hold);
    hold.pass(ms(100));
    assert_eq!(order(&hold).solo_until_ns, 0);
    let mut serve = primary_of(Isolated::Serve);
    serve.pass(ms(100));
    assert_eq!((order(&serve).solo, order(&serve).solo_until_ns), (0, FOREVER));
    assert_ne!(serve.core.pulse.flags & flag::LEASED, 0, "its standby keeps its right");
    serve.leased = serve.now.after(ms(500));
    serve.pulse(flag::PG_UP, 1);
    serve.pass(ms(20));
    assert_eq!(order(&serve).solo_until_ns, 0);
}

#[test]
fn with_a_witness_a_primary_asks_before_its_lease_is_over() {
    let mut node = primary_of(Isolated::Witness);
    node.pass(ms(25));
    assert!(node.did(&acquire(1, 0)), "{:?}", node.did);
    answer(&mut node, WitnessCall::Acquire { term: 1, follows: 0 }, Answer::Granted { ttl: ms(2000) });
    assert_eq!(order(&node).solo_until_ns, node.now.after(ms(1800)).0);
    node.leased = node.now.after(ms(500));
    node.pulse(flag::PG_UP, 1);
    node.pass(ms(20));
    let ordered = at(&node, |action| matches!(action, Action::Order(order) if order.solo_until_ns == 0));
    let released = at(&node, |action| matches!(action, Action::Witness(WitnessCall::Release { .. })));
    assert!(ordered.is_some() && ordered < released, "{:?}", node.did);
}

#[test]
fn a_primary_that_the_witness_refuses_stands_down() {
    let mut node = primary_of(Isolated::Witness);
    node.dead();
    node.pass(ms(100));
    let refused = Answer::Refused("b holds it in term 2".to_owned());
    answer(&mut node, WitnessCall::Acquire { term: 1, follows: 0 }, refused);
    assert!(node.did(&Action::Stop(StopMode::Fast)));
    assert_eq!(order(&node).serving_term, 0);
}

#[test]
fn a_witness_that_is_away_changes_nothing_while_the_peer_grants() {
    let mut node = primary_of(Isolated::Witness);
    node.pass(ms(20));
    let away = Answer::Unreachable("no route".to_owned());
    answer(&mut node, WitnessCall::Acquire { term: 1, follows: 0 }, away);
    node.leased = node.now.after(ms(500));
    node.pass(ms(400));
    assert_eq!((order(&node).serving_term, node.core.state), (1, VrrpState::Master));
}

#[test]
fn a_standby_asks_the_witness_before_it_promotes() {
    let mut node = standby_of(Isolated::Witness, LEASED);
    node.dead();
    node.pass(ms(50));
    assert!(!node.did(&Action::Promote));
    answer(&mut node, WitnessCall::Acquire { term: 3, follows: 2 }, Answer::Granted { ttl: ms(2000) });
    assert!(node.did(&Action::Promote));
    node.promoted();
    assert_eq!((order(&node).solo, order(&node).solo_until_ns), (0, node.now.after(ms(1800)).0));
}

#[test]
fn a_restart_goes_on_where_the_gate_was() {
    let terms = Terms { seen: 3, mine: 3, ..Terms::default() };
    let before = Order { serving_term: 3, echo: 0, solo: 1, solo_until_ns: FOREVER, hang_ns: 1_000_000_000 };
    let mut node = node(Isolated::Hold, primary(3), terms, Adopted { order: before, ..Adopted::default() });
    assert_eq!(order(&node), before, "{:?}", node.did);
    node.pulse(flag::PG_UP, 3);
    assert_eq!((order(&node), node.core.state), (before, VrrpState::Master));
    let other = Order { serving_term: 1, ..before };
    assert_eq!(Lease::new(other, 3, ms(1)).promise, None, "the gate of another term is none of this run's");
}

#[test]
fn a_started_primary_waits_for_its_standby_to_have_the_tail() {
    let terms = Terms { seen: 1, mine: 1, ..Terms::default() };
    let mut node = Node::of_terms(leased(Isolated::Hold), terms, ms(10_000));
    node.feed(Input::Link(true));
    node.news(Postgres::AtRest(at_rest(1)));
    node.pulse(flag::PG_UP, 1);
    node.feed(Input::PeerPostgres(Some(standby(1))));
    assert!(node.did(&Action::Start { standby: false }));
    node.done(Done::Start(Ok(())));
    node.says(PgFacts { sync_names: "peer".to_owned(), ..primary(1) });
    node.pass(ms(1000));
    assert_eq!((node.core.state, order(&node).serving_term), (VrrpState::Master, 0));
    node.says(streamed());
    assert_eq!(order(&node).serving_term, 1);
}

#[test]
fn preferred_synchrony_ends_only_when_the_standby_has_waived() {
    let mut node = primary_of(Isolated::Hold);
    node.core.rules.sync = SyncPolicy::Preferred;
    let broken = PgFacts { streaming: false, peer_is_sync: false, ..streamed() };
    node.leased = Nanos(u64::MAX);
    node.says(broken.clone());
    node.pass(ms(6000));
    node.says(broken);
    assert_ne!(node.core.pulse.flags & flag::ASKS_WAIVER, 0);
    assert!(!node.did(&Action::SetSync { peer: false }));
    node.pulse(flag::PG_UP | flag::WAIVED, 1);
    assert!(node.did(&Action::SetSync { peer: false }), "{:?}", node.did);
}

#[test]
fn while_paused_nothing_is_done_and_the_gate_goes_on() {
    let mut node = standby_of(Isolated::Hold, LEASED);
    node.feed(Input::Command(Command::Pause));
    node.dead();
    node.pass(ms(1000));
    assert!(!node.did(&Action::Promote));
    assert!(node.core.snapshot().refusal.is_some_and(|why| why.contains("resume")));
    node.feed(Input::Command(Command::Resume));
    node.pass(ms(1000));
    assert_eq!(node.core.op, Some(Op::Promote));
}

#[test]
fn terms_of_two_nodes_never_meet() {
    let odd = LeaseRules::new(D, true, ms(1000), ms(1000), Isolated::Hold);
    let even = LeaseRules::new(D, false, ms(1000), ms(1000), Isolated::Hold);
    for known in 0..10 {
        assert!(odd.next_term(known) > known && odd.next_term(known) % 2 == 1);
        assert!(even.next_term(known) > known && even.next_term(known).is_multiple_of(2));
    }
}
