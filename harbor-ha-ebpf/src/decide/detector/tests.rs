use super::*;

const MS: u64 = 1_000_000;

fn pulse_sign() -> Sign {
    Sign { interval: Nanos(10 * MS), threshold: 3, ..Sign::default() }
}

/// Runs the expiries that are due up to `until`, each exactly on time, and returns what they said.
fn run(record: &mut Detector, until: u64) -> Vec<(u64, VerdictKind)> {
    let mut events = Vec::new();
    while record.deadline_ns != 0 && record.deadline_ns <= until {
        let now = record.deadline_ns;
        let next = expiry(record, Nanos(now), u64::MAX);
        events.extend(next.event.map(|kind| (now / MS, kind)));
        if next.deadline.is_none() {
            break;
        }
    }
    events
}

#[test]
fn a_silent_peer_is_dead_at_interval_times_threshold_and_is_said_so_once() {
    let mut record = Detector::default();
    assert_eq!(arrival(&mut record, Nanos(100 * MS), &pulse_sign()).event, Some(VerdictKind::Alive));
    let events = run(&mut record, 1000 * MS);
    assert_eq!(events, [(115, VerdictKind::Missed), (125, VerdictKind::Missed), (130, VerdictKind::Dead)]);
    assert_eq!(expiry(&mut record, Nanos(2000 * MS), u64::MAX), Next { event: None, deadline: None });
    assert_eq!((record.deaths, record.missed_total), (1, 3));
}

#[test]
fn vrrp_waits_three_intervals_and_the_skew() {
    let mut record = Detector::default();
    let sign =
        Sign { interval: Nanos(1000 * MS), threshold: 3, skew: Nanos(961 * MS), always_said: true, ..Sign::default() };
    let _ = arrival(&mut record, Nanos(0), &sign);
    let events = run(&mut record, 10_000 * MS);
    let missed = |at| (at, VerdictKind::Missed);
    assert_eq!(events, [missed(1500), missed(2500), missed(3500), (3961, VerdictKind::Dead)]);
}

#[test]
fn a_sender_that_is_a_little_late_has_missed_nothing() {
    let mut record = Detector::default();
    let _ = arrival(&mut record, Nanos(0), &pulse_sign());
    assert!(run(&mut record, 15 * MS - 1).is_empty());
    let _ = arrival(&mut record, Nanos(15 * MS - 1), &pulse_sign());
    assert_eq!(record.missed_total, 0);
}

#[test]
fn a_packet_just_before_the_deadline_saves_the_peer() {
    let mut record = Detector::default();
    let _ = arrival(&mut record, Nanos(0), &pulse_sign());
    assert_eq!(run(&mut record, 30 * MS - 1).len(), 2);
    assert_eq!(arrival(&mut record, Nanos(30 * MS - 1), &pulse_sign()).event, None);
    assert_eq!(record.missed, 0);
    assert_eq!(run(&mut record, 59 * MS).len(), 2);
}

#[test]
fn an_expiry_that_comes_too_late_declares_nothing_the_first_time() {
    let mut record = Detector::default();
    let _ = arrival(&mut record, Nanos(0), &pulse_sign());
    let _ = run(&mut record, 20 * MS);
    // Due at 25 ms, run at 41 ms: later than one interval.
    let next = expiry(&mut record, Nanos(41 * MS), u64::MAX);
    assert_eq!(next, Next { event: Some(VerdictKind::Stalled), deadline: Some(Nanos(51 * MS)) });
    assert_eq!((record.missed, record.stalled), (1, 1));
    assert_eq!(expiry(&mut record, Nanos(51 * MS), u64::MAX).event, Some(VerdictKind::Dead));
}

#[test]
fn a_host_that_is_always_late_still_notices_a_death() {
    let mut record = Detector::default();
    let _ = arrival(&mut record, Nanos(0), &pulse_sign());
    let mut expiries = 0;
    while record.state != State::Dead as u32 {
        let now = record.deadline_ns + 25 * MS;
        let _ = expiry(&mut record, Nanos(now), u64::MAX);
        expiries += 1;
        assert!(expiries < 10, "never declared dead");
    }
}

#[test]
fn an_expiry_exactly_one_interval_late_still_counts() {
    let mut record = Detector::default();
    let _ = arrival(&mut record, Nanos(0), &pulse_sign());
    assert_eq!(expiry(&mut record, Nanos(25 * MS), u64::MAX).event, Some(VerdictKind::Missed));
    assert_eq!((record.stalled, record.missed), (0, 2));
}

#[test]
fn an_expiry_that_a_packet_overtook_only_arms_again() {
    let mut record = Detector::default();
    let _ = arrival(&mut record, Nanos(0), &pulse_sign());
    let _ = arrival(&mut record, Nanos(9 * MS), &pulse_sign());
    assert_eq!(expiry(&mut record, Nanos(15 * MS), u64::MAX), Next { event: None, deadline: Some(Nanos(24 * MS)) });
}

