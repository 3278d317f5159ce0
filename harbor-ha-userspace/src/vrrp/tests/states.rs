//! States and adverts: RFC 3768 §6.4, RFC 9568 §6.4.

use super::*;

const PREEMPT: [Preempt; 3] = [Preempt::Never, Preempt::Later, Preempt::Now];

/// Every state, every kind of advert, every way to meet a weaker master.
#[test]
fn the_table_of_the_rfcs() {
    use Then::{Advertise, Answer, Discard, Follow, Ignore, Skew, Yield};
    let table = [
        // Init, Backup (never, later, now), Master, Fault
        (Rank::Resigned, [Ignore, Skew, Skew, Skew, Advertise, Ignore]),
        (Rank::Weaker, [Ignore, Follow, Follow, Discard, Answer, Ignore]),
        (Rank::EqualBelow, [Ignore, Follow, Follow, Follow, Answer, Ignore]),
        (Rank::EqualAbove, [Ignore, Follow, Follow, Follow, Yield, Ignore]),
        (Rank::Stronger, [Ignore, Follow, Follow, Follow, Yield, Ignore]),
    ];
    for (rank, [init, never, later, now, master, fault]) in table {
        for (preempt, backup) in PREEMPT.into_iter().zip([never, later, now]) {
            let expected = [init, backup, master, fault];
            for (state, expected) in State::ALL.into_iter().zip(expected) {
                assert_eq!(then(state, rank, preempt), expected, "{rank:?} in {state}, {preempt:?}");
            }
        }
    }
}

#[test]
fn priorities_are_compared_first_and_then_addresses_as_unsigned_numbers() {
    let high = Ipv4Addr::new(200, 0, 0, 1);
    for (theirs, from, expected) in [
        (0, high, Rank::Resigned),
        (99, high, Rank::Weaker),
        (100, BELOW, Rank::EqualBelow),
        (100, OURS, Rank::EqualBelow),
        (100, ABOVE, Rank::EqualAbove),
        (100, high, Rank::EqualAbove),
        (101, BELOW, Rank::Stronger),
    ] {
        assert_eq!(rank(Priority(theirs), from, Priority(100), OURS), expected, "{theirs} of {from}");
    }
}

/// The same table, through the router: the state after each input, in both versions.
#[test]
fn the_table_of_states_and_inputs() {
    use State::{Backup, Fault, Init, Master};
    type Step = fn(&mut Node);
    let inputs: [(&str, Step, [State; 4]); 10] = [
        ("a wake", |n| drop(n.feed(Input::Wake).to_vec()), [Init, Backup, Master, Fault]),
        ("a stronger advert", |n| drop(n.hear(BELOW, 200).to_vec()), [Init, Backup, Backup, Fault]),
        ("a weaker advert", |n| drop(n.hear(ABOVE, 50).to_vec()), [Init, Backup, Master, Fault]),
        ("an equal one of a smaller address", |n| drop(n.hear(BELOW, 100).to_vec()), [Init, Backup, Master, Fault]),
        ("an equal one of a greater address", |n| drop(n.hear(ABOVE, 100).to_vec()), [Init, Backup, Backup, Fault]),
        ("an owner's", |n| drop(n.hear(BELOW, 255).to_vec()), [Init, Backup, Backup, Fault]),
        ("priority 0", |n| drop(n.hear(ABOVE, 0).to_vec()), [Init, Backup, Master, Fault]),
        ("our own advert, come back", |n| drop(n.hear(OURS, 200).to_vec()), [Init, Backup, Master, Fault]),
        ("a fault", |n| drop(n.track(0, TrackValue::Failed).to_vec()), [Fault, Fault, Fault, Fault]),
        ("the end", |n| drop(n.feed(Input::Stop).to_vec()), [Init, Init, Init, Init]),
    ];
    for protocol in [v2(1), v3(100)] {
        for (name, step, expected) in inputs {
            for (start, expected) in State::ALL.into_iter().zip(expected) {
                let mut rules = instance(protocol, 100);
                // Whoever is met in BACKUP is borne with.
                rules.preempt = start != State::Backup;
                let mut node = Node::in_state(start, rules);
                if name == "a fault" && matches!(start, Backup | Master) {
                    node.track(0, TrackValue::Number(1));
                } else {
                    step(&mut node);
                }
                assert_eq!(node.state(), expected, "{name} in {start}, version {}", protocol.version());
            }
        }
    }
}

#[test]
fn a_backup_that_becomes_master_advertises_first_and_tells_last() {
    let mut node = Node::new(alone(instance(v2(1), 100)));
    assert_eq!(node.told(), [(Subject::Instance(ONE), What::Backup)], "as keepalived tells at its start");
    node.pass(Nanos(3_609_375_000));
    let event = Event { subject: Subject::Instance(ONE), what: What::Master, priority: Priority(100) };
    assert_eq!(deeds(&node.did), [sends(100), Action::AddAddresses(ONE), announces(5), Action::Notify(event)]);
}

