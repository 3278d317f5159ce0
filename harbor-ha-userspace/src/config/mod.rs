//! Configuration: a TOML file becomes a [`Configuration`], or a list of everything that is wrong with it.
//!
//! There are two forms, told apart by the tables that are there: a pair of nodes with a PostgreSQL between them
//! ([`settings::Settings`]), and plain VRRP ([`router::Settings`]).
//!
//! Keeps two promises to the operator: nothing is accepted that the daemon could not run with, and one run of
//! `harbor-ha check` names every mistake, each with its line and the value to write instead. `serde` stops at
//! the first mistake, so the rooms below walk the parsed document themselves:
//! `file` reads, `check` judges section by section through a `reader` that remembers which keys it was asked
//! for, `values` turns one TOML value into one unit, `lookup` fetches secrets.

mod check;
mod check_cloud;
mod check_lease;
mod check_observe;
mod check_postgres;
pub mod file;
pub mod keepalived;
pub mod lookup;
pub mod problems;
mod reader;
pub mod router;
pub mod secret;
pub mod settings;
mod suggest;
mod values;

#[cfg(test)]
mod tests;

pub use file::{Configuration, load, parse, parse_any, read};
pub use lookup::Lookup;
pub use problems::{Problem, Problems};
pub use settings::Settings;
