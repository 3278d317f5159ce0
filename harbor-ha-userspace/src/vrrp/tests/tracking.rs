//! Rise, fall, weight, reverse: what tracked things make of an instance.

use super::track::{Effect, Level, Tracker, effect};
use super::*;

const SCRIPT: TrackerKind = TrackerKind::Script { rise: 1, fall: 1, init_fail: false };

#[test]
fn the_table_of_levels_and_weights() {
    use Effect::{Adds, Stops, Waits};
    let table = [
        // weight 0, +20, -20; then the same reversed
        (Level::Unknown, [Waits, Adds(0), Adds(0), Waits, Adds(0), Adds(0)]),
        (Level::Good, [Adds(0), Adds(20), Adds(0), Stops, Adds(-20), Adds(0)]),
        (Level::Bad, [Stops, Adds(0), Adds(-20), Adds(0), Adds(0), Adds(20)]),
        (Level::Number(0), [Adds(0), Adds(0), Adds(0), Stops, Adds(0), Adds(0)]),
        (Level::Number(3), [Stops, Adds(60), Adds(-60), Adds(0), Adds(-60), Adds(60)]),
        (Level::Number(-12), [Stops, Adds(-240), Adds(240), Adds(0), Adds(240), Adds(-240)]),
        (Level::Number(13), [Stops, Adds(253), Stops, Adds(0), Stops, Adds(253)]),
        (Level::Number(i64::MIN), [Stops, Stops, Adds(253), Adds(0), Adds(253), Stops]),
    ];
    for (level, expected) in table {
        let uses = [(0, false), (20, false), (-20, false), (0, true), (20, true), (-20, true)];
        for ((weight, reverse), expected) in uses.into_iter().zip(expected) {
            assert_eq!(effect(level, weight, reverse), expected, "{level:?}, weight {weight}, reverse {reverse}");
        }
    }
}

#[test]
fn a_product_of_minus_253_lowers_and_one_of_minus_254_stops() {
    assert_eq!(effect(Level::Number(-253), 1, false), Effect::Adds(-253));
    assert_eq!(effect(Level::Number(-254), 1, false), Effect::Stops);
    assert_eq!(effect(Level::Number(127), -2, false), Effect::Stops);
}

fn levels(kind: TrackerKind, values: &[TrackValue]) -> Vec<Level> {
    let mut tracker = Tracker::new(kind);
    values
        .iter()
        .map(|&value| {
            tracker.take(value);
            tracker.level()
        })
        .collect()
}

#[test]
fn a_script_rises_and_falls_by_counts_in_a_row_and_its_first_end_is_enough() {
    use Level::{Bad, Good};
    use TrackValue::{Failed, Ok, Unknown};
    let kind = TrackerKind::Script { rise: 2, fall: 3, init_fail: false };
    assert_eq!(
        levels(kind, &[Ok, Failed, Failed, Ok, Failed, Failed, Unknown, Failed, Ok, Failed, Ok, Ok]),
        [Good, Good, Good, Good, Good, Good, Good, Bad, Bad, Bad, Bad, Good]
    );
    assert_eq!(levels(kind, &[Failed, Ok, Ok]), [Bad, Bad, Good]);
    let init_fail = TrackerKind::Script { rise: 2, fall: 3, init_fail: true };
    assert_eq!(levels(init_fail, &[Unknown, Ok, Ok]), [Bad, Bad, Good]);
}

#[test]
fn processes_are_counted_against_both_quorums() {
    use Level::{Bad, Good};
    let number = TrackValue::Number;
    let kind = TrackerKind::Process { quorum: 2, quorum_max: Some(3) };
    assert_eq!(levels(kind, &[1, 2, 3, 4, 0].map(number)), [Bad, Good, Good, Bad, Bad]);
    let kind = TrackerKind::Process { quorum: 1, quorum_max: None };
    assert_eq!(levels(kind, &[number(1000), TrackValue::Failed]), [Good, Bad]);
}

/// An instance of this priority and these uses of scripts.
fn weighed(priority: u8, uses: &[(i16, bool)]) -> Node {
    let mut rules = instance(v2(1), priority);
    rules.priority_changes = true;
    let mut trackers = Vec::new();
    for (index, &(weight, reverse)) in uses.iter().enumerate() {
        rules.tracks.push(Track { tracker: TrackerId(index as u16), weight, reverse });
        trackers.push(TrackerRules { name: format!("chk_{index}"), kind: SCRIPT });
    }
    Node::new(Rules { instances: vec![rules], trackers, ..Rules::default() })
}

fn priority(node: &Node) -> u8 {
    node.router.snapshot().instances[0].priority
}

#[test]
fn weights_move_the_priority_within_1_and_254_and_tell() {
    let mut node = weighed(100, &[(20, false), (-30, false)]);
    assert_eq!(priority(&node), 100, "what is not known weighs nothing");
    node.track(0, TrackValue::Ok);
    assert_eq!(node.told(), [(Subject::Instance(ONE), What::Priority { master: false })]);
    assert_eq!(priority(&node), 120);
    node.track(1, TrackValue::Failed);
    assert_eq!(priority(&node), 90);
    node.track(0, TrackValue::Failed);
    assert_eq!(priority(&node), 70);
    assert!(node.track(0, TrackValue::Failed).is_empty(), "said before");
    for (base, weight, expected) in [(250, 253, 254), (5, -253, 1), (1, -1, 1), (254, 1, 254)] {
        let mut node = weighed(base, &[(weight, false)]);
        node.track(0, if weight > 0 { TrackValue::Ok } else { TrackValue::Failed });
        assert_eq!(priority(&node), expected, "{base} with {weight}");
    }
}

