//! Facts of a running server, its own and the peer's; replication slots.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::SimpleQueryRow;
use tokio_postgres::error::SqlState;

use crate::core::facts::{Lsn, PgFacts};

use super::connect::{Session, SqlError};
use super::{Pg, settings};

/// Both roles in one question. `CASE` matters: half of these functions are errors in the other role.
///
/// The receive position may be NULL, or behind the replay position (a new stream begins at the start of its segment),
/// hence `greatest`, which skips NULLs. A standby's timeline is the newest of what it receives and what it has on disk.
fn facts_sql(standby_name: &str) -> String {
    let name = settings::literal(standby_name);
    format!(
        "WITH role AS MATERIALIZED (SELECT pg_is_in_recovery() AS standby)
        SELECT standby,
          (SELECT system_identifier FROM pg_control_system()),
          CASE WHEN standby
            THEN greatest((SELECT received_tli FROM pg_stat_wal_receiver),
                          (SELECT timeline_id FROM pg_control_checkpoint()),
                          (SELECT min_recovery_end_timeline FROM pg_control_recovery()))
            ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int
          END,
          CASE WHEN standby
            THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
            ELSE pg_current_wal_flush_lsn()
          END,
          CASE WHEN standby
            THEN EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')
            ELSE EXISTS (SELECT FROM pg_stat_replication
                         WHERE application_name = {name} AND state = 'streaming')
          END,
          NOT standby AND EXISTS (SELECT FROM pg_stat_replication
                         WHERE application_name = {name} AND sync_state IN ('sync', 'quorum')),
          current_setting('synchronous_standby_names'),
          CASE WHEN standby THEN pg_is_wal_replay_paused() ELSE false END
        FROM role"
    )
}

const FACTS: &str = "its facts";

impl Pg {
    /// What the local server says of itself, in one round trip on the control connection.
    ///
    /// # Errors
    /// No connection, no answer, or an answer that makes no sense.
    pub async fn facts(&self, within: Duration) -> Result<PgFacts, SqlError> {
        let deadline = Instant::now() + within;
        let session = self.session(within).await?;
        facts_on(&session, &self.settings().peer_name, deadline).await
    }

    /// What the peer's server says of itself, on a new connection to its node address.
    ///
    /// # Errors
    /// As [`Pg::facts`].
    pub async fn peer_facts(&self, within: Duration) -> Result<PgFacts, SqlError> {
        let deadline = Instant::now() + within;
        let session = self.connect_peer(within).await?;
        facts_on(&session, &self.settings().name, deadline).await
    }

    /// Makes the physical slot, with WAL reserved from now on; one that has lost its WAL is made anew.
    ///
    /// # Errors
    /// No free slot (`max_replication_slots`), a bad name, or no answer.
    pub async fn ensure_slot(&self, name: &str, within: Duration) -> Result<(), SqlError> {
        let deadline = Instant::now() + within;
        let session = self.session(within).await?;
        ensure_slot_on(&session, name, deadline).await
    }

    /// Drops the slot; one that is not there is no error.
    ///
    /// # Errors
    /// The slot is in use, or no answer.
    pub async fn drop_slot(&self, name: &str, within: Duration) -> Result<(), SqlError> {
        let name = settings::literal(name);
        let sql =
            format!("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {name}");
        match self.ask("to drop a slot", &sql, within).await {
            Err(error) if !error.is(&SqlState::UNDEFINED_OBJECT) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Facts of the server behind a session; `standby_name` is the application name of its standby.
pub(super) async fn facts_on(session: &Session, standby_name: &str, deadline: Instant) -> Result<PgFacts, SqlError> {
    let sql = facts_sql(standby_name);
    let left = || deadline.saturating_duration_since(Instant::now());
    let rows = match session.ask(FACTS, &sql, left()).await {
        // The role changed between two of the functions.
        Err(error) if error.is(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) => session.ask(FACTS, &sql, left()).await?,
        rows => rows?,
    };
    let facts = rows.first().and_then(facts_of);
    facts.ok_or_else(|| SqlError::Odd { what: FACTS, place: session.place().to_owned() })
}

fn facts_of(row: &SimpleQueryRow) -> Option<PgFacts> {
    let flag = |at: usize| row.get(at).map(|text| text == "t");
    Some(PgFacts {
        in_recovery: flag(0)?,
        // An int8 in SQL: identifiers with the highest bit set are shown as negative numbers.
        system_identifier: row.get(1)?.parse::<i64>().ok()?.cast_unsigned(),
        timeline: row.get(2)?.parse().ok()?,
        lsn: row.get(3).map_or(Some(Lsn(0)), parse_lsn)?, // NULL: a standby that has neither received nor replayed
        streaming: flag(4)?,
        peer_is_sync: flag(5)?,
        sync_names: row.get(6)?.to_owned(),
        replay_paused: flag(7)?,
    })
}

pub(super) async fn ensure_slot_on(session: &Session, name: &str, deadline: Instant) -> Result<(), SqlError> {
    let name = settings::literal(name);
    let left = || deadline.saturating_duration_since(Instant::now());
    let lost = format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
         WHERE slot_name = {name} AND NOT active AND wal_status = 'lost'"
    );
    session.ask("to drop a slot that lost its WAL", &lost, left()).await?;
    let make = format!(
        "SELECT pg_create_physical_replication_slot({name}, true)
         WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = {name})"
    );
    match session.ask("to make a slot", &make, left()).await {
        Err(error) if !error.is(&SqlState::DUPLICATE_OBJECT) => Err(error),
        _ => Ok(()),
    }
}

/// Reads a `pg_lsn` as PostgreSQL prints it.
pub(super) fn parse_lsn(text: &str) -> Option<Lsn> {
    let (high, low) = text.split_once('/')?;
    let part = |hex: &str| u32::from_str_radix(hex, 16).ok().map(u64::from);
    Some(Lsn(part(high)? << 32 | part(low)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_lsn_reads_back_as_it_is_printed() {
        for lsn in [Lsn(0), Lsn(0x179_d778), Lsn(u64::MAX), Lsn(1 << 32)] {
            assert_eq!(parse_lsn(&lsn.to_string()), Some(lsn));
        }
        for bad in ["", "0", "0/", "/0", "0/0/0", "x/0", "100000000/0"] {
            assert_eq!(parse_lsn(bad), None, "{bad}");
        }
    }
}
