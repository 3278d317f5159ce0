//! Timers, to the nanosecond.

use super::*;

/// When a fresh node is master that hears nobody.
fn wait(rules: InstanceRules) -> Nanos {
    let mut node = Node::new(alone(rules));
    let begun = node.now;
    while node.state() == State::Backup {
        node.now = node.wake_at.expect("a backup waits for something");
        node.feed(Input::Wake);
    }
    node.now.since(begun)
}

#[test]
fn master_down_is_as_the_rfcs_and_the_users_files_say() {
    // The users' pair: 3.961 s and 3.609 s.
    assert_eq!(wait(instance(v2(1), 10)), Nanos(3_960_937_500));
    assert_eq!(wait(instance(v2(1), 100)), Nanos(3_609_375_000));
    // RFC 3768 §6.1: the skew of version 2 does not grow with the interval, that of version 3 does.
    assert_eq!(wait(instance(v2(4), 100)), Nanos(12_609_375_000));
    assert_eq!(wait(instance(v3(400), 100)), Nanos(14_437_500_000));
    assert_eq!(wait(instance(v3(1), 10)), Nanos(39_609_375));
    assert_eq!(wait(instance(v3(1), 254)), Nanos(30_078_125));
}

#[test]
fn the_count_of_missed_adverts_can_be_chosen() {
    for (adverts, expected) in [(1, 1_609_375_000), (2, 2_609_375_000), (100, 100_609_375_000)] {
        let mut rules = instance(v2(1), 100);
        rules.down_adverts = DownAdverts::new(adverts).unwrap();
        assert_eq!(wait(rules), Nanos(expected));
    }
    assert!(DownAdverts::new(0).is_none() && DownAdverts::new(101).is_none());
}

#[test]
fn after_a_resignation_the_skew_alone_is_waited() {
    for (protocol, skew) in [(v2(1), 609_375_000), (v3(1), 6_093_750)] {
        let mut node = Node::in_state(State::Backup, instance(protocol, 100));
        node.hear(ABOVE, 200);
        node.hear(ABOVE, 0);
        assert!(node.pass(Nanos(skew - 1)).is_empty());
        node.pass(Nanos(1));
        assert_eq!(node.state(), State::Master);
    }
}

#[test]
fn a_backup_counts_by_the_interval_of_its_master() {
    let mut node = Node::in_state(State::Backup, instance(v3(10), 100));
    let heard = Heard { instance: ONE, from: ABOVE, at: node.now, advert: advert(v3(100), 200), same_addresses: true };
    node.feed(Input::Advert(heard));
    node.pass(Nanos(3_609_375_000 - 1));
    assert_eq!(node.state(), State::Backup);
    node.pass(Nanos(1));
    assert_eq!(node.state(), State::Master);
    // Then by its own.
    assert!(node.pass(Nanos(100 * MS - 1)).is_empty());
    assert_eq!(node.pass(Nanos(1)), [sends(100)]);
}

#[test]
fn a_resignation_is_waited_for_by_the_interval_of_the_master_that_resigned() {
    let mut node = Node::in_state(State::Backup, instance(v3(10), 100));
    let mut heard =
        Heard { instance: ONE, from: ABOVE, at: node.now, advert: advert(v3(100), 200), same_addresses: true };
    node.feed(Input::Advert(heard));
    heard.advert.priority = Priority::RESIGN;
    node.feed(Input::Advert(heard));
    node.pass(Nanos(609_375_000 - 1));
    assert_eq!(node.state(), State::Backup);
    node.pass(Nanos(1));
    assert_eq!(node.state(), State::Master);
}

#[test]
fn a_weaker_advert_does_not_feed_the_timer_of_a_backup_that_preempts() {
    let mut node = Node::in_state(State::Backup, instance(v2(1), 100));
    for _ in 0..3 {
        node.pass(ms(1000));
        node.hear(ABOVE, 50);
    }
    node.pass(Nanos(609_375_000 - 1));
    assert_eq!(node.state(), State::Backup);
    node.pass(Nanos(1));
    assert_eq!(node.state(), State::Master);
}

#[test]
fn without_preemption_a_weaker_master_is_borne_with_except_by_an_owner() {
    let mut rules = instance(v2(1), 100);
    rules.preempt = false;
    let mut node = Node::in_state(State::Backup, rules);
    for _ in 0..60 {
        node.pass(ms(1000));
        node.hear(ABOVE, 50);
    }
    assert_eq!(node.state(), State::Backup);
    // A gone one is not.
    node.pass(Nanos(3_609_375_000));
    assert_eq!(node.state(), State::Master);
    let mut owner = instance(v2(1), 255);
    owner.preempt = false;
    let mut node = Node::in_state(State::Fault, owner);
    node.track(0, TrackValue::Ok);
    assert_eq!(node.state(), State::Master);
}

