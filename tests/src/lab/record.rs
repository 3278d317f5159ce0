//! Every advert and every ARP of a lab, as its switch gets them: a capture for others to judge.
//!
//! Each frame once, where its host handed it to the switch: a cable that is pulled or a partition hides nothing of what
//! was said. The file is classic pcap, so that whoever reads it need not be ours.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};
use harbor_ha_ebpf::wire::ipv4;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{LinkAddr, recvfrom, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use super::{Lab, clock, netns, wire};

/// More than a lab says while this process is kept from running for seconds.
const BUFFER: usize = 16 << 20;
/// Longer than any frame here.
const FRAME_MAX: usize = 2048;

struct Frame {
    at_ns: u64,
    bytes: Vec<u8>,
}

/// A packet socket on the switch, read by a thread until it is dropped.
pub struct Record {
    frames: Arc<Mutex<Vec<Frame>>>,
    socket: Arc<OwnedFd>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Record {
    /// Begins to record.
    ///
    /// # Errors
    /// No packet socket.
    pub fn start(lab: &Lab) -> Result<Self> {
        let hosts: Vec<String> = lab.state().hosts().iter().map(|(host, _)| format!("p{host}")).collect();
        let (socket, ports) = netns::inside(&lab.state().netns("sw"), || {
            let ports =
                hosts.iter().map(|port| Ok(if_nametoindex(port.as_str())? as usize)).collect::<Result<Vec<_>>>()?;
            Ok((wire::packet_socket()?, ports))
        })?;
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
        // The thread looks whether it shall stop at least this often.
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(100))?;
        let (frames, stop, socket) =
            (Arc::<Mutex<Vec<Frame>>>::default(), Arc::<AtomicBool>::default(), Arc::new(socket));
        let (list, end, ear) = (Arc::clone(&frames), Arc::clone(&stop), Arc::clone(&socket));
        let listen = move || {
            let mut buffer = [0; FRAME_MAX];
            while !end.load(Ordering::Relaxed) {
                let Ok((length, Some(from))) = recvfrom::<LinkAddr>(ear.as_raw_fd(), &mut buffer) else { continue };
                // What the switch passes on is an outgoing frame of another port.
                let arrives = u32::from(from.pkttype()) != u32::from(libc::PACKET_OUTGOING);
                let bytes = &buffer[..length];
                if arrives && ports.contains(&from.ifindex()) && is_wanted(bytes) {
                    let frame = Frame { at_ns: clock::now_ns(), bytes: bytes.to_vec() };
                    list.lock().expect("no holder panics").push(frame);
                }
            }
        };
        let thread = std::thread::Builder::new().name("record".into()).spawn(listen)?;
        Ok(Self { frames, socket, stop, thread: Some(thread) })
    }

    /// Writes what was recorded so far; returns the number of frames.
    ///
    /// # Errors
    /// The file cannot be written, or the kernel has dropped frames.
    ///
    /// # Panics
    /// The listening thread panicked.
    pub fn save(&self, file: &Path) -> Result<usize> {
        let dropped = dropped(&self.socket)?;
        ensure!(dropped == 0, "the kernel has dropped {dropped} frames: the record is not whole");
        let frames = self.frames.lock().expect("no holder panics");
        write(file, frames.iter().map(|frame| (frame.at_ns, frame.bytes.as_slice())))?;
        Ok(frames.len())
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Writes frames with their stamps, in nanoseconds, as a pcap file.
///
/// # Errors
/// The file cannot be written.
pub fn write<'a>(file: &Path, frames: impl IntoIterator<Item = (u64, &'a [u8])>) -> Result<()> {
    // Nanoseconds; version 2.4; UTC; no accuracy; whole frames; Ethernet.
    let mut pcap = Vec::new();
    for word in [0xa1b2_3c4d_u32, 2 | 4 << 16, 0, 0, FRAME_MAX as u32, 1] {
        pcap.extend(word.to_le_bytes());
    }
    for (at_ns, bytes) in frames {
        let length = bytes.len() as u32;
        for word in [(at_ns / 1_000_000_000) as u32, (at_ns % 1_000_000_000) as u32, length, length] {
            pcap.extend(word.to_le_bytes());
        }
        pcap.extend(bytes);
    }
    File::create(file)
        .and_then(|mut file| file.write_all(&pcap))
        .with_context(|| format!("cannot write `{}`", file.display()))
}

/// Adverts, whatever is wrong with them, and ARP.
fn is_wanted(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x06]) => true,
        // The protocol field, at a fixed place (RFC 791 §3.1).
        Some([0x08, 0x00]) => frame.get(14 + 9) == Some(&ipv4::VRRP),
        _ => false,
    }
}

/// Since the last question, or the start (packet(7), `PACKET_STATISTICS`).
fn dropped(socket: &OwnedFd) -> Result<u32> {
    // SAFETY: two numbers.
    let mut statistics: libc::tpacket_stats = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    // SAFETY: the kernel writes no more than `length` bytes to `statistics`; both outlive the call.
    let got = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut length,
        )
    };
    nix::errno::Errno::result(got).context("no statistics of the packet socket")?;
    Ok(statistics.tp_drops)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames;

    #[test]
    fn adverts_and_arp_are_kept_and_nothing_else_is() {
        for name in frames::keepalived_names() {
            assert!(is_wanted(&frames::keepalived(name)), "{name}");
        }
        let mut ping = frames::keepalived("v2-pass");
        ping[23] = 1;
        assert!(!is_wanted(&ping));
        assert!(!is_wanted(&ping[..13]));
    }
}
