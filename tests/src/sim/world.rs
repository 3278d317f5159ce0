//! Two nodes, a wire, a witness and clients on virtual time: nanoseconds that nobody in the world can see.

use harbor_ha::core::Input;
use harbor_ha_ebpf::decide::gate::Gate;
use harbor_ha_ebpf::units::Nanos;
use harbor_ha_ebpf::wire::pulse::Pulse;

use super::checkers::{Checkers, Violation};
use super::clock::Clock;
use super::coverage::Coverage;
use super::dice::Dice;
use super::event::{Event, Queue, Slab};
use super::havip::{self, HaVip};
use super::mutants::Mutant;
use super::node::Node;
use super::perform::Pending;
use super::postgres::{Process, Server};
use super::schedule::{Fault, MS, Schedule, secs};
use super::witness::Witness;

/// Everything.
pub struct World {
    pub now: u64,
    pub schedule: Schedule,
    pub mutant: Option<Mutant>,
    pub nodes: [Node; 2],
    pub queue: Queue,
    pub packets: Slab<Pulse>,
    pub pending: Slab<Pending>,
    pub dice: Dice,
    pub net: Dice,
    pub witness: Witness,
    pub havip: HaVip,
    /// Calls on their way to its service.
    pub api: Slab<havip::Packet>,
    /// Faults of the schedule, and those that are part of another one.
    pub faults: Vec<Fault>,
    pub writes: u64,
    /// Where the network sends what is for the addresses.
    pub arp: Option<usize>,
    /// How long a broken stream goes on being shown.
    pub stale: u64,
    /// The last acknowledgement that got to its client.
    pub acked_at: u64,
    pub checkers: Checkers,
    pub coverage: Coverage,
    pub violation: Option<Violation>,
    /// Lines, where somebody will read them.
    pub story: Option<Vec<String>>,
}

impl World {
    pub fn new(schedule: Schedule, mutant: Option<Mutant>, tells: bool) -> Self {
        let mut dice = Dice::new(schedule.seed, 2);
        let start = 1_000 * MS;
        let drift = if mutant == Some(Mutant::ClocksRace) { [-200_000, 200_000] } else { schedule.drift };
        let node = |i: usize| Node::new(Clock::new(start, schedule.offset[i], drift[i]), Server::new(i == 1, start));
        let stale = dice.log(50 * MS, 3000 * MS);
        let mut world = Self {
            now: start,
            mutant,
            nodes: [node(0), node(1)],
            queue: Queue::default(),
            packets: Slab::default(),
            pending: Slab::default(),
            net: Dice::new(schedule.seed, 3),
            witness: Witness::new(mutant == Some(Mutant::WitnessIgnored)),
            havip: HaVip::new(),
            api: Slab::default(),
            faults: schedule.faults.clone(),
            writes: 1,
            arp: None,
            stale,
            acked_at: 0,
            checkers: Checkers::new(&schedule),
            coverage: Coverage::default(),
            violation: None,
            story: tells.then(Vec::new),
            schedule,
            dice,
        };
        for i in 0..2 {
            world.start_daemon(i);
            world.queue.push(start + world.dice.below(10 * MS), Event::Pulse(i as u8));
            world.queue.push(start + world.dice.below(100 * MS), Event::Probe(i as u8));
        }
        world.queue.push(start, Event::Tick);
        world
    }

    /// What the clock of `i` shows.
    pub const fn local(&self, i: usize) -> Nanos {
        self.nodes[i].clock.at(self.now)
    }

    /// The gate of `i`, now.
    pub fn gate(&self, i: usize) -> Gate {
        self.nodes[i].kernel.gate(self.local(i))
    }

    pub fn tell_story(&mut self, text: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(story) = &mut self.story {
            story.push(format!("{:>12.6} {}", secs(now), text()));
        }
    }

    /// The first thing that went wrong counts.
    pub fn violate(&mut self, promise: &'static str, what: String) {
        if self.violation.is_none() {
            self.tell_story(|| format!("VIOLATION {promise}: {what}"));
            self.violation = Some(Violation { promise, what, at: self.now });
        }
    }

    /// Lets time go by until `end`, or until something is wrong.
    pub fn run_until(&mut self, end: u64) {
        while self.violation.is_none() {
            let Some((at, event)) = self.queue.pop() else { return };
            if at > end {
                self.queue.push(at, event);
                self.now = end;
                return;
            }
            self.now = at;
            self.happen(event);
            self.observe();
        }
    }

