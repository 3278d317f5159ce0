//! When a call is made again, and how often this process calls at all. Pure: no clock, no dice of its own.

use std::time::Duration;

use super::error::Class;

/// Waits between attempts.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// After the first failure of the service or the network; doubles each time.
    pub first: Duration,
    /// The longest of those.
    pub most: Duration,
    /// After the first refusal because something is in transition; that much more each time.
    pub step: Duration,
    /// The longest of those, and the longest that a throttling service is obeyed before it is asked again.
    pub longest: Duration,
}

/// As the official Terraform provider and SDKs go about it.
pub const USUAL: Pace = Pace {
    first: Duration::from_millis(200),
    most: Duration::from_secs(5),
    step: Duration::from_secs(2),
    longest: Duration::from_secs(30),
};

/// What went wrong with an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The service refused; with the pause that it asks for.
    Refused(Class, Option<Duration>),
    /// No usable answer: the network, a time limit, an answer that breaks off.
    Unheard,
}

impl Pace {
    /// How long to wait before attempt number `next` (2 is the first repetition); `None`: it would not help. `dice`, 0 to
    /// 255, spreads the attempts of several nodes that were refused together.
    pub fn pause(&self, wrong: Wrong, next: u32, dice: u8) -> Option<Duration> {
        let doubled = || self.first.saturating_mul(1 << next.saturating_sub(2).min(16)).min(self.most);
        let pause = match wrong {
            Wrong::Refused(Class::Throttled, Some(asked)) => {
                return Some(asked.min(self.longest) + spread(self.first, dice));
            }
            // Minutes are counted, so an account that is over its limit is not helped by a second.
            Wrong::Refused(Class::Throttled, None) => {
                self.step.saturating_mul(1 << next.saturating_sub(2).min(16)).min(self.longest)
            }
            Wrong::Refused(Class::Busy, asked) => asked.map_or_else(doubled, |asked| asked.min(self.longest)),
            Wrong::Unheard => doubled(),
            Wrong::Refused(Class::Transition, _) => self.step.saturating_mul(next.saturating_sub(1)).min(self.longest),
            Wrong::Refused(Class::Nonce, _) => self.first,
            // With others, which the caller fetches, and then not again.
            Wrong::Refused(Class::Keys, _) => return Some(Duration::ZERO),
            Wrong::Refused(Class::Clock | Class::Denied | Class::Final, _) => return None,
        };
        Some(pause + spread(pause, dice))
    }
}

/// Up to a quarter of `pause`.
fn spread(pause: Duration, dice: u8) -> Duration {
    pause / 4 * u32::from(dice) / 256
}

/// How long a service is left alone that throttles: by every call to it, not only by the one that was told so.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rest {
    /// On the caller's clock.
    until: Duration,
}

impl Rest {
    /// The service wants no call within `pause` from `now` (any clock that does not go back). An earlier wish that is
    /// longer stands.
    pub fn wish(&mut self, now: Duration, pause: Duration) {
        self.until = self.until.max(now.saturating_add(pause));
    }

    /// How long it is to be left alone yet; `None`: no more.
    pub fn left(&self, now: Duration) -> Option<Duration> {
        Some(self.until.saturating_sub(now)).filter(|left| !left.is_zero())
    }
}

/// At most so many calls at once, and so many a minute: the account's limit (about 300 a minute and action) is shared by
/// both nodes, the console and every tool.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    most: u32,
    every: Duration,
    left: u32,
    /// On the caller's clock: the left ones were counted.
    counted: Duration,
}

impl Bucket {
    /// Full: `most` calls at once, then one `every`.
    pub const fn new(most: u32, every: Duration) -> Self {
        Self { most, every, left: most, counted: Duration::ZERO }
    }

