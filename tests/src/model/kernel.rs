//! The kernel's part, by the functions that the XDP program itself runs: ticks become nanoseconds and back.

use harbor_ha_ebpf::decide::gate::{self, Gate};
use harbor_ha_ebpf::records::{Lease, Order, Signs};
use harbor_ha_ebpf::units::Nanos;

use super::state::{FOREVER, Halfway, Kernel, OVER, Said, Solo};

/// A tick; `gate::LEASE_TENTHS` divides it.
pub const TICK: u64 = 10;
/// The present. Everything else is relative to it.
const NOW: Nanos = Nanos(1_000 * TICK);

/// Of ticks.
pub const fn nanos(ticks: u8) -> Nanos {
    Nanos(ticks as u64 * TICK)
}

/// How long a key that lasts `ttl` carries whoever asked for it `age` ago, a rest.
pub const fn key_rest(ttl: u8, age: u8) -> i8 {
    rest(NOW.0 - nanos(age).0 + nanos(ttl).0 / 10 * gate::LEASE_TENTHS)
}

/// The age from which on an echo extends nothing.
pub const fn useless(detection: u8) -> u8 {
    (nanos(detection).0 / 10 * gate::LEASE_TENTHS / TICK) as u8 + 1
}

const fn instant(rest: i8) -> u64 {
    match rest {
        FOREVER => u64::MAX,
        OVER => 0,
        rest => NOW.0 + rest as u64 * TICK,
    }
}

const fn rest(until: u64) -> i8 {
    match until.checked_sub(NOW.0) {
        Some(left) => (left / TICK) as i8,
        None => OVER,
    }
}

impl Kernel {
    /// Just loaded, with a first promise: what was promised before is not known any more.
    pub fn new(promise: i8) -> Self {
        Self {
            up: true,
            serving: 0,
            echo: false,
            solo: Solo::No,
            solo_until: OVER,
            leased: OVER,
            promise,
            highest: 0,
            echo_stamp: None,
            heard: Said::default(),
            own: Said::default(),
            halfway: None,
        }
    }

    fn order(&self) -> Order {
        Order {
            serving_term: self.serving.into(),
            echo: self.echo.into(),
            solo: (self.solo != Solo::No).into(),
            solo_until_ns: instant(self.solo_until),
            // A right that ends with userspace can only be the safer: here it does not end.
            hang_ns: u64::MAX,
        }
    }

    fn lease(&self) -> Lease {
        Lease {
            leased_until_ns: instant(self.leased),
            highest_term: self.highest.into(),
            promise_until_ns: instant(self.promise),
            ..Lease::default()
        }
    }

    /// Whether VIP traffic passes.
    pub fn is_open(&self) -> bool {
        self.up && gate::state(NOW, &self.order(), &Signs::default(), &self.lease()) == Gate::Open
    }

    /// A packet's term.
    pub fn hear_term(&mut self, term: u8) {
        let mut lease = self.lease();
        gate::heard_term(&mut lease, term.into());
        self.highest = lease.highest_term as u8;
    }

    /// A stamp of ours came back.
    pub fn echoed(&mut self, age: u8, detection: u8) {
        let mut lease = self.lease();
        let stamp = Nanos(NOW.0 - nanos(age).0);
        gate::echoed(&mut lease, NOW, stamp, nanos(detection), &self.order(), &Signs::default());
        self.leased = rest(lease.leased_until_ns);
    }

    /// First half of an echo.
    pub fn promise(&mut self, detection: u8) {
        let mut lease = self.lease();
        gate::promise(&mut lease, NOW, nanos(detection));
        self.promise = rest(lease.promise_until_ns);
    }

    /// Second half.
    pub fn permit(&mut self, halfway: Halfway) {
        let stamp = Nanos(NOW.0 - nanos(halfway.stamp).0);
        let allowed = gate::echo(&mut self.lease(), &self.order(), stamp, 0);
        self.echo_stamp = (allowed.0 != 0).then_some(halfway.stamp);
    }

    /// Shuts the gate.
    pub fn shut(&mut self) {
        self.serving = 0;
        self.solo = Solo::No;
        self.solo_until = OVER;
    }
}
