//! Both decisions about the cloud, side by side: what is told goes in, what to do comes out.
//!
//! Promises beyond those of [`super::follow`] and [`super::fence`]: a peer is fenced for one takeover once, again only
//! where a step failed and the bounds allow it; a reason not to is told once; what was taken is given back once the
//! peer is a standby.

use std::mem::{Discriminant, discriminant};

use harbor_ha_ebpf::units::Nanos;

use super::Told;
use super::fence::{Case, Cause, Fence, Order, Refusal, Step};
use super::follow::{self, Follow, Master};

/// Between two tries of what did not succeed, and two looks at a limit that is reached.
const RETRY: Nanos = Nanos::from_secs(60);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Do {
    /// About the HaVip.
    Follow(follow::Do),
    /// Fence the peer. Its steps end with [`Desk::step_ended`], the whole with [`Desk::fenced`].
    Fence {
        /// How.
        order: Order,
        /// How the peer ended.
        cause: Cause,
        /// The takeover, for [`Told::objects`].
        begun: Nanos,
    },
    /// The peer is not fenced, and why; told once.
    Withheld(Refusal),
    /// Bind the peer again. Ends with [`Desk::step_ended`].
    Associate,
    /// Bind this node's own instance again. Ends with [`Desk::step_ended`].
    BindOwn,
}

/// Decides.
#[derive(Clone, Debug)]
pub struct Desk {
    follow: Follow,
    fence: Fence,
    told: Told,
    /// The takeover (by when it began) after which nothing more is to be fenced.
    closed: Option<Nanos>,
    /// What was last told not to be done, and after which takeover.
    withheld: Option<(Nanos, Discriminant<Refusal>)>,
    /// When fencing is thought of next.
    think_at: Nanos,
    /// Of the peer's binding.
    giving_back: Errand,
    /// The last look has shown that this node's own instance is not bound.
    unbound: bool,
    /// Of this node's own binding.
    binding: Errand,
}

/// One call at a time, and the next one not before [`RETRY`] is over.
#[derive(Clone, Copy, Debug)]
struct Errand {
    under_way: bool,
    not_before: Nanos,
}

impl Errand {
    const NONE: Self = Self { under_way: false, not_before: Nanos(0) };

    /// Whether it begins now. If it is too early, `think_at` is no later than when it may.
    fn begins(&mut self, now: Nanos, think_at: &mut Nanos) -> bool {
        if self.under_way {
            return false;
        }
        self.under_way = now >= self.not_before;
        if !self.under_way {
            *think_at = (*think_at).min(self.not_before);
        }
        self.under_way
    }

    const fn ended(&mut self, now: Nanos) {
        *self = Self { under_way: false, not_before: now.after(RETRY) };
    }
}

impl Desk {
    /// Nothing is known yet.
    pub const fn new(follow: follow::Rules, fence: Fence) -> Self {
        Self {
            follow: Follow::new(follow),
            fence,
            told: Told {
                serves: false,
                served_at: Nanos(0),
                rightful: false,
                takeover: None,
                peer_heard: false,
                peer_serves: false,
                peer_follows: false,
                paused: false,
            },
            closed: None,
            withheld: None,
            think_at: Nanos(u64::MAX),
            giving_back: Errand::NONE,
            unbound: false,
            binding: Errand::NONE,
        }
    }

    /// This is so from now on.
    pub fn tell(&mut self, now: Nanos, told: Told) {
        let before = std::mem::replace(&mut self.told, told);
        self.follow.serves(now, told.serves);
        if before.serves && told.serves && before.served_at != told.served_at {
            // Somebody took the addresses off: who knows what else was done.
            self.follow.suspect(now);
        }
        if before.peer_serves != told.peer_serves {
            self.follow.peer_changed(now);
        }
        self.think_at = now;
    }

    /// What is due at `now`.
    pub fn wake(&mut self, now: Nanos) -> Vec<Do> {
        let mut todo: Vec<_> = self.follow.wake(now).into_iter().map(Do::Follow).collect();
        if now >= self.think_at {
            self.think_at = Nanos(u64::MAX);
            todo.extend(self.give_back(now));
            todo.extend(self.bind_own(now));
            todo.extend(self.take(now));
        }
        todo
    }

