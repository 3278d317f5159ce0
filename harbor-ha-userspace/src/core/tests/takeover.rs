//! A standby's way to the service: when it promotes, when it refuses, what follows.

use super::*;

fn promotes(node: &Node) -> bool {
    node.did(&Action::Promote)
}

#[test]
fn a_standby_takes_over_when_the_primary_is_dead() {
    let mut node = Node::standby();
    node.dead();
    assert!(promotes(&node));
}

#[test]
fn a_standby_takes_over_when_the_primary_resigns() {
    let mut node = Node::standby();
    node.pulse(flag::RESIGN | flag::SYNC, 1);
    assert!(promotes(&node));
}

#[test]
fn a_missed_pulse_or_a_stall_of_this_host_is_no_death() {
    for kind in [VerdictKind::Missed, VerdictKind::Stalled] {
        let mut node = Node::standby();
        node.verdict(kind, Source::Pulse, 90, PRIMARY | flag::SYNC, 1);
        assert!(!promotes(&node) && !node.pass(ms(60_000)).contains(&Action::Promote));
    }
}

#[test]
fn after_a_pause_nothing_is_decided_before_the_last_verdict_is_read() {
    let old = |node: &mut Node, kind, flags, timeline| {
        let at = ms(10_010);
        let verdict = Verdict {
            at,
            last_heard: at,
            kind,
            source: Source::Pulse,
            priority: 90,
            flags,
            term: u64::from(timeline),
            timeline,
            lsn: 1,
            system_identifier: 7,
        };
        node.feed(Input::Verdict(verdict));
        assert!(!promotes(node));
    };
    let mut node = Node::standby();
    node.now = node.now.after(ms(60_000));
    old(&mut node, VerdictKind::Resigned, flag::RESIGN | flag::SYNC, 1);
    old(&mut node, VerdictKind::Dead, flag::RESIGN | flag::SYNC, 1);
    old(&mut node, VerdictKind::Alive, PRIMARY, 1);
    assert!(!node.pass(ms(10_000)).contains(&Action::Promote), "it serves again");
    let mut node = Node::standby();
    node.now = node.now.after(ms(60_000));
    old(&mut node, VerdictKind::Dead, PRIMARY | flag::SYNC, 1);
    assert!(node.pass(ms(1)).contains(&Action::Promote), "it was the last word");
}

#[test]
fn a_standby_promotes_then_serves_then_announces() {
    let mut node = Node::standby();
    node.dead();
    assert_eq!(node.core.state, VrrpState::Backup);
    node.promoted();
    assert_eq!(node.core.state, VrrpState::Master);
    let serve = node.did.iter().position(|action| *action == Action::Serve);
    assert!(serve < node.did.iter().position(|action| *action == Action::Advert(Priority(100))));
    node.served();
    assert!(node.core.serving);
    let second = node.pass(ms(5000));
    assert!(second.contains(&Action::Announce(5)) && second.contains(&Action::Advert(Priority(100))));
}

#[test]
fn one_whose_postgresql_is_down_says_so_and_counts_the_takeover_that_it_misses() {
    let mut node = Node::with(standby(1));
    node.pulse(PRIMARY | flag::SYNC, 1);
    node.news(Postgres::Exited);
    node.news(Postgres::NotReady("the database system is starting up".to_owned()));
    let told = |node: &Node| (node.core.snapshot().refusal_name, node.core.snapshot().refusals.get("down").copied());
    assert_eq!(told(&node), (Some("down"), None), "nothing was missed yet");
    node.dead();
    assert_eq!(told(&node), (Some("down"), Some(1)));
    node.pass(ms(100));
    assert_eq!(told(&node), (Some("down"), Some(1)), "once");
    node.says(standby(1));
    assert!(promotes(&node));
}

#[test]
fn a_standby_that_never_heard_a_primary_refuses_when_commits_must_be_synchronous() {
    let mut node = Node::with(standby(1));
    assert!(!node.pass(ms(500)).contains(&Action::Promote));
    assert!(node.core.snapshot().refusal.is_some_and(|refusal| refusal.contains("has not heard")));
}

#[test]
fn a_promotion_that_fails_is_tried_again_after_a_pause() {
    let mut node = Node::standby();
    node.dead();
    node.done(Done::Promote(Err("no".to_owned())));
    assert!(!promotes(&node) && !node.pass(Nanos(RETRY.0 - 1)).contains(&Action::Promote));
    assert!(node.pass(Nanos(1)).contains(&Action::Promote));
}

