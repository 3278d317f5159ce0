//! Questions, answers and the lease.

use std::time::Duration;

use harbor_ha::core::speaks::Speaks as _;
use harbor_ha_ebpf::decide::filter::Reject;
use harbor_ha_ebpf::records::{Lease, Order, Own, Secrets, Signs, Source, State, Stats};
use harbor_ha_ebpf::wire::checksum;
use harbor_ha_ebpf::wire::ipv4;
use harbor_ha_ebpf::wire::pulse::{self, Pulse, flag};
use harbor_ha_ebpf::wire::siphash::Key;
use harbor_ha_tests::lab::clock;

use super::{
    BOOT, DROP, KEY, Kernel, PEER, PEER_ADDRESS, PORT, TX, US, VerdictKind, config, good_pulse, header, peers,
    pulse_frame, secrets, udp,
};

const MS: u64 = 1_000_000;
/// D of the tests' configuration.
const D: u64 = 30 * MS;
const L: u64 = 27 * MS;

/// What this node says in the tests.
const OWN: Own =
    Own { term: 4, lsn: 77, system_identifier: 99, timeline: 3, flags: flag::PG_UP, priority: 90, reserved: 0 };

/// A kernel whose pulse thread has asked up to sequence 20, with a daemon that lives.
fn asking(order: Order) -> Kernel {
    let mut kernel = Kernel::load(3);
    kernel.maps.order(&order).expect("ordered");
    let signs = Signs { sign_ns: clock::now_ns(), sent: 20, asked: 20 };
    assert!(kernel.voice.say(&OWN, &signs));
    kernel
}

fn echoing() -> Order {
    Order { echo: 1, ..Order::default() }
}

/// An answer of the peer's kernel to our pulse `sequence`.
fn answer(sequence: u64) -> Pulse {
    Pulse { flags: flag::REFLECTION | flag::PG_UP, ..good_pulse(sequence) }
}

fn lease(kernel: &Kernel) -> Lease {
    kernel.maps.lease().expect("the lease")
}

/// The pulse in a frame without options or a tag.
fn heard(frame: &[u8], key: Key) -> Pulse {
    pulse::parse(frame[42..42 + pulse::LENGTH].try_into().expect("a whole pulse"), key).expect("authentic")
}

#[test]
fn a_pulse_goes_back_as_our_answer_with_every_field_of_ours() {
    let mut kernel = asking(echoing());
    let before = clock::now_ns();
    let question = Pulse { boot: 6, stamp_ns: 123, priority: 100, threshold: 5, interval_us: 20_000, ..good_pulse(10) };
    let sent = pulse_frame(&question, KEY);
    let (fate, frame) = kernel.turn(&sent);
    assert_eq!(fate, TX);
    assert_eq!(frame.len(), sent.len());
    assert_eq!((&frame[0..6], &frame[6..12]), (&sent[6..12], &sent[0..6]), "the cards");
    assert_eq!((&frame[26..30], &frame[30..34]), (&US[..], &PEER_ADDRESS[..]), "the addresses");
    assert_eq!(&frame[14..26], &sent[14..26], "the rest of the IP header");
    assert!(checksum::is_valid(checksum::add_bytes(0, &frame[14..34])), "its checksum");
    assert_eq!((&frame[34..36], &frame[36..38]), (&sent[36..38], &sent[34..36]), "the ports");
    assert_eq!(&frame[40..42], &[0, 0], "no checksum of UDP");
    let told = heard(&frame, KEY);
    assert!((before..=clock::now_ns()).contains(&told.stamp_ns), "{told:?}");
    assert!(told.age().0 < 5_000 * MS, "{told:?}");
    let expected = Pulse {
        vrid: 51,
        // What the daemon says now, not what it was configured to.
        priority: 90,
        threshold: 3,
        flags: flag::PG_UP | flag::REFLECTION,
        interval_us: 10_000,
        cluster_id: 7,
        term: 4,
        sequence: 10,
        stamp_ns: told.stamp_ns,
        echo_ns: 123,
        userspace_age_us: told.userspace_age_us,
        timeline: 3,
        lsn: 77,
        system_identifier: 99,
        boot: BOOT,
        echo_boot: 6,
    };
    assert_eq!(told, expected);
    assert_eq!(kernel.stats(), Stats { pulses: 1, reflected: 1, ..Stats::default() });
}

