//! The daemon of one node: the loop around the core, and what becomes of its actions.

use std::collections::VecDeque;

use harbor_ha::core::health::Tracking;
use harbor_ha::core::rules::LeaseRules;
use harbor_ha::core::{Action, Actions, Adopted, Core, Done, Input, Postgres, PulseState, Rules, Verdict};
use harbor_ha::vrrp::TrackerId;
use harbor_ha::vrrp::track::{Track, TrackValue, TrackerKind, TrackerRules};
use harbor_ha_ebpf::records::{Source, State, VerdictKind};
use harbor_ha_ebpf::units::{Nanos, Priority};
use harbor_ha_ebpf::wire::pulse::flag;

use super::event::Event;
use super::node::Daemon;
use super::perform::What;
use super::schedule::MS;
use super::world::World;

/// The loop turns at least this often.
const IDLE: Nanos = Nanos::from_millis(250);
/// As `kernel::verdicts` reads the ring buffer.
pub fn verdict(event: &harbor_ha_ebpf::records::Verdict) -> Input {
    Input::Verdict(Verdict {
        at: Nanos(event.at_ns),
        last_heard: Nanos(event.last_arrival_ns),
        kind: VerdictKind::from_u32(event.kind).expect("made from a kind"),
        source: Source::Pulse,
        priority: event.priority as u8,
        flags: event.flags as u16,
        term: event.term,
        timeline: event.timeline,
        lsn: event.lsn,
        system_identifier: event.system_identifier,
    })
}

impl World {
    /// The daemon of `i` starts.
    pub fn start_daemon(&mut self, i: usize) {
        let now = self.local(i);
        let (interval, threshold) = self.schedule.pulses[i];
        let rules = self.rules(i);
        let node = &mut self.nodes[i];
        let known = State::from_u32(node.kernel.detector.state);
        node.kernel.attached = true;
        node.kernel.mutant = self.mutant;
        let config = &mut node.kernel.config;
        (config.vrid, config.cluster_id, config.priority) = (51, 7, rules.priority.0);
        (config.pulse_interval_ns, config.pulse_threshold) = (interval, threshold);
        config.hang_ns = self.schedule.hang;
        // Unique on both hosts: the run that first configured the kernel, or the one before.
        if config.boot == 0 {
            config.boot = u64::from(node.run + 1) * 2 + i as u64;
        }
        let adopted = Adopted {
            order: node.kernel.order,
            paused: node.paused,
            forgotten: node.kernel.lease == Default::default(),
        };
        // Above all that was sent before, as `net::sequence` makes sure.
        node.sequence += 1 << 20;
        node.run += 1;
        let mut daemon = Daemon {
            core: Core::new(rules, node.terms, adopted, now).tracking(tracking()),
            out: Actions::default(),
            said: PulseState::default(),
            done: VecDeque::new(),
            verdicts: VecDeque::new(),
            inbox: VecDeque::new(),
            sign: now,
        };
        let kind = match known {
            State::Alive if node.kernel.detector.hung != 0 => Some(VerdictKind::Hung),
            State::Alive => Some(VerdictKind::Alive),
            State::Resigned => Some(VerdictKind::Resigned),
            State::Dead => Some(VerdictKind::Dead),
            State::Unknown => None,
        };
        daemon
            .done
            .extend(kind.map(|kind| verdict(&node.kernel.verdict(Nanos(node.kernel.detector.last_arrival_ns), kind))));
        daemon.inbox.push_back(Input::Link(node.link));
        node.daemon = Some(daemon);
        node.turn_at = u64::MAX;
        self.tell_story(|| format!("{i}: the daemon starts"));
        self.probe(i);
        self.soon(i);
    }

    fn rules(&self, i: usize) -> Rules {
        let schedule = &self.schedule;
        let (interval, threshold) = schedule.pulses[i];
        let detection = Nanos(interval * u64::from(threshold));
        let lease = LeaseRules::new(detection, i == 1, Nanos(schedule.hang), Nanos::from_secs(5), schedule.isolated);
        Rules {
            priority: Priority(if i == 0 { 100 } else { 90 }),
            addresses: (i as u32 + 1, 2 - i as u32),
            adverts: false,
            advert_interval: Nanos::from_secs(1),
            start_wait: harbor_ha::core::rules::pulse_wait(Nanos(interval), u32::from(threshold)),
            preempt: false,
            preempt_delay: Nanos(0),
            announce_repeat: 3,
            announce_delay: Nanos::from_millis(500),
            announce_refresh: Nanos::from_secs(5),
            announce_refresh_repeat: 1,
            postgres: true,
            sync: schedule.sync,
            max_lag: 20 * super::postgres::ENTRY,
            probe_fall: 3,
            lease: Some(lease),
        }
    }

    /// The loop of `i` has something to read.
    pub fn soon(&mut self, i: usize) {
        // A wakeup takes microseconds, and on a busy host now and then a scheduler's slice.
        let late = if self.dice.below(300) == 0 { self.dice.below(15 * MS) } else { 20_000 + self.dice.below(80_000) };
        self.turn_by(i, self.now + late);
    }

    fn turn_by(&mut self, i: usize, at: u64) {
        if at < self.nodes[i].turn_at {
            self.nodes[i].turn_at = at;
            self.queue.push(at, Event::Turn(i as u8));
        }
    }

