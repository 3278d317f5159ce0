//! Gratuitous ARPs, as keepalived sends them.

use super::*;

/// At which milliseconds after becoming master how many were sent.
fn times(announce: Announce, length_ms: u64) -> Vec<(u64, u32)> {
    let mut rules = instance(v2(1), 255);
    rules.announce = announce;
    let mut node = Node::new(alone(rules));
    let begun = node.now;
    let mut times = Vec::new();
    let mut note = |node: &Node| {
        for action in &node.did {
            if let Action::Announce { count, .. } = action {
                times.push((node.now.since(begun).0 / MS, *count));
            }
        }
    };
    note(&node);
    while node.wake_at.unwrap() <= begun.after(ms(length_ms)) {
        node.now = node.wake_at.unwrap();
        node.feed(Input::Wake);
        note(&node);
    }
    times
}

#[test]
fn the_users_files_give_five_at_once_five_after_a_second_and_one_every_five_seconds() {
    let announce = Announce { delay: ms(1000), refresh: ms(5000), ..Announce::KEEPALIVED };
    assert_eq!(times(announce, 17_000), [(0, 5), (1000, 5), (6000, 1), (11_000, 1), (16_000, 1)]);
}

#[test]
fn the_defaults_are_two_bursts_and_no_refresh() {
    assert_eq!(times(Announce::KEEPALIVED, 60_000), [(0, 5), (5000, 5)]);
}

#[test]
fn without_a_delay_there_is_one_burst_and_without_a_count_none() {
    let announce = Announce { delay: ms(0), refresh: ms(2000), refresh_repeat: 3, ..Announce::KEEPALIVED };
    assert_eq!(times(announce, 5000), [(0, 5), (2000, 3), (4000, 3)]);
    assert_eq!(times(Announce { repeat: 0, ..Announce::KEEPALIVED }, 60_000), []);
}

#[test]
fn a_weaker_advert_brings_its_own_bursts() {
    let mut rules = instance(v2(1), 100);
    rules.announce = Announce { delay: ms(0), lower_priority_repeat: 3, ..Announce::KEEPALIVED };
    rules.announce.lower_priority_delay = ms(2000);
    let mut node = Node::in_state(State::Master, rules);
    assert!(node.hear(ABOVE, 50).contains(&announces(3)));
    assert!(!node.pass(ms(1999)).contains(&announces(3)));
    assert!(node.pass(ms(1)).contains(&announces(3)));
    assert!(!node.pass(ms(10_000)).contains(&announces(3)));
}

#[test]
fn nobody_but_a_master_announces() {
    let mut rules = instance(v2(1), 100);
    rules.announce.refresh = ms(1000);
    let mut node = Node::in_state(State::Master, rules);
    node.hear(ABOVE, 50);
    node.hear(ABOVE, 200);
    assert_eq!(node.state(), State::Backup);
    for _ in 0..20 {
        let did = node.pass(ms(1000));
        assert!(did.is_empty(), "{did:?}");
        node.hear(ABOVE, 200);
    }
}
