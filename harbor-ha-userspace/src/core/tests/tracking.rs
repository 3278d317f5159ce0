//! What is tracked: when a primary hands over for it and when it stays, what a standby refuses, and who is told.

use super::super::health::{Stays, Tracking};
use super::super::rules::{Isolated, LeaseRules};
use super::*;
use crate::vrrp::track::{Track, TrackValue, TrackerKind, TrackerRules};
use crate::vrrp::{Event, TrackerId, What};

/// Stops this node.
const CHECK: u16 = 0;
/// Lowers its priority by 20.
const LOAD: u16 = 1;

fn tracking() -> Tracking {
    let script = |name: &str, fall| TrackerRules {
        name: name.to_owned(),
        kind: TrackerKind::Script { rise: 1, fall, init_fail: false },
    };
    let track = |number, weight| Track { tracker: TrackerId(number), weight, reverse: false };
    Tracking { trackers: vec![script("check", 2), script("load", 1)], tracks: vec![track(0, 0), track(1, -20)] }
}

fn streamed() -> PgFacts {
    PgFacts { streaming: true, peer_is_sync: true, sync_names: "peer".to_owned(), peer_lsn: Lsn(100), ..primary(1) }
}

fn watching(rules: Rules, terms: Terms) -> Node {
    let mut node = Node::of_terms(rules, terms, ms(10_000));
    let core = Core::new(rules, terms, Adopted::default(), node.now);
    node.core = core.tracking(tracking());
    node
}

fn leased(isolated: Isolated) -> Rules {
    let lease = LeaseRules::new(ms(30), true, ms(1000), ms(60_000), isolated);
    Rules { postgres: true, start_wait: ms(500), lease: Some(lease), ..rules(100) }
}

/// A primary with a streaming standby and a lease that lasts; everything that it tracks is well.
fn primary_with(facts: PgFacts, rules: Rules) -> Node {
    let mut node = watching(rules, Terms { seen: 1, mine: 1, ..Terms::default() });
    node.feed(Input::Link(true));
    node.says(facts);
    node.leased = ms(1_000_000);
    node.pulse(flag::PG_UP, 1);
    node.tracks(CHECK, TrackValue::Ok);
    node.tracks(LOAD, TrackValue::Ok);
    node.served();
    assert_eq!(node.core.state, VrrpState::Master);
    node
}

fn a_primary() -> Node {
    primary_with(streamed(), leased(Isolated::Hold))
}

/// A standby of a primary that counts on it.
fn a_standby() -> Node {
    let terms = Terms { seen: 1, mine: 0, reserved: 3, waived: 0 };
    let mut node = watching(leased(Isolated::Hold), terms);
    node.feed(Input::Link(true));
    node.says(standby(1));
    node.pulse(PRIMARY | flag::SYNC | flag::LEASED, 1);
    node
}

pub(super) fn a_standby_whose_check_fails() -> Node {
    let mut node = a_standby();
    node.tracks(CHECK, TrackValue::Ok);
    node.fails();
    node
}

pub(super) fn mended(node: &mut Node) {
    node.tracks(CHECK, TrackValue::Ok);
    node.pass(ms(100));
}

impl Node {
    fn tracks(&mut self, tracker: u16, value: TrackValue) -> &[Action] {
        self.feed(Input::Tracked { tracker: TrackerId(tracker), value })
    }

    /// The check fails often enough.
    fn fails(&mut self) {
        self.tracks(CHECK, TrackValue::Failed);
        self.tracks(CHECK, TrackValue::Failed);
    }

    fn stays(&self) -> Option<&'static str> {
        self.core.snapshot().stays_name
    }

    fn told(&self) -> Vec<What> {
        let told = |action: &Action| if let Action::Notify(event) = action { Some(event.what) } else { None };
        self.did.iter().filter_map(told).collect()
    }
}

