//! What the client host sees on the wire: gratuitous ARP, stamped when it is received.

use std::fs::File;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::{TimeVal, TimeValLike};

use super::{Lab, clock, netns};

/// A gratuitous ARP: somebody says where an address lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// CLOCK_MONOTONIC, when the client host's packet socket delivered it.
    pub at_ns: u64,
    /// The address.
    pub address: Ipv4Addr,
    /// Where it lives.
    pub mac: [u8; 6],
}

/// A packet socket in the client's namespace, read by a thread until it is dropped.
pub struct Capture {
    seen: Arc<Mutex<Vec<Announcement>>>,
    moves: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Begins to listen.
    ///
    /// # Errors
    /// No packet socket.
    pub fn start(lab: &Lab) -> Result<Self> {
        let socket = netns::inside(&lab.state().netns("c"), arp_socket)?;
        // The thread looks whether it shall stop at least this often.
        setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(100))?;
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let moves = Arc::new(AtomicUsize::new(0));
        let (list, end, mut socket) = (Arc::clone(&seen), Arc::clone(&stop), File::from(socket));
        let moved = Arc::clone(&moves);
        let listen = move || {
            let mut frame = [0; 256];
            while !end.load(Ordering::Relaxed) {
                let Ok(length) = socket.read(&mut frame) else { continue };
                let at_ns = clock::now_ns();
                if let Some(announcement) = parse(&frame[..length], at_ns) {
                    let mut list = list.lock().expect("no holder panics");
                    let before = list.iter().rev().find(|it: &&Announcement| it.address == announcement.address);
                    if before.is_none_or(|before| before.mac != announcement.mac) {
                        moved.fetch_add(1, Ordering::Relaxed);
                    }
                    list.push(announcement);
                }
            }
        };
        let thread = std::thread::Builder::new().name("capture".into()).spawn(listen)?;
        Ok(Self { seen, moves, stop, thread: Some(thread) })
    }

    /// How often an address has moved to another card: what began before a move talks to the old one.
    pub fn moves(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.moves)
    }

    /// The first announcement of an address by a card after an instant.
    ///
    /// # Panics
    /// The listening thread panicked.
    pub fn first_after(&self, at_ns: u64, address: Ipv4Addr, mac: [u8; 6]) -> Option<u64> {
        let seen = self.seen.lock().expect("no holder panics");
        seen.iter().find(|it| it.at_ns >= at_ns && it.address == address && it.mac == mac).map(|it| it.at_ns)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn arp_socket() -> Result<OwnedFd> {
    let protocol = (libc::ETH_P_ARP as u16).to_be();
    // SAFETY: a plain system call with numbers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol.into()) };
    let fd = nix::errno::Errno::result(fd).context("no packet socket")?;
    // SAFETY: the call above made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// RFC 826 on Ethernet; gratuitous when sender and target are the same address (RFC 5227 §1.2).
fn parse(frame: &[u8], at_ns: u64) -> Option<Announcement> {
    let arp = frame.get(14..42)?;
    let ethernet_ipv4 = [0x00, 0x01, 0x08, 0x00, 0x06, 0x04];
    if frame[12..14] != [0x08, 0x06] || arp[..6] != ethernet_ipv4 {
        return None;
    }
    let address = |at: usize| Ipv4Addr::new(arp[at], arp[at + 1], arp[at + 2], arp[at + 3]);
    let mac = arp[8..14].try_into().ok()?;
    (address(14) == address(24)).then_some(Announcement { at_ns, address: address(14), mac })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRATUITOUS: [u8; 42] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0x77, 1, 2, 0, 0x61, 8, 6, // Ethernet
        0, 1, 8, 0, 6, 4, 0, 1, 2, 0x77, 1, 2, 0, 0x61, 10, 77, 0, 100, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 10, 77, 0,
        100,
    ];

    #[test]
    fn a_gratuitous_arp_tells_where_the_address_lives() {
        let said = parse(&GRATUITOUS, 7).expect("it is one");
        let mac = [2, 0x77, 1, 2, 0, 0x61];
        assert_eq!(said, Announcement { at_ns: 7, address: Ipv4Addr::new(10, 77, 0, 100), mac });
    }

    #[test]
    fn a_question_and_a_short_frame_tell_nothing() {
        let mut question = GRATUITOUS;
        question[41] = 3;
        assert_eq!(parse(&question, 7), None);
        assert_eq!(parse(&GRATUITOUS[..41], 7), None);
    }
}
