//! The router form: plain VRRP in as many instances as there are, the drop-in for keepalived.
//!
//! A file is of this form when it holds `[router]`, `[[instance]]` or `[[group]]`; the tables that both forms have
//! (`[[script]] [[process]] [[file]] [mail]`, tracking and notifying) are judged in `shared`, for both.
//! `host` looks at what only a host can tell: interfaces, addresses, scripts and their modes.

pub(super) mod check;
pub mod command;
pub mod host;
pub(super) mod instance;
pub mod settings;
pub(super) mod shared;

#[cfg(test)]
mod tests;

pub use settings::Settings;
