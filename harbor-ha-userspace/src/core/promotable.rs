//! May this standby become the primary, and if not, why not.

use serde::Serialize;

use super::facts::{Lsn, PgFacts};
use super::peer::LastPrimary;
use super::rules::SyncPolicy;

/// A reason to refuse a takeover. Each has a sentence for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum NotPromotable {
    /// PostgreSQL does not run, or does not answer.
    Down,
    /// Replay is paused: the tail of the WAL would have to wait for an operator.
    Paused,
    /// Replication is synchronous, and the primary did not count on this node at its last sign.
    Behind {
        /// What this node has.
        ours: Lsn,
        /// What the primary had.
        theirs: Lsn,
    },
    /// Replication is synchronous, and this node has never heard of a primary since it started.
    NeverHeard,
    /// Commits do not wait for the standby, and this one is further behind than `postgres.max_lag`.
    Lag {
        /// Bytes that the primary had and this node has not.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The primary was not known to serve by this node's echoes alone: it may serve still.
    NoRight,
    /// This node has given its right up for the term.
    Waived {
        /// The primary's term.
        term: u64,
    },
    /// The witness gave the right to serve to the other node.
    WitnessRefused,
    /// The witness does not answer.
    WitnessUnreachable,
    /// An operator has paused automatic action.
    Hold,
    /// The term of a takeover is not on disk, or not yet.
    TermNotStored,
    /// The peer's PostgreSQL is another cluster.
    OtherCluster {
        /// Our system identifier.
        ours: u64,
        /// The peer's.
        theirs: u64,
    },
    /// The primary was on a later timeline than this node replays.
    Timeline {
        /// Ours.
        ours: u32,
        /// The primary's.
        theirs: u32,
    },
    /// Something that this node tracks with weight 0 has failed, or was not looked at yet.
    Tracked,
}

impl NotPromotable {
    /// It lies in what is on this disk, which only a primary can mend, or in a check that fails: who has resigned to this
    /// node waits in vain.
    pub const fn is_lasting(self) -> bool {
        match self {
            Self::Behind { .. }
            | Self::NeverHeard
            | Self::Lag { .. }
            | Self::Waived { .. }
            | Self::OtherCluster { .. }
            | Self::Timeline { .. }
            | Self::Tracked => true,
            Self::Down
            | Self::Paused
            | Self::NoRight
            | Self::WitnessRefused
            | Self::WitnessUnreachable
            | Self::Hold
            | Self::TermNotStored => false,
        }
    }

    /// Every name, in the order of the enum: whoever counts shows a zero for what never happened.
    pub const NAMES: [&'static str; 14] = [
        "down",
        "replay_paused",
        "behind",
        "never_heard",
        "lag",
        "no_right",
        "waived",
        "witness_refused",
        "witness_unreachable",
        "paused",
        "term_not_stored",
        "other_cluster",
        "timeline",
        "tracked",
    ];

    /// Its name in tables, metrics and `status`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Paused => "replay_paused",
            Self::Behind { .. } => "behind",
            Self::NeverHeard => "never_heard",
            Self::Lag { .. } => "lag",
            Self::NoRight => "no_right",
            Self::Waived { .. } => "waived",
            Self::WitnessRefused => "witness_refused",
            Self::WitnessUnreachable => "witness_unreachable",
            Self::Hold => "paused",
            Self::TermNotStored => "term_not_stored",
            Self::OtherCluster { .. } => "other_cluster",
            Self::Timeline { .. } => "timeline",
            Self::Tracked => "tracked",
        }
    }
}