#[test]
fn a_primary_whose_check_fails_hands_over_when_its_standby_is_known_to_take_over() {
    let mut node = a_primary();
    node.tracks(CHECK, TrackValue::Failed);
    node.pass(ms(10_000));
    assert!(!node.did(&Action::Checkpoint), "one failure is none: fall = 2");
    node.tracks(CHECK, TrackValue::Failed);
    assert_eq!(node.stays(), Some("young"));
    node.pass(ms(1_999));
    assert!(!node.did(&Action::Checkpoint), "the other node's check has not had its time to fail too");
    node.pass(ms(1));
    assert!(node.did(&Action::Checkpoint) && node.stays().is_none(), "{:?}", node.did);
    node.done(Done::Checkpoint);
    assert!(node.did(&Action::Stop(StopMode::Fast)));
    node.done(Done::Stop(Ok(())));
    assert_ne!(node.core.pulse.flags & flag::RESIGN, 0);
    assert_eq!(node.told(), [What::Fault], "not BACKUP: it could not serve");
    assert_eq!(node.core.snapshot().tracked.as_deref(), Some("`check`, which this node tracks, has failed"));
}

#[test]
fn a_primary_never_leaves_a_service_that_nobody_would_take() {
    let up = flag::PG_UP;
    let quiet = PgFacts { streaming: false, ..streamed() };
    let unsynced = PgFacts { peer_is_sync: false, sync_names: String::new(), ..streamed() };
    for (why, flags, facts) in [
        (Stays::PeerTracked, up | flag::UNWELL, streamed()),
        (Stays::PeerTracked, up | flag::FAULT, streamed()),
        (Stays::PeerNotReady, 0, streamed()),
        (Stays::PeerNotReady, up | flag::REJOIN, streamed()),
        (Stays::PeerNotReady, up | flag::UNFIT, streamed()),
        (Stays::Held, up | flag::HOLD, streamed()),
        (Stays::NotStreaming, up, quiet),
        (Stays::NotSynchronous, up, unsynced),
        (Stays::NoRight, up | flag::WAIVED, streamed()),
    ] {
        let mut node = a_primary();
        node.pulse(flags, 1);
        node.says(facts);
        node.fails();
        node.pass(ms(300_000));
        assert_eq!(node.stays(), Some(why.name()));
        let left = |action: &Action| matches!(action, Action::Checkpoint | Action::Stop(_) | Action::Withdraw);
        assert!(!node.did.iter().any(left) && node.core.serving, "{why:?}: {:?}", node.did);
        assert!(node.core.snapshot().stays.is_some_and(|text| text == why.to_string()));
    }
}

#[test]
fn a_standby_that_is_silent_or_too_far_behind_is_no_successor_either() {
    let mut node = primary_with(streamed(), leased(Isolated::Serve));
    node.verdict(VerdictKind::Dead, Source::Pulse, 90, flag::PG_UP, 1);
    node.fails();
    node.pass(ms(10_000));
    assert_eq!((node.stays(), node.core.serving), (Some("peer_silent"), true));

    let rules = Rules { sync: SyncPolicy::Off, max_lag: 9, ..leased(Isolated::Hold) };
    let behind = |lsn| PgFacts { sync_names: String::new(), peer_lsn: Lsn(lsn), ..streamed() };
    let mut node = primary_with(behind(90), rules);
    node.fails();
    node.pass(ms(10_000));
    assert_eq!(node.stays(), Some("behind"));
    node.says(behind(91));
    assert!(node.did(&Action::Checkpoint));
}

#[test]
fn without_pulses_nothing_is_known_of_the_standby() {
    let rules = Rules { postgres: true, start_wait: ms(500), ..rules(100) };
    let mut node = watching(rules, Terms { seen: 1, mine: 1, ..Terms::default() });
    node.feed(Input::Link(true));
    node.says(streamed());
    node.pass(ms(1000));
    node.feed(Input::PeerPostgres(Some(standby(1))));
    node.served();
    assert_eq!(node.core.state, VrrpState::Master);
    node.fails();
    node.pass(ms(10_000));
    assert_eq!((node.stays(), node.core.serving), (Some("no_pulses"), true));
}