    /// Takes one at `now` (any clock that does not go back); or tells how long until there is one.
    ///
    /// # Errors
    /// There is none.
    pub fn take(&mut self, now: Duration) -> Result<(), Duration> {
        let since = now.saturating_sub(self.counted);
        let grown = u32::try_from(since.as_nanos() / self.every.as_nanos().max(1)).unwrap_or(u32::MAX);
        if grown > 0 {
            self.left = self.left.saturating_add(grown).min(self.most);
            // What does not make a whole one counts for the next.
            self.counted = if self.left == self.most { now } else { self.counted + self.every * grown };
        }
        match self.left {
            0 => Err((self.counted + self.every).saturating_sub(now)),
            _ => {
                self.left -= 1;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn refused(class: Class) -> Wrong {
        Wrong::Refused(class, None)
    }

    #[test]
    fn what_no_repetition_helps_is_not_repeated() {
        for class in [Class::Final, Class::Denied, Class::Clock] {
            assert_eq!(USUAL.pause(refused(class), 2, 0), None, "{class:?}");
        }
        assert_eq!(USUAL.pause(refused(Class::Keys), 2, 0), Some(Duration::ZERO));
        assert_eq!(USUAL.pause(refused(Class::Nonce), 9, 0), Some(USUAL.first));
    }

    #[test]
    fn the_pause_that_the_service_asks_for_is_kept_within_a_bound_and_spread() {
        let asked = |ms| Wrong::Refused(Class::Throttled, Some(Duration::from_millis(ms)));
        assert_eq!(USUAL.pause(asked(1500), 2, 0), Some(1500 * MS));
        assert!(USUAL.pause(asked(1500), 2, 255).unwrap() > 1500 * MS);
        assert_eq!(USUAL.pause(asked(3_600_000), 2, 0), Some(Duration::from_secs(30)));
    }

    #[test]
    fn pauses_grow_to_their_bound() {
        let pauses = |wrong| (2..30).map(|next| USUAL.pause(wrong, next, 0).unwrap()).collect::<Vec<_>>();
        assert_eq!(pauses(Wrong::Unheard)[..5], [200 * MS, 400 * MS, 800 * MS, 1600 * MS, 3200 * MS]);
        assert_eq!(pauses(refused(Class::Transition))[..3], [2000 * MS, 4000 * MS, 6000 * MS]);
        assert_eq!(pauses(refused(Class::Throttled))[..3], [2000 * MS, 4000 * MS, 8000 * MS]);
        for (wrong, most) in [(Wrong::Unheard, 5), (refused(Class::Throttled), 30), (refused(Class::Transition), 30)] {
            assert!(pauses(wrong).is_sorted());
            assert_eq!(pauses(wrong).last(), Some(&Duration::from_secs(most)), "{wrong:?}");
        }
        let most_spread = USUAL.pause(Wrong::Unheard, 2, 255).unwrap();
        assert!(most_spread > 200 * MS && most_spread < 250 * MS);
    }

    #[test]
    fn a_service_rests_until_the_last_of_its_wishes_is_over() {
        let mut rest = Rest::default();
        assert_eq!(rest.left(Duration::ZERO), None);
        rest.wish(1000 * MS, 500 * MS);
        assert_eq!((rest.left(1000 * MS), rest.left(1499 * MS)), (Some(500 * MS), Some(MS)));
        assert_eq!((rest.left(1500 * MS), rest.left(9000 * MS)), (None, None));
        rest.wish(1100 * MS, 100 * MS);
        assert_eq!(rest.left(1200 * MS), Some(300 * MS), "the longer one stands");
        rest.wish(1400 * MS, 400 * MS);
        assert_eq!(rest.left(1500 * MS), Some(300 * MS));
        rest.wish(MS, Duration::MAX);
        assert!(rest.left(9000 * MS).is_some());
    }

    #[test]
    fn a_bucket_gives_what_it_holds_and_then_one_at_a_time() {
        let mut bucket = Bucket::new(3, 100 * MS);
        let at = |ms| Duration::from_millis(ms);
        for _ in 0..3 {
            assert_eq!(bucket.take(at(1000)), Ok(()));
        }
        assert_eq!(bucket.take(at(1000)), Err(100 * MS));
        assert_eq!(bucket.take(at(1099)), Err(MS));
        assert_eq!(bucket.take(at(1100)), Ok(()));
        assert_eq!(bucket.take(at(1150)), Err(50 * MS));
        assert_eq!(bucket.take(at(1250)), Ok(()));
        // The half that was over is not lost.
        assert_eq!(bucket.take(at(1299)), Err(MS));
        for _ in 0..3 {
            assert_eq!(bucket.take(at(100_000)), Ok(()), "never more than it holds, and never less after a rest");
        }
        assert!(bucket.take(at(100_000)).is_err());
    }
}