impl std::fmt::Display for NotPromotable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Down => write!(f, "PostgreSQL of this node does not answer"),
            Self::Paused => write!(f, "WAL replay is paused; run `SELECT pg_wal_replay_resume()`"),
            Self::Behind { ours, theirs } => write!(
                f,
                "this node was no synchronous standby and has WAL up to {ours}, the primary had {theirs}: \
                 acknowledged writes would be lost"
            ),
            Self::NeverHeard => write!(
                f,
                "this node has not heard of a primary since it started, so it cannot know whether it has every \
                 acknowledged write"
            ),
            Self::Lag { bytes, limit } => write!(
                f,
                "this node is {bytes} bytes of WAL behind the primary, more than `postgres.max_lag` ({limit}): these \
                 writes would be lost; if they may be, run `harbor-ha failover --force --reason ...`"
            ),
            Self::NoRight => write!(
                f,
                "the primary did not serve by this node's lease when it was last heard, so it may serve still; if it is \
                 certainly gone, run `harbor-ha failover --force --reason ...`"
            ),
            Self::Waived { term } => write!(
                f,
                "this node has waived its right to succeed the primary of term {term}, which may have acknowledged \
                 writes without it; if they may be lost, run `harbor-ha failover --force --reason ...`"
            ),
            Self::WitnessRefused => write!(f, "the witness has given the right to serve to the other node"),
            Self::WitnessUnreachable => {
                write!(f, "the witness does not answer, and without its word the primary may serve still")
            }
            Self::Hold => write!(f, "automatic action is paused; run `harbor-ha resume`"),
            Self::TermNotStored => write!(
                f,
                "the term of a takeover is not on disk; if this stays, look at the space and the rights of `node.state_dir`"
            ),
            Self::OtherCluster { ours, theirs } => write!(
                f,
                "the peer's PostgreSQL is another cluster (system identifier {theirs}, here {ours}): one of the two \
                 data directories is the wrong one, make it anew with pg_basebackup"
            ),
            Self::Timeline { ours, theirs } => {
                write!(f, "this node is on timeline {ours}, the primary was on {theirs}: it has to rejoin first")
            }
            Self::Tracked => write!(
                f,
                "a node whose check fails does not take over; mend it, or, if this node shall serve all the same, run \
                 `harbor-ha failover --force --reason ...`"
            ),
        }
    }
}

