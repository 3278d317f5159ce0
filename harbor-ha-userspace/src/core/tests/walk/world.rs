//! Two hosts with a core, a detector (the kernel's own functions) and a model of PostgreSQL each.

use std::collections::{BTreeMap, VecDeque};

use harbor_ha_ebpf::records::{Detector, State};

use super::host::{ADVERT, Host, PULSE, priority};
use super::server::Server;
use super::*;

const TICK: Nanos = ms(5);
const PROBE: Nanos = ms(100);

/// How a healed world ends.
pub enum Outcome {
    /// One serves, the other one streams.
    Streams,
    /// Nobody may start unasked: two data directories, each of which may be the last primary.
    NeedsAHuman,
}

pub struct World {
    pub now: Nanos,
    pub dice: u64,
    pub hosts: [Host; 2],
    pub cut: bool,
    pub lossy: bool,
    pub faulty: bool,
    pub tell: bool,
    pub sync: bool,
    /// Without pulses.
    pub adverts: bool,
    /// Who served in which term.
    primaries: BTreeMap<u64, usize>,
}

impl World {
    pub fn new(seed: u64, tell: bool) -> Self {
        let host = |signal| Host {
            power: true,
            core: None,
            out: Actions::default(),
            frozen_until: Nanos(0),
            link: true,
            pg: Server { running: true, signal, timeline: 1, lsn: 1, ..Server::default() },
            disk: Terms::default(),
            heard: Detector::default(),
            said: PulseState::default(),
            queue: VecDeque::new(),
            coming: Vec::new(),
            answer_at: None,
            back_at: Nanos(0),
            heavy: (0, 0),
            adverts: seed % 4 == 3,
        };
        let dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let hosts = [host(false), host(true)];
        Self {
            now: ms(1000),
            dice,
            hosts,
            cut: false,
            lossy: false,
            faulty: false,
            tell,
            sync: !seed.is_multiple_of(3),
            adverts: seed % 4 == 3,
            primaries: BTreeMap::new(),
        }
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % limit
    }

    fn story(&self, text: impl FnOnce() -> String) {
        if self.tell {
            eprintln!("{:>9} {}", self.now.0 / MS, text());
        }
    }

    pub fn run(&mut self, length: Nanos) {
        let end = self.now.after(length);
        while self.now < end {
            self.now = self.now.after(TICK);
            for i in 0..2 {
                self.tick(i);
            }
        }
    }

    /// Runs until all is well, and stays so for a second.
    pub fn settle(&mut self, within: Nanos) -> Result<Outcome, String> {
        let end = self.now.after(within);
        while self.now < end {
            self.run(ms(500));
            if self.well() {
                self.run(ms(1000));
                if self.well() {
                    return Ok(Outcome::Streams);
                }
            }
        }
        let holds = |host: &Host| !host.pg.running && (!host.pg.signal || host.pg.pending);
        if self.hosts.iter().all(holds) {
            return Ok(Outcome::NeedsAHuman);
        }
        let view = |host: &Host| format!("{:?}\n{:?}\n", host.pg, host.core);
        Err(self.hosts.iter().map(view).collect())
    }

    fn well(&self) -> bool {
        let serves = |host: &Host| host.core.as_ref().is_some_and(|core| core.serving) && host.pg.is_primary();
        (0..2).any(|i| serves(&self.hosts[i]) && self.streams(1 - i) && !self.hosts[1 - i].pg.diverged)
    }

    pub fn joined(&self) -> bool {
        !self.cut && self.hosts.iter().all(|host| host.power && host.link)
    }

    /// The standby of `i` streams from the other host.
    fn streams(&self, i: usize) -> bool {
        let (ours, theirs) = (&self.hosts[i].pg, &self.hosts[1 - i].pg);
        self.joined() && ours.running && ours.signal && theirs.is_primary() && !ours.diverged && !theirs.hung
    }

    pub fn fault(&mut self) {
        self.faulty = true;
        let (i, kind) = (self.below(2) as usize, self.below(11));
        let back = self.now.after(ms(50 + self.below(6000)));
        self.story(|| format!("{i}: fault {kind} until {}", back.0 / MS));
        let host = &mut self.hosts[i];
        match kind {
            0 => {
                host.power = false;
                host.core = None;
                host.pg.running = false;
                host.heard = Detector::default();
                host.back_at = back;
            }
            1 => {
                host.core = None;
                host.back_at = back;
            }
            2 | 3 => host.end_server(),
            4 => {
                host.link = false;
                host.queue.push_back(Input::Link(false));
            }
            5 => self.cut = true,
            6 => host.frozen_until = back,
            7 => host.pg.hung = host.pg.running,
            8 => self.lossy = true,
            9 => host.queue.push_back(Input::Command(Command::Terminate)),
            _ => host.queue.push_back(Input::Command(Command::Switchover)),
        }
        if kind > 5 || self.below(2) == 0 {
            self.mend();
        }
    }

