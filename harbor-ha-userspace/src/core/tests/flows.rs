//! Open connections: when their clients are asked, and which a node resets that leaves the service.

use super::*;
use crate::core::flows::Reset;

/// What was done about connections and the server, in order.
fn steps(actions: &[Action]) -> Vec<Action> {
    let matters = |action: &&Action| {
        matches!(action, Action::Reset(_) | Action::Stop(_) | Action::Withdraw | Action::Tickle | Action::Serve)
    };
    actions.iter().filter(matters).cloned().collect()
}

#[test]
fn clients_are_asked_once_the_addresses_are_announced_and_not_when_they_are_put_back() {
    let mut node = Node::standby();
    node.dead();
    assert_eq!(steps(node.promoted()), [Action::Serve]);
    assert_eq!(steps(node.served()), [Action::Tickle]);
    assert_eq!(steps(node.served()), []);
}

#[test]
fn an_announcement_that_failed_asks_nobody() {
    let mut node = Node::standby();
    node.dead();
    node.promoted();
    let failed = Done::Serve(Err("no".to_owned()));
    assert_eq!(steps(node.done(failed)), []);
}

#[test]
fn a_resigning_node_leaves_to_a_living_standby_what_that_one_knows_of() {
    let mut node = Node::primary();
    let did = steps(node.news(Postgres::Exited));
    assert_eq!(did, [Action::Reset(Reset::Unshared), Action::Stop(StopMode::Kill)]);
}

#[test]
fn without_a_living_standby_every_connection_is_reset() {
    let mut node = Node::primary();
    node.dead();
    let did = steps(node.news(Postgres::Exited));
    assert_eq!(did, [Action::Reset(Reset::All), Action::Stop(StopMode::Kill)]);
    let mut node = Node::primary();
    node.dead();
    let did = steps(node.feed(Input::Command(Command::Terminate)));
    assert_eq!(did[..2], [Action::Reset(Reset::All), Action::Withdraw], "PostgreSQL goes on, the address does not");
}

#[test]
fn a_node_that_stands_down_resets_every_connection_as_somebody_serves_already() {
    let mut node = Node::primary();
    node.pulse(PRIMARY, 2);
    assert_eq!(steps(&node.did), [Action::Reset(Reset::All), Action::Stop(StopMode::Fast)]);
}

#[test]
fn a_standby_has_no_connections_to_reset() {
    let mut node = Node::standby();
    for _ in 0..node.core.rules.probe_fall {
        node.news(Postgres::NoAnswer);
    }
    assert_eq!(steps(&node.did), [Action::Stop(StopMode::Kill)]);
}
