//! Packets that claim to be ours and are wrong, on a real wire, one by one: each is counted under its own reason, as
//! `harbor-ha status --json` tells it, and none moves the address.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use harbor_ha_ebpf::units::Priority;
use harbor_ha_ebpf::wire::ipv4::{self, Header};
use harbor_ha_ebpf::wire::pulse::{self, Pulse, flag};
use harbor_ha_ebpf::wire::siphash::Key;
use harbor_ha_ebpf::wire::vrrp::{self, Outgoing};
use harbor_ha_tests::lab::tshark::Checksum;
use harbor_ha_tests::lab::wire::{What, Wire};
use harbor_ha_tests::lab::{Lab, Side, clock, netns, node};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use super::{LIMIT, on_a_judged_network, requirements_met, secret, serves, start_ours, until};

const PASSWORD: [u8; 8] = *b"111111\0\0";
const KEY: [u8; 16] = [0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
const PORT: u16 = 5112;

/// Somebody who may write whole IP packets on a host, with any source.
struct Sender {
    socket: Socket,
    victim: Ipv4Addr,
}

impl Sender {
    fn on(lab: &Lab, host: &str) -> Self {
        let open = || {
            // IPPROTO_RAW: the header is ours (raw(7)).
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
            Ok(socket)
        };
        let socket = netns::inside(&lab.state().netns(host), open).unwrap();
        Self { socket, victim: lab.state().address(Side::A) }
    }

    fn send(&self, source: Ipv4Addr, protocol: u8, ttl: u8, payload: &[u8]) {
        let (source, destination) = (source.octets(), self.victim.octets());
        let header = Header { source, destination, protocol, ttl, payload: payload.len() as u16, fragment: false };
        let packet = [&ipv4::emit(&header)[..], payload].concat();
        self.socket.send_to(&packet, &SocketAddrV4::new(self.victim, 0).into()).unwrap();
    }
}

fn advert(lab: &Lab, change: impl FnOnce(&mut Outgoing<'_>)) -> Vec<u8> {
    let addresses = [[10, 77, 0, 100]];
    let mut advert = Outgoing {
        checksum: vrrp::Checksum::PseudoHeader,
        version: 2,
        vrid: 51,
        // The strongest there is: whoever believes it stands down.
        priority: Priority(255),
        interval: 1,
        addresses: &addresses,
        password: Some(PASSWORD),
    };
    change(&mut advert);
    let [a, b] = Side::BOTH.map(|side| lab.state().address(side).octets());
    let mut buffer = [0; vrrp::LENGTH_MAX];
    let length = vrrp::emit(&advert, b, a, &mut buffer);
    buffer[..length].to_vec()
}

fn good_pulse(sequence: u64) -> Pulse {
    Pulse {
        vrid: 51,
        priority: 10,
        threshold: 5,
        interval_us: 20_000,
        cluster_id: 1,
        sequence,
        stamp_ns: 1,
        ..Pulse::default()
    }
}

fn datagram(payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len() as u16;
    [&PORT.to_be_bytes()[..], &PORT.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload].concat()
}

fn sealed(pulse: &Pulse) -> Vec<u8> {
    datagram(&pulse::emit(pulse, Key::from_bytes(KEY)))
}

/// What an operator reads: `harbor-ha status --json`.
fn told(lab: &Lab) -> Result<Value> {
    let config = lab.node(Side::A).config();
    let output = Command::new(node::daemon_program()?).args(["status", "--json", "--config"]).arg(config).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("no JSON")
}

/// The counters of refusals, by reason, and those of strangers.
fn counters(status: &Value) -> BTreeMap<String, u64> {
    let rejects = status["rejects"].as_array().expect("a list");
    let mut counters: BTreeMap<_, _> = rejects
        .iter()
        .map(|it| (it["reason"].as_str().expect("a word").to_owned(), it["count"].as_u64().expect("a number")))
        .collect();
    counters.insert("strangers".to_owned(), status["strangers"].as_u64().expect("a number"));
    counters
}

/// A daemon that serves on `a`, and what it has refused so far.
struct Victim<'a> {
    lab: &'a Lab,
    expected: BTreeMap<String, u64>,
}

impl Victim<'_> {
    /// After one more packet, this counter and no other has moved.
    fn counts(&mut self, reason: &str) {
        *self.expected.entry(reason.to_owned()).or_default() += 1;
        let waited = self.lab.wait(&format!("`{reason}` is counted"), LIMIT, || {
            let found = counters(&told(self.lab)?);
            ensure!(found == self.expected, "{found:?} instead of {:?}", self.expected);
            Ok(())
        });
        waited.unwrap_or_else(|error| panic!("{error:#}"));
    }
}