    /// When to wake it; `None`: not before something is told.
    pub fn next(&self) -> Option<Nanos> {
        let think = Some(self.think_at).filter(|at| at.0 != u64::MAX);
        self.follow.next().into_iter().chain(think).min()
    }

    /// The answer to a look that was asked for at `asked`.
    pub fn saw(&mut self, now: Nanos, asked: Nanos, master: Master) -> Vec<Do> {
        self.follow.saw(now, asked, master).into_iter().map(Do::Follow).collect()
    }

    /// Whether this node's own instance is bound, as a look that was answered has shown.
    pub fn saw_binding(&mut self, now: Nanos, bound: bool) {
        self.unbound = !bound;
        if self.unbound {
            self.think_at = self.think_at.min(now);
        }
    }

    /// Whether this node is the HaVip's master; `None`: it does not serve.
    pub const fn followed(&self) -> Option<bool> {
        self.follow.followed()
    }

    /// A step has ended; `carried_out`: the service did it, or may have.
    pub fn step_ended(&mut self, now: Nanos, step: Step, carried_out: bool) {
        self.fence.ended(step, carried_out);
        match step {
            Step::Associate => self.giving_back.ended(now),
            Step::BindOwn => {
                self.unbound &= !carried_out;
                self.binding.ended(now);
            }
            Step::Unassociate | Step::Stop => return,
        }
        self.think_at = self.think_at.min(now);
    }

    /// Every step of an order has ended; `well`: each as it should.
    pub fn fenced(&mut self, now: Nanos, well: bool) {
        self.fence.finished();
        if !well {
            self.closed = None;
        }
        self.think_at = now;
    }

    fn give_back(&mut self, now: Nanos) -> Option<Do> {
        let told = self.told;
        let wanted = told.rightful && told.peer_follows && !told.paused && self.fence.rejoined().is_some();
        (wanted && self.giving_back.begins(now, &mut self.think_at)).then_some(Do::Associate)
    }

    /// A node that serves and is not bound can be reached by nobody: the peer that fenced it is gone, or gave the binding
    /// back in vain. Where nobody fences, an operator took it, and knows why.
    fn bind_own(&mut self, now: Nanos) -> Option<Do> {
        let told = self.told;
        let wanted = self.unbound && told.rightful && !told.paused && self.fence.takes_bindings();
        (wanted && self.binding.begins(now, &mut self.think_at)).then_some(Do::BindOwn)
    }

