//! What both sides of the kernel border agree on: units, wire formats, map records, and the pure decisions on them.
//!
//! `no_std` and without dependencies, so that the XDP program, the daemon, the simulator and the tests run the very
//! same code. The program itself is the binary of this package; only it calls kernel helpers.
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`units`] | nanoseconds, priorities, router ids |
//! | [`names`] | programs, maps and the places where they are pinned |
//! | [`wire`] | Ethernet, IPv4, VRRP and pulse layouts |
//! | [`records`] | map values and ring buffer events |
//! | [`decide`] | which packets count, when a peer is dead |
#![cfg_attr(not(test), no_std)]

pub mod decide;
pub mod names;
pub mod records;
pub mod units;
pub mod wire;
