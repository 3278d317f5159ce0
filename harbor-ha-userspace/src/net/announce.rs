//! Gratuitous ARP, through a packet socket: tells hosts, switches and the cloud where the addresses are.

use std::io;
use std::mem::{MaybeUninit, size_of};

use harbor_ha_ebpf::wire::{arp, ethernet};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use crate::config::settings::Vip;

/// Sends gratuitous ARP on one interface.
#[derive(Debug)]
pub struct Announcer {
    socket: Socket,
    to: SockAddr,
    frames: Vec<[u8; arp::FRAME]>,
}

impl Announcer {
    /// Opens the socket; needs `CAP_NET_RAW`.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn open(if_index: u32, mac: [u8; 6], vips: &[Vip]) -> io::Result<Self> {
        // Protocol 0: the socket receives nothing.
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            to: link_address(if_index),
            frames: vips.iter().map(|vip| arp::gratuitous(mac, vip.address.octets())).collect(),
        })
    }

    /// Announces every address `count` times.
    ///
    /// # Errors
    ///
    /// The first refusal of the kernel.
    pub fn send(&self, count: u32) -> io::Result<()> {
        for _ in 0..count {
            for frame in &self.frames {
                self.socket.send_to(frame, &self.to)?;
            }
        }
        Ok(())
    }
}

/// `sockaddr_ll` of an interface.
pub(super) fn link_address(if_index: u32) -> SockAddr {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ethernet::ARP.to_be(),
        sll_ifindex: if_index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
    };
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is a socket address and fits the storage, which is made for any of them.
    unsafe {
        *storage.view_as::<MaybeUninit<libc::sockaddr_ll>>() = MaybeUninit::new(address);
        SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t)
    }
}
