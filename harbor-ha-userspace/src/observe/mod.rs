//! What people and programs see of a running daemon.

pub mod cloud;
pub mod http;
mod lease;
pub mod metrics;
pub mod outside;
pub mod router;
pub mod status;
pub mod table;
#[cfg(test)]
mod tests;
pub mod words;
