//! The lab and the suites.
//!
//! [`lab`] makes hosts of network namespaces and breaks them; [`run`] is the main job on top of it: a
//! client that writes through the virtual address while its primary dies. [`chaos`]: random faults
//! together, and a judgement from outside. [`points`]: a death at each
//! single step. [`sim`] runs the core on virtual time, [`model`] explores the
//! lease protocol exhaustively. [`cloud`] is a double of the cloud's services. [`frames`] is what a real keepalived sends.
//! [`vrrp`] measures plain VRRP. The suites lie in `suites/`.

pub mod chaos;
pub mod cloud;
pub mod frames;
pub mod lab;
pub mod model;
pub mod points;
pub mod run;
pub mod sim;
pub mod vrrp;
