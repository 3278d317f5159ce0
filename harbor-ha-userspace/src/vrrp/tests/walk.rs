//! Three nodes with two instances each on a lossy network, through a seeded stream of faults, judged from outside.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

const NODES: usize = 3;
/// After the last fault: Master_Down of the slowest, twice, as a group waits for its last member.
const QUIET: Nanos = Nanos::from_secs(20);

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// An advert under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    at: Nanos,
    order: u64,
    to: usize,
    from: usize,
    instance: u16,
    priority: u8,
}

struct Host {
    rules: Rules,
    router: Option<Router>,
    wake_at: Option<Nanos>,
    /// Its daemon does not run until then; the kernel goes on receiving.
    busy_until: Nanos,
    buffer: Vec<Flight>,
    has: [bool; 2],
    /// The last advert that was brought and that is a reason to be backup: when it came, and its sender's interval.
    obeys: [Option<(Nanos, Nanos)>; 2],
    faulty: bool,
}

struct World {
    seed: u64,
    dice: Dice,
    now: Nanos,
    hosts: Vec<Host>,
    flights: BinaryHeap<Reverse<Flight>>,
    order: u64,
    /// Hosts with the same number hear each other.
    island: [u8; NODES],
    loss: u64,
    moves: usize,
    /// The intervals differ from host to host, which version 3 bears, at a price: the last word of a master that yields
    /// makes the others count by its interval, although the one that stays has a longer one.
    mixed: bool,
    /// Tells everything.
    story: bool,
}

fn address(host: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 1 + host as u8)
}

impl World {
    fn new(seed: u64, story: bool) -> Self {
        let mut dice = Dice(seed);
        let grouped = dice.chance(50);
        let version_2 = dice.chance(50);
        let mixed = !version_2 && dice.chance(50);
        let centis = |dice: &mut Dice| [10, 50, 100][dice.below(3) as usize];
        let same = centis(&mut dice);
        let hosts = (0..NODES)
            .map(|host| {
                let priority = if dice.chance(20) { 100 } else { 50 + 60 * host as u64 };
                let preempt = dice.chance(70);
                let delay = if dice.chance(30) { ms(3000) } else { ms(0) };
                let protocol = match (version_2, mixed) {
                    (true, _) => v2(1),
                    (false, true) => v3(centis(&mut dice)),
                    (false, false) => v3(same),
                };
                let instances = [0, 1].map(|index| InstanceRules {
                    source: address(host),
                    preempt,
                    preempt_delay: delay,
                    // Alone, the second instance prefers the other end.
                    priority: if index == 1 && !grouped {
                        Base::new(200 - priority as u8).unwrap()
                    } else {
                        Base::new(priority as u8).unwrap()
                    },
                    tracks: vec![Track { tracker: TrackerId(0), weight: 0, reverse: false }],
                    higher_prio_send_advert: dice.chance(30),
                    ..instance(protocol, 100)
                });
                let group = GroupRules {
                    name: "G".to_owned(),
                    instances: vec![ONE, TWO],
                    tracks: Vec::new(),
                    tracking_weight: false,
                };
                let tracker = TrackerRules { name: "eth0".to_owned(), kind: TrackerKind::Interface };
                let rules = Rules {
                    instances: instances.to_vec(),
                    groups: if grouped { vec![group] } else { Vec::new() },
                    trackers: vec![tracker],
                    ..Rules::default()
                };
                Host {
                    rules,
                    router: None,
                    wake_at: None,
                    busy_until: Nanos(0),
                    buffer: Vec::new(),
                    has: [false; 2],
                    obeys: [None; 2],
                    faulty: false,
                }
            })
            .collect();
        let now = Nanos::from_secs(100);
        let island = [0; NODES];
        let mut world = Self {
            seed,
            dice,
            now,
            hosts,
            flights: BinaryHeap::new(),
            order: 0,
            island,
            loss: 0,
            moves: 0,
            mixed,
            story,
        };
        (0..NODES).for_each(|host| world.start(host));
        world
    }

