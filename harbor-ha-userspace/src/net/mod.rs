//! The network, seen from userspace: adverts, gratuitous ARP, the pulse thread, links and addresses.

pub mod advert;
pub mod announce;
pub mod flows;
pub mod garp;
pub mod netlink;
pub mod pulse;
pub mod realtime;
pub mod reset;
pub mod sequence;
pub mod tickle;
pub mod vrrp;
