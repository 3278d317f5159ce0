//! The right to take over: who holds it, how it is given up, how it comes back (docs/protocol.md).

use harbor_ha_ebpf::records::{Source, State, VerdictKind};
use harbor_ha_ebpf::units::Nanos;
use harbor_ha_ebpf::wire::pulse::flag;

use super::lease::Rights;
use super::peer::PeerRole;
use super::promotable::NotPromotable;
use super::rules::Isolated;
use super::witness::{Answer, WitnessCall};
use super::{Action, Actions, Core, Leave, VrrpState};

/// How long a standby that ends waits for the primary to do without it.
const WAIVER_PATIENCE: Nanos = Nanos::from_secs(1);

/// A takeover that has begun and has not promoted: the echo is off, the promise is waited for, the witness asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Approach {
    /// The peer may still write: the promotion waits for the promise. The gate waits for it always.
    pub waits: bool,
    /// The witness was asked in this approach.
    pub asked: bool,
}

impl Core {
    /// The term of the primary that this standby follows.
    fn followed_term(&self) -> u64 {
        self.peer.leased.unwrap_or(0)
    }

    /// This standby may succeed a primary that fell silent: that one serves by our echoes alone.
    pub(super) fn has_right(&self) -> bool {
        let followed = self.followed_term();
        followed != 0 && followed >= self.known_term() && self.waived_or_soon() < followed && !self.wants_waiver()
    }

    /// What a takeover of a peer in this role needs besides a promotable server, and the rights that it brings.
    pub(super) fn rights(&self, role: PeerRole, hung: bool) -> Result<Rights, NotPromotable> {
        let Some(rules) = self.lease_rules() else { return Ok(Rights::default()) };
        let alone = Rights { solo: true, limit: Nanos(0) };
        if self.forced {
            return Ok(alone);
        }
        let known = self.known_term();
        if known != 0 && self.waived_or_soon() >= known {
            return Err(NotPromotable::Waived { term: known });
        }
        if role == PeerRole::Standby && !hung {
            return Ok(Rights::default());
        }
        let by_the_peer = role == PeerRole::Resigned || self.has_right();
        match rules.isolated {
            Isolated::Witness if role == PeerRole::Resigned => Ok(Rights::default()),
            Isolated::Witness => Ok(Rights { solo: false, limit: self.witness.held_until }),
            Isolated::Hold | Isolated::Serve if by_the_peer => Ok(alone),
            Isolated::Serve => Ok(Rights { solo: false, limit: Nanos(u64::MAX) }),
            Isolated::Hold => Err(NotPromotable::NoRight),
        }
    }

    /// One step towards a promotion; `true`: all that stood before it is done.
    pub(super) fn approach(&mut self, now: Nanos, role: PeerRole, hung: bool, out: &mut Actions) -> bool {
        let Some(rules) = self.lease_rules() else { return true };
        let waits = hung || role != PeerRole::Resigned;
        let approach = self.approach.get_or_insert(Approach { waits, asked: false });
        let (waits, asked) = (approach.waits, approach.asked);
        let living = role == PeerRole::Standby && !hung;
        let key = rules.isolated == Isolated::Witness && waits && !living && !self.forced;
        if key && !asked && !self.witness.is_asked() && now >= self.witness.ask_at {
            self.witness.asking = true;
            self.approach = Some(Approach { waits, asked: true });
            let (term, follows) = (self.terms.reserved, self.known_term());
            out.push(Action::Witness(WitnessCall::Acquire { term, follows }));
        }
        let promised = self.lease.promise.is_some_and(|promise| !waits || now >= promise);
        let granted = self.witness.term == self.terms.reserved && self.witness.held_until > now;
        promised && (!key || granted)
    }

    /// The takeover is off: the peer is back, or this node may not.
    pub(super) fn give_up_approach(&mut self, now: Nanos, out: &mut Actions) {
        if self.approach.take().is_some() {
            self.release_key(now, out);
        }
    }

    /// The witness has answered.
    pub(super) fn witnessed(&mut self, now: Nanos, call: WitnessCall, asked: Nanos, answer: Answer, out: &mut Actions) {
        if let Answer::Outrun { term, .. } = answer {
            self.witness.outrun = self.witness.outrun.max(term);
        }
        self.tally.answered(call, &answer);
        match call {
            WitnessCall::Acquire { term, .. } => {
                self.witness.asking = false;
                self.key_answered(now, term, asked, answer, out);
            }
            WitnessCall::Revoke { term } => match answer {
                Answer::Granted { .. } => self.witness.revoked = term,
                Answer::Refused(why) | Answer::Outrun { why, .. } | Answer::Unreachable(why) => {
                    self.witness.trouble = Some(why);
                    self.witness.revoke_at = now.after(super::RETRY);
                }
            },
            WitnessCall::Release { .. } => self.witness.releasing = false,
            WitnessCall::Restore { .. } => {}
        }
    }

