//! Facts of a running server, its own and the peer's.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::SimpleQueryRow;
use tokio_postgres::error::SqlState;

use crate::core::facts::{Lsn, PeerSlot, PgFacts};

use super::connect::{Session, SqlError};
use super::upstream::mentions;
use super::{Pg, apart, settings};

/// Both roles in one question. `CASE` matters: half of these functions are errors in the other role.
///
/// The receive position may be NULL, or behind the replay position (a new stream begins at the start of its segment),
/// hence `greatest`, which skips NULLs. A standby's timeline is the newest of what it receives and what it has on disk.
///
/// The end of the last recovery is not kept anywhere, so two positions that are never before it stand in: the redo
/// position of the last checkpoint (a crash recovery ends with one, and later ones only move on; their redo was passed
/// minutes earlier, so that a peer which streams does not lose the tail again at each), and the begin of the timeline
/// (a promotion ends without a checkpoint).
fn facts_sql(standby_name: &str, slot: &str) -> String {
    let (name, slot) = (settings::literal(standby_name), settings::literal(slot));
    format!(
        "WITH role AS MATERIALIZED (
          SELECT standby, CASE WHEN NOT standby THEN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END AS tli
          FROM (SELECT pg_is_in_recovery() AS standby) AS asked),
        receiver AS MATERIALIZED (SELECT status, received_tli, latest_end_lsn FROM pg_stat_wal_receiver),
        point AS MATERIALIZED (SELECT timeline_id, redo_lsn FROM pg_control_checkpoint()),
        peer AS MATERIALIZED (
          SELECT coalesce(bool_or(state = 'streaming'), false) AS streams,
            coalesce(bool_or(sync_state IN ('sync', 'quorum')), false) AS sync,
            max(flush_lsn) FILTER (WHERE state = 'streaming') AS flushed
          FROM pg_stat_replication WHERE application_name = {name})
        SELECT standby,
          (SELECT system_identifier FROM pg_control_system()),
          CASE WHEN standby
            THEN greatest((SELECT received_tli FROM receiver), (SELECT timeline_id FROM point),
                          (SELECT min_recovery_end_timeline FROM pg_control_recovery()))
            ELSE ('x' || tli)::bit(32)::int
          END,
          CASE WHEN standby
            THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
            ELSE pg_current_wal_flush_lsn()
          END,
          CASE WHEN standby THEN EXISTS (SELECT FROM receiver WHERE status = 'streaming') ELSE peer.streams END,
          NOT standby AND peer.sync,
          current_setting('synchronous_standby_names'),
          CASE WHEN standby THEN pg_is_wal_replay_paused() ELSE false END,
          CASE WHEN standby THEN pg_last_wal_receive_lsn() END,
          CASE WHEN standby THEN pg_last_wal_replay_lsn() END,
          standby AND EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'startup'
            AND (wait_event LIKE 'RecoveryConflict%' OR wait_event_type IN ('Lock', 'BufferPin'))),
          (extract(epoch FROM current_setting('recovery_min_apply_delay')::interval) * 1000)::bigint,
          current_setting('restore_command') <> '',
          CASE WHEN standby THEN current_setting('primary_conninfo') ELSE '' END,
          CASE WHEN NOT standby THEN peer.flushed END,
          CASE WHEN standby THEN false ELSE coalesce(peer.flushed >= greatest(
            (SELECT redo_lsn FROM point),
            (SELECT max((regexp_match(line, '^[[:space:]]*[0-9]+[[:space:]]+([0-9A-F]+/[0-9A-F]+)'))[1]::pg_lsn)
             FROM regexp_split_to_table(pg_read_file('pg_wal/' || tli || '.history', 0, 1048576, true), chr(10))
               AS line)), false)
          END,
          CASE WHEN NOT standby THEN (SELECT coalesce(wal_status, 'lost') FROM pg_replication_slots
            WHERE slot_name = {slot}) END,
          CASE WHEN standby THEN (SELECT latest_end_lsn FROM receiver) END
        FROM role, peer"
    )
}

