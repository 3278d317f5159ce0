//! One step: time, the network, the kernel's two halves of an echo, and what may go wrong. What a daemon does is in
//! `daemon` and `witness`.

use super::action::{Action, Step};
use super::bounds::{Bounds, Deviation, Policy};
use super::state::{
    Ask, Budget, Disk, FOREVER, Halfway, Kernel, Link, Node, OVER, Phase, Release, Said, Solo, State, User, Witness,
};

/// The protocol under check.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// Who may serve alone.
    pub policy: Policy,
    /// The limits.
    pub bounds: Bounds,
    /// The mistake, if there is to be one.
    pub deviation: Option<Deviation>,
}

impl Protocol {
    /// Whether the protocol has this mistake.
    pub fn has(&self, deviation: Deviation) -> bool {
        self.deviation == Some(deviation)
    }

    /// A primary that serves by echoes, one that serves alone, and two standbys.
    pub fn starts(&self) -> Vec<State> {
        let state = |solo: Option<Solo>| {
            let mut nodes = [self.standby(), self.standby()];
            if let Some(solo) = solo {
                let primary = &mut nodes[0];
                primary.disk = Disk { mine: 2, seen: 2, waived: 0, primary: true };
                primary.kernel.serving = 2;
                primary.kernel.echo = false;
                primary.kernel.solo = solo;
                if solo != Solo::No {
                    primary.kernel.solo_until = FOREVER;
                }
            }
            let bounds = &self.bounds;
            State {
                nodes,
                links: [Link::new(), Link::new()],
                witness: Witness { holder: None, ttl: OVER, highest: 0 },
                budget: Budget {
                    crashes: bounds.crashes,
                    losses: bounds.losses,
                    resigns: bounds.resigns,
                    waivers: bounds.waivers,
                    asks: bounds.asks,
                    forces: bounds.forces,
                    forced: false,
                },
            }
        };
        let leased = state(Some(Solo::No));
        match self.policy {
            // Nobody is solo without end there, and two standbys do the same as elsewhere.
            Policy::Witness => vec![leased],
            Policy::Hold | Policy::Serve => vec![leased, state(None), state(Some(Solo::TookOver))],
        }
    }

    fn standby(&self) -> Node {
        let mut kernel = Kernel::new(OVER);
        kernel.echo = true;
        Node {
            kernel,
            user: User::new(true),
            disk: Disk { mine: 0, seen: 1, waived: 0, primary: false },
            ask: Ask::No,
            release: Release::No,
        }
    }

    /// What comes of a step; `false`: it is not possible now.
    pub fn take(&self, state: &mut State, action: Action) -> bool {
        match action {
            Action::Tick => {
                self.tick(state);
                true
            }
            Action::At(node, step) => {
                let me = usize::from(node);
                match step {
                    Step::Deliver(slot) => self.deliver(state, me, slot, None),
                    Step::Turn(slot) => self.deliver(state, me, slot, Some(slot)),
                    Step::Reflect(slot) => self.reflect(state, me, slot),
                    Step::Crash | Step::Restart | Step::Lose | Step::Boot => self.fault(state, me, step),
                    Step::Grant | Step::Released => self.at_the_witness(state, me, step),
                    _ if !state.nodes[me].kernel.up || !state.nodes[me].user.up => false,
                    Step::Pulse(slot) => self.pulse(state, me, slot),
                    Step::Ask | Step::Granted | Step::TakeBack => self.with_the_witness(state, me, step),
                    step => self.decide(state, me, step),
                }
            }
        }
    }

    fn tick(&self, state: &mut State) {
        let old = self.bounds.old(self.deviation);
        let older = |age: &mut Option<u8>| *age = age.map(|age| age + 1).filter(|&age| age < old);
        let less = |rest: &mut i8| {
            if *rest != FOREVER && *rest > OVER {
                *rest -= 1;
            }
        };
        for node in &mut state.nodes {
            let kernel = &mut node.kernel;
            less(&mut kernel.solo_until);
            less(&mut kernel.leased);
            less(&mut kernel.promise);
            older(&mut kernel.echo_stamp);
            if let Some(halfway) = &mut kernel.halfway {
                halfway.stamp = old.min(halfway.stamp + 1);
            }
            if let Phase::Waiting(rest) = &mut node.user.phase {
                *rest = 0.max(*rest - 1);
            }
            node.ask = match node.ask {
                // Whatever the answer, it says nothing of the present any more.
                Ask::Sent { age, .. } | Ask::Granted { age, .. } | Ask::Outrun { age, .. }
                    if age >= self.bounds.ttl =>
                {
                    Ask::No
                }
                Ask::Sent { age, term } => Ask::Sent { age: age + 1, term },
                Ask::Granted { age, term } => Ask::Granted { age: age + 1, term },
                Ask::Outrun { age, term } => Ask::Outrun { age: age + 1, term },
                Ask::No => Ask::No,
            };
        }
        for packet in state.links.iter_mut().flat_map(|link| link.slots.iter_mut().flatten()) {
            packet.stamp = old.min(packet.stamp + 1);
            older(&mut packet.echo);
        }
        less(&mut state.witness.ttl);
    }

    fn deliver(&self, state: &mut State, me: usize, slot: u8, back: Option<u8>) -> bool {
        let link = &mut state.links[me];
        let kernel = &mut state.nodes[me].kernel;
        let Some(packet) = link.slots[usize::from(slot)] else { return false };
        // One processor takes one packet after the other.
        if !kernel.up || kernel.halfway.is_some() {
            return false;
        }
        kernel.hear_term(packet.said.term);
        if let Some(age) = packet.echo {
            kernel.echoed(age, self.bounds.lease_detection(self.deviation));
        }
        if packet.order > link.heard {
            link.heard = packet.order;
            link.settle();
            kernel.heard = packet.said;
        }
        let permitted = kernel.echo;
        if !self.has(Deviation::PermissionFirst) {
            kernel.promise(self.bounds.detection);
        }
        let seen = self.has(Deviation::PermissionFirst) && permitted;
        kernel.halfway = Some(Halfway { stamp: packet.stamp, permitted: seen });
        // Without halves both are one step.
        self.bounds.halves || self.reflect(state, me, back)
    }

