use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::*;
use crate::config::secret::Secret;

/// A kernel that has seen these.
struct Eye(Vec<(FlowKey, Flow)>);

impl SeesFlows for Eye {
    fn flows(&mut self, _now: Nanos) -> Vec<(FlowKey, Flow)> {
        self.0.clone()
    }
}

fn flow(client_port: u16) -> FlowKey {
    FlowKey { client: [127, 0, 0, 1], vip: [127, 0, 0, 2], client_port, vip_port: 5432 }
}

fn settings(flows_port: u16, key: u8) -> Settings {
    Settings {
        interval: Duration::from_millis(10),
        threshold: 3,
        port: 1,
        flows_port,
        key: Secret::new([key; 16]),
        other_key: None,
        cluster_id: 7,
    }
}

/// The end of a peer that the test itself is, and the node.
fn node(host: u8, eye: Eye) -> Option<(Flows, UdpSocket)> {
    let [us, them] = [host, host + 1].map(|last| Ipv4Addr::new(127, 0, 0, last));
    let peer = UdpSocket::bind((them, 0)).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let port = peer.local_addr().unwrap().port();
    peer.connect((us, port)).unwrap();
    let identity = Identity { source: us, peer: them, vrid: 51, priority: 1, boot: 1, sequence: 100 };
    match Flows::start(&settings(port, 7), identity, Box::new(eye)) {
        Ok(flows) => Some((flows, peer)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            crate::skip::skip(&format!("no packets of another can be sent: {error}"));
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn receive(peer: &UdpSocket) -> (Head, Vec<Entry>) {
    let mut bytes = [0; LENGTH_MAX];
    let length = peer.recv(&mut bytes).unwrap();
    let (head, entries) = flows::parse(&bytes[..length], Key::from_bytes([7; 16])).unwrap();
    (head, entries.collect())
}

fn until(what: &str, met: impl Fn() -> bool) {
    let begun = Instant::now();
    while !met() {
        assert!(begun.elapsed() < Duration::from_secs(5), "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_node_that_serves_tells_what_is_open_and_hears_what_of_it_is_known() {
    let (now, closed) = (clock::now().0, Flow { last_seen_ns: 0, closed: 1 });
    let open = Flow { last_seen_ns: now, closed: 0 };
    let Some((node, peer)) = node(21, Eye(vec![(flow(1), open), (flow(2), closed), (flow(3), open)])) else { return };
    node.serving(Some(4));
    let (first, entries) = receive(&peer);
    assert_eq!((first.vrid, first.cluster_id, first.term, first.part, first.parts), (51, 7, 4, 0, 1));
    assert!(first.sequence > 100);
    assert_eq!(entries.iter().map(|entry| entry.key).collect::<Vec<_>>(), [flow(1), flow(3)]);
    assert!(node.confirmed().is_empty(), "nobody has said so");
    // Not confirmed: said again.
    let (second, _) = receive(&peer);
    assert!(second.sequence > first.sequence);
    let mut bytes = [0; LENGTH_MAX];
    let length = flows::emit(&Head { parts: 0, ..second }, &[], Key::from_bytes([7; 16]), &mut bytes);
    peer.send(&bytes[..length]).unwrap();
    until("the confirmation is heard", || node.confirmed() == BTreeSet::from([flow(1), flow(3)]));
}

#[test]
fn a_node_that_does_not_serve_confirms_a_whole_table_once_and_nothing_that_is_forged() {
    let Some((node, peer)) = node(23, Eye(Vec::new())) else { return };
    let head = Head { vrid: 51, cluster_id: 7, term: 4, sequence: 9, part: 0, parts: 1 };
    let send = |head: &Head, key: u8| {
        let mut bytes = [0; LENGTH_MAX];
        let entries = [Entry { key: flow(1), age_s: 0 }];
        let length = flows::emit(head, &entries, Key::from_bytes([key; 16]), &mut bytes);
        peer.send(&bytes[..length]).unwrap();
    };
    send(&Head { sequence: 12, ..head }, 8);
    send(&Head { sequence: 11, cluster_id: 8, ..head }, 7);
    send(&Head { sequence: 10, vrid: 52, ..head }, 7);
    send(&head, 7);
    let (answer, entries) = receive(&peer);
    assert_eq!((answer, entries.len()), (Head { parts: 0, ..head }, 0));
    // The same once more is a replay: the next answer is that to the next table.
    send(&head, 7);
    send(&Head { sequence: 10, ..head }, 7);
    assert_eq!(receive(&peer).0.sequence, 10);
    drop(node);
}
