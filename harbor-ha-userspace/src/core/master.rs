//! Serving: adverts and announcements, other primaries, loss of PostgreSQL, handing over.

use harbor_ha_ebpf::records::{Source, State, VerdictKind};
use harbor_ha_ebpf::units::{Nanos, Priority};
use harbor_ha_ebpf::wire::pulse::flag;

use super::lease::Rights;
use super::peer::PeerRole;
use super::{
    Action, Actions, After, Core, Leave, Local, Op, Promoted, RESIGN_PATIENCE, RETRY, Served, Step, StopMode, Verdict,
    VrrpState,
};

impl Core {
    pub(super) fn promoted(&mut self, now: Nanos, result: Result<Promoted, String>, out: &mut Actions) {
        if self.op != Some(Op::Promote) {
            return;
        }
        self.op = None;
        match result {
            Ok(_) if !matches!(self.local, Local::Up(_)) => {
                self.why = "PostgreSQL of this node ended while it was promoted".to_owned();
            }
            Ok(stamps) => {
                if let Some(takeover) = &mut self.takeover {
                    takeover.promote_ns = stamps.asked.0;
                    takeover.promoted_ns = stamps.promoted.0;
                }
                if let Local::Up(facts) = &mut self.local {
                    // The next facts tell the rest; these are certain. Nobody streams from a new primary yet: its
                    // `streaming` so far was that of our own receiver.
                    facts.in_recovery = false;
                    facts.streaming = false;
                    facts.peer_is_sync = false;
                    facts.timeline += 1;
                    if !facts.sync_names.is_empty() && !self.setting_sync {
                        self.setting_sync = true;
                        out.push(Action::SetSync { peer: false });
                    }
                }
                self.lease.tail = false;
                if self.link == Some(false) {
                    self.why = "the interface went down during the takeover".to_owned();
                    self.stop(StopMode::Fast, After { resign: false, exit: false }, out);
                } else if self.peer.role() != PeerRole::Primary {
                    let why = self.why.clone();
                    self.begin_serving(now, &why, out);
                }
                // Else timelines decide, as between any two primaries.
            }
            Err(error) => {
                self.retry_at = now.after(RETRY);
                self.why = format!("promotion failed: {error}");
                self.forced = false;
                self.lease.next = Rights::default();
                self.release_key(now, out);
                if self.rules.lease.is_some() {
                    out.push(Action::Withdraw);
                }
            }
        }
    }

    pub(super) fn served(&mut self, now: Nanos, result: Result<Served, String>, out: &mut Actions) {
        if self.op == Some(Op::Serve) {
            self.op = None;
        }
        if self.state != VrrpState::Master || matches!(self.op, Some(Op::Stop(_))) {
            // Overtaken by a stop, which takes the addresses off after they were put on.
            return;
        }
        match result {
            Ok(stamps) => {
                self.serving = true;
                self.served_at = now;
                // Put back later, they are no part of the takeover any more.
                if let Some(takeover) = self.takeover.as_mut().filter(|takeover| takeover.vip_ns == 0) {
                    takeover.vip_ns = stamps.vip.0;
                    takeover.garp_ns = stamps.garp.0;
                    self.tally.took_over(takeover.why);
                    // Not before the announcement: the answers must come here.
                    out.push(Action::Tickle);
                }
                let rules = &self.rules;
                self.second_burst_at = (rules.announce_delay.0 > 0).then(|| now.after(rules.announce_delay));
                self.refresh_at = (rules.announce_refresh.0 > 0)
                    .then(|| now.after(rules.announce_delay).after(rules.announce_refresh));
            }
            Err(error) => {
                self.why = format!("cannot put up the virtual addresses: {error}");
                self.retry_at = now.after(RETRY);
            }
        }
    }

    pub(super) fn settle_master(&mut self, now: Nanos, out: &mut Actions) {
        self.decide_master(now, out);
        // Last: after a pause of this process everything is due, and a stronger primary may have been heard first.
        if self.state == VrrpState::Master {
            self.run_timers(now, out);
        }
    }