#[test]
fn an_obstacle_that_goes_away_lets_the_hand_over_begin_and_a_check_that_is_well_again_ends_it() {
    let mut node = a_primary();
    node.pulse(flag::PG_UP | flag::UNWELL, 1);
    node.fails();
    node.pass(ms(5_000));
    node.pulse(flag::PG_UP, 1);
    assert!(node.did(&Action::Checkpoint));
    node.tracks(CHECK, TrackValue::Ok);
    node.done(Done::Checkpoint);
    assert!(!node.did(&Action::Stop(StopMode::Fast)) && node.core.serving, "{:?}", node.did);
    assert_eq!(node.core.op, None);
}

#[test]
fn a_standby_that_begins_to_fail_during_the_checkpoint_calls_the_hand_over_off() {
    let mut node = a_primary();
    node.fails();
    node.pass(ms(2_000));
    assert!(node.did(&Action::Checkpoint));
    node.pulse(flag::PG_UP | flag::UNWELL, 1);
    node.done(Done::Checkpoint);
    assert!(!node.did(&Action::Stop(StopMode::Fast)) && node.core.serving, "{:?}", node.did);
    node.pulse(flag::PG_UP, 1);
    assert_eq!(node.stays(), Some("just_tried"), "not again at once");
    node.pass(ms(60_000));
    assert!(node.did(&Action::Checkpoint));
}

#[test]
fn a_standby_whose_check_fails_says_so_and_refuses_until_it_is_well_or_forced() {
    let mut node = a_standby();
    assert_ne!(node.core.pulse.flags & flag::UNWELL, 0, "not looked at yet");
    node.tracks(CHECK, TrackValue::Ok);
    assert_eq!(node.core.pulse.flags & flag::UNWELL, 0);
    assert_eq!(node.core.snapshot().refusal_name, None);
    node.fails();
    assert_ne!(node.core.pulse.flags & flag::UNWELL, 0);
    let snapshot = node.core.snapshot();
    assert_eq!(snapshot.refusal_name, Some("tracked"), "seen while the primary lives");
    assert!(snapshot.refusal.is_some_and(|text| text.starts_with("`check`, which this node tracks, has failed")));
    node.dead();
    node.pass(ms(60_000));
    assert!(!node.did(&Action::Promote));
    assert_eq!(node.core.snapshot().refusals.get("tracked"), Some(&1));
    node.tracks(CHECK, TrackValue::Ok);
    node.pass(ms(100));
    assert!(node.core.op == Some(Op::Promote) || node.did(&Action::Promote), "{:?}", node.core);

    let mut node = a_standby();
    node.fails();
    node.dead();
    node.pass(ms(1000));
    node.feed(Input::Command(Command::Failover));
    node.pass(ms(100));
    assert_eq!(node.core.op, Some(Op::Promote), "an operator has said so");
}

#[test]
fn who_resigned_to_a_standby_whose_check_fails_is_told_not_to_wait_for_it() {
    let mut node = a_standby();
    node.fails();
    node.pulse(flag::RESIGN | flag::SYNC | flag::FORMER, 1);
    assert_ne!(node.core.pulse.flags & flag::UNFIT, 0);
}

#[test]
fn nothing_is_handed_to_a_standby_that_would_refuse_also_when_an_operator_or_the_system_asks() {
    for command in [Command::Switchover, Command::Terminate] {
        let mut node = a_primary();
        node.pulse(flag::PG_UP | flag::UNWELL, 1);
        node.feed(Input::Command(command));
        let stops = |action: &Action| matches!(action, Action::Checkpoint | Action::Stop(_));
        assert!(!node.did.iter().any(stops), "{command:?}: PostgreSQL of the only server: {:?}", node.did);
        assert_eq!(node.core.serving, command == Command::Switchover);
        assert!(node.core.snapshot().peer.unwell);
    }
}

