//! Wire formats. Each parser takes a [`Cursor`](cursor::Cursor), reads what the layout says, and never panics.
//!
//! Two levels: a parser makes a value that is well-formed; whether that value *counts* (right peer, right router id,
//! fresh) is decided in [`crate::decide::filter`].

pub mod arp;
pub mod checksum;
pub mod cursor;
pub mod ethernet;
pub mod flows;
pub mod ipv4;
pub mod pulse;
pub mod siphash;
pub mod tcp;
pub mod vrrp;