    fn decide_master(&mut self, now: Nanos, out: &mut Actions) {
        if self.op.is_some() {
            return;
        }
        if let Some(why) = self.fault() {
            self.leave_service(now, StopMode::Fast, &why, out);
            return;
        }
        if let Some(leave) = self.leave.take() {
            self.hand_over(now, leave, out);
            return;
        }
        if !self.rules.postgres {
            if self.peer.role() == PeerRole::Primary && !self.outranks_peer() {
                out.push(Action::Withdraw);
                self.enter_backup(now, "the peer is a stronger primary", out);
            } else {
                self.serve_again(now, out);
            }
            return;
        }
        let Local::Up(facts) = &self.local else {
            self.lost_postgres(now, "PostgreSQL of this node is not running", out);
            return;
        };
        if facts.in_recovery {
            self.leave_service(now, StopMode::Fast, "somebody made PostgreSQL of this node a standby", out);
            return;
        }
        let timeline = facts.timeline;
        self.settle_sync(now, out);
        let role = self.peer.role();
        if role == PeerRole::Primary {
            self.two_primaries(now, timeline, out);
        } else if let Some(theirs) = self.peer.pulse_term()
            && self.rules.lease.is_some()
            && theirs > self.terms.claim()
            && self.other_cluster().is_none()
        {
            let ours = self.terms.claim();
            self.stand_down(&format!("the peer knows of a primary of term {theirs}, this one is of term {ours}"), out);
            return;
        }
        if self.state == VrrpState::Master && self.op.is_none() {
            self.settle_tracked(now, out);
        }
        self.serve_again(now, out);
    }

    /// The addresses could not be put up: once more, after a pause.
    fn serve_again(&mut self, now: Nanos, out: &mut Actions) {
        if self.rules.lease.is_some() && !self.may_open() {
            return;
        }
        if !self.serving && self.op.is_none() && now >= self.retry_at {
            // The gate first: what is announced must answer.
            self.settle_order(out);
            self.op = Some(Op::Serve);
            out.push(Action::Serve);
        }
    }

    pub(super) fn run_timers(&mut self, now: Nanos, out: &mut Actions) {
        if self.advert_at.is_some_and(|at| now >= at) {
            self.advert_now(now, out);
        }
        if !self.serving {
            return;
        }
        if self.second_burst_at.is_some_and(|at| now >= at) {
            self.second_burst_at = None;
            out.push(Action::Announce(self.rules.announce_repeat));
        }
        if self.refresh_at.is_some_and(|at| now >= at) {
            self.refresh_at = Some(now.after(self.rules.announce_refresh));
            out.push(Action::Announce(self.rules.announce_refresh_repeat));
        }
    }

    pub(super) fn advert_now(&mut self, now: Nanos, out: &mut Actions) {
        if self.rules.adverts {
            out.push(Action::Advert(self.priority()));
            self.advert_at = Some(now.after(self.rules.advert_interval));
        }
    }

    /// Another node claims the addresses too (RFC 9568 §6.4.3).
    pub(super) fn heard_as_master(&mut self, now: Nanos, verdict: &Verdict, out: &mut Actions) {
        let claims = match verdict.kind {
            VerdictKind::Alive | VerdictKind::Said | VerdictKind::Hung => {
                verdict.source == Source::Advert || verdict.flags & flag::PRIMARY != 0
            }
            VerdictKind::Missed
            | VerdictKind::Dead
            | VerdictKind::Resigned
            | VerdictKind::Stalled
            | VerdictKind::Awake => false,
        };
        // With PostgreSQL decided by timelines, in `decide_master`: a priority knows nothing of data.
        if claims && self.serving && !self.rules.postgres && self.outranks_peer() {
            // Advertise at once, and tell the network again where the addresses are.
            self.advert_now(now, out);
            out.push(Action::Announce(self.rules.announce_repeat));
            self.heard_weaker(out);
        }
        let gives_up = verdict.kind == VerdictKind::Resigned && verdict.source == Source::Advert;
        if gives_up && self.op.is_none() {
            // A backup that missed our adverts must not follow it.
            self.advert_now(now, out);
        }
    }

