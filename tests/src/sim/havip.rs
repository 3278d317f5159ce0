//! A HaVip as the third party: what the bindings of one address can say of two nodes (docs/cloud.md, *As a witness*).
//!
//! The service knows three things of use here: who is bound, a description, and who announced last. It carries out one
//! change at a time, which takes a while and during which another one is refused. A call may get there long after its
//! sender gave it up, or died; an answer may be lost; a look may show what was so a while ago.
//!
//! The nodes make the most of it. The key is that the own instance is bound and the peer's is not. It is taken by taking
//! the peer's binding away and counts once it was seen, at rest and without a gap, for longer than the other one may
//! serve on what it saw last. Under it the term is written into the description, which is how terms are remembered.

use std::collections::VecDeque;

use harbor_ha::core::witness::{Answer, WitnessCall};
use harbor_ha::core::{Done, Input};
use harbor_ha_ebpf::units::Nanos;

use super::event::Event;
use super::mutants::Mutant;
use super::perform::What;
use super::schedule::MS;
use super::witness::TTL;
use super::world::World;

/// What is assumed, and what the service promises nowhere: a look shows nothing older.
const OLD: u64 = 300 * MS;
/// Of a mutant: a replica of the service stands still for as long, where [`OLD`] is allowed for.
const STILL: u64 = 5_000 * MS;
/// How long the key must have been seen before it counts. The clocks of both differ by a hundredth at most.
const WAIT: u64 = TTL.0 + OLD + TTL.0 / 10;
/// A longer time without a look begins anew.
const GAP: u64 = TTL.0 / 3 * 2;
/// Between looks.
const LOOK: u64 = 50 * MS;
/// Until a call counts as unanswered.
const TIMEOUT: u64 = 500 * MS;
/// Until a question counts as unanswered.
const PATIENCE: u64 = 6_000 * MS;

/// The HaVip as it is shown.
#[derive(Clone, Copy, Debug)]
struct View {
    rests: bool,
    bound: [bool; 2],
    master: Option<usize>,
    /// The description: a node and its term.
    highest: Option<(usize, u64)>,
}

/// A call.
#[derive(Clone, Copy, Debug)]
enum Request {
    Describe,
    Bind(usize, bool),
    Note(usize, u64),
}

/// Its answer: what was looked at, or something about a change.
#[derive(Clone, Copy, Debug)]
pub struct Reply(Option<View>);

/// A call on its way.
#[derive(Debug)]
pub struct Packet {
    node: usize,
    number: u64,
    request: Request,
}

/// A question of a node that is being dealt with.
#[derive(Debug)]
struct Flow {
    call: WitnessCall,
    began: Nanos,
    /// The call that it waits for, and when that was sent.
    number: u64,
    sent: Nanos,
}

/// One node's side.
#[derive(Debug, Default)]
struct Side {
    run: u32,
    flow: Option<Flow>,
    questions: VecDeque<WitnessCall>,
    /// The key was seen from the one instant to the other, without a gap.
    seen: Option<(Nanos, Nanos)>,
    /// When it first got the key: of a mutant, since when the replica that answers it stands still.
    still: Option<u64>,
}

/// The service, and what the nodes make of it.
#[derive(Debug)]
pub struct HaVip {
    /// What it was, from when on; the last one is what it is.
    history: Vec<(u64, View)>,
    /// A change under way: when it ends, whose binding, and what it becomes.
    change: Option<(u64, usize, bool)>,
    sides: [Side; 2],
    calls: u64,
}

impl HaVip {
    /// Both are bound.
    pub fn new() -> Self {
        let view = View { rests: true, bound: [true; 2], master: None, highest: None };
        Self { history: vec![(0, view)], change: None, sides: Default::default(), calls: 0 }
    }

    fn view(&mut self, now: u64, age: u64) -> View {
        if let Some((at, node, bound)) = self.change.filter(|(at, ..)| *at <= now) {
            self.change = None;
            self.becomes(at, |view| {
                view.rests = true;
                view.bound[node] = bound;
                view.master = view.master.filter(|master| *master != node || bound);
            });
        }
        let then = now.saturating_sub(age);
        self.history.iter().rev().find(|(at, _)| *at <= then).unwrap_or(&self.history[0]).1
    }

