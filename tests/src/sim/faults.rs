//! Breaking things, and mending them.

use harbor_ha::core::{Command, Input};

use super::clock::Clock;
use super::event::Event;
use super::kernel::Kernel;
use super::postgres::Process;
use super::schedule::{Fault, Kind, MS};
use super::world::World;

impl World {
    /// The fault with this number begins.
    pub fn break_something(&mut self, number: usize) {
        let fault = self.faults[number];
        let Fault { node: i, kind, length, level, .. } = fault;
        let at = Kind::ALL.iter().position(|known| *known == kind).unwrap_or(0);
        self.coverage.faults[at] += 1;
        self.tell_story(|| format!("-- {fault}"));
        let now = self.now;
        let until = now + length;
        let node = &mut self.nodes[i];
        if !node.power {
            return;
        }
        match kind {
            Kind::PowerLoss => self.power_loss(i, until),
            Kind::DaemonKill => {
                node.broken.daemon = node.broken.daemon.max(until);
                self.kill_daemon(i);
            }
            Kind::DaemonStop => node.broken.stopped = until,
            Kind::CoreHang => node.broken.core = until,
            Kind::PulseStarve => node.broken.pulses = until,
            Kind::Freeze => node.broken.frozen = until,
            Kind::CutBoth => {
                for node in &mut self.nodes {
                    node.broken.cut = node.broken.cut.max(until);
                }
            }
            Kind::CutFrom => node.broken.cut = node.broken.cut.max(until),
            Kind::Loss => node.broken.loss = (until, level),
            Kind::Delay => node.broken.delay = (until, level.max(1)),
            Kind::Duplicate => node.broken.twice = (until, level),
            Kind::LinkDown => {
                node.broken.link = until;
                if std::mem::take(&mut node.link) {
                    self.input(i, Input::Link(false));
                }
            }
            Kind::PgKill => {
                if node.server.process != Process::Down {
                    node.server.crash(level % 2 == 0);
                    node.server.hung_until = now + length.min(500 * MS);
                    if node.server.process == Process::Down {
                        node.server.hung_until = 0;
                    }
                    self.exited(i);
                }
            }
            Kind::PgHang => node.server.hung_until = until,
            Kind::ReplayPause => node.server.paused_until = until,
            Kind::StreamStall => node.broken.stream = until,
            Kind::DiskErrors => node.broken.disk = until,
            Kind::ActionFailures => node.broken.actions = until,
            Kind::WitnessDown => {
                for node in &mut self.nodes {
                    node.broken.witness = node.broken.witness.max(until);
                }
            }
            Kind::WitnessCut => node.broken.witness = node.broken.witness.max(until),
            Kind::WitnessSlow => node.broken.witness_slow = until,
            Kind::TrackFailed => node.broken.check = node.broken.check.max(until),
            Kind::TrackWeight => node.broken.weight = node.broken.weight.max(until),
            Kind::Switchover => self.command(i, Command::Switchover),
            Kind::Terminate => {
                node.broken.daemon = until;
                self.command(i, Command::Terminate);
            }
            Kind::Pause => {
                node.broken.paused = until;
                self.command(i, Command::Pause);
            }
            Kind::Hold => {
                self.command(i, Command::Hold);
                // What a hold is for: a while later the daemon is silent.
                self.faults.push(Fault { at: 0, node: i, kind: Kind::DaemonStop, length, level });
                self.queue.push(now + 60 * MS, Event::Fault(self.faults.len() as u32 - 1));
            }
            Kind::Reinit => self.command(i, Command::Reinit),
            Kind::Failover => self.command(i, Command::Failover),
            Kind::Forge => self.forge(i, level),
            Kind::AddressRemoved => {
                node.vip = false;
                let asked = self.local(i);
                self.input(i, Input::Addresses { asked, all: false, any: false });
            }
        }
        self.queue.push(until, Event::Restore(i as u8));
    }

    fn power_loss(&mut self, i: usize, until: u64) {
        let node = &mut self.nodes[i];
        node.power = false;
        node.boot += 1;
        node.run += 1;
        node.daemon = None;
        node.kernel = Kernel::default();
        self.checkers.heard[i] = 0;
        node.vip = false;
        (node.turn_at, node.timer_at) = (u64::MAX, u64::MAX);
        (node.broken.power, node.broken.frozen) = (until, 0);
        (node.broken.stopped, node.broken.core, node.broken.pulses) = (0, 0, 0);
        node.server.crash(false);
        node.server.hung_until = 0;
    }

    /// Whatever of `i` is due to be whole again is made so.
    pub fn restore(&mut self, i: usize) {
        let now = self.now;
        let node = &mut self.nodes[i];
        if !node.power && now >= node.broken.power {
            node.power = true;
            let drift = self.schedule.drift[i];
            node.clock = Clock::new(now, self.dice.log(100 * MS, 4000 * MS), drift);
            node.broken.daemon = node.broken.daemon.max(now + self.dice.between(50 * MS, 500 * MS));
            let back = node.broken.daemon;
            self.queue.push(back, Event::Restore(i as u8));
            self.tell_story(|| format!("{i}: the power is back"));
        }
        let node = &mut self.nodes[i];
        if !node.power {
            return;
        }
        if !node.link && now >= node.broken.link {
            node.link = true;
            self.input(i, Input::Link(true));
        }
        let node = &mut self.nodes[i];
        if node.broken.paused != 0 && now >= node.broken.paused && node.daemon.is_some() {
            node.broken.paused = 0;
            self.command(i, Command::Resume);
        }
        if self.nodes[i].daemon.is_none() && now >= self.nodes[i].broken.daemon {
            if self.nodes[i].is_frozen(now) {
                let at = self.nodes[i].broken.frozen;
                self.queue.push(at, Event::Restore(i as u8));
                return;
            }
            self.start_daemon(i);
            // A pause that an operator ended while no daemon ran is ended now.
            self.queue.push(now + MS, Event::Restore(i as u8));
        }
        // A loop that was held has everything to read.
        self.soon(i);
    }

    /// No fault lasts longer than this instant.
    pub fn heal(&mut self) {
        self.tell_story(|| "-- healed".to_owned());
        let now = self.now;
        for i in 0..2 {
            let node = &mut self.nodes[i];
            let broken = &mut node.broken;
            for until in [
                &mut broken.power,
                &mut broken.daemon,
                &mut broken.stopped,
                &mut broken.core,
                &mut broken.pulses,
                &mut broken.link,
                &mut broken.disk,
                &mut broken.actions,
                &mut broken.stream,
                &mut broken.witness,
                &mut broken.witness_slow,
                &mut broken.paused,
                &mut broken.check,
                &mut broken.weight,
                &mut broken.cut,
                &mut broken.loss.0,
                &mut broken.delay.0,
                &mut broken.twice.0,
            ] {
                *until = (*until).min(now);
            }
            if broken.paused != 0 || node.paused {
                broken.paused = 1;
            }
            // Events wait for the end that they were told.
            let frozen = broken.frozen;
            node.server.paused_until = 0;
            node.server.hung_until = node.server.hung_until.min(now);
            self.queue.push(now.max(frozen), Event::Restore(i as u8));
        }
    }
}
