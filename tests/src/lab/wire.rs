//! Everything that a host says and hears about virtual addresses: adverts and gratuitous ARP, in order, with a stamp.
//!
//! [`super::capture`] is the client's view of one thing; this is the view of a tester who compares two daemons.

use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use harbor_ha::net::realtime;
use harbor_ha_ebpf::wire::cursor::Cursor;
use harbor_ha_ebpf::wire::{arp, ethernet, ipv4, vrrp};
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::{TimeVal, TimeValLike};

use super::host::Host;
use super::state::VIP;
use super::{Lab, Side, clock, netns};

/// Of the thread that listens: above the 50 of both daemons. It sleeps unless there is a frame.
const PRIORITY: u8 = 60;

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// CLOCK_MONOTONIC, when the packet socket delivered it.
    pub at_ns: u64,
    /// What it was.
    pub what: What,
}

/// What a frame was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// An advert of a node, of this priority.
    Advert(Side, u8),
    /// An advert of the client's host, of this priority: it can be a third router.
    Third(u8),
    /// A node said that the virtual address lives with it.
    Garp(Side),
}

/// A packet socket on a host, read by a thread until it is dropped.
pub struct Wire {
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Begins to listen on a host: `a`, `b` or `c`.
    ///
    /// # Errors
    /// No packet socket.
    pub fn on(lab: &Lab, host: &str) -> Result<Self> {
        let socket = netns::inside(&lab.state().netns(host), packet_socket)?;
        // The thread looks whether it shall stop at least this often.
        setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(100))?;
        let nodes = Side::BOTH.map(|side| (side, lab.state().address(side).octets(), lab.state().mac(side.name())));
        let third = Host::named(lab.state(), "c").address().octets();
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (list, end, mut socket) = (Arc::clone(&seen), Arc::clone(&stop), File::from(socket));
        let listen = move || {
            // Above the daemons: on a busy machine the stamps would tell how late this thread is. Where it is refused they do.
            let _as_it_is = realtime::raise_this_thread(PRIORITY);
            let mut frame = [0; 2048];
            while !end.load(Ordering::Relaxed) {
                let Ok(length) = socket.read(&mut frame) else { continue };
                let at_ns = clock::now_ns();
                if let Some(what) = parse(&frame[..length], &nodes, third) {
                    list.lock().expect("no holder panics").push(Seen { at_ns, what });
                }
            }
        };
        let thread = std::thread::Builder::new().name("wire".into()).spawn(listen)?;
        Ok(Self { seen, stop, thread: Some(thread) })
    }

    /// What was seen at or after an instant, the oldest first.
    ///
    /// # Panics
    /// The listening thread panicked.
    pub fn since(&self, at_ns: u64) -> Vec<Seen> {
        let seen = self.seen.lock().expect("no holder panics");
        seen.iter().filter(|it| it.at_ns >= at_ns).copied().collect()
    }

    /// The instant of the first frame of a kind at or after an instant.
    pub fn first(&self, at_ns: u64, what: impl Fn(What) -> bool) -> Option<u64> {
        self.since(at_ns).into_iter().find(|it| what(it.what)).map(|it| it.at_ns)
    }

    /// The instant of the last frame of a kind before an instant.
    pub fn last(&self, before_ns: u64, what: impl Fn(What) -> bool) -> Option<u64> {
        let seen = self.since(0).into_iter();
        seen.rev().find(|it| it.at_ns < before_ns && what(it.what)).map(|it| it.at_ns)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Every protocol, sent and received.
pub(super) fn packet_socket() -> Result<OwnedFd> {
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: a plain system call with numbers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol.into()) };
    let fd = nix::errno::Errno::result(fd).context("no packet socket")?;
    // SAFETY: the call above made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn parse(frame: &[u8], nodes: &[(Side, [u8; 4], [u8; 6])], third: [u8; 4]) -> Option<What> {
    if let Some(mac) = arp::announces(frame, VIP.octets()) {
        return nodes.iter().find(|node| node.2 == mac).map(|node| What::Garp(node.0));
    }
    let mut cursor = Cursor::new(frame);
    if ethernet::ether_type(&mut cursor)? != ethernet::IPV4 {
        return None;
    }
    let header = ipv4::parse(&mut cursor).filter(|header| header.protocol == ipv4::VRRP)?;
    let advert = vrrp::parse(cursor, header.payload, header.source, header.destination).ok()?;
    if header.source == third {
        return Some(What::Third(advert.priority.0));
    }
    let side = nodes.iter().find(|node| node.1 == header.source)?.0;
    Some(What::Advert(side, advert.priority.0))
}
