//! A host and its ear: pulses or adverts go through the kernel's own detector functions.

use std::collections::VecDeque;

use harbor_ha_ebpf::decide::detector::{self, Sign};
use harbor_ha_ebpf::records::Detector;

use super::server::Server;
use super::world::World;
use super::*;

pub const PULSE: Nanos = ms(10);
pub const ADVERT: Nanos = ms(100);

pub struct Host {
    pub power: bool,
    pub core: Option<Core>,
    pub out: Actions,
    pub frozen_until: Nanos,
    pub link: bool,
    pub pg: Server,
    /// What survives the daemon and the power.
    pub disk: Terms,
    pub heard: Detector,
    pub said: PulseState,
    pub queue: VecDeque<Input>,
    /// Ends of actions: when, what.
    pub coming: Vec<(Nanos, Done)>,
    pub answer_at: Option<Nanos>,
    pub back_at: Nanos,
    pub heavy: (u64, u32),
    pub adverts: bool,
}

pub const fn priority(i: usize) -> Priority {
    Priority(if i == 0 { 100 } else { 10 })
}

impl Host {
    pub fn end_server(&mut self) {
        if self.pg.running {
            (self.pg.running, self.pg.hung, self.pg.ended) = (false, false, true);
            self.queue.push_back(Input::Postgres { asked: Nanos(0), news: Postgres::Exited });
        }
    }

    pub fn verdict(&self, kind: VerdictKind, at: Nanos) -> Input {
        Input::Verdict(Verdict {
            at,
            last_heard: Nanos(self.heard.last_arrival_ns),
            kind,
            source: if self.adverts { Source::Advert } else { Source::Pulse },
            priority: self.heard.priority as u8,
            flags: self.heard.flags as u16,
            term: self.heard.term,
            timeline: self.heard.timeline,
            lsn: self.heard.lsn,
            system_identifier: self.heard.system_identifier,
        })
    }

    /// Verdicts go before everything else that waits.
    pub fn tell(&mut self, event: Option<VerdictKind>, now: Nanos) {
        if let (Some(kind), true) = (event, self.core.is_some()) {
            let at = self.queue.iter().take_while(|input| matches!(input, Input::Verdict(_))).count();
            let verdict = self.verdict(kind, now);
            self.queue.insert(at, verdict);
        }
    }
}

impl World {
    /// A pulse of `i` goes to the other host.
    pub fn pulse(&mut self, i: usize) {
        let said = self.hosts[i].said;
        if self.adverts || self.hosts[i].core.is_none() {
            return;
        }
        let sign = Sign {
            interval: PULSE,
            threshold: 3,
            resigns: said.flags & flag::RESIGN != 0,
            priority: u32::from(priority(i).0),
            flags: u32::from(said.flags),
            term: said.term,
            timeline: said.timeline,
            lsn: said.lsn,
            system_identifier: said.system_identifier,
            ..Sign::default()
        };
        self.send(i, &sign);
    }

    pub fn advert(&mut self, i: usize, said: Priority) {
        let sign = Sign {
            interval: ADVERT,
            threshold: 3,
            skew: harbor_ha_ebpf::units::skew(priority(1 - i), ADVERT),
            resigns: said == Priority::RESIGN,
            always_said: true,
            priority: u32::from(said.0),
            ..Sign::default()
        };
        self.send(i, &sign);
    }

    fn send(&mut self, i: usize, sign: &Sign) {
        let lost = self.lossy && self.below(4) == 0;
        if lost || !self.joined() || self.now < self.hosts[i].frozen_until {
            return;
        }
        let next = detector::arrival(&mut self.hosts[1 - i].heard, self.now, sign);
        self.hosts[1 - i].tell(next.event, self.now);
    }

    pub fn expire(&mut self, i: usize) {
        let host = &mut self.hosts[i];
        if host.power && host.heard.deadline_ns != 0 && self.now.0 >= host.heard.deadline_ns {
            let next = detector::expiry(&mut host.heard, self.now, u64::MAX);
            host.tell(next.event, self.now);
        }
    }
}