#[test]
fn a_resigning_advert_is_said_once_and_disarms() {
    let mut record = Detector::default();
    let sign = Sign { always_said: true, ..pulse_sign() };
    let _ = arrival(&mut record, Nanos(0), &sign);
    let resign = Sign { resigns: true, ..sign };
    assert_eq!(
        arrival(&mut record, Nanos(5 * MS), &resign),
        Next { event: Some(VerdictKind::Resigned), deadline: None }
    );
    assert_eq!(arrival(&mut record, Nanos(6 * MS), &resign).event, None);
    assert_eq!(expiry(&mut record, Nanos(100 * MS), u64::MAX).event, None);
    assert_eq!(arrival(&mut record, Nanos(200 * MS), &sign).event, Some(VerdictKind::Alive));
}

#[test]
fn a_resigning_pulse_is_said_once_and_its_silence_is_noticed() {
    let mut record = Detector::default();
    let resign = Sign { resigns: true, ..pulse_sign() };
    assert_eq!(arrival(&mut record, Nanos(0), &resign).event, Some(VerdictKind::Resigned));
    assert_eq!(arrival(&mut record, Nanos(10 * MS), &resign).event, None);
    let more = Sign { flags: resign.flags ^ 0x80, ..resign };
    assert_eq!(arrival(&mut record, Nanos(10 * MS), &more).event, Some(VerdictKind::Said));
    assert_eq!(arrival(&mut record, Nanos(10 * MS), &more).event, None);
    assert_eq!(run(&mut record, 100 * MS).last(), Some(&(40, VerdictKind::Dead)));
}

#[test]
fn a_pulse_is_news_only_when_it_says_something_new() {
    let mut record = Detector::default();
    let _ = arrival(&mut record, Nanos(0), &pulse_sign());
    assert_eq!(arrival(&mut record, Nanos(10 * MS), &pulse_sign()).event, None);
    let changed = Sign { flags: 1, ..pulse_sign() };
    assert_eq!(arrival(&mut record, Nanos(20 * MS), &changed).event, Some(VerdictKind::Said));
    assert_eq!(arrival(&mut record, Nanos(30 * MS), &changed).event, None);
}

#[test]
fn the_jitter_histogram_counts_by_powers_of_two() {
    let mut record = Detector::default();
    let _ = arrival(&mut record, Nanos(5 * MS), &pulse_sign());
    let _ = arrival(&mut record, Nanos(15 * MS), &pulse_sign());
    let _ = arrival(&mut record, Nanos(25 * MS + 3_000), &pulse_sign());
    assert_eq!((record.jitter[0], record.jitter[2]), (1, 1));
    assert_eq!(record.gap_max_ns, 10 * MS + 3_000);
}

#[test]
fn the_slower_node_sets_the_deadline() {
    let fast = (Nanos(10 * MS), 3);
    let slow = (Nanos(20 * MS), 5);
    assert_eq!(slower(fast, slow), slow);
    assert_eq!(slower(slow, fast), slow);
}

#[test]
fn a_packet_that_arrives_on_another_cpu_during_an_expiry_is_no_endless_silence() {
    let mut record = Detector::default();
    let _ = arrival(&mut record, Nanos(0), &pulse_sign());
    // The expiry took its time at 15 ms; the packet of another CPU wrote its own, a little later, and not yet the rest.
    record.last_arrival_ns = 15 * MS + 1;
    assert_eq!(expiry(&mut record, Nanos(15 * MS), u64::MAX).event, None);
    assert_eq!(record.state, State::Alive as u32);
}

#[test]
fn a_living_peer_whose_deadline_was_lost_in_a_race_is_looked_after() {
    let mut record = Detector::default();
    let _ = arrival(&mut record, Nanos(0), &pulse_sign());
    // The expiry that declared death wrote its last word after the packet that contradicts it.
    record.deadline_ns = 0;
    let next = expiry(&mut record, Nanos(15 * MS), u64::MAX);
    let again = next.deadline.expect("armed again");
    assert_eq!(next.event, Some(VerdictKind::Stalled));
    let _ = expiry(&mut record, again, u64::MAX);
    assert_eq!(run(&mut record, 100 * MS).last(), Some(&(30, VerdictKind::Dead)));
}

#[test]
fn a_peer_whose_timer_was_lost_is_believed_alive_for_the_grace_and_no_longer() {
    let mut record = Detector::default();
    let _ = arrival(&mut record, Nanos(100 * MS), &pulse_sign());
    assert_eq!(believable(&record, Nanos(1130 * MS - 1), u64::MAX, Nanos(1000 * MS)), State::Alive);
    assert_eq!(believable(&record, Nanos(1130 * MS), u64::MAX, Nanos(1000 * MS)), State::Dead);
    // After an advert of priority 0 nothing is awaited.
    let last = Sign { resigns: true, always_said: true, ..pulse_sign() };
    let _ = arrival(&mut record, Nanos(200 * MS), &last);
    assert_eq!(believable(&record, Nanos(9000 * MS), u64::MAX, Nanos(1000 * MS)), State::Resigned);
    assert_eq!(believable(&Detector::default(), Nanos(9000 * MS), u64::MAX, Nanos(1000 * MS)), State::Unknown);
}