    /// Links and the wire are as they should be.
    fn mend(&mut self) {
        (self.cut, self.lossy) = (false, false);
        for host in &mut self.hosts {
            host.pg.hung = false;
            if !host.link {
                host.link = true;
                host.queue.push_back(Input::Link(true));
            }
        }
    }

    pub fn heal(&mut self) {
        self.story(|| "healed".to_owned());
        self.mend();
        self.faulty = false;
        for host in &mut self.hosts {
            host.frozen_until = self.now;
            host.back_at = self.now;
        }
    }

    fn tick(&mut self, i: usize) {
        let now = self.now;
        if self.hosts[i].core.is_none() && now >= self.hosts[i].back_at {
            self.boot(i);
        }
        if self.streams(i) {
            let (timeline, lsn) = (self.hosts[1 - i].pg.timeline, self.hosts[1 - i].pg.lsn);
            (self.hosts[i].pg.timeline, self.hosts[i].pg.lsn) = (timeline, lsn);
        }
        if self.hosts[i].pg.is_primary() && self.hosts[i].core.as_ref().is_some_and(|core| core.serving) {
            // Commits wait for the standby that is named.
            if !self.hosts[i].pg.names || self.streams(1 - i) {
                self.hosts[i].pg.lsn += 1;
            }
        }
        if now.0.is_multiple_of(PULSE.0) {
            self.pulse(i);
        }
        self.expire(i);
        let frozen = now < self.hosts[i].frozen_until;
        let due = std::mem::take(&mut self.hosts[i].coming);
        let (due, later): (Vec<_>, Vec<_>) = due.into_iter().partition(|(at, _)| *at <= now);
        self.hosts[i].coming = later;
        for (_, done) in due {
            let done = self.finish(i, done);
            self.hosts[i].queue.push_back(Input::Done(done));
            self.probe(i, now);
        }
        if self.hosts[i].answer_at.is_some_and(|at| now >= at) {
            self.hosts[i].answer_at = None;
            let theirs = &self.hosts[1 - i].pg;
            let facts = (self.joined() && theirs.running && !theirs.hung).then(|| self.facts(1 - i));
            self.hosts[i].queue.push_back(Input::PeerPostgres(facts));
        }
        if now.0.is_multiple_of(PROBE.0) && !frozen {
            // Sometimes what was read arrives late.
            let asked = Nanos(now.0 - self.below(2) * 30 * MS);
            self.probe(i, asked);
        }
        if !frozen {
            while let Some(input) = self.hosts[i].queue.pop_front() {
                self.handle(i, input);
            }
            if self.hosts[i].out.wake_at().is_some_and(|at| at <= now) {
                self.handle(i, Input::Wake);
            }
        }
    }

    fn boot(&mut self, i: usize) {
        let host = &mut self.hosts[i];
        host.power = true;
        let rules = Rules {
            priority: priority(i),
            addresses: (i as u32 + 1, 2 - i as u32),
            adverts: self.adverts,
            advert_interval: ADVERT,
            start_wait: if self.adverts { master_down(3, priority(i), ADVERT) } else { ms(500) },
            postgres: true,
            sync: if self.sync { SyncPolicy::Required } else { SyncPolicy::Off },
            ..rules(100)
        };
        host.core = Some(Core::new(rules, host.disk, Adopted::default(), self.now));
        (host.out, host.said) = (Actions::default(), PulseState::default());
        (host.answer_at, host.pg.ended) = (None, false);
        host.queue.clear();
        // A stop, a start or a promotion is done by other processes and may go on; nobody hears of its end.
        host.coming.clear();
        host.queue.push_back(Input::Link(host.link));
        if host.heard.state == State::Alive as u32 {
            let known = host.verdict(VerdictKind::Alive, self.now);
            host.queue.push_front(known);
        }
        self.story(|| format!("{i}: daemon starts"));
    }

    fn facts(&self, i: usize) -> PgFacts {
        let pg = &self.hosts[i].pg;
        let streaming = if pg.signal { self.streams(i) } else { self.streams(1 - i) };
        PgFacts {
            in_recovery: pg.signal,
            timeline: pg.timeline,
            lsn: Lsn(pg.lsn),
            streaming,
            peer_is_sync: !pg.signal && streaming && pg.names,
            sync_names: if pg.names { "peer".to_owned() } else { String::new() },
            ..primary(1)
        }
    }

    fn probe(&mut self, i: usize, asked: Nanos) {
        let pg = &self.hosts[i].pg;
        let news = match (pg.running, pg.hung) {
            (true, true) => Postgres::NoAnswer,
            (true, false) => Postgres::Facts(self.facts(i)),
            (false, _) => Postgres::AtRest(AtRest {
                standby_signal: pg.signal,
                rejoin_pending: pg.pending,
                ..at_rest(pg.timeline)
            }),
        };
        self.hosts[i].queue.push_back(Input::Postgres { asked, news });
    }

