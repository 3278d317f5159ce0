//! Compares what the core believes of the peer with what the kernel's records say.
//!
//! A verdict can be lost: the ring was full while this process stood still, or an expiry and a packet on two CPUs
//! crossed and only one of them spoke. The record still holds the truth; without this, a death that was said to nobody
//! would never be known. The last resort of a timer that was lost is here too.

use harbor_ha_ebpf::decide::detector::believable;
use harbor_ha_ebpf::records::{Detector, SOURCES, Source, State, VerdictKind};
use harbor_ha_ebpf::units::Nanos;

use crate::core::Verdict;
use crate::core::peer::Heartbeat;

/// Between two looks; a difference counts when two of them see it, so that news on their way are no difference.
pub(super) const PERIOD: Nanos = Nanos::from_millis(250);
/// How much longer than the deadline a record may call the peer alive: no kernel's timer is that late on a host on
/// which this process runs.
const GRACE: Nanos = Nanos::from_secs(1);

/// A difference that was seen once.
type Suspect = (VerdictKind, u64);

/// The differences of the last look.
#[derive(Debug, Default)]
pub(super) struct Audit {
    due: Nanos,
    suspects: [Option<Suspect>; SOURCES],
    old_sequences: u64,
}

impl Audit {
    /// Whether it is time for a look.
    pub fn is_due(&mut self, now: Nanos) -> bool {
        let due = now >= self.due;
        if due {
            self.due = now.after(PERIOD);
        }
        due
    }

    /// Whether pulses come from a silent peer, and all of them are older than what was heard before; `old` counts them.
    pub fn hears_only_the_past(&mut self, old: u64, believed: &Heartbeat) -> bool {
        let more = old > self.old_sequences;
        self.old_sequences = old;
        more && !matches!(believed.state, State::Alive | State::Resigned)
    }

    /// One look at one heartbeat; the ring must have been read to its end before. Gives the verdict that never came.
    /// `asked` is the number of our pulses so far.
    pub fn look(
        &mut self,
        source: Source,
        record: &Detector,
        believed: &Heartbeat,
        asked: u64,
        now: Nanos,
    ) -> Option<Verdict> {
        // A peer that lives sends on; a silence is the same one only with the same last packet.
        let suspect = unsaid(record, believed, asked, now).map(|kind| match kind {
            VerdictKind::Dead => (kind, record.last_arrival_ns),
            _ => (kind, 0),
        });
        let before = std::mem::replace(&mut self.suspects[source as usize], suspect);
        let (kind, _) = suspect.filter(|suspect| before == Some(*suspect))?;
        self.suspects[source as usize] = None;
        Some(of_record(record, source, kind, now))
    }
}

/// What the record says and the core was not told.
fn unsaid(record: &Detector, believed: &Heartbeat, asked: u64, now: Nanos) -> Option<VerdictKind> {
    match (believable(record, now, asked, GRACE), believed.state) {
        // An end that is older than this daemon is for the start to judge.
        (State::Unknown, _) | (State::Dead, State::Dead | State::Unknown) | (State::Resigned, State::Unknown) => None,
        (State::Dead, State::Alive | State::Resigned) => Some(VerdictKind::Dead),
        (State::Resigned, State::Alive | State::Dead) => Some(VerdictKind::Resigned),
        (State::Alive, State::Dead | State::Resigned | State::Unknown) if record.hung != 0 => Some(VerdictKind::Hung),
        (State::Alive, State::Dead | State::Resigned | State::Unknown) => Some(VerdictKind::Alive),
        (State::Alive, State::Alive) if record.hung != 0 && !believed.hung => Some(VerdictKind::Hung),
        (State::Alive, State::Alive) if record.hung == 0 && believed.hung => Some(VerdictKind::Awake),
        (State::Alive, State::Alive) | (State::Resigned, State::Resigned) => {
            let said = (believed.flags, believed.timeline, believed.priority, believed.term);
            let says = (record.flags as u16, record.timeline, record.priority as u8, record.term);
            (said != says).then_some(VerdictKind::Said)
        }
    }
}

/// A verdict from the record instead of from the ring.
pub(super) fn of_record(record: &Detector, source: Source, kind: VerdictKind, at: Nanos) -> Verdict {
    Verdict {
        at,
        last_heard: Nanos(record.last_arrival_ns),
        kind,
        source,
        priority: record.priority as u8,
        flags: record.flags as u16,
        term: record.term,
        timeline: record.timeline,
        lsn: record.lsn,
        system_identifier: record.system_identifier,
    }
}

#[cfg(test)]
mod tests {
    use harbor_ha_ebpf::decide::detector::{Sign, arrival, expiry};
    use harbor_ha_ebpf::wire::pulse::flag;

    use super::*;

    const MS: u64 = 1_000_000;