#[test]
fn nobody_is_dead_who_was_not_asked() {
    let mut record = Detector::default();
    let _ = arrival(&mut record, Nanos(0), &Sign { sequence: 1, asked: 100, ..pulse_sign() });
    for at in [15, 25] {
        assert_eq!(expiry(&mut record, Nanos(at * MS), 102).event, Some(VerdictKind::Missed));
    }
    let next = expiry(&mut record, Nanos(30 * MS), 102);
    assert_eq!(next, Next { event: None, deadline: Some(Nanos(35 * MS)) });
    assert_eq!((record.unasked, record.state), (1, State::Alive as u32));
    assert_eq!(believable(&record, Nanos(9000 * MS), 102, Nanos(0)), State::Alive);
    assert_eq!(expiry(&mut record, Nanos(35 * MS), 103).event, Some(VerdictKind::Dead));
}

#[test]
fn an_answer_is_a_sign_of_life_and_leaves_the_sequence_of_the_pulses_alone() {
    let mut record = Detector::default();
    let _ = arrival(&mut record, Nanos(0), &Sign { sequence: 7, ..pulse_sign() });
    let answer = Sign { reflection: true, sequence: 1000, asked: 5, ..pulse_sign() };
    let _ = arrival(&mut record, Nanos(20 * MS), &answer);
    assert_eq!((record.sequence, record.answered, record.answers, record.asked), (7, 1000, 1, 5));
    assert!(run(&mut record, 49 * MS).iter().all(|(_, kind)| *kind == VerdictKind::Missed));
}

#[test]
fn of_two_packets_that_overtook_each_other_the_later_state_wins() {
    let mut record = Detector::default();
    let _ = arrival(&mut record, Nanos(0), &Sign { stamp_ns: 5 * MS, flags: 1, ..pulse_sign() });
    let late = Sign { stamp_ns: 4 * MS, flags: 0, ..pulse_sign() };
    assert_eq!(arrival(&mut record, Nanos(MS), &late).event, None);
    assert_eq!((record.flags, record.last_arrival_ns), (1, MS));
    let rebooted = Sign { stamp_ns: MS, flags: 0, boot: 1, ..pulse_sign() };
    assert_eq!(arrival(&mut record, Nanos(2 * MS), &rebooted).event, Some(VerdictKind::Said));
}

#[test]
fn a_silent_userspace_behind_a_living_kernel_hangs_until_it_gives_a_sign() {
    let mut record = Detector::default();
    let hang = Nanos(1000 * MS);
    let aged = |age| Sign { reflection: true, hang, age: Nanos(age), ..pulse_sign() };
    let _ = arrival(&mut record, Nanos(0), &aged(0));
    assert_eq!(arrival(&mut record, Nanos(MS), &aged(1000 * MS)).event, None);
    assert_eq!(arrival(&mut record, Nanos(2 * MS), &aged(1001 * MS)).event, Some(VerdictKind::Hung));
    assert_eq!(arrival(&mut record, Nanos(3 * MS), &aged(1002 * MS)).event, None);
    assert_eq!(arrival(&mut record, Nanos(4 * MS), &aged(2 * MS)).event, Some(VerdictKind::Awake));
}

#[test]
fn a_peer_that_comes_back_hung_is_told_as_such_at_once() {
    let mut record = Detector::default();
    let hung = |stamp| Sign {
        interval: Nanos(10),
        threshold: 3,
        age: Nanos(6),
        hang: Nanos(5),
        sequence: stamp,
        stamp_ns: stamp,
        ..Sign::default()
    };
    assert_eq!(arrival(&mut record, Nanos(100), &hung(1)).event, Some(VerdictKind::Hung));
    assert_eq!((record.state, record.hung), (State::Alive as u32, 1));
    assert_eq!(arrival(&mut record, Nanos(110), &hung(2)).event, None);
    let gone = Nanos(record.deadline_ns + 20);
    record.state = State::Dead as u32;
    assert_eq!(arrival(&mut record, gone, &hung(3)).event, Some(VerdictKind::Hung), "and again after a silence");
    let resigns = Sign { resigns: true, ..hung(4) };
    assert_eq!(arrival(&mut record, gone, &resigns).event, Some(VerdictKind::Resigned));
    assert_eq!(arrival(&mut record, gone, &Sign { resigns: true, ..hung(5) }).event, Some(VerdictKind::Hung));
}