    fn take(&mut self, now: Nanos) -> Option<Do> {
        let told = self.told;
        let (begun, cause) = told.takeover.filter(|(begun, _)| self.closed != Some(*begun))?;
        let case = Case { serves: told.rightful, cause, peer_heard: told.peer_heard, paused: told.paused };
        let refusal = match self.fence.decide(now, case) {
            Ok(order) => {
                self.closed = Some(begun);
                return Some(Do::Fence { order, cause, begun });
            }
            Err(refusal) => refusal,
        };
        let worth_telling = match refusal {
            Refusal::Off | Refusal::Agreed => {
                self.closed = Some(begun);
                false
            }
            Refusal::Heard => {
                self.closed = Some(begun);
                true
            }
            Refusal::Cooldown { left } => {
                self.think_at = self.think_at.min(now.after(left));
                true
            }
            Refusal::Limit { .. } => {
                self.think_at = self.think_at.min(now.after(RETRY));
                true
            }
            Refusal::Paused => true,
            // It is thought of again when that changes.
            Refusal::NotServing | Refusal::Busy => false,
        };
        let known = Some((begun, discriminant(&refusal)));
        if !worth_telling || self.withheld == known {
            return None;
        }
        self.withheld = known;
        Some(Do::Withheld(refusal))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fence;
    use super::*;

    const RULES: fence::Rules =
        fence::Rules { unassociate: true, stop: true, dry_run: false, cooldown: Nanos::from_secs(600), limit: 2 };
    const FOLLOW: follow::Rules =
        follow::Rules { deadline: Nanos::from_secs(30), look: Nanos::from_secs(1), poll: Nanos::from_secs(3600) };
    const SERVES: Told = Told {
        serves: true,
        served_at: Nanos(1),
        rightful: true,
        takeover: Some((Nanos(7), Cause::Silence)),
        peer_heard: false,
        peer_serves: false,
        peer_follows: false,
        paused: false,
    };

    fn at(seconds: u64) -> Nanos {
        Nanos::from_secs(100_000 + seconds)
    }

    fn desk() -> Desk {
        Desk::new(FOLLOW, Fence::new(RULES, [], false))
    }

    /// Without the looks.
    fn due(desk: &mut Desk, now: Nanos) -> Vec<Do> {
        desk.wake(now).into_iter().filter(|it| !matches!(it, Do::Follow(_))).collect()
    }

    fn is_fence(todo: &[Do]) -> bool {
        matches!(todo, [Do::Fence { .. }])
    }

    #[test]
    fn one_takeover_is_fenced_once_however_long_the_peer_stays_dead() {
        let mut desk = desk();
        desk.tell(at(0), SERVES);
        assert!(is_fence(&due(&mut desk, at(0))));
        desk.step_ended(at(1), Step::Unassociate, true);
        desk.fenced(at(2), true);
        for later in [2, 700, 90_000] {
            desk.tell(at(later), Told { served_at: Nanos(later), ..SERVES });
            assert_eq!(due(&mut desk, at(later)), []);
        }
        desk.tell(at(90_001), Told { takeover: Some((Nanos(8), Cause::Silence)), ..SERVES });
        assert!(is_fence(&due(&mut desk, at(90_001))), "the next one is another");
    }

    #[test]
    fn what_failed_is_tried_again_after_the_cool_down_and_within_the_limit() {
        let mut desk = desk();
        desk.tell(at(0), SERVES);
        assert!(is_fence(&due(&mut desk, at(0))));
        desk.fenced(at(5), false);
        let left = Nanos::from_secs(595);
        assert_eq!(due(&mut desk, at(5)), [Do::Withheld(Refusal::Cooldown { left })]);
        assert_eq!(due(&mut desk, at(6)), [], "told once");
        desk.tell(at(7), Told { served_at: Nanos(2), ..SERVES });
        assert_eq!(due(&mut desk, at(7)), [], "and not again for other news");
        assert!(is_fence(&due(&mut desk, at(600))));
        desk.fenced(at(601), false);
        assert_eq!(due(&mut desk, at(601)), [], "a cool-down, as was told");
        assert_eq!(due(&mut desk, at(1200)), [Do::Withheld(Refusal::Limit { times: 2 })]);
        assert_eq!(due(&mut desk, at(1260)), []);
    }

    #[test]
    fn a_peer_that_is_heard_again_is_not_fenced_for_that_takeover() {
        let mut desk = desk();
        desk.tell(at(0), Told { rightful: false, ..SERVES });
        assert_eq!(due(&mut desk, at(0)), [], "not before this node may serve");
        desk.tell(at(1), Told { peer_heard: true, ..SERVES });
        assert_eq!(due(&mut desk, at(1)), [Do::Withheld(Refusal::Heard)]);
        desk.tell(at(2), SERVES);
        assert_eq!(due(&mut desk, at(2)), []);
        for cause in [Cause::Agreed, Cause::Hung] {
            desk.tell(at(3), Told { takeover: Some((Nanos(9 + cause as u64), cause)), ..SERVES });
            assert_eq!(is_fence(&due(&mut desk, at(3))), cause == Cause::Hung);
        }
    }

    #[test]
    fn what_was_decided_is_not_gone_on_with_in_another_world() {
        let begun = Nanos(7);
        assert_eq!(SERVES.objects(begun), None);
        let other = Some((Nanos(8), Cause::Silence));
        for (told, why) in [
            (Told { rightful: false, ..SERVES }, Refusal::NotServing),
            (Told { takeover: other, ..SERVES }, Refusal::NotServing),
            (Told { takeover: None, ..SERVES }, Refusal::NotServing),
            (Told { peer_heard: true, ..SERVES }, Refusal::Heard),
            (Told { paused: true, ..SERVES }, Refusal::Paused),
        ] {
            assert_eq!(told.objects(begun), Some(why));
        }
    }

    #[test]
    fn a_pause_holds_it_back_and_its_end_lets_it_go() {
        let mut desk = desk();
        desk.tell(at(0), Told { paused: true, ..SERVES });
        assert_eq!(due(&mut desk, at(0)), [Do::Withheld(Refusal::Paused)]);
        desk.tell(at(1), SERVES);
        assert!(is_fence(&due(&mut desk, at(1))));
    }

    #[test]
    fn a_binding_is_given_back_to_a_peer_that_streams_again() {
        let mut desk = Desk::new(FOLLOW, Fence::new(RULES, [at(0)], true));
        let back = Told { peer_heard: true, peer_follows: true, takeover: None, ..SERVES };
        desk.tell(at(1), Told { peer_follows: false, ..back });
        assert_eq!(due(&mut desk, at(1)), []);
        desk.tell(at(2), Told { rightful: false, ..back });
        assert_eq!(due(&mut desk, at(2)), [], "it is not this node's to give");
        desk.tell(at(3), back);
        assert_eq!(due(&mut desk, at(3)), [Do::Associate]);
        desk.tell(at(4), Told { served_at: Nanos(4), ..back });
        assert_eq!(due(&mut desk, at(4)), [], "one at a time");
        desk.step_ended(at(5), Step::Associate, false);
        assert_eq!(due(&mut desk, at(5)), []);
        assert_eq!(due(&mut desk, at(65)), [Do::Associate]);
        desk.step_ended(at(66), Step::Associate, true);
        assert_eq!(due(&mut desk, at(200)), []);
    }

    #[test]
    fn a_node_that_serves_unbound_binds_itself_and_an_operators_unbinding_is_left_alone() {
        let alone = Told { takeover: None, ..SERVES };
        let mut desk = desk();
        desk.tell(at(1), Told { rightful: false, ..alone });
        desk.saw_binding(at(1), false);
        assert_eq!(due(&mut desk, at(1)), [], "the other one may serve");
        desk.tell(at(2), Told { paused: true, ..alone });
        assert_eq!(due(&mut desk, at(2)), []);
        desk.tell(at(3), alone);
        assert_eq!(due(&mut desk, at(3)), [Do::BindOwn]);
        desk.saw_binding(at(4), false);
        assert_eq!(due(&mut desk, at(4)), [], "one at a time");
        desk.step_ended(at(5), Step::BindOwn, false);
        assert_eq!(due(&mut desk, at(6)), []);
        assert_eq!(due(&mut desk, at(65)), [Do::BindOwn]);
        desk.step_ended(at(66), Step::BindOwn, true);
        assert_eq!(due(&mut desk, at(200)), []);

        let nobody_fences = Fence::new(fence::Rules { unassociate: false, ..RULES }, [], false);
        let mut desk = Desk::new(FOLLOW, nobody_fences);
        desk.tell(at(1), alone);
        desk.saw_binding(at(1), false);
        assert_eq!(due(&mut desk, at(1)), []);
    }

    #[test]
    fn addresses_that_were_put_back_are_looked_after() {
        let mut desk = desk();
        desk.tell(at(0), Told { takeover: None, ..SERVES });
        assert_eq!(desk.wake(at(0)), [Do::Follow(follow::Do::Look)]);
        desk.saw(at(1), at(0), Master::Own);
        assert_eq!((desk.followed(), desk.wake(at(2))), (Some(true), vec![]));
        desk.tell(at(3), Told { takeover: None, served_at: Nanos(5), ..SERVES });
        assert_eq!(desk.wake(at(3)), [Do::Follow(follow::Do::Look)]);
    }
}