    /// The peer is a primary and so are we: the later timeline is the truth.
    pub(super) fn two_primaries(&mut self, now: Nanos, ours: u32, out: &mut Actions) {
        if self.report_other_cluster(out) {
            // Timelines of two clusters say nothing of each other: whoever serves goes on.
            return;
        }
        let theirs = self.peer.pulse_term();
        if let Some(theirs) = theirs.filter(|&theirs| theirs != self.terms.claim()) {
            self.peer.postgres = None;
            self.compare(now, ("term", self.terms.claim(), theirs), out);
            return;
        }
        let by_pulse = self.peer.pulse_timeline();
        // An answer counts once: the next comparison asks anew.
        let answer = || self.peer.postgres.as_ref().filter(|theirs| !theirs.in_recovery).map(|theirs| theirs.timeline);
        match by_pulse.or_else(answer) {
            Some(theirs) => {
                self.peer.postgres = None;
                self.compare_timelines(now, ours, theirs, out);
            }
            None => self.ask(now, out),
        }
    }

    pub(super) fn compare_timelines(&mut self, now: Nanos, ours: u32, theirs: u32, out: &mut Actions) {
        self.compare(now, ("timeline", ours, theirs), out);
    }

    /// The later one of two primaries is the truth, by term or, where terms say nothing, by timeline.
    fn compare<N: Ord + std::fmt::Display>(
        &mut self,
        now: Nanos,
        (what, ours, theirs): (&str, N, N),
        out: &mut Actions,
    ) {
        if theirs > ours {
            self.why = format!("the peer is a primary of {what} {theirs}, this node of {ours}: standing down");
            self.stop(StopMode::Fast, After { resign: false, exit: false }, out);
        } else if theirs < ours {
            if self.state == VrrpState::Master {
                if self.serving && now >= self.ask_at {
                    // Once per question interval, until the other has seen it.
                    self.ask_at = now.after(super::ASK);
                    self.advert_now(now, out);
                    out.push(Action::Announce(1));
                    self.heard_weaker(out);
                }
            } else {
                self.begin_serving(now, &format!("the peer is a primary of an earlier {what}"), out);
            }
        } else if self.outranks_peer() && (self.state == VrrpState::Master || self.peer.role() != PeerRole::Primary) {
            // Of two that serve, or of two that do not, the stronger one; else the one that serves.
            self.why = format!("two primaries of {what} {ours}; this one goes on, the other one must be looked at");
        } else {
            self.why = format!("two primaries of {what} {ours}; this one stands down and has to be looked at");
            self.stop(StopMode::Fast, After { resign: false, exit: false }, out);
        }
    }

    /// PostgreSQL is gone while we serve: fence what is left of it, then resign.
    pub(super) fn lost_postgres(&mut self, now: Nanos, why: &str, out: &mut Actions) {
        self.leave_service(now, StopMode::Kill, why, out);
    }

    /// No probe is answered: on a primary the peer takes over, on a standby the server is started anew.
    pub(super) fn hung(&mut self, now: Nanos, out: &mut Actions) {
        if self.state == VrrpState::Master {
            self.leave_service(now, StopMode::Kill, "PostgreSQL of this node hangs", out);
        } else if self.state == VrrpState::Init {
            // Known well enough to go on; as a backup it is stopped and looked at.
            self.local = Local::NotReady("it does not answer".to_owned());
        } else if self.state == VrrpState::Backup && !matches!(self.local, Local::Rest(_)) {
            self.why = "PostgreSQL of this node hangs: it is started anew".to_owned();
            self.stop(StopMode::Kill, After { resign: false, exit: false }, out);
        }
    }

