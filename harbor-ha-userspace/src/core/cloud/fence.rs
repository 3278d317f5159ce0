//! What is taken from a dead peer: its binding to the HaVip, and its power.
//!
//! A second fence, for the service is fenced already: the peer's gate shut when its lease ended. So there is no hurry, and
//! every doubt is a reason not to. Promise: nothing is done but by the node that serves, to a peer that fell silent or
//! hung; not twice within the cool-down, not more often than the limit in 24 hours, and nothing at all in a dry run.

use std::collections::VecDeque;
use std::fmt;
use std::net::Ipv4Addr;

use harbor_ha_ebpf::units::Nanos;

/// The window of [`Rules::limit`].
const DAY: Nanos = Nanos::from_secs(24 * 3600);

/// What may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Take the peer's binding to the HaVip away.
    pub unassociate: bool,
    /// Stop its instance.
    pub stop: bool,
    /// Only say so.
    pub dry_run: bool,
    /// At least so long between two.
    pub cooldown: Nanos,
    /// At most so many in 24 hours.
    pub limit: u32,
}

/// One thing that is done to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Take its binding away, by force.
    Unassociate,
    /// Stop its instance, as a power cut.
    Stop,
    /// Bind it again: it is a standby.
    Associate,
    /// Bind this node's own instance: its peer took that away, and this node serves now.
    BindOwn,
}

/// Why this node serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The peer fell silent.
    Silence,
    /// The peer's kernel answered, and its userspace did not.
    Hung,
    /// The peer resigned, or an operator ordered it: it is well.
    Agreed,
}

impl Cause {
    /// From [`crate::core::snapshot::Takeover::why`]. What is not known to be a death is none.
    pub fn of(why: &str) -> Self {
        match why {
            "silence" => Self::Silence,
            "hung" => Self::Hung,
            _ => Self::Agreed,
        }
    }

    /// In a word, for the audit.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Silence => "silence",
            Self::Hung => "hung",
            Self::Agreed => "agreed",
        }
    }
}

/// The case in which fencing is thought of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// This node serves, with a right to.
    pub serves: bool,
    /// Why.
    pub cause: Cause,
    /// The peer is heard again.
    pub peer_heard: bool,
    /// An operator has paused automatic action.
    pub paused: bool,
}

/// Why nothing is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not configured.
    Off,
    /// This node does not serve.
    NotServing,
    /// The peer handed over.
    Agreed,
    /// The peer is back.
    Heard,
    /// An operator has paused automatic action.
    Paused,
    /// The last one was so short a time ago that this much of the cool-down is left.
    Cooldown {
        /// Until it is over.
        left: Nanos,
    },
    /// It was done so often in 24 hours.
    Limit {
        /// Times.
        times: u32,
    },
    /// One is under way.
    Busy,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("cloud.fence is empty"),
            Self::NotServing => f.write_str("this node does not serve"),
            Self::Agreed => f.write_str("the peer handed over and is well"),
            Self::Heard => f.write_str("the peer is heard again"),
            Self::Paused => f.write_str("automatic action is paused"),
            Self::Cooldown { left } => write!(
                f,
                "the last one was too short a time ago (cloud.fence_cooldown, {} s left)",
                left.0 / 1_000_000_000
            ),
            Self::Limit { times } => {
                write!(f, "it was done {times} times in 24 hours (cloud.fence_limit): look at the cause")
            }
            Self::Busy => f.write_str("one is under way"),
        }
    }
}

/// The instance that a step is about to be carried out on, as the service describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// It is this node's own: one file for both nodes names the same peer on both.
    pub own: bool,
    /// Its private address, where the service was asked, and said one.
    pub address: Option<Ipv4Addr>,
    /// Disks of its host, which a stop clears.
    pub local_disks: u64,
}

/// Why a step is not carried out on an instance, whatever was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Nobody fences himself.
    Own,
    /// The service does not say where it is, so nothing says that it is the peer.
    Nowhere,
    /// It has another address than the peer: `cloud.peer_instance` names somebody else.
    Address {
        /// Its own.
        found: Ipv4Addr,
        /// That of `node.peer`.
        peer: Ipv4Addr,
    },
    /// The stop would destroy data.
    LocalDisks,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("cloud.peer_instance is this node's own; use the other's"),
            Self::Nowhere => f.write_str("the service does not say its address, so it may be anybody's"),
            Self::Address { found, peer } => {
                write!(f, "its address is {found}, and node.peer is {peer}: cloud.peer_instance names another instance")
            }
            Self::LocalDisks => {
                f.write_str("it has local disks, which a stop clears; take \"ecs-stop\" out of cloud.fence")
            }
        }
    }
}