    /// The loop of `i` runs until nothing is left to read.
    pub fn turn(&mut self, i: usize) {
        if self.now != self.nodes[i].turn_at {
            return;
        }
        self.nodes[i].turn_at = u64::MAX;
        let broken = &self.nodes[i].broken;
        let held = broken.stopped.max(broken.core);
        if self.now < held {
            self.turn_by(i, held + 10_000);
            return;
        }
        let now = self.local(i);
        let mut wakes = 0;
        loop {
            let Some(daemon) = &mut self.nodes[i].daemon else { return };
            daemon.sign = now;
            let next =
                daemon.done.pop_front().or_else(|| daemon.verdicts.pop_front()).or_else(|| daemon.inbox.pop_front());
            let due = daemon.out.wake_at().is_some_and(|at| at <= now);
            let input = match next {
                Some(input) => input,
                None if due => {
                    wakes += 1;
                    Input::Wake
                }
                None => break,
            };
            if wakes > 20 {
                self.violate("loop", format!("{i}: the loop does not come to rest, {input:?}"));
                return;
            }
            self.handle(i, now, input);
        }
        let Some(daemon) = &self.nodes[i].daemon else { return };
        let wake = daemon.out.wake_at().unwrap_or(Nanos(u64::MAX)).min(now.after(IDLE));
        let at = self.nodes[i].clock.when(wake).max(self.now + 1);
        self.turn_by(i, at);
    }

    fn handle(&mut self, i: usize, now: Nanos, input: Input) {
        let Some(daemon) = &mut self.nodes[i].daemon else { return };
        let told = self.story.as_ref().filter(|_| is_news(&input)).map(|_| format!("{input:?}"));
        let (before, stayed) = (daemon.core.refusal(), daemon.core.stayed());
        daemon.core.handle(now, input, &mut daemon.out);
        let wake = daemon.out.wake_at();
        let actions: Vec<Action> = daemon.out.drain().collect();
        if let Some(refusal) = daemon.core.refusal()
            && Some(refusal) != before
        {
            self.coverage.refusal(refusal);
        }
        if let Some(stays) = daemon.core.stayed()
            && Some(stays) != stayed
        {
            self.coverage.stays[stays as usize] += 1;
        }
        if actions.contains(&Action::Checkpoint) && daemon.core.snapshot().why.starts_with("`check`") {
            self.coverage.moved += 1;
        }
        if self.story.is_some() && (told.is_some() || actions.iter().any(is_deed)) {
            let deeds: Vec<&Action> = actions.iter().filter(|action| !matches!(action, Action::ReadLease)).collect();
            let text = format!("{i}: {} -> {deeds:?}", told.unwrap_or_else(|| "routine".to_owned()));
            self.tell_story(|| text);
        }
        if wake.is_some_and(|at| at <= now) {
            self.violate("loop", format!("{i}: asks to be woken in the past"));
        }
        for action in actions {
            self.coverage.action(&action);
            self.perform(i, action);
        }
    }

    /// The core of `i` shall read this.
    pub fn input(&mut self, i: usize, input: Input) {
        if let Some(daemon) = &mut self.nodes[i].daemon {
            daemon.inbox.push_back(input);
            self.soon(i);
        }
    }

    /// Without a word.
    pub fn kill_daemon(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        node.daemon = None;
        node.run += 1;
        let back = node.broken.daemon.max(self.now + 200 * MS);
        node.broken.daemon = back;
        self.queue.push(back, Event::Restore(i as u8));
    }

    /// PostgreSQL of `i` is looked at, and the news are on their way.
    pub fn probe(&mut self, i: usize) {
        let news = self.news(i);
        let asked = self.local(i);
        let after = 100_000 + self.dice.below(3 * MS);
        self.later(i, after, What::Tell(Input::Postgres { asked, news }));
    }

    /// The scripts that `i` tracks are run.
    pub fn check(&mut self, i: usize) {
        let (now, broken) = (self.now, &self.nodes[i].broken);
        for (number, until) in [broken.check, broken.weight].into_iter().enumerate() {
            let value = if now < until { TrackValue::Failed } else { TrackValue::Ok };
            let after = MS + self.dice.below(5 * MS);
            let input = Input::Tracked { tracker: TrackerId(number as u16), value };
            self.later(i, after, What::Tell(input));
        }
    }

    /// The postmaster has ended.
    pub fn exited(&mut self, i: usize) {
        let asked = self.local(i);
        self.input(i, Input::Postgres { asked, news: Postgres::Exited });
        self.probe(i);
    }
}

/// A script that stops a node, and one that lowers its priority below the other's.
fn tracking() -> Tracking {
    let rules = |name: &str, fall| TrackerRules {
        name: name.to_owned(),
        kind: TrackerKind::Script { rise: 1, fall, init_fail: false },
    };
    let track = |number, weight| Track { tracker: TrackerId(number), weight, reverse: false };
    Tracking { trackers: vec![rules("check", 2), rules("load", 1)], tracks: vec![track(0, 0), track(1, -20)] }
}

/// Worth a line of the story.
fn is_news(input: &Input) -> bool {
    match input {
        Input::Wake | Input::Lease(_) | Input::Tracked { .. } | Input::Done(Done::Ordered { .. }) => false,
        Input::Postgres { news, .. } => *news == Postgres::Exited,
        Input::Verdict(verdict) => verdict.kind != VerdictKind::Missed,
        _ => true,
    }
}

fn is_deed(action: &Action) -> bool {
    !matches!(action, Action::ReadLease | Action::AskPeer | Action::Pulse(_) | Action::Announce(_))
}

/// Names of the flags that a pulse carries.
pub fn flags(flags: u16) -> String {
    let known = [
        (flag::PRIMARY, "primary"),
        (flag::SYNC, "sync"),
        (flag::RESIGN, "resign"),
        (flag::PG_PRIMARY, "pg-primary"),
        (flag::PG_UP, "pg-up"),
        (flag::LEASED, "leased"),
        (flag::WAIVED, "waived"),
        (flag::ASKS_WAIVER, "asks-waiver"),
        (flag::UNWELL, "unwell"),
        (flag::UNFIT, "unfit"),
    ];
    known.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect::<Vec<_>>().join("+")
}
