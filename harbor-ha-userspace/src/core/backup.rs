//! Not serving: when to take over, when to start PostgreSQL, when to rejoin, when to wait.

use std::mem::discriminant;

use harbor_ha_ebpf::records::State;
use harbor_ha_ebpf::units::{Nanos, Priority};
use harbor_ha_ebpf::wire::pulse::flag;

use super::facts::{AtRest, PeerSlot, PgFacts};
use super::peer::PeerRole;
use super::promotable::{NotPromotable, promotable};
use super::snapshot::Takeover;
use super::{Action, Actions, After, Core, EndOfPeer, Leave, Local, Op, StopMode, VrrpState};

/// How long a living peer may take to start its PostgreSQL before a standby serves in its place.
pub(super) const PEER_START_LIMIT: Nanos = Nanos::from_secs(20);
/// How long a standby may fail to stream from a serving peer before it rejoins by force.
pub(super) const STREAM_PATIENCE: Nanos = Nanos::from_secs(15);

impl Core {
    pub(super) fn settle_backup(&mut self, now: Nanos, out: &mut Actions) {
        if self.may_exit() {
            // PostgreSQL goes on: a standby that streams needs nobody.
            self.exit(out);
            return;
        }
        if self.op.is_some() {
            return;
        }
        if matches!(self.leave, Some(Leave::Switchover | Leave::Tracked)) {
            self.leave = None;
        }
        if let Some(why) = self.fault() {
            self.shut(out);
            out.push(Action::Withdraw);
            self.enter(now, VrrpState::Fault, &why, out);
            return;
        }
        // One that cannot is not waited for.
        if self.resigned && (now >= self.resigned_until || self.peer.is_unfit()) {
            self.resigned = false;
        }
        let role = self.peer_role();
        if !matches!(&self.local, Local::Up(facts) if !facts.in_recovery) && self.lease.resuming {
            self.shut(out);
        }
        if matches!(role, PeerRole::Standby) {
            self.leaderless_since.get_or_insert(now);
        } else {
            self.leaderless_since = None;
        }
        if !self.rules.postgres {
            self.settle_plain(now, role, out);
            return;
        }
        let due = matches!(role, PeerRole::Dead | PeerRole::Resigned) && !self.paused;
        if due && self.is_down() {
            self.refuse(NotPromotable::Down, "", out);
        }
        match self.local.clone() {
            Local::Unknown | Local::NotReady(_) => {}
            Local::Up(facts) if facts.in_recovery => self.as_standby(now, role, &facts, out),
            Local::Up(facts) => self.as_primary(now, role, &facts, out),
            Local::Rest(rest) => self.at_rest(now, role, &rest, out),
        }
    }

    /// Plain VRRP (RFC 9568 §6.4.2).
    fn settle_plain(&mut self, now: Nanos, role: PeerRole, out: &mut Actions) {
        let stronger = self.priority().0 > self.peer.priority();
        // §6.1: the owner of the address always preempts, and at once.
        let owner = self.priority() == Priority::OWNER && stronger;
        if role != PeerRole::Primary || !self.rules.preempt || !stronger {
            self.preempt_at = None;
        }
        let serve = match role {
            // §6.4.2 waits the skew after a priority 0, so that the strongest of many is first. There are two here.
            PeerRole::Dead | PeerRole::Resigned => true,
            PeerRole::Unknown => now >= self.silence_until || self.priority() == Priority::OWNER,
            PeerRole::Standby => {
                owner || self.peer.faulty() || (self.waited_without_leader(now) && self.outranks_peer())
            }
            PeerRole::Primary if owner => true,
            PeerRole::Primary if self.rules.preempt && stronger => {
                now >= *self.preempt_at.get_or_insert(now.after(self.rules.preempt_delay))
            }
            PeerRole::Primary => false,
        };
        if serve {
            self.preempt_at = None;
            self.begin_takeover(now);
            self.begin_serving(now, &format!("the peer is {}", name(role, false)), out);
        }
    }

