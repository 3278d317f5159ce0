//! What outlives the daemon: written whole, synced, renamed into place.

pub mod term;
