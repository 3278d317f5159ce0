//! Adverts, through a raw socket of protocol 112. Received ones are the kernel program's; they pass it so that this
//! socket swallows them, else the stack would answer "protocol unreachable".

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use harbor_ha_ebpf::units::{Centis, Priority};
use harbor_ha_ebpf::wire::{ipv4, vrrp};
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::settings::{Settings, VrrpVersion};

/// TOS of internetwork control, as routing protocols set it.
const TOS: u32 = 0xc0;
/// RFC 9568 §5.1.1.3; keepalived's default as well.
const TTL: u32 = 255;

/// Sends adverts from the node's own address to the peer's.
#[derive(Debug)]
pub struct Adverts {
    socket: Socket,
    source: Ipv4Addr,
    peer: Ipv4Addr,
    version: u8,
    vrid: u8,
    interval: u16,
    addresses: Vec<[u8; 4]>,
    password: Option<[u8; 8]>,
}

impl Adverts {
    /// Opens the socket; needs `CAP_NET_RAW`.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn open(settings: &Settings) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(i32::from(ipv4::VRRP))))?;
        socket.set_nonblocking(true)?;
        socket.set_tos_v4(TOS)?;
        socket.set_ttl_v4(TTL)?;
        // Nobody reads it: the kernel keeps this little and drops the rest.
        socket.set_recv_buffer_size(2048)?;
        socket.bind(&SocketAddrV4::new(settings.node.address, 0).into())?;
        socket.bind_device(Some(settings.node.interface.as_bytes()))?;
        let vrrp = &settings.vrrp;
        let (version, interval) = match vrrp.version {
            VrrpVersion::V2 => (2, vrrp.advert_interval.as_secs() as u16),
            VrrpVersion::V3 => (3, (vrrp.advert_interval.as_millis() / 10) as u16 & Centis::MAX),
        };
        Ok(Self {
            socket,
            source: settings.node.address,
            peer: settings.node.peer,
            version,
            vrid: vrrp.vrid.as_u8(),
            interval,
            addresses: settings.node.vips.iter().map(|vip| vip.address.octets()).collect(),
            password: vrrp.password.as_ref().map(|password| *password.reveal()),
        })
    }

    /// Sends one advert.
    ///
    /// # Errors
    ///
    /// What the kernel says; the next advert is another try.
    pub fn send(&self, priority: Priority) -> io::Result<()> {
        let advert = vrrp::Outgoing {
            checksum: vrrp::Checksum::PseudoHeader,
            version: self.version,
            vrid: self.vrid,
            priority,
            interval: self.interval,
            addresses: &self.addresses,
            password: self.password,
        };
        let mut buffer = [0; vrrp::LENGTH_MAX];
        let length = vrrp::emit(&advert, self.source.octets(), self.peer.octets(), &mut buffer);
        self.socket.send_to(&buffer[..length], &SocketAddrV4::new(self.peer, 0).into())?;
        Ok(())
    }
}
