//! The gate: on the interface packet by packet, at the sockets with real ones.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use harbor_ha::core::speaks::Speaks as _;
use harbor_ha::kernel::load;
use harbor_ha::kernel::{cgroup, gate};
use harbor_ha_ebpf::names;
use harbor_ha_ebpf::records::{Config, GateStats, Order, Own, Signs, VIPS_MAX, accept};
use harbor_ha_ebpf::wire::arp;
use harbor_ha_ebpf::wire::ipv4::{self, Header};
use harbor_ha_ebpf::wire::pulse::Pulse;
use harbor_ha_tests::lab::clock;
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    DROP, KEY, Kernel, PASS, PEER_ADDRESS, US, VIP, config, frame, good_pulse, peers, pulse_frame, run, secrets,
};

/// Far away.
pub const LONG: u64 = 60_000_000_000;

pub fn gated() -> Kernel {
    let mut kernel = Kernel::load(3);
    let mut vips = [[0; 4]; VIPS_MAX];
    (vips[0], vips[1]) = ([10, 77, 0, 99], VIP);
    let accept = accept::ADVERTS | accept::PULSES | accept::GATE;
    kernel.maps.write(&Config { accept, vips, ..config(3) }, &secrets(), &peers()).expect("written");
    kernel
}

impl Kernel {
    /// An order to serve in a term, and a right of its own until then.
    pub fn serve(&mut self, serving_term: u64, solo_until_ns: u64) {
        let order = Order { serving_term, solo_until_ns, hang_ns: LONG, ..Order::default() };
        self.maps.order(&order).expect("ordered");
        let said = self.voice.said();
        let signs = Signs { sign_ns: clock::now_ns(), sent: said.sent + 1, asked: said.asked + 1 };
        assert!(self.voice.say(&Own::default(), &signs));
    }

    fn gate_stats(&self) -> GateStats {
        self.maps.gate_stats().expect("gate_stats")
    }
}

/// TCP to an address, from the peer's side.
pub fn to(destination: [u8; 4]) -> Vec<u8> {
    let header =
        Header { source: PEER_ADDRESS, destination, protocol: ipv4::TCP, ttl: 64, payload: 20, fragment: false };
    frame(&header, &[0; 20])
}

/// A request of the peer for an address.
fn asks(target: [u8; 4]) -> Vec<u8> {
    let mut frame = arp::gratuitous([2, 0, 0, 0, 0, 1], target).to_vec();
    frame[28..32].copy_from_slice(&PEER_ADDRESS);
    frame
}

fn tagged(mut frame: Vec<u8>) -> Vec<u8> {
    frame.splice(12..12, [0x81, 0, 0, 5]);
    frame
}

#[test]
fn a_virtual_address_is_dark_until_it_is_ordered_and_a_right_runs_and_each_reason_is_counted() {
    let mut kernel = gated();
    let mut expected = GateStats::default();
    let mut dark = |kernel: &mut Kernel, reason: fn(&mut GateStats) -> &mut u64| {
        for frame in [to(VIP), tagged(to(VIP)), to([10, 77, 0, 99])] {
            assert_eq!(kernel.see(&frame), DROP);
            expected.dropped_ingress += 1;
            *reason(&mut expected) += 1;
        }
        for frame in [asks(VIP), tagged(asks(VIP))] {
            assert_eq!(kernel.see(&frame), DROP);
            expected.dropped_arp += 1;
            *reason(&mut expected) += 1;
        }
        assert_eq!(kernel.gate_stats(), expected);
    };
    dark(&mut kernel, |stats| &mut stats.shut_not_serving);
    kernel.serve(4, 0);
    dark(&mut kernel, |stats| &mut stats.shut_expired);
    kernel.serve(4, clock::now_ns() - 1);
    dark(&mut kernel, |stats| &mut stats.shut_expired);
    kernel.serve(4, clock::now_ns() + LONG);
    for frame in [to(VIP), tagged(to(VIP)), asks(VIP), tagged(asks(VIP))] {
        assert_eq!(kernel.see(&frame), PASS);
    }
    kernel.see(&pulse_frame(&Pulse { term: 5, ..good_pulse(1) }, KEY));
    dark(&mut kernel, |stats| &mut stats.shut_higher_term);
    kernel.serve(0, clock::now_ns() + LONG);
    dark(&mut kernel, |stats| &mut stats.shut_not_serving);
}

