//! A peer's packet: filter it, feed the detector, arm the timer, tell userspace.

use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::debug;
use harbor_ha_ebpf::decide::detector::{self, Sign};
use harbor_ha_ebpf::decide::filter::{self, Reject};
use harbor_ha_ebpf::records::{Config, Source, slot};
use harbor_ha_ebpf::units::{Nanos, Priority, skew, skew_v2};
use harbor_ha_ebpf::wire::pulse::{Pulse, flag};
use harbor_ha_ebpf::wire::vrrp::Advert;

use super::maps::{CONFIG, PEERS, SECRETS};
use super::packet::From;
use super::{emit, time, timer};
use crate::Fate;

/// Master_Down_Interval is three adverts and the skew (RFC 9568 §6.1).
const ADVERT_THRESHOLD: u32 = 3;

/// Feeds an advert. Valid ones pass, so that tcpdump and the daemon's raw socket see them.
#[inline(always)]
pub fn advert(ctx: &XdpContext, from: From, parsed: Result<Advert, Reject>) -> Fate {
    match accept_advert(ctx, from, parsed) {
        Ok(()) => Fate::Pass,
        Err(reject) => {
            emit::rejected(ctx, Some(from.peer), from.source, reject);
            Fate::Drop
        }
    }
}

#[inline(always)]
fn accept_advert(ctx: &XdpContext, from: From, parsed: Result<Advert, Reject>) -> Result<(), Reject> {
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
    feed(from.peer, Source::Advert, &sign);
    emit::count(from.peer, |stats| &mut stats.adverts);
    debug!(ctx, "advert of {:i}: priority {}", u32::from_be_bytes(from.source), advert.priority.0);
    Ok(())
}

/// Feeds a pulse. Pulses end here; the safety protocol turns them round instead.
#[inline(always)]
pub fn pulse(ctx: &XdpContext, from: From, parsed: Result<Pulse, Reject>) -> Fate {
    if let Err(reject) = accept_pulse(ctx, from, parsed) {
        emit::rejected(ctx, Some(from.peer), from.source, reject);
    }
    Fate::Drop
}

#[inline(always)]
fn accept_pulse(ctx: &XdpContext, from: From, parsed: Result<Pulse, Reject>) -> Result<(), Reject> {
    let pulse = parsed?;
    let config: &Config = CONFIG.get(0).ok_or(Reject::Version)?;
    let last = match PEERS.get_ptr(slot(from.peer, Source::Pulse)) {
        // SAFETY: an element of the map; a torn read is impossible, it is one aligned word.
        Some(peer) => unsafe { (*peer).detector.sequence },
        None => 0,
    };
    filter::pulse(&pulse, config, last, 0)?;
    let own = (Nanos(config.pulse_interval_ns), config.pulse_threshold as u32);
    let (interval, threshold) = detector::slower(own, (pulse.interval(), pulse.threshold as u32));
    let sign = Sign {
        interval,
        threshold,
        skew: Nanos(0),
        resigns: pulse.flags & flag::RESIGN != 0,
        always_said: false,
        priority: pulse.priority as u32,
        flags: pulse.flags as u32,
        timeline: pulse.timeline,
        term: pulse.term,
        sequence: pulse.sequence,
        stamp_ns: pulse.stamp_ns,
        lsn: pulse.lsn,
        system_identifier: pulse.system_identifier,
        ..Sign::default()
    };
    feed(from.peer, Source::Pulse, &sign);
    emit::count(from.peer, |stats| &mut stats.pulses);
    debug!(ctx, "pulse of {:i}: sequence {}", u32::from_be_bytes(from.source), pulse.sequence);
    Ok(())
}

#[inline(always)]
fn feed(peer: u32, source: Source, sign: &Sign) {
    let slot = slot(peer, source);
    let Some(record) = PEERS.get_ptr_mut(slot) else {
        return;
    };
    let now = time::now();
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
