//! Resets the TCP connections of addresses of this host: `SOCK_DESTROY` of the kernel's socket diagnosis.
//!
//! The kernel sends each client a reset, whatever the process with the socket does, and the process gets
//! `ECONNABORTED`. Needs `CAP_NET_ADMIN` and `CONFIG_INET_DIAG_DESTROY`. The two records are laid out by hand
//! (`linux/inet_diag.h`, since Linux 3.3): a request of 56 bytes and an answer of which the first 52 count.

use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use harbor_ha_ebpf::records::FlowKey;
use socket2::{Domain, Protocol, Socket, Type};

/// `SOCK_DIAG_BY_FAMILY`, for a dump.
const BY_FAMILY: u16 = 20;
/// `SOCK_DESTROY`.
const DESTROY: u16 = 21;
/// Length of a `nlmsghdr`.
const HEADER: usize = 16;
/// Length of an `inet_diag_req_v2`.
const REQUEST: usize = 56;
/// Where the identity of a socket (`inet_diag_sockid`) begins in a request.
const ID_IN_REQUEST: usize = 8;
/// The same in an answer (`inet_diag_msg`).
const ID_IN_ANSWER: usize = 4;
/// Length of that identity: ports, addresses, interface, cookie.
const ID: usize = 48;
/// States that end with a reset: all but those without a peer, and those that wait for the peer's last words only
/// (`TCP_TIME_WAIT` 6, `TCP_CLOSE` 7, `TCP_LISTEN` 10).
const STATES: u32 = 0x0fff & !(1 << 6 | 1 << 7 | 1 << 10);
/// The kernel answers at once; a socket that it does not answer on is of no use.
const ANSWER: Duration = Duration::from_millis(500);

/// Resets every connection of one of `addresses` unless `spare` says otherwise; says how many.
///
/// # Errors
///
/// What the kernel says: `EOPNOTSUPP` of one without `CONFIG_INET_DIAG_DESTROY`.
pub fn connections(addresses: &[Ipv4Addr], spare: impl Fn(&FlowKey) -> bool) -> io::Result<usize> {
    let mut socket =
        Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(libc::NETLINK_SOCK_DIAG)))?;
    socket.set_read_timeout(Some(ANSWER))?;
    let mut count = 0;
    // A service that listens on IPv6 has its IPv4 connections there too, mapped.
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        for id in list(&mut socket, family)? {
            let Some(flow) = flow(family, &id) else { continue };
            if addresses.contains(&Ipv4Addr::from(flow.vip)) && !spare(&flow) {
                count += usize::from(destroy(&mut socket, family, &id)?);
            }
        }
    }
    Ok(count)
}

/// The identities of all connections of a family.
fn list(socket: &mut Socket, family: u8) -> io::Result<Vec<[u8; ID]>> {
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;
    socket.send(&request(BY_FAMILY, flags as u16, family, STATES, &[0; ID]))?;
    let mut list = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = socket.read(&mut buffer)?;
        for (kind, body) in messages(&buffer[..length]) {
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(list),
                libc::NLMSG_ERROR => return Err(refusal(body).unwrap_or_else(|| io::ErrorKind::InvalidData.into())),
                _ => list.extend(body.get(ID_IN_ANSWER..).and_then(|rest| rest.first_chunk::<ID>())),
            }
        }
    }
}

/// Whether it was still there.
fn destroy(socket: &mut Socket, family: u8, id: &[u8; ID]) -> io::Result<bool> {
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
    socket.send(&request(DESTROY, flags as u16, family, STATES, id))?;
    let mut buffer = [0; 4096];
    let length = socket.read(&mut buffer)?;
    match messages(&buffer[..length]).find_map(|(_, body)| refusal(body)) {
        None => Ok(true),
        Some(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Some(error) => Err(error),
    }
}

/// A request about one socket, or about all.
fn request(kind: u16, flags: u16, family: u8, states: u32, id: &[u8; ID]) -> [u8; HEADER + REQUEST] {
    let mut bytes = [0; HEADER + REQUEST];
    bytes[0..4].copy_from_slice(&((HEADER + REQUEST) as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    let body = &mut bytes[HEADER..];
    (body[0], body[1]) = (family, libc::IPPROTO_TCP as u8);
    body[4..8].copy_from_slice(&states.to_ne_bytes());
    body[ID_IN_REQUEST..].copy_from_slice(id);
    bytes
}

/// Kind and body of each netlink message in a datagram.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// What an `nlmsgerr` says; `None` for an acknowledgement.
fn refusal(body: &[u8]) -> Option<io::Error> {
    let code = i32::from_ne_bytes(*body.first_chunk()?);
    (code != 0).then(|| io::Error::from_raw_os_error(-code))
}

/// The connection behind an identity: source port and destination port, then source and destination, sixteen bytes each.
fn flow(family: u8, id: &[u8; ID]) -> Option<FlowKey> {
    let port = |at: usize| u16::from_be_bytes([id[at], id[at + 1]]);
    let address = |at: usize| -> Option<[u8; 4]> {
        let bytes: [u8; 16] = id[at..at + 16].try_into().ok()?;
        if family == libc::AF_INET as u8 {
            return bytes.first_chunk().copied();
        }
        match IpAddr::from(Ipv6Addr::from(bytes)).to_canonical() {
            IpAddr::V4(mapped) => Some(mapped.octets()),
            IpAddr::V6(_) => None,
        }
    };
    Some(FlowKey { client: address(20)?, vip: address(4)?, client_port: port(2), vip_port: port(0) })
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// An address of this test's own: others run beside it.
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 100);

    #[test]
    fn the_connections_of_an_address_are_reset_and_no_others() {
        let listener = TcpListener::bind((ADDRESS, 0)).unwrap();
        let other = TcpListener::bind((Ipv4Addr::new(127, 77, 0, 101), 0)).unwrap();
        let connect = |listener: &TcpListener| {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            (client, listener.accept().unwrap().0)
        };
        let (mut reset, mut spared, mut aside) = (connect(&listener), connect(&listener), connect(&other));
        let port = spared.0.local_addr().unwrap().port();
        match connections(&[ADDRESS], |flow| flow.client_port == port) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EOPNOTSUPP | libc::EACCES)) => {
                crate::skip::skip(&format!("no socket of another can be closed: {error}"));
                return;
            }
            count => assert_eq!(count.unwrap(), 1),
        }
        assert_eq!(reset.0.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(reset.1.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
        for (client, server) in [&mut spared, &mut aside] {
            server.write_all(b"!").unwrap();
            assert_eq!(client.read(&mut [0]).unwrap(), 1);
        }
        assert_eq!(connections(&[ADDRESS], |flow| flow.client_port == port).unwrap(), 0);
    }
}