    fn reflect(&self, state: &mut State, me: usize, slot: Option<u8>) -> bool {
        let kernel = &mut state.nodes[me].kernel;
        let Some(halfway) = kernel.halfway.take() else { return false };
        if self.has(Deviation::PermissionFirst) {
            kernel.promise(self.bounds.detection);
            kernel.echo_stamp = halfway.permitted.then_some(halfway.stamp);
        } else {
            kernel.permit(halfway);
        }
        if kernel.echo_stamp.is_some_and(|age| age >= self.bounds.old(self.deviation)) {
            kernel.echo_stamp = None;
        }
        let (echo, own) = (self.echo(kernel), kernel.own);
        state.links[1 - me].send(slot, 0, echo, own);
        true
    }

    fn pulse(&self, state: &mut State, me: usize, slot: Option<u8>) -> bool {
        let said = self.says(&state.nodes[me]);
        let kernel = &mut state.nodes[me].kernel;
        kernel.own = said;
        let echo = self.echo(kernel);
        state.links[1 - me].send(slot, 0, echo, said);
        true
    }

    fn echo(&self, kernel: &Kernel) -> Option<u8> {
        kernel.echo_stamp.map(|age| if self.has(Deviation::EchoOfOwnClock) { 0 } else { age })
    }

    fn says(&self, node: &Node) -> Said {
        let (kernel, user) = (&node.kernel, &node.user);
        let early = |deviation| user.early && self.has(deviation);
        if kernel.serving != 0 {
            let resign = early(Deviation::ResignSaidEarly);
            let leased = !resign && (kernel.solo == Solo::No || early(Deviation::LeasedSaidEarly));
            return Said { term: kernel.serving, primary: !resign, leased, resign, waived: 0 };
        }
        let waived = if early(Deviation::WaiverSaidEarly) {
            user.storing
        } else if user.returning {
            0
        } else {
            node.disk.waived
        };
        let term = match user.phase {
            // PostgreSQL is in recovery for a while yet: it speaks as the standby that it was.
            Phase::Promoted(_) => node.disk.seen,
            _ if node.disk.primary => node.disk.mine,
            _ => node.known(),
        };
        Said { term, primary: false, leased: false, resign: user.resigned, waived }
    }

    /// A packet whose word is older than one that was heard says nothing any more, unless the hearing is forgotten.
    pub fn tidy(&self, state: &mut State) {
        for node in &mut state.nodes {
            // One that this node has passed by more than a step matters no more.
            if node.user.outrun + 1 < node.disk.mine {
                node.user.outrun = 0;
            }
        }
        if state.budget.losses > 0 {
            return;
        }
        let old = self.bounds.old(self.deviation);
        for (link, node) in state.links.iter_mut().zip(&state.nodes) {
            let heard = link.heard;
            for slot in &mut link.slots {
                let Some(packet) = slot else { continue };
                if packet.order > heard || packet.said.term > node.kernel.highest || !node.kernel.up {
                    continue;
                }
                packet.order = heard;
                packet.said = Said { term: packet.said.term, ..Said::default() };
                if packet.echo.is_none() && packet.stamp >= old {
                    *slot = None;
                } else {
                    packet.said.term = 0;
                }
            }
            link.settle();
        }
    }

    fn fault(&self, state: &mut State, me: usize, step: Step) -> bool {
        let node = &mut state.nodes[me];
        match step {
            Step::Crash if node.user.up && state.budget.crashes > 0 => {
                state.budget.crashes -= 1;
                node.user = User::new(false);
                node.ask = Ask::No;
            }
            Step::Restart if node.kernel.up && !node.user.up => {
                node.user = User::new(true);
                if node.kernel.serving != node.disk.mine {
                    node.kernel.shut();
                }
                // The pinned order is adopted; who does not serve echoes.
                node.kernel.echo = node.kernel.serving == 0;
            }
            Step::Lose if node.kernel.up && state.budget.losses > 0 => {
                state.budget.losses -= 1;
                node.kernel = Kernel::new(OVER);
                node.kernel.up = false;
                node.user = User::new(false);
                node.ask = Ask::No;
                state.links[me].forget();
            }
            Step::Boot if !node.kernel.up => {
                let forgotten = self.has(Deviation::PromiseForgotten);
                node.kernel = Kernel::new(if forgotten { OVER } else { self.bounds.detection as i8 });
                node.kernel.echo = true;
                node.user = User::new(true);
            }
            _ => return false,
        }
        true
    }

    /// No stamp of ours from before now counts any more.
    pub(super) fn void_stamps(&self, state: &mut State, me: usize) {
        let old = self.bounds.old(self.deviation);
        for packet in state.links[me].slots.iter_mut().flatten() {
            packet.echo = None;
        }
        for packet in state.links[1 - me].slots.iter_mut().flatten() {
            packet.stamp = old;
        }
        let peer = &mut state.nodes[1 - me].kernel;
        peer.echo_stamp = None;
        if let Some(halfway) = &mut peer.halfway {
            halfway.stamp = old;
        }
        state.nodes[me].kernel.leased = OVER;
    }
}

impl User {
    /// Nothing begun.
    pub const fn new(up: bool) -> Self {
        Self { up, phase: Phase::Idle, resigned: false, storing: 0, early: false, returning: false, outrun: 0 }
    }
}
