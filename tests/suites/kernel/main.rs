//! The kernel programs in the real kernel: `BPF_PROG_TEST_RUN` packet by packet, timers, pins, sockets. Root.
// size: one program, and each of its rules against the kernel.

mod cost;
mod flows;
mod gate;
mod lease;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use harbor_ha::config::settings::XdpMode;
use harbor_ha::core::speaks::Speaks;
use harbor_ha::kernel::load::{self, Attached};
use harbor_ha::kernel::maps::{Maps, PEER, verdicts};
use harbor_ha::kernel::own::OwnWriter;
use harbor_ha_ebpf::decide::filter::Reject;
use harbor_ha_ebpf::names;
use harbor_ha_ebpf::records::{
    Config, Own, PEERS_MAX, PeerConfig, Secrets, Signs, Source, State, Stats, Verdict, VerdictKind, accept,
};
use harbor_ha_ebpf::units::Priority;
use harbor_ha_ebpf::wire::ipv4::{self, Header};
use harbor_ha_ebpf::wire::pulse::{self, Pulse, flag};
use harbor_ha_ebpf::wire::siphash::Key;
use harbor_ha_ebpf::wire::vrrp::{self, Outgoing};
use harbor_ha_tests::frames;

const US: [u8; 4] = [10, 77, 0, 2];
const PEER_ADDRESS: [u8; 4] = [10, 77, 0, 1];
const VIP: [u8; 4] = [10, 77, 0, 100];
const KEY: Key = Key([0x1111, 0x2222]);
const PORT: u16 = 5112;
/// `enum xdp_action` of the kernel.
const DROP: u32 = 1;
const PASS: u32 = 2;
const TX: u32 = 3;

/// The program loaded with maps pinned on a BPF file system of the test's own.
struct Kernel {
    ebpf: Ebpf,
    maps: Maps,
    ring: RingBuf<MapData>,
    voice: OwnWriter,
    bpffs: Bpffs,
}

/// A mounted BPF file system; gone when dropped, also by a panic.
struct Bpffs(PathBuf);

impl Bpffs {
    fn mount() -> Self {
        let folder = tempfile::Builder::new().prefix("harbor-ha-kernel-").tempdir().expect("a folder").keep();
        run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&folder));
        Self(folder)
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        run(Command::new("umount").arg(&self.0));
        std::fs::remove_dir(&self.0).expect("the mount point is empty");
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

impl Kernel {
    fn load(version: u8) -> Self {
        let bpffs = Bpffs::mount();
        let mut ebpf = load::load(&bpffs.0, "test", false).unwrap_or_else(|error| panic!("{error}"));
        let mut maps = Maps::take(&mut ebpf).expect("our maps");
        maps.write(&config(version), &secrets(), &peers()).expect("the kernel takes the configuration");
        Self::of(ebpf, maps, bpffs)
    }

    fn of(mut ebpf: Ebpf, maps: Maps, bpffs: Bpffs) -> Self {
        let ring = verdicts(&mut ebpf).expect("the ring");
        let voice = OwnWriter::open(&bpffs.0, "test").expect("the pins");
        Self { ebpf, maps, ring, voice, bpffs }
    }

    /// Says that this many pulses of ours left, the newest with this sequence.
    fn ask(&mut self, count: u64) {
        let said = self.voice.said();
        let signs = Signs { asked: said.asked + count, sent: said.sent + count, ..said };
        assert!(self.voice.say(&Own::default(), &signs), "the kernel hears");
    }

    /// Runs one frame through the program.
    fn see(&mut self, frame: &[u8]) -> u32 {
        self.turn(frame).0
    }

    /// The same, with what the program made of the frame.
    fn turn(&mut self, frame: &[u8]) -> (u32, Vec<u8>) {
        // The kernel wants at least an Ethernet header; short frames are padded as a card does.
        let mut frame = frame.to_vec();
        frame.resize(frame.len().max(60), 0);
        let program: &Xdp = self.ebpf.program(names::XDP_PROGRAM).expect("ours").try_into().expect("XDP");
        let mut out = vec![0; frame.len()];
        let options = TestRunOptions { data_in: Some(&frame), data_out: Some(&mut out), ..TestRunOptions::default() };
        let result = program.test_run(options).expect("BPF_PROG_TEST_RUN");
        (result.return_value, out)
    }

