//! What both sides of the kernel border agree on.
#![cfg_attr(not(test), no_std)]

pub mod units;
