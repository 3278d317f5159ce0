//! When a peer is alive, late, dead: what one packet and one expiry of the timer do to a [`Detector`].
//!
//! Packet k after the last one counts as missed half an interval after it was due, and death is declared at
//! `last arrival + threshold x interval + skew` (the skew is VRRP's; zero for pulses). The half keeps a sender that is a
//! few microseconds late, as every sender is, from counting as missed; the verdict does not wait for it. A peer that
//! answers questions is dead only if it left `threshold` of ours unanswered: a starved sender of ours proves nothing.
//! Pulses and reflections are signs of life alike; adverts are never asked for. Times are
//! `CLOCK_MONOTONIC`. Whoever calls keeps the timer: both functions answer with the next deadline.

use crate::records::{Detector, JITTER_SLOTS, State, VerdictKind};
use crate::units::Nanos;

/// What a valid packet says, whatever its kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sign {
    /// Time to the next packet.
    pub interval: Nanos,
    /// Missed packets until death.
    pub threshold: u32,
    /// Added before the verdict.
    pub skew: Nanos,
    /// The sender gives up.
    pub resigns: bool,
    /// The packet is an event in itself: an advert.
    pub always_said: bool,
    /// The peer's kernel answered our pulse `sequence`.
    pub reflection: bool,
    /// Pulses: the sender's boot, without which stamps cannot be compared.
    pub boot: u64,
    /// Pulses of ours so far ([`crate::records::Signs::asked`]).
    pub asked: u64,
    /// Age of the sender's userspace.
    pub age: Nanos,
    /// An age that means that it hangs; zero: nobody asks.
    pub hang: Nanos,
    /// Priority on the wire.
    pub priority: u32,
    /// Pulses: flags, term, sequence, stamp, timeline, WAL position, system identifier. Adverts: zeros.
    pub flags: u32,
    /// See [`Sign::flags`].
    pub timeline: u32,
    /// See [`Sign::flags`].
    pub term: u64,
    /// See [`Sign::flags`].
    pub sequence: u64,
    /// See [`Sign::flags`].
    pub stamp_ns: u64,
    /// See [`Sign::flags`].
    pub lsn: u64,
    /// See [`Sign::flags`].
    pub system_identifier: u64,
}

/// The slower of two settings: D is the larger of both nodes' interval x threshold (each pulse carries its own).
#[inline(always)]
pub const fn slower(own: (Nanos, u32), theirs: (Nanos, u32)) -> (Nanos, u32) {
    if own.0.0 * own.1 as u64 >= theirs.0.0 * theirs.1 as u64 { own } else { theirs }
}

/// What to do after a packet or an expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Next {
    /// Tell userspace.
    pub event: Option<VerdictKind>,
    /// Arm the timer for this instant; `None`: leave it unarmed.
    pub deadline: Option<Nanos>,
}

/// A valid packet arrived.
#[inline(always)]
pub fn arrival(record: &mut Detector, now: Nanos, sign: &Sign) -> Next {
    let was = State::from_u32(record.state);
    count_arrival(record, was, now, sign);
    record.interval_ns = sign.interval.0;
    record.threshold = sign.threshold;
    record.skew_ns = sign.skew.0;
    record.missed = 0;
    record.stalling = 0;
    record.asked = sign.asked;
    // Of a pulse and a reflection that overtook each other the one that was stamped later tells the truth.
    let outdated = sign.stamp_ns < record.stamp_ns && sign.boot == record.boot;
    if outdated && matches!(was, State::Alive | State::Resigned) {
        let deadline = now.after(Nanos(wait(record)));
        record.deadline_ns = deadline.0;
        return Next { event: None, deadline: Some(deadline) };
    }
    let news = sign.always_said
        || sign.flags != record.flags
        || sign.term != record.term
        || sign.priority != record.priority
        || sign.timeline != record.timeline;
    record.priority = sign.priority;
    record.flags = sign.flags;
    record.timeline = sign.timeline;
    record.term = sign.term;
    record.stamp_ns = sign.stamp_ns;
    record.boot = sign.boot;
    record.lsn = sign.lsn;
    record.system_identifier = sign.system_identifier;
    record.age_ns = sign.age.0;
    let hung = sign.hang.0 != 0 && sign.age.0 > sign.hang.0;
    let hung_before = record.hung != 0;
    let event = if sign.resigns && !matches!(was, State::Resigned) {
        Some(VerdictKind::Resigned)
    } else if !sign.resigns && !matches!(was, State::Alive) {
        // One that comes back hung was never awake in between: its kernel alone came back.
        Some(if hung { VerdictKind::Hung } else { VerdictKind::Alive })
    } else if hung != hung_before {
        Some(if hung { VerdictKind::Hung } else { VerdictKind::Awake })
    } else if news && !(sign.resigns && sign.always_said) {
        // Also of a peer that has resigned: that its server is at rest, or fenced, is known after its first word only.
        Some(VerdictKind::Said)
    } else {
        None
    };
    // One packet brings one event: that a peer which resigned hangs is told with its next packet.
    record.hung = (hung && !matches!(event, Some(VerdictKind::Resigned))) as u32;
    record.state = if sign.resigns { State::Resigned } else { State::Alive } as u32;
    // A pulse with the resign flag is followed by more pulses, and silence after it is news; an advert of priority 0 is
    // the last one by definition, and the silence after it is none.
    if sign.resigns && sign.always_said {
        record.deadline_ns = 0;
        return Next { event, deadline: None };
    }
    let deadline = now.after(Nanos(wait(record)));
    record.deadline_ns = deadline.0;
    Next { event, deadline: Some(deadline) }
}

