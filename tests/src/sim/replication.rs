//! Servers at work: the ends of actions on them, streaming between them, clients that write and read.

use harbor_ha::core::facts::{Lsn, PgFacts};
use harbor_ha::core::{Done, Postgres, Promoted, StopMode};
use harbor_ha_ebpf::decide::gate::Gate;

use super::mutants::Mutant;
use super::perform::Op;
use super::postgres::{Client, ENTRY, Entry, Process};
use super::renewal::Renewal;
use super::schedule::MS;
use super::world::World;

pub fn failed<T>(why: &str) -> Result<T, String> {
    Err(why.to_owned())
}

impl World {
    /// What PostgreSQL of `i` says of itself.
    pub fn facts(&self, i: usize) -> PgFacts {
        let mut facts = self.nodes[i].server.facts(self.now);
        if !facts.in_recovery && facts.streaming {
            let theirs = self.nodes[1 - i].server.log.len().min(self.nodes[i].server.log.len());
            facts.peer_lsn = Lsn(theirs as u64 * ENTRY);
        }
        match self.mutant {
            Some(Mutant::TailNotAwaited) if !facts.in_recovery => {
                (facts.peer_has_tail, facts.peer_is_sync) = (true, !facts.sync_names.is_empty());
            }
            _ => {}
        }
        facts
    }

    /// Whether a connection to PostgreSQL of `i` gets an answer.
    pub fn answers(&self, i: usize) -> bool {
        self.nodes[i].server.process == Process::Up && !self.nodes[i].server.is_hung(self.now)
    }

    /// What the monitor of `i` tells.
    pub fn news(&self, i: usize) -> Postgres {
        let server = &self.nodes[i].server;
        match server.process {
            Process::Up if server.is_hung(self.now) => Postgres::NoAnswer,
            Process::Up => Postgres::Facts(self.facts(i)),
            Process::Starting => Postgres::NotReady("the database system is starting up".to_owned()),
            Process::Stopping => Postgres::NotReady("the database system is shutting down".to_owned()),
            Process::Down | Process::Orphans => Postgres::AtRest(server.at_rest()),
        }
    }

    /// An action begins; its number.
    pub fn begin_on_server(&mut self, i: usize, op: Op) -> u64 {
        let server = &mut self.nodes[i].server;
        if matches!(op, Op::SetSync(_) | Op::Checkpoint) {
            return server.action;
        }
        if server.process == Process::Stopping && op != Op::Stop(StopMode::Kill) {
            server.stopped(false);
        }
        server.action += 1;
        match op {
            Op::Stop(_) if matches!(server.process, Process::Up | Process::Starting) => {
                server.process = Process::Stopping;
                // Backends end without a word to their clients.
                server.waiting.clear();
            }
            Op::Start if server.process == Process::Down && !server.pending => server.process = Process::Starting,
            Op::Rejoin { .. } => server.pending = true,
            Op::Promote => server.promoting = true,
            _ => {}
        }
        server.action
    }

