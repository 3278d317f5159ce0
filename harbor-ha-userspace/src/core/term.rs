//! Terms: a number that grows at each takeover, so that of two nodes that were primaries everybody knows the later one.
//!
//! A node never acts in a term that it has not stored. A standby therefore stores the next term *ahead of time*
//! ([`Terms::reserved`]): a takeover then waits for no disk. A reservation is made only by a standby; a node that holds
//! one and is no standby any more has used it, also when it crashed before it could write so ([`Terms::claim`]).
//!
//! A term is never below the timeline of its primary: both grow at each takeover. So a timeline, which comes with the
//! data and by SQL, tells of a later primary also where no pulse did (a rejoin from a primary whose daemon hangs, or a
//! pair without pulses).

use harbor_ha_ebpf::units::Nanos;
use harbor_ha_ebpf::wire::pulse::flag;
use serde::{Deserialize, Serialize};

use super::peer::PeerRole;
use super::{Action, Actions, Core, Local, Op, RETRY, VrrpState};

/// What a node keeps on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// The highest term that this node has heard of, its own included.
    pub seen: u64,
    /// The last term in which this node was a primary; 0: never.
    pub mine: u64,
    /// The term in which this standby would take over; 0: none.
    pub reserved: u64,
    /// The term whose primary this node does not succeed: it may have stopped waiting for us; 0: none.
    #[serde(default)]
    pub waived: u64,
}

impl Terms {
    /// The term in which a node that is no standby is, or was, a primary.
    pub const fn claim(&self) -> u64 {
        if self.reserved > self.mine { self.reserved } else { self.mine }
    }
}

impl Core {
    /// The highest term known, stored or only heard.
    pub(super) fn known_term(&self) -> u64 {
        let ours = self.terms.seen.max(self.terms.mine).max(self.own_timeline());
        if self.other_cluster().is_some() {
            // Its numbers are none of this cluster's.
            return ours;
        }
        ours.max(self.peer.term).max(u64::from(self.peer.timeline().unwrap_or(0)))
    }

    fn own_timeline(&self) -> u64 {
        u64::from(match &self.local {
            Local::Up(facts) => facts.timeline,
            Local::Rest(rest) => rest.timeline,
            Local::Unknown | Local::NotReady(_) => 0,
        })
    }

    /// What should be on disk now.
    fn wanted_terms(&self) -> Terms {
        let known = self.known_term();
        let stored = self.terms;
        match &self.local {
            // The promotion is under way: its term is the reserved one, whatever is heard meanwhile.
            Local::Up(facts) if facts.in_recovery && self.op == Some(Op::Promote) => stored,
            Local::Up(facts) if facts.in_recovery => {
                let reserved = if stored.reserved > known { stored.reserved } else { self.next_term(known) };
                Terms { seen: known, reserved, waived: self.wanted_waiver(), ..stored }
            }
            Local::Up(_) => self.as_a_primary(known),
            Local::Rest(rest) if rest.standby_signal || rest.rejoin_pending => Terms { seen: known, ..stored },
            Local::Rest(_) => self.as_a_primary(known),
            Local::Unknown | Local::NotReady(_) => Terms { seen: known, ..stored },
        }
    }

    fn as_a_primary(&self, known: u64) -> Terms {
        let claim = self.terms.claim();
        let timeline = self.own_timeline();
        // Data of a later promotion than is on disk here: somebody else promoted this server.
        let base = if timeline > claim { self.next_term(timeline - 1) } else { claim };
        // Not while it is being stored, nor between two tries: the gate stays open in the term that is on the disk.
        let due = (base < known && self.succeeds_a_standby())
            || (self.renews_term() && self.storing.is_none() && self.now >= self.store_at);
        // What the witness granted the other node was never served in, or it were known; it counts all the same.
        let mine = if due { self.next_term(known.max(base).max(self.witness.outrun)) } else { base };
        Terms { seen: known.max(mine), mine, reserved: 0, waived: 0 }
    }

    /// The lowest term above `known` that is this node's to take.
    fn next_term(&self, known: u64) -> u64 {
        self.rules.lease.map_or(known + 1, |rules| rules.next_term(known))
    }

    /// This running primary has seen a later term, and the only other node is a standby now: a new term is due.
    fn succeeds_a_standby(&self) -> bool {
        let theirs = &self.peer.pulse;
        // A kernel whose daemon is silent goes on saying what was true before that daemon took over.
        let is_current = !theirs.hung && theirs.term >= self.known_term();
        let is_standby = is_current
            && u64::from(theirs.timeline) <= self.own_timeline()
            && theirs.flags & flag::PG_UP != 0
            && theirs.flags & (flag::PG_PRIMARY | flag::FORMER) == 0;
        self.rules.lease.is_some()
            && self.state == VrrpState::Backup
            && matches!(&self.local, Local::Up(facts) if !facts.in_recovery)
            && self.peer.role() == PeerRole::Standby
            && is_standby
    }

    /// Stores what has to be stored; one write at a time.
    pub(super) fn settle_terms(&mut self, now: Nanos, out: &mut Actions) {
        if !self.rules.postgres || self.storing.is_some() || now < self.store_at || self.state == VrrpState::Init {
            return;
        }
        let wanted = self.wanted_terms();
        if wanted != self.terms {
            self.storing = Some(wanted);
            out.push(Action::StoreTerms(wanted));
        }
    }

    pub(super) fn stored(&mut self, now: Nanos, result: Result<Terms, String>) {
        self.storing = None;
        match result {
            Ok(terms) => {
                self.solo_heard &= terms.waived == self.terms.waived;
                if self.state == VrrpState::Master && terms.mine > self.terms.claim() {
                    // A new term, in which nothing was waived.
                    self.lease.by_waiver = false;
                }
                self.terms = terms;
            }
            Err(error) => {
                self.store_at = now.after(RETRY);
                self.why = format!("cannot store the term: {error}; without it this node does not take over");
            }
        }
    }

    /// Whether this standby has a term of its own on disk, above all that is known.
    pub(super) fn may_take_term(&self) -> bool {
        self.terms.reserved > self.known_term()
    }

    /// Whether everything that a primary, or a former one, has to remember is on disk.
    pub(super) fn terms_are_stored(&self) -> bool {
        self.wanted_terms() == self.terms
    }

    /// A later primary than this one was seen, and is not known to have become a standby.
    pub(super) fn is_outdated(&self) -> bool {
        self.terms.claim() < self.known_term()
    }

    /// What the pulses say.
    pub(super) fn pulse_term(&self) -> u64 {
        match &self.local {
            Local::Up(facts) if !facts.in_recovery => self.terms.claim(),
            Local::Rest(rest) if !rest.standby_signal && !rest.rejoin_pending => self.terms.claim(),
            Local::Up(_) | Local::Rest(_) | Local::Unknown | Local::NotReady(_) => self.terms.seen,
        }
    }
}