    /// PostgreSQL is a standby.
    fn as_standby(&mut self, now: Nanos, role: PeerRole, facts: &PgFacts, out: &mut Actions) {
        // The peer's adverts say nothing of its PostgreSQL: without pulses its server is asked.
        let pulses_tell = self.peer.pulse.state != State::Unknown && role != PeerRole::Unknown;
        if !pulses_tell && matches!(role, PeerRole::Primary | PeerRole::Unknown) {
            self.ask(now, out);
        }
        // A standby names nobody, so that it waits for nobody once it is promoted.
        if !facts.sync_names.is_empty() && !self.setting_sync && now >= self.sync_retry_at {
            self.setting_sync = true;
            out.push(Action::SetSync { peer: false });
        }
        if facts.rejoin_pending && facts.streaming && role == PeerRole::Primary && now >= self.retry_at {
            self.why = "a rejoin that was cut short is brought to its end".to_owned();
            self.op = Some(Op::Rejoin { anew: false });
            out.push(Action::Rejoin { anew: false });
            return;
        }
        if self.reinit && role == PeerRole::Primary {
            self.why = "an operator wants this standby made anew".to_owned();
            self.stop(StopMode::Fast, After { resign: false, exit: false }, out);
            return;
        }
        let hung = self.peer_hangs();
        let take_over = match role {
            PeerRole::Dead | PeerRole::Resigned => true,
            PeerRole::Unknown => now >= self.silence_until && self.peer_has_no_primary(),
            PeerRole::Standby => self.peer_cannot_serve(now, facts),
            PeerRole::Primary => false,
        };
        let take_over = take_over || hung || self.forced;
        if role == PeerRole::Primary && !facts.streaming && !take_over {
            self.give_up_approach(now, out);
            self.not_streaming(now, facts, out);
            return;
        }
        if role != PeerRole::Primary || self.streams > 1 {
            self.stalled_since = None;
        }
        if !take_over || now < self.retry_at {
            if !take_over {
                self.refusal = None;
                self.give_up_approach(now, out);
            }
            return;
        }
        let rights = self.may_promote(facts).and_then(|()| self.rights(role, hung));
        if let Err(refusal) = rights {
            // An operator's word is for now: what is mended later must not surprise.
            self.forced = false;
            self.give_up_approach(now, out);
            self.refuse(refusal, "", out);
            return;
        }
        if !self.approach(now, role, hung, out) {
            return;
        }
        // Once more: a key may have come meanwhile.
        let Ok(rights) = self.rights(role, hung) else { return };
        self.refusal = None;
        self.lease.next = rights;
        self.op = Some(Op::Promote);
        self.approach = None;
        self.begin_takeover(now);
        let what = if self.forced { "ordered to by an operator" } else { name(role, hung) };
        self.why = format!("taking over: the peer is {what}");
        out.push(Action::Promote);
        if self.rules.lease.is_some() {
            out.push(Action::Prepare);
        }
    }

    /// Says why not, once per reason: positions inside it move with every probe.
    pub(super) fn refuse(&mut self, refusal: NotPromotable, detail: &str, out: &mut Actions) {
        let known = self.refusal.is_some_and(|old| discriminant(&old) == discriminant(&refusal));
        if !known {
            let detail = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
            self.why = format!("refused to take over: {}{detail}", self.in_words(refusal));
            out.push(Action::Report(super::Report { from: self.state, to: self.state, why: self.why.clone() }));
            self.tally.refused(refusal.name());
        }
        self.refusal = Some(refusal);
    }

    /// This standby's PostgreSQL does not run, or does not answer yet.
    pub(super) fn is_down(&self) -> bool {
        match &self.local {
            Local::NotReady(_) => true,
            Local::Rest(rest) => rest.standby_signal || rest.rejoin_pending,
            Local::Unknown | Local::Up(_) => false,
        }
    }

    /// The sentence, with the name of what it is about.
    pub(super) fn in_words(&self, refusal: NotPromotable) -> String {
        match (refusal, self.health.complaint()) {
            (NotPromotable::Tracked, Some(complaint)) => format!("{complaint}: {refusal}"),
            _ => refusal.to_string(),
        }
    }

    /// Never heard, the peer's server was asked: it is a standby, or does not answer. A primary without its daemon is
    /// still a primary.
    fn peer_has_no_primary(&self) -> bool {
        self.peer.postgres.as_ref().map_or(self.unanswered, |theirs| theirs.in_recovery)
    }

    /// May this standby be promoted?
    pub(super) fn may_promote(&self, facts: &PgFacts) -> Result<(), NotPromotable> {
        if let Some((ours, theirs)) = self.other_cluster() {
            return Err(NotPromotable::OtherCluster { ours, theirs });
        }
        match promotable(Some(facts), self.peer.last_primary.as_ref(), self.rules.sync, self.rules.max_lag) {
            // The operator has said that what is missing may be lost.
            Err(
                NotPromotable::Behind { .. }
                | NotPromotable::NeverHeard
                | NotPromotable::Lag { .. }
                | NotPromotable::Timeline { .. },
            ) if self.forced => {}
            result => result?,
        }
        if let Some(last) = self.peer.last_primary.filter(|_| !self.forced)
            && self.rules.lease.is_some()
            && self.rules.sync.names_standby()
        {
            // A primary that did not count on this node went on acknowledging without it after its last word, however
            // much is here; one that did may have named it before it had caught up.
            let theirs = if last.sync { self.peer.sync_from } else { last.lsn };
            if !last.sync || facts.lsn < theirs {
                return Err(NotPromotable::Behind { ours: facts.lsn, theirs });
            }
        }
        if !self.health.is_well() && !self.forced {
            return Err(NotPromotable::Tracked);
        }
        if self.may_take_term() { Ok(()) } else { Err(NotPromotable::TermNotStored) }
    }

