//! The codec against bytes that it did not write: captures of a real keepalived, layouts of the RFCs, garbage. No root.
// size: one codec, one set of captures.

use harbor_ha_ebpf::decide::filter::Reject;
use harbor_ha_ebpf::units::{Nanos, Priority};
use harbor_ha_ebpf::wire::cursor::Cursor;
use harbor_ha_ebpf::wire::pulse::{self, Pulse};
use harbor_ha_ebpf::wire::siphash::Key;
use harbor_ha_ebpf::wire::vrrp::{self, ADDRESSES_MAX, Advert, LENGTH_MAX, Outgoing};
use harbor_ha_ebpf::wire::{arp, ethernet, ipv4};
use harbor_ha_tests::frames;

/// Ethernet and IPv4 headers without tag and options.
const HEADERS: usize = ethernet::HEADER + ipv4::HEADER;

/// The way of a frame through the shared codec, as the kernel program takes it; `None`: it is no VRRP over IPv4.
fn read(frame: &[u8]) -> Option<Result<Advert, Reject>> {
    // A copy of exactly this length: a read past the end would be one past the allocation.
    let frame: Box<[u8]> = frame.into();
    let mut cursor = Cursor::new(&frame);
    if ethernet::ether_type(&mut cursor)? != ethernet::IPV4 {
        return None;
    }
    let header = ipv4::parse(&mut cursor)?;
    (header.protocol == ipv4::VRRP).then(|| vrrp::parse(cursor, header.payload, header.source, header.destination))
}

fn advert(version: u8, priority: u8, interval: Nanos) -> Advert {
    Advert {
        version,
        vrid: 51,
        priority: Priority(priority),
        count: 1,
        interval,
        auth_type: vrrp::auth::NONE,
        auth_data: [0; 8],
    }
}

fn with_password(priority: u8, password: &[u8; 8]) -> Advert {
    let plain = advert(2, priority, Nanos::from_secs(1));
    Advert { auth_type: vrrp::auth::PASSWORD, auth_data: *password, ..plain }
}

/// What each captured frame says.
fn captured() -> Vec<(&'static str, Advert)> {
    let second = Nanos::from_secs(1);
    vec![
        ("v2-pass", with_password(100, b"111111\0\0")),
        ("v2-pass-stop", with_password(0, b"111111\0\0")),
        ("v2-open", advert(2, 100, second)),
        ("v2-pass-1", with_password(100, b"x\0\0\0\0\0\0\0")),
        ("v2-pass-8", with_password(100, b"12345678")),
        // The ninth character does not count.
        ("v2-pass-9", with_password(100, b"12345678")),
        ("v3-1s", advert(3, 100, second)),
        ("v3-1s-stop", advert(3, 0, second)),
        ("v3-100ms", advert(3, 100, Nanos::from_millis(100))),
        ("v3-three-vips", Advert { count: 3, ..advert(3, 100, second) }),
    ]
}

/// keepalived's form of 2016 and before: the pseudo header names 224.0.0.18 although the packet goes to a node.
const OLD_CHECKSUM: &str = "v3-old-checksum";
/// Its first gratuitous ARP after a takeover.
const GARP: &str = "garp";

#[test]
fn a_captured_frame_says_what_keepalived_was_configured_to_say() {
    for (name, expected) in captured() {
        assert_eq!(read(&frames::keepalived(name)), Some(Ok(expected)), "{name}");
    }
    let mut known: Vec<_> = captured().iter().map(|(name, _)| *name).collect();
    known.extend([OLD_CHECKSUM, GARP]);
    assert_eq!(frames::keepalived_names(), known, "each captured frame has an expectation");
}

#[test]
fn the_checksum_of_an_old_unicast_keepalived_is_refused() {
    assert_eq!(read(&frames::keepalived(OLD_CHECKSUM)), Some(Err(Reject::Checksum)));
}

