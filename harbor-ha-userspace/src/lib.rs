//! harbor-ha: the daemon and its command line. Rooms, and who may know whom:
//!
//! ```text
//! vrrp ◄ core ◄ config ◄ observe ◄ kernel net pg cloud witness ◄ daemon ◄ cli ◄ main
//!                        program ◄ notify health         ◄
//! ```
//!
//! `core` (a pair) and `vrrp` (a plain router) are pure; adapters do not import each other; `daemon::perform` and
//! `daemon::router` are where actions meet adapters. `program` runs what others wrote, for the two rooms that do so;
//! `clock` is for all but the pure.

pub mod cli;
pub mod clock;
pub mod cloud;
pub mod config;
pub mod core;
pub mod daemon;
pub mod fault;
pub mod health;
pub mod kernel;
pub mod net;
pub mod notify;
pub mod observe;
pub mod pg;
pub mod program;
#[cfg(test)]
mod skip;
pub mod store;
pub mod vrrp;
pub mod witness;