    /// The system identifiers, ours and the peer's, when they differ: the two can never replicate.
    pub(super) fn other_cluster(&self) -> Option<(u64, u64)> {
        let (ours, theirs) = (self.pulse_identifier(), self.peer.system_identifier);
        (ours != 0 && theirs != 0 && ours != theirs).then_some((ours, theirs))
    }

    fn pulse_identifier(&self) -> u64 {
        match &self.local {
            Local::Up(facts) => facts.system_identifier,
            Local::Rest(rest) => rest.system_identifier,
            Local::Unknown | Local::NotReady(_) => self.pulse.system_identifier,
        }
    }

    /// Says once that nothing can be done before an operator replaced one of the two data directories.
    pub(super) fn report_other_cluster(&mut self, out: &mut Actions) -> bool {
        let Some((ours, theirs)) = self.other_cluster() else {
            self.cluster_reported = false;
            return false;
        };
        if !self.cluster_reported {
            self.cluster_reported = true;
            let refusal = NotPromotable::OtherCluster { ours, theirs };
            self.why = refusal.to_string();
            out.push(Action::Report(super::Report { from: self.state, to: self.state, why: self.why.clone() }));
        }
        true
    }

    /// The peer lives and does not serve: is it our turn?
    fn peer_cannot_serve(&self, now: Nanos, facts: &PgFacts) -> bool {
        if self.peer.faulty() {
            return true;
        }
        if self.peer.pulse.flags & flag::PG_PRIMARY != 0 {
            // It is about to serve by itself.
            return false;
        }
        let waited_long = self.leaderless_since.is_some_and(|since| now >= since.after(PEER_START_LIMIT));
        if self.peer.postgres_up() {
            // Two standbys: the better one, after a wait in which a primary would have been heard. If that one refuses,
            // the other one, unless it has missed a timeline.
            let no_older = self.peer.timeline().is_none_or(|theirs| facts.timeline >= theirs);
            // One that tracks something which has failed does not take its turn.
            let first = self.outranks_peer() || (self.peer.is_unwell() && no_older);
            return (self.waited_without_leader(now) && first) || (waited_long && no_older);
        }
        // A former primary that starts has every write: it goes first.
        waited_long
    }

    fn waited_without_leader(&self, now: Nanos) -> bool {
        self.leaderless_since.is_some_and(|since| now >= since.after(self.rules.start_wait))
    }

    /// The later timeline, then the higher priority, then the greater address (RFC 9568 §6.4.3).
    pub(super) fn outranks_peer(&self) -> bool {
        let ours = (self.pulse.timeline, self.priority().0, self.rules.addresses.0);
        let theirs = (self.peer.timeline().unwrap_or(0), self.peer.priority(), self.rules.addresses.1);
        ours > theirs
    }

    fn not_streaming(&mut self, now: Nanos, facts: &PgFacts, out: &mut Actions) {
        let since = *self.stalled_since.get_or_insert(now);
        if now < since.after(STREAM_PATIENCE) || now < self.retry_at {
            return;
        }
        let forked = self.peer.timeline().is_some_and(|theirs| theirs > facts.timeline);
        let slot = self.peer.postgres.as_ref().filter(|theirs| !theirs.in_recovery).map(|theirs| theirs.peer_slot);
        if !forked && !facts.promotion_broke_off && slot != Some(PeerSlot::Lost) {
            // The primary tells whether it still has the WAL that is needed here.
            self.ask(now, out);
            return;
        }
        let why = match (facts.promotion_broke_off, forked) {
            (true, _) => "waits for a timeline that it chose itself and never began",
            (false, true) => "does not follow the new timeline",
            (false, false) => "needs WAL that the primary has removed",
        };
        self.why = format!("this standby {why}: it rejoins");
        self.peer.postgres = None;
        // Stopped first, without resigning: it serves nobody.
        self.stop(StopMode::Fast, After { resign: false, exit: false }, out);
    }

