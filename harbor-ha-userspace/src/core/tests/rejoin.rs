//! A node that does not serve: a former primary, a standby at rest, a daemon that came back.

use super::*;

/// PostgreSQL does not run here.
fn resting(rest: AtRest) -> Node {
    let mut node = Node::new(Rules { postgres: true, start_wait: ms(500), ..rules(100) });
    node.feed(Input::Link(true));
    node.news(Postgres::AtRest(rest));
    node
}

fn starts(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Start { .. }))
}

#[test]
fn a_former_primary_asks_and_never_starts_unasked() {
    let mut node = resting(at_rest(1));
    assert!(node.asks());
    let mut questions = 0;
    for _ in 0..100 {
        node.feed(Input::PeerPostgres(None));
        let did = node.pass(ASK);
        questions += did.iter().filter(|&action| *action == Action::AskPeer).count();
        assert!(!starts(&did));
    }
    assert_eq!(questions, 100);
}

#[test]
fn a_former_primary_rejoins_a_peer_that_is_the_primary_by_pulse_or_by_answer() {
    let mut node = resting(at_rest(1));
    node.pulse(PRIMARY, 2);
    assert!(node.did(&REJOIN));
    let mut node = resting(at_rest(1));
    node.feed(Input::PeerPostgres(Some(primary(2))));
    assert!(node.did(&REJOIN));
}

#[test]
fn a_former_primary_starts_when_the_peer_is_a_standby_of_no_later_timeline() {
    let mut node = resting(at_rest(2));
    node.feed(Input::PeerPostgres(Some(standby(3))));
    assert!(!starts(&node.did));
    node.pass(ASK);
    node.feed(Input::PeerPostgres(Some(standby(2))));
    assert!(node.did(&Action::Start { standby: false }));
}

#[test]
fn an_answer_from_before_the_resignation_ran_out_starts_nothing() {
    let mut node = Node::primary();
    node.news(Postgres::Exited);
    node.done(Done::Stop(Ok(())));
    node.pulse(flag::PG_UP, 1);
    node.news(Postgres::AtRest(at_rest(1)));
    while node.core.resigned {
        assert!(!starts(&node.did));
        if node.asks() {
            node.feed(Input::PeerPostgres(Some(standby(1))));
        }
        node.pass(ms(1));
    }
    assert!(node.now >= ms(10_000).after(RESIGN_PATIENCE));
    node.feed(Input::PeerPostgres(Some(standby(1))));
    assert!(node.did(&Action::Start { standby: false }));
}

#[test]
fn a_former_primary_does_not_start_while_the_peer_promotes() {
    let mut node = resting(at_rest(1));
    node.pulse(flag::PG_UP | flag::PG_PRIMARY, 1);
    node.feed(Input::PeerPostgres(Some(standby(1))));
    assert!(!starts(&node.did));
}

#[test]
fn a_former_primary_starts_when_the_peer_was_rejoining_it_unless_it_rejoins_itself() {
    let mut node = resting(at_rest(2));
    node.pulse(flag::REJOIN, 1);
    assert!(node.did(&Action::Start { standby: false }));
    let mut node = resting(AtRest { rejoin_pending: true, ..at_rest(2) });
    assert!(node.did.iter().any(|action| matches!(action, Action::Pulse(pulse) if pulse.flags & flag::REJOIN != 0)));
    node.pulse(flag::REJOIN, 1);
    assert!(!starts(&node.did));
    let mut node = resting(at_rest(2));
    node.pulse(flag::REJOIN, 1);
    node.done(Done::Start(Err("no".to_owned())));
    node.news(Postgres::AtRest(at_rest(2)));
    node.dead();
    assert!(!starts(&node.pass(ms(60_000))), "what it said before it died is old");
}

#[test]
fn a_begun_rejoin_never_starts_a_server() {
    for standby_signal in [false, true] {
        let mut node = resting(AtRest { rejoin_pending: true, standby_signal, ..at_rest(1) });
        node.feed(Input::PeerPostgres(Some(standby(1))));
        assert!(!starts(&node.did) && !starts(&node.pass(ms(60_000))));
        node.pulse(PRIMARY, 2);
        assert!(node.did(&REJOIN));
    }
}

