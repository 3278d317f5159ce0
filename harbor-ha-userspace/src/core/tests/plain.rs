//! VRRP without PostgreSQL: RFC 9568 §6.4, and RFC 3768 where it differs.

use super::*;
use crate::vrrp::{Event, InstanceId, Subject, What};

fn is(node: &Node, state: VrrpState) -> bool {
    node.core.state == state
}

fn master(rules: Rules) -> Node {
    let mut node = Node::plain(rules);
    node.pass(rules.start_wait);
    node.served();
    assert!(is(&node, VrrpState::Master));
    node
}

#[test]
fn an_address_owner_serves_at_once() {
    let mut node = Node::new(rules(255));
    node.feed(Input::Link(true));
    assert!(is(&node, VrrpState::Master));
    assert!(node.did(&Action::Advert(Priority(255))) && node.did(&Action::Serve));
}

#[test]
fn anybody_else_waits_the_master_down_interval_and_not_a_nanosecond_longer() {
    for (version, wait) in [(3, 3 * 1000 * MS + 156 * 1000 * MS / 256), (2, 3 * 1000 * MS + 156 * 1000 * MS / 256)] {
        let rules = Rules { start_wait: master_down(version, Priority(100), ms(1000)), ..rules(100) };
        let mut node = Node::plain(rules);
        node.pass(Nanos(wait - 1));
        assert!(is(&node, VrrpState::Backup));
        node.pass(Nanos(1));
        assert!(is(&node, VrrpState::Master), "version {version}");
    }
}

#[test]
fn the_skew_of_version_2_does_not_shrink_with_the_interval() {
    assert_eq!(master_down(3, Priority(100), ms(10)), Nanos(30 * MS + 156 * 10 * MS / 256));
    assert_eq!(master_down(2, Priority(100), ms(10)), Nanos(30 * MS + 156 * 1000 * MS / 256));
}

/// Every state, every kind of input: the state after it.
#[test]
fn the_table_of_states_and_inputs() {
    use VrrpState::{Backup, Fault, Init, Master};
    type Step = fn(&mut Node);
    let inputs: [(&str, Step, [VrrpState; 4]); 14] = [
        (
            "a wake",
            |n| {
                n.feed(Input::Wake);
            },
            [Init, Backup, Master, Fault],
        ),
        (
            "a stronger advert",
            |n| {
                n.advert(200);
            },
            [Init, Backup, Backup, Fault],
        ),
        (
            "a weaker advert",
            |n| {
                n.advert(50);
            },
            [Init, Backup, Master, Fault],
        ),
        (
            "an equal advert of a smaller address",
            |n| {
                n.advert(100);
            },
            [Init, Backup, Master, Fault],
        ),
        (
            "an advert of priority 0",
            |n| {
                n.advert(0);
            },
            [Init, Master, Master, Fault],
        ),
        (
            "a missed advert",
            |n| {
                silent(n, VerdictKind::Missed);
            },
            [Init, Backup, Master, Fault],
        ),
        (
            "a stall",
            |n| {
                silent(n, VerdictKind::Stalled);
            },
            [Init, Backup, Master, Fault],
        ),
        (
            "silence",
            |n| {
                silent(n, VerdictKind::Dead);
            },
            [Init, Master, Master, Fault],
        ),
        (
            "link up",
            |n| {
                n.feed(Input::Link(true));
            },
            [Backup, Backup, Master, Backup],
        ),
        (
            "link down",
            |n| {
                n.feed(Input::Link(false));
            },
            [Fault, Fault, Fault, Fault],
        ),
        (
            "a late end of Serve",
            |n| {
                n.served();
            },
            [Init, Backup, Master, Fault],
        ),
        (
            "a late end of Stop",
            |n| {
                n.done(Done::Stop(Ok(())));
            },
            [Init, Backup, Master, Fault],
        ),
        (
            "a switchover",
            |n| {
                n.feed(Input::Command(Command::Switchover));
            },
            [Init, Backup, Backup, Fault],
        ),
        (
            "no answer of a peer",
            |n| {
                n.feed(Input::PeerPostgres(None));
            },
            [Init, Backup, Master, Fault],
        ),
    ];
    for (name, step, expected) in inputs {
        for (start, expected) in [Init, Backup, Master, Fault].into_iter().zip(expected) {
            let mut node = in_state(start);
            step(&mut node);
            assert_eq!(node.core.state, expected, "{name} in {start}");
            assert_eq!(node.core.serving, expected == Master && start == Master, "{name} in {start}");
        }
    }
}

