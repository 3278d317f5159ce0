//! What this node does about Alibaba Cloud: whether the HaVip followed, and what to take from a dead peer.
//!
//! Pure, and beside the state machine of takeover and demotion, which knows nothing of it: a takeover waits for no cloud.
//! Whoever runs it tells what happened and carries out what comes back, one thing at a time.

pub mod fence;
pub mod follow;