    fn becomes(&mut self, at: u64, change: impl FnOnce(&mut View)) {
        let mut view = self.history[self.history.len() - 1].1;
        change(&mut view);
        self.history.push((at, view));
    }

    /// What is for the address gets to `i`.
    pub fn reaches(&mut self, now: u64, i: usize) -> bool {
        self.view(now, 0).bound[i]
    }

    /// `i` announces the address.
    pub fn announced(&mut self, now: u64, i: usize) {
        let view = self.view(now, 0);
        if view.bound[i] && view.master != Some(i) {
            self.becomes(now, |view| view.master = Some(i));
        }
    }

    /// An operator binds whoever is not bound, without a look at the pair; whether there was anything to do.
    pub fn bind_by_hand(&mut self, now: u64) -> bool {
        let view = self.view(now, 0);
        if !view.rests || view.bound == [true; 2] {
            return false;
        }
        self.becomes(now, |view| view.bound = [true; 2]);
        true
    }

    /// One change at a time; whether it is taken.
    fn change(&mut self, now: u64, length: u64, request: Request) -> bool {
        let view = self.view(now, 0);
        match request {
            Request::Describe => {}
            Request::Bind(..) | Request::Note(..) if !view.rests => return false,
            Request::Bind(node, bound) if view.bound[node] != bound => {
                self.change = Some((now + length, node, bound));
                self.becomes(now, |view| view.rests = false);
            }
            Request::Bind(..) => {}
            Request::Note(node, term) => self.becomes(now, |view| view.highest = Some((node, term))),
        }
        true
    }
}

impl World {
    /// A question of the core of `i`; they are dealt with one after the other.
    pub fn ask_havip(&mut self, i: usize, call: WitnessCall) {
        let run = self.nodes[i].run;
        let side = &mut self.havip.sides[i];
        if side.run != run {
            *side = Side { run, ..Side::default() };
        }
        side.questions.push_back(call);
        if side.flow.is_none() {
            self.next_question(i);
        }
    }

    fn next_question(&mut self, i: usize) {
        let now = self.local(i);
        let side = &mut self.havip.sides[i];
        side.flow = side.questions.pop_front().map(|call| Flow { call, began: now, number: 0, sent: now });
        if side.flow.is_some() {
            self.call_havip(i, Request::Describe, 0);
        }
    }

    fn answer(&mut self, i: usize, asked: Nanos, answer: Answer) {
        if matches!(answer, Answer::Granted { ttl } if ttl == TTL) {
            self.havip.sides[i].still.get_or_insert(self.now);
        }
        if let Some(Flow { call, .. }) = self.havip.sides[i].flow.take() {
            self.input(i, Input::Done(Done::Witness { call, asked, answer }));
            self.next_question(i);
        }
    }

    fn call_havip(&mut self, i: usize, request: Request, after: u64) {
        self.havip.calls += 1;
        let (number, now) = (self.havip.calls, self.local(i));
        let Some(flow) = &mut self.havip.sides[i].flow else { return };
        (flow.number, flow.sent) = (number, now);
        let changes = !matches!(request, Request::Describe);
        let mut delay = self.witness_delay(i) + after;
        if changes && self.dice.below(16) == 0 {
            // Nobody takes it back, whatever becomes of its sender.
            delay += self.dice.log(100 * MS, 6_000 * MS);
        }
        if self.reaches_witness(i) {
            let packet = self.api.put(Packet { node: i, number, request });
            self.queue.push(self.now + delay, Event::Api(packet));
        }
        self.later(i, TIMEOUT + after, What::Api(number, None));
    }

    /// A call gets to the service.
    pub fn serve_havip(&mut self, packet: Packet) {
        let Packet { node, number, request } = packet;
        let length = self.dice.between(50 * MS, 600 * MS);
        let mut reply = Reply(None);
        if matches!(request, Request::Describe) {
            let still = self.havip.sides[node].still.filter(|_| self.mutant == Some(Mutant::HaVipLooksOld));
            let age = match (still, self.dice.below(4)) {
                (Some(since), _) => self.now.saturating_sub(since).min(STILL),
                (None, 0) => self.dice.below(OLD),
                (None, _) => 0,
            };
            reply = Reply(Some(self.havip.view(self.now, age)));
        } else {
            let taken = self.havip.change(self.now, length, request);
            let word = if taken { "taken" } else { "refused" };
            self.tell_story(|| format!("HaVip: {request:?} of {node} is {word}"));
        }
        if self.reaches_witness(node) {
            let after = self.witness_delay(node);
            self.later(node, after, What::Api(number, Some(reply)));
        }
    }

