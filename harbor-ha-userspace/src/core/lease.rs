//! By what right this node serves, and what it tells the kernel's gate (docs/protocol.md).
//!
//! The kernel extends a lease by the peer's echoes. Here is decided when the gate is ordered open, when this node may
//! serve without echoes, and when the peer's stamps are echoed. Orders are synchronous: what follows an order in the
//! list of actions may rely on it.

use harbor_ha_ebpf::records::{Order, State};
use harbor_ha_ebpf::units::Nanos;
use harbor_ha_ebpf::wire::pulse::flag;

use super::peer::PeerRole;
use super::rules::{Isolated, LeaseRules};
use super::witness::WitnessCall;
use super::{Action, Actions, Core, Local, Op, VrrpState};

/// No end: as long as userspace lives.
const FOREVER: Nanos = Nanos(u64::MAX);

/// What is kept of the lease.
#[derive(Debug)]
pub(super) struct Lease {
    /// As last ordered.
    pub order: Order,
    /// This run has ordered nothing yet, so it has not read its promise either.
    pub silent: bool,
    /// This node does not open its gate before; known once the echo was ordered off.
    pub promise: Option<Nanos>,
    /// An older promise may be forgotten: the gate stays shut until then.
    pub floor: Nanos,
    /// The right to serve in this term is ours alone.
    pub solo: bool,
    /// It rests on the standby's waiver, which lasts as long as the term.
    pub by_waiver: bool,
    /// Until when a leased node may serve without echoes: a witness's grant, or [`FOREVER`] by configuration.
    pub limit: Nanos,
    /// As last read.
    pub leased_until: Nanos,
    /// It was about to run out when it was read.
    pub low: bool,
    /// The next look at it.
    pub look_at: Nanos,
    /// A look is under way.
    pub looking: bool,
    /// The gate that an earlier run opened stays as it is until it is known who serves.
    pub resuming: bool,
    /// Rights that a takeover under way brings.
    pub next: Rights,
    /// The standby has to have the tail of the WAL before the gate opens.
    pub tail: bool,
}

/// The right that a takeover brings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rights {
    pub solo: bool,
    pub limit: Nanos,
}

impl Lease {
    /// After a start, with the order that an earlier run left in force.
    pub fn new(adopted: Order, claim: u64, now: Nanos) -> Self {
        let resuming = adopted.serving_term != 0 && adopted.serving_term == claim && adopted.echo == 0;
        Self {
            order: adopted,
            silent: true,
            // It was waited for before that gate was opened.
            promise: resuming.then_some(Nanos(0)),
            floor: Nanos(0),
            solo: resuming && adopted.solo != 0,
            // It may: the order does not tell.
            by_waiver: resuming && adopted.solo != 0,
            limit: Nanos(0),
            leased_until: Nanos(0),
            low: false,
            look_at: now,
            looking: false,
            resuming,
            next: Rights::default(),
            tail: false,
        }
    }

    /// The gate opens no earlier.
    pub const fn not_before(self, floor: Nanos) -> Self {
        Self { floor, ..self }
    }
}

impl Core {
    /// This primary goes on in a new term, so that its standby, which has waived its right in this one, gets it back.
    pub(super) fn renews_term(&self) -> bool {
        self.state == VrrpState::Master
            && self.lease.solo
            && self.lease.by_waiver
            && self.standby_could_take_over(self.now)
    }

    /// Brings the kernel's order in line with what is decided; what comes later in the list may rely on it.
    pub(super) fn settle_order(&mut self, out: &mut Actions) {
        if self.rules.lease.is_none() {
            return;
        }
        let order = self.wanted_order();
        if order.echo != 0 {
            self.lease.promise = None;
        }
        // An order that an earlier run left is given once more: the promise is read with it.
        let unread = self.lease.silent && order.echo == 0 && self.lease.promise.is_none();
        if order != self.lease.order || unread {
            self.lease.silent = false;
            self.lease.order = order;
            out.push(Action::Order(order));
        }
    }

    fn wanted_order(&self) -> Order {
        let Some(rules) = self.rules.lease else { return Order::default() };
        let lease = &self.lease;
        if (self.state == VrrpState::Init && !self.ended) || self.silent {
            return lease.order;
        }
        let serving_term = if self.ended {
            0
        } else if lease.resuming {
            lease.order.serving_term
        } else if self.may_open() {
            self.terms.claim()
        } else {
            0
        };
        // A peer that has resigned is given nothing until it says otherwise: the promise to it ends the sooner.
        let echo = self.state != VrrpState::Master
            && self.peer.role() != PeerRole::Resigned
            && !self.peer_is_outdated()
            && !lease.resuming
            && self.approach.is_none()
            && self.op != Some(Op::Promote);
        let solo_until = match serving_term {
            0 => Nanos(0),
            _ if lease.solo => FOREVER,
            _ => lease.limit,
        };
        Order {
            serving_term,
            echo: u64::from(echo),
            solo: u64::from(lease.solo && serving_term != 0),
            solo_until_ns: solo_until.0,
            hang_ns: rules.hang.0,
        }
    }

    /// The peer was a primary, and a later one is known: nothing of it is granted or followed any more.
    pub(super) fn peer_is_outdated(&self) -> bool {
        let pulse = &self.peer.pulse;
        self.rules.lease.is_some()
            && pulse.flags & (flag::PRIMARY | flag::PG_PRIMARY) != 0
            && pulse.term != 0
            && pulse.term < self.known_term()
    }

