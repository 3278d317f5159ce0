//! Physical slots: each primary keeps one for the other node, and a standby keeps none.
//!
//! A slot that nobody reads holds back WAL until the disk is full. So the slot follows the role that the server *has*,
//! after every start and promotion, whoever decided on that; and a limit that is missing is said aloud.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::error::SqlState;

use super::connect::{Session, SqlError};
use super::settings::literal;
use super::{Pg, space};

/// A server that has just started may have WAL to replay before it answers.
const SETTLE_LIMIT: Duration = Duration::from_secs(600);
/// Between two tries, of a server that does not answer yet or a slot that a dying WAL sender still holds.
const SETTLE_AGAIN: Duration = Duration::from_millis(250);
/// One question.
const ASK: Duration = Duration::from_secs(5);

impl Pg {
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
        let sql = drop_sql(name, "");
        match self.ask("to drop a slot", &sql, within).await {
            Err(error) if !error.is(&SqlState::UNDEFINED_OBJECT) => Err(error),
            _ => Ok(()),
        }
    }

    /// Gives the server the slot of the role that it has, in the background: a takeover does not wait for it.
    pub(super) fn settle_slot_apart(&self) {
        let pg = self.clone();
        tokio::spawn(async move {
            let begun = Instant::now();
            loop {
                match pg.settle_slot().await {
                    Ok(()) => return,
                    Err(_) if pg.running().is_none() => return,
                    Err(error) if begun.elapsed() > SETTLE_LIMIT => {
                        return tracing::warn!(%error, "cannot settle the slot for the other node");
                    }
                    Err(error) => tracing::debug!(%error, "the slot for the other node, later"),
                }
                tokio::time::sleep(SETTLE_AGAIN).await;
            }
        });
    }

    /// A primary keeps the slot, a standby does not. Asked and done in one statement each, so that a change of roles in
    /// between makes neither wrong.
    async fn settle_slot(&self) -> Result<(), SqlError> {
        let slot = &self.settings().slot;
        let session = self.session(ASK).await?;
        let sql = drop_sql(slot, "AND pg_is_in_recovery() AND NOT active");
        session.ask("to drop a slot that a standby has no use for", &sql, ASK).await?;
        if session.ask_one("its role", "SELECT pg_is_in_recovery()", ASK).await? == "t" {
            return Ok(());
        }
        ensure_slot_on(&session, slot, Instant::now() + ASK).await?;
        let sql = "SELECT setting FROM pg_settings WHERE name = 'max_slot_wal_keep_size'";
        if session.ask_one("max_slot_wal_keep_size", sql, ASK).await? == "-1" {
            tracing::warn!(slot, "max_slot_wal_keep_size {}", self.no_limit());
        }
        Ok(())
    }

    /// What to do about a `max_slot_wal_keep_size` of -1.
    pub(super) fn no_limit(&self) -> String {
        let value = match space::free(&self.in_data_dir("pg_wal")) {
            // Half of what is free: the other half is for tables, and for WAL that no slot is to blame for.
            Ok(free) => format!("'{}MB' would be half of what is free now", (free / 2) >> 20),
            Err(_) => "half of what is usually free".to_owned(),
        };
        format!(
            "is -1: the slot for the other node keeps WAL without a limit, and fills this disk while that node is away. \
             Set it on both nodes (no restart is needed); {value}. A standby that falls further behind is made anew"
        )
    }
}

fn drop_sql(name: &str, when: &str) -> String {
    let name = literal(name);
    format!("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {name} {when}")
}

/// Makes the slot anew, with WAL reserved from now on: what an old one keeps is of no use to a base backup, and one that
/// is far behind would be invalidated by the backup's own checkpoint, which ends the backup with it.
pub(super) async fn renew_slot_on(session: &Session, name: &str, within: Duration) -> Result<(), SqlError> {
    let deadline = Instant::now() + within;
    session.ask("to drop an old slot", &drop_sql(name, "AND NOT active"), within).await?;
    ensure_slot_on(session, name, deadline).await
}

pub(super) async fn ensure_slot_on(session: &Session, name: &str, deadline: Instant) -> Result<(), SqlError> {
    let left = || deadline.saturating_duration_since(Instant::now());
    let lost = drop_sql(name, "AND NOT active AND wal_status = 'lost'");
    session.ask("to drop a slot that lost its WAL", &lost, left()).await?;
    let name = literal(name);
    let make = format!(
        "SELECT pg_create_physical_replication_slot({name}, true)
         WHERE NOT pg_is_in_recovery()
           AND NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = {name})"
    );
    match session.ask("to make a slot", &make, left()).await {
        Err(error) if !error.is(&SqlState::DUPLICATE_OBJECT) => Err(error),
        _ => Ok(()),
    }
}
