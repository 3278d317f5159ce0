//! What people and programs see of a running daemon.

pub mod status;
pub mod table;
