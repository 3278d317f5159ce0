//! harbor-ha: the daemon and its command line. Rooms, and who may know whom:
//!
//! ```text
//! vrrp ◄ core ◄ config ◄ observe ◄ kernel net pg witness ◄ daemon ◄ cli ◄ main
//! ```
//!
//! `core` (a pair) and `vrrp` (a plain router) are pure; adapters do not import each other; `daemon::perform` is where actions meet adapters.

pub mod cli;
pub mod config;
pub mod core;
pub mod daemon;
pub mod fault;
pub mod kernel;
pub mod net;
pub mod observe;
pub mod pg;
pub mod store;
pub mod vrrp;
pub mod witness;