    /// An action ends: what it did. `None`: another one has taken its place.
    pub fn end_on_server(&mut self, i: usize, number: u64, op: Op, fails: bool, ours: bool) -> Option<Done> {
        let now = self.now;
        let local = self.local(i);
        let current = self.nodes[i].server.action == number;
        let answers = self.answers(i);
        match op {
            Op::Checkpoint => return Some(Done::Checkpoint),
            Op::SetSync(peer) => return Some(Done::SetSync(self.set_sync(i, peer, fails || !answers))),
            Op::Promote if fails || !current || !answers || !self.nodes[i].server.signal => {
                self.nodes[i].server.promoting = false;
                return Some(Done::Promote(failed("no promotion")));
            }
            Op::Promote => {
                self.writes += 1;
                let id = self.writes;
                let server = &mut self.nodes[i].server;
                // The journal is closed first; a directory that was put aside stays.
                (server.pending, server.renewal) = (false, None);
                server.promote(id);
                server.stream_until = now;
                self.tell_story(|| format!("{i}: PostgreSQL is promoted"));
                return Some(Done::Promote(Ok(Promoted { asked: local, promoted: local })));
            }
            _ if !current => {}
            Op::Stop(_) if fails => {
                self.nodes[i].server.dies_at = now + 3000 * MS;
                return Some(Done::Stop(failed("processes do not die")));
            }
            Op::Stop(mode) => {
                let fast = mode == StopMode::Fast && self.nodes[i].server.process == Process::Stopping;
                if fast && !self.nodes[i].server.signal {
                    // A fast shutdown ends when every connected standby has everything.
                    self.stream(1 - i);
                }
                self.nodes[i].server.stopped(fast);
                return Some(Done::Stop(Ok(())));
            }
            Op::Start => {
                let server = &mut self.nodes[i].server;
                let started = !fails && !server.pending && server.process == Process::Starting;
                server.process = match server.process {
                    Process::Starting if started => Process::Up,
                    Process::Starting => Process::Down,
                    other => other,
                };
                let result = if started || server.process == Process::Up { Ok(()) } else { failed("it ended at once") };
                return Some(Done::Start(result));
            }
            Op::Rejoin { anew } if ours => return self.rejoin(i, anew, fails).map(Done::Rejoin),
            Op::Rejoin { .. } => return None,
        }
        // Overtaken by a crash or by another action.
        Some(match op {
            Op::Stop(_) => Done::Stop(Ok(())),
            Op::Start => Done::Start(failed("it was stopped")),
            _ => Done::Rejoin(failed("it was stopped")),
        })
    }

    /// One move of a rejoin; `None`: it goes on.
    fn rejoin(&mut self, i: usize, anew: bool, fails: bool) -> Option<Result<(), String>> {
        let primary = self.joined() && self.nodes[1 - i].server.is_primary() && self.answers(1 - i);
        if self.nodes[i].server.renewal.is_some() {
            return self.renew(i, fails, primary);
        }
        if fails || !primary || self.nodes[i].server.process != Process::Down {
            return Some(failed("the peer is no primary, or does not answer"));
        }
        // What an operator asks for, and what `pg_rewind` cannot help.
        if anew || self.dice.below(4) == 0 {
            self.nodes[i].server.renewal = Some(Renewal::default());
            self.go_on_with_rejoin(i);
            return None;
        }
        let theirs = self.nodes[1 - i].server.clone();
        let server = &mut self.nodes[i].server;
        server.log = theirs.log;
        server.timeline = theirs.timeline;
        (server.signal, server.pending, server.clean, server.broke_off) = (true, false, false, false);
        server.process = Process::Up;
        Some(Ok(()))
    }

    fn set_sync(&mut self, i: usize, peer: bool, fails: bool) -> Result<String, String> {
        if fails {
            return failed("no connection");
        }
        if !peer && self.nodes[i].server.names {
            self.check_release(i);
        }
        let server = &mut self.nodes[i].server;
        server.names = peer;
        server.waits = peer && self.mutant != Some(Mutant::StandbyNotNamed);
        if !peer {
            self.acknowledge(i, usize::MAX);
        }
        Ok(if peer { "peer".to_owned() } else { String::new() })
    }

    /// Whether the standby `i` gets what its primary writes.
    pub fn streams(&self, i: usize) -> bool {
        let (ours, theirs) = (&self.nodes[i].server, &self.nodes[1 - i].server);
        let connected = self.joined() && self.answers(i) && self.now >= self.nodes[i].broken.stream;
        let serves = theirs.process == Process::Up || theirs.process == Process::Stopping;
        connected
            && ours.signal
            && !ours.broke_off
            && serves
            && !theirs.signal
            && theirs.timeline >= ours.timeline
            && theirs.holds(&ours.log)
    }