fn silent(node: &mut Node, kind: VerdictKind) -> &[Action] {
    node.verdict(kind, Source::Advert, 90, 0, 0)
}

fn in_state(state: VrrpState) -> Node {
    let mut node = match state {
        VrrpState::Init => return Node::new(rules(100)),
        VrrpState::Master => return master(rules(100)),
        VrrpState::Backup | VrrpState::Fault => Node::plain(rules(100)),
    };
    node.advert(90);
    if state == VrrpState::Fault {
        node.feed(Input::Link(false));
    }
    assert_eq!(node.core.state, state);
    node
}

#[test]
fn sigterm_ends_the_daemon_in_every_state_and_a_master_resigns_first() {
    for state in [VrrpState::Init, VrrpState::Backup, VrrpState::Master, VrrpState::Fault] {
        let mut node = in_state(state);
        node.feed(Input::Command(Command::Terminate));
        assert_eq!(node.did.last(), Some(&Action::Exit), "in {state}");
        assert!(node.did(&Action::Withdraw));
        assert_eq!(node.did(&Action::Advert(Priority::RESIGN)), state == VrrpState::Master, "in {state}");
        assert!(node.advert(0).is_empty(), "nothing follows the end");
    }
}

#[test]
fn equal_priorities_are_decided_by_the_greater_address() {
    let mut node = master(Rules { addresses: (1, 2), ..rules(100) });
    node.advert(100);
    assert!(is(&node, VrrpState::Backup) && node.did(&Action::Withdraw));
    let mut node = master(Rules { addresses: (2, 1), ..rules(100) });
    node.advert(100);
    assert!(is(&node, VrrpState::Master));
}

#[test]
fn a_master_answers_a_weaker_advert_at_once_and_announces() {
    let mut node = master(rules(100));
    node.pass(ms(300));
    node.advert(99);
    let told = Action::Notify(Event {
        subject: Subject::Instance(InstanceId(0)),
        what: What::LowerPriority,
        priority: Priority(100),
    });
    assert_eq!(node.did, [Action::Advert(Priority(100)), Action::Announce(5), told]);
}

#[test]
fn a_stronger_claim_that_was_heard_while_the_addresses_went_up_is_not_forgotten() {
    let mut node = Node::plain(rules(100));
    node.pass(rules(100).start_wait);
    node.verdict(VerdictKind::Alive, Source::Pulse, 200, flag::PRIMARY, 0);
    node.served();
    assert!(is(&node, VrrpState::Backup));
}

#[test]
fn a_stronger_backup_preempts_after_its_delay() {
    let mut node = Node::plain(Rules { preempt: true, preempt_delay: ms(700), ..rules(100) });
    node.advert(90);
    node.pass(Nanos(700 * MS - 1));
    assert!(is(&node, VrrpState::Backup));
    node.pass(Nanos(1));
    assert!(is(&node, VrrpState::Master));
}

#[test]
fn without_preemption_a_stronger_backup_stays_one() {
    let mut node = Node::plain(rules(100));
    node.advert(90);
    node.pass(ms(60_000));
    assert!(is(&node, VrrpState::Backup));
}

#[test]
fn a_preemption_that_lost_its_reason_asks_for_no_more_wakes() {
    let mut node = Node::plain(Rules { preempt: true, preempt_delay: ms(700), ..rules(100) });
    node.verdict(VerdictKind::Alive, Source::Pulse, 90, flag::PRIMARY, 0);
    node.verdict(VerdictKind::Said, Source::Pulse, 90, 0, 0);
    // `pass` and `feed` fail on a deadline in the past.
    node.pass(ms(1000));
    node.verdict(VerdictKind::Said, Source::Pulse, 200, flag::PRIMARY, 0);
    node.pass(ms(10_000));
    assert!(is(&node, VrrpState::Backup));
}

#[test]
fn silence_while_the_link_was_down_is_no_news_of_the_peer() {
    let mut node = in_state(VrrpState::Fault);
    silent(&mut node, VerdictKind::Dead);
    node.feed(Input::Link(true));
    node.feed(Input::Wake);
    node.pass(Nanos(rules(100).start_wait.0 - 1));
    assert!(is(&node, VrrpState::Backup));
    node.pass(Nanos(1));
    assert!(is(&node, VrrpState::Master));
}

