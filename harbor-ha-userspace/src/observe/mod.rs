//! What people and programs see of a running daemon.

mod lease;
pub mod router;
pub mod status;
pub mod table;
#[cfg(test)]
mod tests;
pub mod words;