/// What arrives at a node's pulse port, where no program of ours takes it first.
fn pulse_socket(lab: &Lab, side: Side) -> UdpSocket {
    let open = || Ok(UdpSocket::bind((lab.state().address(side), PORT))?);
    let socket = netns::inside(&lab.state().netns(side.name()), open).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

/// The answer of the other node's kernel to the pulse with this sequence; its daemon's own pulses come by the same port.
fn answer_to(socket: &UdpSocket, sequence: u64) -> Pulse {
    loop {
        let mut bytes = [0; pulse::LENGTH];
        socket.recv(&mut bytes).expect("an answer");
        let heard = pulse::parse(&bytes, Key::from_bytes(KEY)).expect("authentic");
        if heard.is_reflection() && heard.sequence == sequence {
            return heard;
        }
    }
}

const TEST: &str = "each_wrong_packet_on_the_wire_is_counted_under_its_own_reason";

#[test]
fn each_wrong_packet_on_the_wire_is_counted_under_its_own_reason() {
    if requirements_met(TEST, &[]) {
        on_a_judged_network(Checksum::PseudoHeader, run, |judgement| {
            // The judge sees what the daemon saw, and has nothing to say against what the daemon said.
            let (ours, forged): (Vec<_>, Vec<_>) = judgement.objections.iter().partition(|it| it.source == "10.77.0.1");
            ensure!(ours.is_empty() && judgement.adverts.contains_key("10.77.0.1"), "{ours:?}");
            for word in ["malformed", "the checksum is not good"] {
                ensure!(forged.iter().any(|it| it.what.contains(word)), "nothing {word} in {forged:?}");
            }
            Ok(())
        });
    }
}

fn run(lab: &Lab) {
    let home = lab.node(Side::A).home();
    secret(&home.join("vrrp.password"), "111111\n");
    secret(&home.join("pulse.key"), "00112233445566778899aabbccddeeff\n");
    let tables = format!(
        "[vrrp]\nversion = 2\nvrid = 51\npriority = 100\npassword_file = \"{home}/vrrp.password\"\n\n\
         [pulse]\nkey_file = \"{home}/pulse.key\"\n\n[lease]\nisolated = \"hold\"\n",
        home = home.display()
    );
    start_ours(lab, Side::A, &tables);
    until(lab, Side::A, "ours serves", serves);
    let from = clock::now_ns();
    let client = Wire::on(lab, "c").unwrap();
    let [peer, stranger] = ["b", "c"].map(|host| Sender::on(lab, host));
    let (b, c) = (lab.state().address(Side::B), Ipv4Addr::new(10, 77, 0, 3));
    let mut victim = Victim { lab, expected: counters(&told(lab).unwrap()) };
    assert_eq!(victim.expected, BTreeMap::from([("strangers".to_owned(), 0)]));

    stranger.send(c, ipv4::VRRP, 255, &advert(lab, |_| ()));
    victim.counts("strangers");
    stranger.send(c, ipv4::UDP, 255, &sealed(&good_pulse(1)));
    victim.counts("strangers");

    let good = advert(lab, |_| ());
    let mut adverts = vec![
        ("vrid", advert(lab, |it| it.vrid = 52)),
        ("password", advert(lab, |it| it.password = Some(*b"222222\0\0"))),
        ("auth_type", advert(lab, |it| it.password = None)),
        ("interval", advert(lab, |it| it.interval = 2)),
        ("version", advert(lab, |it| (it.version, it.password) = (3, None))),
        ("addresses", advert(lab, |it| it.addresses = &[])),
        ("length", good[..good.len() - 1].to_vec()),
        ("length", good[..7].to_vec()),
        ("length", [&good[..], &[0; 4]].concat()),
        ("checksum", good.clone()),
        ("type", good.clone()),
    ];
    let [.., checksum, kind] = &mut adverts[..] else { unreachable!("a dozen of them") };
    checksum.1[7] ^= 1;
    kind.1[0] = 0x22;
    for (reason, message) in &adverts {
        peer.send(b, ipv4::VRRP, 255, message);
        victim.counts(reason);
    }
    peer.send(b, ipv4::VRRP, 254, &good);
    victim.counts("ttl");
    // The peer's address does not help whoever stands elsewhere, as long as he does not know the password.
    stranger.send(b, ipv4::VRRP, 255, &advert(lab, |it| it.password = Some([0; 8])));
    victim.counts("password");

    let other_key = datagram(&pulse::emit(&good_pulse(100), Key([1, 2])));
    peer.send(b, ipv4::UDP, 255, &other_key);
    victim.counts("mac");
    let mut changed = sealed(&good_pulse(100));
    changed[8 + 40] ^= 1;
    peer.send(b, ipv4::UDP, 255, &changed);
    victim.counts("mac");
    for (reason, message) in [
        ("cluster", sealed(&Pulse { cluster_id: 2, ..good_pulse(100) })),
        ("vrid", sealed(&Pulse { vrid: 52, ..good_pulse(100) })),
        ("interval", sealed(&Pulse { threshold: 0, ..good_pulse(100) })),
        ("magic", datagram(&[0; pulse::LENGTH])),
        ("length", datagram(&[0; pulse::LENGTH - 1])),
        // An answer to a question that is yet to be asked.
        ("reflection", sealed(&Pulse { flags: flag::REFLECTION, ..good_pulse(u64::MAX) })),
    ] {
        peer.send(b, ipv4::UDP, 255, &message);
        victim.counts(reason);
    }
    peer.send(b, ipv4::UDP, 254, &sealed(&good_pulse(100)));
    victim.counts("ttl");

    let status = lab.node(Side::A).status().unwrap();
    assert!(serves(&status), "still ours: {}", status.0);
    assert_eq!(status.number("/adverts_heard/arrivals"), Some(0), "no wrong advert fed the detector");
    assert_eq!(status.number("/pulses_heard/arrivals"), Some(0), "no wrong pulse fed the detector");
    let moved = client.first(from, |what| what == What::Garp(Side::B));
    assert_eq!(moved, None, "nobody else announced the address");

    // The same without a fault is believed: it was the faults that were refused.
    peer.send(b, ipv4::VRRP, 255, &good);
    let status = until(lab, Side::A, "the owner's advert is obeyed", |status| !status.is("/vip"));
    assert_eq!(status.number("/adverts_heard/arrivals"), Some(1));
    let answers = pulse_socket(lab, Side::B);
    peer.send(b, ipv4::UDP, 255, &sealed(&good_pulse(100)));
    let answer = answer_to(&answers, 100);
    assert_eq!((answer.vrid, answer.priority, answer.threshold, answer.echo_ns), (51, 100, 5, 0), "{answer:?}");
    until(lab, Side::A, "one pulse", |status| status.number("/pulses_heard/arrivals") == Some(1));
    for sequence in [100, 99, 0] {
        peer.send(b, ipv4::UDP, 255, &sealed(&good_pulse(sequence)));
        victim.counts("sequence");
    }
    peer.send(b, ipv4::UDP, 255, &sealed(&good_pulse(101)));
    until(lab, Side::A, "one more pulse", |status| status.number("/pulses_heard/arrivals") == Some(2));
    assert_eq!(counters(&told(lab).unwrap()), victim.expected);
}
