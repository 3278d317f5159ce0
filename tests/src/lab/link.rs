//! The network: a bridge in a namespace of its own, a port for each host.
//!
//! Everything is broken at the switch's side, as a cable is: the node's own kernel is not asked.

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::state::State;
use super::{Side, clock, cloud, netns};

/// Makes the namespaces, the switch, the cables and the addresses.
///
/// # Errors
/// What `ip` says.
pub fn build(state: &State) -> Result<()> {
    let switch = state.netns("sw");
    let (mut outside, mut ports) = (String::new(), String::from("link set br0 up\n"));
    outside += &format!("netns add {switch}\n");
    outside += &format!("link add br0 netns {switch} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n");
    for (host, _) in state.hosts() {
        let (name, mac) = (state.netns(host), mac_text(state.mac(host)));
        outside += &format!("netns add {name}\n");
        outside += &format!("link add p{host} netns {switch} type veth peer name eth0 netns {name} address {mac}\n");
        ports += &format!("link set p{host} master br0\nlink set p{host} up\n");
    }
    // Two isolated ports do not reach each other: a partition isolates the first one too, in one call.
    ports += "link set pb type bridge_slave isolated on\n";
    batch(None, &outside)?;
    for name in state.namespaces() {
        netns::inside(&name, no_ipv6)?;
    }
    for (host, address) in state.hosts() {
        let lines = format!("link set lo up\naddress add {address}/24 dev eth0\nlink set eth0 up\n");
        batch(Some(&state.netns(host)), &lines)?;
    }
    if state.options.cloud {
        // As the real one: reached from every instance, and in no subnet.
        batch(Some(&state.netns(cloud::HOST)), &format!("address add {}/32 dev eth0\n", cloud::METADATA))?;
        for side in Side::BOTH {
            batch(Some(&state.netns(side.name())), &format!("route add {}/32 dev eth0\n", cloud::METADATA))?;
        }
    }
    batch(Some(&switch), &ports)
}

/// A router solicitation or a duplicate address check is noise in a capture.
fn no_ipv6() -> Result<()> {
    for which in ["all", "default"] {
        let file = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
        // A kernel without IPv6 has no such file, and no such noise.
        if fs::exists(&file)? {
            fs::write(&file, "1").with_context(|| format!("cannot write `{file}`"))?;
        }
    }
    Ok(())
}

/// `02:77:…`
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// One `ip` for many lines: starting it is what takes the time.
///
/// # Errors
/// What `ip` says.
pub fn batch(namespace: Option<&str>, lines: &str) -> Result<()> {
    let mut ip = Command::new("ip");
    if let Some(name) = namespace {
        ip.args(["-n", name]);
    }
    let mut child = ip.args(["-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("no pipe")?.write_all(lines.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "ip: {}(in {})",
        String::from_utf8_lossy(&output.stderr),
        namespace.unwrap_or("-")
    );
    Ok(())
}

/// Pulls the cable of a node, or plugs it in; returns the instant just before.
///
/// A call of `ioctl`, not of `ip`: starting a program takes milliseconds, which would count as the peer's.
///
/// # Errors
/// The kernel refuses.
pub fn set_port(state: &State, side: Side, up: bool) -> Result<u64> {
    netns::inside(&state.netns("sw"), || {
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        // SAFETY: all zeroes is a valid `ifreq`: bytes, and numbers in a union.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        let name = format!("p{side}");
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        // SAFETY: the call writes the flags of the interface into the union of `request`, which outlives it.
        let got = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &mut request) };
        nix::errno::Errno::result(got).with_context(|| format!("port `{name}`"))?;
        // SAFETY: the call before has filled in the flags.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        let bit = libc::IFF_UP as libc::c_short;
        request.ifr_ifru.ifru_flags = if up { flags | bit } else { flags & !bit };
        let at = clock::now_ns();
        // SAFETY: the call reads the name and the flags of `request`, both set above.
        let set = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) };
        nix::errno::Errno::result(set).with_context(|| format!("port `{name}`"))?;
        Ok(at)
    })
}

/// The nodes lose each other, the client keeps both; or the end of that. Returns the instant just before.
///
/// # Errors
/// What `ip` says.
pub fn set_partition(state: &State, parted: bool) -> Result<u64> {
    let at = clock::now_ns();
    batch(
        Some(&state.netns("sw")),
        &format!("link set pa type bridge_slave isolated {}\n", if parted { "on" } else { "off" }),
    )?;
    Ok(at)
}

/// What a node sends to the other is lost, what it hears from it is not; or the end of that. Returns the instant just
/// before.
///
/// # Errors
/// What `nft` says.
pub fn set_oneway(state: &State, from: Side, cut: bool) -> Result<u64> {
    let (table, to) = (format!("bridge oneway_{from}"), from.other());
    // To delete what may not be there: it is added first, which changes nothing when it is.
    let rules = match cut {
        true => format!(
            "table {table} {{\n chain forward {{\n type filter hook forward priority 0\n \
             iifname \"p{from}\" oifname \"p{to}\" drop\n }}\n}}"
        ),
        false => format!("table {table}\ndelete table {table}"),
    };
    let mut nft = netns::command(&state.netns("sw"), "nft")?;
    let at = clock::now_ns();
    let mut child = nft.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().context("no `nft`")?;
    child.stdin.take().context("no pipe")?.write_all(rules.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
    Ok(at)
}
