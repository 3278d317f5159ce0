//! The running daemon.
//!
//! ```text
//!                    ┌ verdicts (ring buffer) ┐
//!   monitor ─inputs─►│                        │
//!   link ────inputs─►│  loop: core.handle()   ├─► perform: sockets, netlink, pulse thread
//!   tasks ───inputs─►│                        │            └ tasks on PostgreSQL ─inputs─►
//!   watchers ─facts──►│                        │            └ notifier: scripts, mail
//!   cloud ───inputs─►│                        │            (HaVip, fencing: told the latest, waited for by nobody)
//!   control ─asks───►└────────────────────────┘
//! ```
//!
//! One loop owns the core. Every task ends with the loop; none holds anything that its end would leave half done, as
//! PostgreSQL's own processes outlive the daemon and a rejoin keeps a journal.

mod audit;
mod build;
mod cloud;
mod control;
mod monitor;
mod outside;
mod perform;
mod repeated;
pub mod router;
mod run;
mod signals;
mod tracking;
mod witness;

pub use build::{BuildError, rules, tracking};
pub use control::{Request, ask, socket_path, socket_path_of};
pub use run::run;