    fn happen(&mut self, event: Event) {
        // A host that stands still does nothing; what was for it happens when it goes on.
        if let Some(i) = of_node(event)
            && self.nodes[i].is_frozen(self.now)
        {
            let at = self.nodes[i].broken.frozen + self.dice.below(200_000);
            match event {
                Event::Turn(_) => self.nodes[i].turn_at = at,
                Event::Timer(_) => self.nodes[i].timer_at = at,
                _ => {}
            }
            self.queue.push(at, event);
            return;
        }
        match event {
            Event::Pulse(i) => self.pulse_tick(i as usize),
            Event::Arrive(i, number) => {
                if let Some(packet) = self.packets.take(number) {
                    self.arrive(i as usize, packet);
                }
            }
            Event::Timer(i) => self.expire(i as usize),
            Event::Turn(i) => self.turn(i as usize),
            Event::Ended(i, number) => {
                if let Some(pending) = self.pending.take(number) {
                    self.ended(i as usize, pending);
                }
            }
            Event::Probe(i) => {
                if self.nodes[i as usize].daemon.is_some() {
                    self.probe(i as usize);
                    self.check(i as usize);
                }
                self.queue.push(self.now + 100 * MS, event);
            }
            Event::Tick => {
                self.tick();
                self.next_tick();
            }
            Event::Fault(number) => self.break_something(number as usize),
            Event::Restore(i) => self.restore(i as usize),
            Event::Api(number) => {
                if let Some(packet) = self.api.take(number) {
                    self.serve_havip(packet);
                }
            }
        }
    }

    /// The addresses of `i` are announced.
    pub fn announce(&mut self, i: usize) {
        // A gate that is shut lets no ARP out either.
        if self.nodes[i].hears(self.now) && self.gate(i) == Gate::Open {
            self.arp = Some(i);
            self.havip.announced(self.now, i);
        }
    }

    /// One serves, the other one follows and could succeed: nothing is left to be done.
    pub fn is_well(&self) -> bool {
        let well = |i: usize| {
            let (ours, theirs) = (&self.nodes[i], &self.nodes[1 - i]);
            let order = &ours.kernel.order;
            let named = ours.server.names || !self.schedule.sync.names_standby();
            let follows = theirs.server.process == Process::Up && theirs.server.signal && self.streams(1 - i);
            let succeeds = order.solo == 0 && theirs.terms.waived < order.serving_term;
            self.gate(i) == Gate::Open
                && self.gate(1 - i) != Gate::Open
                && self.arp == Some(i)
                && ours.server.is_primary()
                && follows
                && named
                && succeeds
                && self.now - self.acked_at < 300 * MS
        };
        self.nodes.iter().all(|node| node.daemon.is_some()) && (well(0) || well(1))
    }

    /// Runs until all is well and stays so, at most for `length`.
    pub fn settle(&mut self, length: u64) -> bool {
        let end = self.now + length;
        while self.now < end && self.violation.is_none() {
            self.run_until(self.now + 100 * MS);
            if self.is_well() {
                self.run_until(self.now + 300 * MS);
                if self.is_well() {
                    return true;
                }
            }
        }
        false
    }

    /// Puts the schedule's faults before us.
    pub fn plan_faults(&mut self) {
        for (number, fault) in self.faults.iter().enumerate() {
            self.queue.push(self.now + fault.at, Event::Fault(number as u32));
        }
    }

    /// What both nodes say of themselves.
    pub fn views(&self) -> Vec<String> {
        let view = |i: usize| {
            let node = &self.nodes[i];
            let said = node.daemon.as_ref().map(|daemon| {
                let snapshot = daemon.core.snapshot();
                format!(
                    "{} ({}), refusal {:?}, why: {}",
                    snapshot.role, snapshot.operation, snapshot.refusal, snapshot.why
                )
            });
            let server = &node.server;
            format!(
                "{i}: {}; gate {:?}, order {:?}, terms {:?}, PostgreSQL {:?} signal {} pending {} timeline {} log {} names {} stream {}, says {}",
                said.unwrap_or_else(|| "no daemon".to_owned()),
                self.gate(i),
                node.kernel.order,
                node.terms,
                server.process,
                server.signal,
                server.pending,
                server.timeline,
                server.log.len(),
                server.names,
                self.streams(i),
                super::daemon::flags(node.kernel.own.flags),
            )
        };
        vec![view(0), view(1)]
    }

    /// Sends the core of `i` a word of the operator.
    pub fn command(&mut self, i: usize, command: harbor_ha::core::Command) {
        self.input(i, Input::Command(command));
    }
}

const fn of_node(event: Event) -> Option<usize> {
    match event {
        Event::Arrive(i, _) | Event::Timer(i) | Event::Turn(i) | Event::Ended(i, _) => Some(i as usize),
        Event::Pulse(_) | Event::Probe(_) | Event::Tick | Event::Fault(_) | Event::Restore(_) | Event::Api(_) => None,
    }
}
