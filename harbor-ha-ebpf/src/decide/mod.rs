//! Decisions on packets and deadlines: pure functions that the kernel, the fallback and the simulator share.

pub mod detector;
pub mod filter;
pub mod flow;
pub mod gate;