impl Target {
    /// Whether `step` may be carried out on it, who is to be the peer at `peer`.
    ///
    /// # Errors
    /// It may not, and why.
    pub fn fit(&self, step: Step, peer: Ipv4Addr) -> Result<(), Unfit> {
        match (step, self.address) {
            _ if self.own => Err(Unfit::Own),
            (Step::Stop, None) => Err(Unfit::Nowhere),
            (Step::Stop, Some(found)) if found != peer => Err(Unfit::Address { found, peer }),
            (Step::Stop, Some(_)) if self.local_disks > 0 => Err(Unfit::LocalDisks),
            (Step::Unassociate | Step::Stop | Step::Associate | Step::BindOwn, _) => Ok(()),
        }
    }
}

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Steps, each begun when the one before has ended, well or not.
    pub steps: Vec<Step>,
    /// None of them is carried out: they are only written down.
    pub dry_run: bool,
}

/// Remembers what was done.
#[derive(Clone, Debug)]
pub struct Fence {
    rules: Rules,
    /// When, oldest first; those of the last 24 hours.
    done: VecDeque<Nanos>,
    busy: bool,
    /// Its binding was taken away by this node, and not given back.
    unbound: bool,
}

impl Fence {
    /// `earlier`: when this node fenced before it was started, as far as that is known, so that a restart forgets no limit.
    /// `unbound`: it took the peer's binding away then.
    pub fn new(rules: Rules, earlier: impl IntoIterator<Item = Nanos>, unbound: bool) -> Self {
        let mut done: Vec<Nanos> = earlier.into_iter().collect();
        done.sort();
        Self { rules, done: done.into(), busy: false, unbound }
    }

    /// Decides about a peer that is gone; what comes back is counted, a dry run too.
    ///
    /// # Errors
    /// Nothing is done, and why.
    pub fn decide(&mut self, now: Nanos, case: Case) -> Result<Order, Refusal> {
        self.may(now, case)?;
        self.done.push_back(now);
        self.busy = true;
        // The binding first: the service refuses to change that of an instance which is stopping.
        let steps = [(self.rules.unassociate, Step::Unassociate), (self.rules.stop, Step::Stop)];
        let steps = steps.into_iter().filter(|(wanted, _)| *wanted).map(|(_, step)| step).collect();
        Ok(Order { steps, dry_run: self.rules.dry_run })
    }

    fn may(&mut self, now: Nanos, case: Case) -> Result<(), Refusal> {
        while self.done.front().is_some_and(|then| now.since(*then) >= DAY) {
            self.done.pop_front();
        }
        let times = self.done.len() as u32;
        match self.done.back() {
            _ if !self.rules.unassociate && !self.rules.stop => Err(Refusal::Off),
            _ if case.paused => Err(Refusal::Paused),
            _ if !case.serves => Err(Refusal::NotServing),
            _ if case.cause == Cause::Agreed => Err(Refusal::Agreed),
            _ if case.peer_heard => Err(Refusal::Heard),
            _ if self.busy => Err(Refusal::Busy),
            Some(last) if now.since(*last) < self.rules.cooldown => {
                Err(Refusal::Cooldown { left: last.after(self.rules.cooldown).since(now) })
            }
            _ if times >= self.rules.limit => Err(Refusal::Limit { times }),
            _ => Ok(()),
        }
    }

    /// A step has ended; `carried_out`: it was done, not only written down, and the service accepted it.
    pub const fn ended(&mut self, step: Step, carried_out: bool) {
        match (step, carried_out) {
            (Step::Unassociate, true) => self.unbound = true,
            (Step::Associate, true) => self.unbound = false,
            (Step::Unassociate | Step::Associate, false) | (Step::Stop | Step::BindOwn, _) => {}
        }
    }

    /// Every step of an order has ended.
    pub const fn finished(&mut self) {
        self.busy = false;
    }

    /// Whether bindings are taken away, so that this node's own may be: both nodes are configured alike.
    pub const fn takes_bindings(&self) -> bool {
        self.rules.unassociate && !self.rules.dry_run
    }