#[test]
fn our_advert_is_keepalived_s_byte_for_byte() {
    let vips = [188, 189, 190].map(|last| [172, 19, 48, last]);
    for (name, said) in captured() {
        let units = if said.version == 2 { Nanos::from_secs(1) } else { Nanos::from_millis(10) };
        let ours = Outgoing {
            checksum: vrrp::Checksum::PseudoHeader,
            version: said.version,
            vrid: said.vrid,
            priority: said.priority,
            interval: (said.interval.0 / units.0) as u16,
            addresses: &vips[..said.count as usize],
            password: (said.auth_type == vrrp::auth::PASSWORD).then_some(said.auth_data),
        };
        let mut buffer = [0xee; LENGTH_MAX];
        let length = vrrp::emit(&ours, frames::SOURCE, frames::DESTINATION, &mut buffer);
        assert_eq!(buffer[..length], frames::keepalived(name)[HEADERS..], "{name}");
    }
}

#[test]
fn our_gratuitous_arp_is_keepalived_s_byte_for_byte() {
    let (mac, vip) = ([2, 0x77, 0, 0, 0, 0xfd], [172, 19, 48, 188]);
    let theirs = frames::keepalived(GARP);
    assert_eq!(arp::gratuitous(mac, vip)[..], theirs);
    assert_eq!(arp::announces(&theirs, vip), Some(mac));
    assert_eq!(read(&theirs), None, "no VRRP");
}

#[test]
fn our_ip_header_is_keepalived_s_but_for_the_identification() {
    for (name, _) in captured() {
        let theirs = frames::keepalived(name);
        let mut cursor = Cursor::new(&theirs[ethernet::HEADER..]);
        let header = ipv4::parse(&mut cursor).expect("an IPv4 header");
        assert_eq!((header.ttl, header.protocol, header.fragment), (255, ipv4::VRRP, false), "{name}");
        let (mut ours, mut theirs) = (ipv4::emit(&header), theirs[ethernet::HEADER..HEADERS].to_vec());
        for at in [4, 5, 10, 11] {
            (ours[at], theirs[at]) = (0, 0);
        }
        assert_eq!(ours[..], theirs, "{name}");
    }
}

#[test]
fn no_changed_bit_of_a_captured_advert_is_believed() {
    for (name, _) in captured() {
        let good = frames::keepalived(name);
        for bit in HEADERS * 8..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 0x80 >> (bit % 8);
            assert!(matches!(read(&bad), Some(Err(_))), "{name}: bit {bit} changed and nobody noticed");
        }
    }
}

#[test]
fn a_frame_cut_anywhere_is_refused_and_a_padded_one_is_not() {
    for (name, expected) in captured() {
        let whole = frames::keepalived(name);
        for length in 0..whole.len() {
            let cut = read(&whole[..length]);
            if length < HEADERS {
                assert_eq!(cut, None, "{name} cut to {length}");
            } else {
                assert_eq!(cut, Some(Err(Reject::Length)), "{name} cut to {length}");
            }
        }
        // The shortest Ethernet frame has 60 bytes; what stands in the padding is nobody's business (RFC 1042).
        for filler in [0x00, 0xa5] {
            let mut padded = whole.clone();
            padded.resize(whole.len().max(60), filler);
            assert_eq!(read(&padded), Some(Ok(expected)), "{name} padded with {filler:#04x}");
        }
    }
}