    fn key_answered(&mut self, now: Nanos, term: u64, asked: Nanos, answer: Answer, out: &mut Actions) {
        let ours = term == self.terms.claim() && self.state == VrrpState::Master;
        match answer {
            Answer::Granted { ttl } => {
                self.witness.trouble = None;
                self.witness.term = term;
                self.witness.held_until = asked.after(Nanos(ttl.0 / 10 * 9));
                self.witness.ask_at = asked.after(Nanos(ttl.0 / 3));
                if ours {
                    self.lease.limit = self.witness.held_until;
                } else if self.approach.is_none() && self.op.is_none() {
                    // It was asked for a takeover that is off.
                    self.release_key(now, out);
                }
            }
            Answer::Refused(why) | Answer::Outrun { why, .. } => {
                self.witness.ask_at = now.after(super::ASK);
                self.witness.trouble = Some(why.clone());
                if ours {
                    self.refused_as_primary(now, &why, out);
                } else if self.approach.is_some() {
                    self.refused_as_standby(now, NotPromotable::WitnessRefused, &why, out);
                }
            }
            Answer::Unreachable(why) => {
                self.witness.ask_at = now.after(super::ASK);
                self.witness.trouble = Some(why.clone());
                if self.approach.is_some() && !ours {
                    self.refused_as_standby(now, NotPromotable::WitnessUnreachable, &why, out);
                }
            }
        }
    }

    fn refused_as_standby(&mut self, now: Nanos, refusal: NotPromotable, why: &str, out: &mut Actions) {
        self.approach = None;
        self.retry_at = now.after(super::ASK);
        self.refuse(refusal, why, out);
    }

    /// Another node holds the key: it is, or becomes, the primary. Without echoes this one has no right left.
    fn refused_as_primary(&mut self, now: Nanos, why: &str, out: &mut Actions) {
        let lit = self.lease.leased_until > now;
        // A peer that lives and does not serve had the key for a takeover that it gave up: it grants the lease again.
        if !lit && !self.peer_lives() && self.op.is_none() {
            self.stand_down(&format!("the witness refuses to let this node serve alone: {why}"), out);
        }
    }

    /// The witness has granted the other node a later term than this primary's, and that one follows all the same: its
    /// takeover came to nothing. The witness grants this node nothing more in its term. So the standby is asked to give
    /// up its right to this term, and gets it back in a new one (`renews_term`), which is later than the one granted.
    pub(super) fn is_outrun(&self) -> bool {
        self.witness.outrun > self.terms.claim() && self.standby_could_take_over(self.now)
    }

    /// This standby shall do without its right: it ends, or the primary asks for it.
    pub(super) fn wants_waiver(&self) -> bool {
        let asked = self.peer.pulse.state == State::Alive && self.peer.pulse.flags & flag::ASKS_WAIVER != 0;
        self.rules.lease.is_some() && self.state == VrrpState::Backup && (self.leave == Some(Leave::Terminate) || asked)
    }

    /// What a verdict says of rights.
    pub(super) fn hear_rights(&mut self, verdict: &super::Verdict) {
        if verdict.source != Source::Pulse || self.rules.lease.is_none() {
            return;
        }
        let flags = self.peer.pulse.flags;
        let serves = flags & flag::PRIMARY != 0;
        if serves && self.terms.waived != 0 && self.peer.pulse.term == self.terms.waived {
            // One that counts on this node (again) has not heard of the waiver: alone it was for another reason.
            self.solo_heard = flags & flag::LEASED == 0;
        }
        if flags & flag::HOLD == 0 {
            self.peer.hold_until = Nanos(0);
        } else if self.peer.hold_until.0 == 0 && verdict.kind != VerdictKind::Dead {
            self.peer.hold_until = verdict.at.after(self.rules.lease.map_or(Nanos(0), |rules| rules.hold));
        }
    }

    /// What `waived` should be on disk.
    pub(super) fn wanted_waiver(&self) -> u64 {
        let waived = self.terms.waived;
        if self.rules.lease.is_none() || self.state != VrrpState::Backup || self.peer.role() != PeerRole::Primary {
            return waived;
        }
        // Never taken back in its term: a packet of before could make the primary rely on it once more. A primary that
        // counts on this node again takes a new term.
        if self.wants_waiver() && self.approach.is_none() { waived.max(self.peer.pulse.term) } else { waived }
    }

    /// A waiver that is on its way to the disk may be there already.
    fn waived_or_soon(&self) -> u64 {
        self.storing.map_or(self.terms.waived, |terms| terms.waived.max(self.terms.waived))
    }

    /// Says so until the primary has heard it.
    pub(super) fn says_waived(&self) -> bool {
        let pulse = &self.peer.pulse;
        let stored =
            self.terms.waived != 0 && self.terms.waived == self.known_term() && pulse.term == self.terms.waived;
        stored && self.state == VrrpState::Backup && (self.wants_waiver() || !self.solo_heard)
    }

    /// Whether a standby that ends may go: the primary does without it, or cannot be told.
    pub(super) fn may_leave(&mut self, now: Nanos) -> bool {
        if self.rules.lease.is_none() || self.state != VrrpState::Backup || self.peer.role() != PeerRole::Primary {
            return true;
        }
        let since = *self.leaving_since.get_or_insert(now);
        let told = self.terms.waived == self.peer.pulse.term && self.peer.pulse.flags & flag::LEASED == 0;
        told || now >= since.after(WAIVER_PATIENCE)
    }

    pub(super) fn waiver_deadline(&self) -> Option<Nanos> {
        self.leaving_since.map(|since| since.after(WAIVER_PATIENCE))
    }
}