    /// PostgreSQL is a primary already, and this node does not serve: it was restarted, or waits to be heard.
    fn as_primary(&mut self, now: Nanos, role: PeerRole, facts: &PgFacts, out: &mut Actions) {
        let peer_says_primary =
            self.peer.pulse.flags & flag::PG_PRIMARY != 0 && !matches!(role, PeerRole::Dead | PeerRole::Unknown);
        let later = self.peer.pulse_term().is_some_and(|theirs| theirs > self.terms.claim());
        if self.rules.lease.is_some() && role == PeerRole::Standby && later && self.peer.is_former() {
            // It rests, and was the later primary: this one's data are not the last.
            self.stand_down("the peer was the primary of a later term, and is at rest: it shall start", out);
            return;
        }
        if role == PeerRole::Primary || peer_says_primary {
            if self.report_other_cluster(out) {
                return;
            }
            self.two_primaries(now, facts.timeline, out);
            return;
        }
        let claim = match role {
            PeerRole::Standby | PeerRole::Resigned => true,
            PeerRole::Dead if !self.peer.inherited => true,
            PeerRole::Primary => false,
            PeerRole::Unknown | PeerRole::Dead => match self.peer.postgres.take() {
                Some(theirs) if theirs.in_recovery => true,
                Some(theirs) => {
                    self.compare_timelines(now, facts.timeline, theirs.timeline, out);
                    return;
                }
                None => {
                    self.ask(now, out);
                    self.unanswered && now >= self.silence_until
                }
            },
        };
        if claim && self.is_outdated() && role != PeerRole::Standby {
            // The peer may have been the later one, or have seen it.
            self.why = format!(
                "this node was the primary of term {}, and of term {} another one: it does not serve before that one, or \
                 its standby, is heard. If it is gone for good, stop the daemon, remove the file of the terms in \
                 `node.state_dir`, and start it again",
                self.terms.claim(),
                self.known_term()
            );
        } else if claim && self.terms_are_stored() {
            self.begin_takeover(now);
            self.begin_serving(now, "PostgreSQL of this node is the primary", out);
        }
    }

    /// PostgreSQL does not run.
    fn at_rest(&mut self, now: Nanos, role: PeerRole, rest: &AtRest, out: &mut Actions) {
        if now < self.retry_at {
            return;
        }
        if self.report_other_cluster(out) {
            return;
        }
        let peer_is_primary =
            role == PeerRole::Primary || self.peer.postgres.as_ref().is_some_and(|theirs| !theirs.in_recovery);
        let has_to_rejoin =
            (self.stalled_since.is_some() || self.reinit || rest.promotion_broke_off) && peer_is_primary;
        if rest.standby_signal && !rest.rejoin_pending && !has_to_rejoin {
            self.stalled_since = None;
            self.start(true, out);
            return;
        }
        if !rest.standby_signal && !rest.rejoin_pending && !self.terms_are_stored() {
            // In which term it was a primary must survive whatever comes now.
            return;
        }
        if peer_is_primary && self.succeeded_the_peer(rest) {
            self.why =
                "the peer is a primary of an earlier term: this one, which succeeded it, starts again".to_owned();
            self.start(false, out);
            return;
        }
        if peer_is_primary && self.peer_is_outdated() {
            self.why = "the peer is a primary of an earlier term than one that is known: it is not followed".to_owned();
            return;
        }
        if peer_is_primary {
            self.op = Some(Op::Rejoin { anew: self.reinit });
            self.why = "the peer is the primary: rejoining as its standby".to_owned();
            out.push(Action::Rejoin { anew: self.reinit });
            return;
        }
        // A former primary. Whether another one exists, only the peer can tell; so it is asked, as long as it takes.
        self.ask(now, out);
        // While it promotes, its server still answers as a standby.
        let promotes = role == PeerRole::Standby && self.peer.pulse.flags & flag::PG_PRIMARY != 0;
        let first_right_is_the_peers = promotes || (self.resigned && now < self.resigned_until);
        if rest.rejoin_pending || first_right_is_the_peers {
            return;
        }
        let last = self.rules.lease.is_none() || !self.is_outdated();
        if role == PeerRole::Standby && self.peer.pulse.flags & flag::REJOIN != 0 && last {
            // It saw this node as the primary, and its own directory is of no use without one. Both would wait for ever.
            self.why = "the peer was rejoining this node: starting as the primary that it was".to_owned();
            self.start(false, out);
            return;
        }
        // Also one that has resigned to this node, which took over and lost its server before anybody rejoined it.
        if matches!(role, PeerRole::Standby | PeerRole::Resigned) && self.peer.is_former() {
            self.two_former_primaries(rest, out);
            return;
        }
        match &self.peer.postgres {
            Some(theirs) if theirs.timeline <= rest.timeline => {
                self.why = "the peer is a standby: starting as the primary that this node was".to_owned();
                self.start(false, out);
            }
            Some(_) => {
                self.why = "the peer is a standby on a later timeline: waiting until it serves".to_owned();
            }
            None if self.witness.outrun > self.terms.claim() => {
                self.why = format!(
                    "this node was the primary of term {}, and the witness has granted term {} to the other one, which \
                     does not answer: it may have taken over, so this node does not start until the peer tells. If that \
                     one is gone for good, with whatever was written there: docs/operations.md, `a witness that granted \
                     more than was taken`",
                    self.terms.claim(),
                    self.witness.outrun
                );
            }
            None => {
                self.why =
                    "this node was a primary and the peer's PostgreSQL does not answer: it may have taken over, \
                            so this node does not start until the peer tells"
                        .to_owned();
            }
        }
    }

