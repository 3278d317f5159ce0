//! What we know of the other node, through its heartbeats and its PostgreSQL.

use harbor_ha_ebpf::records::{Source, State, VerdictKind};
use harbor_ha_ebpf::units::Nanos;
use harbor_ha_ebpf::wire::pulse::flag;
use serde::Serialize;

use super::facts::{Lsn, PgFacts};
use super::input::Verdict;

/// One heartbeat as last heard.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    /// Alive, dead, resigned, or never heard.
    pub state: State,
    /// Last priority on the wire.
    pub priority: u8,
    /// Pulses: last flags.
    pub flags: u16,
    /// Pulses: last timeline.
    pub timeline: u32,
    /// Pulses: last term.
    pub term: u64,
    /// Pulses: its kernel answers, and its userspace has given no sign for longer than `lease.hang`. An advert has no age,
    /// and the silence of adverts, which a hung daemon sends none of, wakes nobody.
    pub hung: bool,
}

impl Heartbeat {
    const NEVER: Self = Self { state: State::Unknown, priority: 0, flags: 0, timeline: 0, term: 0, hung: false };
}

/// The last sign that the peer gave as a primary: what a takeover must not fall behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LastPrimary {
    /// It counted this node as its synchronous standby.
    pub sync: bool,
    /// Its flushed WAL position.
    pub lsn: Lsn,
    /// Its timeline.
    pub timeline: u32,
}

/// The other node.
#[derive(Clone, Debug)]
pub struct Peer {
    /// By adverts.
    pub advert: Heartbeat,
    /// By pulses.
    pub pulse: Heartbeat,
    /// It ended before this daemon began: what its PostgreSQL became since then is not known.
    pub inherited: bool,
    /// An advert came after the pulses had died: it serves, and only its pulses are lost.
    pub outlived: bool,
    /// It asked for patience with its silence, until then.
    pub hold_until: Nanos,
    /// The term in which it serves by our echoes alone, if its last word as a primary said so.
    pub leased: Option<u64>,
    /// The highest term that its pulses said; 0 when none did.
    pub term: u64,
    /// Its PostgreSQL system identifier, 0 when not known.
    pub system_identifier: u64,
    /// Its PostgreSQL, when it last answered; `None` when it did not.
    pub postgres: Option<PgFacts>,
    /// Its last words as a primary.
    pub last_primary: Option<LastPrimary>,
    /// Where its log ended when it was first heard to count on this node: what lies before was acknowledged without it.
    pub sync_from: Lsn,
}

/// What the peer does, as far as can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerRole {
    /// It serves the addresses.
    Primary,
    /// It lives and does not serve.
    Standby,
    /// It lives, does not serve, and asks us to.
    Resigned,
    /// Its deadline passed.
    Dead,
    /// Never heard.
    Unknown,
}

impl PeerRole {
    /// One word for tables and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::Resigned => "resigned",
            Self::Dead => "dead",
            Self::Unknown => "unknown",
        }
    }
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            advert: Heartbeat::NEVER,
            pulse: Heartbeat::NEVER,
            inherited: false,
            outlived: false,
            hold_until: Nanos(0),
            leased: None,
            term: 0,
            system_identifier: 0,
            postgres: None,
            last_primary: None,
            sync_from: Lsn(0),
        }
    }
}

impl Peer {
    /// Takes a verdict in.
    pub fn hear(&mut self, verdict: &Verdict) {
        self.outlived = match (verdict.source, verdict.kind) {
            (Source::Advert, VerdictKind::Alive | VerdictKind::Said) => self.pulse.state == State::Dead,
            (Source::Advert | Source::Pulse, VerdictKind::Missed | VerdictKind::Stalled) => self.outlived,
            // An advert has no age.
            (Source::Advert, VerdictKind::Hung | VerdictKind::Awake) => self.outlived,
            (Source::Advert, VerdictKind::Dead | VerdictKind::Resigned) | (Source::Pulse, _) => false,
        };
        let heartbeat = match verdict.source {
            Source::Advert => &mut self.advert,
            Source::Pulse => &mut self.pulse,
        };
        heartbeat.hung = match verdict.kind {
            VerdictKind::Hung => true,
            VerdictKind::Awake | VerdictKind::Alive | VerdictKind::Dead => false,
            VerdictKind::Said | VerdictKind::Missed | VerdictKind::Resigned | VerdictKind::Stalled => heartbeat.hung,
        };
        match verdict.kind {
            VerdictKind::Missed | VerdictKind::Stalled => {}
            VerdictKind::Dead => {
                if heartbeat.state == State::Unknown {
                    self.inherited = true;
                    // Its last words were heard by an earlier run of this daemon, and kept by the kernel.
                    heartbeat.priority = verdict.priority;
                    heartbeat.flags = verdict.flags;
                    heartbeat.timeline = verdict.timeline;
                }
                heartbeat.state = State::Dead;
            }
            VerdictKind::Alive | VerdictKind::Said | VerdictKind::Resigned | VerdictKind::Hung | VerdictKind::Awake => {
                let resigned = verdict.kind == VerdictKind::Resigned || verdict.flags & flag::RESIGN != 0;
                self.inherited = false;
                heartbeat.state = if resigned { State::Resigned } else { State::Alive };
                heartbeat.priority = verdict.priority;
                heartbeat.flags = verdict.flags;
                heartbeat.timeline = verdict.timeline;
                heartbeat.term = verdict.term;
            }
        }
        if verdict.system_identifier != 0 && verdict.system_identifier != self.system_identifier {
            // Another data directory: what was said of the one before means nothing for it.
            self.system_identifier = verdict.system_identifier;
            self.term = 0;
        }
        self.term = self.term.max(verdict.term);
        if verdict.source == Source::Pulse && heartbeat.flags & (flag::PRIMARY | flag::PG_PRIMARY) != 0 {
            // Its server answered so before it was promoted.
            self.postgres = self.postgres.take().filter(|theirs| !theirs.in_recovery);
        }
        if verdict.source == Source::Pulse && heartbeat.flags & flag::PRIMARY != 0 {
            let term = verdict.term;
            self.leased = (heartbeat.flags & flag::LEASED != 0 && term != 0).then_some(term);
        }
        let was_primary = heartbeat.flags & (flag::PRIMARY | flag::RESIGN) != 0;
        if verdict.source == Source::Pulse && was_primary && verdict.timeline != 0 {
            self.said_as_primary(LastPrimary {
                sync: verdict.flags & flag::SYNC != 0,
                lsn: Lsn(verdict.lsn),
                timeline: verdict.timeline,
            });
        }
    }