#[test]
fn a_resigned_primary_waits_for_its_peer_no_longer_than_that_one_can_take_over() {
    for (flags, starts_at_once) in [(flag::PG_UP, false), (flag::PG_UP | flag::UNFIT, true), (flag::REJOIN, true)] {
        let mut node = Node::primary();
        node.says(PgFacts { streaming: true, peer_is_sync: true, sync_names: "b".to_owned(), ..primary(1) });
        node.news(Postgres::Exited);
        node.done(Done::Stop(Ok(())));
        node.news(Postgres::AtRest(at_rest(1)));
        let heard = starts(node.pulse(flags, 1));
        let answer = (flags & flag::PG_UP != 0).then(|| standby(1));
        let answered = starts(node.feed(Input::PeerPostgres(answer)));
        assert_eq!(heard || answered, starts_at_once, "{flags:#x}");
    }
}

#[test]
fn a_rejoin_is_said_to_the_primary_from_its_first_moment_to_its_last() {
    let mut node = resting(at_rest(1));
    node.feed(Input::PeerPostgres(Some(primary(2))));
    assert!(node.did(&REJOIN));
    let says = |node: &Node| node.core.pulse.flags & (flag::REJOIN | flag::FORMER);
    assert_eq!(says(&node), flag::REJOIN);
    node.news(Postgres::NotReady("starting up".to_owned()));
    assert_eq!(says(&node), flag::REJOIN);
    node.done(Done::Rejoin(Ok(())));
    node.says(standby(2));
    assert_eq!(says(&node), 0);
}

#[test]
fn a_rejoin_that_was_cut_short_after_the_start_is_brought_to_its_end_once_the_standby_streams() {
    let cut = |streaming| PgFacts { rejoin_pending: true, streaming, ..standby(2) };
    let mut node = Node::with(cut(false));
    node.pulse(PRIMARY, 2);
    assert!(!node.did(&REJOIN), "what it waits for may still come");
    node.news(Postgres::Facts(cut(true)));
    assert!(node.did(&REJOIN));
    node.done(Done::Rejoin(Ok(())));
    node.news(Postgres::Facts(PgFacts { streaming: true, ..standby(2) }));
    assert!(!node.pass(ms(1000)).contains(&REJOIN));
}

#[test]
fn a_standby_that_an_operator_wants_anew_during_a_rejoin_is_made_anew_after_it() {
    let mut node = Node::with(PgFacts { rejoin_pending: true, ..standby(2) });
    node.pulse(PRIMARY, 2);
    assert!(node.did(&REJOIN));
    node.feed(Input::Command(Command::Reinit));
    node.done(Done::Rejoin(Ok(())));
    assert!(node.core.snapshot().reinit, "who asked for it still waits");
    node.says(standby(2));
    assert!(node.did(&Action::Stop(StopMode::Fast)));
    node.done(Done::Stop(Ok(())));
    node.news(Postgres::AtRest(AtRest { standby_signal: true, ..at_rest(2) }));
    assert!(node.did(&Action::Rejoin { anew: true }));
    node.done(Done::Rejoin(Ok(())));
    assert!(!node.core.snapshot().reinit);
}

#[test]
fn a_rejoin_that_fails_is_tried_again_after_a_pause_and_asks_anew_who_the_primary_is() {
    let mut node = resting(at_rest(1));
    node.feed(Input::PeerPostgres(Some(primary(2))));
    node.done(Done::Rejoin(Err("no".to_owned())));
    node.news(Postgres::AtRest(at_rest(1)));
    assert!(!node.did(&REJOIN));
    let later = node.pass(RETRY);
    assert!(later.contains(&Action::AskPeer) && !later.contains(&REJOIN));
    node.feed(Input::PeerPostgres(Some(primary(2))));
    assert!(node.did(&REJOIN));
}

