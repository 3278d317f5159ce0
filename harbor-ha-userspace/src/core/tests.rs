//! Tests of the core. [`Node`] keeps the clock, feeds inputs and collects actions; a test reads top down.

mod cluster;
mod demote;
mod flows;
mod handover;
mod lag;
mod lease;
mod lease_sim;
mod plain;
mod refusals;
mod rejoin;
mod takeover;
mod terms;
mod tracking;
mod walk;

use harbor_ha_ebpf::records::{Source, VerdictKind};
use harbor_ha_ebpf::units::{Nanos, Priority};
use harbor_ha_ebpf::wire::pulse::flag;

use super::facts::{AtRest, Lsn, PgFacts};
use super::rules::{SyncPolicy, master_down};
use super::*;

const MS: u64 = 1_000_000;

const fn ms(millis: u64) -> Nanos {
    Nanos::from_millis(millis)
}

/// A node under test, at an instant.
struct Node {
    core: Core,
    now: Nanos,
    out: Actions,
    /// What the last step caused, without what the disk answers at once.
    did: Vec<Action>,
    /// How the disk answers.
    disk: Result<(), String>,
    /// What the kernel says of its promise and its lease.
    promise: Nanos,
    leased: Nanos,
}

fn rules(priority: u8) -> Rules {
    Rules {
        priority: Priority(priority),
        addresses: (2, 1),
        adverts: true,
        advert_interval: ms(1000),
        start_wait: master_down(3, Priority(priority), ms(1000)),
        preempt: false,
        preempt_delay: ms(0),
        announce_repeat: 5,
        announce_delay: ms(5000),
        announce_refresh: ms(60_000),
        announce_refresh_repeat: 1,
        postgres: false,
        sync: SyncPolicy::Required,
        max_lag: 1 << 24,
        probe_fall: 3,
        lease: None,
    }
}

fn primary(timeline: u32) -> PgFacts {
    PgFacts {
        in_recovery: false,
        system_identifier: 7,
        timeline,
        lsn: Lsn(100),
        streaming: false,
        peer_is_sync: false,
        sync_names: String::new(),
        replay_paused: false,
        ..PgFacts::default()
    }
}

fn standby(timeline: u32) -> PgFacts {
    PgFacts { in_recovery: true, streaming: true, ..primary(timeline) }
}

fn at_rest(timeline: u32) -> AtRest {
    let (standby_signal, promotion_broke_off, rejoin_pending) = (false, false, false);
    AtRest { standby_signal, promotion_broke_off, clean: true, system_identifier: 7, timeline, rejoin_pending }
}

fn announces(actions: &[Action]) -> usize {
    actions.iter().filter(|action| matches!(action, Action::Announce(_) | Action::Advert(Priority(1..)))).count()
}

impl Node {
    fn new(rules: Rules) -> Self {
        let now = ms(10_000);
        Self::of_terms(rules, Terms { seen: 1, mine: 1, ..Terms::default() }, now)
    }

    fn of_terms(rules: Rules, terms: Terms, now: Nanos) -> Self {
        Self {
            core: Core::new(rules, terms, Adopted::default(), now),
            now,
            out: Actions::default(),
            did: Vec::new(),
            disk: Ok(()),
            promise: now,
            leased: Nanos(0),
        }
    }

    /// Plain VRRP, the link is up.
    fn plain(rules: Rules) -> Self {
        let mut node = Self::new(rules);
        node.feed(Input::Link(true));
        node
    }

    /// With pulses and a PostgreSQL that says this; the link is up.
    fn with(facts: PgFacts) -> Self {
        let term = u64::from(facts.timeline);
        let mine = if facts.in_recovery { 0 } else { term };
        let reserved = if facts.in_recovery { term + 1 } else { 0 };
        let rules = Rules { postgres: true, start_wait: ms(500), ..rules(100) };
        let mut node = Self::of_terms(rules, Terms { seen: term, mine, reserved, waived: 0 }, ms(10_000));
        node.feed(Input::Link(true));
        node.says(facts);
        node
    }