    fn handle(&mut self, i: usize, input: Input) {
        let now = self.now;
        let host = &mut self.hosts[i];
        let Some(core) = &mut host.core else {
            return;
        };
        let routine = matches!(&input, Input::Verdict(verdict) if verdict.kind == VerdictKind::Missed);
        let is_news = !routine && !matches!(&input, Input::Wake | Input::Postgres { .. });
        if matches!(&input, Input::Postgres { news: Postgres::Exited, .. }) {
            host.pg.ended = false;
        }
        let text = format!("{input:?}");
        core.handle(now, input, &mut host.out);
        assert!(host.out.wake_at().is_none_or(|at| at > now), "a deadline in the past: {core:?}");
        let serving = core.serving;
        let actions: Vec<_> = host.out.drain().collect();
        if is_news || actions.iter().any(|action| !matches!(action, Action::Pulse(_) | Action::AskPeer)) {
            self.story(|| format!("{i}: {text} -> {actions:?}"));
        }
        let pg = &self.hosts[i].pg;
        assert!(!serving || pg.is_primary() || pg.ended, "{i} serves and is no primary: {pg:?}");
        for action in actions {
            self.perform(i, action);
        }
        self.check_term(i);
    }

    fn perform(&mut self, i: usize, action: Action) {
        let fails = self.faulty && self.below(8) == 0;
        let result = || if fails { Err("bad luck".to_owned()) } else { Ok(()) };
        let (length, done) = match action {
            Action::Pulse(state) => {
                self.hosts[i].said = state;
                self.pulse(i);
                return;
            }
            Action::AskPeer => {
                let wait = if self.joined() { 10 } else { 2000 };
                self.hosts[i].answer_at = Some(self.now.after(ms(wait)));
                return;
            }
            Action::Exit => {
                self.hosts[i].core = None;
                self.hosts[i].back_at = self.now.after(ms(200 + self.below(2000)));
                return;
            }
            Action::Serve => {
                let stamps = Served { vip: self.now, garp: self.now };
                (ms(0), Done::Serve(result().map(|()| stamps)))
            }
            Action::Promote => {
                self.check_promote(i);
                let stamps = Promoted { asked: self.now, promoted: self.now };
                (ms(10 + self.below(100)), Done::Promote(result().map(|()| stamps)))
            }
            Action::Checkpoint => (ms(self.below(200)), Done::Checkpoint),
            Action::Stop(_) => (ms(self.below(300)), Done::Stop(result())),
            Action::Start { standby } => {
                assert!(standby || !self.hosts[i].pg.pending, "a start in the middle of a rejoin");
                (ms(50 + self.below(800)), Done::Start(result()))
            }
            Action::Rejoin { .. } => {
                self.hosts[i].pg.pending = true;
                (ms(200 + self.below(2000)), Done::Rejoin(result()))
            }
            Action::SetSync { peer } => {
                let names = if peer { "peer" } else { "" };
                (ms(self.below(20)), Done::SetSync(result().map(|()| names.to_owned())))
            }
            Action::StoreTerms(terms) => (ms(self.below(20)), Done::StoreTerms(result().map(|()| terms))),
            Action::Advert(priority) => {
                self.advert(i, priority);
                return;
            }
            Action::Announce(_)
            | Action::Withdraw
            | Action::Report(_)
            | Action::Notify(_)
            | Action::Tickle
            | Action::Reset(_) => return,
            // Without a lease nobody asks for these.
            Action::Order(_) | Action::ReadLease | Action::Prepare | Action::Witness(_) | Action::StorePause(_) => {
                return;
            }
        };
        if !matches!(done, Done::SetSync(_) | Done::StoreTerms(_)) {
            let host = &mut self.hosts[i];
            let second = self.now.0 / (1000 * MS);
            host.heavy = if host.heavy.0 == second { (second, host.heavy.1 + 1) } else { (second, 1) };
            assert!(host.heavy.1 < 20, "a storm of heavy actions: {:?}", host.core);
        }
        self.hosts[i].coming.push((self.now.after(length), done));
    }

    /// I3: of each term one primary, ever.
    fn check_term(&mut self, i: usize) {
        let Some(core) = self.hosts[i].core.as_ref().filter(|core| core.serving) else { return };
        let term = core.terms.claim();
        assert!(self.hosts[i].disk.claim() >= term, "{i} serves in a term that is not on disk: {core:?}");
        let holder = *self.primaries.entry(term).or_insert(i);
        assert!(holder == i || self.adverts, "two primaries of term {term}");
    }

    fn check_promote(&self, i: usize) {
        let theirs = self.hosts[1 - i].core.as_ref();
        let heard = State::from_u32(self.hosts[i].heard.state);
        let fresh = self.now.0 - self.hosts[i].heard.last_arrival_ns <= 2 * PULSE.0;
        let serves = theirs.is_some_and(|core| core.serving) && fresh && matches!(heard, State::Alive);
        assert!(!serves || !self.joined(), "{i} promotes beside a primary that it hears");
    }
}