    /// A peer that was heard at `at`, and sends every 10 ms.
    fn heard(at: u64, flags: u16) -> Detector {
        let mut record = Detector::default();
        let sign = Sign {
            interval: Nanos(10 * MS),
            threshold: 3,
            priority: 90,
            flags: u32::from(flags),
            timeline: 2,
            lsn: 77,
            ..Sign::default()
        };
        let _ = arrival(&mut record, Nanos(at), &sign);
        record
    }

    fn believes(state: State, flags: u16) -> Heartbeat {
        Heartbeat { state, priority: 90, flags, timeline: 2, term: 0, hung: false }
    }

    /// Two looks, as the loop makes them.
    fn looks(record: &Detector, believed: &Heartbeat, now: u64) -> Option<Verdict> {
        let mut audit = Audit::default();
        assert_eq!(audit.look(Source::Pulse, record, believed, u64::MAX, Nanos(now)), None, "at the first look");
        audit.look(Source::Pulse, record, believed, u64::MAX, Nanos(now).after(PERIOD))
    }

    #[test]
    fn a_death_that_was_said_to_nobody_is_told_at_the_second_look_with_the_last_words() {
        let mut record = heard(100 * MS, flag::PRIMARY);
        for _ in 0..3 {
            let at = record.deadline_ns;
            let _ = expiry(&mut record, Nanos(at), u64::MAX);
        }
        let told = looks(&record, &believes(State::Alive, flag::PRIMARY), 200 * MS).expect("a verdict");
        assert_eq!((told.kind, told.last_heard, told.lsn), (VerdictKind::Dead, Nanos(100 * MS), 77));
        assert_eq!(looks(&record, &believes(State::Dead, flag::PRIMARY), 200 * MS), None, "told already");
        assert_eq!(looks(&record, &believes(State::Unknown, 0), 200 * MS), None, "from before this daemon");
    }

    #[test]
    fn a_peer_that_came_back_or_changed_its_word_unheard_is_told() {
        let record = heard(100 * MS, flag::PRIMARY);
        let told = |believed| looks(&record, &believed, 105 * MS).map(|verdict| verdict.kind);
        assert_eq!(told(believes(State::Dead, flag::PRIMARY)), Some(VerdictKind::Alive));
        assert_eq!(told(believes(State::Unknown, 0)), Some(VerdictKind::Alive));
        assert_eq!(told(believes(State::Alive, 0)), Some(VerdictKind::Said));
        assert_eq!(told(believes(State::Alive, flag::PRIMARY)), None);
    }

    #[test]
    fn a_peer_that_began_or_ceased_to_hang_unheard_is_told() {
        let (awake, mut hung) = (heard(100 * MS, 0), heard(100 * MS, 0));
        hung.hung = 1;
        let alive = believes(State::Alive, 0);
        let told = |record, believed| looks(record, &believed, 105 * MS).map(|verdict| verdict.kind);
        assert_eq!(told(&hung, alive), Some(VerdictKind::Hung));
        assert_eq!(told(&hung, believes(State::Dead, 0)), Some(VerdictKind::Hung));
        assert_eq!(told(&hung, Heartbeat { hung: true, ..alive }), None);
        assert_eq!(told(&awake, Heartbeat { hung: true, ..alive }), Some(VerdictKind::Awake));
    }

    #[test]
    fn a_timer_that_never_ran_again_is_a_death_after_the_grace() {
        let record = heard(100 * MS, 0);
        let believed = believes(State::Alive, 0);
        assert_eq!(looks(&record, &believed, 600 * MS), None);
        assert_eq!(looks(&record, &believed, 1200 * MS).map(|verdict| verdict.kind), Some(VerdictKind::Dead));
        // Told once, and not taken back by a record that still says alive.
        assert_eq!(looks(&record, &believes(State::Dead, 0), 2000 * MS), None);
    }

    #[test]
    fn a_peer_of_which_only_old_pulses_come_is_noticed_and_a_duplicate_of_a_living_one_is_not() {
        let mut audit = Audit::default();
        assert!(!audit.hears_only_the_past(3, &believes(State::Alive, 0)));
        assert!(!audit.hears_only_the_past(3, &believes(State::Dead, 0)));
        assert!(audit.hears_only_the_past(4, &believes(State::Dead, 0)));
    }

    #[test]
    fn a_host_that_stood_still_between_two_looks_declares_nothing_of_a_peer_that_sends() {
        let mut audit = Audit::default();
        let believed = believes(State::Alive, 0);
        let _ = audit.look(Source::Pulse, &heard(100 * MS, 0), &believed, u64::MAX, Nanos(9000 * MS));
        // The packets that waited in the queue were counted meanwhile.
        assert_eq!(audit.look(Source::Pulse, &heard(9200 * MS, 0), &believed, u64::MAX, Nanos(9250 * MS)), None);
    }
}