/// RFC 1071 once more, by another hand than the codec's: 16-bit additions with the carry brought round at once.
fn ones_complement(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u16::from(pair[0]) << 8 | u16::from(*pair.get(1).unwrap_or(&0)));
    !words.fold(0u16, |sum, word| {
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

/// A message with its checksum: over the message, or over it and what stands before it.
fn summed(before: &[u8], mut message: Vec<u8>) -> Vec<u8> {
    message[6..8].fill(0);
    let sum = ones_complement(&[before, &message].concat());
    message[6..8].copy_from_slice(&sum.to_be_bytes());
    message
}

/// The pseudo header of RFC 5798 §5.2.8: source, destination, zero, protocol, length.
fn pseudo_header(length: usize) -> Vec<u8> {
    let tail = [0, 112, (length >> 8) as u8, length as u8];
    [&frames::SOURCE[..], &frames::DESTINATION, &tail].concat()
}

/// RFC 9568 §5.2: version and type, router id, priority, count, reserved bits and interval, checksum, addresses.
fn v3(count: u8, interval: [u8; 2]) -> Vec<u8> {
    let addresses = (0..count).flat_map(|last| [172, 19, 48, last]);
    [0x31, 51, 100, count, interval[0], interval[1], 0, 0].into_iter().chain(addresses).collect()
}

/// RFC 3768 §5.1: version and type, router id, priority, count, authentication type, interval, checksum, addresses,
/// authentication data.
fn v2(count: u8, auth_type: u8, seconds: u8, data: [u8; 8]) -> Vec<u8> {
    let addresses = (0..count).flat_map(|last| [172, 19, 48, last]);
    [0x21, 51, 100, count, auth_type, seconds, 0, 0].into_iter().chain(addresses).chain(data).collect()
}

/// RFC 791 and Ethernet, by hand.
fn packet(options: &[u8], message: &[u8]) -> Vec<u8> {
    let (words, length) = (5 + options.len() / 4, 20 + options.len() + message.len());
    let mut frame = vec![2, 0x77, 0, 0, 0, 0xfe, 2, 0x77, 0, 0, 0, 0xfd, 0x08, 0x00];
    frame.extend([0x40 | words as u8, 0xc0, (length >> 8) as u8, length as u8, 0, 1, 0, 0, 255, 112, 0, 0]);
    frame.extend(frames::SOURCE);
    frame.extend(frames::DESTINATION);
    frame.extend(options);
    frame.extend(message);
    frame
}

fn parsed(message: &[u8]) -> Result<Advert, Reject> {
    read(&packet(&[], message)).expect("VRRP")
}

#[test]
fn both_checksums_of_version_3_are_right_and_a_third_is_not() {
    // RFC 9568 §5.2.8, summed on paper.
    let message = [0x31, 0x33, 0x64, 0x01, 0x00, 0x64, 0x00, 0x00, 0x0a, 0x4d, 0x00, 0x64];
    let sum = 0x3133u32 + 0x6401 + 0x0064 + 0x0a4d + 0x0064;
    assert_eq!(sum, 0xa049, "no carry");
    let mut plain = message.to_vec();
    plain[6..8].copy_from_slice(&[0x5f, 0xb6]);
    assert_eq!(parsed(&plain), Ok(advert(3, 100, Nanos::from_secs(1))));
    let with_pseudo_header = summed(&pseudo_header(message.len()), message.to_vec());
    assert_ne!(with_pseudo_header, plain);
    assert_eq!(parsed(&with_pseudo_header), parsed(&plain));
    plain[7] += 1;
    assert_eq!(parsed(&plain), Err(Reject::Checksum));
}

#[test]
fn version_2_has_no_pseudo_header() {
    let message = v2(1, 0, 1, [0; 8]);
    assert_eq!(parsed(&summed(&[], message.clone())), Ok(advert(2, 100, Nanos::from_secs(1))));
    let length = message.len();
    assert_eq!(parsed(&summed(&pseudo_header(length), message)), Err(Reject::Checksum));
}

#[test]
fn the_interval_of_version_3_has_twelve_bits_and_the_reserved_ones_are_ignored() {
    for (bytes, centis) in [([0x00, 0x01], 1), ([0xf0, 0x01], 1), ([0x0f, 0xff], 4095), ([0xff, 0xff], 4095)] {
        let expected = advert(3, 100, Nanos::from_millis(centis * 10));
        assert_eq!(parsed(&summed(&[], v3(1, bytes))), Ok(expected), "{bytes:02x?}");
    }
    // Erratum 8301: zero must be refused, also when reserved bits make the word another number.
    assert_eq!(parsed(&summed(&[], v3(1, [0x00, 0x00]))), Err(Reject::Interval));
    assert_eq!(parsed(&summed(&[], v3(1, [0xf0, 0x00]))), Err(Reject::Interval));
}

#[test]
fn twenty_addresses_are_read_and_twenty_one_or_none_are_refused() {
    for (count, allowed) in [(0, false), (1, true), (20, true), (21, false), (255, false)] {
        let expected = |version| Advert { count, ..advert(version, 100, Nanos::from_secs(1)) };
        for (version, message) in [(3, v3(count, [0, 100])), (2, v2(count, 0, 1, [0; 8]))] {
            let answer = parsed(&summed(&[], message));
            if allowed {
                assert_eq!(answer, Ok(expected(version)));
            } else {
                assert_eq!(answer, Err(Reject::Addresses), "{count} addresses in version {version}");
            }
        }
    }
}

#[test]
fn a_count_that_the_length_does_not_bear_out_is_a_wrong_length() {
    for count in [1, 3, 20] {
        let mut message = v3(2, [0, 100]);
        message[3] = count;
        assert_eq!(parsed(&summed(&[], message)), Err(Reject::Length), "{count} said, 2 there");
    }
    // The eight bytes of authentication belong to version 2 whatever its type, and to no version 3.
    let without = v2(1, 0, 1, [0; 8])[..12].to_vec();
    assert_eq!(parsed(&summed(&[], without)), Err(Reject::Length));
    let with = [v3(1, [0, 100]), vec![0; 8]].concat();
    assert_eq!(parsed(&summed(&[], with)), Err(Reject::Length));
}

#[test]
fn versions_and_types_that_are_not_there_are_refused() {
    for first in 0..=255u8 {
        let mut message = v3(1, [0, 100]);
        message[0] = first;
        let answer = parsed(&summed(&[], message));
        match (first >> 4, first & 0x0f) {
            (3, 1) => assert!(answer.is_ok()),
            (2, 1) => assert_eq!(answer, Err(Reject::Length), "eight bytes are missing"),
            (2 | 3, _) => assert_eq!(answer, Err(Reject::Type), "{first:#04x}"),
            _ => assert_eq!(answer, Err(Reject::Version), "{first:#04x}"),
        }
    }
}

#[test]
fn options_of_every_length_and_one_tag_are_passed_over() {
    let message = summed(&[], v3(1, [0, 100]));
    let expected = Some(Ok(advert(3, 100, Nanos::from_secs(1))));
    for words in 0..=10 {
        // "No operation", over and over (RFC 791 §3.1).
        let frame = packet(&vec![1; words * 4], &message);
        assert_eq!(read(&frame), expected, "{words} words of options");
        for length in 0..frame.len() {
            assert!(!matches!(read(&frame[..length]), Some(Ok(_))), "{words} words of options, cut to {length}");
        }
    }
    let mut tagged = packet(&[], &message);
    tagged.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
    assert_eq!(read(&tagged), expected);
    for length in 0..tagged.len() {
        assert!(!matches!(read(&tagged[..length]), Some(Ok(_))), "tagged, cut to {length}");
    }
    // Two tags: somebody else's.
    tagged.splice(12..12, [0x81, 0x00, 0x00, 0x06]);
    assert_eq!(read(&tagged), None);
}

#[test]
fn an_ip_header_that_contradicts_itself_is_none() {
    let good = packet(&[], &summed(&[], v3(1, [0, 100])));
    let change = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[ethernet::HEADER + at] = value;
        read(&frame)
    };
    assert_eq!(change(0, 0x65), None, "version 6");
    assert_eq!(change(0, 0x44), None, "a header of 16 bytes");
    assert_eq!(change(3, 19), None, "shorter than its own header");
    assert_eq!(change(3, 20), Some(Err(Reject::Length)), "nothing behind the header");
    assert_eq!(change(2, 0xff), Some(Err(Reject::Length)), "longer than the frame");
}

/// xorshift64*: small, seeded, good enough to shake a parser.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 56) as u8
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }
}

