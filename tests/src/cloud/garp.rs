//! What moves a HaVip: gratuitous ARP, overheard on an interface.
//!
//! Read by code of its own, from RFC 826 and RFC 5227: it shares none with what the daemon sends by.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::{TimeVal, TimeValLike};

/// A packet socket on an interface, read by a thread until it is dropped.
pub struct Listener {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Begins to listen on an interface of the caller's network namespace; `hear` is told the address and the sender.
    ///
    /// # Errors
    /// No such interface, or no right to a packet socket.
    pub fn start(interface: &str, mut hear: impl FnMut(Ipv4Addr, [u8; 6]) + Send + 'static) -> Result<Self> {
        let mut socket = File::from(packet_socket(interface).with_context(|| format!("no ARP from `{interface}`"))?);
        let stop = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&stop);
        let listen = move || {
            let mut frame = [0; 256];
            while !end.load(Ordering::Relaxed) {
                let Ok(length) = socket.read(&mut frame) else { continue };
                if let Some((address, sender)) = parse(&frame[..length]) {
                    hear(address, sender);
                }
            }
        };
        let thread = std::thread::Builder::new().name("garp".into()).spawn(listen)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends a frame, whole, from an interface of the caller's network namespace.
///
/// # Errors
/// As [`Listener::start`], or the kernel does not take it.
pub fn say(interface: &str, frame: &[u8]) -> Result<()> {
    Ok(File::from(packet_socket(interface)?).write_all(frame)?)
}

fn packet_socket(interface: &str) -> Result<OwnedFd> {
    let index = nix::net::if_::if_nametoindex(interface)?;
    let protocol = (libc::ETH_P_ARP as u16).to_be();
    // SAFETY: a plain system call with numbers. Protocol 0: it hears nothing before it is bound.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    let fd = Errno::result(fd).context("no packet socket")?;
    // SAFETY: the call above made this descriptor, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zeroes is a valid `sockaddr_ll`, which is plain numbers.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = index as i32;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is of the length that is told, and outlives the call.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    Errno::result(bound).context("cannot bind")?;
    // The thread looks whether it shall stop at least this often.
    setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(100))?;
    Ok(socket)
}

/// The address and who has it, of a frame that says so unasked: a request or a reply (RFC 5227, section 3) whose sender
/// and target are one address.
fn parse(frame: &[u8]) -> Option<(Ipv4Addr, [u8; 6])> {
    let arp = frame.get(14..42)?;
    let ethernet_ipv4 = [0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00];
    let said_or_asked = matches!(arp[7], 1 | 2);
    if frame[12..14] != [0x08, 0x06] || arp[..7] != ethernet_ipv4 || !said_or_asked || arp[14..18] != arp[24..28] {
        return None;
    }
    let address: [u8; 4] = arp[14..18].try_into().ok()?;
    Some((address.into(), arp[8..14].try_into().ok()?))
}

/// `02:00:00:00:00:01`
pub fn mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = text.split(':').map(|part| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 2));
    let mut mac = [0; 6];
    for byte in &mut mac {
        *byte = bytes.next()??;
    }
    bytes.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(operation: u8, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
        let ethernet = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 8, 6];
        let head = [0, 1, 8, 0, 6, 4, 0, operation, 2, 0, 0, 0, 0, 9];
        [&ethernet[..], &head, &sender, &[0; 6], &target].concat()
    }

    #[test]
    fn both_forms_of_gratuitous_arp_count_and_no_other_arp_does() {
        let vip = [10, 77, 0, 100];
        let said = Some((Ipv4Addr::from(vip), [2, 0, 0, 0, 0, 9]));
        assert_eq!(parse(&frame(1, vip, vip)), said);
        assert_eq!(parse(&frame(2, vip, vip)), said);
        assert_eq!(parse(&frame(1, [10, 77, 0, 1], vip)), None, "a question");
        assert_eq!(parse(&frame(1, [0; 4], vip)), None, "a probe");
        assert_eq!(parse(&frame(3, vip, vip)), None, "RARP");
        assert_eq!(parse(&frame(1, vip, vip)[..41]), None, "cut off");
    }

    #[test]
    fn a_mac_address_has_six_bytes_of_two_digits() {
        assert_eq!(mac("02:77:00:00:00:0a"), Some([2, 0x77, 0, 0, 0, 10]));
        assert!(
            ["", "02:77:00:00:00", "02:77:00:00:00:0a:0b", "2:77:0:0:0:a", "02-77"].iter().all(|it| mac(it).is_none())
        );
    }
}