    /// An answer is back; or none will be waited for any longer.
    pub fn replied(&mut self, i: usize, number: u64, reply: Option<Reply>) {
        let now = self.local(i);
        let side = &self.havip.sides[i];
        let Some(flow) = side.flow.as_ref().filter(|_| side.run == self.nodes[i].run) else { return };
        if flow.number != number || (reply.is_some() && !self.reaches_witness(i)) {
            return;
        }
        let (call, sent, began) = (flow.call, flow.sent, flow.began);
        if now.since(began).0 > PATIENCE {
            return self.answer(i, sent, Answer::Unreachable("no end of it".to_owned()));
        }
        let view = match reply {
            Some(Reply(Some(view))) => view,
            // What became of a change is looked at, whatever was said of it.
            _ => return self.call_havip(i, Request::Describe, LOOK),
        };
        match call {
            WitnessCall::Acquire { term, follows } if self.mutant == Some(Mutant::HaVipMasterDecides) => {
                self.acquire_by_master(i, (term, follows), sent, view);
            }
            WitnessCall::Acquire { term, .. } => self.acquire(i, term, sent, view),
            WitnessCall::Release { .. } => {
                self.havip.sides[i].seen = None;
                match (view.rests, view.bound[i], view.bound[1 - i]) {
                    (false, ..) => self.call_havip(i, Request::Describe, LOOK),
                    (true, true, false) => self.call_havip(i, Request::Bind(1 - i, true), 0),
                    (true, ..) => self.answer(i, sent, Answer::Granted { ttl: Nanos(0) }),
                }
            }
            WitnessCall::Revoke { .. } | WitnessCall::Restore { .. } => {
                self.answer(i, sent, Answer::Refused("a HaVip remembers no revocation".to_owned()));
            }
        }
    }

    fn acquire(&mut self, i: usize, term: u64, sent: Nanos, view: View) {
        let now = self.local(i);
        let (ours, theirs) = (view.bound[i], view.bound[1 - i]);
        let seen = self.havip.sides[i].seen.filter(|(_, last)| now.since(*last).0 < GAP);
        let seen = (view.rests && ours && !theirs).then(|| seen.map_or((now, now), |(first, _)| (first, now)));
        self.havip.sides[i].seen = seen;
        if !view.rests {
            return self.call_havip(i, Request::Describe, LOOK);
        }
        if let Some((node, highest)) = view.highest
            && (highest > term || (highest == term && node != i))
        {
            return self.answer(i, sent, Answer::Outrun { term: highest, why: "a later term was noted".to_owned() });
        }
        let waits = self.mutant != Some(Mutant::HaVipNotWaited);
        match seen {
            _ if !ours => self.answer(i, sent, Answer::Refused("this node is not bound".to_owned())),
            None => self.call_havip(i, Request::Bind(1 - i, false), 0),
            Some((first, _)) if waits && sent < first.after(Nanos(WAIT)) => {
                self.call_havip(i, Request::Describe, LOOK);
            }
            Some(_) if view.highest != Some((i, term)) => self.call_havip(i, Request::Note(i, term), 0),
            Some(_) => self.answer(i, sent, Answer::Granted { ttl: TTL }),
        }
    }

    /// What suggests itself: whoever has the address goes on, and whoever wants it takes the other one's binding away.
    fn acquire_by_master(&mut self, i: usize, (_, follows): (u64, u64), sent: Nanos, view: View) {
        if view.master == Some(i) {
            self.answer(i, sent, Answer::Granted { ttl: TTL });
        } else if follows == 0 {
            self.answer(i, sent, Answer::Refused("the other one has the address".to_owned()));
        } else if view.bound[1 - i] {
            self.call_havip(i, Request::Bind(1 - i, false), 0);
        } else {
            self.answer(i, sent, Answer::Granted { ttl: TTL });
        }
    }
}
