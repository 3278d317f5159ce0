//! The kernel's side of one node: the records, and the pure functions in the order in which the XDP program calls them.

use harbor_ha_ebpf::decide::detector::{self, Next, Sign};
use harbor_ha_ebpf::decide::filter::{self, Reject};
use harbor_ha_ebpf::decide::gate::{self, Gate};
use harbor_ha_ebpf::records::{Config, Detector, Lease, Order, Own, Signs, Verdict, VerdictKind};
use harbor_ha_ebpf::units::Nanos;
use harbor_ha_ebpf::wire::pulse::{Pulse, flag};

use super::mutants::Mutant;

/// What survives the daemon, and no reboot.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// The program is attached: a daemon ran since the boot.
    pub attached: bool,
    pub config: Config,
    pub own: Own,
    pub signs: Signs,
    pub order: Order,
    pub lease: Lease,
    pub detector: Detector,
    pub mutant: Option<Mutant>,
}

/// What an authentic packet caused.
pub struct Heard {
    pub next: Next,
    /// The question, turned round.
    pub reflection: Option<Pulse>,
}

impl Kernel {
    /// A pulse that is authentic arrives.
    pub fn hear(&mut self, now: Nanos, pulse: &Pulse) -> Result<Heard, Reject> {
        let last = if pulse.is_reflection() { self.detector.answered } else { self.detector.sequence };
        filter::pulse(pulse, &self.config, last, self.signs.sent)?;
        let own = (Nanos(self.config.pulse_interval_ns), u32::from(self.config.pulse_threshold));
        let (interval, threshold) = detector::slower(own, (pulse.interval(), u32::from(pulse.threshold)));
        let detection = interval.times(u64::from(threshold));
        if self.mutant != Some(Mutant::GateIgnoresTerms) {
            gate::heard_term(&mut self.lease, pulse.term);
        }
        if pulse.echo_boot == self.config.boot {
            self.echoed(now, pulse, detection);
        }
        let stamp = Nanos(pulse.stamp_ns);
        let grants = gate::grants(&self.order, pulse.flags);
        if grants {
            gate::promise(&mut self.lease, now, detection);
        }
        let asked = Order { echo: u64::from(grants), ..self.order };
        let mut echo = gate::echo(&mut self.lease, &asked, stamp, pulse.boot);
        if self.mutant == Some(Mutant::OwnClockEchoed) && echo.0 != 0 {
            echo = now;
            self.lease.echo_stamp_ns = now.0;
        }
        let sign = Sign {
            interval,
            threshold: if self.mutant == Some(Mutant::HastyDetector) { 1 } else { threshold },
            resigns: pulse.flags & flag::RESIGN != 0,
            reflection: pulse.is_reflection(),
            asked: self.signs.asked,
            age: pulse.age(),
            hang: Nanos(self.config.hang_ns),
            priority: u32::from(pulse.priority),
            flags: u32::from(pulse.flags & !flag::REFLECTION),
            timeline: pulse.timeline,
            term: pulse.term,
            sequence: pulse.sequence,
            stamp_ns: pulse.stamp_ns,
            lsn: pulse.lsn,
            system_identifier: pulse.system_identifier,
            boot: pulse.boot,
            ..Sign::default()
        };
        let next = detector::arrival(&mut self.detector, now, &sign);
        let reflection = (!pulse.is_reflection()).then(|| self.reflect(now, pulse, echo));
        Ok(Heard { next, reflection })
    }

    fn echoed(&mut self, now: Nanos, pulse: &Pulse, detection: Nanos) {
        let detection = match self.mutant {
            Some(Mutant::LeaseOutlastsDetection) => detection.times(3),
            _ => detection,
        };
        let echo = match self.mutant {
            Some(Mutant::LeaseFromArrival) if pulse.echo_ns != 0 => now,
            _ => Nanos(pulse.echo_ns),
        };
        gate::echoed(&mut self.lease, now, echo, detection, &self.order, &self.signs);
        if self.mutant == Some(Mutant::LeaseNeverEnds) && self.lease.leased_until_ns != 0 {
            self.lease.leased_until_ns = u64::MAX;
        }
    }

    fn reflect(&self, now: Nanos, question: &Pulse, echo: Nanos) -> Pulse {
        self.say(now, question.sequence, self.own.flags | flag::REFLECTION, echo)
    }

    /// What this node says at `now`, by its own records.
    pub fn say(&self, now: Nanos, sequence: u64, flags: u16, echo: Nanos) -> Pulse {
        Pulse {
            vrid: self.config.vrid,
            priority: self.own.priority,
            threshold: self.config.pulse_threshold,
            flags,
            interval_us: (self.config.pulse_interval_ns / 1000) as u32,
            cluster_id: self.config.cluster_id,
            term: self.own.term,
            sequence,
            stamp_ns: now.0,
            echo_ns: echo.0,
            userspace_age_us: u32::try_from(now.since(Nanos(self.signs.sign_ns)).0 / 1000).unwrap_or(u32::MAX),
            timeline: self.own.timeline,
            lsn: self.own.lsn,
            system_identifier: self.own.system_identifier,
            boot: self.config.boot,
            echo_boot: self.lease.echo_boot,
        }
    }

    /// The timer expired.
    pub fn expire(&mut self, now: Nanos) -> Next {
        detector::expiry(&mut self.detector, now, self.signs.asked)
    }

    /// The gate at `now`.
    pub fn gate(&self, now: Nanos) -> Gate {
        gate::state(now, &self.order, &self.signs, &self.lease)
    }

    /// The event as the ring buffer carries it.
    pub fn verdict(&self, now: Nanos, kind: VerdictKind) -> Verdict {
        let detector = &self.detector;
        Verdict {
            at_ns: now.0,
            last_arrival_ns: detector.last_arrival_ns,
            interval_ns: detector.interval_ns,
            term: detector.term,
            lsn: detector.lsn,
            system_identifier: detector.system_identifier,
            kind: kind as u32,
            missed: detector.missed,
            flags: detector.flags,
            priority: detector.priority,
            timeline: detector.timeline,
            ..Verdict::default()
        }
    }
}
