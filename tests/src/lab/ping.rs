//! Whether somebody holds the virtual address and lets it through, asked each millisecond from the client host.
//!
//! An echo request (RFC 792) is answered by the kernel that has the address, and passes the same gate as a connection.
//! Unlike a connection it is never repeated, so a darkness of some milliseconds is seen as long as it was; a lost
//! segment of TCP comes again after 200 ms at the earliest.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use super::state::VIP;
use super::{Lab, clock, netns};

/// Between two questions.
const EVERY: Duration = Duration::from_millis(1);
/// Type, code, checksum, identifier, sequence, and nothing else.
const LENGTH: usize = 8;
const ECHO: u8 = 8;
const ECHO_REPLY: u8 = 0;

/// Asks and listens until it is dropped.
pub struct Pings {
    answers: Arc<Mutex<Vec<u64>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Pings {
    /// Begins to ask.
    ///
    /// # Errors
    /// No raw socket.
    pub fn start(lab: &Lab) -> Result<Self> {
        let socket = netns::inside(&lab.state().netns("c"), || {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).context("no raw socket")?;
            socket.connect(&SocketAddrV4::new(VIP, 0).into())?;
            Ok(socket)
        })?;
        // The listening thread looks whether it shall stop at least this often.
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let (answers, stop) = (Arc::<Mutex<Vec<u64>>>::default(), Arc::<AtomicBool>::default());
        let identifier = std::process::id() as u16;
        let (ear, mouth) = (socket.try_clone()?, socket);
        let (list, end) = (Arc::clone(&answers), Arc::clone(&stop));
        let listen = move || {
            let mut ear = ear;
            let mut packet = [0; 128];
            while !end.load(Ordering::Relaxed) {
                let Ok(length) = ear.read(&mut packet) else { continue };
                let at_ns = clock::now_ns();
                if answers_us(&packet[..length], VIP, identifier) {
                    list.lock().expect("no holder panics").push(at_ns);
                }
            }
        };
        let end = Arc::clone(&stop);
        let ask = move || {
            let mut sequence = 0_u16;
            while !end.load(Ordering::Relaxed) {
                sequence = sequence.wrapping_add(1);
                // An address that nobody answers for is an error here, and a darkness there.
                let _unreachable = mouth.send(&request(identifier, sequence));
                std::thread::sleep(EVERY);
            }
        };
        let threads = vec![
            std::thread::Builder::new().name("ping-listen".into()).spawn(listen)?,
            std::thread::Builder::new().name("ping-ask".into()).spawn(ask)?,
        ];
        Ok(Self { answers, stop, threads })
    }

    /// Whether there was an answer after an instant.
    ///
    /// # Panics
    /// The listening thread panicked.
    pub fn answered_since(&self, at_ns: u64) -> bool {
        self.answers.lock().expect("no holder panics").last().is_some_and(|at| *at > at_ns)
    }

    /// The longest time without an answer that ended after an instant, in nanoseconds.
    ///
    /// # Panics
    /// The listening thread panicked.
    pub fn longest_gap(&self, at_ns: u64) -> Option<u64> {
        let answers = self.answers.lock().expect("no holder panics");
        let first = answers.partition_point(|at| *at < at_ns).saturating_sub(1);
        answers[first..].windows(2).map(|pair| pair[1] - pair[0]).max()
    }
}

impl Drop for Pings {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn request(identifier: u16, sequence: u16) -> [u8; LENGTH] {
    let mut packet = [ECHO, 0, 0, 0, 0, 0, 0, 0];
    packet[4..6].copy_from_slice(&identifier.to_be_bytes());
    packet[6..8].copy_from_slice(&sequence.to_be_bytes());
    let words = packet.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    packet[2..4].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    packet
}

/// A raw socket delivers the IP header too, and everything of the protocol that comes to this host.
fn answers_us(packet: &[u8], from: Ipv4Addr, identifier: u16) -> bool {
    let Some(header) = packet.first().map(|first| usize::from(first & 15) * 4) else { return false };
    let (Some(source), Some(echo)) = (packet.get(12..16), packet.get(header..header + LENGTH)) else { return false };
    source == from.octets() && echo[0] == ECHO_REPLY && echo[4..6] == identifier.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_a_request_with_its_checksum_is_all_ones() {
        let packet = request(0xfffe, 0x1234);
        let sum: u32 = packet.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }

    #[test]
    fn only_the_answer_of_the_address_to_us_counts() {
        let mut packet = vec![0x45; 20];
        packet[12..16].copy_from_slice(&VIP.octets());
        packet.extend([ECHO_REPLY, 0, 0, 0, 0, 7, 0, 1]);
        assert!(answers_us(&packet, VIP, 7));
        assert!(!answers_us(&packet, VIP, 8));
        assert!(!answers_us(&packet, Ipv4Addr::LOCALHOST, 7));
        assert!(!answers_us(&packet[..27], VIP, 7));
        packet[20] = ECHO;
        assert!(!answers_us(&packet, VIP, 7), "our own question, on the host that has the address");
    }
}