/// The same bytes in every run; a failure names its round.
const SEED: u64 = 0x6861_7262_6f72_2d68;
const ROUNDS: u32 = 200_000;

#[test]
fn what_is_written_is_read_back() {
    let mut random = Random(SEED);
    for round in 0..ROUNDS / 10 {
        let version = 2 + random.below(2) as u8;
        let addresses: Vec<[u8; 4]> = (0..=random.below(ADDRESSES_MAX as u64 - 1)).map(|_| random.bytes()).collect();
        let outgoing = Outgoing {
            checksum: vrrp::Checksum::PseudoHeader,
            version,
            vrid: random.byte(),
            priority: Priority(random.byte()),
            interval: if version == 2 { random.byte().into() } else { 1 + random.below(4095) as u16 },
            addresses: &addresses,
            password: (version == 2 && random.below(2) == 0).then(|| random.bytes()),
        };
        let (source, destination) = (random.bytes(), random.bytes());
        let mut buffer = [0xee; LENGTH_MAX];
        let length = vrrp::emit(&outgoing, source, destination, &mut buffer);
        let expected = Advert {
            version,
            vrid: outgoing.vrid,
            priority: outgoing.priority,
            count: addresses.len() as u8,
            interval: match version {
                2 => Nanos::from_secs(outgoing.interval.into()),
                _ => Nanos::from_millis(u64::from(outgoing.interval) * 10),
            },
            auth_type: u8::from(outgoing.password.is_some()),
            auth_data: outgoing.password.unwrap_or_default(),
        };
        let answer = vrrp::parse(Cursor::new(&buffer[..length]), length as u16, source, destination);
        assert_eq!(answer, Ok(expected), "round {round}: {outgoing:?}");
    }
}