    fn stats(&self) -> Stats {
        self.maps.stats(PEER).expect("stats")
    }

    /// A refused frame is dropped and counted under one reason only, and the detector hears nothing.
    fn refuses(&mut self, frame: &[u8], reject: Reject) {
        let (mut before, fed) = (self.stats(), self.maps.detector(PEER, Source::Advert).unwrap().arrivals);
        *reject.counter(&mut before) += 1;
        assert_eq!(self.see(frame), DROP, "{reject:?}");
        assert_eq!(self.stats(), before, "{reject:?} and nothing else is counted");
        assert_eq!(self.maps.detector(PEER, Source::Advert).unwrap().arrivals, fed, "{reject:?} fed the detector");
    }

    fn events(&mut self) -> Vec<Verdict> {
        let mut events = Vec::new();
        while let Some(item) = self.ring.next() {
            // SAFETY: the kernel writes whole `Verdict`s, eight-byte aligned.
            events.push(unsafe { item.as_ptr().cast::<Verdict>().read_unaligned() });
        }
        events
    }

    /// Waits until the heartbeat is in `state`, at most two seconds.
    fn until(&self, source: Source, state: State) {
        let limit = Instant::now() + Duration::from_secs(2);
        while State::from_u32(self.maps.detector(PEER, source).expect("peers").state) != state {
            assert!(Instant::now() < limit, "never {state:?}: {:?}", self.maps.detector(PEER, source));
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Of this machine, in the tests.
const BOOT: u64 = 5;

fn config(version: u8) -> Config {
    Config {
        own_address: US,
        vrid: 51,
        vrrp_version: version,
        min_ttl: 255,
        accept: accept::ADVERTS | accept::PULSES,
        priority: 10,
        pulse_threshold: 3,
        pulse_port: PORT,
        auth_type: u8::from(version == 2),
        advert_interval_ns: 1_000_000_000,
        pulse_interval_ns: 10_000_000,
        cluster_id: 7,
        boot: BOOT,
        ..Config::default()
    }
}

fn secrets() -> Secrets {
    Secrets { pulse_key: KEY.0, other_key: KEY.0, password: *b"111111\0\0" }
}

fn peers() -> [PeerConfig; PEERS_MAX] {
    let mut peers = [PeerConfig::default(); PEERS_MAX];
    peers[PEER as usize].address = PEER_ADDRESS;
    peers
}

fn header(protocol: u8, payload: usize) -> Header {
    Header { source: PEER_ADDRESS, destination: US, protocol, ttl: 255, payload: payload as u16, fragment: false }
}

fn frame(header: &Header, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend(ipv4::emit(header));
    frame.extend(payload);
    frame
}

fn advert_bytes(version: u8, change: impl FnOnce(&mut Outgoing<'_>)) -> Vec<u8> {
    let addresses = [VIP];
    let mut advert = Outgoing {
        checksum: vrrp::Checksum::PseudoHeader,
        version,
        vrid: 51,
        priority: Priority(100),
        interval: if version == 2 { 1 } else { 100 },
        addresses: &addresses,
        password: (version == 2).then_some(*b"111111\0\0"),
    };
    change(&mut advert);
    let mut buffer = [0; vrrp::LENGTH_MAX];
    let length = vrrp::emit(&advert, PEER_ADDRESS, US, &mut buffer);
    buffer[..length].to_vec()
}

fn advert(version: u8, change: impl FnOnce(&mut Outgoing<'_>)) -> Vec<u8> {
    let bytes = advert_bytes(version, change);
    frame(&header(ipv4::VRRP, bytes.len()), &bytes)
}

fn good_pulse(sequence: u64) -> Pulse {
    Pulse {
        vrid: 51,
        priority: 100,
        threshold: 3,
        flags: flag::PRIMARY,
        interval_us: 10_000,
        cluster_id: 7,
        sequence,
        stamp_ns: 1,
        echo_boot: BOOT,
        ..Pulse::default()
    }
}

fn udp(header: &Header, port: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(PORT.to_be_bytes());
    datagram.extend(port.to_be_bytes());
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    frame(&Header { payload: datagram.len() as u16, ..*header }, &datagram)
}

fn pulse_frame(pulse: &Pulse, key: Key) -> Vec<u8> {
    udp(&header(ipv4::UDP, 0), PORT, &pulse::emit(pulse, key))
}

#[test]
fn a_valid_advert_passes_counts_and_feeds_the_detector() {
    for version in [2, 3] {
        let mut kernel = Kernel::load(version);
        assert_eq!(kernel.see(&advert(version, |_| ())), PASS);
        let detector = kernel.maps.detector(PEER, Source::Advert).unwrap();
        assert_eq!((detector.arrivals, detector.priority, detector.state), (1, 100, State::Alive as u32));
        assert_eq!(detector.interval_ns, 1_000_000_000);
        // Priority 10: 246/256 of a second, whatever the version.
        assert_eq!(detector.skew_ns, 960_937_500);
        assert_eq!(kernel.stats(), Stats { adverts: 1, ..Stats::default() });
        let events = kernel.events();
        assert_eq!(events.len(), 1);
        assert_eq!(VerdictKind::from_u32(events[0].kind), Some(VerdictKind::Alive));
    }
}

#[test]
fn the_skew_follows_the_priority_that_this_node_has_now() {
    for version in [2, 3] {
        let mut kernel = Kernel::load(version);
        let mut skew_of = |priority| {
            kernel.maps.set_priority(Priority(priority)).expect("the kernel takes it");
            assert_eq!(kernel.see(&advert(version, |_| ())), PASS);
            kernel.maps.detector(PEER, Source::Advert).unwrap().skew_ns
        };
        // Configured: 10. RFC 9568 §6.1, RFC 3768 §6.1: (256 - Priority) / 256 of a second here.
        assert_eq!([240, 1, 10].map(&mut skew_of), [62_500_000, 996_093_750, 960_937_500]);
        // Nothing else of what the kernel was told is touched.
        kernel.refuses(&advert(version, |advert| advert.vrid = 52), Reject::Vrid);
        assert_eq!(kernel.see(&pulse_frame(&good_pulse(1), KEY)), TX);
    }
}

/// The configuration that a captured frame was meant for.
fn hears(kernel: &mut Kernel, version: u8, interval_ms: u64, password: Option<&[u8; 8]>) {
    let config = Config {
        own_address: frames::DESTINATION,
        auth_type: u8::from(password.is_some()),
        advert_interval_ns: interval_ms * 1_000_000,
        ..config(version)
    };
    let secrets = Secrets { password: password.copied().unwrap_or_default(), ..secrets() };
    let mut peers = peers();
    peers[PEER as usize].address = frames::SOURCE;
    kernel.maps.write(&config, &secrets, &peers).expect("the kernel takes the configuration");
}

#[test]
fn what_keepalived_sent_is_accepted_and_counted() {
    let cases: [(&str, u8, u64, Option<&[u8; 8]>, u32); 10] = [
        ("v2-pass", 2, 1000, Some(b"111111\0\0"), 100),
        ("v2-pass-stop", 2, 1000, Some(b"111111\0\0"), 0),
        ("v2-open", 2, 1000, None, 100),
        ("v2-pass-1", 2, 1000, Some(b"x\0\0\0\0\0\0\0"), 100),
        ("v2-pass-8", 2, 1000, Some(b"12345678"), 100),
        ("v2-pass-9", 2, 1000, Some(b"12345678"), 100),
        ("v3-1s", 3, 1000, None, 100),
        ("v3-1s-stop", 3, 1000, None, 0),
        ("v3-100ms", 3, 100, None, 100),
        ("v3-three-vips", 3, 1000, None, 100),
    ];
    let mut kernel = Kernel::load(2);
    for (count, (name, version, interval_ms, password, priority)) in (1..).zip(cases) {
        hears(&mut kernel, version, interval_ms, password);
        assert_eq!(kernel.see(&frames::keepalived(name)), PASS, "{name}");
        assert_eq!(kernel.stats(), Stats { adverts: count, ..Stats::default() }, "{name}");
        let detector = kernel.maps.detector(PEER, Source::Advert).unwrap();
        assert_eq!((detector.arrivals, detector.priority), (count, priority), "{name}");
        assert_eq!(detector.interval_ns, interval_ms * 1_000_000, "{name}");
        let state = if priority == 0 { State::Resigned } else { State::Alive };
        assert_eq!(detector.state, state as u32, "{name}");
    }
}

#[test]
fn what_keepalived_sent_to_others_is_refused_under_its_reason() {
    let mut kernel = Kernel::load(2);
    hears(&mut kernel, 2, 1000, Some(b"222222\0\0"));
    kernel.refuses(&frames::keepalived("v2-pass"), Reject::Password);
    kernel.refuses(&frames::keepalived("v2-open"), Reject::AuthType);
    kernel.refuses(&frames::keepalived("v3-1s"), Reject::Version);
    hears(&mut kernel, 2, 2000, Some(b"111111\0\0"));
    kernel.refuses(&frames::keepalived("v2-pass"), Reject::Interval);
    hears(&mut kernel, 3, 1000, None);
    kernel.refuses(&frames::keepalived("v3-old-checksum"), Reject::Checksum);
    kernel.refuses(&frames::keepalived("v2-pass"), Reject::Version);
    // One byte arrives as another.
    let whole = frames::keepalived("v3-1s");
    let last = whole.len() - 1;
    kernel.refuses(&[&whole[..last], &[!whole[last]]].concat(), Reject::Checksum);
}

#[test]
fn options_and_a_vlan_tag_are_passed_over() {
    let mut kernel = Kernel::load(3);
    let bytes = advert_bytes(3, |_| ());
    let mut plain = frame(&header(ipv4::VRRP, bytes.len()), &bytes);
    plain.splice(12..12, [0x81, 0, 0, 5]);
    assert_eq!(kernel.see(&plain), PASS);
    let mut options = frame(&header(ipv4::VRRP, bytes.len()), &bytes);
    options[14] = 0x46;
    options[17] += 4;
    options.splice(34..34, [1, 1, 1, 0]);
    assert_eq!(kernel.see(&options), PASS);
    assert_eq!(kernel.stats().adverts, 2);
}

#[test]
fn both_forms_of_the_v3_checksum_are_right() {
    let mut kernel = Kernel::load(3);
    let mut bytes = advert_bytes(3, |_| ());
    bytes[6..8].fill(0);
    let plain = harbor_ha_ebpf::wire::checksum::finish(harbor_ha_ebpf::wire::checksum::add_bytes(0, &bytes));
    bytes[6..8].copy_from_slice(&plain.to_be_bytes());
    assert_eq!(kernel.see(&frame(&header(ipv4::VRRP, bytes.len()), &bytes)), PASS);
    assert_eq!(kernel.stats().adverts, 1);
}

#[test]
fn each_wrong_advert_is_dropped_under_its_own_reason() {
    let mut kernel = Kernel::load(2);
    let good = advert_bytes(2, |_| ());
    let len = good.len();
    let change = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        frame(&header(ipv4::VRRP, len), &bytes)
    };
    kernel.refuses(&frame(&Header { ttl: 254, ..header(ipv4::VRRP, len) }, &good), Reject::Ttl);
    kernel.refuses(&frame(&header(ipv4::VRRP, len - 1), &good), Reject::Length);
    let longer = [good.clone(), vec![0]].concat();
    kernel.refuses(&frame(&header(ipv4::VRRP, len + 1), &longer), Reject::Length);
    kernel.refuses(&change(0, 0x41), Reject::Version);
    kernel.refuses(&advert(3, |_| ()), Reject::Version);
    kernel.refuses(&change(0, 0x22), Reject::Type);
    kernel.refuses(&advert(2, |advert| advert.addresses = &[]), Reject::Addresses);
    kernel.refuses(&change(6, good[6] ^ 1), Reject::Checksum);
    kernel.refuses(&advert(2, |advert| advert.vrid = 52), Reject::Vrid);
    kernel.refuses(&advert(2, |advert| advert.password = None), Reject::AuthType);
    kernel.refuses(&advert(2, |advert| advert.password = Some(*b"222222\0\0")), Reject::Password);
    kernel.refuses(&advert(2, |advert| advert.interval = 2), Reject::Interval);
    let mut fragment = frame(&header(ipv4::VRRP, len), &good);
    fragment[20] = 0x20;
    kernel.refuses(&fragment, Reject::Length);
}

#[test]
fn a_v3_interval_of_zero_is_refused() {
    let mut kernel = Kernel::load(3);
    kernel.refuses(&advert(3, |advert| advert.interval = 0), Reject::Interval);
}

#[test]
fn a_stranger_is_dropped_and_counted_apart() {
    let mut kernel = Kernel::load(3);
    let bytes = advert_bytes(3, |_| ());
    let stranger = Header { source: [10, 77, 0, 9], ..header(ipv4::VRRP, bytes.len()) };
    assert_eq!(kernel.see(&frame(&stranger, &bytes)), DROP);
    let stranger = Header { protocol: ipv4::UDP, ..stranger };
    assert_eq!(kernel.see(&udp(&stranger, PORT, &pulse::emit(&good_pulse(1), KEY))), DROP);
    assert_eq!(kernel.maps.strangers().unwrap(), Stats { reject_source: 2, ..Stats::default() });
    assert_eq!(kernel.stats(), Stats::default());
}

#[test]
fn what_is_not_ours_passes_even_when_malformed() {
    let mut kernel = Kernel::load(3);
    let bytes = advert_bytes(3, |_| ());
    let elsewhere = Header { destination: [224, 0, 0, 18], ..header(ipv4::VRRP, bytes.len()) };
    assert_eq!(kernel.see(&frame(&elsewhere, &bytes)), PASS);
    assert_eq!(kernel.see(&udp(&header(ipv4::UDP, 0), 53, b"not a pulse")), PASS);
    assert_eq!(kernel.see(&[0xff; 60]), PASS);
    let mut broken = frame(&header(ipv4::VRRP, bytes.len()), &bytes);
    broken[14] = 0x41;
    assert_eq!(kernel.see(&broken), PASS);
    assert_eq!(kernel.stats(), Stats::default());
}

#[test]
fn a_valid_pulse_feeds_the_detector_and_is_turned_round() {
    let mut kernel = Kernel::load(3);
    let pulse = Pulse { timeline: 4, lsn: 99, term: 5, system_identifier: 77, ..good_pulse(10) };
    assert_eq!(kernel.see(&pulse_frame(&pulse, KEY)), TX);
    assert_eq!(kernel.stats(), Stats { pulses: 1, reflected: 1, ..Stats::default() });
    let events = kernel.events();
    let event = events.first().expect("an event");
    assert_eq!((event.timeline, event.lsn, event.term, event.system_identifier), (4, 99, 5, 77));
    assert_eq!(Source::from_u32(event.source), Some(Source::Pulse));
    assert_eq!(event.flags, u32::from(flag::PRIMARY));
}

#[test]
fn each_wrong_pulse_is_dropped_under_its_own_reason() {
    let mut kernel = Kernel::load(3);
    assert_eq!(kernel.see(&pulse_frame(&good_pulse(10), KEY)), TX);
    kernel.refuses(&pulse_frame(&good_pulse(11), Key([9, 9])), Reject::Mac);
    kernel.refuses(&pulse_frame(&good_pulse(10), KEY), Reject::Sequence);
    kernel.refuses(&pulse_frame(&good_pulse(9), KEY), Reject::Sequence);
    kernel.refuses(&pulse_frame(&Pulse { cluster_id: 8, ..good_pulse(11) }, KEY), Reject::Cluster);
    kernel.refuses(&pulse_frame(&Pulse { vrid: 52, ..good_pulse(11) }, KEY), Reject::Vrid);
    kernel.refuses(&pulse_frame(&Pulse { interval_us: 0, ..good_pulse(11) }, KEY), Reject::Interval);
    let bytes = pulse::emit(&good_pulse(11), KEY);
    let routed = Header { ttl: 254, ..header(ipv4::UDP, 0) };
    kernel.refuses(&udp(&routed, PORT, &bytes), Reject::Ttl);
    kernel.refuses(&udp(&header(ipv4::UDP, 0), PORT, &bytes[..103]), Reject::Length);
    let mut magic = bytes;
    magic[0] = 0;
    kernel.refuses(&udp(&header(ipv4::UDP, 0), PORT, &magic), Reject::Magic);
    let mut version = bytes;
    version[4] = 9;
    kernel.refuses(&udp(&header(ipv4::UDP, 0), PORT, &version), Reject::Version);
    assert_eq!(kernel.maps.detector(PEER, Source::Pulse).unwrap().arrivals, 1);
}

#[test]
fn silence_after_a_pulse_is_a_verdict_of_the_kernel() {
    let mut kernel = Kernel::load(3);
    kernel.see(&pulse_frame(&good_pulse(1), KEY));
    kernel.ask(3);
    kernel.until(Source::Pulse, State::Dead);
    let events = kernel.events();
    let dead: Vec<_> = events.iter().filter(|event| event.kind == VerdictKind::Dead as u32).collect();
    assert_eq!(dead.len(), 1, "said once: {events:?}");
    let silence = dead[0].at_ns - dead[0].last_arrival_ns;
    assert!(silence >= 30_000_000, "a verdict before interval x threshold: {silence} ns");
    // Later pulses make it alive again.
    kernel.see(&pulse_frame(&good_pulse(2), KEY));
    assert_eq!(kernel.events().last().map(|event| event.kind), Some(VerdictKind::Alive as u32));
}

#[test]
fn a_resigning_peer_is_a_verdict_at_once() {
    let mut kernel = Kernel::load(3);
    kernel.see(&pulse_frame(&good_pulse(1), KEY));
    kernel.see(&pulse_frame(&Pulse { flags: flag::RESIGN, ..good_pulse(2) }, KEY));
    kernel.see(&advert(3, |_| ()));
    kernel.see(&advert(3, |advert| advert.priority = Priority::RESIGN));
    let kinds: Vec<_> = kernel.events().iter().map(|event| (event.source, event.kind)).collect();
    assert!(kinds.contains(&(Source::Pulse as u32, VerdictKind::Resigned as u32)));
    assert!(kinds.contains(&(Source::Advert as u32, VerdictKind::Resigned as u32)));
}

#[test]
fn pins_keep_the_detector_alive_and_a_later_start_adopts_it() {
    let mut kernel = Kernel::load(3);
    kernel.see(&pulse_frame(&good_pulse(1), KEY));
    let Kernel { ebpf, maps, ring, voice, bpffs } = kernel;
    drop((ebpf, maps, ring, voice));
    // Nobody holds a descriptor now; the pin alone keeps the timer.
    let mut ebpf = load::load(&bpffs.0, "test", false).expect("adopts the pinned maps");
    let maps = Maps::take(&mut ebpf).expect("our maps");
    let mut adopted = Kernel::of(ebpf, maps, bpffs);
    adopted.ask(3);
    adopted.until(Source::Pulse, State::Dead);
    assert_eq!(adopted.maps.detector(PEER, Source::Pulse).unwrap().arrivals, 1);
}

#[test]
fn detach_removes_every_pin() {
    let kernel = Kernel::load(3);
    let folder = load::pin_folder(&kernel.bpffs.0, "test");
    for name in names::map::PINNED {
        assert!(folder.join(name).exists(), "`{name}` is pinned");
    }
    let removed = load::detach(&kernel.bpffs.0, "test").expect("detached");
    assert_eq!(removed.len(), names::map::PINNED.len() + 2, "{removed:?}");
    assert!(!folder.exists());
}

/// A network namespace of this thread's own, with two interfaces that lead to each other.
fn own_network() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
    run(Command::new("ip").args("link add one type veth peer name two".split(' ')));
    for name in ["one", "two"] {
        run(Command::new("ip").args(["link", "set", name, "up"]));
    }
}

/// Whether our program leaves an interface: the kernel takes a link down a moment after its last pin.
fn leaves(interface: &str) -> bool {
    let limit = Instant::now() + Duration::from_secs(2);
    while on(interface) && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(1));
    }
    !on(interface)
}

/// Whether our program is on an interface, as `ip` tells.
fn on(interface: &str) -> bool {
    let shown = Command::new("ip").args(["link", "show", interface]).output().expect("ip");
    String::from_utf8_lossy(&shown.stdout).contains("xdp")
}

#[test]
fn a_restart_adopts_the_link_and_a_changed_interface_or_mode_attaches_anew() {
    own_network();
    let bpffs = Bpffs::mount();
    // Each time as a start of the daemon: the program is loaded, attached, and only the pins stay.
    let start = |interface: &str, mode| {
        let mut ebpf = load::load(&bpffs.0, "test", false).unwrap_or_else(|error| panic!("{error}"));
        load::attach(&mut ebpf, &bpffs.0, "test", interface, mode).unwrap_or_else(|error| panic!("{error}")).mode
    };
    assert_eq!(start("one", XdpMode::Generic), Attached::Generic);
    assert_eq!(start("one", XdpMode::Auto), Attached::Generic, "adopted as it is");
    assert!(on("one") && !on("two"));
    assert_eq!(start("two", XdpMode::Generic), Attached::Generic);
    assert!(leaves("one") && on("two"), "the link followed the configuration");
    assert_eq!(start("two", XdpMode::Native), Attached::Native);
    assert_eq!(start("two", XdpMode::Native), Attached::Native, "adopted as it is");
    // The interface goes away and comes back.
    run(Command::new("ip").args(["link", "del", "two"]));
    run(Command::new("ip").args("link add one type veth peer name two".split(' ')));
    assert_eq!(start("two", XdpMode::Generic), Attached::Generic);
    assert!(on("two"));
    load::detach(&bpffs.0, "test").expect("detached");
    assert!(leaves("two"));
}

#[test]
fn a_full_ring_loses_the_verdict_and_the_record_keeps_it() {
    let mut kernel = Kernel::load(3);
    // Each says something new; nobody reads.
    for sequence in 1..=1000 {
        kernel.see(&pulse_frame(&Pulse { timeline: sequence as u32, ..good_pulse(sequence) }, KEY));
    }
    kernel.ask(3);
    kernel.until(Source::Pulse, State::Dead);
    let events = kernel.events();
    assert!(events.iter().all(|event| event.kind != VerdictKind::Dead as u32), "{} events", events.len());
    assert_eq!(kernel.maps.detector(PEER, Source::Pulse).unwrap().timeline, 1000);
    // Read to its end, the ring works again.
    kernel.see(&pulse_frame(&good_pulse(1001), KEY));
    assert_eq!(kernel.events().last().map(|event| event.kind), Some(VerdictKind::Alive as u32));
}

#[test]
fn another_peer_is_heard_whatever_the_sequences_of_the_one_before() {
    let mut kernel = Kernel::load(3);
    kernel.see(&pulse_frame(&good_pulse(1000), KEY));
    kernel.maps.write(&config(3), &secrets(), &peers()).expect("written");
    assert_eq!(
        kernel.maps.detector(PEER, Source::Pulse).unwrap().sequence,
        1000,
        "the same peer: nothing is forgotten"
    );
    let mut other = peers();
    other[PEER as usize].address = [10, 77, 0, 7];
    kernel.maps.write(&config(3), &secrets(), &other).expect("written");
    let header = Header { source: [10, 77, 0, 7], ..header(ipv4::UDP, 0) };
    kernel.see(&udp(&header, PORT, &pulse::emit(&good_pulse(5), KEY)));
    assert_eq!(kernel.maps.detector(PEER, Source::Pulse).unwrap().sequence, 5);
    kernel.ask(3);
    kernel.until(Source::Pulse, State::Dead);
}
