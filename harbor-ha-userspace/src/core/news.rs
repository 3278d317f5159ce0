//! What an input changes in what is known: verdicts of the kernel, news of PostgreSQL, ends of actions.
//!
//! What follows from it is decided afterwards, in one place for all inputs (`Core::settle`).

use harbor_ha_ebpf::records::{Source, VerdictKind};
use harbor_ha_ebpf::units::Nanos;

use super::input::{Done, Postgres, Verdict};
use super::peer::{Heartbeat, PeerRole};
use super::*;

impl Core {
    pub(super) fn on_link(&mut self, up: bool) {
        self.link = Some(up);
        if !up {
            // Whatever is not heard from now on, and a while after the link is back, says nothing of the peer.
            self.heard = false;
        }
    }

    /// Network managers flush addresses that are not theirs, and a removal can fail.
    pub(super) fn on_addresses(&mut self, asked: Nanos, all: bool, any: bool, out: &mut Actions) {
        if self.op.is_some() || asked <= self.since.max(self.served_at) {
            return;
        }
        match self.state {
            VrrpState::Master if self.serving && !all => {
                self.serving = false;
                self.why = "a virtual address was removed from the interface: it is put back".to_owned();
                out.push(Action::Report(Report { from: self.state, to: self.state, why: self.why.clone() }));
                // Not in a race with whoever removes it.
                self.retry_at = self.served_at.after(RETRY);
            }
            // A running primary keeps its addresses until it is known whether another one serves.
            VrrpState::Backup | VrrpState::Fault
                if any && !matches!(&self.local, Local::Up(facts) if !facts.in_recovery) =>
            {
                out.push(Action::Withdraw);
            }
            VrrpState::Init | VrrpState::Backup | VrrpState::Master | VrrpState::Fault => {}
        }
    }

    pub(super) fn on_verdict(&mut self, now: Nanos, verdict: &Verdict, out: &mut Actions) {
        self.peer.hear(verdict);
        self.hear_rights(verdict);
        if now.since(verdict.at) > BACKLOG {
            self.backlog_until = now.after(DRAIN);
        }
        match verdict.kind {
            VerdictKind::Alive | VerdictKind::Said | VerdictKind::Resigned | VerdictKind::Hung | VerdictKind::Awake => {
                self.heard = true
            }
            VerdictKind::Missed | VerdictKind::Stalled | VerdictKind::Dead => {}
        }
        // The stamps of a takeover begin with the kernel's own.
        match self.peer.role() {
            PeerRole::Dead if verdict.kind == VerdictKind::Dead => {
                let end = EndOfPeer { why: "silence", at: verdict.at, last_heard: verdict.last_heard };
                self.end_of_peer = Some(end);
            }
            PeerRole::Resigned if verdict.kind == VerdictKind::Resigned => {
                // An advert of priority 0 follows the resigning pulse and is no news.
                self.end_of_peer = self.end_of_peer.filter(|end| end.why == RESIGNED);
                let end = EndOfPeer { why: RESIGNED, at: verdict.at, last_heard: Nanos(0) };
                self.end_of_peer.get_or_insert(end);
            }
            PeerRole::Primary if verdict.kind == VerdictKind::Hung => {
                self.end_of_peer = Some(EndOfPeer { why: "hung", at: verdict.at, last_heard: Nanos(0) });
            }
            // Of its kernel, or that it sends no adverts: its daemon hangs all the same.
            PeerRole::Primary if self.peer.pulse.hung => {}
            PeerRole::Primary => {
                self.handover_reached(Step::PeerServes, verdict.at);
                self.end_of_peer = None;
                self.resigned = false;
                self.leaderless_since = None;
            }
            PeerRole::Standby | PeerRole::Dead | PeerRole::Resigned | PeerRole::Unknown => {}
        }
        if self.state == VrrpState::Master {
            self.heard_as_master(now, verdict, out);
        }
    }

    /// One heartbeat of the peer, as this core was told of it.
    pub const fn heartbeat(&self, source: Source) -> &Heartbeat {
        match source {
            Source::Advert => &self.peer.advert,
            Source::Pulse => &self.peer.pulse,
        }
    }

    /// What the peer does, as far as this node was able to hear it: an end from before it could hear is no news, the
    /// peer may have served and fallen silent since.
    pub(super) fn peer_role(&self) -> PeerRole {
        match self.peer.role() {
            PeerRole::Dead | PeerRole::Resigned if !self.heard => PeerRole::Unknown,
            role => role,
        }
    }

