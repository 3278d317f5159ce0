//! What becomes of the actions of a core, and how their ends come back.

use harbor_ha::core::witness::{Answer, WitnessCall};
use harbor_ha::core::{Action, Done, Input, Served, StopMode, Terms};
use harbor_ha_ebpf::records::Order;
use harbor_ha_ebpf::units::Nanos;

use super::event::Event;
use super::havip::Reply;
use super::mutants::Mutant;
use super::schedule::MS;
use super::world::World;

/// How long a witness is waited for.
const WITNESS_TIMEOUT: u64 = 500 * MS;

/// Something that takes a while, and whose end it is.
pub struct Pending {
    pub boot: u32,
    pub run: u32,
    pub what: What,
}

/// See [`Pending`].
pub enum What {
    /// The core is told.
    Tell(Input),
    /// An action on PostgreSQL; it goes on without the daemon.
    Server { number: u64, op: Op, fails: bool },
    /// The terms get to the disk, or not.
    Store(Terms, bool),
    /// A question gets to the witness.
    Ask(WitnessCall, Nanos),
    /// Its answer comes back.
    Answer(WitnessCall, Nanos, Answer),
    /// A question gets to the peer's PostgreSQL.
    AskPeer,
    /// The answer to a call about the HaVip, or its absence.
    Api(u64, Option<Reply>),
}

/// A heavy action on PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Promote,
    Stop(StopMode),
    Start,
    /// One move of it.
    Rejoin {
        anew: bool,
    },
    Checkpoint,
    SetSync(bool),
}

impl World {
    /// `what` happens after so long, unless the host or the daemon ends before.
    pub fn later(&mut self, i: usize, after: u64, what: What) {
        let node = &self.nodes[i];
        let number = self.pending.put(Pending { boot: node.boot, run: node.run, what });
        self.queue.push(self.now + after, Event::Ended(i as u8, number));
    }

    fn done_now(&mut self, i: usize, input: Input) {
        if let Some(daemon) = &mut self.nodes[i].daemon {
            daemon.done.push_back(input);
        }
    }

    pub fn perform(&mut self, i: usize, action: Action) {
        let local = self.local(i);
        let fails = self.now < self.nodes[i].broken.actions && self.dice.below(3) == 0;
        match action {
            // The clients here open a connection for each word.
            Action::Advert(_) | Action::Report(_) | Action::Notify(_) | Action::Tickle | Action::Reset(_) => {}
            Action::Pulse(state) => {
                let Some(daemon) = &mut self.nodes[i].daemon else { return };
                let rings = daemon.said.flags != state.flags;
                daemon.said = state;
                if rings {
                    self.pulse(i);
                }
            }
            Action::Serve => {
                let result = if fails { Err("bad luck".to_owned()) } else { Ok(Served { vip: local, garp: local }) };
                if result.is_ok() {
                    self.nodes[i].vip = true;
                    self.announce(i);
                }
                let after = self.dice.below(2 * MS);
                self.later(i, after, What::Tell(Input::Done(Done::Serve(result))));
            }
            Action::Announce(_) => self.announce(i),
            Action::Prepare => self.nodes[i].vip = true,
            Action::Withdraw => self.nodes[i].vip = false,
            Action::Order(order) => self.order(i, order),
            Action::ReadLease => {
                let until = Nanos(self.nodes[i].kernel.lease.leased_until_ns);
                self.done_now(i, Input::Lease(until));
            }
            Action::StorePause(paused) => self.nodes[i].paused = paused,
            Action::StoreTerms(terms) => {
                let fails = self.now < self.nodes[i].broken.disk;
                let after = self.dice.log(100_000, 20 * MS);
                self.later(i, after, What::Store(terms, fails));
            }
            Action::Witness(call) if self.schedule.havip => self.ask_havip(i, call),
            Action::Witness(call) => {
                let after = self.witness_delay(i);
                self.later(i, after, What::Ask(call, local));
            }
            Action::AskPeer => {
                let after = MS + self.dice.below(5 * MS);
                self.later(i, after, What::AskPeer);
            }
            Action::Exit => {
                for _ in 0..3 {
                    self.pulse(i);
                }
                self.kill_daemon(i);
                self.tell_story(|| format!("{i}: the daemon has ended"));
            }
            Action::Promote => {
                self.promotes(i);
                self.begin(i, Op::Promote, (10, 80), fails);
            }
            Action::Checkpoint => self.begin(i, Op::Checkpoint, (1, 100), false),
            Action::Stop(mode) => self.begin(i, Op::Stop(mode), (2, 200), fails),
            Action::Start { standby } => {
                self.check_start(i, standby);
                self.begin(i, Op::Start, (50, 600), fails);
            }
            Action::Rejoin { anew } => self.begin(i, Op::Rejoin { anew }, (200, 2000), fails),
            Action::SetSync { peer } => self.begin(i, Op::SetSync(peer), (1, 20), fails),
        }
    }

