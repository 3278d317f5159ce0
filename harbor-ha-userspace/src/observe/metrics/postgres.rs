//! PostgreSQL and its replication, as last heard.

use std::fmt;

use super::super::status::Status;
use super::families::Families;
use crate::core::facts::PgFacts;
use crate::core::snapshot::SERVERS;

pub(super) fn write(families: &mut Families<'_>, status: &Status) -> fmt::Result {
    families.single(
        "saved_wal_bytes",
        "WAL in bytes that rejoins of this node have put aside, for an operator to look at and remove.",
        status.saved_wal.as_ref().map(|saved| saved.bytes),
    )?;
    let Some(server) = &status.core.postgres else { return Ok(()) };
    families.flag("postgres_up", "Whether PostgreSQL of this node answers.", server.facts.is_some())?;
    families.states(
        "postgres_state",
        "PostgreSQL of this node: 1 for the state that is.",
        "state",
        &SERVERS,
        |state| state == server.state,
    )?;
    let Some(facts) = &server.facts else { return Ok(()) };
    families.single("timeline", "The timeline of PostgreSQL of this node.", Some(facts.timeline))?;
    families.single(
        "wal_position_bytes",
        "Where the WAL of this node ends, in bytes since the beginning: flushed on a primary, received on a standby.",
        Some(facts.lsn.0),
    )?;
    families.flag(
        "replication_streaming",
        "Whether WAL streams: on a primary to the other node, on a standby from it.",
        facts.streaming,
    )?;
    let state = |state: &str| state == sync_state(facts);
    families.states(
        "replication_state",
        "How the standby of this primary gets the WAL, all 0 on a standby: sync means that commits wait for it.",
        "state",
        &["sync", "async", "none"],
        state,
    )?;
    let by_primary = || (!facts.in_recovery && facts.streaming).then(|| facts.lsn.0.saturating_sub(facts.peer_lsn.0));
    families.single(
        "replication_lag_bytes",
        "WAL in bytes that the primary has and the standby has not, as this node knows it.",
        status.core.lag.map(|lag| lag.bytes).or_else(by_primary),
    )?;
    families.single(
        "replication_lag_limit_bytes",
        "A standby with a greater lag refuses to take over; absent where commits wait for the standby.",
        status.core.lag.and_then(|lag| lag.limit),
    )?;
    families.single(
        "replay_backlog_bytes",
        "WAL in bytes that this standby has and has not replayed; a promotion waits for it.",
        facts.in_recovery.then(|| facts.replay_backlog()),
    )
}

const fn sync_state(facts: &PgFacts) -> &'static str {
    match (facts.in_recovery, facts.streaming, facts.peer_is_sync) {
        (true, _, _) => "",
        (false, true, true) => "sync",
        (false, true, false) => "async",
        (false, false, _) => "none",
    }
}