#[test]
fn an_owner_is_master_at_once_and_nobody_else_is() {
    let node = Node::new(alone(instance(v2(1), 255)));
    assert_eq!(node.state(), State::Master);
    assert!(node.did(&sends(255)) && node.did(&Action::AddAddresses(ONE)));
    assert_eq!(node.told(), [(Subject::Instance(ONE), What::Master)]);
    assert_eq!(Node::new(alone(instance(v2(1), 254))).state(), State::Backup);
    // keepalived's owner with `state BACKUP`.
    let node = Node::new(alone(InstanceRules { owns_at_once: false, ..instance(v2(1), 255) }));
    assert_eq!(node.state(), State::Backup);
}

#[test]
fn a_master_that_hears_a_resignation_advertises_and_does_nothing_else() {
    let mut node = Node::in_state(State::Master, instance(v3(100), 100));
    node.pass(ms(300));
    node.hear(ABOVE, 0);
    assert_eq!(node.did, [sends(100)]);
    assert!(node.pass(Nanos(1000 * MS - 1)).is_empty(), "the timer began anew");
    assert_eq!(node.pass(Nanos(1)), [sends(100)]);
}

#[test]
fn a_master_that_hears_a_stronger_one_takes_its_addresses_off_without_a_word() {
    let mut node = Node::in_state(State::Master, instance(v3(100), 100));
    node.hear(BELOW, 101);
    let event = Event { subject: Subject::Instance(ONE), what: What::Backup, priority: Priority(100) };
    assert_eq!(deeds(&node.did), [Action::RemoveAddresses(ONE), Action::Notify(event)]);
    let mut asked = instance(v3(100), 100);
    asked.higher_prio_send_advert = true;
    let mut node = Node::in_state(State::Master, asked);
    node.hear(BELOW, 101);
    assert_eq!(deeds(&node.did)[..2], [sends(100), Action::RemoveAddresses(ONE)]);
}

#[test]
fn a_master_answers_a_weaker_node_at_once_and_says_that_it_was_there() {
    let event = Event { subject: Subject::Instance(ONE), what: What::LowerPriority, priority: Priority(100) };
    let mut node = Node::in_state(State::Master, instance(v2(1), 100));
    node.hear(ABOVE, 99);
    assert_eq!(node.did, [sends(100), announces(5), Action::Notify(event)]);
    let mut silent = instance(v2(1), 100);
    (silent.lower_prio_no_advert, silent.announce.lower_priority_repeat) = (true, 0);
    let mut node = Node::in_state(State::Master, silent);
    node.hear(ABOVE, 99);
    assert_eq!(node.did, [Action::Notify(event)], "as before RFC 9568");
}

#[test]
fn a_stopped_master_resigns_before_anything_else() {
    let mut node = Node::in_state(State::Master, instance(v2(1), 100));
    node.feed(Input::Stop);
    assert_eq!(deeds(&node.did)[..2], [sends(0), Action::RemoveAddresses(ONE)]);
    assert_eq!(node.told(), [(Subject::Instance(ONE), What::Stop)]);
    assert_eq!(node.wake_at, None);
    assert!(node.hear(ABOVE, 200).is_empty() && node.feed(Input::Wake).is_empty(), "nothing follows the end");
    let mut node = Node::in_state(State::Backup, instance(v2(1), 100));
    node.feed(Input::Stop);
    assert_eq!(deeds(&node.did).len(), 1, "a backup has nothing to resign: {:?}", node.did);
}

#[test]
fn nothing_is_heard_and_nothing_said_in_a_start_up_delay() {
    for rules in [
        Rules { startup_delay: Nanos::from_secs(10), ..alone(instance(v2(1), 255)) },
        // The clock of a node begins at 1000 s.
        Rules { delay_after_boot: Nanos::from_secs(1010), ..alone(instance(v2(1), 255)) },
    ] {
        let mut node = Node::new(rules);
        assert_eq!((node.state(), node.did.len()), (State::Init, 0));
        assert!(node.hear(ABOVE, 100).is_empty());
        assert!(node.pass(Nanos(10_000 * MS - 1)).is_empty());
        assert!(node.pass(Nanos(1)).contains(&sends(255)));
    }
}

#[test]
fn an_address_that_somebody_took_away_is_put_back_by_the_master_alone() {
    let mut node = Node::in_state(State::Master, instance(v2(1), 100));
    assert_eq!(node.feed(Input::AddressesGone(ONE)), [Action::AddAddresses(ONE), announces(5)]);
    let mut node = Node::in_state(State::Backup, instance(v2(1), 100));
    assert!(node.feed(Input::AddressesGone(ONE)).is_empty());
}