    fn begin(&mut self, i: usize, op: Op, (low, high): (u64, u64), fails: bool) {
        self.coverage.failed += u64::from(fails);
        let number = self.begin_on_server(i, op);
        let after = self.dice.between(low * MS, high * MS);
        self.later(i, after, What::Server { number, op, fails });
    }

    /// The next move of a rejoin that is at work.
    pub fn go_on_with_rejoin(&mut self, i: usize) {
        let fails = self.now < self.nodes[i].broken.actions && self.dice.below(3) == 0;
        self.begin(i, Op::Rejoin { anew: false }, (1, 600), fails);
    }

    fn order(&mut self, i: usize, order: Order) {
        let mutant = self.mutant;
        let kernel = &mut self.nodes[i].kernel;
        let mut written = order;
        if mutant == Some(Mutant::EchoNotWithdrawn) && kernel.order.echo != 0 {
            written.echo = 1;
        }
        if mutant == Some(Mutant::GateNotShut) && order.serving_term == 0 {
            (written.serving_term, written.solo_until_ns) = (kernel.order.serving_term, kernel.order.solo_until_ns);
        }
        kernel.order = written;
        let mut promise_until = Nanos(kernel.lease.promise_until_ns);
        if mutant == Some(Mutant::PromiseIgnored) {
            promise_until = Nanos(0);
        }
        self.done_now(i, Input::Done(Done::Ordered { order, promise_until }));
        self.check_order(i);
    }

    pub fn witness_delay(&mut self, i: usize) -> u64 {
        let slow = self.now < self.nodes[i].broken.witness_slow;
        if slow { self.dice.below(400 * MS) } else { 300_000 + self.dice.below(3 * MS) }
    }

    pub fn reaches_witness(&self, i: usize) -> bool {
        self.now >= self.nodes[i].broken.witness && self.nodes[i].hears(self.now)
    }

    /// Something that took a while has ended.
    pub fn ended(&mut self, i: usize, pending: Pending) {
        let node = &self.nodes[i];
        let ours = node.run == pending.run && node.daemon.is_some();
        if node.boot != pending.boot {
            return;
        }
        match pending.what {
            What::Server { number, op, fails } => {
                if let Some(done) = self.end_on_server(i, number, op, fails, ours)
                    && ours
                {
                    self.input(i, Input::Done(done));
                    self.probe(i);
                }
            }
            _ if !ours => {}
            What::Tell(input) => self.input(i, input),
            What::Store(terms, fails) => self.store(i, terms, fails),
            What::Ask(call, asked) if self.reaches_witness(i) => {
                let mut answer = self.witness.ask(self.now, i, call);
                if let (Answer::Granted { ttl }, Some(Mutant::KeyOutlived)) = (&mut answer, self.mutant) {
                    ttl.0 *= 4;
                }
                let after = self.witness_delay(i);
                self.later(i, after, What::Answer(call, asked, answer));
            }
            What::Ask(call, asked) => {
                let answer = Answer::Unreachable("nobody answers".to_owned());
                self.later(i, WITNESS_TIMEOUT, What::Tell(Input::Done(Done::Witness { call, asked, answer })));
            }
            What::Answer(call, asked, answer) => {
                let lost = !self.reaches_witness(i);
                let answer = if lost { Answer::Unreachable("no answer came back".to_owned()) } else { answer };
                let after = if lost { WITNESS_TIMEOUT } else { 0 };
                self.later(i, after, What::Tell(Input::Done(Done::Witness { call, asked, answer })));
            }
            What::Api(number, reply) => self.replied(i, number, reply),
            What::AskPeer => {
                let answers = self.joined() && self.answers(1 - i);
                let facts = answers.then(|| self.facts(1 - i));
                let after = if answers { MS } else { 1000 * MS };
                self.later(i, after, What::Tell(Input::PeerPostgres(facts)));
            }
        }
    }

    fn store(&mut self, i: usize, terms: Terms, fails: bool) {
        let result = if fails { Err("no space left on device".to_owned()) } else { Ok(terms) };
        if !fails && self.mutant != Some(Mutant::TermNotStored) {
            let waived = if self.mutant == Some(Mutant::WaiverNotStored) { 0 } else { terms.waived };
            self.nodes[i].terms = Terms { waived, ..terms };
        }
        self.input(i, Input::Done(Done::StoreTerms(result)));
    }
}
