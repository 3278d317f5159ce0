//! Tracking: from facts of interfaces, scripts, processes and files to a priority, or to FAULT.
//!
//! Rise and fall are counted here, once per tracker; weight and reverse are judged once per instance that tracks it. The
//! adapters bring facts and know none of this.
//!
//! | weight | good | bad | not known yet |
//! | --- | --- | --- | --- |
//! | 0 | nothing | FAULT | the instance waits in INIT |
//! | > 0 | adds | nothing | a script: nothing; others: it waits |
//! | < 0 | nothing | subtracts | a script: nothing; others: it waits |
//!
//! A first look takes no time, a script may take long: keepalived has looked at everything but its scripts before an
//! instance enters BACKUP, and so tells that with the right priority.
//!
//! `reverse` turns the sign, and with weight 0 good and bad. A file's number is multiplied by the weight; a product
//! below -253 is FAULT, and with weight 0 any number but zero.

use harbor_ha_ebpf::units::Priority;
use serde::Serialize;

use super::rules::{Base, TrackerId};

/// A product below this is FAULT: no priority is left.
const LOWEST: i64 = -253;

/// Something that is watched.
#[derive(Clone, Debug)]
pub struct TrackerRules {
    /// Its name in logs and in the status.
    pub name: String,
    /// What it is, and how its facts are counted.
    pub kind: TrackerKind,
}

/// How the facts of a tracker are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackerKind {
    /// Up with carrier, or not.
    Interface,
    /// A program that ends well, or not.
    Script {
        /// Ends in a row until it is good; the first one after the start is enough.
        rise: u32,
        /// Failures in a row until it is bad.
        fall: u32,
        /// Bad until the first end, in place of not known.
        init_fail: bool,
    },
    /// How many processes there are.
    Process {
        /// At least so many.
        quorum: u32,
        /// At most so many.
        quorum_max: Option<u32>,
    },
    /// A number in a file.
    File {
        /// Until the file was read.
        init: Option<i64>,
    },
}

/// A fact of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackValue {
    /// Not looked at yet, or the look says nothing (a script that was killed at its timeout *failed*).
    Unknown,
    /// It is as it should be.
    Ok,
    /// It is not.
    Failed,
    /// The number in a file, or of processes.
    Number(i64),
}

/// One instance's use of a tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Track {
    /// Which.
    pub tracker: TrackerId,
    /// What it adds; 0: it stops the instance.
    pub weight: i16,
    /// The other way round.
    pub reverse: bool,
}

/// What is thought of a tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing yet.
    Unknown,
    /// Good.
    Good,
    /// Bad.
    Bad,
    /// A file's number.
    Number(i64),
}

/// A tracker with its counts.
#[derive(Clone, Debug)]
pub struct Tracker {
    kind: TrackerKind,
    level: Level,
    /// Facts in a row that speak against the level.
    against: u32,
}

impl Tracker {
    /// Nothing heard yet.
    pub const fn new(kind: TrackerKind) -> Self {
        let level = match kind {
            TrackerKind::Script { init_fail: true, .. } => Level::Bad,
            TrackerKind::File { init: Some(number) } => Level::Number(number),
            TrackerKind::Interface
            | TrackerKind::Script { .. }
            | TrackerKind::Process { .. }
            | TrackerKind::File { init: None } => Level::Unknown,
        };
        Self { kind, level, against: 0 }
    }

    /// What is thought of it.
    pub const fn level(&self) -> Level {
        self.level
    }

    /// A weight waits for it: it is looked at as soon as it is watched, and was not yet.
    fn is_due(&self) -> bool {
        self.level == Level::Unknown && !matches!(self.kind, TrackerKind::Script { .. })
    }

    /// Takes a fact in; says whether that changed what is thought of it.
    pub fn take(&mut self, value: TrackValue) -> bool {
        let said = match (self.kind, value) {
            (_, TrackValue::Unknown) => return false,
            (TrackerKind::Process { quorum, quorum_max }, TrackValue::Number(count)) => {
                let enough = count >= i64::from(quorum);
                if enough && quorum_max.is_none_or(|most| count <= i64::from(most)) { Level::Good } else { Level::Bad }
            }
            (TrackerKind::File { .. }, TrackValue::Number(number)) => Level::Number(number),
            (TrackerKind::Interface | TrackerKind::Script { .. }, TrackValue::Number(number)) => {
                if number == 0 {
                    Level::Good
                } else {
                    Level::Bad
                }
            }
            (_, TrackValue::Ok) => Level::Good,
            (_, TrackValue::Failed) => Level::Bad,
        };
        if said == self.level {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let enough = match (self.kind, self.level, said) {
            (TrackerKind::Script { rise, .. }, Level::Bad, Level::Good) => self.against >= rise,
            (TrackerKind::Script { fall, .. }, Level::Good, Level::Bad) => self.against >= fall,
            _ => true,
        };
        if enough {
            self.level = said;
            self.against = 0;
        }
        enough
    }
}

/// What a tracker does to one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It must be known first.
    Waits,
    /// It stops the instance.
    Stops,
    /// It adds this to the priority.
    Adds(i16),
}

/// Judges one use of a tracker.
pub const fn effect(level: Level, weight: i16, reverse: bool) -> Effect {
    let signed = if reverse { -weight } else { weight };
    match level {
        Level::Unknown if weight == 0 => Effect::Waits,
        Level::Unknown => Effect::Adds(0),
        Level::Good if weight == 0 => {
            if reverse {
                Effect::Stops
            } else {
                Effect::Adds(0)
            }
        }
        Level::Bad if weight == 0 => {
            if reverse {
                Effect::Adds(0)
            } else {
                Effect::Stops
            }
        }
        Level::Good => Effect::Adds(if weight > 0 { signed } else { 0 }),
        Level::Bad => Effect::Adds(if weight < 0 { signed } else { 0 }),
        Level::Number(number) if weight == 0 => {
            if (number == 0) == reverse {
                Effect::Stops
            } else {
                Effect::Adds(0)
            }
        }
        Level::Number(number) => {
            let product = number.saturating_mul(signed as i64);
            if product < LOWEST {
                Effect::Stops
            } else if product > -LOWEST {
                Effect::Adds(-LOWEST as i16)
            } else {
                Effect::Adds(product as i16)
            }
        }
    }
}

/// What all trackers of an instance make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// One of them is not known yet.
    Waits(TrackerId),
    /// One of them stops it.
    Fault(TrackerId),
    /// It may run.
    Well,
}

/// Weighs all uses: the priority as the weights make it, and whether the instance may run at all.
pub fn weigh<'a>(base: Base, tracks: impl Iterator<Item = &'a Track>, trackers: &[Tracker]) -> (Priority, Health) {
    let mut sum = i32::from(base.priority().0);
    let mut health = Health::Well;
    for track in tracks {
        let tracker = trackers.get(usize::from(track.tracker.0));
        let level = tracker.map_or(Level::Unknown, Tracker::level);
        let due = tracker.is_some_and(Tracker::is_due);
        match effect(level, track.weight, track.reverse) {
            Effect::Adds(_) if due && health == Health::Well => health = Health::Waits(track.tracker),
            Effect::Adds(weight) => sum += i32::from(weight),
            Effect::Stops if !matches!(health, Health::Fault(_)) => health = Health::Fault(track.tracker),
            Effect::Waits if health == Health::Well => health = Health::Waits(track.tracker),
            Effect::Stops | Effect::Waits => {}
        }
    }
    // 0 resigns and 255 owns: trackers reach neither.
    let moved = Priority(sum.clamp(1, 254) as u8);
    (if base.is_owner() { base.priority() } else { moved }, health)
}