#[test]
fn a_master_that_handed_over_waits_like_anyone_else() {
    let mut node = master(rules(100));
    node.advert(50);
    silent(&mut node, VerdictKind::Dead);
    node.feed(Input::Command(Command::Switchover));
    assert!(node.did(&Action::Advert(Priority::RESIGN)));
    node.pass(Nanos(rules(100).start_wait.0 - 1));
    assert!(is(&node, VrrpState::Backup));
    node.pass(Nanos(1));
    assert!(is(&node, VrrpState::Master));
}

#[test]
fn addresses_that_cannot_be_put_up_are_tried_again_after_a_pause() {
    let mut node = Node::plain(rules(255));
    node.done(Done::Serve(Err("no".to_owned())));
    assert!(!node.did(&Action::Serve));
    assert!(!node.pass(Nanos(RETRY.0 - 1)).contains(&Action::Serve));
    assert!(node.pass(Nanos(1)).contains(&Action::Serve));
    node.served();
    assert!(node.core.serving);
}

#[test]
fn announcements_go_as_keepalived_sends_them() {
    let mut node = master(rules(100));
    let count = |actions: Vec<Action>, n| actions.iter().filter(|&action| *action == Action::Announce(n)).count();
    assert_eq!(count(node.pass(Nanos(5000 * MS - 1)), 5), 0);
    assert_eq!(count(node.pass(Nanos(1)), 5), 1);
    assert_eq!(count(node.pass(Nanos(60_000 * MS - 1)), 1), 0);
    assert_eq!(count(node.pass(Nanos(1)), 1), 1);
    assert_eq!(count(node.pass(ms(120_000)), 1), 2);
}

#[test]
fn without_a_delay_there_is_one_burst_and_without_a_refresh_no_other() {
    let mut node = master(Rules { announce_delay: ms(0), ..rules(100) });
    assert_eq!(announces(&node.pass(Nanos(60_000 * MS - 1))), 59);
    assert!(node.pass(Nanos(1)).contains(&Action::Announce(1)));
    let mut node = master(Rules { announce_delay: ms(0), announce_refresh: ms(0), ..rules(100) });
    assert!(!node.pass(ms(600_000)).iter().any(|action| matches!(action, Action::Announce(_))));
}

#[test]
fn adverts_leave_once_an_interval() {
    let mut node = master(rules(100));
    let sent = node.pass(ms(10_000)).into_iter().filter(|action| *action == Action::Advert(Priority(100))).count();
    assert_eq!(sent, 10);
}

#[test]
fn an_advert_after_the_death_of_the_pulses_shows_that_the_peer_still_serves() {
    let mut node = Node::plain(rules(100));
    node.verdict(VerdictKind::Alive, Source::Pulse, 200, flag::PRIMARY, 0);
    node.dead();
    assert!(is(&node, VrrpState::Master));
    node.served();
    node.advert(200);
    assert!(is(&node, VrrpState::Backup));
}

#[test]
fn addresses_that_somebody_removed_are_put_back_and_announced_but_not_in_a_race() {
    let mut node = Node::plain(rules(100));
    node.pass(ms(10_000));
    node.served();
    let stamps = node.core.takeover.unwrap().vip_ns;
    let look = |node: &mut Node, all, any| {
        let asked = node.now;
        node.feed(Input::Addresses { asked, all, any }).to_vec()
    };
    assert!(!look(&mut node, false, false).contains(&Action::Serve), "asked before they were put up");
    node.pass(ms(5000));
    assert!(!look(&mut node, true, true).contains(&Action::Serve));
    assert!(look(&mut node, false, true).contains(&Action::Serve));
    assert!(!node.core.serving);
    node.served();
    assert!(node.core.serving);
    assert_eq!(node.core.takeover.unwrap().vip_ns, stamps, "no part of the takeover");
    node.pass(ms(100));
    assert!(!look(&mut node, false, false).contains(&Action::Serve), "just put up");
    assert!(node.pass(ms(2000)).contains(&Action::Serve));
}

#[test]
fn an_address_that_a_backup_still_has_is_taken_off() {
    let mut node = Node::plain(rules(100));
    node.advert(200);
    node.pass(ms(100));
    let asked = node.now;
    assert!(node.feed(Input::Addresses { asked, all: true, any: true }).contains(&Action::Withdraw));
    assert!(!node.feed(Input::Addresses { asked, all: false, any: false }).contains(&Action::Withdraw));
    // A primary that runs, and was not heard of yet, keeps it.
    let mut node = Node::with(primary(1));
    node.pass(ms(100));
    let asked = node.now;
    assert_eq!(node.core.state, VrrpState::Backup);
    assert!(!node.feed(Input::Addresses { asked, all: true, any: true }).contains(&Action::Withdraw));
}