    /// Whether the gate may be ordered open. Whether it *is* open, the kernel decides by the lease.
    pub(super) fn may_open(&self) -> bool {
        let primary = matches!(&self.local, Local::Up(facts) if !facts.in_recovery);
        self.state == VrrpState::Master
            && primary
            && self.opening
            && !self.lease.tail
            && self.lease.promise.is_some_and(|promise| self.now >= promise)
            && self.terms_are_stored()
    }

    /// Shuts the gate before anything else is done.
    pub(super) fn shut(&mut self, out: &mut Actions) {
        self.opening = false;
        self.lease.resuming = false;
        (self.lease.solo, self.lease.by_waiver) = (false, false);
        self.lease.limit = Nanos(0);
        self.settle_order(out);
    }

    /// The order is in force.
    pub(super) fn ordered(&mut self, order: Order, promise_until: Nanos) {
        if order == self.lease.order && order.echo == 0 {
            self.lease.promise.get_or_insert(promise_until.max(self.lease.floor));
        }
    }

    /// The kernel's lease was read.
    pub(super) fn lease_read(&mut self, now: Nanos, leased_until: Nanos) {
        self.lease.looking = false;
        self.lease.leased_until = leased_until;
        self.lease.low = self.rules.lease.is_some_and(|rules| leased_until < now.after(rules.margin));
        self.lease.look_at = now.after(self.rules.lease.map_or(super::RETRY, |rules| rules.look));
    }

    /// A primary's rights: which it gives up, which it asks for.
    pub(super) fn settle_rights(&mut self, now: Nanos, out: &mut Actions) {
        let Some(rules) = self.rules.lease else { return };
        if self.state != VrrpState::Master || !self.opening {
            return;
        }
        if !self.lease.looking && now >= self.lease.look_at {
            self.lease.looking = true;
            out.push(Action::ReadLease);
        }
        if self.lease.solo {
            // Where the standby has waived its right it gets one in a new term only, which is on the disk first.
            if self.standby_could_take_over(now) && !self.lease.by_waiver {
                self.lease.solo = false;
                self.lease.limit = Nanos(0);
            }
            return;
        }
        if self.peer_waived() {
            (self.lease.solo, self.lease.by_waiver) = (true, true);
            self.release_key(now, out);
            return;
        }
        let low = self.lease.low;
        if !low && self.lease.limit.0 != 0 && self.peer_lives() {
            self.lease.limit = Nanos(0);
            // In force before the key is anybody's.
            self.settle_order(out);
            self.release_key(now, out);
        }
        match rules.isolated {
            Isolated::Serve if low => self.lease.limit = FOREVER,
            Isolated::Witness if low || self.lease.limit.0 != 0 => self.keep_key(now, out),
            Isolated::Hold | Isolated::Serve | Isolated::Witness => {}
        }
    }

    /// Asks for the key, or renews it, in time.
    fn keep_key(&mut self, now: Nanos, out: &mut Actions) {
        if self.witness.is_asked() || now < self.witness.ask_at {
            return;
        }
        self.witness.asking = true;
        out.push(Action::Witness(WitnessCall::Acquire { term: self.terms.claim(), follows: 0 }));
    }

    pub(super) fn release_key(&mut self, now: Nanos, out: &mut Actions) {
        if self.witness.held_until > now {
            self.witness.held_until = Nanos(0);
            // The next loss of the peer is asked about at once.
            self.witness.ask_at = now;
            self.witness.releasing = true;
            out.push(Action::Witness(WitnessCall::Release { term: self.witness.term }));
        }
    }

    /// The peer echoes, follows, and has not waived: it shall have the right again.
    pub(super) fn standby_could_take_over(&self, now: Nanos) -> bool {
        let follows = matches!(&self.local, Local::Up(facts)
            if facts.streaming && (!self.rules.sync.names_standby() || facts.peer_is_sync));
        // A setting under way may be the one that takes it out.
        let settled = !self.degrading && !self.setting_sync;
        self.peer_lives() && follows && !self.peer_waived() && settled && self.lease.leased_until > now
    }

    pub(super) fn peer_lives(&self) -> bool {
        self.peer.pulse.state == State::Alive && !self.peer.pulse.hung && self.peer.role() == PeerRole::Standby
    }

    /// The peer will not take over in our term, and its word is on its disk.
    pub(super) fn peer_waived(&self) -> bool {
        let pulse = &self.peer.pulse;
        pulse.state != State::Dead && pulse.flags & flag::WAIVED != 0 && pulse.term == self.terms.claim()
    }

    /// The peer's userspace is silent for too long, and no hold was agreed on.
    pub(super) fn peer_hangs(&self) -> bool {
        let pulse = &self.peer.pulse;
        self.rules.lease.is_some()
            && pulse.hung
            && pulse.state == State::Alive
            && pulse.flags & (flag::PRIMARY | flag::PG_PRIMARY) != 0
            && self.now >= self.peer.hold_until
    }

    /// When the gate, the echoes or the witness are looked at next.
    pub(super) fn lease_deadline(&self) -> Option<Nanos> {
        self.rules.lease?;
        let promise = self.lease.promise.filter(|&at| at > self.now);
        let look =
            (self.state == VrrpState::Master && self.opening && !self.lease.looking).then_some(self.lease.look_at);
        let ask = (self.approach.is_some() || self.lease.limit.0 != 0).then_some(self.witness.ask_at);
        [promise, look, ask, Some(self.witness.revoke_at)].into_iter().flatten().filter(|&at| at > self.now).min()
    }

    pub(super) const fn lease_rules(&self) -> Option<LeaseRules> {
        self.rules.lease
    }
}
