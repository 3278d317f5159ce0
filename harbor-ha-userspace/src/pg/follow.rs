//! Following the peer: what a standby needs to be told, and how long it may take until it streams.

use std::time::Duration;

use tokio::time::Instant;

use crate::core::facts::Lsn;
use crate::fault;

use super::connect::{Session, SqlError};
use super::control::exists;
use super::settings::literal;
use super::slots::ensure_slot_on;
use super::wal::segment_name;
use super::{Pg, RejoinError};

/// One question to a server that is well.
pub(super) const ASK: Duration = Duration::from_secs(5);
/// A standby that neither replays nor receives for this long will not get further.
const STREAM_LIMIT: Duration = Duration::from_secs(60);
/// A standby that stands still for this long may be asking for what is gone; and so often the peer is asked.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks whether it streams.
const LOOK: Duration = Duration::from_millis(20);

impl Pg {
    /// Points a standby at the peer: slot there, `primary_conninfo` here, both only where they differ. For a standby
    /// whose history fits; one that runs is reloaded and awaited, one at rest is only configured.
    ///
    /// # Errors
    /// See [`RejoinError`].
    pub async fn follow(&self) -> Result<(), RejoinError> {
        let peer = self.connect_peer(ASK).await?;
        let timeline = self.check_peer(&peer, self.control()?.system_identifier).await?;
        ensure_slot_on(&peer, &self.settings().slot, Instant::now() + ASK).await?;
        drop(peer);
        if self.running().is_none() {
            // A fresh base backup is no standby yet; a former primary is none before its rejoin.
            let standby = self.standby_signal() || exists(&self.in_data_dir("backup_label"));
            if !standby || self.rejoin_pending() {
                return Err(RejoinError::NotStandby);
            }
            return self.configure(false);
        }
        let facts = self.facts(ASK).await?;
        if !facts.in_recovery {
            return Err(RejoinError::NotStandby);
        }
        let conninfo = self.primary_conninfo()?;
        self.write_passfile()?;
        let wanted = [("primary_conninfo", conninfo.as_str()), ("primary_slot_name", &self.settings().slot)];
        self.set_system(&wanted, ASK).await?;
        self.wait_for_stream(timeline).await
    }

    /// The peer is a primary of this cluster; its timeline.
    pub(super) async fn check_peer(&self, peer: &Session, system_identifier: u64) -> Result<u32, RejoinError> {
        let facts = self.facts_on(peer, &self.settings().name, Instant::now() + ASK).await?;
        if facts.system_identifier != system_identifier {
            return Err(RejoinError::DifferentCluster { ours: system_identifier, peers: facts.system_identifier });
        }
        if facts.in_recovery {
            return Err(RejoinError::PeerNotPrimary { peer: peer.place().to_owned() });
        }
        Ok(facts.timeline)
    }

    /// `standby.signal` first: a crash after it leaves a standby, whatever else is missing.
    pub(super) fn configure(&self, restore: bool) -> Result<(), RejoinError> {
        self.write_standby_signal()?;
        fault::point("rejoin.configure.signal");
        if restore {
            self.restore_node_files()?;
        }
        let conninfo = self.primary_conninfo()?;
        self.write_passfile()?;
        let changes = [
            ("primary_conninfo", Some(conninfo.as_str())),
            ("primary_slot_name", Some(self.settings().slot.as_str())),
            ("synchronous_standby_names", None),
        ];
        let path = self.in_data_dir("postgresql.auto.conf");
        self.edit_auto_conf(&changes).map_err(RejoinError::files(&path))
    }

    /// Until the WAL receiver streams on the peer's timeline, as long as something moves, and the peer has what it needs.
    pub(super) async fn wait_for_stream(&self, timeline: u32) -> Result<(), RejoinError> {
        let mark = self.mark_log();
        let (mut moved, mut asked) = (Instant::now(), Instant::now());
        let mut before = None;
        loop {
            let facts = self.facts(ASK).await.ok();
            // A receiver says `streaming` before its primary has looked for the WAL, also for a moment when that is gone.
            // The primary says so when it has sent all that it has.
            if facts.as_ref().is_some_and(|facts| facts.streaming && facts.timeline >= timeline)
                && self.peer_facts(ASK).await.is_ok_and(|peer| peer.streaming)
            {
                return Ok(());
            }
            let control = self.control().ok();
            let now = (facts.map(|facts| facts.lsn), control);
            if before != Some(now) {
                before = Some(now);
                (moved, asked) = (Instant::now(), Instant::now());
            }
            // What it asks for next: from where it replayed, or, before it is consistent, from before that point.
            let needs = now.0.or(control.map(|control| control.min_recovery)).filter(|lsn| *lsn > Lsn(0));
            if let Some((lsn, control)) = needs.zip(control)
                && asked.elapsed() > PATIENCE
            {
                asked = Instant::now();
                if self.is_gone(lsn, control.segment_size).await.unwrap_or(false) {
                    return Err(RejoinError::WalGone { lsn });
                }
            }
            if self.running().is_none() || moved.elapsed() > STREAM_LIMIT {
                return Err(RejoinError::NoStream { timeline, log: self.log_since(mark) });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The peer has no segment with this position, but later ones. By names, as its words about it are translated.
    async fn is_gone(&self, lsn: Lsn, segment_size: u32) -> Result<bool, SqlError> {
        let name = literal(&segment_name(lsn, segment_size));
        let sql = format!(
            "SELECT bool_or(number COLLATE \"C\" > {name}) AND NOT bool_or(number = {name})
             FROM (SELECT substr(name, 9) AS number FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{{24}}$') AS segments"
        );
        let peer = self.connect_peer(ASK).await?;
        Ok(peer.ask_one("the WAL that it has", &sql, ASK).await? == "t")
    }
}