/// Whether a standby with these facts may be promoted.
///
/// # Errors
///
/// The first reason against it.
pub fn promotable(
    facts: Option<&PgFacts>,
    last: Option<&LastPrimary>,
    sync: SyncPolicy,
    max_lag: u64,
) -> Result<(), NotPromotable> {
    let sync_required = sync.names_standby();
    let facts = facts.ok_or(NotPromotable::Down)?;
    if facts.replay_paused {
        return Err(NotPromotable::Paused);
    }
    let Some(last) = last else {
        return if sync_required { Err(NotPromotable::NeverHeard) } else { Ok(()) };
    };
    if last.timeline > facts.timeline {
        return Err(NotPromotable::Timeline { ours: facts.timeline, theirs: last.timeline });
    }
    if sync_required && !last.sync && facts.lsn < last.lsn {
        return Err(NotPromotable::Behind { ours: facts.lsn, theirs: last.lsn });
    }
    let bytes = last.lsn.0.saturating_sub(facts.lsn.0);
    if !sync_required && last.timeline == facts.timeline && bytes > max_lag {
        return Err(NotPromotable::Lag { bytes, limit: max_lag });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAG: u64 = 16;

    fn facts(lsn: u64, timeline: u32) -> PgFacts {
        PgFacts {
            in_recovery: true,
            system_identifier: 1,
            timeline,
            lsn: Lsn(lsn),
            streaming: true,
            peer_is_sync: false,
            sync_names: String::new(),
            replay_paused: false,
            ..PgFacts::default()
        }
    }

    const fn last(sync: bool, lsn: u64, timeline: u32) -> LastPrimary {
        LastPrimary { sync, lsn: Lsn(lsn), timeline }
    }

    #[test]
    fn the_list_of_names_has_every_reason_in_its_place() {
        // A new variant does not compile before it has a place here, and the test then asks for its name.
        let place = |reason: &NotPromotable| match reason {
            NotPromotable::Down => 0,
            NotPromotable::Paused => 1,
            NotPromotable::Behind { .. } => 2,
            NotPromotable::NeverHeard => 3,
            NotPromotable::Lag { .. } => 4,
            NotPromotable::NoRight => 5,
            NotPromotable::Waived { .. } => 6,
            NotPromotable::WitnessRefused => 7,
            NotPromotable::WitnessUnreachable => 8,
            NotPromotable::Hold => 9,
            NotPromotable::TermNotStored => 10,
            NotPromotable::OtherCluster { .. } => 11,
            NotPromotable::Timeline { .. } => 12,
            NotPromotable::Tracked => 13,
        };
        let all = [
            NotPromotable::Down,
            NotPromotable::Paused,
            NotPromotable::Behind { ours: Lsn(1), theirs: Lsn(2) },
            NotPromotable::NeverHeard,
            NotPromotable::Lag { bytes: 2, limit: 1 },
            NotPromotable::NoRight,
            NotPromotable::Waived { term: 1 },
            NotPromotable::WitnessRefused,
            NotPromotable::WitnessUnreachable,
            NotPromotable::Hold,
            NotPromotable::TermNotStored,
            NotPromotable::OtherCluster { ours: 1, theirs: 2 },
            NotPromotable::Timeline { ours: 1, theirs: 2 },
            NotPromotable::Tracked,
        ];
        let named: Vec<_> = all.iter().map(|reason| NotPromotable::NAMES[place(reason)]).collect();
        assert_eq!(named, all.each_ref().map(NotPromotable::name));
        assert_eq!(named, NotPromotable::NAMES);
    }

    #[test]
    fn a_synchronous_standby_may_lag_in_what_it_knows_of_itself() {
        assert_eq!(promotable(Some(&facts(5, 1)), Some(&last(true, 9, 1)), SyncPolicy::Required, LAG), Ok(()));
    }

    #[test]
    fn an_asynchronous_one_must_have_all_that_the_primary_had() {
        let behind = NotPromotable::Behind { ours: Lsn(8), theirs: Lsn(9) };
        assert_eq!(promotable(Some(&facts(8, 1)), Some(&last(false, 9, 1)), SyncPolicy::Required, LAG), Err(behind));
        assert_eq!(promotable(Some(&facts(9, 1)), Some(&last(false, 9, 1)), SyncPolicy::Required, LAG), Ok(()));
        assert_eq!(promotable(Some(&facts(8, 1)), Some(&last(false, 9, 1)), SyncPolicy::Off, LAG), Ok(()));
    }

    #[test]
    fn a_standby_that_was_never_told_waits_for_an_operator() {
        assert_eq!(promotable(Some(&facts(8, 1)), None, SyncPolicy::Required, LAG), Err(NotPromotable::NeverHeard));
        assert_eq!(promotable(Some(&facts(8, 1)), None, SyncPolicy::Off, LAG), Ok(()));
    }

    #[test]
    fn an_older_timeline_is_refused_whatever_the_policy() {
        let refused = Err(NotPromotable::Timeline { ours: 1, theirs: 2 });
        assert_eq!(promotable(Some(&facts(9, 1)), Some(&last(true, 1, 2)), SyncPolicy::Off, LAG), refused);
    }

    #[test]
    fn a_paused_or_absent_server_is_refused() {
        let paused = PgFacts { replay_paused: true, ..facts(9, 1) };
        assert_eq!(
            promotable(Some(&paused), Some(&last(true, 9, 1)), SyncPolicy::Required, LAG),
            Err(NotPromotable::Paused)
        );
        assert_eq!(promotable(None, Some(&last(true, 9, 1)), SyncPolicy::Required, LAG), Err(NotPromotable::Down));
    }

    #[test]
    fn an_asynchronous_standby_may_lose_so_much_and_no_more() {
        let refused = Err(NotPromotable::Lag { bytes: 17, limit: LAG });
        assert_eq!(promotable(Some(&facts(100, 1)), Some(&last(false, 117, 1)), SyncPolicy::Off, LAG), refused);
        assert_eq!(promotable(Some(&facts(100, 1)), Some(&last(false, 116, 1)), SyncPolicy::Off, LAG), Ok(()));
    }
}
