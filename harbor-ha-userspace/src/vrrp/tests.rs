//! Whole routers against the RFCs and keepalived's manual.

use std::net::Ipv4Addr;
use std::num::NonZeroU8;

use harbor_ha_ebpf::units::{Centis, Nanos, Priority, Vrid};
use harbor_ha_ebpf::wire::vrrp::Advert;

use super::rules::{Announce, Base, DownAdverts, GroupRules, InstanceRules, Protocol};
use super::track::{Track, TrackerKind, TrackerRules};
use super::*;

mod announce;
mod group;
mod states;
mod timing;
mod tracking;
mod walk;

const MS: u64 = 1_000_000;
const ONE: InstanceId = InstanceId(0);
const TWO: InstanceId = InstanceId(1);
/// Ours; the others' are one below and one above.
const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const BELOW: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 4);
const ABOVE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 6);

const fn ms(millis: u64) -> Nanos {
    Nanos::from_millis(millis)
}

fn v2(seconds: u8) -> Protocol {
    Protocol::V2(NonZeroU8::new(seconds).unwrap())
}

fn v3(centis: u16) -> Protocol {
    Protocol::V3(Centis::new(centis).unwrap())
}

fn instance(protocol: Protocol, priority: u8) -> InstanceRules {
    InstanceRules {
        name: "VI_1".to_owned(),
        vrid: Vrid::new(51).unwrap(),
        protocol,
        priority: Base::new(priority).unwrap(),
        owns_at_once: true,
        source: OURS,
        preempt: true,
        preempt_delay: Nanos(0),
        down_adverts: DownAdverts::RFC,
        lower_prio_no_advert: false,
        higher_prio_send_advert: false,
        skip_check_adv_addr: false,
        announce: Announce::KEEPALIVED,
        tracks: Vec::new(),
        priority_changes: false,
    }
}

fn alone(instance: InstanceRules) -> Rules {
    Rules { instances: vec![instance], ..Rules::default() }
}

/// A router, its clock, and what it did last.
struct Node {
    router: Router,
    now: Nanos,
    wake_at: Option<Nanos>,
    did: Vec<Action>,
}

impl Node {
    /// Started, at an instant that is not zero.
    fn new(rules: Rules) -> Self {
        let now = Nanos::from_secs(1000);
        let mut node = Self { router: Router::new(rules, now), now, wake_at: None, did: Vec::new() };
        node.feed(Input::Wake);
        node
    }

    fn feed(&mut self, input: Input) -> &[Action] {
        let mut out = Actions::default();
        self.router.handle(self.now, input, &mut out);
        self.did = out.drain().collect();
        self.wake_at = out.wake_at();
        if input == Input::Wake {
            assert!(self.wake_at.is_none_or(|at| at > self.now), "a deadline in the past: {:?}", self.wake_at);
        }
        &self.did
    }

    /// Lets time pass, with a wake at each deadline; everything that was done.
    fn pass(&mut self, length: Nanos) -> Vec<Action> {
        let end = self.now.after(length);
        let mut did = Vec::new();
        while let Some(at) = self.wake_at.filter(|&at| at <= end) {
            self.now = at;
            did.extend_from_slice(self.feed(Input::Wake));
        }
        self.now = end;
        self.did.clone_from(&did);
        did
    }

    /// An advert to an instance, received now.
    fn hear_at(&mut self, instance: InstanceId, from: Ipv4Addr, priority: u8, at: Nanos) -> &[Action] {
        let protocol = self.router.instances[usize::from(instance.0)].rules.protocol;
        let advert = advert(protocol, priority);
        self.feed(Input::Advert(Heard { instance, from, at, advert, same_addresses: true }))
    }

    fn hear(&mut self, from: Ipv4Addr, priority: u8) -> &[Action] {
        self.hear_at(ONE, from, priority, self.now)
    }

    fn track(&mut self, tracker: u16, value: TrackValue) -> &[Action] {
        self.feed(Input::Tracked { tracker: TrackerId(tracker), value })
    }

    fn state(&self) -> State {
        self.router.state(ONE)
    }

    fn did(&self, action: &Action) -> bool {
        self.did.contains(action)
    }

    fn told(&self) -> Vec<(Subject, What)> {
        events(&self.did)
    }

    /// A first instance in a state, by the shortest way.
    fn in_state(state: State, mut rules: InstanceRules) -> Self {
        let kind = match state {
            State::Init | State::Fault => TrackerKind::Interface,
            State::Backup | State::Master => TrackerKind::File { init: Some(0) },
        };
        rules.tracks.push(Track { tracker: TrackerId(0), weight: 0, reverse: false });
        let trackers = vec![TrackerRules { name: "eth0".to_owned(), kind }];
        let mut node = Self::new(Rules { instances: vec![rules], trackers, ..Rules::default() });
        match state {
            State::Init | State::Backup => {}
            State::Master => {
                node.pass(Nanos::from_secs(300));
            }
            State::Fault => {
                node.track(0, TrackValue::Failed);
            }
        }
        assert_eq!(node.state(), state);
        node
    }
}

fn advert(protocol: Protocol, priority: u8) -> Advert {
    Advert {
        version: protocol.version(),
        vrid: 51,
        priority: Priority(priority),
        count: 1,
        interval: protocol.interval(),
        auth_type: 0,
        auth_data: [0; 8],
    }
}

fn events(actions: &[Action]) -> Vec<(Subject, What)> {
    let event = |action: &Action| match action {
        Action::Notify(event) => Some((event.subject, event.what)),
        _ => None,
    };
    actions.iter().filter_map(event).collect()
}

/// Without what is for people only.
fn deeds(actions: &[Action]) -> Vec<Action> {
    actions.iter().filter(|action| !matches!(action, Action::Report(_))).cloned().collect()
}

fn sends(priority: u8) -> Action {
    Action::Advert { instance: ONE, priority: Priority(priority) }
}

fn announces(count: u32) -> Action {
    Action::Announce { instance: ONE, count }
}