#[test]
fn setting_names_that_fails_does_not_delay_a_takeover() {
    let mut node = Node::standby();
    node.says(PgFacts { sync_names: "b".to_owned(), ..standby(1) });
    assert!(node.did(&Action::SetSync { peer: false }), "a standby names nobody");
    node.done(Done::SetSync(Err("no".to_owned())));
    assert!(!node.did(&Action::SetSync { peer: false }));
    node.dead();
    assert!(promotes(&node));
}

#[test]
fn a_new_primary_names_its_standby_only_once_that_streams_from_it() {
    let mut node = Node::standby();
    let asked = node.now;
    node.dead();
    node.pass(ms(20));
    node.promoted();
    node.served();
    let stale = Postgres::Facts(PgFacts { in_recovery: false, ..standby(1) });
    node.feed(Input::Postgres { asked, news: stale });
    assert!(!node.did(&Action::SetSync { peer: true }), "read before the promotion");
    node.says(primary(2));
    assert!(!node.did(&Action::SetSync { peer: true }));
    node.says(PgFacts { streaming: true, ..primary(2) });
    assert!(node.did(&Action::SetSync { peer: true }));
    node.says(PgFacts { streaming: true, ..primary(2) });
    assert!(!node.did(&Action::SetSync { peer: true }), "once");
}

#[test]
fn a_promoted_standby_with_names_in_force_drops_them_at_once() {
    let mut node = Node::standby();
    node.says(PgFacts { sync_names: "b".to_owned(), ..standby(1) });
    node.done(Done::SetSync(Err("no".to_owned())));
    node.dead();
    node.promoted();
    assert!(node.did(&Action::SetSync { peer: false }));
}

#[test]
fn stamps_are_those_of_our_own_takeover() {
    let mut node = Node::standby();
    node.pass(ms(10));
    let (resigned, later) = (node.now, ms(400));
    node.pulse(flag::RESIGN | flag::SYNC, 1);
    node.pass(ms(1));
    node.advert(0);
    node.promoted();
    node.served();
    node.pass(later);
    node.dead();
    let takeover = node.core.snapshot().takeover.expect("a takeover");
    assert_eq!((takeover.why, takeover.verdict_ns), ("resigned", resigned.0));
    assert!(takeover.garp_ns >= takeover.promoted_ns && takeover.garp_ns < node.now.0);
}

#[test]
fn the_stamps_of_an_earlier_takeover_do_not_leak_into_a_later_one() {
    let mut node = Node::standby();
    node.dead();
    node.promoted();
    node.served();
    let first = node.core.snapshot().takeover.expect("a takeover");
    node.news(Postgres::Exited);
    node.done(Done::Stop(Ok(())));
    node.pass(ms(1000));
    node.pulse(PRIMARY | flag::SYNC, 3);
    node.says(standby(3));
    node.pulse(flag::FAULT, 3);
    assert!(promotes(&node));
    let second = node.core.snapshot().takeover.expect("a takeover");
    assert_eq!((second.why, second.verdict_ns, second.garp_ns), ("nobody serves", node.now.0, 0));
    assert!(first.garp_ns > 0);
}

#[test]
fn a_server_that_ends_during_its_promotion_is_not_served() {
    let mut node = Node::standby();
    node.dead();
    node.news(Postgres::Exited);
    node.promoted();
    assert!(!node.did(&Action::Serve));
    assert_eq!(node.core.state, VrrpState::Backup);
}

#[test]
fn a_server_that_ends_while_the_addresses_go_up_is_left_however_it_is_noticed() {
    for news in [Postgres::Exited, Postgres::AtRest(at_rest(2))] {
        let mut node = Node::standby();
        node.dead();
        node.promoted();
        node.news(news);
        let at_once = node.did(&Action::Stop(StopMode::Kill));
        node.served();
        assert!(at_once || node.did(&Action::Stop(StopMode::Kill)));
        assert!(!node.core.serving);
    }
}

#[test]
fn a_primary_that_came_back_during_the_promotion_meets_the_later_timeline() {
    let mut node = Node::standby();
    node.dead();
    node.pulse(PRIMARY, 1);
    node.promoted();
    assert!(node.did(&Action::Serve), "ours is later");
    let mut node = Node::standby();
    node.dead();
    node.pulse(PRIMARY, 3);
    node.promoted();
    assert!(!node.did(&Action::Serve) && node.did(&Action::Stop(StopMode::Fast)), "theirs is later");
}

#[test]
fn a_link_that_went_down_during_the_promotion_leads_to_fault() {
    let mut node = Node::standby();
    node.dead();
    node.feed(Input::Link(false));
    node.promoted();
    assert!(!node.did(&Action::Serve) && node.did(&Action::Stop(StopMode::Fast)));
    node.done(Done::Stop(Ok(())));
    assert_eq!(node.core.state, VrrpState::Fault);
}

