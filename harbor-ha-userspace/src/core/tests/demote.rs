//! A primary's ways out of the service.

use super::super::flows::Reset;
use super::*;

fn resigns(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Pulse(pulse) if pulse.flags & flag::RESIGN != 0))
}

/// A primary whose standby streams and counts.
fn with_standby() -> Node {
    let mut node = Node::primary();
    node.says(PgFacts { streaming: true, peer_is_sync: true, sync_names: "b".to_owned(), ..primary(1) });
    node
}

#[test]
fn a_dead_server_is_fenced_first_and_then_resigned() {
    let mut node = with_standby();
    node.news(Postgres::Exited);
    assert!(node.did(&Action::Stop(StopMode::Kill)) && !resigns(&node.did));
    assert!(!node.pass(ms(5000)).contains(&Action::Advert(Priority::RESIGN)));
    node.done(Done::Stop(Ok(())));
    assert!(resigns(&node.did) && node.did(&Action::Advert(Priority::RESIGN)));
    assert_eq!(node.core.state, VrrpState::Backup);
}

#[test]
fn the_resignation_says_whether_the_standby_has_everything() {
    let mut node = with_standby();
    node.news(Postgres::Exited);
    node.done(Done::Stop(Ok(())));
    let sync = |pulse: &PulseState| pulse.flags & flag::SYNC != 0;
    assert!(node.did.iter().any(|action| matches!(action, Action::Pulse(pulse) if sync(pulse))));
}

#[test]
fn processes_that_do_not_die_keep_the_place_and_are_killed_again_after_a_pause() {
    let mut node = with_standby();
    node.news(Postgres::Exited);
    node.done(Done::Stop(Err("left".to_owned())));
    assert!(!resigns(&node.did) && !node.did(&Action::Stop(StopMode::Kill)));
    assert_eq!(node.core.state, VrrpState::Master);
    let later = node.pass(Nanos(RETRY.0));
    assert_eq!(later.iter().filter(|&action| *action == Action::Stop(StopMode::Kill)).count(), 1);
    node.done(Done::Stop(Ok(())));
    assert!(resigns(&node.did));
}

#[test]
fn a_server_hangs_after_as_many_unanswered_probes_as_configured() {
    let mut node = with_standby();
    node.news(Postgres::NoAnswer);
    node.news(Postgres::NoAnswer);
    assert!(node.did.is_empty());
    assert_eq!(node.core.snapshot().postgres.expect("one").state, "primary", "late is not hung");
    node.news(Postgres::NoAnswer);
    assert!(node.did(&Action::Stop(StopMode::Kill)));
}

#[test]
fn an_answer_between_two_misses_starts_the_count_anew() {
    let mut node = Node::primary();
    for _ in 0..3 {
        node.news(Postgres::NoAnswer);
        node.news(Postgres::NoAnswer);
        node.says(primary(1));
    }
    assert_eq!(node.core.state, VrrpState::Master);
}

#[test]
fn misses_of_a_server_that_ended_do_not_count_for_the_next_one() {
    let mut node = Node::standby();
    node.news(Postgres::NoAnswer);
    node.news(Postgres::NoAnswer);
    node.news(Postgres::Exited);
    node.news(Postgres::AtRest(AtRest { standby_signal: true, ..at_rest(1) }));
    assert!(node.did(&Action::Start { standby: true }));
    node.done(Done::Start(Ok(())));
    node.news(Postgres::NoAnswer);
    assert!(!node.did(&Action::Stop(StopMode::Kill)));
}

#[test]
fn a_graceful_end_checkpoints_stops_resigns_and_exits() {
    let mut node = with_standby();
    node.feed(Input::Command(Command::Terminate));
    assert_eq!(node.did, [Action::Checkpoint]);
    node.done(Done::Checkpoint);
    assert_eq!(node.did, [Action::Reset(Reset::Unshared), Action::Stop(StopMode::Fast)]);
    node.done(Done::Stop(Ok(())));
    assert!(resigns(&node.did) && node.did(&Action::Advert(Priority::RESIGN)));
    assert_eq!(node.did.last(), Some(&Action::Exit));
    assert!(!node.did(&Action::Serve), "nothing begins after the end");
}

#[test]
fn a_server_that_ends_during_the_checkpoint_of_a_hand_over_is_fenced_at_once() {
    let mut node = with_standby();
    node.feed(Input::Command(Command::Terminate));
    node.news(Postgres::Exited);
    assert!(node.did(&Action::Stop(StopMode::Kill)) && !node.core.serving);
    node.done(Done::Checkpoint);
    assert!(node.did.is_empty());
    node.done(Done::Stop(Ok(())));
    assert!(resigns(&node.did) && node.did(&Action::Exit));
}

#[test]
fn a_graceful_end_without_a_standby_leaves_the_server_running() {
    let mut node = Node::primary();
    node.feed(Input::Command(Command::Terminate));
    assert!(node.did(&Action::Withdraw) && resigns(&node.did));
    assert!(!node.did.iter().any(|action| matches!(action, Action::Stop(_) | Action::Serve)));
    assert_eq!(node.did.last(), Some(&Action::Exit));
}

#[test]
fn a_switchover_stays_as_a_former_primary() {
    let mut node = with_standby();
    node.feed(Input::Command(Command::Switchover));
    node.done(Done::Checkpoint);
    node.done(Done::Stop(Ok(())));
    assert!(resigns(&node.did) && !node.did(&Action::Exit));
}