#[test]
fn a_tag_and_options_stay_where_they_are() {
    let mut kernel = asking(echoing());
    let mut tagged = pulse_frame(&good_pulse(1), KEY);
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    let (fate, frame) = kernel.turn(&tagged);
    assert_eq!((fate, &frame[12..16]), (TX, &[0x81, 0, 0, 5][..]));
    assert_eq!(heard(&frame[4..], KEY).sequence, 1);
    let mut options = pulse_frame(&good_pulse(2), KEY);
    options[14] = 0x46;
    options[17] += 4;
    options.splice(34..34, [1, 1, 1, 0]);
    let (fate, frame) = kernel.turn(&options);
    assert_eq!((fate, &frame[34..38]), (TX, &[1, 1, 1, 0][..]));
    assert_eq!(heard(&frame[4..], KEY).sequence, 2);
}

#[test]
fn nothing_is_echoed_or_promised_without_permission() {
    let mut kernel = asking(Order::default());
    let (_, frame) = kernel.turn(&pulse_frame(&Pulse { stamp_ns: 123, ..good_pulse(1) }, KEY));
    assert_eq!(heard(&frame, KEY).echo_ns, 0);
    assert_eq!(lease(&kernel).promise_until_ns, 0);
    kernel.maps.order(&echoing()).unwrap();
    let before = clock::now_ns();
    let (_, frame) = kernel.turn(&pulse_frame(&Pulse { stamp_ns: 124, ..good_pulse(2) }, KEY));
    assert_eq!((heard(&frame, KEY).echo_ns, kernel.voice.echo()), (124, (124, 0)));
    let promised = lease(&kernel).promise_until_ns;
    assert!((before + D..=clock::now_ns() + D).contains(&promised), "D from when it was heard");
    kernel.maps.order(&Order::default()).unwrap();
    let (_, frame) = kernel.turn(&pulse_frame(&Pulse { stamp_ns: 125, ..good_pulse(3) }, KEY));
    assert_eq!((heard(&frame, KEY).echo_ns, kernel.voice.echo()), (0, (0, 0)));
    assert_eq!(lease(&kernel).promise_until_ns, promised, "a promise once given is kept");
}

#[test]
fn the_slower_of_both_settings_makes_the_promise() {
    let mut kernel = asking(echoing());
    let before = clock::now_ns();
    kernel.see(&pulse_frame(&Pulse { interval_us: 20_000, threshold: 5, ..good_pulse(1) }, KEY));
    assert!(lease(&kernel).promise_until_ns >= before + 100 * MS);
}

#[test]
fn the_age_tells_of_a_daemon_that_never_ran() {
    let mut kernel = Kernel::load(3);
    let (_, frame) = kernel.turn(&pulse_frame(&good_pulse(1), KEY));
    assert_eq!(heard(&frame, KEY).userspace_age_us, u32::MAX);
}

#[test]
fn a_reflection_counts_once_and_only_for_a_question_that_was_asked() {
    let mut kernel = asking(Order::default());
    assert_eq!(kernel.see(&pulse_frame(&answer(19), KEY)), DROP);
    assert_eq!(kernel.stats(), Stats { reflections: 1, ..Stats::default() });
    kernel.refuses(&pulse_frame(&answer(19), KEY), Reject::Reflection);
    kernel.refuses(&pulse_frame(&answer(18), KEY), Reject::Reflection);
    kernel.refuses(&pulse_frame(&answer(21), KEY), Reject::Reflection);
    assert_eq!(kernel.see(&pulse_frame(&answer(20), KEY)), DROP);
    let detector = kernel.maps.detector(PEER, Source::Pulse).unwrap();
    assert_eq!((detector.answers, detector.answered, detector.sequence), (2, 20, 0));
    assert_eq!(detector.flags, u32::from(flag::PG_UP), "that it is a reflection is no news");
}

#[test]
fn a_refused_question_is_not_answered() {
    let mut kernel = asking(echoing());
    kernel.see(&pulse_frame(&good_pulse(5), KEY));
    let before = lease(&kernel);
    kernel.refuses(&pulse_frame(&good_pulse(5), KEY), Reject::Sequence);
    kernel.refuses(&pulse_frame(&good_pulse(6), Key([9, 9])), Reject::Mac);
    assert_eq!(lease(&kernel), before, "and grants and promises nothing");
    assert_eq!(kernel.stats().reflected, 1);
}