#[test]
fn no_bytes_make_a_parser_panic() {
    let mut random = Random(SEED);
    let seeds: Vec<Vec<u8>> = frames::keepalived_names().into_iter().map(frames::keepalived).collect();
    let mut believed = 0;
    for round in 0..ROUNDS {
        // Half of them pure noise, which seldom gets past the first checks; half a captured frame with a few bytes
        // changed, cut or lengthened, which gets further.
        let mut bytes: Vec<u8> = match round % 2 {
            0 => (0..random.below(160)).map(|_| random.byte()).collect(),
            _ => {
                let mut frame = seeds[random.below(seeds.len() as u64) as usize].clone();
                for _ in 0..random.below(4) {
                    let at = random.below(frame.len() as u64) as usize;
                    frame[at] = random.byte();
                }
                frame.resize(random.below(frame.len() as u64 + 40) as usize, random.byte());
                frame
            }
        };
        believed += u32::from(matches!(read(&bytes), Some(Ok(_))));
        let claimed = random.next() as u16;
        let _any = vrrp::parse(Cursor::new(&bytes), claimed, random.bytes(), random.bytes());
        let _any = arp::announces(&bytes, random.bytes());
        bytes.resize(pulse::LENGTH, 0);
        let noise: &[u8; pulse::LENGTH] = bytes[..].try_into().expect("that long");
        assert!(pulse::parse(noise, Key([1, 2])).is_err(), "round {round}: noise has a MAC");
    }
    assert_ne!(
        believed, 0,
        "some changes are outside of what the checksum covers: the loop reaches the end of the way"
    );
}

#[test]
fn a_pulse_is_read_back_and_no_other_key_reads_it() {
    let mut random = Random(SEED);
    for round in 0..ROUNDS / 100 {
        let said = Pulse {
            vrid: random.byte(),
            priority: random.byte(),
            threshold: random.byte(),
            flags: random.next() as u16,
            interval_us: random.next() as u32,
            cluster_id: random.next(),
            term: random.next(),
            sequence: random.next(),
            stamp_ns: random.next(),
            echo_ns: random.next(),
            userspace_age_us: random.next() as u32,
            timeline: random.next() as u32,
            lsn: random.next(),
            system_identifier: random.next(),
            boot: random.next(),
            echo_boot: random.next(),
        };
        let key = Key([random.next(), random.next()]);
        let bytes = pulse::emit(&said, key);
        assert_eq!(pulse::parse(&bytes, key), Ok(said), "round {round}");
        assert_eq!(pulse::parse(&bytes, Key([key.0[0] ^ 1, key.0[1]])), Err(Reject::Mac), "round {round}");
    }
}
