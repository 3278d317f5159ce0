//! Serving: adverts and announcements, other primaries, loss of PostgreSQL, handing over.

use harbor_ha_ebpf::records::{Source, VerdictKind};
use harbor_ha_ebpf::units::{Nanos, Priority};
use harbor_ha_ebpf::wire::pulse::flag;

use super::peer::PeerRole;
use super::{
    Action, Actions, After, Core, Leave, Local, Op, Promoted, RESIGN_PATIENCE, RETRY, Served, StopMode, Verdict,
    VrrpState,
};

impl Core {
    pub(super) fn promoted(&mut self, now: Nanos, result: Result<Promoted, String>, out: &mut Actions) {
        self.op = None;
        match result {
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
                let why = self.why.clone();
                self.begin_serving(now, &why, out);
            }
            Err(error) => {
                self.retry_at = now.after(RETRY);
                self.why = format!("promotion failed: {error}");
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
                if let Some(takeover) = &mut self.takeover {
                    takeover.vip_ns = stamps.vip.0;
                    takeover.garp_ns = stamps.garp.0;
                }
                let rules = &self.rules;
                self.second_burst_at = (rules.announce_delay.0 > 0).then(|| now.after(rules.announce_delay));
                self.refresh_at = (rules.announce_refresh.0 > 0)
                    .then(|| now.after(rules.announce_delay).after(rules.announce_refresh));
            }
            Err(error) => {
                self.why = format!("cannot put up the virtual addresses: {error}");
                self.op = Some(Op::Serve);
                out.push(Action::Serve);
            }
        }
    }

    pub(super) fn settle_master(&mut self, now: Nanos, out: &mut Actions) {
        self.run_timers(now, out);
        if self.op.is_some() {
            return;
        }
        if self.link == Some(false) {
            self.leave_service(now, StopMode::Fast, "the interface is down", out);
            return;
        }
        if let Some(leave) = self.leave.take() {
            self.hand_over(now, leave, out);
            return;
        }
        if !self.rules.postgres {
            return;
        }
        let Local::Up(facts) = &self.local else {
            return;
        };
        if facts.in_recovery {
            self.leave_service(now, StopMode::Fast, "somebody made PostgreSQL of this node a standby", out);
            return;
        }
        let timeline = facts.timeline;
        let name_peer =
            self.rules.sync_required && facts.streaming && facts.sync_names.is_empty() && now >= self.retry_at;
        if name_peer && !self.setting_sync {
            self.setting_sync = true;
            out.push(Action::SetSync { peer: true });
        }
        let role = self.peer.role();
        if role == PeerRole::Primary {
            self.two_primaries(now, timeline, out);
        }
    }

    fn run_timers(&mut self, now: Nanos, out: &mut Actions) {
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
            VerdictKind::Alive | VerdictKind::Said => {
                verdict.source == Source::Advert || verdict.flags & flag::PRIMARY != 0
            }
            VerdictKind::Missed | VerdictKind::Dead | VerdictKind::Resigned | VerdictKind::Stalled => false,
        };
        if !claims || self.op.is_some() {
            return;
        }
        if self.rules.postgres {
            // Decided by timelines, in `settle_master`: a priority knows nothing of data.
            return;
        }
        if self.outranks_peer() {
            // RFC 9568: advertise at once, and tell the network again where the addresses are.
            self.advert_now(now, out);
            out.push(Action::Announce(self.rules.announce_repeat));
        } else {
            out.push(Action::Withdraw);
            self.enter_backup(now, "the peer is a stronger primary", out);
        }
    }

    /// The peer is a primary and so are we: the later timeline is the truth.
    pub(super) fn two_primaries(&mut self, now: Nanos, ours: u32, out: &mut Actions) {
        match self.peer.timeline() {
            Some(theirs) => self.compare_timelines(now, ours, theirs, out),
            None => self.ask(now, out),
        }
    }

    pub(super) fn compare_timelines(&mut self, now: Nanos, ours: u32, theirs: u32, out: &mut Actions) {
        if theirs > ours {
            self.why = format!("the peer is a primary on timeline {theirs}, this node on {ours}: standing down");
            self.stop(StopMode::Fast, After { resign: false, exit: false }, out);
        } else if theirs < ours {
            if self.state == VrrpState::Master {
                if self.serving && now >= self.ask_at {
                    // Once per question interval, until the other has seen it.
                    self.ask_at = now.after(super::ASK);
                    self.advert_now(now, out);
                    out.push(Action::Announce(1));
                }
            } else {
                self.begin_serving(now, "the peer is a primary on an earlier timeline", out);
            }
        } else if self.outranks_peer() {
            self.why = format!("two primaries on timeline {ours}; this one goes on, the other one must be looked at");
        } else {
            self.why = format!("two primaries on timeline {ours}; this one stands down and has to be looked at");
            self.stop(StopMode::Fast, After { resign: false, exit: false }, out);
        }
    }

    /// PostgreSQL is gone while we serve: fence what is left of it, then resign.
    pub(super) fn lost_postgres(&mut self, now: Nanos, why: &str, out: &mut Actions) {
        self.leave_service(now, StopMode::Kill, why, out);
    }

    /// No probe is answered: on a primary the peer takes over, on a standby the server is started anew.
    pub(super) fn hung(&mut self, now: Nanos, out: &mut Actions) {
        self.no_answers = 0;
        if self.state == VrrpState::Master {
            self.leave_service(now, StopMode::Kill, "PostgreSQL of this node hangs", out);
        } else if self.state == VrrpState::Backup && !matches!(self.local, Local::Rest(_)) {
            self.why = "PostgreSQL of this node hangs: it is started anew".to_owned();
            self.stop(StopMode::Kill, After { resign: false, exit: false }, out);
        }
    }

    fn leave_service(&mut self, now: Nanos, mode: StopMode, why: &str, out: &mut Actions) {
        self.why = why.to_owned();
        if self.rules.postgres {
            self.stop(mode, After { resign: true, exit: false }, out);
        } else {
            self.op = Some(Op::Stop(After { resign: true, exit: false }));
            out.push(Action::Withdraw);
            self.stopped(now, Ok(()), out);
        }
    }

    /// A switchover, or the end of the daemon.
    fn hand_over(&mut self, now: Nanos, leave: Leave, out: &mut Actions) {
        let streams = matches!(&self.local, Local::Up(facts) if facts.streaming);
        let peer_lives = match self.peer.role() {
            PeerRole::Standby => true,
            PeerRole::Unknown => self.peer.pulse.state == harbor_ha_ebpf::records::State::Unknown && streams,
            PeerRole::Primary | PeerRole::Resigned | PeerRole::Dead => false,
        };
        if self.rules.postgres && peer_lives && streams {
            self.why = "handing over to the peer".to_owned();
            self.op = Some(Op::Checkpoint(leave));
            out.push(Action::Checkpoint);
            return;
        }
        match leave {
            Leave::Switchover if self.rules.postgres => {
                self.why = "no switchover: the peer does not stream from this node".to_owned();
            }
            Leave::Switchover | Leave::Terminate => {
                // PostgreSQL is left running: nobody else could serve, and without the address nobody writes through it.
                self.serving = false;
                out.push(Action::Withdraw);
                let exit = leave == Leave::Terminate;
                self.op = Some(Op::Stop(After { resign: true, exit }));
                self.stopped(now, Ok(()), out);
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
            out.push(Action::Stop(StopMode::Kill));
            return;
        }
        self.op = None;
        if self.rules.postgres {
            self.local = if after.exit { self.local.clone() } else { Local::Unknown };
        }
        self.peer.postgres = None;
        if after.resign && self.state == VrrpState::Master {
            self.resigned = true;
            self.resigned_until = now.after(RESIGN_PATIENCE);
            if self.rules.adverts {
                out.push(Action::Advert(Priority::RESIGN));
            }
        }
        let why = self.why.clone();
        if self.link == Some(false) {
            self.enter(now, VrrpState::Fault, &why, out);
        } else {
            self.enter_backup(now, &why, out);
        }
        if after.exit {
            // The last pulse says resign.
            self.tell_peer(out);
            out.push(Action::Exit);
        }
    }
}
