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

/// What a server says of the slot that it keeps for the other node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerSlot {
    /// There is none: nothing keeps the WAL that the peer has yet to receive.
    #[default]
    Absent,
    /// It keeps what the peer needs (`wal_status` `reserved` or `extended`).
    Kept,
    /// Beyond `max_slot_wal_keep_size`; the next checkpoint may remove what the peer needs (`unreserved`).
    Unreserved,
    /// WAL that the peer had yet to receive is gone (`lost`): a standby that does not stream needs a base backup.
    Lost,
}

/// A server that answers. A field that the role does not have is zero, false or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
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
    /// Standby only: received and flushed from the primary since the server started (or since it last streamed from the
    /// start of a segment, so it can be below [`Self::replayed`]); zero before it streamed.
    pub received: Lsn,
    /// Standby only: where the primary's WAL ended when the WAL receiver last heard of it
    /// (`pg_stat_wal_receiver.latest_end_lsn`); zero while none runs.
    pub upstream: Lsn,
    /// Standby only: replayed so far. What is missing up to [`Self::lsn`] is replayed before a promotion ends.
    pub replayed: Lsn,
    /// Standby only: replay waits for a query of a client (a recovery conflict), for up to
    /// `max_standby_streaming_delay`; so would a promotion.
    pub replay_blocked: bool,
    /// `recovery_min_apply_delay` in force, in milliseconds: the backlog that it builds is replayed at a promotion.
    pub apply_delay_ms: u64,
    /// `restore_command` is set: a promotion calls it, several times, and waits.
    pub restore_command: bool,
    /// Standby only: `primary_conninfo` names a virtual address, over which replication must never run.
    pub follows_vip: bool,
    /// Standby only: the rejoin that started it was cut short before its last word.
    pub rejoin_pending: bool,
    /// Standby only, while it does not stream: a timeline that it chose and never began is in the way
    /// ([`AtRest::promotion_broke_off`]).
    pub promotion_broke_off: bool,
    /// Primary only: flushed by the peer; zero when no peer streams.
    pub peer_lsn: Lsn,
    /// Primary only: the peer streams and has flushed everything up to the end of this server's last recovery, so that
    /// nothing is shown to clients that could still be lost. `peer_is_sync` alone does not say so: PostgreSQL 13 calls
    /// a standby `sync` once all is *sent* to it.
    pub peer_has_tail: bool,
    /// Primary only: the slot that is kept for the peer.
    pub peer_slot: PeerSlot,
}

impl PgFacts {
    /// Bytes that a standby has and has not replayed.
    pub const fn replay_backlog(&self) -> u64 {
        if self.in_recovery { self.lsn.0.saturating_sub(self.replayed.0) } else { 0 }
    }
}

/// A data directory whose server does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AtRest {
    /// A start makes a standby: `standby.signal` is there, or a promotion broke off that had removed it.
    pub standby_signal: bool,
    /// There is a timeline that was chosen and never begun: a standby's promotion broke off. It is in the way of
    /// following a primary until a rejoin puts it aside.
    pub promotion_broke_off: bool,
    /// `pg_control` says that the last shutdown was clean.
    pub clean: bool,
    /// System identifier of `pg_control`.
    pub system_identifier: u64,
    /// The newest timeline that it is known to be on, a promotion's included.
    pub timeline: u32,
    /// A rejoin was begun and not finished (the journal outside PGDATA says so): never start as a primary.
    pub rejoin_pending: bool,
}