#[test]
fn a_standby_at_rest_starts_and_a_start_that_fails_is_tried_again_after_a_pause() {
    let rest = AtRest { standby_signal: true, ..at_rest(1) };
    let mut node = resting(rest);
    assert!(node.did(&Action::Start { standby: true }));
    node.done(Done::Start(Err("no".to_owned())));
    node.news(Postgres::AtRest(rest));
    assert!(!starts(&node.pass(Nanos(RETRY.0 - 1))));
    assert!(starts(&node.pass(Nanos(1))));
}

#[test]
fn a_standby_that_does_not_follow_the_new_timeline_rejoins() {
    let mut node = Node::with(PgFacts { streaming: false, ..standby(1) });
    node.pulse(PRIMARY, 2);
    assert!(!node.pass(Nanos(15_000 * MS - 1)).contains(&Action::Stop(StopMode::Fast)));
    assert!(node.pass(Nanos(1)).contains(&Action::Stop(StopMode::Fast)));
    node.done(Done::Stop(Ok(())));
    node.news(Postgres::AtRest(AtRest { standby_signal: true, ..at_rest(1) }));
    assert!(node.did(&REJOIN));
}

#[test]
fn a_standby_that_stopped_to_rejoin_starts_when_the_primary_is_gone() {
    let mut node = Node::with(PgFacts { streaming: false, ..standby(1) });
    node.pulse(PRIMARY, 2);
    node.pass(ms(15_000));
    node.dead();
    node.done(Done::Stop(Ok(())));
    node.news(Postgres::AtRest(AtRest { standby_signal: true, ..at_rest(1) }));
    assert!(node.did(&Action::Start { standby: true }));
}

#[test]
fn facts_from_before_the_last_action_are_out_of_date_but_an_end_never_is() {
    let mut node = Node::primary();
    let asked = node.now;
    node.pass(ms(10));
    node.done(Done::SetSync(Ok(String::new())));
    node.feed(Input::Postgres { asked, news: Postgres::Facts(standby(1)) });
    assert!(node.core.serving);
    node.feed(Input::Postgres { asked, news: Postgres::Exited });
    assert!(node.did(&Action::Stop(StopMode::Kill)));
}

#[test]
fn a_restarted_daemon_adopts_its_primary_without_taking_the_addresses_off() {
    let mut node = Node::with(primary(1));
    assert!(node.asks() && !node.did(&Action::Withdraw) && !node.did(&Action::Serve));
    node.feed(Input::PeerPostgres(Some(standby(1))));
    assert!(node.did(&Action::Serve) && !node.did(&Action::Withdraw));
    let mut node = Node::with(primary(1));
    node.pulse(flag::PG_UP, 1);
    assert!(node.did(&Action::Serve) && !node.did(&Action::Withdraw));
}

#[test]
fn a_restarted_daemon_does_not_claim_before_the_peer_was_asked() {
    let mut node = Node::with(primary(1));
    assert!(!node.pass(ms(2000)).contains(&Action::Serve), "the answer is on its way");
    node.feed(Input::PeerPostgres(None));
    assert!(node.did(&Action::Serve), "the peer's server is as silent as the peer");
}

#[test]
fn a_restarted_daemon_stands_down_when_the_peer_has_taken_over() {
    let mut node = Node::with(primary(1));
    node.feed(Input::PeerPostgres(Some(primary(2))));
    assert!(node.did(&Action::Stop(StopMode::Fast)));
}

#[test]
fn a_daemon_that_starts_beside_a_hung_server_stops_it() {
    let mut node = Node::new(Rules { postgres: true, ..rules(100) });
    node.feed(Input::Link(true));
    let mut stopped = false;
    for _ in 0..10 {
        node.news(Postgres::NoAnswer);
        stopped |= node.did(&Action::Stop(StopMode::Kill));
    }
    assert!(stopped);
}