    fn said_as_primary(&mut self, words: LastPrimary) {
        let counted = self.last_primary.is_some_and(|last| last.sync && last.timeline == words.timeline);
        if words.sync && !counted {
            self.sync_from = words.lsn;
        }
        self.last_primary = Some(words);
    }

    /// Its WAL has reached this position meanwhile; what it said otherwise stays its last word.
    pub fn reached(&mut self, timeline: u32, lsn: Lsn) {
        if let Some(last) = self.last_primary.as_mut().filter(|last| last.timeline == timeline) {
            last.lsn = last.lsn.max(lsn);
        }
    }

    /// Takes an answer of its PostgreSQL in.
    pub fn answered(&mut self, facts: Option<PgFacts>) {
        if let Some(facts) = &facts {
            self.system_identifier = facts.system_identifier;
        }
        if let Some(facts) = &facts
            && !facts.in_recovery
        {
            self.said_as_primary(LastPrimary { sync: facts.peer_is_sync, lsn: facts.lsn, timeline: facts.timeline });
        }
        self.postgres = facts;
    }

    /// By pulses where there ever were any, else by adverts, which only a primary sends.
    pub fn role(&self) -> PeerRole {
        match (self.pulse.state, self.advert.state) {
            (State::Alive, _) if self.pulse.flags & flag::PRIMARY != 0 => PeerRole::Primary,
            (State::Alive, _) => PeerRole::Standby,
            (State::Resigned, _) => PeerRole::Resigned,
            (State::Dead, State::Alive) if self.outlived => PeerRole::Primary,
            (State::Dead, _) => PeerRole::Dead,
            (State::Unknown, State::Alive) => PeerRole::Primary,
            (State::Unknown, State::Resigned) => PeerRole::Resigned,
            (State::Unknown, State::Dead) => PeerRole::Dead,
            (State::Unknown, State::Unknown) => PeerRole::Unknown,
        }
    }

    /// Its timeline, by pulse or by its own PostgreSQL.
    pub fn timeline(&self) -> Option<u32> {
        self.pulse_timeline().or_else(|| self.postgres.as_ref().map(|facts| facts.timeline))
    }

    /// Its term by living pulses.
    pub fn pulse_term(&self) -> Option<u64> {
        let by_pulse = matches!(self.pulse.state, State::Alive | State::Resigned).then_some(self.pulse.term);
        by_pulse.filter(|&term| term != 0)
    }

    /// Its timeline by living pulses.
    pub fn pulse_timeline(&self) -> Option<u32> {
        let by_pulse = matches!(self.pulse.state, State::Alive | State::Resigned).then_some(self.pulse.timeline);
        by_pulse.filter(|&timeline| timeline != 0)
    }

    /// Its priority on the wire.
    pub const fn priority(&self) -> u8 {
        match self.pulse.state {
            State::Unknown | State::Dead => self.advert.priority,
            State::Alive | State::Resigned => self.pulse.priority,
        }
    }

    /// It says that it cannot serve.
    pub const fn faulty(&self) -> bool {
        self.pulse.flags & flag::FAULT != 0
    }

    /// Its PostgreSQL is at rest and was a primary when it ended.
    pub const fn is_former(&self) -> bool {
        self.pulse.flags & flag::FORMER != 0
    }

    /// It does not take over from this node, by its own word: its data do not let it, or it is rejoining this node.
    pub const fn is_unfit(&self) -> bool {
        matches!(self.pulse.state, State::Alive) && self.pulse.flags & (flag::UNFIT | flag::REJOIN) != 0
    }

    /// Something that it tracks has failed: it does not take over.
    pub const fn is_unwell(&self) -> bool {
        self.pulse.flags & flag::UNWELL != 0
    }

    /// Its PostgreSQL answers, by its own pulse.
    pub const fn postgres_up(&self) -> bool {
        self.pulse.flags & flag::PG_UP != 0
    }
}
