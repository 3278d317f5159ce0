//! Gratuitous ARP for many addresses of one interface, with a gap between two (`vrrp_garp_interval`).

use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;

use harbor_ha_ebpf::units::Nanos;
use harbor_ha_ebpf::wire::arp;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::announce::link_address;

/// The queue of the interface is full: as long as a frame of a slow link takes.
const FULL: Nanos = Nanos::from_millis(1);
/// More than two bursts of the most addresses that two hundred instances have; beyond it the oldest is said by the next
/// burst anyway.
const WAITING_MAX: usize = 1 << 16;

/// Announces addresses on one interface.
#[derive(Debug)]
pub struct Garp {
    socket: Socket,
    to: SockAddr,
    mac: [u8; 6],
    line: Line,
    sent: u64,
}

/// What waits, and until when.
#[derive(Debug, Default)]
struct Line {
    gap: Nanos,
    waiting: VecDeque<Ipv4Addr>,
    next_at: Nanos,
}

impl Garp {
    /// Opens the socket; needs `CAP_NET_RAW`.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn open(if_index: u32, mac: [u8; 6], gap: Nanos) -> io::Result<Self> {
        // Protocol 0: the socket receives nothing.
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, to: link_address(if_index), mac, line: Line { gap, ..Line::default() }, sent: 0 })
    }

    /// Asks for `count` of each address, one round after the other.
    pub fn announce(&mut self, addresses: &[Ipv4Addr], count: u32) {
        self.line.join(addresses, count);
    }

    /// These are no longer here: what waits for them is not sent.
    pub fn forget(&mut self, addresses: &[Ipv4Addr]) {
        self.line.waiting.retain(|waiting| !addresses.contains(waiting));
    }

    /// When the next one may leave; `None` when nothing waits.
    pub fn deadline(&self) -> Option<Nanos> {
        (!self.line.waiting.is_empty()).then_some(self.line.next_at)
    }

    /// How many have left.
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends what may leave by now.
    ///
    /// # Errors
    ///
    /// The first refusal of the kernel; that one is not tried again.
    pub fn run(&mut self, now: Nanos) -> io::Result<()> {
        while let Some(address) = self.line.due(now) {
            match self.socket.send_to(&arp::gratuitous(self.mac, address.octets()), &self.to) {
                Ok(_) => self.sent += 1,
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS)) => {
                    self.line.waiting.push_front(address);
                    self.line.next_at = now.after(FULL);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Line {
    fn join(&mut self, addresses: &[Ipv4Addr], count: u32) {
        for _ in 0..count {
            self.waiting.extend(addresses);
        }
        let above = self.waiting.len().saturating_sub(WAITING_MAX);
        self.waiting.drain(..above);
    }

    fn due(&mut self, now: Nanos) -> Option<Ipv4Addr> {
        if now < self.next_at {
            return None;
        }
        let address = self.waiting.pop_front()?;
        if self.gap != Nanos(0) {
            self.next_at = now.after(self.gap);
        }
        Some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn left(line: &mut Line, now: u64) -> Vec<Ipv4Addr> {
        std::iter::from_fn(|| line.due(Nanos(now))).collect()
    }

    #[test]
    fn rounds_follow_each_other_and_without_a_gap_all_leave_at_once() {
        let mut line = Line::default();
        line.join(&[A, B], 2);
        assert_eq!(left(&mut line, 5), [A, B, A, B]);
    }

    #[test]
    fn with_a_gap_one_leaves_at_a_time() {
        let mut line = Line { gap: Nanos(10), ..Line::default() };
        line.join(&[A], 2);
        line.join(&[B], 1);
        assert_eq!(left(&mut line, 100), [A]);
        assert!(left(&mut line, 109).is_empty());
        assert_eq!(left(&mut line, 110), [A]);
        assert_eq!(left(&mut line, 500), [B], "a pause is not made up for");
        assert!(left(&mut line, 510).is_empty());
    }
}
