//! The lease and the gate: when an echo extends the one, when the other is open, what this node promises by echoing.
//!
//! Pure: run by the XDP program, by the programs on the sockets, by `status` and by the simulator (docs/protocol.md).

use crate::records::{GateStats, Lease, Order, Signs};
use crate::units::Nanos;
use crate::wire::pulse::flag;

/// L as a share of D: the rest covers clocks that run at different rates.
pub const LEASE_TENTHS: u64 = 9;

/// Whether VIP traffic passes, and if not, why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Gate {
    /// It passes.
    Open = 0,
    /// No service was ordered.
    NotServing = 1,
    /// The peer was heard in a higher term.
    HigherTerm = 2,
    /// Neither the peer nor anybody else grants service now.
    Expired = 3,
}

impl Gate {
    /// One word for tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::NotServing => "not_serving",
            Self::HigherTerm => "higher_term",
            Self::Expired => "expired",
        }
    }

    /// The counter of what it dropped; `None` for an open gate.
    #[inline(always)]
    pub const fn counter(self, stats: &mut GateStats) -> Option<&mut u64> {
        match self {
            Self::Open => None,
            Self::NotServing => Some(&mut stats.shut_not_serving),
            Self::HigherTerm => Some(&mut stats.shut_higher_term),
            Self::Expired => Some(&mut stats.shut_expired),
        }
    }
}

/// Until when userspace's own word lets this node serve: while it lives, and no longer than it was allowed.
#[inline(always)]
pub const fn solo_until(order: &Order, signs: &Signs) -> u64 {
    let lives = signs.sign_ns.saturating_add(order.hang_ns);
    if lives < order.solo_until_ns { lives } else { order.solo_until_ns }
}

/// The gate at `now`.
#[inline(always)]
pub const fn state(now: Nanos, order: &Order, signs: &Signs, lease: &Lease) -> Gate {
    if order.serving_term == 0 {
        return Gate::NotServing;
    }
    if lease.highest_term > order.serving_term {
        return Gate::HigherTerm;
    }
    if now.0 <= lease.leased_until_ns || now.0 <= solo_until(order, signs) {
        return Gate::Open;
    }
    Gate::Expired
}

/// A stamp of ours came back at `now`: it extends the lease. `detection` is D. A stamp from the future is none of ours.
#[inline(always)]
pub const fn echoed(lease: &mut Lease, now: Nanos, echo: Nanos, detection: Nanos, order: &Order, signs: &Signs) {
    if echo.0 == 0 || echo.0 > now.0 {
        return;
    }
    let until = echo.0 + detection.0 / 10 * LEASE_TENTHS;
    if until <= lease.leased_until_ns {
        return;
    }
    // The end of a darkness is counted where it ends. One that began before this service did is none.
    if order.serving_term != 0 && until >= now.0 && lease.leased_until_ns != 0 {
        let solo = solo_until(order, signs);
        let lit = if lease.leased_until_ns > solo { lease.leased_until_ns } else { solo };
        if now.0 > lit {
            lease.dark_ns += now.0 - lit;
            lease.darkenings += 1;
        }
    }
    lease.leased_until_ns = until;
    if echo.0 > lease.echoed_ns {
        lease.echoed_ns = echo.0;
    }
}

/// Whether a packet with these flags may be granted anything: a peer that has resigned asks for nothing, and the promise
/// that it is waited for ends the sooner.
#[inline(always)]
pub const fn grants(order: &Order, flags: u16) -> bool {
    order.echo != 0 && flags & flag::RESIGN == 0
}

/// First half of hearing a stamp, if [`grants`] allows: the promise. It must be visible before the permission is looked
/// at once more, for [`echo`]: so whoever takes the permission away and then reads the promise has missed nothing.
#[inline(always)]
pub const fn promise(lease: &mut Lease, heard: Nanos, detection: Nanos) {
    let until = heard.0.saturating_add(detection.0);
    if until > lease.promise_until_ns {
        lease.promise_until_ns = until;
    }
}

/// Second half: the stamp to echo. An echo that is not permitted is 0.
#[inline(always)]
pub const fn echo(lease: &mut Lease, order: &Order, stamp: Nanos, boot: u64) -> Nanos {
    lease.echo_boot = boot;
    lease.echo_stamp_ns = if order.echo != 0 { stamp.0 } else { 0 };
    Nanos(lease.echo_stamp_ns)
}