    fn start(&mut self, host: usize) {
        let it = &mut self.hosts[host];
        it.router = Some(Router::new(it.rules.clone(), self.now));
        (it.has, it.obeys, it.faulty, it.busy_until) = ([false; 2], [None; 2], false, self.now);
        it.buffer.clear();
        self.feed(host, Input::Tracked { tracker: TrackerId(0), value: TrackValue::Ok });
        self.feed(host, Input::Wake);
    }

    fn feed(&mut self, host: usize, input: Input) {
        let mut out = Actions::default();
        let it = &mut self.hosts[host];
        let Some(router) = &mut it.router else { return };
        router.handle(self.now, input, &mut out);
        it.wake_at = out.wake_at();
        if input == Input::Wake {
            assert!(it.wake_at.is_none_or(|at| at > self.now), "seed {}: a deadline in the past", self.seed);
        }
        for action in out.drain() {
            if self.story {
                eprintln!("{:>12} host {host}: {input:?} -> {action:?}", self.now.0 / 1000);
            }
            self.perform(host, action);
        }
    }

    /// What the outside sees of an action, and does about it.
    fn perform(&mut self, host: usize, action: Action) {
        let (seed, now) = (self.seed, self.now);
        match action {
            Action::Advert { instance, priority } => {
                for to in (0..NODES).filter(|&to| to != host) {
                    let lost = self.dice.chance(self.loss);
                    let delay = Nanos(self.dice.below(3 * MS));
                    if !lost && self.island[to] == self.island[host] {
                        self.order += 1;
                        let (order, at) = (self.order, now.after(delay));
                        let priority = priority.0;
                        let flight = Flight { at, order, to, from: host, instance: instance.0, priority };
                        self.flights.push(Reverse(flight));
                    }
                }
            }
            Action::AddAddresses(id) => {
                let has = &mut self.hosts[host].has[usize::from(id.0)];
                assert!(!std::mem::replace(has, true), "seed {seed}: put up twice");
            }
            Action::RemoveAddresses(id) => {
                let has = &mut self.hosts[host].has[usize::from(id.0)];
                assert!(std::mem::replace(has, false), "seed {seed}: taken off twice");
            }
            Action::Announce { instance, .. } => {
                assert!(self.hosts[host].has[usize::from(instance.0)], "seed {seed}: announced what is not here");
            }
            Action::Report(report) => {
                self.moves += 1;
                assert_ne!(report.from, report.to, "seed {seed}: no change");
                let it = &mut self.hosts[host];
                if report.to == State::Fault {
                    // After it, nobody's interval is known any more (RFC 9568 §6.4.1 (130)).
                    it.obeys[usize::from(report.instance.0)] = None;
                }
                if report.to == State::Master
                    && !self.mixed
                    && let Some(heard) = it.obeys[usize::from(report.instance.0)]
                {
                    let (at, interval) = heard;
                    let silent = now.since(at);
                    assert!(silent >= interval.times(3), "seed {seed}: the master was heard {silent:?} ago");
                }
            }
            Action::Notify(_) | Action::Warn { .. } => {}
        }
    }

    fn bring(&mut self, flight: Flight) {
        // In version 3 the intervals differ from host to host.
        let theirs = self.hosts[flight.from].rules.instances[0].protocol;
        let it = &mut self.hosts[flight.to];
        let Some(router) = &it.router else { return };
        let id = InstanceId(flight.instance);
        let rules = &it.rules.instances[usize::from(flight.instance)];
        let (theirs_is, ours) = (flight.priority, rules.priority.priority().0);
        let followed = match router.state(id) {
            State::Backup => theirs_is >= ours || !rules.preempt,
            State::Master => theirs_is > ours,
            State::Init | State::Fault => false,
        };
        let obeys = &mut it.obeys[usize::from(flight.instance)];
        if flight.priority == 0 {
            *obeys = None;
        } else if followed {
            *obeys = Some((flight.at, theirs.interval()));
        }
        let advert = advert(theirs, flight.priority);
        let heard = Heard { instance: id, from: address(flight.from), at: flight.at, advert, same_addresses: true };
        self.feed(flight.to, Input::Advert(heard));
    }

