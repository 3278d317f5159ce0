//! What outlives the daemon: written whole, synced, renamed into place.

pub mod pause;
pub mod term;
