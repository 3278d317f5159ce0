//! harbor-ha: the daemon and its command line.

pub mod config;
pub mod core;
pub mod pg;
