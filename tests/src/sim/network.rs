//! The wire between the two nodes: packets are lost, late, doubled, overtaken; data connections only stall.

use harbor_ha_ebpf::decide::filter::Reject;
use harbor_ha_ebpf::records::VerdictKind;
use harbor_ha_ebpf::units::Nanos;
use harbor_ha_ebpf::wire::pulse::{self, Pulse, flag};
use harbor_ha_ebpf::wire::siphash::Key;

use super::event::Event;
use super::schedule::MS;
use super::world::World;

/// The key of the pulses. Authentic packets are passed as values; forged ones go through the real codec.
const KEY: Key = Key([1, 2]);

impl World {
    /// A packet leaves `from`.
    pub fn send(&mut self, from: usize, packet: Pulse) {
        let now = self.now;
        if packet.flags & (flag::PRIMARY | flag::SYNC) == flag::PRIMARY | flag::SYNC {
            self.checkers.counted_term = self.checkers.counted_term.max(packet.term);
        }
        let broken = self.nodes[from].broken;
        if !self.nodes[from].hears(now) || now < broken.cut {
            return;
        }
        let within = |(until, level): (u64, u64)| if now < until { level } else { 0 };
        let (loss, twice, delay) = (within(broken.loss), within(broken.twice), within(broken.delay));
        let copies = 1 + u32::from(self.net.per_mille(twice));
        for _ in 0..copies {
            if self.net.per_mille(loss) {
                continue;
            }
            let late = if delay == 0 { 0 } else { self.net.below(delay) };
            let at = now + 40_000 + self.net.below(160_000) + late;
            let number = self.packets.put(packet);
            self.queue.push(at, Event::Arrive(1 - from as u8, number));
        }
    }

    /// A packet gets to `to`.
    pub fn arrive(&mut self, to: usize, packet: Pulse) {
        let now = self.now;
        // What is on its way when a cable is cut is lost too.
        if !self.nodes[to].hears(now) || !self.nodes[to].kernel.attached || now < self.nodes[1 - to].broken.cut {
            return;
        }
        let local = self.local(to);
        match self.nodes[to].kernel.hear(local, &packet) {
            Ok(heard) => {
                self.heard_term(to, packet.term);
                if let Some(reflection) = heard.reflection {
                    self.send(to, reflection);
                }
                self.arm(to, heard.next.deadline);
                self.tell(to, heard.next.event);
            }
            Err(reject) => self.reject(reject),
        }
    }

    pub fn reject(&mut self, reject: Reject) {
        let at = Reject::ALL.iter().position(|known| *known == reject).unwrap_or(0);
        self.coverage.rejects[at] += 1;
    }

    /// Arms the kernel's timer: a deadline that moved away is noticed when the old one expires.
    pub fn arm(&mut self, i: usize, deadline: Option<Nanos>) {
        let Some(deadline) = deadline else { return };
        let at = self.nodes[i].clock.when(deadline);
        if at < self.nodes[i].timer_at {
            self.nodes[i].timer_at = at;
            self.queue.push(at, Event::Timer(i as u8));
        }
    }

    /// The kernel's timer of `i`.
    pub fn expire(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        if self.now != node.timer_at {
            return;
        }
        node.timer_at = u64::MAX;
        let deadline = Nanos(node.kernel.detector.deadline_ns);
        if deadline.0 == 0 || !node.power {
            return;
        }
        let local = node.clock.at(self.now);
        if local < deadline {
            self.arm(i, Some(deadline));
            return;
        }
        let next = node.kernel.expire(local);
        self.arm(i, next.deadline);
        self.tell(i, next.event);
    }

    /// The kernel tells the daemon.
    fn tell(&mut self, i: usize, event: Option<VerdictKind>) {
        let Some(kind) = event else { return };
        let local = self.local(i);
        self.coverage.verdicts[kind as usize] += 1;
        if let Some(daemon) = &mut self.nodes[i].daemon {
            let verdict = super::daemon::verdict(&self.nodes[i].kernel.verdict(local, kind));
            daemon.verdicts.push_back(verdict);
            self.soon(i);
        }
    }

    /// Whether the two can talk: connections need both ways.
    pub fn joined(&self) -> bool {
        let now = self.now;
        self.nodes.iter().all(|node| node.hears(now) && now >= node.broken.cut && !node.is_frozen(now))
    }

    /// Somebody sends `i` what looks like a pulse of its peer. What the codec takes may be judged by the filter only.
    pub fn forge(&mut self, i: usize, level: u64) {
        let kernel = self.nodes[1 - i].kernel.clone();
        let known = &self.nodes[i].kernel;
        let (sequence, local) = (known.detector.sequence, self.local(i));
        let mut forged = kernel.say(local, sequence + 5, 0x0031, Nanos(local.0 - 1));
        forged.term = 1 << 40;
        match level {
            0 => forged.cluster_id ^= 1,
            1 => forged.vrid ^= 1,
            2 => forged.interval_us = 0,
            3 => forged.threshold = 0,
            // A replay.
            4 | 5 => forged.sequence = sequence,
            // An answer to no question.
            6 | 7 => (forged.flags, forged.sequence) = (0x0131, known.signs.sent + 1),
            _ => {}
        }
        let mut bytes = pulse::emit(&forged, KEY);
        match level {
            8 | 9 => bytes[0] ^= 1,
            10 | 11 => bytes[4] ^= 1,
            12.. => bytes[12 + level as usize] ^= 0x10,
            _ => {}
        }
        match pulse::parse(&bytes, KEY) {
            Err(reject) => self.reject(reject),
            Ok(packet) if self.nodes[i].hears(self.now) => self.arrive(i, packet),
            Ok(_) => {}
        }
    }

    /// One tick of the pulse thread of `i`, and when the next one is.
    pub fn pulse_tick(&mut self, i: usize) {
        self.pulse(i);
        let interval = self.schedule.pulses[i].0;
        let jitter = self.dice.below(interval / 20);
        let local = self.local(i).after(Nanos(interval - interval / 40 + jitter));
        self.queue.push(self.nodes[i].clock.when(local), Event::Pulse(i as u8));
    }

    /// The pulse thread of `i` sends one.
    pub fn pulse(&mut self, i: usize) {
        let (now, local) = (self.now, self.local(i));
        let node = &mut self.nodes[i];
        let broken = &node.broken;
        if now < broken.stopped || now < broken.pulses || now < broken.frozen {
            return;
        }
        let Some(daemon) = &node.daemon else { return };
        let said = daemon.said;
        node.sequence += 1;
        node.kernel.own = harbor_ha_ebpf::records::Own {
            term: said.term,
            lsn: said.lsn,
            system_identifier: said.system_identifier,
            timeline: said.timeline,
            flags: said.flags,
            priority: said.priority,
            reserved: 0,
        };
        let signs = &mut node.kernel.signs;
        (signs.sign_ns, signs.sent, signs.asked) = (daemon.sign.0.min(local.0), node.sequence, signs.asked + 1);
        let echo = Nanos(node.kernel.lease.echo_stamp_ns);
        let packet = node.kernel.say(local, node.sequence, said.flags, echo);
        self.send(i, packet);
    }

    /// A stop of the world as clients see it: how far apart two ticks are.
    pub fn next_tick(&mut self) {
        let at = self.now + MS + self.dice.below(4 * MS);
        self.queue.push(at, Event::Tick);
    }
}
