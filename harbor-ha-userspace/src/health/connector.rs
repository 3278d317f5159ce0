//! The kernel's process events (`CN_PROC`): who was forked, became another program, or ended.
//!
//! Needs `CAP_NET_ADMIN` and the host's own network namespace: the kernel has this one there only.

use std::io;
use std::time::Duration;

use rtnetlink::sys::protocols::NETLINK_CONNECTOR;
use rtnetlink::sys::{Socket, SocketAddr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

/// `CN_IDX_PROC` and `CN_VAL_PROC`, by which the kernel knows this service; the first is the multicast group as well.
const PROC: u32 = 1;
/// `PROC_CN_MCAST_LISTEN`.
const LISTEN: u32 = 1;
/// Of `struct nlmsghdr`.
const NETLINK_HEADER: usize = 16;
/// Of `struct cn_msg`.
const CONNECTOR_HEADER: usize = 20;
/// Of `struct proc_event` before what depends on the event: what, cpu, time.
const EVENT_HEADER: usize = 16;
/// `NLMSG_DONE`: the type of every message of a connector.
const DONE: u16 = 3;
/// Time for the kernel to confirm; it does so within the call.
const CONFIRMED: Duration = Duration::from_secs(1);
/// For bursts; what does not fit is lost, and [`Seen::Lost`] says so.
const BUFFER: usize = 1 << 20;

/// What happened. Threads are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A process became another program, or changed its name.
    Became(i32),
    /// A process has a child, which is what its parent is.
    Forked {
        /// The parent.
        parent: i32,
        /// The child.
        child: i32,
    },
    /// A process ended.
    Ended(i32),
    /// There were more events than the buffer holds.
    Lost,
}

/// A subscription.
#[derive(Debug)]
pub(super) struct Connector {
    socket: AsyncFd<Socket>,
    buffer: Vec<u8>,
}

impl Connector {
    /// Subscribes, and waits until the kernel has confirmed.
    ///
    /// # Errors
    /// No right to, or no such service here.
    pub(super) async fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_CONNECTOR)?;
        socket.bind(&SocketAddr::new(0, PROC))?;
        socket.set_non_blocking(true)?;
        // More than that if we may not have it; the kernel tells when it was too little.
        let _smaller = socket.set_rx_buf_sz(BUFFER as u32);
        socket.send(&subscription(), 0)?;
        // SAFETY: the socket owns its open descriptor for as long as it is registered.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        let mut connector = Self { socket, buffer: vec![0; 4096] };
        let confirmed = timeout(CONFIRMED, async {
            loop {
                match connector.message().await? {
                    Message::Confirmed(0) => return Ok(connector),
                    Message::Confirmed(error) => return Err(io::Error::from_raw_os_error(error as i32)),
                    Message::Seen(_) | Message::Other => {}
                }
            }
        });
        confirmed.await.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the kernel does not confirm"))?
    }

    /// The next event. Cancel-safe.
    pub(super) async fn next(&mut self) -> io::Result<Seen> {
        loop {
            if let Message::Seen(seen) = self.message().await? {
                return Ok(seen);
            }
        }
    }

    async fn message(&mut self) -> io::Result<Message> {
        loop {
            let mut ready = self.socket.readable().await?;
            let mut room = &mut self.buffer[..];
            let received = ready.try_io(|socket| socket.get_ref().recv_from(&mut room, 0));
            match received {
                Ok(Ok((length, from))) if from.port_number() == 0 => return Ok(parse(&self.buffer[..length])),
                // Another process; only the kernel is believed.
                Ok(Ok(_)) => return Ok(Message::Other),
                Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(Message::Seen(Seen::Lost)),
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Message {
    /// The answer to the subscription: 0, or an error number.
    Confirmed(u32),
    Seen(Seen),
    Other,
}

fn subscription() -> Vec<u8> {
    let length = NETLINK_HEADER + CONNECTOR_HEADER + size_of::<u32>();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(DONE.to_ne_bytes());
    bytes.extend(0u16.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(PROC.to_ne_bytes());
    bytes.extend(PROC.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend((size_of::<u32>() as u16).to_ne_bytes());
    bytes.extend(0u16.to_ne_bytes());
    bytes.extend(LISTEN.to_ne_bytes());
    bytes
}

fn parse(bytes: &[u8]) -> Message {
    let Some(event) = bytes.get(NETLINK_HEADER + CONNECTOR_HEADER..) else { return Message::Other };
    let word = |at: usize| {
        let bytes = event.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let field = |number: usize| word(EVENT_HEADER + 4 * number);
    let pid = |number: usize| field(number).and_then(|pid| i32::try_from(pid).ok());
    // Process and thread group: the first thread of a process has both alike.
    let first_thread = |number: usize| pid(number).filter(|&one| pid(number + 1) == Some(one));
    let seen = match word(0) {
        Some(0) => return field(0).map_or(Message::Other, Message::Confirmed),
        Some(0x1) => pid(1).zip(first_thread(2)).map(|(parent, child)| Seen::Forked { parent, child }),
        // Whichever thread executes is the first one afterwards.
        Some(0x2) => pid(1).map(Seen::Became),
        Some(0x200) => first_thread(0).map(Seen::Became),
        Some(0x8000_0000) => first_thread(0).map(Seen::Ended),
        _ => None,
    };
    seen.map_or(Message::Other, Message::Seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(what: u32, fields: &[u32]) -> Message {
        let mut bytes = vec![0; NETLINK_HEADER + CONNECTOR_HEADER];
        bytes.extend(what.to_ne_bytes());
        bytes.extend([0; EVENT_HEADER - 4]);
        bytes.extend(fields.iter().flat_map(|field| field.to_ne_bytes()));
        parse(&bytes)
    }

    #[test]
    fn a_thread_is_no_process() {
        assert_eq!(message(1, &[7, 7, 9, 9]), Message::Seen(Seen::Forked { parent: 7, child: 9 }));
        assert_eq!(message(1, &[8, 7, 9, 9]), Message::Seen(Seen::Forked { parent: 7, child: 9 }), "by a thread of 7");
        assert_eq!(message(1, &[7, 7, 9, 7]), Message::Other, "a thread");
        assert_eq!(message(0x8000_0000, &[9, 9, 0, 0]), Message::Seen(Seen::Ended(9)));
        assert_eq!(message(0x8000_0000, &[9, 7, 0, 0]), Message::Other, "a thread");
    }

    #[test]
    fn a_message_that_is_too_short_is_none() {
        assert_eq!(parse(&[]), Message::Other);
        assert_eq!(message(0x8000_0000, &[9]), Message::Other);
        assert_eq!(message(0, &[]), Message::Other);
    }
}