    fn run(&mut self, length: Nanos) {
        let end = self.now.after(length);
        loop {
            let packet = self.flights.peek().map(|Reverse(flight)| flight.at);
            let wake = (0..NODES)
                .filter_map(|host| {
                    let it = &self.hosts[host];
                    it.router.as_ref()?;
                    let at = it.wake_at?.max(it.busy_until);
                    Some((at, host))
                })
                .min();
            // A packet that arrives at the very instant of a timer is there first, as in a socket that is drained.
            match (packet, wake) {
                (Some(at), wake) if at <= end && wake.is_none_or(|(wake, _)| at <= wake) => {
                    let Some(Reverse(flight)) = self.flights.pop() else { return };
                    self.now = self.now.max(at);
                    if self.hosts[flight.to].busy_until > self.now {
                        self.hosts[flight.to].buffer.push(flight);
                    } else {
                        self.drain(flight.to);
                        self.bring(flight);
                    }
                }
                (_, Some((at, host))) if at <= end => {
                    self.now = self.now.max(at);
                    self.drain(host);
                    self.feed(host, Input::Wake);
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn drain(&mut self, host: usize) {
        for flight in std::mem::take(&mut self.hosts[host].buffer) {
            self.bring(flight);
        }
    }

    fn fault(&mut self) {
        let host = self.dice.below(NODES as u64) as usize;
        match self.dice.below(8) {
            0 => self.island = [0, 1, 2].map(|_| self.dice.below(2) as u8),
            1 => self.island = [0; NODES],
            2 => self.loss = [0, 5, 20, 60][self.dice.below(4) as usize],
            3 => {
                let length = ms(self.dice.below(6000));
                self.hosts[host].busy_until = self.now.after(length);
            }
            // Of the whole host: no word, and no addresses.
            4 => {
                self.hosts[host].router = None;
                self.hosts[host].has = [false; 2];
            }
            5 => {
                self.feed(host, Input::Stop);
                assert_eq!(self.hosts[host].has, [false; 2], "seed {}: ended with addresses", self.seed);
                self.hosts[host].router = None;
            }
            6 => {
                if self.hosts[host].router.is_none() {
                    self.start(host);
                }
            }
            _ => {
                let value = if self.hosts[host].faulty { TrackValue::Ok } else { TrackValue::Failed };
                self.hosts[host].faulty ^= true;
                self.feed(host, Input::Tracked { tracker: TrackerId(0), value });
            }
        }
    }

    /// In each island one master of each instance, if anybody there can be one.
    fn judge(&self) {
        for instance in 0..2 {
            for island in 0..NODES as u8 {
                let there = || {
                    (0..NODES)
                        .filter(|&host| self.island[host] == island)
                        .map(|host| &self.hosts[host])
                        .filter(|it| it.router.is_some() && !it.faulty)
                };
                let masters = there().filter(|it| it.has[instance]).count();
                assert_eq!(masters, there().count().min(1), "seed {}: instance {instance}", self.seed);
            }
        }
        for it in &self.hosts {
            let Some(router) = &it.router else { continue };
            for (id, has) in [ONE, TWO].into_iter().zip(it.has) {
                assert_eq!(router.state(id) == State::Master, has, "seed {}", self.seed);
            }
        }
    }

    /// No more faults, those that are there stay: it comes to rest, and then nothing moves.
    fn rest(&mut self) {
        self.loss = 0;
        let now = self.now;
        self.hosts.iter_mut().for_each(|it| it.busy_until = now);
        self.run(QUIET);
        self.judge();
        let moves = self.moves;
        self.run(QUIET);
        self.judge();
        assert_eq!(self.moves, moves, "seed {}: something moves without a cause", self.seed);
    }
}

#[test]
fn three_nodes_survive_a_random_walk_of_faults_and_come_to_rest() {
    let seeds = std::env::var("WALK_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(150);
    let only = std::env::var("WALK_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut moves = 0;
    for seed in only.map_or(0..seeds, |seed: u64| seed..seed + 1) {
        let mut world = World::new(seed, only.is_some());
        world.rest();
        for _ in 0..4 {
            for _ in 0..6 {
                world.fault();
                let length = ms(50 + world.dice.below(4000));
                world.run(length);
            }
            world.rest();
        }
        world.island = [0; NODES];
        world.rest();
        moves += world.moves;
    }
    assert!(only.is_some() || moves as u64 > 20 * seeds, "nothing happened: {moves} changes of state");
}
