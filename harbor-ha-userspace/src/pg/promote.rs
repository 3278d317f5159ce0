//! From standby to primary, as fast as PostgreSQL goes.
//!
//! `pg_promote(true)` would poll in steps of 100 ms; asking each millisecond finds the end of recovery after about
//! 20 ms. The stamps are for the takeover's timeline.

use std::time::Duration;

use harbor_ha_ebpf::units::Nanos;
use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::clock;
use crate::fault;

use super::Pg;
use super::connect::SqlError;
use super::journal::JournalError;

/// Between two questions: a millisecond of certainty costs one wake-up of one backend.
const POLL: Duration = Duration::from_millis(1);
/// Promotes, and says who does the work.
const PROMOTE: &str = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_promote(false)::text ELSE 'primary' END,
    (SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup')";
/// A question that was asked gets this long, so that the limit tells a slow promotion from a silent server.
const LEAST: Duration = Duration::from_millis(100);
/// One segment of WAL dirties what any disk writes in some tens of milliseconds.
const LITTLE_WAL: u64 = 16 << 20;

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
    /// PostgreSQL refuses or does not answer, ends, or is still in recovery at the limit.
    pub async fn promote(&self, within: Duration) -> Result<Promoted, PromoteError> {
        let asked = clock::now();
        fault::point("promote.begin");
        // One that ended answers nobody any more: waiting for it until the limit would be a minute without a server.
        let server = self.running().ok_or(PromoteError::Ended)?;
        self.close_rejoin()?;
        tokio::select! {
            promoted = self.promote_running(asked, within) => promoted,
            Ok(()) = server.exited() => Err(PromoteError::Ended),
        }
    }

    async fn promote_running(&self, asked: Nanos, within: Duration) -> Result<Promoted, PromoteError> {
        let deadline = Instant::now() + within;
        let left = || deadline.saturating_duration_since(Instant::now());
        let session = self.session(within).await?;
        let rows = session.ask("`pg_promote`", PROMOTE, left()).await?;
        let signalled = clock::now();
        fault::point("promote.signalled");
        let column = |at: usize| rows.first().and_then(|row| row.get(at));
        match column(0) {
            Some("primary") => return Ok(Promoted { asked, signalled, writable: signalled, was_primary: true }),
            Some("true") => {}
            _ => return Err(PromoteError::NotSignalled),
        }
        let startup = column(1).and_then(|pid| pid.parse().ok()).and_then(|pid| self.pin_server(pid));
        loop {
            // The postmaster's own signal for this, again. The startup process has two naps that may begin after the
            // first one: what is left of `wal_retrieve_retry_interval` (5 s!) since the stream broke, and 100 ms until
            // the WAL receiver has ended. Seen as promotions of 120 ms with an interval of 100 ms.
            if let Some(startup) = &startup {
                startup.signal(Signal::SIGUSR2);
            }
            let recovering =
                session.ask_one("`pg_is_in_recovery`", "SELECT pg_is_in_recovery()", left().max(LEAST)).await?;
            if recovering == "f" {
                let writable = clock::now();
                fault::point("promote.done");
                // The peer's slot, before the first checkpoint removes what the peer may need.
                self.settle_slot_apart();
                return Ok(Promoted { asked, signalled, writable, was_primary: false });
            }
            if Instant::now() >= deadline {
                return Err(PromoteError::Slow { waited: within });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Writes a checkpoint: after a promotion, so that `pg_rewind` sees the new timeline in the control file, and a
    /// crash need not recover from the last restart point. May take as long as the disk needs.
    ///
    /// Make the peer's slot first ([`Pg::ensure_slot`]): the checkpoint removes WAL that nobody has reserved, and a
    /// former primary needs it from the last checkpoint before the fork on.
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

/// Why there is no primary after a promotion.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    /// The question failed. Worth another try: promoting twice does no harm.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The journal of a rejoin cannot be closed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// PostgreSQL could not write the promote file or signal its postmaster; its log says why.
    #[error("`pg_promote` could not signal the postmaster; PostgreSQL's log says why")]
    NotSignalled,
    /// There is no server, or it ended meanwhile.
    #[error("PostgreSQL has ended")]
    Ended,
    /// The promotion goes on, for instance because there is WAL to replay first.
    #[error("still in recovery {waited:?} after `pg_promote`")]
    Slow {
        /// The limit.
        waited: Duration,
    },
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nix::unistd::{getgid, getuid};

    use super::super::connect::Control;
    use super::super::upstream::tests::settings;
    use super::super::{Inner, Owner};
    use super::*;

    #[tokio::test]
    async fn a_server_that_has_ended_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (data_dir, state_dir) = (dir.path().to_owned(), dir.path().to_owned());
        let owner = Owner { uid: getuid(), gid: getgid() };
        let inner = Inner { settings: settings(), data_dir, state_dir, owner, major: 13, control: Control::default() };
        let pg = Pg { inner: Arc::new(inner) };
        assert!(matches!(pg.promote(Duration::from_secs(60)).await, Err(PromoteError::Ended)));
    }
}
