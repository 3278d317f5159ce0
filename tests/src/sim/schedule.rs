//! What happens in one run: a set-up and a list of faults, both made from the seed; the list can be shortened.

use std::fmt;

use harbor_ha::core::rules::{Isolated, SyncPolicy};

use super::dice::Dice;
use super::mutants::Mutant;

/// A millisecond, in nanoseconds.
pub const MS: u64 = 1_000_000;
/// How long faults happen before the world is healed.
pub const FAULTY: u64 = 8_000 * MS;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    PowerLoss,
    DaemonKill,
    DaemonStop,
    CoreHang,
    PulseStarve,
    Freeze,
    CutBoth,
    CutFrom,
    Loss,
    Delay,
    Duplicate,
    LinkDown,
    PgKill,
    PgHang,
    ReplayPause,
    StreamStall,
    DiskErrors,
    ActionFailures,
    WitnessDown,
    WitnessCut,
    WitnessSlow,
    Switchover,
    Terminate,
    Pause,
    Hold,
    Reinit,
    Failover,
    Forge,
    AddressRemoved,
    TrackFailed,
    TrackWeight,
}

impl Kind {
    /// All of them: the coverage report counts each.
    pub const ALL: [Self; 31] = [
        Self::PowerLoss,
        Self::DaemonKill,
        Self::DaemonStop,
        Self::CoreHang,
        Self::PulseStarve,
        Self::Freeze,
        Self::CutBoth,
        Self::CutFrom,
        Self::Loss,
        Self::Delay,
        Self::Duplicate,
        Self::LinkDown,
        Self::PgKill,
        Self::PgHang,
        Self::ReplayPause,
        Self::StreamStall,
        Self::DiskErrors,
        Self::ActionFailures,
        Self::WitnessDown,
        Self::WitnessCut,
        Self::WitnessSlow,
        Self::Switchover,
        Self::Terminate,
        Self::Pause,
        Self::Hold,
        Self::Reinit,
        Self::Failover,
        Self::Forge,
        Self::AddressRemoved,
        Self::TrackFailed,
        Self::TrackWeight,
    ];
}

/// One fault.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// After the world had begun.
    pub at: u64,
    pub node: usize,
    pub kind: Kind,
    pub length: u64,
    /// What a share of packets, a largest delay or a choice is made of.
    pub level: u64,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, node, kind, length, level } = self;
        write!(f, "+{:.3} s: node {node} {kind:?} for {:.3} s (level {level})", secs(*at), secs(*length))
    }
}

/// For people.
pub fn secs(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// What a schedule is about, and so what is claimed of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// Anything.
    Any,
    /// Nothing that is a fault: no takeover may happen (I5).
    Calm,
    /// Only the witness fails: nothing may change (I10).
    WitnessOnly,
    /// An operator forces takeovers as well: I1, I2 and I7 are not claimed.
    Forced,
}

/// Everything that a run is made of.
#[derive(Clone, Debug)]
pub struct Schedule {
    pub(super) seed: u64,
    pub(super) theme: Theme,
    pub(super) sync: SyncPolicy,
    pub(super) isolated: Isolated,
    /// Pulses of both nodes: interval, threshold.
    pub(super) pulses: [(u64, u8); 2],
    /// Drift of both clocks, parts per million.
    pub(super) drift: [i64; 2],
    /// What both clocks show at first.
    pub(super) offset: [u64; 2],
    pub(super) hang: u64,
    /// The witness is a HaVip.
    pub(super) havip: bool,
    pub(super) faults: Vec<Fault>,
}