#[test]
fn the_lease_of_the_peer_opens_the_gate_and_its_end_shuts_it() {
    let mut kernel = gated();
    kernel.serve(4, 0);
    let mut sequence = 0;
    let mut echo = |kernel: &mut Kernel, age: u64| {
        sequence += 1;
        let stamp = clock::now_ns() - age;
        // A second's worth of a lease, so that a slow host sees it open.
        let slow = Pulse { interval_us: 1_000_000, echo_ns: stamp, ..good_pulse(sequence) };
        kernel.see(&pulse_frame(&slow, KEY));
    };
    echo(&mut kernel, 0);
    assert_eq!(kernel.see(&to(VIP)), PASS);
    let mut kernel = gated();
    kernel.serve(4, 0);
    echo(&mut kernel, 2_700_000_001);
    assert_eq!(kernel.see(&to(VIP)), DROP);
    assert_eq!(kernel.gate_stats().shut_expired, 1);
}

#[test]
fn what_is_no_virtual_address_s_passes_the_shut_gate() {
    let mut kernel = gated();
    // From one, to the node, to another, to nobody; ARP for the node, and the news that the address moved.
    let from = Header { source: VIP, destination: US, protocol: ipv4::TCP, ttl: 64, payload: 20, fragment: false };
    let frames = [
        frame(&from, &[0; 20]),
        to(US),
        to([10, 77, 0, 98]),
        to([0; 4]),
        asks(US),
        arp::gratuitous([2, 0, 0, 0, 0, 1], VIP).to_vec(),
    ];
    for frame in frames {
        assert_eq!(kernel.see(&frame), PASS, "{frame:?}");
    }
    assert_eq!(kernel.gate_stats(), GateStats::default());
}

#[test]
fn without_the_gate_in_the_configuration_everything_passes() {
    let mut kernel = Kernel::load(3);
    for frame in [to(VIP), asks(VIP)] {
        assert_eq!(kernel.see(&frame), PASS);
    }
    assert_eq!(kernel.gate_stats(), GateStats::default());
}

/// A control group with this process in it; both as before when dropped.
struct Group(PathBuf, #[expect(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

/// A control group is the whole process's: one test at a time is in one.
static INSIDE: Mutex<()> = Mutex::new(());

impl Group {
    fn enter() -> Self {
        let inside = INSIDE.lock().unwrap_or_else(PoisonError::into_inner);
        let root = cgroup::root().expect("a cgroup2 file system");
        let group = root.join(format!("harbor-ha-kernel-{}", std::process::id()));
        fs::create_dir(&group).expect("a control group");
        let group = Self(group, inside);
        fs::write(group.0.join("cgroup.procs"), "0").expect("may move");
        group
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let root = self.0.parent().expect("below the root");
        fs::write(root.join("cgroup.procs"), "0").expect("may move back");
        fs::remove_dir(&self.0).expect("the group is empty");
    }
}

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);

/// A namespace of this thread's own, in which the virtual address is on `lo`.
fn own_loopback() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
    run(Command::new("ip").args("link set lo up".split(' ')));
    run(Command::new("ip").args("address add 10.77.0.100/32 dev lo".split(' ')));
}

fn udp(address: Ipv4Addr) -> UdpSocket {
    let socket = UdpSocket::bind((address, 0)).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a limit");
    socket
}