#[test]
fn a_preemption_delay_counts_from_the_first_weaker_advert_and_begins_anew_after_a_stronger_one() {
    let mut rules = instance(v2(1), 100);
    rules.preempt_delay = Nanos::from_secs(10);
    let run = |node: &mut Node, seconds: u64, priority| {
        for _ in 0..seconds {
            node.hear(ABOVE, priority);
            node.pass(ms(1000));
        }
    };
    let mut node = Node::in_state(State::Backup, rules.clone());
    run(&mut node, 9, 50);
    run(&mut node, 1, 200);
    run(&mut node, 10, 50);
    assert_eq!(node.state(), State::Backup);
    // Not heard from the eleventh second on: three intervals and the skew after the last one that was.
    run(&mut node, 2, 50);
    node.pass(Nanos(609_375_000 - 1));
    assert_eq!(node.state(), State::Backup);
    node.pass(Nanos(1));
    assert_eq!(node.state(), State::Master);
    // Nobody at all is no reason to wait longer.
    let mut node = Node::in_state(State::Backup, rules);
    node.pass(Nanos(3_609_375_000));
    assert_eq!(node.state(), State::Master);
}

#[test]
fn the_timer_counts_from_when_the_kernel_received_and_not_from_when_we_read() {
    let mut node = Node::in_state(State::Backup, instance(v2(1), 100));
    node.now = node.now.after(ms(900));
    node.hear_at(ONE, ABOVE, 200, Nanos(node.now.0 - 900 * MS));
    node.pass(Nanos((3609 - 900) * MS));
    assert_eq!(node.state(), State::Backup);
    node.pass(ms(1));
    assert_eq!(node.state(), State::Master);
}

#[test]
fn a_late_daemon_hears_what_came_in_time_before_its_timer_runs() {
    let mut node = Node::in_state(State::Backup, instance(v2(1), 100));
    node.hear(ABOVE, 200);
    let heard = node.now;
    // It comes back after five seconds; the adverts of that time wait in the socket.
    node.now = heard.after(ms(5000));
    for second in 1..=4 {
        assert!(node.hear_at(ONE, ABOVE, 200, heard.after(ms(1000 * second))).is_empty());
    }
    assert!(node.feed(Input::Wake).is_empty());
    assert_eq!(node.state(), State::Backup);
    assert_eq!(node.router.snapshot().instances[0].counters.stalls, 0);
}

#[test]
fn a_host_that_stood_still_gives_its_master_one_more_interval_and_no_second_one() {
    let mut node = Node::in_state(State::Backup, instance(v2(1), 100));
    node.hear(ABOVE, 200);
    node.now = node.now.after(ms(60_000));
    assert!(node.feed(Input::Wake).is_empty());
    assert!(node.pass(ms(999)).is_empty());
    node.pass(ms(1));
    assert_eq!(node.state(), State::Master);
    // One interval late is late, not standing still.
    let mut node = Node::in_state(State::Backup, instance(v2(1), 100));
    node.hear(ABOVE, 200);
    node.now = node.now.after(Nanos(4_609_375_000));
    node.feed(Input::Wake);
    assert_eq!(node.state(), State::Master);
}

#[test]
fn adverts_leave_once_an_interval_without_drift_and_without_a_burst_after_a_stall() {
    let mut node = Node::in_state(State::Master, instance(v3(10), 100));
    let count = |did: &[Action]| did.iter().filter(|&action| *action == sends(100)).count();
    assert_eq!(count(&node.pass(ms(10_000))), 100);
    // Each wake comes a little late.
    let mut sent = 0;
    let end = node.now.after(ms(10_000));
    while node.now < end {
        node.now = node.wake_at.unwrap().after(ms(3));
        sent += count(node.feed(Input::Wake));
    }
    assert!((99..=101).contains(&sent), "{sent}");
    node.now = node.now.after(ms(60_000));
    assert_eq!(count(node.feed(Input::Wake)), 1);
}

#[test]
fn of_many_instances_each_has_its_own_time() {
    let instances = (1..=200).map(|priority| instance(v3(10), priority)).collect();
    let mut node = Node::new(Rules { instances, ..Rules::default() });
    let reports = |did: &[Action]| {
        let master = |action: &Action| match action {
            Action::Report(report) if report.to == State::Master => Some(report.instance),
            _ => None,
        };
        did.iter().filter_map(master).collect::<Vec<_>>()
    };
    let order = reports(&node.pass(ms(400)));
    // The strongest first.
    assert_eq!(order, (0..200).rev().map(InstanceId).collect::<Vec<_>>());
    // One of them yields, and no other moves.
    node.hear_at(InstanceId(7), ABOVE, 254, node.now);
    assert_eq!(node.did.iter().filter(|action| matches!(action, Action::Report(_))).count(), 1);
    assert_eq!(node.router.state(InstanceId(7)), State::Backup);
    let sent = node.pass(ms(100)).into_iter().filter(|action| matches!(action, Action::Advert { .. })).count();
    assert_eq!(sent, 199);
}