    fn stream(&mut self, i: usize) {
        if !self.streams(i) {
            return;
        }
        // Both sides go on showing a stream for as long as their timeouts last.
        let shown = self.now + 20 * MS + self.stale;
        let [a, b] = &mut self.nodes;
        let (ours, theirs) = if i == 0 { (a, b) } else { (b, a) };
        let known = ours.server.log.len();
        ours.server.log.extend_from_slice(&theirs.server.log[known..]);
        ours.server.timeline = theirs.server.timeline;
        (ours.server.stream_until, theirs.server.stream_until) = (shown, shown);
        ours.server.renewal.iter_mut().for_each(Renewal::streamed);
    }

    /// Replication and clients go on.
    pub fn tick(&mut self) {
        for i in 0..2 {
            let server = &mut self.nodes[i].server;
            if server.process == Process::Orphans && self.now >= server.hung_until {
                server.stopped(false);
            }
            if server.process == Process::Stopping && self.now >= server.dies_at {
                server.stopped(false);
                self.exited(i);
            }
            if self.nodes[i].server.process != Process::Up && self.joined() {
                // The connection is reset: both sides notice.
                for node in &mut self.nodes {
                    node.server.stream_until = node.server.stream_until.min(self.now);
                }
            }
        }
        for i in 0..2 {
            let before = self.nodes[i].server.log.len();
            // What the standby had at the last tick is what the primary knows of now.
            if self.streams(i) {
                self.acknowledge(1 - i, before);
                if self.dice.below(8) != 0 {
                    self.stream(i);
                }
            }
        }
        let (now, havip) = (self.now, self.schedule.havip);
        // Careless: whatever the pair is doing.
        if havip && self.dice.below(400) == 0 && self.havip.bind_by_hand(now) {
            self.tell_story(|| "-- an operator binds both".to_owned());
        }
        let remote = self.arp.filter(|&i| self.nodes[i].hears(now) && (!havip || self.havip.reaches(now, i)));
        for (i, client) in [(remote, Client::Remote), (Some(0), Client::Local), (Some(1), Client::Local)] {
            let Some(i) = i else { continue };
            if (self.nodes[i].vip || client == Client::Remote) && self.dice.below(3) == 0 {
                self.client(i, client);
            }
        }
    }

    /// A client has a connection to `i`, and uses it.
    fn client(&mut self, i: usize, client: Client) {
        let now = self.now;
        let node = &self.nodes[i];
        if !node.power || node.is_frozen(now) || node.server.is_hung(now) || self.gate(i) != Gate::Open {
            return;
        }
        let orphan = node.server.process == Process::Orphans;
        if !node.server.is_primary() && !orphan {
            return;
        }
        if self.dice.below(4) == 0 && !orphan {
            let seen = node.server.visible();
            self.coverage.reads += 1;
            self.check_ack(i, seen);
            return;
        }
        self.writes += 1;
        let id = self.writes;
        let server = &mut self.nodes[i].server;
        server.log.push(Entry { timeline: server.timeline, id });
        let at = server.log.len();
        if !server.waits {
            self.deliver(i, at, client);
        } else if !orphan {
            server.waiting.push((at, client));
        }
    }

    /// The standby of `i` has everything below `place`: commits that waited for it are acknowledged.
    fn acknowledge(&mut self, i: usize, place: usize) {
        if self.nodes[i].server.waiting.is_empty() || self.nodes[i].server.process != Process::Up {
            return;
        }
        let waiting = std::mem::take(&mut self.nodes[i].server.waiting);
        for (at, client) in waiting {
            if at <= place {
                self.deliver(i, at, client);
            } else {
                self.nodes[i].server.waiting.push((at, client));
            }
        }
    }

    /// The commit of the entry before `at` is acknowledged, if the gate lets it out.
    fn deliver(&mut self, i: usize, at: usize, client: Client) {
        let node = &self.nodes[i];
        if node.is_frozen(self.now) || self.gate(i) != Gate::Open || (client == Client::Remote && !node.hears(self.now))
        {
            return;
        }
        self.coverage.acks[client as usize] += 1;
        self.acked_at = self.now;
        self.check_ack(i, at);
    }
}