impl Schedule {
    /// The schedule of a seed.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 1);
        let theme = match dice.below(32) {
            0..=2 => Theme::Calm,
            3 => Theme::WitnessOnly,
            4 | 5 => Theme::Forced,
            _ => Theme::Any,
        };
        let isolated = match dice.below(20) {
            _ if theme == Theme::WitnessOnly => Isolated::Witness,
            0..=8 => Isolated::Hold,
            9..=17 => Isolated::Witness,
            _ => Isolated::Serve,
        };
        let sync = dice.pick(&[SyncPolicy::Required, SyncPolicy::Required, SyncPolicy::Preferred, SyncPolicy::Off]);
        let profiles = [(10 * MS, 3), (10 * MS, 3), (20 * MS, 5), (20 * MS, 3)];
        let first = dice.pick(&profiles);
        let second = if dice.below(4) == 0 { dice.pick(&profiles) } else { first };
        let drift = |dice: &mut Dice| if dice.below(2) == 0 { 0 } else { dice.below(20_001) as i64 - 10_000 };
        let drift = [drift(&mut dice), drift(&mut dice)];
        // A host that has just booted shows a small number, one that boots again may show it once more.
        let offset = |dice: &mut Dice| {
            if dice.below(2) == 0 { dice.log(500 * MS, 20_000 * MS) } else { dice.log(1_000_000 * MS, 9_000_000 * MS) }
        };
        let offset = [offset(&mut dice), offset(&mut dice)];
        let mut schedule = Self {
            seed,
            theme,
            sync,
            isolated,
            pulses: [first, second],
            drift,
            offset,
            hang: dice.pick(&[500, 1000]) * MS,
            havip: false,
            faults: Vec::new(),
        };
        schedule.draw_faults(&mut dice);
        schedule
    }

    /// The schedule of a seed for a mutant: some are about a witness of their own, or about a rare coincidence.
    pub fn of(seed: u64, mutant: Option<Mutant>) -> Self {
        let schedule = Self::new(seed);
        match mutant {
            Some(Mutant::HaVipLooksOld) => schedule.with_havip().with_a_lone_holder(),
            Some(mutant) if mutant.asks_a_havip() => schedule.with_havip(),
            Some(Mutant::TailNotAwaited) => schedule.with_a_lost_tail(),
            _ => schedule,
        }
    }

    /// The standby lags and does not see that the primary starts anew; it takes over once that one has served again.
    fn with_a_lost_tail(mut self) -> Self {
        let mut dice = Dice::new(self.seed, 4);
        let stall = dice.between(50 * MS, 500 * MS);
        let loss = stall + dice.between(20 * MS, 300 * MS);
        let cut = loss + dice.between(3_000 * MS, 5_000 * MS);
        let fault = |at, node, kind, length| Fault { at, node, kind, length, level: 0 };
        self.faults = vec![
            fault(stall, 1, Kind::StreamStall, 7_500 * MS),
            fault(stall, 1, Kind::PulseStarve, dice.between(1_000 * MS, 3_000 * MS)),
            fault(loss, 0, Kind::PowerLoss, dice.between(5 * MS, 30 * MS)),
            fault(cut, 0, Kind::CutBoth, dice.between(50 * MS, 400 * MS)),
        ];
        (self.theme, self.sync, self.isolated) = (Theme::Any, SyncPolicy::Required, Isolated::Hold);
        self
    }

    /// The same with a HaVip as the witness, which knows no revocation.
    #[must_use]
    pub fn with_havip(mut self) -> Self {
        (self.havip, self.isolated) = (true, Isolated::Witness);
        if self.sync == SyncPolicy::Preferred {
            self.sync = SyncPolicy::Required;
        }
        self
    }

    /// The nodes hear each other no more, and only the primary reaches the service at first.
    fn with_a_lone_holder(mut self) -> Self {
        let mut dice = Dice::new(self.seed, 5);
        let cut = dice.between(50 * MS, 200 * MS);
        let fault = |node, kind, length| Fault { at: cut, node, kind, length, level: 0 };
        let alone = dice.between(2_700 * MS, 3_500 * MS);
        self.faults = vec![fault(0, Kind::CutBoth, FAULTY - cut), fault(1, Kind::WitnessCut, alone)];
        self.theme = Theme::Any;
        self
    }

    /// D, the larger of both nodes'.
    fn detection(&self) -> u64 {
        self.pulses.iter().map(|(interval, threshold)| interval * u64::from(*threshold)).max().unwrap_or(0)
    }

    fn draw_faults(&mut self, dice: &mut Dice) {
        // Some seeds have few kinds of faults, and so more of each: rare combinations of two or three.
        let kinds: Vec<Kind> = match dice.below(2) {
            0 => Kind::ALL.to_vec(),
            _ => (0..dice.between(2, 6)).map(|_| dice.pick(&Kind::ALL)).collect(),
        };
        let count = dice.log(1, 12);
        let mut at = 0;
        for number in 0..count {
            // Faults come in clusters: the second one while the first is being dealt with.
            at = if dice.below(2) == 0 { dice.below(FAULTY) } else { (at + dice.log(MS, 1000 * MS)).min(FAULTY) };
            let fault = match self.theme {
                // One at a time: two silences in a row are one long one.
                Theme::Calm => self.no_fault(dice, number * 500 * MS),
                Theme::WitnessOnly => Fault {
                    at,
                    node: dice.below(2) as usize,
                    kind: dice.pick(&[Kind::WitnessDown, Kind::WitnessCut, Kind::WitnessSlow]),
                    length: dice.log(10 * MS, 8000 * MS),
                    level: 0,
                },
                Theme::Any | Theme::Forced => self.any_fault(dice, at, &kinds),
            };
            self.faults.push(fault);
        }
        self.faults.sort_by_key(|fault| fault.at);
    }

    /// What any network and any host do now and then: silence for less than the threshold.
    fn no_fault(&self, dice: &mut Dice, at: u64) -> Fault {
        let (interval, threshold) = self.pulses.into_iter().min_by_key(|(i, t)| i * u64::from(*t)).unwrap_or((1, 1));
        // One interval of the threshold for the pulse before the silence, one for being late, and never one pulse more
        // lost than that: the last one that is due would arrive at the very deadline.
        let silence = interval * u64::from(threshold - 2) - interval / 4;
        let node = dice.below(2) as usize;
        let (kind, length, level) = match dice.below(7) {
            0 => (Kind::CutBoth, dice.log(MS, silence), 0),
            1 => (Kind::CutFrom, dice.log(MS, silence), 0),
            2 => (Kind::Delay, dice.log(10 * MS, 2000 * MS), dice.below(interval / 2)),
            3 => (Kind::Duplicate, dice.log(10 * MS, 2000 * MS), 300),
            4 => (Kind::DaemonStop, dice.log(MS, self.hang / 2), 0),
            5 => (Kind::Forge, MS, dice.below(16)),
            _ => (Kind::PulseStarve, dice.log(MS, self.hang / 2), 0),
        };
        Fault { at, node, kind, length: length.min(400 * MS), level }
    }

    fn any_fault(&self, dice: &mut Dice, at: u64, kinds: &[Kind]) -> Fault {
        let mut kind = dice.pick(kinds);
        if kind == Kind::Failover && self.theme != Theme::Forced {
            kind = Kind::Freeze;
        }
        let detection = self.detection();
        let length = match kind {
            Kind::PowerLoss => dice.log(1000 * MS, 4000 * MS),
            Kind::Freeze | Kind::CutBoth | Kind::CutFrom if dice.below(2) == 0 => {
                dice.between(detection / 4, detection * 3)
            }
            Kind::DaemonStop | Kind::CoreHang | Kind::DaemonKill => dice.log(20 * MS, 4000 * MS),
            Kind::StreamStall | Kind::ReplayPause => dice.log(100 * MS, 8000 * MS),
            // A primary waits for two seconds before it moves for one.
            Kind::TrackFailed => dice.log(100 * MS, 8000 * MS),
            _ => dice.log(5 * MS, 4000 * MS),
        };
        let level = match kind {
            Kind::Loss => dice.between(50, 900),
            Kind::Delay => dice.log(MS, 300 * MS),
            Kind::Duplicate => dice.between(50, 900),
            _ => dice.below(16),
        };
        Fault { at, node: dice.below(2) as usize, kind, length, level }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, theme, sync, isolated, pulses, drift, hang, havip, .. } = self;
        let of = if *havip { " (a HaVip)" } else { "" };
        writeln!(f, "seed {seed}: theme {theme:?}, sync {sync:?}, isolated {isolated:?}{of}, hang {} ms", hang / MS)?;
        let [first, second] = pulses.map(|(interval, threshold)| format!("{} ms x {threshold}", interval / MS));
        writeln!(f, "pulses {first} and {second}, clocks drift by {} and {} ppm", drift[0], drift[1])?;
        for fault in &self.faults {
            writeln!(f, "  {fault}")?;
        }
        Ok(())
    }
}
