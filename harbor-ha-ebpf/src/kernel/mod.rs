//! The only code that calls kernel helpers: maps, packets, timers, the clock, the ring buffer.

pub mod emit;
pub mod flows;
pub mod gate;
pub mod lease;
pub mod maps;
pub mod packet;
pub mod peer;
pub mod reflect;
pub mod time;
pub mod timer;