#[test]
fn of_two_standbys_the_one_that_is_well_takes_over_although_it_is_the_weaker_one() {
    for (flags, takes_over) in [(flag::PG_UP, false), (flag::PG_UP | flag::UNWELL, true)] {
        let mut node = Node::standby();
        node.core.health.priority = Priority(10);
        node.pulse(flags, 1);
        node.pass(ms(600));
        assert_eq!(node.did(&Action::Promote), takes_over, "its flags {flags:#x}");
    }
}

#[test]
fn a_weight_changes_the_priority_of_adverts_and_pulses() {
    let mut node = a_primary();
    assert_eq!((node.core.pulse.priority, node.core.snapshot().priority), (100, 100));
    node.tracks(LOAD, TrackValue::Failed);
    assert_eq!((node.core.pulse.priority, node.core.snapshot().priority), (80, 80));
    let later = node.pass(ms(1000));
    assert!(later.contains(&Action::Advert(Priority(80))), "{later:?}");
    assert!(node.core.serving, "a weight stops nobody");
}

#[test]
fn without_postgresql_a_failed_check_is_a_fault_as_keepalived_s() {
    let mut node = watching(rules(100), Terms::default());
    node.feed(Input::Link(true));
    assert_eq!(node.core.state, VrrpState::Init, "it waits for the first look");
    node.tracks(CHECK, TrackValue::Ok);
    assert_eq!(node.told(), [What::Backup]);
    node.pass(ms(5_000));
    node.served();
    assert_eq!((node.core.state, node.told()), (VrrpState::Master, vec![What::Master]));
    node.tracks(CHECK, TrackValue::Failed);
    node.tracks(CHECK, TrackValue::Failed);
    assert!(node.did(&Action::Advert(Priority::RESIGN)) && node.did(&Action::Withdraw));
    assert_eq!((node.core.state, node.told()), (VrrpState::Fault, vec![What::Fault]));
    node.pass(ms(60_000));
    assert_eq!(node.core.state, VrrpState::Fault);
    node.tracks(CHECK, TrackValue::Ok);
    assert_eq!((node.core.state, node.told()), (VrrpState::Backup, vec![What::Backup]));
}

#[test]
fn others_hear_of_a_takeover_once_the_addresses_are_announced_and_of_the_end_last() {
    let mut node = a_standby();
    node.tracks(CHECK, TrackValue::Ok);
    node.dead();
    node.pass(ms(100));
    node.promoted();
    node.pass(ms(100));
    assert!(!node.told().contains(&What::Master), "{:?}", node.did);
    node.served();
    assert_eq!(node.told(), [What::Master]);
    node.feed(Input::Addresses { asked: node.now.after(ms(1)), all: false, any: false });
    node.pass(ms(10_000));
    node.served();
    assert_eq!(node.told(), [], "put back, it is the same master");
    node.feed(Input::Command(Command::Terminate));
    let last = node.did.iter().rev().take(2).collect::<Vec<_>>();
    let [Action::Exit, Action::Notify(Event { what: What::Stop, priority: Priority(100), .. })] = last.as_slice()
    else {
        panic!("{:?}", node.did)
    };
}

#[test]
fn a_daemon_that_is_restarted_in_the_peer_s_patience_tells_nobody_that_it_stopped_or_waits() {
    let mut node = a_primary();
    node.feed(Input::Command(Command::Hold));
    node.pulse(flag::PG_UP | flag::HOLDS, 1);
    let order = node.core.lease.order;
    node.feed(Input::Command(Command::Terminate));
    assert!(node.did(&Action::Exit) && node.told().is_empty());
    let rules = leased(Isolated::Hold);
    let (terms, adopted) = (Terms { seen: 1, mine: 1, ..Terms::default() }, Adopted { order, ..Adopted::default() });
    node.core = Core::new(rules, terms, adopted, node.now).tracking(tracking());
    node.feed(Input::Link(true));
    node.says(streamed());
    assert_eq!(node.told(), [], "BACKUP would be a lie");
    node.pulse(flag::PG_UP, 1);
    node.served();
    assert_eq!(node.told(), [What::Master]);
}