#[inline(always)]
fn count_arrival(record: &mut Detector, was: State, now: Nanos, sign: &Sign) {
    if matches!(was, State::Alive) {
        let gap = now.0.saturating_sub(record.last_arrival_ns);
        if gap > record.gap_max_ns {
            record.gap_max_ns = gap;
        }
    }
    if sign.reflection {
        record.answers += 1;
        record.answered = sign.sequence;
    } else {
        if matches!(was, State::Alive) && record.last_pulse_ns != 0 {
            // A checked access: the verifier has no way to know what `jitter_slot` promises.
            let gap = now.0.saturating_sub(record.last_pulse_ns);
            if let Some(counter) = record.jitter.get_mut(jitter_slot(gap.abs_diff(record.interval_ns))) {
                *counter = counter.wrapping_add(1);
            }
        }
        record.last_pulse_ns = now.0;
        record.sequence = sign.sequence;
    }
    record.arrivals += 1;
    record.last_arrival_ns = now.0;
}

/// The timer expired at `now`; spurious calls are harmless.
///
/// `asked` is the number of our pulses so far. A packet may arrive on another CPU between any two reads here: hence no
/// subtraction that can wrap.
#[inline(always)]
pub fn expiry(record: &mut Detector, now: Nanos, asked: u64) -> Next {
    // A living peer without a deadline is what an expiry and an arrival at one instant can leave: it is looked after.
    if record.state == State::Dead as u32 || (record.deadline_ns == 0 && record.state != State::Alive as u32) {
        return Next { event: None, deadline: None };
    }
    if now.0 < record.deadline_ns {
        // A packet moved the deadline while this expiry was on its way.
        return Next { event: None, deadline: Some(Nanos(record.deadline_ns)) };
    }
    let late = now.0.saturating_sub(record.deadline_ns);
    if late > record.interval_ns && record.stalling == 0 {
        // Our host stood still: packets may be waiting in its queue. Look again an interval from now, and declare
        // nothing; but only once, or a host that is always late would never notice a death.
        record.stalled += 1;
        record.stalling = 1;
        record.deadline_ns = now.0 + record.interval_ns;
        return Next { event: Some(VerdictKind::Stalled), deadline: Some(Nanos(record.deadline_ns)) };
    }
    record.stalling = 0;
    let silence = now.0.saturating_sub(record.last_arrival_ns);
    if silence >= limit(record) && !was_asked(record, asked) {
        // Nobody can answer what we did not ask: our own host starves us.
        record.unasked += 1;
        record.deadline_ns = now.0 + record.interval_ns / 2;
        return Next { event: None, deadline: Some(Nanos(record.deadline_ns)) };
    }
    if silence >= limit(record) {
        record.missed_total += record.threshold.saturating_sub(record.missed) as u64;
        record.missed = record.threshold;
        record.state = State::Dead as u32;
        record.deaths += 1;
        record.deadline_ns = 0;
        return Next { event: Some(VerdictKind::Dead), deadline: None };
    }
    let missed = silence.saturating_sub(record.interval_ns / 2).checked_div(record.interval_ns).unwrap_or(0) as u32;
    let event = if missed > record.missed { Some(VerdictKind::Missed) } else { None };
    record.missed_total += missed.saturating_sub(record.missed) as u64;
    record.missed = missed;
    record.deadline_ns = record.last_arrival_ns + wait(record);
    Next { event, deadline: Some(Nanos(record.deadline_ns)) }
}

/// Whether the peer left as many questions unanswered as make a verdict. Adverts answer nothing.
#[inline(always)]
const fn was_asked(record: &Detector, asked: u64) -> bool {
    (record.sequence == 0 && record.answers == 0) || asked.saturating_sub(record.asked) >= record.threshold as u64
}

/// What a reader of the record may believe at `now`: a peer that counts as alive `grace` after its silence should have
/// been declared is one whose timer was lost.
pub fn believable(record: &Detector, now: Nanos, asked: u64, grace: Nanos) -> State {
    let state = State::from_u32(record.state);
    let awaited = match state {
        State::Alive => true,
        // An advert of priority 0 is the last one, and nothing is awaited after it.
        State::Resigned => record.deadline_ns != 0,
        State::Unknown | State::Dead => false,
    };
    let overdue = now.0.saturating_sub(record.last_arrival_ns) >= limit(record).saturating_add(grace.0);
    if awaited && overdue && was_asked(record, asked) { State::Dead } else { state }
}

/// Silence that means death.
#[inline(always)]
const fn limit(record: &Detector) -> u64 {
    record.threshold as u64 * record.interval_ns + record.skew_ns
}

/// From the last arrival to the next expiry: half an interval after the next packet is due, or the limit.
#[inline(always)]
const fn wait(record: &Detector) -> u64 {
    let overdue = (record.missed as u64 + 1) * record.interval_ns + record.interval_ns / 2;
    let limit = limit(record);
    if overdue < limit { overdue } else { limit }
}

/// Slot n counts deviations below 2^n µs.
#[inline(always)]
const fn jitter_slot(deviation_ns: u64) -> usize {
    let mut micros = deviation_ns / 1000;
    let mut slot = 0;
    while micros != 0 && slot < JITTER_SLOTS - 1 {
        micros >>= 1;
        slot += 1;
    }
    slot
}

#[cfg(test)]
mod tests;