    /// Whether the standby may succeed this primary: not one whose word commits did not wait for.
    fn has_successor(&self) -> bool {
        self.rules.lease.is_none() || !self.rules.sync.names_standby() || self.peer_synced
    }

    fn leave_service(&mut self, now: Nanos, mode: StopMode, why: &str, out: &mut Actions) {
        self.why = why.to_owned();
        if self.rules.postgres {
            self.stop(mode, After { resign: true, exit: false }, out);
        } else {
            self.shut(out);
            out.push(Action::Withdraw);
            self.left_service(now, After { resign: true, exit: false }, out);
        }
    }

    /// A switchover, or the end of the daemon.
    pub(super) fn hand_over(&mut self, now: Nanos, leave: Leave, out: &mut Actions) {
        if leave == Leave::Terminate && self.is_borne_with() {
            self.go_silently(out);
            return;
        }
        let streams = matches!(&self.local, Local::Up(facts) if facts.streaming) && self.has_successor();
        let peer_lives = match self.peer.pulse.state {
            // A standby sends no adverts: that it streams is all that can be known.
            State::Unknown => true,
            State::Alive | State::Resigned => self.peer.role() != PeerRole::Primary,
            State::Dead => false,
        };
        // It would not take over, and says so.
        let refuses = self.peer.pulse.state == State::Alive && self.peer.is_unwell();
        if self.rules.postgres && peer_lives && streams && !refuses {
            self.why = match self.health.complaint().filter(|_| leave == Leave::Tracked) {
                Some(complaint) => format!("{complaint}: handing over to the peer"),
                None => "handing over to the peer".to_owned(),
            };
            self.handover_begins(now);
            self.op = Some(Op::Checkpoint(leave));
            out.push(Action::Checkpoint);
            return;
        }
        match leave {
            Leave::Switchover | Leave::Tracked if self.rules.postgres => {
                let what = if refuses { "tracks something that has failed" } else { "does not stream from this node" };
                self.why = format!("no switchover: the peer {what}");
            }
            Leave::Switchover | Leave::Tracked | Leave::Terminate => {
                // PostgreSQL is left running: nobody else could serve, and without the address nobody writes through it.
                self.shut(out);
                self.serving = false;
                let after = After { resign: true, exit: leave == Leave::Terminate };
                self.reset_flows(after, out);
                out.push(Action::Withdraw);
                self.left_service(now, after, out);
            }
        }
    }

    /// Every process is gone and the addresses are off: now, and not before, the peer may be told.
    pub(super) fn stopped(&mut self, now: Nanos, result: Result<(), String>, out: &mut Actions) {
        let Some(Op::Stop(after)) = self.op else {
            return;
        };
        if let Err(error) = result {
            // Something still runs: keep the place, do not resign, try again the hard way.
            self.why = format!("cannot stop PostgreSQL: {error}");
            self.stop_again_at = Some(now.after(RETRY));
            return;
        }
        self.op = None;
        self.no_answers = 0;
        self.stop_again_at = None;
        self.local = Local::Unknown;
        self.handover_reached(Step::Stopped, now);
        self.left_service(now, after, out);
    }

    fn left_service(&mut self, now: Nanos, after: After, out: &mut Actions) {
        self.serving = false;
        self.peer.postgres = None;
        if self.state == VrrpState::Master {
            // Nobody succeeds a primary whose commits did not wait for its standby; it goes on itself as soon as it can.
            if after.resign && self.has_successor() {
                self.resigned = true;
                self.resigned_until = now.after(RESIGN_PATIENCE);
                // An older silence of the peer is no reason to serve again before it had its chance.
                self.heard = false;
                if self.rules.adverts {
                    out.push(Action::Advert(Priority::RESIGN));
                }
            }
            let why = self.why.clone();
            if self.fault().is_some() {
                self.enter(now, VrrpState::Fault, &why, out);
            } else {
                self.enter_backup(now, &why, out);
            }
        }
        if after.exit {
            self.exit(out);
        }
    }
}
