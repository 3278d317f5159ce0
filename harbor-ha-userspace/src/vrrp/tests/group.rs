//! Sync groups: masters together or not at all.

use super::*;

/// Two instances in one group; each tracks a file of its own, and the group a third one.
fn pair(weight: i16, tracking_weight: bool) -> Node {
    let mut instances = vec![instance(v2(1), 100), instance(v2(1), 50)];
    for (index, instance) in instances.iter_mut().enumerate() {
        instance.tracks.push(Track { tracker: TrackerId(index as u16), weight, reverse: false });
    }
    let tracker = |name: &str| TrackerRules { name: name.to_owned(), kind: TrackerKind::File { init: Some(0) } };
    let group = GroupRules {
        name: "G".to_owned(),
        instances: vec![ONE, TWO],
        tracks: vec![Track { tracker: TrackerId(2), weight: 0, reverse: false }],
        tracking_weight,
    };
    let trackers = ["one", "two", "both"].map(tracker).to_vec();
    Node::new(Rules { instances, groups: vec![group], trackers, ..Rules::default() })
}

fn states(node: &Node) -> [State; 2] {
    [node.router.state(ONE), node.router.state(TWO)]
}

fn serving() -> Node {
    let mut node = pair(0, false);
    node.pass(Nanos::from_secs(60));
    assert_eq!(states(&node), [State::Master; 2]);
    node
}

const GROUP: Subject = Subject::Group(GroupId(0));

#[test]
fn a_group_is_master_when_the_last_of_its_timers_has_run_out() {
    let mut node = pair(0, false);
    assert_eq!(node.told().last(), Some(&(GROUP, What::Backup)));
    // The skew of priority 50 is the longer one.
    node.pass(Nanos(3_804_687_500 - 1));
    assert_eq!(states(&node), [State::Backup; 2]);
    node.pass(Nanos(1));
    assert_eq!(states(&node), [State::Master; 2]);
    let expected =
        [(Subject::Instance(ONE), What::Master), (Subject::Instance(TWO), What::Master), (GROUP, What::Master)];
    assert_eq!(node.told(), expected);
}

#[test]
fn a_group_waits_for_a_member_whose_master_lives() {
    let mut node = pair(0, false);
    for _ in 0..30 {
        node.hear_at(TWO, ABOVE, 200, node.now);
        node.pass(ms(1000));
    }
    assert_eq!(states(&node), [State::Backup; 2]);
    assert!(node.router.snapshot().instances[0].waits_for_group);
    // One that is heard again wants no more.
    node.hear_at(ONE, ABOVE, 200, node.now);
    assert!(!node.router.snapshot().instances[0].waits_for_group);
    node.pass(Nanos::from_secs(10));
    assert_eq!(states(&node), [State::Master; 2]);
}

#[test]
fn a_member_that_yields_takes_the_group_along_and_nobody_resigns() {
    let mut node = serving();
    node.hear_at(TWO, ABOVE, 200, node.now);
    assert_eq!(states(&node), [State::Backup; 2]);
    let expected =
        [(Subject::Instance(TWO), What::Backup), (Subject::Instance(ONE), What::Backup), (GROUP, What::Backup)];
    assert_eq!(node.told(), expected);
    assert!(!node.did.iter().any(|action| matches!(action, Action::Advert { .. })));
    assert!(node.did(&Action::RemoveAddresses(ONE)) && node.did(&Action::RemoveAddresses(TWO)));
}

#[test]
fn a_fault_of_one_member_or_of_the_group_is_a_fault_of_all_and_all_resign() {
    for tracker in [0, 1, 2] {
        let mut node = serving();
        node.track(tracker, TrackValue::Number(1));
        assert_eq!(states(&node), [State::Fault; 2]);
        assert_eq!(node.told().last(), Some(&(GROUP, What::Fault)));
        let resigned = |instance| Action::Advert { instance, priority: Priority::RESIGN };
        assert!(node.did(&resigned(ONE)) && node.did(&resigned(TWO)));
        node.track(tracker, TrackValue::Number(0));
        assert_eq!(states(&node), [State::Backup; 2]);
        assert_eq!(node.told().last(), Some(&(GROUP, What::Backup)));
    }
}

#[test]
fn weights_are_obstacles_in_a_group_unless_it_says_that_they_count() {
    let mut node = pair(-10, false);
    node.track(0, TrackValue::Number(3));
    assert_eq!(states(&node), [State::Fault; 2]);
    let mut node = pair(-10, true);
    node.track(0, TrackValue::Number(3));
    assert_eq!(states(&node), [State::Backup; 2]);
    let priorities: Vec<u8> = node.router.snapshot().instances.iter().map(|view| view.priority).collect();
    assert_eq!(priorities, [70, 50]);
}

#[test]
fn a_weaker_advert_to_one_member_makes_all_of_them_announce() {
    let mut node = serving();
    node.hear_at(TWO, ABOVE, 10, node.now);
    for instance in [ONE, TWO] {
        assert!(node.did(&Action::Announce { instance, count: 5 }));
    }
    assert_eq!(node.did.iter().filter(|action| matches!(action, Action::Advert { .. })).count(), 1);
    let later = node.pass(Nanos::from_secs(5));
    for instance in [ONE, TWO] {
        assert!(later.contains(&Action::Announce { instance, count: 5 }));
    }
}

#[test]
fn a_group_of_owners_is_master_at_once_and_one_owner_waits_for_the_other() {
    let group = GroupRules { name: "G".to_owned(), instances: vec![ONE, TWO], tracks: vec![], tracking_weight: false };
    let rules = |priorities: [u8; 2]| Rules {
        instances: priorities.map(|priority| instance(v2(1), priority)).to_vec(),
        groups: vec![group.clone()],
        ..Rules::default()
    };
    assert_eq!(states(&Node::new(rules([255, 255]))), [State::Master; 2]);
    let mut node = Node::new(rules([255, 100]));
    node.pass(Nanos(3_609_375_000 - 1));
    assert_eq!(states(&node), [State::Backup; 2]);
    node.pass(Nanos(1));
    assert_eq!(states(&node), [State::Master; 2]);
}

#[test]
fn all_masters_resign_before_the_first_address_goes() {
    let mut node = serving();
    node.feed(Input::Stop);
    let deeds = deeds(&node.did);
    assert!(deeds[..2].iter().all(|action| matches!(action, Action::Advert { priority: Priority(0), .. })));
    assert!(deeds[2..4].iter().all(|action| matches!(action, Action::RemoveAddresses(_))));
    let stops = [Subject::Instance(ONE), Subject::Instance(TWO), GROUP].map(|subject| (subject, What::Stop));
    assert_eq!(node.told(), stops);
}