const FACTS: &str = "its facts";

impl Pg {
    /// What the local server says of itself, in one round trip on the control connection, and what a standby's files say
    /// beside it. `within` is the server's: files are waited for.
    ///
    /// # Errors
    /// No connection, no answer, or an answer that makes no sense.
    pub async fn facts(&self, within: Duration) -> Result<PgFacts, SqlError> {
        let deadline = Instant::now() + within;
        let session = self.session(within).await?;
        let facts = self.facts_on(&session, &self.settings().peer_name, deadline).await?;
        // Looked at where it explains something: pg_wal may hold thousands of names.
        let (pg, looks) = (self.clone(), !facts.streaming);
        let look = move || (pg.rejoin_pending(), looks && pg.at_rest().is_ok_and(|rest| rest.promotion_broke_off));
        let (rejoin_pending, promotion_broke_off) = if facts.in_recovery { apart(look).await } else { (false, false) };
        Ok(PgFacts { rejoin_pending, promotion_broke_off, ..facts })
    }

    /// What the peer's server says of itself, on a new connection to its node address.
    ///
    /// # Errors
    /// As [`Pg::facts`].
    pub async fn peer_facts(&self, within: Duration) -> Result<PgFacts, SqlError> {
        let deadline = Instant::now() + within;
        let session = self.connect_peer(within).await?;
        self.facts_on(&session, &self.settings().name, deadline).await
    }

    /// Facts of the server behind a session; `standby_name` is the application name of its standby.
    pub(super) async fn facts_on(
        &self,
        session: &Session,
        standby_name: &str,
        deadline: Instant,
    ) -> Result<PgFacts, SqlError> {
        let sql = facts_sql(standby_name, &self.settings().slot);
        let left = || deadline.saturating_duration_since(Instant::now());
        let rows = match session.ask(FACTS, &sql, left()).await {
            // The role changed between two of the functions.
            Err(error) if error.is(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) => {
                session.ask(FACTS, &sql, left()).await?
            }
            rows => rows?,
        };
        let facts = rows.first().and_then(|row| facts_of(row, &self.settings().vips));
        facts.ok_or_else(|| SqlError::Odd { what: FACTS, place: session.place().to_owned() })
    }
}

fn facts_of(row: &SimpleQueryRow, vips: &[Ipv4Addr]) -> Option<PgFacts> {
    let flag = |at: usize| row.get(at).map(|text| text == "t");
    let lsn = |at: usize| row.get(at).map_or(Some(Lsn(0)), parse_lsn); // NULL: not of this role, or not yet
    Some(PgFacts {
        in_recovery: flag(0)?,
        // An int8 in SQL: identifiers with the highest bit set are shown as negative numbers.
        system_identifier: row.get(1)?.parse::<i64>().ok()?.cast_unsigned(),
        timeline: row.get(2)?.parse().ok()?,
        lsn: lsn(3)?,
        streaming: flag(4)?,
        peer_is_sync: flag(5)?,
        sync_names: row.get(6)?.to_owned(),
        replay_paused: flag(7)?,
        received: lsn(8)?,
        replayed: lsn(9)?,
        replay_blocked: flag(10)?,
        apply_delay_ms: row.get(11)?.parse().ok()?,
        restore_command: flag(12)?,
        follows_vip: vips.iter().any(|vip| mentions(row.get(13).unwrap_or_default(), *vip)),
        peer_lsn: lsn(14)?,
        peer_has_tail: flag(15)?,
        peer_slot: match row.get(16) {
            None => PeerSlot::Absent,
            Some("reserved" | "extended") => PeerSlot::Kept,
            Some("unreserved") => PeerSlot::Unreserved,
            Some(_) => PeerSlot::Lost,
        },
        rejoin_pending: false,      // the journal's, not the server's
        promotion_broke_off: false, // the directory's
        upstream: lsn(17)?,
    })
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