#[test]
fn another_interval_or_list_of_addresses_is_told_once_and_shown() {
    let mut node = Node::in_state(State::Backup, instance(v3(100), 100));
    let other = |same_addresses| Heard {
        instance: ONE,
        from: ABOVE,
        at: node.now,
        advert: advert(v3(50), 200),
        same_addresses,
    };
    let (list, interval) = (Input::Advert(other(false)), Input::Advert(other(true)));
    let warns = |did: &[Action]| did.iter().filter(|action| matches!(action, Action::Warn { .. })).count();
    assert_eq!(warns(node.feed(interval)), 1);
    assert_eq!(warns(node.feed(interval)), 0);
    assert_eq!(warns(node.feed(list)), 1);
    assert_eq!(warns(node.feed(list)), 0);
    let view = &node.router.snapshot().instances[0];
    let peer = view.peers[0];
    assert_eq!((peer.interval_ns, peer.interval_differs, peer.addresses_differ), (500 * MS, true, true));
    assert_eq!((view.counters.interval_differs, view.counters.address_list_differs), (4, 2));
}

#[test]
fn with_skip_check_adv_addr_only_a_new_master_is_looked_at() {
    let mut rules = instance(v3(100), 100);
    rules.skip_check_adv_addr = true;
    let mut node = Node::in_state(State::Backup, rules);
    let at = node.now;
    let from =
        |from| Input::Advert(Heard { instance: ONE, from, at, advert: advert(v3(100), 200), same_addresses: false });
    for (sender, count) in [(ABOVE, 1), (ABOVE, 1), (BELOW, 2), (BELOW, 2)] {
        node.feed(from(sender));
        assert_eq!(node.router.snapshot().instances[0].counters.address_list_differs, count);
    }
}

#[test]
fn what_was_refused_is_counted_and_its_sender_shown() {
    use harbor_ha_ebpf::decide::filter::Reject;
    let mut node = Node::in_state(State::Backup, instance(v2(1), 100));
    let said = Some(Said { priority: 100, interval: Nanos::from_secs(2) });
    node.feed(Input::Refused { instance: ONE, from: ABOVE, at: node.now, why: Reject::Interval, said });
    node.feed(Input::Refused { instance: ONE, from: ABOVE, at: node.now, why: Reject::Password, said: None });
    let view = &node.router.snapshot().instances[0];
    assert_eq!(
        view.rejects.iter().map(|reject| (reject.reason, reject.count)).collect::<Vec<_>>(),
        [("password", 1), ("interval", 1)]
    );
    assert!(view.peers[0].interval_differs && view.peers[0].interval_ns == 2000 * MS && view.peers[0].adverts == 0);
}

#[test]
fn however_many_send_few_are_remembered() {
    let mut node = Node::in_state(State::Backup, instance(v3(100), 100));
    for last in 100..200 {
        node.pass(ms(1));
        node.hear(Ipv4Addr::new(10, 0, 1, last), 200);
    }
    let peers = &node.router.snapshot().instances[0].peers;
    assert_eq!(peers.len(), 16);
    assert!(peers.iter().all(|peer| peer.address.octets()[3] >= 184));
}

/// What is told of the last change.
fn why(node: &Node) -> String {
    node.router.snapshot().instances[0].why.clone()
}

#[test]
fn a_weaker_master_that_lives_is_the_reason_to_take_over_from_it() {
    let mut node = Node::in_state(State::Backup, instance(v3(100), 100));
    while node.state() == State::Backup {
        node.hear(BELOW, 10);
        node.pass(ms(1000));
    }
    assert_eq!(why(&node), "10.0.0.4 advertises priority 10, ours is 100");
}

#[test]
fn a_weaker_master_that_was_borne_with_and_dies_is_silent() {
    let rules = InstanceRules { preempt: false, ..instance(v3(100), 100) };
    let mut node = Node::in_state(State::Backup, rules);
    for _ in 0..10 {
        node.hear(BELOW, 10);
        node.pass(ms(1000));
    }
    assert_eq!(node.state(), State::Backup);
    node.pass(ms(4000));
    assert_eq!((node.state(), why(&node).as_str()), (State::Master, "10.0.0.4 is silent"));
}

#[test]
fn a_master_whose_priority_sank_is_not_called_silent_while_it_speaks() {
    let mut node = Node::in_state(State::Backup, instance(v3(100), 100));
    node.hear(BELOW, 200);
    while node.state() == State::Backup {
        node.pass(ms(1000));
        node.hear(BELOW, 50);
    }
    assert_eq!(why(&node), "10.0.0.4 advertises priority 50, ours is 100");
}

#[test]
fn the_reason_names_who_is_gone() {
    let start = || Node::in_state(State::Backup, instance(v3(100), 100));
    let mut node = start();
    node.hear(BELOW, 200);
    node.pass(ms(4000));
    assert_eq!((node.state(), why(&node).as_str()), (State::Master, "10.0.0.4 is silent"));
    let mut node = start();
    node.hear(BELOW, 200);
    node.hear(BELOW, 0);
    node.pass(ms(1000));
    assert_eq!((node.state(), why(&node).as_str()), (State::Master, "10.0.0.4 resigned"));
    let mut node = start();
    node.pass(ms(4000));
    assert_eq!((node.state(), why(&node).as_str()), (State::Master, "nobody is master"));
    // A weaker one that would be taken over from, and died before.
    let mut node = start();
    node.pass(ms(3000));
    node.hear(BELOW, 10);
    node.pass(ms(1000));
    assert_eq!(why(&node), "10.0.0.4 advertises priority 10, ours is 100");
}
