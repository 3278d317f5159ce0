//! Links and addresses, by netlink.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use harbor_ha_ebpf::units::Nanos;
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{AddressMessageBuilder, Handle, MulticastGroup};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::clock;
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
    /// The kernel said nothing.
    #[error("{what}: no answer from the kernel within {ANSWER:?}")]
    Silent {
        /// What was tried.
        what: String,
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

/// An address of a router, and how it is put up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The address.
    pub address: Ipv4Addr,
    /// Its prefix.
    pub prefix: u8,
    /// `eth0:1`, for tools that know addresses by such names.
    pub label: Option<String>,
    /// rtnetlink's number.
    pub scope: u8,
}

/// What was seen of the interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Whether it is up, with carrier and with this node's address: pulses and adverts can leave. Said when it changes.
    Link(bool),
    /// Which virtual addresses are on it. Said at every look.
    Vips {
        /// Before the look.
        asked: Nanos,
        /// Every one.
        all: bool,
        /// At least one.
        any: bool,
    },
    /// Sockets and program are bound to something that is no more; only a new start helps.
    Lost(String),
}

/// Between two looks when no event comes: events can be lost (`ENOBUFS`), so they only make a look come sooner.
const LOOK: Duration = Duration::from_secs(1);
/// One answer of the kernel; it waits for a lock that others hold while they make or remove interfaces.
const ANSWER: Duration = Duration::from_secs(2);

