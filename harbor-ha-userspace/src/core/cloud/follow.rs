//! Whether the HaVip followed this node's announcements.
//!
//! The HaVip goes to whoever announced last, and no call moves it. So a node that serves and is not the HaVip's master
//! announces again and looks again, until it is or the deadline is over; then there is one alert, and the announcing goes
//! on, quietly: an alert each second would tell nobody more. Promise: one alert at most for each time that the node
//! serves and the HaVip does not follow, however often it looks.

use harbor_ha_ebpf::units::Nanos;

/// Times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long it may take to follow.
    pub deadline: Nanos,
    /// Between two looks while it has not followed and the deadline runs.
    pub look: Nanos,
    /// Between two looks otherwise.
    pub poll: Nanos,
}

/// Who has the HaVip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Master {
    /// This node.
    Own,
    /// Somebody else, by id.
    Other(String),
    /// Nobody yet.
    Nobody,
    /// It could not be asked, and why.
    Unknown(String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Do {
    /// Ask who has the HaVip.
    Look,
    /// Announce the address again.
    Announce,
    /// Tell an operator, once: the deadline is over and this is what was seen last.
    Alert(Master),
    /// It followed, so long after this node began to serve or to be in doubt.
    Followed {
        /// How long it took.
        took: Nanos,
        /// An alert had been raised.
        alerted: bool,
    },
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// This node does not serve: the HaVip is the other one's affair.
    Idle,
    /// It serves and has not been seen as the master since.
    Doubt { since: Nanos, alerted: bool },
    /// It is the master.
    Settled,
}

/// Watches one HaVip.
#[derive(Clone, Debug)]
pub struct Follow {
    rules: Rules,
    state: State,
    /// A question is under way.
    asked: bool,
    /// The next look; nothing before.
    next: Nanos,
}

impl Follow {
    /// Nobody serves yet; who has it is looked at once.
    pub const fn new(rules: Rules) -> Self {
        Self { rules, state: State::Idle, asked: false, next: Nanos(0) }
    }

    /// This node serves from now on, or does no more. Said again while it is so, it changes nothing.
    pub fn serves(&mut self, now: Nanos, serves: bool) {
        match (self.state, serves) {
            (State::Idle, true) => self.doubt(now),
            (State::Doubt { .. } | State::Settled, false) => {
                (self.state, self.next) = (State::Idle, now.after(self.rules.look))
            }
            (State::Idle, false) | (State::Doubt { .. } | State::Settled, true) => {}
        }
    }

    /// Something suggests that the HaVip may have gone (an address that answers elsewhere, a cable that came back): look
    /// now.
    pub fn suspect(&mut self, now: Nanos) {
        match self.state {
            State::Idle => {}
            State::Doubt { .. } => self.next = self.next.min(now),
            State::Settled => self.next = now,
        }
    }

    /// The peer began to serve, or does no more: a node that does not serve itself looks soon whether the HaVip agrees.
    pub fn peer_changed(&mut self, now: Nanos) {
        if self.state == State::Idle {
            self.next = self.next.min(now.after(self.rules.look));
        }
    }

    /// The answer to a look that was asked for at `asked`.
    pub fn saw(&mut self, now: Nanos, asked: Nanos, master: Master) -> Vec<Do> {
        self.asked = false;
        let mut todo = Vec::new();
        match (self.state, master) {
            // The other one's affair: it is only looked at.
            (State::Idle, _) => self.next = now.after(self.rules.poll),
            // From before this node served: who had it then says nothing of now.
            (State::Doubt { since, .. }, _) if asked < since => self.next = now,
            (State::Doubt { since, alerted }, Master::Own) => {
                todo.push(Do::Followed { took: now.since(since), alerted });
                self.state = State::Settled;
                self.next = now.after(self.rules.poll);
            }
            (State::Settled, Master::Own | Master::Unknown(_)) => self.next = now.after(self.rules.poll),
            (State::Settled, Master::Other(_) | Master::Nobody) => {
                self.doubt(now);
                todo.push(Do::Announce);
                self.next = now.after(self.rules.look);
            }
            (State::Doubt { since, alerted }, master) => {
                // Also when it could not be asked: an announcement too many costs a packet, one too few the service.
                todo.push(Do::Announce);
                let over = now.since(since) >= self.rules.deadline;
                if over && !alerted {
                    todo.push(Do::Alert(master));
                    self.state = State::Doubt { since, alerted: true };
                }
                self.next = now.after(if over { self.rules.poll } else { self.rules.look });
            }
        }
        todo
    }

    /// What is due at `now`.
    pub fn wake(&mut self, now: Nanos) -> Vec<Do> {
        if self.asked || now < self.next {
            return Vec::new();
        }
        self.asked = true;
        vec![Do::Look]
    }

    /// When to wake it; `None`: not before something is told.
    pub const fn next(&self) -> Option<Nanos> {
        if self.asked { None } else { Some(self.next) }
    }

    /// Whether this node is the master; `None`: it does not serve.
    pub const fn followed(&self) -> Option<bool> {
        match self.state {
            State::Idle => None,
            State::Doubt { .. } => Some(false),
            State::Settled => Some(true),
        }
    }

    fn doubt(&mut self, now: Nanos) {
        self.state = State::Doubt { since: now, alerted: false };
        self.next = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = Nanos::from_secs(1);
    const RULES: Rules = Rules { deadline: Nanos::from_secs(30), look: SECOND, poll: Nanos::from_secs(60) };

    fn at(seconds: u64) -> Nanos {
        Nanos::from_secs(1000 + seconds)
    }

    fn other() -> Master {
        Master::Other("i-b".into())
    }

    /// Wakes it whenever it asks for that, until `end`; each look is answered with what `master` says for that instant.
    fn run(follow: &mut Follow, end: Nanos, master: impl Fn(Nanos) -> Master) -> Vec<(Nanos, Do)> {
        let mut done = Vec::new();
        while let Some(now) = follow.next().filter(|now| *now <= end) {
            for todo in follow.wake(now) {
                assert_eq!(todo, Do::Look);
                done.extend(follow.saw(now, now, master(now)).into_iter().map(|todo| (now, todo)));
            }
        }
        done
    }

    fn serving() -> Follow {
        let mut follow = Follow::new(RULES);
        follow.serves(at(0), true);
        follow
    }

    #[test]
    fn a_node_that_does_not_serve_looks_now_and_then_and_says_nothing() {
        let mut follow = Follow::new(RULES);
        assert_eq!((follow.wake(at(100)), follow.followed()), (vec![Do::Look], None));
        assert_eq!(follow.saw(at(101), at(100), other()), []);
        follow.suspect(at(102));
        assert_eq!(follow.next(), Some(at(161)), "nothing of it is this node's");
        follow.peer_changed(at(103));
        assert_eq!((follow.next(), follow.wake(at(104))), (Some(at(104)), vec![Do::Look]));
    }

    #[test]
    fn a_havip_that_follows_at_once_costs_one_look_and_then_one_each_poll() {
        let mut follow = serving();
        let done = run(&mut follow, at(59), |_| Master::Own);
        assert_eq!(done, [(at(0), Do::Followed { took: Nanos(0), alerted: false })]);
        assert_eq!((follow.next(), follow.followed()), (Some(at(60)), Some(true)));
        assert_eq!(run(&mut follow, at(600), |_| Master::Own), []);
    }

    #[test]
    fn a_first_burst_that_was_not_seen_is_followed_by_others_until_one_is() {
        let mut follow = serving();
        let done = run(&mut follow, at(59), |now| if now < at(3) { other() } else { Master::Own });
        let expected = [
            (at(0), Do::Announce),
            (at(1), Do::Announce),
            (at(2), Do::Announce),
            (at(3), Do::Followed { took: Nanos::from_secs(3), alerted: false }),
        ];
        assert_eq!(done, expected);
    }

    #[test]
    fn a_havip_that_is_stuck_raises_one_alert_and_no_storm() {
        for (master, serves_on) in
            [(other(), 86_400), (Master::Nobody, 3_600), (Master::Unknown("no answer".into()), 3_600)]
        {
            let mut follow = serving();
            let done = run(&mut follow, at(serves_on), |_| master.clone());
            let alerts: Vec<_> = done.iter().filter(|(_, todo)| matches!(todo, Do::Alert(_))).collect();
            assert_eq!(alerts, [&(at(30), Do::Alert(master))]);
            // Each second until then, each minute from then on.
            let announced = done.iter().filter(|(_, todo)| *todo == Do::Announce).count() as u64;
            assert_eq!(announced, 31 + (serves_on - 30) / 60);
            let done = run(&mut follow, at(serves_on + 60), |_| Master::Own);
            assert!(matches!(done.as_slice(), [(_, Do::Followed { alerted: true, .. })]), "{done:?}");
        }
    }

    #[test]
    fn one_that_goes_away_later_is_a_new_doubt_with_an_alert_of_its_own() {
        let mut follow = serving();
        let lost = |now: Nanos| if now < at(60) { Master::Own } else { other() };
        let done = run(&mut follow, at(300), lost);
        assert_eq!(done.iter().filter(|(_, todo)| matches!(todo, Do::Alert(_))).count(), 1);
        assert_eq!(done[1], (at(60), Do::Announce));
        // That it cannot be asked for a while is no sign that it went.
        let mut follow = serving();
        let away = |now: Nanos| if now < at(60) { Master::Own } else { Master::Unknown("no answer".into()) };
        assert_eq!(run(&mut follow, at(300), away).len(), 1);
    }

    #[test]
    fn an_answer_from_before_it_served_counts_for_nothing() {
        let mut follow = serving();
        assert_eq!(follow.wake(at(0)), [Do::Look]);
        follow.serves(at(1), false);
        follow.serves(at(2), true);
        assert_eq!(follow.saw(at(3), at(0), Master::Own), []);
        assert_eq!((follow.followed(), follow.next()), (Some(false), Some(at(3))));
    }

    #[test]
    fn one_question_is_under_way_at_a_time() {
        let mut follow = serving();
        assert_eq!(follow.wake(at(0)), [Do::Look]);
        follow.suspect(at(1));
        assert_eq!((follow.wake(at(100)), follow.next()), (vec![], None));
    }

    #[test]
    fn a_suspicion_does_not_wait_for_the_poll() {
        let mut follow = serving();
        run(&mut follow, at(1), |_| Master::Own);
        follow.suspect(at(2));
        assert_eq!(follow.next(), Some(at(2)));
    }
}
