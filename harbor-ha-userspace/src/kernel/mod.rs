//! The kernel as this host has it: what it can do, and what of ours is in it.

pub mod cgroup;
pub mod findings;
pub mod flows;
pub mod gate;
mod link;
pub mod load;
pub mod maps;
pub mod own;
pub mod probe;
pub mod trace;
pub mod verdicts;

pub use findings::{Finding, Level, findings};
pub use probe::Host;
