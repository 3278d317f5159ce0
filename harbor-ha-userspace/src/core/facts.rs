//! What the core knows of a PostgreSQL server: facts that an adapter read, no opinion.

use serde::Serialize;

/// A write-ahead log position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lsn(pub u64);

impl std::fmt::Display for Lsn {
    /// As PostgreSQL prints a `pg_lsn`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl Serialize for Lsn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A server that answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PgFacts {
    /// `pg_is_in_recovery()`: a standby.
    pub in_recovery: bool,
    /// Identifies the cluster; the same on both nodes, forever.
    pub system_identifier: u64,
    /// Timeline of the WAL being written (primary) or replayed (standby).
    pub timeline: u32,
    /// Flushed on a primary; the greater of received and replayed on a standby.
    pub lsn: Lsn,
    /// Primary: the peer's WAL sender streams. Standby: our WAL receiver streams.
    pub streaming: bool,
    /// Primary only: `pg_stat_replication.sync_state` of the peer is `sync` (or `quorum`).
    pub peer_is_sync: bool,
    /// `synchronous_standby_names` in force.
    pub sync_names: String,
    /// Standby only: `pg_is_wal_replay_paused()`.
    pub replay_paused: bool,
}

/// A data directory whose server does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AtRest {
    /// `standby.signal` is there: a start makes a standby.
    pub standby_signal: bool,
    /// `pg_control` says that the last shutdown was clean.
    pub clean: bool,
    /// System identifier of `pg_control`.
    pub system_identifier: u64,
    /// Timeline of the last checkpoint.
    pub timeline: u32,
    /// A rejoin was begun and not finished (the journal outside PGDATA says so): never start as a primary.
    pub rejoin_pending: bool,
}