impl Interface {
    /// Finds the interface.
    ///
    /// # Errors
    ///
    /// [`NetlinkError`].
    pub async fn open(name: &str) -> Result<Self, NetlinkError> {
        // Without multicast groups: what is asked and answered here cannot be crowded out by events.
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        let message = find(&handle, name).await?;
        let mac = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(address) => <[u8; 6]>::try_from(address.as_slice()).ok(),
            _ => None,
        });
        let index = message.header.index;
        let mac = mac.ok_or_else(|| NetlinkError::NoMac(name.to_owned()))?;
        Ok(Self { handle, name: name.to_owned(), index, mac })
    }

    /// Follows the interface: its state, this node's address, the virtual addresses. Ends when nobody listens.
    pub async fn watch(self, node: Ipv4Addr, vips: Vec<Ipv4Addr>, seen: mpsc::Sender<Seen>) {
        let mut told = None;
        loop {
            // Before the first look, so that nothing falls between the two.
            let mut events = match events() {
                Ok(events) => Some(events),
                Err(error) => {
                    tracing::warn!(%error, "no netlink events: the interface is looked at once a second");
                    None
                }
            };
            loop {
                for news in self.look(node, &vips, &mut told).await {
                    if seen.send(news).await.is_err() {
                        return;
                    }
                }
                let next = sleep_until(Instant::now() + LOOK);
                tokio::pin!(next);
                let ended = loop {
                    let event = async {
                        match &mut events {
                            Some(events) => events.next().await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        biased;
                        event = event => match event {
                            Some((message, _)) if self.is_meant(&message.payload) => break false,
                            Some(_) => {}
                            None => break true,
                        },
                        () = &mut next => break false,
                    }
                };
                if ended {
                    next.await;
                    break;
                }
            }
        }
    }

    /// An event about this interface, or about another one of its name.
    fn is_meant(&self, payload: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
        match payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link)) => {
                let named =
                    |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::IfName(n) if *n == self.name);
                link.header.index == self.index || link.attributes.iter().any(named)
            }
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address),
            ) => address.header.index == self.index,
            _ => false,
        }
    }

    /// One look; `told` is what was last said of the link.
    async fn look(&self, node: Ipv4Addr, vips: &[Ipv4Addr], told: &mut Option<bool>) -> Vec<Seen> {
        let asked = clock::now();
        let link = match timeout(ANSWER, self.link()).await {
            Ok(Ok(link)) => link,
            Ok(Err(error)) => return vec![Seen::Lost(format!("netlink does not answer any more: {error}"))],
            Err(_) => return Vec::new(),
        };
        let addresses = match timeout(ANSWER, self.addresses()).await {
            Ok(Ok(addresses)) => addresses.into_iter().map(|it| it.address).collect::<Vec<_>>(),
            // It went away between the two questions; the next look tells.
            Ok(Err(_)) | Err(_) => return Vec::new(),
        };
        let mut news = Vec::new();
        let up = link.as_ref().is_some_and(state) && addresses.contains(&node);
        if *told != Some(up) {
            if link.is_some() && !addresses.contains(&node) {
                tracing::error!(address = %node, interface = self.name, "this node's address is gone: counts as link down");
            }
            *told = Some(up);
            news.push(Seen::Link(up));
        }
        if link.is_some() {
            let count = vips.iter().filter(|&vip| addresses.contains(vip)).count();
            news.push(Seen::Vips { asked, all: count == vips.len(), any: count > 0 });
        } else if if_nametoindex(self.name.as_str()).is_ok_and(|index| index != self.index) {
            news.push(Seen::Lost(format!("`{}` was removed and made anew", self.name)));
        }
        news
    }

    /// The link, whatever its name is now; `None` when it is gone.
    async fn link(&self) -> Result<Option<LinkMessage>, rtnetlink::Error> {
        let mut links = self.handle.link().get().match_index(self.index).execute();
        match links.try_next().await {
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENODEV => Ok(None),
            // Refused for the moment (out of memory); an interface is not gone by that.
            Err(rtnetlink::Error::NetlinkError(error)) => {
                tracing::warn!(%error, interface = self.name, "the interface cannot be looked at");
                std::future::pending().await
            }
            link => link,
        }
    }

    /// Puts an address on the interface; one that is there already is fine.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub async fn add(&self, vip: Vip) -> Result<(), NetlinkError> {
        let request = self.handle.address().add(self.index, vip.address.into(), vip.prefix).replace();
        let what = || format!("cannot add {}/{} to `{}`", vip.address, vip.prefix, self.name);
        match timeout(ANSWER, request.execute()).await {
            Ok(done) => done.map_err(|source| NetlinkError::Refused { what: what(), source }),
            Err(_) => Err(NetlinkError::Silent { what: what() }),
        }
    }

    /// Puts an address on the interface; whether it was not there.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub async fn put(&self, place: &Place) -> Result<bool, NetlinkError> {
        let mut request = self.handle.address().add(self.index, place.address.into(), place.prefix);
        let message = request.message_mut();
        message.header.scope = place.scope.into();
        message.attributes.extend(place.label.clone().map(AddressAttribute::Label));
        let what = || format!("cannot add {}/{} to `{}`", place.address, place.prefix, self.name);
        match timeout(ANSWER, request.execute()).await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(rtnetlink::Error::NetlinkError(error))) if error.raw_code() == -libc::EEXIST => Ok(false),
            Ok(Err(source)) => Err(NetlinkError::Refused { what: what(), source }),
            Err(_) => Err(NetlinkError::Silent { what: what() }),
        }
    }

    /// Its name when it was found.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes an address off the interface; one that is not there is fine.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub async fn remove(&self, vip: Vip) -> Result<(), NetlinkError> {
        let message =
            AddressMessageBuilder::<Ipv4Addr>::new().index(self.index).address(vip.address, vip.prefix).build();
        let what = || format!("cannot remove {}/{} from `{}`", vip.address, vip.prefix, self.name);
        match timeout(ANSWER, self.handle.address().del(message).execute()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(rtnetlink::Error::NetlinkError(error))) if error.raw_code() == -libc::EADDRNOTAVAIL => Ok(()),
            Ok(Err(source)) => Err(NetlinkError::Refused { what: what(), source }),
            Err(_) => Err(NetlinkError::Silent { what: what() }),
        }
    }

    /// The IPv4 addresses on the interface. To the kernel, the same one with another prefix is another one.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub async fn addresses(&self) -> Result<Vec<Vip>, NetlinkError> {
        let list = self.handle.address().get().set_link_index_filter(self.index).execute();
        let messages: Vec<_> = list.try_collect().await.map_err(|source| NetlinkError::Refused {
            what: format!("cannot list the addresses of `{}`", self.name),
            source,
        })?;
        let address = |message: AddressMessage| {
            let prefix = message.header.prefix_len;
            message.attributes.into_iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(std::net::IpAddr::V4(address)) => Some(Vip { address, prefix }),
                _ => None,
            })
        };
        Ok(messages.into_iter().filter_map(address).collect())
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

type Event = (NetlinkMessage<RouteNetlinkMessage>, rtnetlink::sys::SocketAddr);

fn events() -> io::Result<impl Stream<Item = Event> + Unpin> {
    let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr];
    let (connection, _, messages) = rtnetlink::new_multicast_connection(&groups)?;
    tokio::spawn(connection);
    Ok(messages)
}

/// `IFF_LOWER_UP` is carrier; a veth whose other end is down has none.
fn state(message: &LinkMessage) -> bool {
    message.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp)
}