/// A term was heard; the gate's second condition looks at the highest.
#[inline(always)]
pub const fn heard_term(lease: &mut Lease, term: u64) {
    if term > lease.highest_term {
        lease.highest_term = term;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const D: Nanos = Nanos(30 * MS);

    fn serving() -> (Order, Signs, Lease) {
        (Order { serving_term: 4, ..Order::default() }, Signs::default(), Lease::default())
    }

    #[test]
    fn nothing_is_open_without_an_order_a_right_and_the_highest_term() {
        let (order, signs, mut lease) = serving();
        assert_eq!(state(Nanos(MS), &Order::default(), &signs, &lease), Gate::NotServing);
        assert_eq!(state(Nanos(MS), &order, &signs, &lease), Gate::Expired);
        echoed(&mut lease, Nanos(100 * MS), Nanos(99 * MS), D, &order, &signs);
        assert_eq!(state(Nanos(126 * MS), &order, &signs, &lease), Gate::Open);
        assert_eq!(state(Nanos(126 * MS + 1), &order, &signs, &lease), Gate::Expired);
        heard_term(&mut lease, 5);
        assert_eq!(state(Nanos(101 * MS), &order, &signs, &lease), Gate::HigherTerm);
        heard_term(&mut lease, 3);
        assert_eq!(lease.highest_term, 5);
    }

    #[test]
    fn the_solo_right_lasts_as_long_as_it_is_allowed_and_userspace_lives() {
        let (mut order, mut signs, lease) = serving();
        (order.solo_until_ns, order.hang_ns, signs.sign_ns) = (7, 100, 1);
        assert_eq!(state(Nanos(7), &order, &signs, &lease), Gate::Open);
        assert_eq!(state(Nanos(8), &order, &signs, &lease), Gate::Expired);
        order.solo_until_ns = u64::MAX;
        assert_eq!(state(Nanos(101), &order, &signs, &lease), Gate::Open);
        assert_eq!(state(Nanos(102), &order, &signs, &lease), Gate::Expired);
    }

    #[test]
    fn an_echo_from_the_future_or_the_past_extends_nothing() {
        let (order, signs, mut lease) = serving();
        echoed(&mut lease, Nanos(100 * MS), Nanos(101 * MS), D, &order, &signs);
        echoed(&mut lease, Nanos(100 * MS), Nanos(0), D, &order, &signs);
        assert_eq!(lease.leased_until_ns, 0);
        echoed(&mut lease, Nanos(100 * MS), Nanos(90 * MS), D, &order, &signs);
        let until = lease.leased_until_ns;
        echoed(&mut lease, Nanos(101 * MS), Nanos(80 * MS), D, &order, &signs);
        assert_eq!(lease.leased_until_ns, until);
    }

    #[test]
    fn the_grantor_promises_longer_than_it_grants() {
        let (order, signs, mut theirs) = serving();
        let mut mine = Lease::default();
        let (sent, heard) = (Nanos(100 * MS), Nanos(100 * MS + 1));
        promise(&mut mine, heard, D);
        let echo = echo(&mut mine, &Order { echo: 1, ..Order::default() }, sent, 1);
        echoed(&mut theirs, Nanos(105 * MS), echo, D, &order, &signs);
        assert!(theirs.leased_until_ns < mine.promise_until_ns);
    }

    #[test]
    fn a_forbidden_echo_is_zero_also_later() {
        let mut lease = Lease { echo_stamp_ns: 9, ..Lease::default() };
        assert_eq!(echo(&mut lease, &Order::default(), Nanos(10), 1), Nanos(0));
        assert_eq!(lease.echo_stamp_ns, 0);
    }

    #[test]
    fn darkness_is_counted_when_it_ends() {
        let (order, signs, mut lease) = serving();
        echoed(&mut lease, Nanos(100 * MS), Nanos(99 * MS), D, &order, &signs);
        echoed(&mut lease, Nanos(130 * MS), Nanos(129 * MS), D, &order, &signs);
        assert_eq!((lease.dark_ns, lease.darkenings), (4 * MS, 1));
        echoed(&mut lease, Nanos(140 * MS), Nanos(139 * MS), D, &order, &signs);
        assert_eq!(lease.darkenings, 1);
    }
}
