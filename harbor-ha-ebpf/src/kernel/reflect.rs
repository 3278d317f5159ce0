//! Turns a pulse round: the question goes back as our answer, from where it arrived.

use aya_ebpf::programs::XdpContext;
use harbor_ha_ebpf::decide::filter::Reject;
use harbor_ha_ebpf::records::Config;
use harbor_ha_ebpf::units::Nanos;
use harbor_ha_ebpf::wire::cursor::Cursor;
use harbor_ha_ebpf::wire::pulse::{self, LENGTH, Pulse, flag};
use harbor_ha_ebpf::wire::siphash::Key;
use harbor_ha_ebpf::wire::{ethernet, ipv4};

use super::maps::{OWN, SECRETS, SIGNS};
use super::time;

/// Rewrites the frame of a valid pulse. `echo` is what may be echoed of its stamp, `question` the boot that it is of.
///
/// The IP checksum stays right under an exchange of the addresses; the TTL is 255 already, or this were no valid pulse.
///
/// # Errors
///
/// The frame is no pulse's after all, which the verifier cannot know.
#[inline(always)]
pub fn turn(ctx: &XdpContext, config: &Config, echo: Nanos, question: u64) -> Result<(), Reject> {
    let (Some(secrets), Some(signs)) = (SECRETS.get(0), SIGNS.get(0)) else {
        return Err(Reject::Mac);
    };
    // The element that the pulse thread is not writing.
    let own = OWN.get(signs.sent as u32 & 1).ok_or(Reject::Mac)?;
    // SAFETY: the kernel keeps `data..data_end` readable and writable while the program runs.
    let mut cursor = unsafe { Cursor::from_raw(ctx.data() as *const u8, ctx.data_end() as *const u8) };
    let mut whole = cursor;
    let addresses = whole.place::<12>().ok_or(Reject::Length)?;
    let _ipv4 = ethernet::ether_type(&mut cursor).ok_or(Reject::Length)?;
    let header = cursor.place::<{ ipv4::HEADER }>().ok_or(Reject::Length)?;
    // SAFETY: `place` compared with the end of the packet; nobody else has the packet.
    let header = unsafe { &mut *header };
    cursor.skip(((header[0] & 0x0f) as usize * 4).wrapping_sub(ipv4::HEADER) & 0x3c);
    let ports = cursor.place::<8>().ok_or(Reject::Length)?;
    let bytes = cursor.place::<LENGTH>().ok_or(Reject::Length)?;
    // SAFETY: as above, and the three do not overlap.
    let (addresses, ports, bytes) = unsafe { (&mut *addresses, &mut *ports, &mut *bytes) };
    exchange::<6>(addresses, 0);
    exchange::<4>(header, 12);
    exchange::<2>(ports, 0);
    // No UDP checksum (RFC 768): the MAC is better.
    (ports[6], ports[7]) = (0, 0);
    let now = time::now();
    let age_us = if signs.sign_ns == 0 { u64::MAX } else { now.since(Nanos(signs.sign_ns)).0 / 1000 };
    let ours = Pulse {
        vrid: config.vrid,
        priority: own.priority,
        threshold: config.pulse_threshold,
        flags: own.flags | flag::REFLECTION,
        interval_us: (config.pulse_interval_ns / 1000) as u32,
        cluster_id: config.cluster_id,
        term: own.term,
        sequence: 0,
        stamp_ns: now.0,
        echo_ns: echo.0,
        userspace_age_us: if age_us > u32::MAX as u64 { u32::MAX } else { age_us as u32 },
        timeline: own.timeline,
        lsn: own.lsn,
        system_identifier: own.system_identifier,
        boot: config.boot,
        echo_boot: question,
    };
    pulse::say(bytes, &ours);
    pulse::seal(bytes, Key(secrets.pulse_key));
    Ok(())
}

/// Exchanges two neighbours of `N` bytes from `at` on; a loop of known length, which unrolls.
#[inline(always)]
fn exchange<const N: usize>(bytes: &mut [u8], at: usize) {
    for offset in at..at + N {
        bytes.swap(offset, offset + N);
    }
}
