//! Why a rejoin, or following the peer, did not end with a standby that streams.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::core::facts::Lsn;

use crate::pg::connect::SqlError;
use crate::pg::{ControlError, JournalError, SettingError, StartError};

/// Why this node is not a standby yet.
#[derive(Debug, thiserror::Error)]
pub enum RejoinError {
    /// Somebody is in the data directory. Try again when they are gone.
    #[error("`{data_dir}` is in use by {pids:?}")]
    Busy {
        /// The data directory.
        data_dir: PathBuf,
        /// Who.
        pids: Vec<i32>,
    },
    /// The journal cannot be kept.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// `pg_control` cannot be read.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The peer, or our own server, does not answer as it should. Worth another try.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The settings of a running standby could not be changed.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The standby did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Two clusters that were never one. For the operator.
    #[error("the peer's system identifier is {peers} and ours is {ours}: not the same cluster")]
    DifferentCluster {
        /// Of our `pg_control`.
        ours: u64,
        /// Of the peer's server.
        peers: u64,
    },
    /// There is nobody to follow.
    #[error("PostgreSQL at `{peer}` is in recovery: not a primary that can be followed")]
    PeerNotPrimary {
        /// Address and port.
        peer: String,
    },
    /// It was promoted again while we looked. Try again.
    #[error("the peer was on timeline {expected} and its control file now says {found}")]
    PeerChanged {
        /// Before.
        expected: u32,
        /// After its checkpoint.
        found: String,
    },
    /// Both were primaries on timelines of the same number, which `pg_rewind` takes for one and the same. Needs a base
    /// backup.
    #[error("both nodes are on timeline {timeline} and their histories differ ({why}): a base backup is needed")]
    Diverged {
        /// The number.
        timeline: u32,
        /// How they differ.
        why: String,
        /// Up to where they are one, where that can be told.
        fork: Option<Lsn>,
    },
    /// Without it the two histories cannot be compared. Needs a base backup.
    #[error(
        "the history of timeline {timeline} is missing {place}: without it the two histories cannot be compared, a base backup is needed"
    )]
    NoHistory {
        /// The number.
        timeline: u32,
        /// Here or there.
        place: &'static str,
    },
    /// The peer has removed WAL that this standby has yet to receive. Needs a base backup.
    #[error("the peer no longer has the WAL at {lsn} that this standby needs next: a base backup is needed")]
    WalGone {
        /// From where.
        lsn: Lsn,
    },
    /// A base backup cannot be put in the place of this data directory. For the operator.
    #[error("no base backup in the place of `{path}`: {why}")]
    Place {
        /// The data directory.
        path: PathBuf,
        /// Why not, and what to do.
        why: String,
    },
    /// Not enough room beside the data directory. For the operator; nothing was changed.
    #[error(
        "a base backup beside the old data directory needs {needed} MiB in `{path}`, and {free} MiB are free: make room (the \
         old directory stays until the new one streams)"
    )]
    NoRoom {
        /// The parent of the data directory.
        path: PathBuf,
        /// MiB.
        needed: u64,
        /// MiB.
        free: u64,
    },
    /// Tablespaces lie outside the data directory, at paths of the primary. For the operator.
    #[error(
        "the primary has tablespaces ({names}), which a base backup here would put at the primary's paths: make this \
         standby by hand, with pg_basebackup --tablespace-mapping"
    )]
    Tablespaces {
        /// Their names.
        names: String,
    },
    /// `pg_basebackup` failed. The old data directory is as it was; worth another try.
    #[error("pg_basebackup failed, and the old data directory is as it was: {text}")]
    BaseBackup {
        /// Its words.
        text: String,
    },
    /// `Pg::reinit` found a primary.
    #[error("the server that runs here is a primary: it is not made anew; switch over first")]
    IsPrimary,
    /// Replication must not run over a virtual address. For the operator.
    #[error("the peer's address {vip} is a virtual one: replication must use the peer's own")]
    UpstreamIsVip {
        /// The address.
        vip: Ipv4Addr,
    },
    /// Needs a base backup, and a setting for the next time.
    #[error(
        "neither wal_log_hints nor data checksums were on when this server last ran: pg_rewind cannot help, a base backup is needed"
    )]
    NotRewindable,
    /// Crash recovery failed.
    #[error("crash recovery in single-user mode failed: {text}")]
    Recovery {
        /// PostgreSQL's words.
        text: String,
    },
    /// `pg_rewind` failed, and the peer does not answer: worth another try.
    #[error("pg_rewind failed, and the peer does not answer: {text}")]
    Rewind {
        /// Its words.
        text: String,
    },
    /// `pg_rewind` failed, and the connection was not to blame.
    #[error("pg_rewind failed, and the peer answers: a base backup is needed: {text}")]
    BaseBackupNeeded {
        /// Its words.
        text: String,
    },
    /// A program could not be run, or did not end.
    #[error("`{program}`: {source}")]
    Program {
        /// The program.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A file could not be read or written.
    #[error("`{path}`: {source}")]
    Files {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Started, and does not follow; stopped again.
    #[error("the standby does not stream on timeline {timeline}: {log}")]
    NoStream {
        /// The peer's.
        timeline: u32,
        /// The last words of its log.
        log: String,
    },
    /// `follow` was called on a primary, or on a directory that was one.
    #[error("the local server is, or was, a primary: it cannot follow without a rejoin")]
    NotStandby,
}

impl RejoinError {
    /// Whether a base backup helps, and nothing less does.
    pub const fn needs_base_backup(&self) -> bool {
        matches!(
            self,
            Self::Diverged { .. }
                | Self::NoHistory { .. }
                | Self::WalGone { .. }
                | Self::NotRewindable
                | Self::Recovery { .. }
                | Self::BaseBackupNeeded { .. }
        )
    }

    pub(in crate::pg) fn files(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Files { path, source }
    }

    pub(in crate::pg) fn program(program: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Program { program, source }
    }
}
