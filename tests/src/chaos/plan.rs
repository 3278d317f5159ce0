//! What shall happen in a round: a function of the seed and the round's number, and of nothing else.
//!
//! A plan is written for a round that begins with a as the primary; [`Deed::as_if`] turns it round for one that begins with
//! b. So a round means the same in the middle of a long run and alone in a fresh lab, where it is run again.

use std::fmt;

use crate::lab::Side;
use crate::lab::fault::Fault;

/// At most so many at once.
const MOST: u64 = 3;
/// All begin within this, in milliseconds.
const BEGIN_MS: u64 = 1000;
/// The shortest and the longest that one is in force, in milliseconds.
const HOLD_MS: (u64, u64) = (100, 8000);

/// Something that is done to a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// A fault on a node.
    Break(Fault, Side),
    /// The primary of that moment is told to hand over: no fault, but it meets one.
    Switchover,
}

impl Deed {
    /// The same deed when this node is the primary.
    pub fn as_if(self, primary: Side) -> Self {
        match self {
            Self::Break(fault, side) if primary == Side::B => Self::Break(fault, side.other()),
            other => other,
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Break(fault @ (Fault::Partition | Fault::WitnessDown), _) => write!(f, "{fault}"),
            Self::Break(fault, side) => write!(f, "{fault} {side}"),
            Self::Switchover => f.write_str("switchover"),
        }
    }
}

/// A deed with its times, in milliseconds from the round's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What.
    pub deed: Deed,
    /// When it begins.
    pub begin_ms: u64,
    /// When it is undone.
    pub end_ms: u64,
}

/// The deeds of a round; the first begins at 0.
pub fn round(seed: u64, number: u32, witness: bool) -> Vec<Planned> {
    let mut random = Random::new(seed, number);
    let mut choices: Vec<Deed> = vec![Deed::Switchover];
    for fault in Fault::ALL {
        match fault {
            Fault::Partition => choices.push(Deed::Break(fault, Side::A)),
            Fault::WitnessDown if witness => choices.push(Deed::Break(fault, Side::A)),
            // The same as `node` on the other side.
            Fault::WitnessDown | Fault::Standby => {}
            _ => choices.extend(Side::BOTH.map(|side| Deed::Break(fault, side))),
        }
    }
    let mut deeds: Vec<Planned> = (0..=random.below(MOST))
        .map(|_| {
            let deed = choices.swap_remove(random.below(choices.len() as u64) as usize);
            let begin_ms = random.below(BEGIN_MS);
            // Squared: short ones, around the limits of detection, are as likely as long ones.
            let part = random.below(1001).pow(2);
            let end_ms = begin_ms + HOLD_MS.0 + (HOLD_MS.1 - HOLD_MS.0) * part / 1_000_000;
            Planned { deed, begin_ms, end_ms }
        })
        .collect();
    let first = deeds.iter().map(|it| it.begin_ms).min().unwrap_or_default();
    for planned in &mut deeds {
        planned.begin_ms -= first;
        planned.end_ms -= first;
    }
    deeds.sort_by_key(|it| it.begin_ms);
    deeds
}

/// SplitMix64 (Steele, Lea, Flood 2014): a few lines, and the same on every machine.
struct Random(u64);

impl Random {
    fn new(seed: u64, round: u32) -> Self {
        let mut mixed = Self(seed);
        let start = mixed.next();
        Self(start ^ (u64::from(round) << 32))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_round_is_the_same_each_time_and_differs_from_the_next() {
        assert_eq!(round(7, 3, true), round(7, 3, true));
        assert_ne!(round(7, 3, true), round(7, 4, true));
        assert_ne!(round(7, 3, true), round(8, 3, true));
    }

    #[test]
    fn a_plan_is_turned_round_for_the_other_primary() {
        let deed = Deed::Break(Fault::Hang, Side::A);
        assert_eq!((deed.as_if(Side::A), deed.as_if(Side::B)), (deed, Deed::Break(Fault::Hang, Side::B)));
        assert_eq!(Deed::Switchover.as_if(Side::B), Deed::Switchover);
    }

    #[test]
    fn a_thousand_rounds_hold_every_deed_and_keep_to_the_limits() {
        let mut seen = HashSet::new();
        for number in 1..=1000 {
            let deeds = round(1, number, true);
            assert!((1..=MOST as usize).contains(&deeds.len()) && deeds[0].begin_ms == 0);
            for planned in deeds {
                seen.insert(planned.deed.to_string());
                let held = planned.end_ms - planned.begin_ms;
                assert!(planned.begin_ms < BEGIN_MS && (HOLD_MS.0..=HOLD_MS.1).contains(&held), "{planned:?}");
            }
        }
        // Eight on either side, the partition, the witness, the switchover.
        assert_eq!(seen.len(), 2 * 8 + 3, "{seen:?}");
        assert!((1..=1000).all(|number| {
            round(1, number, false).iter().all(|it| !matches!(it.deed, Deed::Break(Fault::WitnessDown, _)))
        }));
    }
}