#[test]
fn a_terminate_does_not_wait_for_a_start_or_a_rejoin() {
    let mut node = resting(at_rest(1));
    node.pulse(PRIMARY, 2);
    node.feed(Input::Command(Command::Terminate));
    assert!(node.did(&Action::Exit));
    let mut node = resting(AtRest { standby_signal: true, ..at_rest(1) });
    node.feed(Input::Command(Command::Terminate));
    assert!(node.did(&Action::Exit));
}

#[test]
fn a_terminate_waits_for_a_stop() {
    let mut node = Node::standby();
    for _ in 0..3 {
        node.news(Postgres::NoAnswer);
    }
    assert!(node.did(&Action::Stop(StopMode::Kill)));
    node.feed(Input::Command(Command::Terminate));
    assert!(!node.did(&Action::Exit));
    node.done(Done::Stop(Ok(())));
    assert!(node.did(&Action::Exit));
}

#[test]
fn the_successor_of_a_node_that_resigned_starts_again_at_once() {
    let rules = Rules { postgres: true, start_wait: ms(500), ..rules(100) };
    let terms = Terms { seen: 2, mine: 2, ..Terms::default() };
    let mut node = Node::of_terms(rules, terms, ms(10_000));
    node.feed(Input::Link(true));
    node.news(Postgres::AtRest(at_rest(2)));
    node.pulse(flag::RESIGN | flag::FORMER, 1);
    assert!(node.did(&Action::Start { standby: false }), "{}", node.core.why);
}

#[test]
fn a_standby_whose_promotion_broke_off_rejoins_a_primary_and_starts_as_a_standby_without_one() {
    let rest = AtRest { standby_signal: true, promotion_broke_off: true, ..at_rest(1) };
    let mut node = Node::new(Rules { postgres: true, start_wait: ms(500), ..rules(100) });
    node.feed(Input::Link(true));
    node.pulse(PRIMARY, 2);
    node.news(Postgres::AtRest(rest));
    assert!(node.did(&REJOIN) && !starts(&node.did));
    let mut node = resting(rest);
    assert!(node.did(&Action::Start { standby: true }));
    // The primary of before comes back on the timeline of before, and nothing else tells that it is not followed.
    node.done(Done::Start(Ok(())));
    node.news(Postgres::Facts(PgFacts { streaming: false, promotion_broke_off: true, ..standby(1) }));
    node.pulse(PRIMARY, 1);
    assert!(node.pass(ms(15_000)).contains(&Action::Stop(StopMode::Fast)), "{}", node.core.why);
    node.done(Done::Stop(Ok(())));
    node.news(Postgres::AtRest(rest));
    assert!(node.did(&REJOIN));
}

#[test]
fn an_answer_of_a_standby_that_was_promoted_since_starts_nothing() {
    let mut node = resting(at_rest(1));
    node.pulse(flag::PG_UP | flag::PG_PRIMARY, 1);
    node.feed(Input::PeerPostgres(Some(standby(1))));
    assert!(!starts(&node.did), "{}", node.core.why);
    // It serves, on a later timeline, and falls silent; this node was at fault meanwhile.
    node.feed(Input::Link(false));
    node.pulse(PRIMARY, 2);
    node.dead();
    node.feed(Input::Link(true));
    assert!(!starts(&node.did), "{}", node.core.why);
}

#[test]
fn one_that_runs_as_a_standby_is_stopped_for_its_rejoin_once_there_is_a_primary() {
    let stops = |promotion_broke_off| {
        let mut node = Node::new(Rules { postgres: true, start_wait: ms(500), ..rules(100) });
        node.feed(Input::Link(true));
        let facts = PgFacts { streaming: false, promotion_broke_off, ..standby(1) };
        node.news(Postgres::Facts(facts.clone()));
        let mut stopped = false;
        for _ in 0..100 {
            node.pulse(PRIMARY, 1);
            node.news(Postgres::Facts(facts.clone()));
            stopped |= node.pass(ms(200)).contains(&Action::Stop(StopMode::Fast));
        }
        stopped
    };
    assert!(stops(true));
    assert!(!stops(false), "the primary did not say that it lacks the WAL");
}
