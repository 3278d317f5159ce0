//! Links and addresses, by netlink.

use std::io;
use std::net::Ipv4Addr;

use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{AddressMessageBuilder, Handle, MulticastGroup};

use crate::config::settings::Vip;

/// What went wrong on an interface.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket.
    #[error("cannot open a netlink socket: {0}")]
    Socket(#[from] io::Error),
    /// No such interface in this network namespace.
    #[error("there is no interface `{0}` on this host; `ip -br link` lists them")]
    NoInterface(String),
    /// The interface has no Ethernet address: gratuitous ARP makes no sense there.
    #[error("interface `{0}` has no Ethernet address")]
    NoMac(String),
    /// The kernel refused.
    #[error("{what}: {source}")]
    Refused {
        /// What was tried.
        what: String,
        /// What the kernel said.
        source: rtnetlink::Error,
    },
}

/// One interface.
#[derive(Clone, Debug)]
pub struct Interface {
    handle: Handle,
    name: String,
    /// Its index.
    pub index: u32,
    /// Its Ethernet address.
    pub mac: [u8; 6],
}

/// What the interface is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Up, with carrier.
    pub up: bool,
}

impl Interface {
    /// Finds the interface and follows its state; the first item of the stream is the state now.
    ///
    /// # Errors
    ///
    /// [`NetlinkError`].
    pub async fn open(name: &str) -> Result<(Self, impl Stream<Item = LinkState> + Unpin + use<>), NetlinkError> {
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&[MulticastGroup::Link])?;
        tokio::spawn(connection);
        let message = find(&handle, name).await?;
        let mac = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(address) => <[u8; 6]>::try_from(address.as_slice()).ok(),
            _ => None,
        });
        let index = message.header.index;
        let mac = mac.ok_or_else(|| NetlinkError::NoMac(name.to_owned()))?;
        let first = state(&message);
        let changes = messages.filter_map(move |(message, _)| {
            std::future::ready(match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) if link.header.index == index => {
                    Some(state(&link))
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) if link.header.index == index => {
                    Some(LinkState { up: false })
                }
                _ => None,
            })
        });
        let changes = futures_util::stream::once(std::future::ready(first)).chain(changes);
        Ok((Self { handle, name: name.to_owned(), index, mac }, Box::pin(changes)))
    }

    /// Puts an address on the interface; one that is there already is fine.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub async fn add(&self, vip: Vip) -> Result<(), NetlinkError> {
        let request = self.handle.address().add(self.index, vip.address.into(), vip.prefix).replace();
        request.execute().await.map_err(|source| NetlinkError::Refused {
            what: format!("cannot add {}/{} to `{}`", vip.address, vip.prefix, self.name),
            source,
        })
    }

    /// Takes an address off the interface; one that is not there is fine.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub async fn remove(&self, vip: Vip) -> Result<(), NetlinkError> {
        let message =
            AddressMessageBuilder::<Ipv4Addr>::new().index(self.index).address(vip.address, vip.prefix).build();
        match self.handle.address().del(message).execute().await {
            Ok(()) => Ok(()),
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::EADDRNOTAVAIL => Ok(()),
            Err(source) => Err(NetlinkError::Refused {
                what: format!("cannot remove {}/{} from `{}`", vip.address, vip.prefix, self.name),
                source,
            }),
        }
    }

    /// The IPv4 addresses on the interface.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub async fn addresses(&self) -> Result<Vec<Ipv4Addr>, NetlinkError> {
        let list = self.handle.address().get().set_link_index_filter(self.index).execute();
        let messages: Vec<_> = list.try_collect().await.map_err(|source| NetlinkError::Refused {
            what: format!("cannot list the addresses of `{}`", self.name),
            source,
        })?;
        let address = |attribute| match attribute {
            AddressAttribute::Local(std::net::IpAddr::V4(address)) => Some(address),
            _ => None,
        };
        Ok(messages.into_iter().flat_map(|message| message.attributes).filter_map(address).collect())
    }
}

async fn find(handle: &Handle, name: &str) -> Result<LinkMessage, NetlinkError> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    match links.try_next().await {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(NetlinkError::NoInterface(name.to_owned())),
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENODEV => {
            Err(NetlinkError::NoInterface(name.to_owned()))
        }
        Err(source) => Err(NetlinkError::Refused { what: format!("cannot look up `{name}`"), source }),
    }
}

/// `IFF_LOWER_UP` is carrier; a veth whose other end is down has none.
fn state(message: &LinkMessage) -> LinkState {
    LinkState { up: message.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp) }
}