#[test]
fn an_owner_is_not_moved_and_can_be_stopped() {
    let mut node = weighed(255, &[(-30, false), (0, false)]);
    node.track(0, TrackValue::Failed);
    node.track(1, TrackValue::Ok);
    assert_eq!((node.state(), priority(&node)), (State::Master, 255));
    node.track(1, TrackValue::Failed);
    assert_eq!(node.state(), State::Fault);
}

#[test]
fn what_has_no_weight_is_waited_for_and_stops() {
    let mut node = weighed(100, &[(0, false), (0, false)]);
    assert_eq!(node.state(), State::Init);
    node.track(0, TrackValue::Ok);
    assert_eq!(node.state(), State::Init);
    assert!(node.router.snapshot().instances[0].why.contains("chk_1"));
    node.track(1, TrackValue::Ok);
    assert_eq!(node.state(), State::Backup);
    node.track(0, TrackValue::Failed);
    assert_eq!(node.state(), State::Fault);
    node.track(1, TrackValue::Failed);
    node.track(0, TrackValue::Ok);
    assert_eq!(node.state(), State::Fault, "the other one");
    node.track(1, TrackValue::Ok);
    assert_eq!((node.state(), node.told()), (State::Backup, vec![(Subject::Instance(ONE), What::Backup)]));
    // From the start one failure is enough, whatever is not known.
    let mut node = weighed(100, &[(0, false), (0, false)]);
    node.track(1, TrackValue::Failed);
    assert_eq!((node.state(), node.told()), (State::Fault, vec![(Subject::Instance(ONE), What::Fault)]));
}

#[test]
fn a_weight_is_waited_for_unless_a_script_has_it() {
    let mut rules = instance(v2(1), 100);
    rules.tracks = [0, 1].map(|id| Track { tracker: TrackerId(id), weight: 20, reverse: false }).into();
    let tracker = |kind| TrackerRules { name: "watched".to_owned(), kind };
    let process = TrackerKind::Process { quorum: 1, quorum_max: None };
    for kind in [TrackerKind::Interface, process, TrackerKind::File { init: None }] {
        let trackers = vec![tracker(SCRIPT), tracker(kind)];
        let mut node = Node::new(Rules { instances: vec![rules.clone()], trackers, ..Rules::default() });
        assert_eq!(node.state(), State::Init, "{kind:?}");
        node.track(1, TrackValue::Number(0));
        assert_eq!(node.state(), State::Backup, "{kind:?}");
    }
}

#[test]
fn a_master_with_a_fault_resigns_first() {
    let mut node = Node::in_state(State::Master, instance(v2(1), 100));
    node.track(0, TrackValue::Number(1));
    let event = Event { subject: Subject::Instance(ONE), what: What::Fault, priority: Priority(100) };
    assert_eq!(deeds(&node.did), [sends(0), Action::RemoveAddresses(ONE), Action::Notify(event)]);
    assert!(node.pass(Nanos::from_secs(3600)).is_empty());
    // Then it waits like anyone else.
    node.track(0, TrackValue::Number(0));
    node.pass(Nanos(3_609_375_000 - 1));
    assert_eq!(node.state(), State::Backup);
    node.pass(Nanos(1));
    assert_eq!(node.state(), State::Master);
}

#[test]
fn a_master_whose_weight_fell_is_preempted_by_its_backup() {
    let mut node = weighed(100, &[(20, false)]);
    node.track(0, TrackValue::Ok);
    // The master has 110: stronger than 100, weaker than 120.
    for _ in 0..3 {
        node.hear(ABOVE, 110);
        node.pass(ms(1000));
    }
    node.pass(ms(1000));
    assert_eq!(node.state(), State::Master);
    node.track(0, TrackValue::Failed);
    node.hear(ABOVE, 110);
    assert_eq!(node.state(), State::Backup);
}

#[test]
fn after_a_fault_a_preemption_delay_begins_at_once() {
    let mut rules = instance(v2(1), 100);
    rules.preempt_delay = Nanos::from_secs(10);
    let mut node = Node::in_state(State::Fault, rules);
    node.track(0, TrackValue::Ok);
    node.pass(ms(500));
    for _ in 0..9 {
        node.hear(ABOVE, 50);
        node.pass(ms(1000));
    }
    // 9.5 s: the last that is heard, as the delay counts from the end of the fault.
    node.hear(ABOVE, 50);
    for _ in 0..3 {
        node.pass(ms(1000));
        node.hear(ABOVE, 50);
    }
    node.pass(Nanos(609_375_000 - 1));
    assert_eq!(node.state(), State::Backup);
    node.pass(Nanos(1));
    assert_eq!(node.state(), State::Master);
}