    /// The peer still is the primary that this node, now at rest, was the successor of: its log is not the last one.
    fn succeeded_the_peer(&self, rest: &AtRest) -> bool {
        let earlier = match (self.peer.pulse_term(), &self.peer.postgres) {
            (Some(theirs), _) => theirs < self.terms.claim() && !self.is_outdated(),
            (None, Some(theirs)) => theirs.timeline < rest.timeline,
            (None, None) => false,
        };
        !rest.standby_signal && !rest.rejoin_pending && earlier
    }

    /// Both were primaries, and both are at rest: the later one starts, the other one rejoins it.
    fn two_former_primaries(&mut self, rest: &AtRest, out: &mut Actions) {
        let (ours, theirs) = (self.terms.claim(), self.peer.pulse.term);
        if ours > theirs && !self.is_outdated() {
            self.why = format!("both nodes were primaries, this one later (term {ours} against {theirs}): it starts");
            self.start(false, out);
        } else if ours < theirs {
            self.why =
                format!("both nodes were primaries, the peer later (term {theirs} against {ours}): it shall start");
        } else {
            self.why = format!(
                "both nodes were primaries in term {ours}, on timeline {}: start the one that you trust with pg_ctl",
                rest.timeline
            );
        }
    }

    /// The stamps begin anew; a retry keeps the verdict's.
    fn begin_takeover(&mut self, now: Nanos) {
        let nobody = EndOfPeer { why: "nobody serves", at: now, last_heard: Nanos(0) };
        let end = self.end_of_peer.unwrap_or(nobody);
        self.takeover = Some(Takeover {
            why: if self.forced { "ordered" } else { end.why },
            last_heard_ns: end.last_heard.0,
            verdict_ns: end.at.0,
            begun_ns: now.0,
            ..Takeover::default()
        });
    }

    /// Puts the addresses up; PostgreSQL, where there is one, is a primary.
    pub(super) fn begin_serving(&mut self, now: Nanos, why: &str, out: &mut Actions) {
        self.enter(now, VrrpState::Master, why, out);
        self.resigned = false;
        self.forced = false;
        self.handover_failed();
        self.opening = true;
        if self.rules.lease.is_none() {
            self.op = Some(Op::Serve);
            out.push(Action::Serve);
        } else if !std::mem::take(&mut self.lease.resuming) {
            let rights = std::mem::take(&mut self.lease.next);
            (self.lease.solo, self.lease.limit) = (rights.solo, rights.limit);
        }
        self.lease.leased_until = now.after(self.rules.lease.map_or(Nanos(0), |rules| rules.margin));
        (self.lease.low, self.lease.look_at) = (false, now);
        self.advert_now(now, out);
    }

    /// Starts PostgreSQL. A primary that waited for a standby shows, once started, commits that were never acknowledged:
    /// its gate stays shut until that standby has them.
    fn start(&mut self, standby: bool, out: &mut Actions) {
        self.op = Some(Op::Start);
        self.lease.tail = !standby && self.rules.sync.names_standby();
        out.push(Action::Start { standby });
    }
}

const fn name(role: PeerRole, hung: bool) -> &'static str {
    match role {
        _ if hung => "hung: its kernel answers, its daemon does not",
        PeerRole::Primary => "a weaker primary",
        PeerRole::Standby => "alive and cannot serve",
        PeerRole::Resigned => "resigning",
        PeerRole::Dead => "silent",
        PeerRole::Unknown => "unheard",
    }
}