#[test]
fn a_switchover_without_a_standby_changes_nothing() {
    let mut node = Node::primary();
    node.feed(Input::Command(Command::Switchover));
    assert!(node.did.is_empty());
    assert!(node.core.serving && node.core.snapshot().why.contains("does not stream"));
}

#[test]
fn a_switchover_back_works_without_pulses() {
    let mut node = Node::with(primary(2));
    node.advert(0);
    node.served();
    node.says(PgFacts { streaming: true, ..primary(2) });
    node.feed(Input::Command(Command::Switchover));
    assert!(node.did(&Action::Checkpoint));
}

#[test]
fn a_switchover_asked_of_a_standby_is_not_kept_for_later_nor_does_it_undo_a_terminate() {
    let mut node = Node::standby();
    node.dead();
    node.feed(Input::Command(Command::Switchover));
    node.promoted();
    node.served();
    assert!(node.core.serving);
    let mut node = with_standby();
    node.feed(Input::Command(Command::Switchover));
    node.feed(Input::Command(Command::Terminate));
    node.feed(Input::Command(Command::Switchover));
    node.done(Done::Checkpoint);
    node.done(Done::Stop(Ok(())));
    assert!(node.did(&Action::Exit));
}

#[test]
fn of_two_primaries_the_later_timeline_wins_whatever_the_priorities() {
    for (theirs, stands_down) in [(2, false), (4, true)] {
        for priority in [1, 254] {
            let mut node = Node::with(primary(3));
            node.pulse(flag::PG_UP, 3);
            node.served();
            node.verdict(VerdictKind::Said, Source::Pulse, priority, PRIMARY, theirs);
            assert_eq!(node.did(&Action::Stop(StopMode::Fast)), stands_down, "{theirs} at {priority}");
            assert_eq!(node.core.serving, !stands_down);
        }
    }
}

#[test]
fn of_two_primaries_on_one_timeline_the_weaker_stands_down() {
    for (priority, stands_down) in [(90, false), (200, true)] {
        let mut node = Node::primary();
        node.verdict(VerdictKind::Said, Source::Pulse, priority, PRIMARY, 1);
        assert_eq!(node.did(&Action::Stop(StopMode::Fast)), stands_down);
        node.done(Done::Stop(Ok(())));
        assert!(!resigns(&node.did));
    }
}

#[test]
fn a_primary_that_does_not_serve_yields_to_one_that_does() {
    let mut node = Node::with(primary(1));
    node.pulse(PRIMARY, 1);
    assert!(node.did(&Action::Stop(StopMode::Fast)));
}

#[test]
fn a_second_primary_of_unknown_timeline_is_asked() {
    let mut node = Node::with(primary(1));
    node.feed(Input::PeerPostgres(Some(standby(1))));
    node.served();
    node.pass(ASK);
    node.advert(90);
    assert!(node.asks());
    node.feed(Input::PeerPostgres(Some(standby(1))));
    assert!(node.core.serving, "a standby's timeline settles nothing");
    assert!(node.pass(ASK).contains(&Action::AskPeer), "it is asked again");
    node.feed(Input::PeerPostgres(Some(primary(2))));
    assert!(node.did(&Action::Stop(StopMode::Fast)));
}

#[test]
fn after_a_pause_a_later_primary_is_obeyed_before_any_timer() {
    let mut node = Node::primary();
    // The process stood still for an hour; the kernel's verdict is read first.
    node.now = node.now.after(ms(3_600_000));
    node.pulse(PRIMARY, 2);
    assert!(node.did(&Action::Stop(StopMode::Fast)));
    assert_eq!(announces(&node.did), 0);
    assert_eq!(announces(&node.pass(ms(120_000))), 0);
    node.done(Done::Stop(Ok(())));
    assert_eq!(announces(&node.did), 0);
    assert_eq!(announces(&node.pass(ms(120_000))), 0);
}

#[test]
fn a_link_that_goes_down_stops_the_server_and_leads_to_fault() {
    let mut node = with_standby();
    node.feed(Input::Link(false));
    assert!(node.did(&Action::Stop(StopMode::Fast)));
    node.done(Done::Stop(Ok(())));
    assert_eq!(node.core.state, VrrpState::Fault);
    node.news(Postgres::AtRest(at_rest(1)));
    node.feed(Input::Link(true));
    assert_eq!(node.core.state, VrrpState::Backup);
    assert!(!node.did(&Action::Start { standby: false }));
}

#[test]
fn a_primary_found_without_a_link_gives_its_addresses_up_and_claims_them_only_after_a_look() {
    let mut node = Node::new(Rules { postgres: true, start_wait: ms(500), ..rules(100) });
    node.feed(Input::Link(false));
    node.says(primary(1));
    assert!(node.did(&Action::Withdraw));
    assert_eq!(node.core.state, VrrpState::Fault);
    node.feed(Input::Link(true));
    assert!(node.asks() && !node.did(&Action::Serve));
    node.feed(Input::PeerPostgres(None));
    assert!(!node.did(&Action::Serve));
    assert!(node.pass(ms(1000)).contains(&Action::Serve));
}

#[test]
fn somebody_who_made_the_server_a_standby_ends_the_service() {
    let mut node = Node::primary();
    node.says(standby(1));
    assert!(node.did(&Action::Stop(StopMode::Fast)));
}
