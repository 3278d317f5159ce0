//! A peer's packet: filter it, feed lease and detector, arm the timer, tell userspace, answer.

use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::debug;
use harbor_ha_ebpf::decide::detector::{self, Sign};
use harbor_ha_ebpf::decide::filter::{self, Reject};
use harbor_ha_ebpf::records::{Source, slot};
use harbor_ha_ebpf::units::{Nanos, Priority, skew, skew_v2};
use harbor_ha_ebpf::wire::pulse::{Pulse, flag};
use harbor_ha_ebpf::wire::vrrp::Advert;

use super::maps::{CONFIG, PEERS, SECRETS, SIGNS};
use super::packet::From;
use super::{emit, lease, reflect, timer};
use crate::Fate;

/// Master_Down_Interval is three adverts and the skew (RFC 9568 §6.1).
const ADVERT_THRESHOLD: u32 = 3;

/// Feeds an advert. Valid ones pass, so that tcpdump and the daemon's raw socket see them.
#[inline(always)]
pub fn advert(ctx: &XdpContext, from: From, parsed: Result<Advert, Reject>, now: Nanos) -> Fate {
    match accept_advert(ctx, from, parsed, now) {
        Ok(()) => Fate::Pass,
        Err(reject) => {
            emit::rejected(ctx, Some(from.peer), from.source, reject);
            Fate::Drop
        }
    }
}

#[inline(always)]
fn accept_advert(ctx: &XdpContext, from: From, parsed: Result<Advert, Reject>, now: Nanos) -> Result<(), Reject> {
    let advert = parsed?;
    let (Some(config), Some(secrets)) = (CONFIG.get(0), SECRETS.get(0)) else {
        return Err(Reject::Version);
    };
    filter::advert(&advert, config, secrets)?;
    let mine = Priority(config.priority);
    let sign = Sign {
        interval: advert.interval,
        threshold: ADVERT_THRESHOLD,
        skew: if advert.version == 2 { skew_v2(mine) } else { skew(mine, advert.interval) },
        resigns: advert.priority == Priority::RESIGN,
        always_said: true,
        priority: advert.priority.0 as u32,
        ..Sign::default()
    };
    feed(from.peer, Source::Advert, &sign, now);
    emit::count(from.peer, |stats| &mut stats.adverts);
    debug!(ctx, "advert of {:i}: priority {}", u32::from_be_bytes(from.source), advert.priority.0);
    Ok(())
}

/// Feeds a pulse or a reflection. A pulse is a question: it goes back as our answer. A reflection ends here.
#[inline(always)]
pub fn pulse(ctx: &XdpContext, from: From, parsed: Result<Pulse, Reject>, now: Nanos) -> Fate {
    match accept_pulse(ctx, from, parsed, now) {
        Ok(fate) => fate,
        Err(reject) => {
            emit::rejected(ctx, Some(from.peer), from.source, reject);
            Fate::Drop
        }
    }
}

#[inline(always)]
fn accept_pulse(ctx: &XdpContext, from: From, parsed: Result<Pulse, Reject>, now: Nanos) -> Result<Fate, Reject> {
    let pulse = parsed?;
    let (Some(config), Some(signs)) = (CONFIG.get(0), SIGNS.get(0)) else {
        return Err(Reject::Version);
    };
    let last = match PEERS.get_ptr(slot(from.peer, Source::Pulse)) {
        // SAFETY: an element of the map; a torn read is impossible, each is one aligned word.
        Some(peer) if pulse.is_reflection() => unsafe { (*peer).detector.answered },
        // SAFETY: as above.
        Some(peer) => unsafe { (*peer).detector.sequence },
        None => 0,
    };
    filter::pulse(&pulse, config, last, signs.sent)?;
    let own = (Nanos(config.pulse_interval_ns), config.pulse_threshold as u32);
    let (interval, threshold) = detector::slower(own, (pulse.interval(), pulse.threshold as u32));
    // Four bytes of microseconds times one byte: no overflow, and the target has no saturating product.
    let detection = Nanos(interval.0 * threshold as u64);
    // A lease is a matter of two.
    let echo = if from.peer == 0 { lease::heard(&pulse, config.boot, now, detection) } else { Nanos(0) };
    let sign = Sign {
        interval,
        threshold,
        skew: Nanos(0),
        resigns: pulse.flags & flag::RESIGN != 0,
        always_said: false,
        reflection: pulse.is_reflection(),
        asked: signs.asked,
        age: pulse.age(),
        hang: Nanos(config.hang_ns),
        priority: pulse.priority as u32,
        // That it is a reflection is no news of the sender.
        flags: (pulse.flags & !flag::REFLECTION) as u32,
        timeline: pulse.timeline,
        term: pulse.term,
        sequence: pulse.sequence,
        stamp_ns: pulse.stamp_ns,
        lsn: pulse.lsn,
        system_identifier: pulse.system_identifier,
        boot: pulse.boot,
    };
    feed(from.peer, Source::Pulse, &sign, now);
    debug!(ctx, "pulse of {:i}: sequence {}", u32::from_be_bytes(from.source), pulse.sequence);
    if pulse.is_reflection() {
        emit::count(from.peer, |stats| &mut stats.reflections);
        return Ok(Fate::Drop);
    }
    emit::count(from.peer, |stats| &mut stats.pulses);
    reflect::turn(ctx, config, echo, pulse.boot)?;
    emit::count(from.peer, |stats| &mut stats.reflected);
    Ok(Fate::Turn)
}

#[inline(always)]
fn feed(peer: u32, source: Source, sign: &Sign, now: Nanos) {
    let slot = slot(peer, source);
    let Some(record) = PEERS.get_ptr_mut(slot) else {
        return;
    };
    // SAFETY: an element of the map. The callback may run on another CPU at the same time; every field is a word of
    // its own and both sides leave a record from which the next event goes on.
    let detector = unsafe { &mut (*record).detector };
    let next = detector::arrival(detector, now, sign);
    if let Some(deadline) = next.deadline {
        timer::arm(record, deadline, now);
    }
    if let Some(kind) = next.event {
        emit::verdict(slot, detector, kind, now);
    }
}