    /// The peer is a standby again: what is to be given back. Asked again, it is said again, until it has ended well.
    pub fn rejoined(&self) -> Option<Step> {
        (self.unbound && !self.busy).then_some(Step::Associate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules =
        Rules { unassociate: true, stop: true, dry_run: false, cooldown: Nanos::from_secs(600), limit: 3 };
    const DEAD: Case = Case { serves: true, cause: Cause::Silence, peer_heard: false, paused: false };

    fn at(seconds: u64) -> Nanos {
        Nanos::from_secs(100_000 + seconds)
    }

    fn fence() -> Fence {
        Fence::new(RULES, [], false)
    }

    /// Decides, and is through with it.
    fn done(fence: &mut Fence, now: Nanos) -> Result<Vec<Step>, Refusal> {
        let order = fence.decide(now, DEAD)?;
        fence.finished();
        Ok(order.steps)
    }

    #[test]
    fn neither_oneself_nor_a_stranger_nor_data_is_fenced() {
        let peer = Ipv4Addr::new(10, 0, 0, 2);
        let found = Ipv4Addr::new(10, 0, 0, 3);
        let fit = Target { own: false, address: Some(peer), local_disks: 0 };
        let of = |target: Target| [Step::Unassociate, Step::Stop].map(|step| target.fit(step, peer).err());
        assert_eq!(of(fit), [None, None]);
        assert_eq!(of(Target { address: None, ..fit }), [None, Some(Unfit::Nowhere)]);
        assert_eq!(of(Target { own: true, ..fit }), [Some(Unfit::Own); 2]);
        assert_eq!(of(Target { address: Some(found), ..fit }), [None, Some(Unfit::Address { found, peer })]);
        assert_eq!(of(Target { local_disks: 1, ..fit }), [None, Some(Unfit::LocalDisks)]);
    }

    #[test]
    fn the_binding_goes_before_the_power() {
        assert_eq!(done(&mut fence(), at(0)), Ok(vec![Step::Unassociate, Step::Stop]));
        let mut alone = Fence::new(Rules { unassociate: false, ..RULES }, [], false);
        assert_eq!(done(&mut alone, at(0)), Ok(vec![Step::Stop]));
    }

    #[test]
    fn every_doubt_is_a_reason_not_to_and_costs_no_turn() {
        let mut fence = fence();
        for (case, why) in [
            (Case { serves: false, ..DEAD }, Refusal::NotServing),
            (Case { cause: Cause::Agreed, ..DEAD }, Refusal::Agreed),
            (Case { peer_heard: true, ..DEAD }, Refusal::Heard),
            (Case { paused: true, ..DEAD }, Refusal::Paused),
        ] {
            assert_eq!(fence.decide(at(0), case), Err(why));
        }
        assert!(fence.decide(at(0), Case { cause: Cause::Hung, ..DEAD }).is_ok());
        let mut off = Fence::new(Rules { unassociate: false, stop: false, ..RULES }, [], false);
        assert_eq!(off.decide(at(0), DEAD), Err(Refusal::Off));
    }

    #[test]
    fn one_at_a_time_and_then_the_cool_down() {
        let mut fence = fence();
        fence.decide(at(0), DEAD).unwrap();
        assert_eq!(fence.decide(at(700), DEAD), Err(Refusal::Busy));
        fence.finished();
        assert_eq!(done(&mut fence, at(599)), Err(Refusal::Cooldown { left: Nanos::from_secs(1) }));
        assert!(done(&mut fence, at(600)).is_ok());
    }

    #[test]
    fn the_limit_is_of_any_24_hours_and_outlives_a_restart() {
        let mut fence = Fence::new(RULES, [at(600), at(0)], false);
        assert!(done(&mut fence, at(1200)).is_ok());
        assert_eq!(done(&mut fence, at(1800)), Err(Refusal::Limit { times: 3 }));
        assert_eq!(done(&mut fence, at(86_399)), Err(Refusal::Limit { times: 3 }));
        assert!(done(&mut fence, at(86_400)).is_ok());
        assert_eq!(done(&mut fence, at(86_999)), Err(Refusal::Cooldown { left: Nanos::from_secs(1) }));
        assert!(done(&mut fence, at(87_000)).is_ok());
    }

    #[test]
    fn a_dry_run_is_counted_and_takes_nothing() {
        let mut dry = Fence::new(Rules { dry_run: true, limit: 1, ..RULES }, [], false);
        assert!(dry.decide(at(0), DEAD).unwrap().dry_run);
        dry.ended(Step::Unassociate, false);
        dry.finished();
        assert_eq!(dry.rejoined(), None);
        assert_eq!(dry.decide(at(700), DEAD), Err(Refusal::Limit { times: 1 }));
    }

    #[test]
    fn what_was_taken_is_given_back_until_that_succeeds() {
        let mut fence = fence();
        assert_eq!(fence.rejoined(), None);
        fence.decide(at(0), DEAD).unwrap();
        fence.ended(Step::Unassociate, true);
        assert_eq!(fence.rejoined(), None, "not while it is fenced");
        fence.ended(Step::Stop, true);
        fence.finished();
        for carried_out in [false, true] {
            assert_eq!(fence.rejoined(), Some(Step::Associate));
            fence.ended(Step::Associate, carried_out);
        }
        assert_eq!(fence.rejoined(), None);
        assert_eq!(Fence::new(RULES, [], true).rejoined(), Some(Step::Associate), "also after a restart");
    }
}