#[test]
fn a_stamp_that_comes_back_extends_the_lease_exactly_to_l_after_it() {
    let mut kernel = asking(Order { serving_term: 4, ..Order::default() });
    for (sequence, flags) in [(1, 0), (20, flag::REFLECTION)] {
        let stamp = clock::now_ns();
        let echoes = lease(&kernel).echoes;
        kernel.see(&pulse_frame(&Pulse { flags, echo_ns: stamp, ..good_pulse(sequence) }, KEY));
        let now = lease(&kernel);
        assert_eq!((now.leased_until_ns, now.echoed_ns, now.echoes), (stamp + L, stamp, echoes + 1));
        // An older one, and one that was never ours.
        kernel.maps.order(&Order { serving_term: 4, ..Order::default() }).unwrap();
        kernel.see(&pulse_frame(&Pulse { echo_ns: stamp - MS, ..good_pulse(sequence + 1) }, KEY));
        let future = clock::now_ns() + 1_000 * MS;
        kernel.see(&pulse_frame(&Pulse { echo_ns: future, ..good_pulse(sequence + 2) }, KEY));
        assert_eq!(lease(&kernel).leased_until_ns, stamp + L);
    }
}

#[test]
fn the_highest_term_is_kept() {
    let mut kernel = asking(Order::default());
    for (sequence, term) in [(1, 6), (2, 5)] {
        kernel.see(&pulse_frame(&Pulse { term, ..good_pulse(sequence) }, KEY));
        assert_eq!(lease(&kernel).highest_term, 6);
    }
    kernel.see(&pulse_frame(&Pulse { term: 8, ..answer(3) }, KEY));
    assert_eq!(lease(&kernel).highest_term, 8);
}

#[test]
fn while_keys_are_exchanged_both_are_heard_and_answers_bear_the_new_one() {
    let mut kernel = asking(echoing());
    let old = Key([0x3333, 0x4444]);
    kernel.maps.write(&config(3), &Secrets { other_key: old.0, ..secrets() }, &peers()).unwrap();
    for (sequence, key) in [(1, old), (2, KEY)] {
        let (fate, frame) = kernel.turn(&pulse_frame(&good_pulse(sequence), key));
        assert_eq!((fate, heard(&frame, KEY).sequence), (TX, sequence));
    }
    kernel.refuses(&pulse_frame(&good_pulse(3), Key([9, 9])), Reject::Mac);
}

#[test]
fn no_silence_is_a_death_before_enough_questions() {
    let mut kernel = asking(Order::default());
    kernel.see(&pulse_frame(&good_pulse(1), KEY));
    kernel.ask(2);
    std::thread::sleep(Duration::from_millis(100));
    let waiting = kernel.maps.detector(PEER, Source::Pulse).unwrap();
    assert!(waiting.state == State::Alive as u32 && waiting.unasked > 0, "{waiting:?}");
    kernel.ask(1);
    kernel.until(Source::Pulse, State::Dead);
}

#[test]
fn answers_alone_keep_a_peer_alive_and_tell_that_its_daemon_hangs() {
    let mut kernel = asking(Order::default());
    kernel
        .maps
        .write(&harbor_ha_ebpf::records::Config { hang_ns: 1_000 * MS, ..config(3) }, &secrets(), &peers())
        .unwrap();
    kernel.see(&pulse_frame(&good_pulse(1), KEY));
    kernel.see(&pulse_frame(&Pulse { userspace_age_us: 1_000_001, stamp_ns: 2, ..answer(10) }, KEY));
    kernel.see(&pulse_frame(&Pulse { userspace_age_us: 1, stamp_ns: 3, ..answer(11) }, KEY));
    let kinds: Vec<_> = kernel.events().iter().filter_map(|event| VerdictKind::from_u32(event.kind)).collect();
    assert_eq!(kinds, [VerdictKind::Alive, VerdictKind::Hung, VerdictKind::Awake]);
}

#[test]
fn a_pulse_that_was_routed_is_no_question() {
    let mut kernel = asking(echoing());
    let routed = ipv4::Header { ttl: 254, ..header(ipv4::UDP, 0) };
    kernel.refuses(&udp(&routed, PORT, &pulse::emit(&good_pulse(1), KEY)), Reject::Ttl);
}
