//! The interfaces of this network namespace, and one of them closely.

use std::net::Ipv4Addr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage, LinkXdp};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::probe::{Unreadable, ipv4};

/// An interface by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// As `ip link` shows it.
    pub name: String,
    /// Its IPv4 addresses.
    pub addresses: Vec<Ipv4Addr>,
}

/// An interface as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Switched on.
    pub up: bool,
    /// Has a carrier.
    pub running: bool,
    /// Speaks Ethernet.
    pub ethernet: bool,
    /// Largest packet, in bytes.
    pub mtu: Option<u32>,
    /// The XDP programs on it.
    pub xdp: Vec<Attached>,
}

/// An XDP program on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Where it sits.
    pub hook: XdpHook,
    /// The kernel's number for it, as `bpftool prog show id` takes it.
    pub id: u32,
    /// At most 15 bytes of its name; `None` when it may not be read.
    pub name: Option<String>,
}

/// The places on an interface that an XDP program can sit in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpHook {
    /// In the driver.
    Native,
    /// Behind the driver, for any interface.
    Generic,
    /// On the card.
    Hardware,
}

/// All interfaces, in the kernel's order.
pub(super) fn interfaces() -> Result<Vec<Interface>, Unreadable> {
    let mut found: Vec<Interface> = Vec::new();
    for entry in getifaddrs()? {
        let address = entry.address.as_ref().and_then(ipv4);
        match found.iter_mut().find(|interface| interface.name == entry.interface_name) {
            Some(interface) => interface.addresses.extend(address),
            None => found.push(Interface { name: entry.interface_name, addresses: address.into_iter().collect() }),
        }
    }
    Ok(found)
}

/// The interface `name`; `None` when there is none.
pub(super) fn link(name: &str) -> Result<Option<Link>, Unreadable> {
    let index = match if_nametoindex(name) {
        Ok(index) => index,
        Err(nix::Error::ENODEV | nix::Error::ENXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let message = ask(index)?;
    let mut link = Link {
        up: message.header.flags.contains(LinkFlags::Up),
        running: message.header.flags.contains(LinkFlags::LowerUp),
        ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        mtu: None,
        xdp: Vec::new(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => link.mtu = Some(*mtu),
            LinkAttribute::Xdp(parts) => link.xdp = parts.iter().filter_map(attached).collect(),
            _ => {}
        }
    }
    Ok(Some(link))
}

/// One program; the plain `ProgId` repeats one of the others.
fn attached(part: &LinkXdp) -> Option<Attached> {
    let (hook, id) = match part {
        LinkXdp::DrvProgId(id) => (XdpHook::Native, *id),
        LinkXdp::SkbProgId(id) => (XdpHook::Generic, *id),
        LinkXdp::HwProgId(id) => (XdpHook::Hardware, *id),
        _ => return None,
    };
    Some(Attached { hook, id, name: program_name(id) })
}

/// Needs `CAP_SYS_ADMIN`, as does every look at objects of others.
fn program_name(id: u32) -> Option<String> {
    let mut programs = aya::programs::loaded_programs().map_while(Result::ok);
    programs.find(|program| program.id() == id).and_then(|program| program.name_as_str().map(str::to_owned))
}

/// One question and one answer on a socket of its own: no runtime is needed to look at a host.
fn ask(index: u32) -> Result<LinkMessage, Unreadable> {
    let mut question = LinkMessage::default();
    question.header.index = index;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut packet = NetlinkMessage::new(header, RouteNetlinkMessage::GetLink(question).into());
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);

    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(|e| Unreadable(e.to_string()))?;
    match answer.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Ok(link),
        NetlinkPayload::Error(error) => Err(error.to_io().into()),
        other => Err(Unreadable(format!("netlink answered with message type {}", other.message_type()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_found_and_described() {
        assert!(interfaces().unwrap().iter().any(|interface| interface.name == "lo"));
        let link = link("lo").unwrap().unwrap();
        assert!(!link.ethernet && link.mtu.is_some_and(|mtu| mtu >= 576), "{link:?}");
    }

    #[test]
    fn an_interface_that_is_not_there_is_none() {
        assert_eq!(link("harbor-none"), Ok(None));
    }
}