#[test]
fn silence_that_began_while_the_link_was_down_promotes_nobody_before_the_wait() {
    let mut node = Node::standby();
    node.feed(Input::Link(false));
    node.dead();
    node.feed(Input::Link(true));
    node.feed(Input::Wake);
    assert!(!promotes(&node));
    assert!(!node.pass(Nanos(500 * MS - 1)).contains(&Action::Promote));
    node.pulse(PRIMARY | flag::SYNC, 1);
    assert!(!node.pass(ms(60_000)).contains(&Action::Promote));
}

#[test]
fn a_living_peer_that_starts_its_server_goes_first_but_not_for_ever() {
    let mut node = Node::standby();
    node.pulse(0, 1);
    assert!(!node.pass(Nanos(20_000 * MS - 1)).contains(&Action::Promote));
    assert!(node.pass(Nanos(1)).contains(&Action::Promote));
}

#[test]
fn of_two_standbys_the_better_one_promotes_and_the_other_one_when_that_refuses() {
    let two = |priority| {
        let mut node = Node::standby();
        node.verdict(VerdictKind::Said, Source::Pulse, priority, flag::PG_UP, 1);
        node
    };
    let mut better = two(90);
    assert!(!better.pass(Nanos(500 * MS - 1)).contains(&Action::Promote));
    assert!(better.pass(Nanos(1)).contains(&Action::Promote));
    let mut other = two(200);
    assert!(!other.pass(Nanos(20_000 * MS - 1)).contains(&Action::Promote));
    assert!(other.pass(Nanos(1)).contains(&Action::Promote));
    let mut old = Node::standby();
    old.verdict(VerdictKind::Said, Source::Pulse, 200, flag::PG_UP, 2);
    assert!(!old.pass(ms(60_000)).contains(&Action::Promote), "it has missed a timeline");
}

#[test]
fn a_terminate_during_the_takeover_waits_for_its_end() {
    let mut node = Node::standby();
    node.dead();
    node.feed(Input::Command(Command::Terminate));
    assert!(!node.did(&Action::Exit));
    node.promoted();
    assert!(!node.did(&Action::Exit));
    node.served();
    assert!(node.did(&Action::Withdraw) && node.did(&Action::Exit));
}

#[test]
fn a_peer_hears_that_a_promotion_has_begun() {
    let mut node = Node::standby();
    node.dead();
    assert!(node.did.iter().any(|action| matches!(action, Action::Pulse(p) if p.flags & flag::PG_PRIMARY != 0)));
}

#[test]
fn a_standby_that_starts_after_its_primary_died_judges_by_the_words_that_the_kernel_kept() {
    for (flags, lsn, promotes) in [(PRIMARY | flag::SYNC, 200, true), (PRIMARY, 200, false), (PRIMARY, 100, true)] {
        let mut node = Node::with(standby(1));
        let kept = Verdict {
            at: node.now,
            last_heard: node.now,
            kind: VerdictKind::Dead,
            source: Source::Pulse,
            priority: 90,
            flags,
            term: 1,
            timeline: 1,
            lsn,
            system_identifier: 7,
        };
        node.feed(Input::Verdict(kept));
        assert!(!node.did(&Action::Promote), "not before a living primary would have been heard");
        node.pass(ms(501));
        assert!(
            !node.did(&Action::Promote),
            "not before its server was asked: a primary without a daemon is still one"
        );
        node.feed(Input::PeerPostgres(None));
        assert_eq!(node.did(&Action::Promote), promotes, "{flags:x} {lsn}");
    }
}

#[test]
fn a_primary_that_starts_after_its_peer_died_asks_the_peers_postgresql_before_it_serves() {
    let mut node = Node::with(primary(1));
    node.verdict(VerdictKind::Dead, Source::Pulse, 90, PRIMARY, 1);
    node.pass(ms(501));
    assert_eq!(node.core.state, VrrpState::Backup);
    node.feed(Input::PeerPostgres(Some(primary(2))));
    assert!(node.did(&Action::Stop(StopMode::Fast)), "{:?}", node.did);
}

#[test]
fn an_announcement_that_nobody_followed_is_said_again_only_by_the_node_that_serves() {
    use crate::core::cloud::fence::Cause;

    let mut node = Node::standby();
    let told = node.core.tells_cloud();
    assert!(!told.serves && told.peer_serves && told.takeover.is_none());
    assert_eq!(node.feed(Input::Unfollowed), []);
    node.dead();
    node.promoted();
    node.served();
    let told = node.core.tells_cloud();
    assert!(told.serves && told.rightful && !told.peer_heard && !told.peer_serves);
    assert_eq!(told.takeover.map(|(_, cause)| cause), Some(Cause::Silence));
    assert_eq!(node.feed(Input::Unfollowed), [Action::Announce(5)]);
}
