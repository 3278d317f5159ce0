//! Many packets with one call, each with the kernel's stamp (`recvmmsg`, `SO_TIMESTAMPNS`).

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd as _, RawFd};

use harbor_ha_ebpf::units::Nanos;
use socket2::Socket;

use crate::clock;

/// Packets that one call reads.
const PACKETS: usize = 64;
/// No advert is longer, options of its header included; what is cut does not parse.
const LENGTH: usize = 256;
/// Room for one stamp.
const CONTROL: usize = 64;
/// A stamp that is older than this is of a clock that was set meanwhile.
const OLDEST: Nanos = Nanos::from_secs(60);

/// One packet, its IP header first.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    bytes: [u8; LENGTH],
    length: usize,
    /// When the kernel received it, `CLOCK_MONOTONIC`.
    pub at: Nanos,
}

impl Packet {
    /// Header and payload.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Where a batch is read to; made once.
#[derive(Debug)]
pub struct Batch {
    packets: Vec<Packet>,
}

impl Default for Batch {
    fn default() -> Self {
        Self { packets: vec![Packet { bytes: [0; LENGTH], length: 0, at: Nanos(0) }; PACKETS] }
    }
}

impl Batch {
    pub(super) fn receive(&mut self, socket: RawFd, now: Nanos) -> io::Result<&[Packet]> {
        let mut control = [[0_u64; CONTROL / 8]; PACKETS];
        // SAFETY: all zeros are valid values of these plain C structures.
        let mut parts: [libc::iovec; PACKETS] = unsafe { zeroed() };
        // SAFETY: likewise.
        let mut headers: [libc::mmsghdr; PACKETS] = unsafe { zeroed() };
        for index in 0..PACKETS {
            parts[index].iov_base = self.packets[index].bytes.as_mut_ptr().cast();
            parts[index].iov_len = LENGTH;
            headers[index].msg_hdr.msg_iov = &raw mut parts[index];
            headers[index].msg_hdr.msg_iovlen = 1;
            headers[index].msg_hdr.msg_control = control[index].as_mut_ptr().cast();
            headers[index].msg_hdr.msg_controllen = CONTROL as _;
        }
        // SAFETY: each header points to a part and to control space of the stated lengths, which outlive the call.
        let count = unsafe {
            libc::recvmmsg(
                socket,
                headers.as_mut_ptr(),
                PACKETS as _,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut::<libc::timespec>(),
            )
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(&[]),
                _ => Err(error),
            };
        }
        let count = (count as usize).min(PACKETS);
        let ahead = Nanos(clock::wall_ns().saturating_sub(clock::now().0));
        for (packet, header) in self.packets.iter_mut().zip(&headers[..count]) {
            packet.length = (header.msg_len as usize).min(LENGTH);
            // SAFETY: the kernel has filled in the control data of this header, which still lives.
            let wall = unsafe { stamp_of(&header.msg_hdr) };
            packet.at = monotonic(wall, ahead, now);
        }
        Ok(&self.packets[..count])
    }
}

/// From the wall clock to `CLOCK_MONOTONIC`; without a stamp that makes sense it is now.
fn monotonic(wall: Option<Nanos>, ahead: Nanos, now: Nanos) -> Nanos {
    let at = wall.map_or(now, |wall| Nanos(wall.0.saturating_sub(ahead.0)));
    if at > now || now.since(at) > OLDEST { now } else { at }
}

/// The stamp in the control data, `CLOCK_REALTIME`.
///
/// # Safety
///
/// `msg_control` must point to `msg_controllen` bytes that the kernel wrote.
unsafe fn stamp_of(header: &libc::msghdr) -> Option<Nanos> {
    // SAFETY: the caller keeps the control data; the macros stay within its length.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: not null, so a whole header within the control data.
        let (level, kind) = unsafe { ((*message).cmsg_level, (*message).cmsg_type) };
        if level == libc::SOL_SOCKET && kind == libc::SCM_TIMESTAMPNS {
            // SAFETY: the kernel writes a `timespec` for this kind.
            let time = unsafe { libc::CMSG_DATA(message).cast::<libc::timespec>().read_unaligned() };
            return Some(Nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64));
        }
        // SAFETY: as for the first one.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    None
}

/// Asks for stamps.
pub(super) fn stamp(socket: &Socket) -> io::Result<()> {
    set(socket, libc::SO_TIMESTAMPNS, 1)
}

/// A buffer above the host's limit; needs `CAP_NET_ADMIN`.
pub(super) fn force_receive_buffer(socket: &Socket, bytes: usize) -> io::Result<()> {
    set(socket, libc::SO_RCVBUFFORCE, bytes as libc::c_int)
}

fn set(socket: &Socket, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: an integer option, and the pointer and length of an integer that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_stamp_is_never_later_than_now_and_one_of_another_clock_is_none() {
        let (now, ahead) = (Nanos::from_secs(1000), Nanos::from_secs(5000));
        assert_eq!(monotonic(Some(Nanos::from_secs(5999)), ahead, now), Nanos::from_secs(999));
        assert_eq!(monotonic(Some(Nanos::from_secs(6001)), ahead, now), now);
        assert_eq!(monotonic(Some(Nanos::from_secs(5900)), ahead, now), now, "the clock was set");
        assert_eq!(monotonic(None, ahead, now), now);
    }

    #[test]
    fn a_batch_has_the_packets_in_order_and_when_they_came() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = Socket::from(receiver.try_clone().unwrap());
        stamp(&socket).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut batch = Batch::default();
        assert!(batch.receive(socket.as_raw_fd(), clock::now()).unwrap().is_empty());
        // A clock step between the two readings of this test would move them.
        let before = clock::now().0 - 1_000_000;
        for number in 0..100_u8 {
            sender.send_to(&[number; 7], receiver.local_addr().unwrap()).unwrap();
        }
        let sent = clock::now();
        let mut all = Vec::new();
        for _ in 0..2 {
            all.extend_from_slice(batch.receive(socket.as_raw_fd(), sent).unwrap());
        }
        assert_eq!(all.len(), 100);
        for (number, packet) in all.iter().enumerate() {
            assert_eq!(packet.bytes(), [number as u8; 7]);
            assert!(packet.at.0 >= before && packet.at <= sent);
        }
        assert!(all.is_sorted_by_key(|packet| packet.at));
    }
}
