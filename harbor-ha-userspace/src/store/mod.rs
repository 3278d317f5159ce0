//! What outlives the daemon: written whole, synced, renamed into place; an audit is only added to.

pub mod fence;
pub mod pause;
pub mod term;
