//! Bare acknowledgements from the virtual addresses, through a raw socket: they make clients say what they expect.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use harbor_ha_ebpf::records::FlowKey;
use harbor_ha_ebpf::wire::tcp;
use socket2::{Domain, Protocol, Socket, Type};

/// Sends them.
#[derive(Debug)]
pub struct Tickler {
    socket: Socket,
}

impl Tickler {
    /// Opens the socket; needs `CAP_NET_RAW`.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn open() -> io::Result<Self> {
        // This protocol receives nothing, and brings its own headers, with a source that is ours only when we serve.
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
        socket.set_header_included_v4(true)?;
        // What does not fit is sent in the next round.
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    /// Asks the client of a connection.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn send(&self, flow: &FlowKey) -> io::Result<()> {
        let to = SocketAddrV4::new(Ipv4Addr::from(flow.client), 0);
        self.socket.send_to(&tcp::bare_ack(flow), &to.into()).map(drop)
    }
}