    /// A standby whose peer serves with it as its synchronous standby.
    fn standby() -> Self {
        let mut node = Self::with(standby(1));
        node.pulse(PRIMARY | flag::SYNC, 1);
        node
    }

    /// A primary that serves, its peer a standby.
    fn primary() -> Self {
        let mut node = Self::with(primary(1));
        node.pulse(flag::PG_UP, 1);
        node.served();
        assert_eq!(node.core.state, VrrpState::Master);
        node
    }

    fn feed(&mut self, input: Input) -> &[Action] {
        self.core.handle(self.now, input, &mut self.out);
        self.did = self.out.drain().collect();
        let mut seen = 0;
        while let Some(action) = self.did.get(seen).cloned() {
            let answer = match action {
                Action::StoreTerms(terms) => {
                    self.did.remove(seen);
                    Input::Done(Done::StoreTerms(self.disk.clone().map(|()| terms)))
                }
                Action::ReadLease => {
                    self.did.remove(seen);
                    Input::Lease(self.leased)
                }
                Action::Order(order) => {
                    seen += 1;
                    Input::Done(Done::Ordered { order, promise_until: self.promise })
                }
                _ => {
                    seen += 1;
                    continue;
                }
            };
            self.core.handle(self.now, answer, &mut self.out);
            self.did.extend(self.out.drain());
        }
        assert!(self.out.wake_at().is_none_or(|at| at > self.now), "a deadline in the past: {:?}", self.core);
        &self.did
    }

    /// Lets time go by, waking the core whenever it asked for it; gives everything that it did.
    fn pass(&mut self, length: Nanos) -> Vec<Action> {
        let end = self.now.after(length);
        let mut all = Vec::new();
        while let Some(at) = self.out.wake_at().filter(|&at| at <= end) {
            self.now = at;
            all.extend_from_slice(self.feed(Input::Wake));
        }
        self.now = end;
        self.did.clone_from(&all);
        all
    }

    fn verdict(&mut self, kind: VerdictKind, source: Source, priority: u8, flags: u16, timeline: u32) -> &[Action] {
        let verdict = Verdict {
            at: self.now,
            last_heard: self.now,
            kind,
            source,
            priority,
            flags,
            term: u64::from(timeline),
            timeline,
            lsn: 100,
            system_identifier: 7,
        };
        self.feed(Input::Verdict(verdict))
    }

    fn advert(&mut self, priority: u8) -> &[Action] {
        let kind = if priority == 0 { VerdictKind::Resigned } else { VerdictKind::Said };
        self.verdict(kind, Source::Advert, priority, 0, 0)
    }

    fn pulse(&mut self, flags: u16, timeline: u32) -> &[Action] {
        let kind = if flags & flag::RESIGN == 0 { VerdictKind::Said } else { VerdictKind::Resigned };
        self.verdict(kind, Source::Pulse, 90, flags, timeline)
    }

    /// Silence, after pulses of a primary with a synchronous standby.
    fn dead(&mut self) -> &[Action] {
        let last = self.core.peer.pulse;
        self.verdict(VerdictKind::Dead, Source::Pulse, 90, last.flags, last.timeline)
    }

    fn says(&mut self, facts: PgFacts) -> &[Action] {
        self.news(Postgres::Facts(facts))
    }

    fn news(&mut self, news: Postgres) -> &[Action] {
        self.feed(Input::Postgres { asked: self.now, news })
    }

    fn done(&mut self, done: Done) -> &[Action] {
        self.feed(Input::Done(done))
    }

    fn promoted(&mut self) -> &[Action] {
        self.done(Done::Promote(Ok(Promoted { asked: self.now, promoted: self.now })))
    }

    fn served(&mut self) -> &[Action] {
        self.done(Done::Serve(Ok(Served { vip: self.now, garp: self.now })))
    }

    fn did(&self, action: &Action) -> bool {
        self.did.contains(action)
    }

    fn asks(&self) -> bool {
        self.did(&Action::AskPeer)
    }
}

/// A rejoin by whatever way is shortest.
const REJOIN: Action = Action::Rejoin { anew: false };

/// Flags of a peer that serves.
const PRIMARY: u16 = flag::PRIMARY | flag::PG_UP | flag::PG_PRIMARY;
