//! The pure core.

pub mod facts;
