//! From standby to primary, as fast as PostgreSQL goes.
//!
//! `pg_promote(true)` would poll in steps of 100 ms; asking each millisecond finds the end of recovery after about
//! 20 ms. The stamps are for the takeover's timeline.

use std::time::Duration;

use harbor_ha_ebpf::units::Nanos;
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use super::Pg;
use super::connect::{Session, SqlError};
use super::watch::Postmaster;

/// Between two questions: a millisecond of certainty costs one wake-up of one backend.
const POLL: Duration = Duration::from_millis(1);
/// A question that was asked gets this long, so that the limit tells a slow promotion from a silent server.
const LEAST: Duration = Duration::from_millis(100);
/// One segment of WAL dirties what any disk writes in some tens of milliseconds.
const LITTLE_WAL: u64 = 16 << 20;
/// A WAL receiver ends within a millisecond; one that is deep in a flush is left to the startup process.
const RECEIVER_LIMIT: Duration = Duration::from_millis(20);

/// When what happened, by `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promoted {
    /// The call came in.
    pub asked: Nanos,
    /// PostgreSQL had signalled its postmaster.
    pub signalled: Nanos,
    /// `pg_is_in_recovery()` was false: a write is possible.
    pub writable: Nanos,
    /// There was nothing to do.
    pub was_primary: bool,
}

impl Promoted {
    /// From the call to the first possible write.
    pub const fn took(&self) -> Nanos {
        self.writable.since(self.asked)
    }
}

impl Pg {
    /// Promotes the local standby and waits until it takes writes; a primary already is no error.
    ///
    /// A promotion that was asked for goes on after an error here, and cannot be taken back.
    ///
    /// # Errors
    /// PostgreSQL refuses or does not answer, or is still in recovery at the limit.
    pub async fn promote(&self, within: Duration) -> Result<Promoted, PromoteError> {
        let asked = monotonic();
        let deadline = Instant::now() + within;
        let left = || deadline.saturating_duration_since(Instant::now());
        let session = self.session(within).await?;
        self.end_wal_receiver(&session).await?;
        let sql = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_promote(false)::text ELSE 'primary' END";
        let answer = session.ask_one("`pg_promote`", sql, left()).await?;
        let signalled = monotonic();
        match answer.as_str() {
            "primary" => return Ok(Promoted { asked, signalled, writable: signalled, was_primary: true }),
            "true" => {}
            _ => return Err(PromoteError::NotSignalled),
        }
        loop {
            let recovering =
                session.ask_one("`pg_is_in_recovery`", "SELECT pg_is_in_recovery()", left().max(LEAST)).await?;
            if recovering == "f" {
                return Ok(Promoted { asked, signalled, writable: monotonic(), was_primary: false });
            }
            if Instant::now() >= deadline {
                return Err(PromoteError::Slow { waited: within });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Ends the WAL receiver and waits until it is gone.
    ///
    /// Else the startup process ends it, in sleeps of 100 ms that a lost wake-up makes last to their end: the dying
    /// receiver sets a latch that the promotion's own signal has set already (`ShutdownWalRcv`).
    async fn end_wal_receiver(&self, session: &Session) -> Result<(), SqlError> {
        let sql = "SELECT coalesce((SELECT pid FROM pg_stat_wal_receiver), 0)";
        let pid = session.ask_one("the WAL receiver", sql, LEAST).await?;
        let receiver = pid.parse().ok().filter(|&pid: &i32| pid > 1).and_then(Postmaster::pin);
        if let Some(receiver) = receiver {
            receiver.signal(Signal::SIGTERM);
            // Not gone in time: the startup process waits for it, and the promotion goes on.
            let _late = tokio::time::timeout(RECEIVER_LIMIT, receiver.exited()).await;
        }
        Ok(())
    }

    /// Writes a checkpoint: after a promotion, so that `pg_rewind` sees the new timeline in the control file, and a
    /// crash need not recover from the last restart point. May take as long as the disk needs.
    ///
    /// # Errors
    /// Not finished at the limit (it goes on), or refused.
    pub async fn checkpoint(&self, within: Duration) -> Result<(), SqlError> {
        // Not on the control connection: everything else would wait behind it.
        let session = match tokio::time::timeout(within, self.connect_local()).await {
            Ok(Ok(session)) => session,
            Ok(Err(error)) => return Err(SqlError::refused("a connection", self.place(), error)),
            Err(_) => return Err(SqlError::NoAnswer { what: "a connection", place: self.place(), within }),
        };
        session.ask("a checkpoint", "CHECKPOINT", within).await.map(drop)
    }

    /// Writes a checkpoint while clients still work, so that the shutdown's own is short; none when little is to be
    /// written, as two small ones take longer than one.
    ///
    /// # Errors
    /// As [`Pg::checkpoint`].
    pub async fn checkpoint_before_stop(&self, within: Duration) -> Result<(), SqlError> {
        let sql = "SELECT (pg_current_wal_insert_lsn() - redo_lsn)::bigint FROM pg_control_checkpoint()";
        let since = self.session(within).await?.ask_one("WAL since the checkpoint", sql, within).await?;
        if since.parse().is_ok_and(|bytes: u64| bytes < LITTLE_WAL) {
            return Ok(());
        }
        self.checkpoint(within).await
    }

    fn place(&self) -> String {
        self.settings().socket_dir.display().to_string()
    }
}

/// `CLOCK_MONOTONIC`, as the kernel side stamps with it.
fn monotonic() -> Nanos {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    Nanos(now.map_or(0, |now| now.as_nanos() as u64)) // 584 years fit
}

/// Why there is no primary after a promotion.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    /// The question failed. Worth another try: promoting twice does no harm.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// PostgreSQL could not write the promote file or signal its postmaster; its log says why.
    #[error("`pg_promote` could not signal the postmaster; PostgreSQL's log says why")]
    NotSignalled,
    /// The promotion goes on, for instance because there is WAL to replay first.
    #[error("still in recovery {waited:?} after `pg_promote`")]
    Slow {
        /// The limit.
        waited: Duration,
    },
}