    pub(super) fn on_postgres(&mut self, now: Nanos, news: Postgres, out: &mut Actions) {
        match news {
            Postgres::Facts(mut facts) => {
                self.no_answers = 0;
                if let Local::Up(before) = &self.local
                    && before.in_recovery
                    && facts.in_recovery
                {
                    // Without a WAL receiver a standby knows its timeline from the last restart point only. It never
                    // goes back to an earlier one while it runs.
                    facts.timeline = facts.timeline.max(before.timeline);
                }
                // Its standby has everything, or none is waited for.
                self.lease.tail &= !facts.peer_has_tail && !facts.sync_names.is_empty();
                self.streams = if facts.streaming { self.streams.saturating_add(1) } else { 0 };
                let synced = !facts.in_recovery && !facts.sync_names.is_empty();
                self.peer_synced = synced && !self.setting_sync && (self.peer_synced || facts.peer_is_sync);
                self.local = Local::Up(facts);
                self.weigh_lag(now);
            }
            Postgres::AtRest(rest) => {
                self.no_answers = 0;
                self.local = Local::Rest(rest);
            }
            Postgres::NotReady(reason) => {
                self.no_answers = 0;
                if !matches!(self.local, Local::Up(_)) {
                    self.local = Local::NotReady(reason);
                }
            }
            Postgres::Exited => {
                self.no_answers = 0;
                self.local = Local::Unknown;
                if let Some(Op::Checkpoint(leave)) = self.op {
                    // The hand-over goes on without its checkpoint.
                    let after = After { resign: true, exit: leave == Leave::Terminate };
                    self.stop(StopMode::Kill, after, out);
                } else if self.paused {
                    self.why = "PostgreSQL of this node ended, and automatic action is paused".to_owned();
                } else if self.state == VrrpState::Master && self.op.is_none_or(|op| op == Op::Serve) {
                    self.lost_postgres(now, "PostgreSQL of this node ended", out);
                }
            }
            Postgres::NoAnswer => {
                self.no_answers = self.no_answers.saturating_add(1);
                if self.no_answers >= self.rules.probe_fall && self.op.is_none() && !self.paused {
                    self.hung(now, out);
                }
            }
        }
    }

    pub(super) fn on_done(&mut self, now: Nanos, done: Done, out: &mut Actions) {
        if !matches!(done, Done::Serve(_) | Done::Checkpoint) {
            self.local_since = now;
        }
        match done {
            // Taken in before, as it changes nothing of PostgreSQL.
            Done::StoreTerms(_) | Done::Ordered { .. } | Done::Witness { .. } => {}
            Done::Promote(result) => self.promoted(now, result, out),
            Done::Serve(result) => self.served(now, result, out),
            Done::Checkpoint => {
                if let Some(Op::Checkpoint(leave)) = self.op {
                    self.op = None;
                    if self.still_leaves(now, leave) {
                        let after = After { resign: true, exit: leave == Leave::Terminate };
                        self.stop(StopMode::Fast, after, out);
                    }
                }
            }
            Done::Stop(result) => self.stopped(now, result, out),
            Done::Start(_) if self.op != Some(Op::Start) => {}
            Done::Rejoin(_) if !matches!(self.op, Some(Op::Rejoin { .. })) => {}
            Done::Start(result) => {
                self.op = None;
                self.no_answers = 0;
                // The monitor tells how it is; until then nothing is known.
                self.local = Local::Unknown;
                if let Err(error) = result {
                    self.retry_at = now.after(RETRY);
                    self.why = format!("PostgreSQL did not start: {error}");
                }
            }
            Done::Rejoin(result) => {
                let anew = self.op == Some(Op::Rejoin { anew: true });
                self.op = None;
                self.no_answers = 0;
                self.local = Local::Unknown;
                match result {
                    Err(error) => {
                        self.retry_at = now.after(RETRY);
                        self.why = format!("rejoin failed: {error}");
                        // It may be a primary no more: what it said once must not send us there for ever.
                        self.peer.postgres = None;
                    }
                    Ok(()) => {
                        // One that was asked for meanwhile is still to come.
                        self.reinit &= !anew;
                        self.stalled_since = None;
                        self.why = "rejoined as a standby".to_owned();
                    }
                }
            }
            Done::SetSync(result) => {
                self.setting_sync = false;
                match (result, &mut self.local) {
                    (Ok(names), Local::Up(facts)) => facts.sync_names = names,
                    (Ok(_), Local::Unknown | Local::NotReady(_) | Local::Rest(_)) => {}
                    (Err(error), _) => {
                        // Its own delay: a takeover or a rejoin must not wait for it.
                        self.sync_retry_at = now.after(RETRY);
                        self.why = format!("cannot set `synchronous_standby_names`: {error}");
                    }
                }
            }
        }
    }
}
