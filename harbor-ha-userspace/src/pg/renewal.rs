//! The order in which a base backup takes the place of a data directory: pure, so that the simulator runs the same rule.
//!
//! ```text
//! Copy ──► Swap: data aside, new in ──► Swapped: start, stream ──► Streamed: the old one may go ──► done
//! ```
//!
//! What keeps the promise that no data directory is removed before its replacement streams: only [`Move::Remove`] removes
//! one, and only [`Stage::Streamed`] leads to it. Which stage a crash interrupted is in the journal; which of its renames
//! were done is seen by looking.

use serde::{Deserialize, Serialize};

/// What a crash may have interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The base backup is made; the data directory is untouched.
    Copy,
    /// The base backup is complete, and the two renames are on.
    Swap,
    /// The new directory is in its place, and has not streamed yet.
    Swapped,
    /// It streamed: the old one may go.
    Streamed,
}

/// Which directories are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// In the data directory's place, whichever it is.
    pub data: bool,
    /// The base backup, not in its place.
    pub fresh: bool,
    /// The one whose place was taken.
    pub old: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Make the base backup, from its beginning. Then: [`Stage::Swap`].
    Copy,
    /// Rename the data directory, so that its place is free.
    Aside,
    /// Rename the base backup into the free place.
    In,
    /// Both renames are done. Then: [`Stage::Swapped`].
    Note,
    /// Start the new one and wait until it streams. Then: [`Stage::Streamed`].
    Stream,
    /// Remove the old one, if there is one.
    Remove,
    /// A directory is missing that nothing of ours removes.
    Stop,
}

/// The next move of a renewal whose journal says `stage`.
pub const fn next(stage: Stage, places: Places) -> Move {
    match (stage, places) {
        (Stage::Copy, Places { data: true, .. }) => Move::Copy,
        (Stage::Swap, Places { data: true, fresh: true, old: false }) => Move::Aside,
        (Stage::Swap, Places { data: false, fresh: true, old: true }) => Move::In,
        (Stage::Swap, Places { data: true, fresh: false, old: true }) => Move::Note,
        (Stage::Swapped, Places { data: true, .. }) => Move::Stream,
        (Stage::Streamed, _) => Move::Remove,
        (Stage::Copy | Stage::Swap | Stage::Swapped, _) => Move::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: [bool; 2] = [false, true];

    fn every_place() -> impl Iterator<Item = Places> {
        ANY.into_iter().flat_map(|data| {
            ANY.into_iter().flat_map(move |fresh| ANY.into_iter().map(move |old| Places { data, fresh, old }))
        })
    }

    #[test]
    fn nothing_is_removed_before_its_replacement_streamed() {
        for places in every_place() {
            for stage in [Stage::Copy, Stage::Swap, Stage::Swapped] {
                assert_ne!(next(stage, places), Move::Remove, "{stage:?} {places:?}");
            }
        }
    }

    #[test]
    fn a_rename_never_meets_a_directory_in_its_way() {
        for places in every_place() {
            match next(Stage::Swap, places) {
                Move::Aside => assert!(places.data && !places.old),
                Move::In => assert!(!places.data && places.fresh && places.old),
                Move::Note => assert!(places.data && places.old && !places.fresh),
                Move::Stop => {}
                other => panic!("{other:?} in a swap"),
            }
        }
    }
}
