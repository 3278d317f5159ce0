//! The memory of connections: what the interface sees of them, packet by packet.

use harbor_ha::core::flows::SeesFlows as _;
use harbor_ha::kernel::flows::FlowMap;
use harbor_ha::kernel::load;
use harbor_ha_ebpf::records::FlowKey;
use harbor_ha_ebpf::units::Nanos;
use harbor_ha_ebpf::wire::ipv4::{self, Header};
use harbor_ha_ebpf::wire::tcp::flag;
use harbor_ha_tests::lab::clock;

use super::gate::{LONG, gated};
use super::{DROP, Kernel, PASS, PEER_ADDRESS, VIP, frame};

/// A segment of a client for the virtual address.
fn segment(port: u16, flags: u8) -> Vec<u8> {
    let header =
        Header { source: PEER_ADDRESS, destination: VIP, protocol: ipv4::TCP, ttl: 64, payload: 20, fragment: false };
    let mut tcp = [0; 20];
    tcp[0..2].copy_from_slice(&port.to_be_bytes());
    tcp[2..4].copy_from_slice(&5432u16.to_be_bytes());
    (tcp[12], tcp[13]) = (0x50, flags);
    frame(&header, &tcp)
}

fn key(client_port: u16) -> FlowKey {
    FlowKey { client: PEER_ADDRESS, vip: VIP, client_port, vip_port: 5432 }
}

/// A serving node, and a reader of its map.
fn serving() -> (Kernel, FlowMap) {
    let mut kernel = gated();
    kernel.serve(4, clock::now_ns() + LONG);
    let map = FlowMap::open(&kernel.bpffs.0, "test").expect("pinned");
    (kernel, map)
}

fn known(map: &mut FlowMap) -> Vec<(FlowKey, bool)> {
    map.flows(Nanos(clock::now_ns())).into_iter().map(|(key, flow)| (key, flow.closed != 0)).collect()
}

#[test]
fn a_connection_is_known_from_its_first_segment_to_its_end() {
    let (mut kernel, mut map) = serving();
    for (port, flags) in [(1, flag::SYN), (2, flag::ACK), (3, flag::SYN), (4, flag::RST)] {
        assert_eq!(kernel.see(&segment(port, flags)), PASS);
    }
    assert_eq!(known(&mut map), [(key(1), false), (key(2), false), (key(3), false)]);
    kernel.see(&segment(1, flag::FIN | flag::ACK));
    kernel.see(&segment(2, flag::RST));
    // Of the end itself.
    kernel.see(&segment(1, flag::ACK));
    assert_eq!(known(&mut map), [(key(1), true), (key(2), true), (key(3), false)]);
    kernel.see(&segment(1, flag::SYN));
    assert_eq!(known(&mut map), [(key(1), false), (key(2), true), (key(3), false)]);
}

#[test]
fn a_segment_soon_after_another_writes_nothing() {
    let (mut kernel, mut map) = serving();
    let mut seen = |kernel: &mut Kernel| {
        kernel.see(&segment(1, flag::ACK));
        map.flows(Nanos(clock::now_ns()))[0].1
    };
    let before = clock::now_ns();
    let first = seen(&mut kernel);
    assert!(first.last_seen_ns >= before && first.closed == 0);
    assert_eq!(seen(&mut kernel), first);
}

#[test]
fn a_shut_gate_and_what_is_no_segment_leave_no_trace() {
    let (mut kernel, mut map) = serving();
    let udp =
        Header { source: PEER_ADDRESS, destination: VIP, protocol: ipv4::UDP, ttl: 64, payload: 20, fragment: false };
    let tcp = Header { protocol: ipv4::TCP, ..udp };
    let fragment = Header { fragment: true, ..tcp };
    for header in [udp, fragment] {
        let mut bytes = frame(&header, &[1; 20]);
        // `emit` does not write the bits of a fragment.
        bytes[14 + 6] = if header.fragment { 0x20 } else { 0 };
        assert_eq!(kernel.see(&bytes), PASS);
    }
    kernel.serve(0, 0);
    assert_eq!(kernel.see(&segment(1, flag::SYN)), DROP);
    assert_eq!(known(&mut map), []);
}

#[test]
fn what_is_over_is_forgotten_by_the_reader_and_the_rest_outlives_a_restart() {
    let (mut kernel, mut map) = serving();
    kernel.see(&segment(1, flag::SYN));
    kernel.see(&segment(2, flag::SYN));
    kernel.see(&segment(2, flag::RST));
    let Kernel { ebpf, maps, ring, voice, bpffs } = kernel;
    drop((ebpf, maps, ring, voice));
    let _ebpf = load::load(&bpffs.0, "test", false).expect("adopts the maps");
    assert_eq!(known(&mut map), [(key(1), false), (key(2), true)]);
    let at = |seconds| Nanos(clock::now_ns()).after(Nanos::from_secs(seconds));
    assert_eq!(map.flows(at(61)).len(), 1, "closed a minute ago");
    assert_eq!(map.flows(at(3 * 3600 + 1)).len(), 0, "silent for longer than any keepalive");
    assert_eq!(known(&mut map), [], "and gone from the map");
    drop(map);
    load::detach(&bpffs.0, "test").expect("detached");
}