fn hears(socket: &UdpSocket) -> bool {
    match socket.recv(&mut [0; 8]) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_sockets_are_gated_both_ways_and_a_reset_passes() {
    let group = Group::enter();
    own_loopback();
    let mut kernel = gated();
    let attach = |kernel: &mut Kernel| {
        gate::attach(&mut kernel.ebpf, &kernel.bpffs.0, "test", Some(&group.0))
            .unwrap_or_else(|error| panic!("{error}"))
    };
    assert_eq!(attach(&mut kernel), group.0);
    let (vip, other) = (udp(ADDRESS), udp(Ipv4Addr::LOCALHOST));
    let ends = |socket: &UdpSocket| socket.local_addr().expect("bound");

    // Shut: nothing comes in, nothing goes out; what is not the address's passes.
    other.send_to(b"in", ends(&vip)).expect("leaves: the sender is nobody's address");
    assert!(!hears(&vip));
    let refused = vip.send_to(b"out", ends(&other)).expect_err("does not leave");
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    assert!(!hears(&other));
    let third = udp(Ipv4Addr::LOCALHOST);
    third.send_to(b"aside", ends(&other)).expect("leaves");
    assert!(hears(&other));
    let shut = GateStats { dropped_in: 1, dropped_out: 1, shut_not_serving: 2, ..GateStats::default() };
    assert_eq!(kernel.gate_stats(), shut);

    // Open.
    kernel.serve(4, clock::now_ns() + LONG);
    other.send_to(b"in", ends(&vip)).expect("leaves");
    assert!(hears(&vip));
    vip.send_to(b"out", ends(&other)).expect("leaves");
    assert!(hears(&other));
    assert_eq!(kernel.gate_stats(), GateStats { passed: 2, ..shut });

    // A connection, then the gate shuts: no acknowledgement gets out, and the reset does.
    let listener = TcpListener::bind((ADDRESS, 0)).expect("a listener");
    let client = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
    client.bind(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into()).expect("not the virtual address");
    client.connect(&listener.local_addr().expect("bound").into()).expect("the gate is open");
    let (mut server, from) = listener.accept().expect("accepted");
    assert!(matches!(from, SocketAddr::V4(from) if *from.ip() == Ipv4Addr::LOCALHOST));
    kernel.serve(4, 0);
    let before = kernel.gate_stats();
    server.write_all(b"committed").expect("the socket takes it");
    client.set_read_timeout(Some(Duration::from_millis(50))).expect("a limit");
    let error = (&client).read(&mut [0; 16]).expect_err("nothing arrives");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    let after = kernel.gate_stats();
    assert!(after.dropped_out > before.dropped_out && after.shut_expired > before.shut_expired, "{after:?}");
    let server = Socket::from(server);
    server.set_linger(Some(Duration::ZERO)).expect("linger");
    drop(server);
    client.set_read_timeout(Some(Duration::from_secs(5))).expect("a limit");
    let error = (&client).read(&mut [0; 16]).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(kernel.gate_stats().passed, after.passed, "and nothing else passed");
}

#[test]
fn a_restart_puts_the_new_gate_in_the_place_of_the_old_one() {
    let group = Group::enter();
    own_loopback();
    let mut kernel = gated();
    gate::attach(&mut kernel.ebpf, &kernel.bpffs.0, "test", Some(&group.0)).expect("attached");
    let Kernel { ebpf, maps, ring, voice, bpffs } = kernel;
    drop((ebpf, maps, ring, voice));
    let folder = load::pin_folder(&bpffs.0, "test");
    let (vip, other) = (udp(ADDRESS), udp(Ipv4Addr::LOCALHOST));
    let is_shut = || {
        other.send_to(b"in", vip.local_addr().expect("bound")).expect("leaves");
        !hears(&vip)
    };
    assert!(is_shut(), "nobody holds a descriptor, the pins alone keep the gate");
    // As after a start that was killed in the middle.
    fs::rename(folder.join(names::GATE_IN_LINK), folder.join(names::GATE_IN_NEXT)).expect("renamed");
    let mut ebpf = load::load(&bpffs.0, "test", false).expect("adopts the maps");
    gate::attach(&mut ebpf, &bpffs.0, "test", Some(&group.0)).expect("attached anew");
    assert!(is_shut());
    assert!(folder.join(names::GATE_IN_LINK).exists() && !folder.join(names::GATE_IN_NEXT).exists());
    let shown = Command::new("bpftool").args(["cgroup", "show"]).arg(&group.0).output().expect("bpftool");
    let shown = String::from_utf8_lossy(&shown.stdout).matches("harbor_ha_gate").count();
    assert_eq!(shown, 2, "one each way");
    gate::detach(&bpffs.0, "test").expect("detached");
    drop(ebpf);
    // The kernel takes the links down a moment later.
    let begun = std::time::Instant::now();
    while is_shut() {
        assert!(begun.elapsed() < Duration::from_secs(2), "the gate is still there");
    }
    load::detach(&bpffs.0, "test").expect("detached");
    assert!(!folder.exists());
}

#[test]
fn a_folder_that_is_no_control_group_is_refused_in_words() {
    let mut kernel = gated();
    for (path, word) in [("/proc", "no folder of a cgroup2"), ("/nowhere", "kernel.cgroup")] {
        let refused =
            gate::attach(&mut kernel.ebpf, &kernel.bpffs.0, "test", Some(path.as_ref())).expect_err("refused");
        assert!(refused.to_string().contains(word), "{refused}");
    }
}
