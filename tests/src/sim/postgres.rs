//! A model of PostgreSQL 13 with streaming replication: what of it decides whether a write is kept.
//!
//! The log is a list of writes, each with the timeline in which it was made. Logs grow at the end only, and are copied
//! whole, so one log holds all of another one if it holds its last entry in the same place.

use harbor_ha::core::facts::{AtRest, Lsn, PgFacts};

use super::renewal::Renewal;

/// A write, or the end of a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub timeline: u32,
    pub id: u64,
}

/// Whether the server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    Down,
    Starting,
    Up,
    Stopping,
    /// The postmaster is dead; a busy child can still commit.
    Orphans,
}

/// Who waits for a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Through the network.
    Remote,
    /// On this very host.
    Local,
}

/// One server with its data directory.
#[derive(Clone, Debug)]
pub struct Server {
    pub process: Process,
    pub hung_until: u64,
    pub paused_until: u64,
    /// `standby.signal`.
    pub signal: bool,
    /// A promotion is under way.
    pub promoting: bool,
    /// One broke off: the timeline that it chose is in the way of following a primary.
    pub broke_off: bool,
    /// The journal of a rejoin says that it has not ended.
    pub pending: bool,
    /// It says that a base backup takes the data directory's place.
    pub renewal: Option<Renewal>,
    pub clean: bool,
    pub timeline: u32,
    pub log: Vec<Entry>,
    /// The peer is named in `synchronous_standby_names`.
    pub names: bool,
    /// Commits wait for it; the same, unless a mutant lies.
    pub waits: bool,
    /// Commits that wait for the standby: place in the log, client.
    pub waiting: Vec<(usize, Client)>,
    /// Until when `pg_stat_replication` and the receiver show a stream that is long broken.
    pub stream_until: u64,
    /// The action that runs, if any: its end must name this number.
    pub action: u64,
    /// A stop that was given up: the processes die later all the same.
    pub dies_at: u64,
    pub system_identifier: u64,
}

/// Bytes of an entry.
pub const ENTRY: u64 = 100;

impl Server {
    pub fn new(signal: bool, now: u64) -> Self {
        Self {
            process: Process::Up,
            hung_until: 0,
            paused_until: 0,
            signal,
            promoting: false,
            broke_off: false,
            pending: false,
            renewal: None,
            clean: true,
            timeline: 1,
            log: vec![Entry { timeline: 1, id: 0 }],
            names: false,
            waits: false,
            waiting: Vec::new(),
            stream_until: now,
            action: 0,
            dies_at: u64::MAX,
            system_identifier: 7,
        }
    }

    pub fn is_primary(&self) -> bool {
        self.process == Process::Up && !self.signal
    }

    pub const fn is_hung(&self, now: u64) -> bool {
        now < self.hung_until
    }

    /// Whether this log holds all of `other`.
    pub fn holds(&self, other: &[Entry]) -> bool {
        other.last().is_none_or(|last| self.log.get(other.len() - 1) == Some(last))
    }

    /// How many entries a reader sees: commits that wait are not visible.
    pub const fn visible(&self) -> usize {
        self.log.len() - self.waiting.len()
    }

    /// A promotion ends.
    pub fn promote(&mut self, id: u64) {
        self.signal = false;
        // A number that was chosen is not chosen again.
        self.timeline += 1 + u32::from(self.broke_off);
        (self.promoting, self.broke_off) = (false, false);
        self.log.push(Entry { timeline: self.timeline, id });
    }

    /// The postmaster dies, or the power goes: nobody hears of the commits that wait, and they are in the log.
    pub fn crash(&mut self, orphans: bool) {
        if self.process == Process::Down {
            return;
        }
        self.process = if orphans && self.is_primary() { Process::Orphans } else { Process::Down };
        self.clean = false;
        self.waiting.clear();
        self.action += 1;
        self.breaks_off();
    }

    /// A stop ends.
    pub fn stopped(&mut self, clean: bool) {
        self.process = Process::Down;
        self.clean = clean;
        self.dies_at = u64::MAX;
        self.waiting.clear();
        self.breaks_off();
    }

    /// The server ends, and a promotion with it, somewhere between the choice of a timeline and its first record.
    fn breaks_off(&mut self) {
        self.broke_off |= std::mem::take(&mut self.promoting);
    }

    pub fn facts(&self, now: u64) -> PgFacts {
        let streaming = now < self.stream_until;
        PgFacts {
            in_recovery: self.signal,
            system_identifier: self.system_identifier,
            timeline: self.timeline,
            lsn: Lsn(self.log.len() as u64 * ENTRY),
            streaming,
            peer_is_sync: !self.signal && streaming && self.names,
            peer_has_tail: !self.signal && streaming,
            sync_names: if self.names { "peer".to_owned() } else { String::new() },
            replay_paused: self.signal && now < self.paused_until,
            rejoin_pending: self.signal && self.pending,
            promotion_broke_off: self.signal && self.broke_off,
            ..PgFacts::default()
        }
    }

    pub const fn at_rest(&self) -> AtRest {
        AtRest {
            standby_signal: self.signal,
            promotion_broke_off: self.broke_off,
            clean: self.clean,
            system_identifier: self.system_identifier,
            timeline: self.timeline,
            rejoin_pending: self.pending,
        }
    }
}
