//! Does a data directory fit the history of the server that it is to follow?
//!
//! Pure, and by switch points: `pg_rewind` compares timeline numbers first, and takes two timelines of one number, which
//! two promoted nodes can come to, for one and the same.

use crate::core::facts::Lsn;

use super::RejoinError;
use super::control::{ControlFile, State};
use super::history::{self, Switch};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// All that is here is part of the peer's history.
    Follow,
    /// There are records here that the peer does not have.
    Rewind {
        /// Where the two histories part.
        fork: Lsn,
    },
}

/// What a data directory at rest needs to follow the server whose timeline and history are given.
///
/// # Errors
/// Both are on timelines of one number that are not one timeline.
pub(super) fn need(
    local: &ControlFile,
    ours: &[Switch],
    timeline: u32,
    theirs: &[Switch],
) -> Result<Need, RejoinError> {
    let mine = local.newest_timeline();
    let differs = ours.iter().find(|switch| {
        let end = history::end_of(theirs, switch.timeline);
        if switch.timeline < timeline { end != Some(switch.end) } else { true }
    });
    if mine == timeline {
        return match differs {
            // The same number for two different timelines: pg_rewind would say that there is nothing to do.
            Some(at) => {
                let why = format!("timeline {} ended elsewhere", at.timeline);
                let fork = Some(fork(ours, mine, theirs, timeline));
                Err(RejoinError::Diverged { timeline, why, fork })
            }
            None if local.state.is_standby() => Ok(Need::Follow),
            None => Err(RejoinError::Diverged { timeline, why: "both nodes wrote to it".to_owned(), fork: None }),
        };
    }
    let Some(end) = history::end_of(theirs, mine).filter(|_| differs.is_none()) else {
        return Ok(Need::Rewind { fork: fork(ours, mine, theirs, timeline) });
    };
    let fits = match local.state {
        // The shutdown checkpoint is a primary's last record, and the peer has it when it went on after it.
        State::ShutDown => local.checkpoint < end,
        // It wrote nothing of its own; and what it received is in its way only if replayed past the fork.
        State::ShutDownInRecovery | State::InArchiveRecovery => local.checkpoint.max(local.min_recovery) <= end,
        State::StartingUp | State::ShuttingDown | State::InCrashRecovery | State::InProduction => false,
    };
    Ok(if fits { Need::Follow } else { Need::Rewind { fork: fork(ours, mine, theirs, timeline) } })
}

/// Up to where both histories are one: the earlier end of the last timeline that they share.
fn fork(ours: &[Switch], mine: u32, theirs: &[Switch], timeline: u32) -> Lsn {
    let open = |timeline| Switch { timeline, end: Lsn(u64::MAX) };
    let ours = ours.iter().copied().chain([open(mine)]);
    let theirs = theirs.iter().copied().chain([open(timeline)]);
    let mut fork = Lsn(0);
    for (our, their) in ours.zip(theirs) {
        if our.timeline != their.timeline {
            break;
        }
        fork = our.end.min(their.end);
        if our.end != their.end {
            break;
        }
    }
    fork
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(state: State, timeline: u32, checkpoint: u64) -> ControlFile {
        ControlFile {
            system_identifier: 1,
            version: 1300,
            state,
            checkpoint: Lsn(checkpoint),
            redo: Lsn(checkpoint),
            timeline,
            previous_timeline: timeline,
            min_recovery: Lsn(0),
            min_recovery_timeline: 0,
            wal_log_hints: true,
            segment_size: 16 << 20,
            checksum_version: 0,
        }
    }

    fn left(timeline: u32, end: u64) -> Switch {
        Switch { timeline, end: Lsn(end) }
    }

    fn need_of(local: ControlFile, ours: &[Switch], timeline: u32, theirs: &[Switch]) -> Option<Need> {
        need(&local, ours, timeline, theirs).ok()
    }

    #[test]
    fn a_primary_that_shut_down_before_the_fork_follows_and_one_after_it_rewinds() {
        let fork = [left(1, 0x1000)];
        assert_eq!(need_of(local(State::ShutDown, 1, 0xf88), &[], 2, &fork), Some(Need::Follow));
        assert_eq!(need_of(local(State::ShutDown, 1, 0x1000), &[], 2, &fork), Some(Need::Rewind { fork: Lsn(0x1000) }));
    }

    #[test]
    fn a_primary_that_crashed_rewinds_wherever_its_checkpoint_is() {
        for checkpoint in [0xf00, 0x1000, 0x2000] {
            let crashed = local(State::InProduction, 1, checkpoint);
            assert_eq!(need_of(crashed, &[], 2, &[left(1, 0x1000)]), Some(Need::Rewind { fork: Lsn(0x1000) }));
        }
    }

    #[test]
    fn a_standby_follows_unless_it_replayed_past_the_fork() {
        let mut standby = local(State::InArchiveRecovery, 1, 0xf00);
        for (replayed, expected) in [(0x1000, Need::Follow), (0x1001, Need::Rewind { fork: Lsn(0x1000) })] {
            (standby.min_recovery, standby.min_recovery_timeline) = (Lsn(replayed), 1);
            assert_eq!(need_of(standby, &[], 2, &[left(1, 0x1000)]), Some(expected));
        }
        assert_eq!(
            need_of(local(State::ShutDownInRecovery, 2, 9), &[left(1, 5)], 2, &[left(1, 5)]),
            Some(Need::Follow)
        );
    }

    #[test]
    fn equal_numbers_are_one_timeline_only_if_they_begin_at_one_place() {
        let standby = local(State::InArchiveRecovery, 2, 0x2000);
        assert_eq!(need_of(standby, &[left(1, 0x1000)], 2, &[left(1, 0x1008)]), None);
        let primary = local(State::ShutDown, 2, 0x2000);
        assert_eq!(need_of(primary, &[left(1, 0x1000)], 2, &[left(1, 0x1000)]), None);
    }

    #[test]
    fn a_timeline_that_the_peer_never_was_on_is_rewound() {
        let other = local(State::ShutDown, 2, 0x2000);
        let theirs = [left(1, 0x900), left(2, 0x5000)];
        assert_eq!(need_of(other, &[left(1, 0x1000)], 3, &theirs), Some(Need::Rewind { fork: Lsn(0x900) }));
        assert_eq!(
            need_of(local(State::ShutDown, 3, 9), &[left(1, 5), left(2, 7)], 2, &[left(1, 5)]),
            Some(Need::Rewind { fork: Lsn(7) })
        );
    }
}
