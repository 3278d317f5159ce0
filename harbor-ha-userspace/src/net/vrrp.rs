//! Adverts of plain VRRP: two raw sockets for each interface, however many instances there are.
//!
//! One receives: the kernel stamps what it delivers, and a batch is read with one call. One sends, with headers of its
//! own: a socket that brings them receives nothing, where two hundred others would each get a copy of every advert.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use harbor_ha_ebpf::units::Nanos;
use harbor_ha_ebpf::wire::ipv4;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

mod batch;

pub use batch::{Batch, Packet};

/// Where multicast adverts go (RFC 9568 §5.1.1.2).
pub const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// Room for the adverts of a second of many instances while this process does not run.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The sockets of one interface.
#[derive(Debug)]
pub struct Port {
    receive: Socket,
    send: Socket,
}

impl Port {
    /// Opens both; `multicast`: an instance there listens to the group. Needs `CAP_NET_RAW`.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn open(interface: &str, index: u32, multicast: bool) -> io::Result<Self> {
        let receive = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(i32::from(ipv4::VRRP))))?;
        receive.set_nonblocking(true)?;
        receive.bind_device(Some(interface.as_bytes()))?;
        batch::stamp(&receive)?;
        if batch::force_receive_buffer(&receive, RECEIVE_BUFFER).is_err() {
            // Without CAP_NET_ADMIN: as much as the host allows.
            receive.set_recv_buffer_size(RECEIVE_BUFFER)?;
        }
        if multicast {
            receive.join_multicast_v4_n(&GROUP, &InterfaceIndexOrAddress::Index(index))?;
        }
        // This protocol receives nothing.
        let send = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
        send.set_nonblocking(true)?;
        send.set_header_included_v4(true)?;
        send.bind_device(Some(interface.as_bytes()))?;
        send.set_multicast_loop_v4(false)?;
        Ok(Self { receive, send })
    }

    /// Sends one VRRP message with a header of ours: TOS internetwork control, as keepalived's.
    ///
    /// # Errors
    ///
    /// What the kernel says; the next advert is another try.
    pub fn send(&self, message: &[u8], source: Ipv4Addr, destination: Ipv4Addr, ttl: u8) -> io::Result<()> {
        let header = ipv4::Header {
            source: source.octets(),
            destination: destination.octets(),
            protocol: ipv4::VRRP,
            ttl,
            payload: message.len() as u16,
            fragment: false,
        };
        let mut packet = [0; ipv4::HEADER + harbor_ha_ebpf::wire::vrrp::LENGTH_MAX];
        packet[..ipv4::HEADER].copy_from_slice(&ipv4::emit(&header));
        packet[ipv4::HEADER..ipv4::HEADER + message.len()].copy_from_slice(message);
        let packet = &packet[..ipv4::HEADER + message.len()];
        self.send.send_to(packet, &SocketAddrV4::new(destination, 0).into()).map(drop)
    }

    /// Reads what has arrived, up to a batch; `now` is later than every stamp.
    ///
    /// # Errors
    ///
    /// What the kernel says; nothing there is an empty batch.
    pub fn receive<'a>(&self, batch: &'a mut Batch, now: Nanos) -> io::Result<&'a [Packet]> {
        batch.receive(self.receive.as_raw_fd(), now)
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receive.as_fd()
    }
}
