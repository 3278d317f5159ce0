//! Keywords that change when somebody speaks or takes over: each is given to ours and to a real keepalived in turn, and
//! what the other hosts see must be the same.
//!
//! No time is asserted: what passes is counted in the adverts of the other node, or compared with the distance between
//! two of them, as both were captured.

use std::net::Ipv4Addr;

use harbor_ha::net::vrrp::{GROUP, Port};
use harbor_ha_ebpf::units::Priority;
use harbor_ha_ebpf::wire::vrrp::{Checksum, LENGTH_MAX, Outgoing, emit};
use harbor_ha_tests::lab::keepalived::{Setup, State};
use harbor_ha_tests::lab::state::VIP;
use harbor_ha_tests::lab::wire::{What, Wire};
use harbor_ha_tests::lab::{Lab, Side, clock, netns};
use nix::net::if_::if_nametoindex;

use super::either::Who::{Ours, Theirs};
use super::either::{Daemon, EITHER_WAY, Who, address_is_on};
use super::keepalived::{Protocol, STRONG, V3, VRID, WEAK, last_word, with_keepalived};
use super::waits::{Stated, advert_of, adverts_of, count, seen};

/// The file of a node with more words, of the whole host and of the instance.
fn with_words(daemon: Daemon<'_>, setup: &Setup, globals: &str, words: &str) -> String {
    let text = daemon.theirs().config(setup);
    let text = text.replacen("global_defs {\n", &format!("global_defs {{\n    {globals}\n"), 1);
    text.replacen("    interface eth0\n", &format!("    interface eth0\n    {words}\n"), 1)
}

fn preempting(protocol: Protocol, priority: u8) -> Setup {
    Setup { preempt: true, ..protocol.keepalived(priority) }
}

/// How many adverts of `b` pass from the start of a stronger `a` with these words to its first one.
fn waited(lab: &Lab, who: [Who; 2], globals: &str, words: &str) -> usize {
    let wire = Wire::on(lab, "b").unwrap();
    let [a, b] = Daemon::each(lab, who);
    b.start(&V3.keepalived(WEAK));
    b.is(State::Master);
    let from = clock::now_ns();
    a.start_on(&with_words(a, &preempting(V3, STRONG), globals, words));
    let first = seen(lab, &wire, from, "an advert of a", advert_of(Side::A));
    a.is(State::Master);
    b.is(State::Backup);
    address_is_on(lab, Side::A);
    let resigned = wire.first(from, |what| matches!(what, What::Advert(_, 0)));
    assert_eq!(resigned, None, "a takes over from a living master");
    let passed = wire.since(from).iter().filter(|it| it.at_ns < first && advert_of(Side::B)(it.what)).count();
    a.terminate();
    b.terminate();
    passed
}

/// Three seconds, in the adverts of a master that sends five a second; two less, as it may be late.
const THREE_SECONDS: usize = 13;

/// Words that make a stronger newcomer wait three seconds more.
fn newcomer_waits(test: &str, who: [Who; 2], globals: &str, words: &str) {
    with_keepalived(test, |lab| {
        let (without, with) = (waited(lab, who, "", ""), waited(lab, who, globals, words));
        eprintln!("{test}: {who:?}: it began after {without} adverts of the other without, after {with} with");
        assert!(with > without && with >= THREE_SECONDS, "{who:?}: {without} adverts without, {with} with");
    });
}

#[test]
fn preempt_delay_makes_a_stronger_newcomer_wait() {
    for who in EITHER_WAY {
        newcomer_waits("preempt_delay_makes_a_stronger_newcomer_wait", who, "", "preempt_delay 3");
    }
}

/// How many adverts pass from the start of `a` with these words to its first one, where `a` hears nobody: `b` has another
/// router id and another address, speaks to `c`, and is there to count by.
fn waited_alone(lab: &Lab, who: Who, globals: &str) -> usize {
    let wire = Wire::on(lab, "b").unwrap();
    let [a, b] = Daemon::each(lab, [who, who]);
    let client = lab.state().hosts().into_iter().find(|(host, _)| *host == "c").expect("a client").1;
    let peer = lab.state().address(Side::A);
    let clock = b.theirs().config(&Setup { vrid: VRID + 1, ..V3.keepalived(WEAK) });
    b.start_on(
        &clock.replace(&format!("{VIP}\n"), "10.77.0.201\n").replace(&format!("{peer}\n"), &format!("{client}\n")),
    );
    b.is(State::Master);
    let from = clock::now_ns();
    a.start_on(&with_words(a, &V3.keepalived(STRONG), globals, ""));
    let first = seen(lab, &wire, from, "an advert of a", advert_of(Side::A));
    let passed = wire.since(from).iter().filter(|it| it.at_ns < first && advert_of(Side::B)(it.what)).count();
    a.is(State::Master);
    a.terminate();
    b.terminate();
    passed
}

#[test]
fn a_startup_delay_keeps_a_newcomer_silent() {
    let test = "a_startup_delay_keeps_a_newcomer_silent";
    for who in [Ours, Theirs] {
        with_keepalived(test, |lab| {
            let [without, with] = ["", "vrrp_startup_delay 3"].map(|globals| waited_alone(lab, who, globals));
            eprintln!("{test}: {who:?}: it began after {without} adverts of another without, after {with} with");
            assert!(with > without && with >= THREE_SECONDS, "{who:?}: {without} adverts without, {with} with");
        });
    }
}

/// A newcomer `a` with these words lets the master `b` be for this many adverts of it, and takes over when it dies.
fn follows_until_it_dies(test: &str, [newcomer, master]: [u8; 2], globals: &str, words: &str, adverts: usize) {
    for who in EITHER_WAY {
        with_keepalived(test, |lab| {
            let wire = Wire::on(lab, "b").unwrap();
            let [a, b] = Daemon::each(lab, who);
            b.start(&V3.keepalived(master));
            b.is(State::Master);
            a.start_on(&with_words(a, &preempting(V3, newcomer), globals, words));
            a.is(State::Backup);
            adverts_of(lab, &wire, Side::B, adverts);
            assert_eq!((a.state(), count(&wire, Side::A, 0)), (State::Backup, 0), "{who:?}");
            let killed = b.kill();
            a.is(State::Master);
            let first = seen(lab, &wire, killed, "an advert of a", advert_of(Side::A));
            last_word(&wire, Side::B, first);
        });
    }
}

#[test]
fn after_a_startup_delay_a_stronger_master_is_followed_until_it_dies() {
    let test = "after_a_startup_delay_a_stronger_master_is_followed_until_it_dies";
    // The delay, and two Master_Down_Intervals.
    follows_until_it_dies(test, [WEAK, STRONG], "vrrp_startup_delay 1", "", 13);
}

#[test]
fn preempt_delay_is_for_a_living_master_and_not_for_a_dead_one() {
    let test = "preempt_delay_is_for_a_living_master_and_not_for_a_dead_one";
    // No test waits for that long; three times its Master_Down_Interval.
    follows_until_it_dies(test, [STRONG, WEAK], "", "preempt_delay 1000", 12);
}

/// Ours alone: a keepalived 2.2.7 that has heard a weaker master in its start-up delay stays backup for ever, also when that
/// master is dead.
#[test]
fn after_a_startup_delay_we_take_over_from_a_weaker_keepalived() {
    let test = "after_a_startup_delay_we_take_over_from_a_weaker_keepalived";
    newcomer_waits(test, [Ours, Theirs], "vrrp_startup_delay 3", "");
}

/// The usual distance between two adverts of a node.
fn interval(wire: &Wire, side: Side, before_ns: u64) -> u64 {
    let all = wire.since(0);
    let times: Vec<u64> =
        all.iter().filter(|it| it.at_ns <= before_ns && advert_of(side)(it.what)).map(|it| it.at_ns).collect();
    let mut gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    *gaps.get(gaps.len() / 2).expect("more than one advert")
}

/// How long `b` waits for `a`, in adverts of `a`.
fn missed(lab: &Lab, who: [Who; 2], words: &str) -> f64 {
    let wire = Wire::on(lab, "b").unwrap();
    let [a, b] = Daemon::each(lab, who);
    let protocol = Protocol { advert_int: "0.4", interval_ms: 400, ..V3 };
    a.start(&protocol.keepalived(STRONG));
    a.is(State::Master);
    b.start_on(&with_words(b, &protocol.keepalived(WEAK), "", words));
    b.is(State::Backup);
    adverts_of(lab, &wire, Side::A, 5);
    assert_eq!((b.state(), count(&wire, Side::B, 0)), (State::Backup, 0), "{who:?}, {words}");
    let killed = a.kill();
    b.is(State::Master);
    let first = seen(lab, &wire, killed, "an advert of b", advert_of(Side::B));
    let last = last_word(&wire, Side::A, first);
    b.terminate();
    (first - last) as f64 / interval(&wire, Side::A, last) as f64
}

#[test]
fn down_timer_adverts_is_how_many_adverts_a_backup_misses() {
    let test = "down_timer_adverts_is_how_many_adverts_a_backup_misses";
    for who in EITHER_WAY {
        with_keepalived(test, |lab| {
            let waited = ["down_timer_adverts 1", "", "down_timer_adverts 8"].map(|words| missed(lab, who, words));
            eprintln!("{test}: {who:?}: 1, 3 and 8 adverts and the skew (0.96): b waited {waited:.2?} adverts");
            let [one, three, eight] = waited;
            assert!(one < three && three < eight, "{who:?}: {waited:.2?}");
            assert!(one > 1.0 && three > 3.0 && eight > 7.0, "{who:?}: {waited:.2?}");
        });
    }
}

/// Half of its interval is time enough to answer in.
const SLOW: Protocol = Protocol { advert_int: "0.6", interval_ms: 600, multicast: true, ..V3 };

/// A third router, on `c`: it says what it is told to, when it is told.
struct Third {
    port: Port,
    own: Ipv4Addr,
}

impl Third {
    fn on(lab: &Lab) -> Self {
        let open = || Ok(Port::open("eth0", if_nametoindex("eth0")?, false)?);
        let port = netns::inside(&lab.state().netns("c"), open).unwrap();
        let own = lab.state().hosts().into_iter().find(|(host, _)| *host == "c").expect("a client").1;
        Self { port, own }
    }

    /// One advert of this priority to the group; the instant just before.
    fn say(&self, priority: u8) -> u64 {
        let advert = Outgoing {
            version: 3,
            vrid: VRID,
            priority: Priority(priority),
            // Hundredths of a second.
            interval: (SLOW.interval_ms / 10) as u16,
            addresses: &[VIP.octets()],
            password: None,
            checksum: Checksum::PseudoHeader,
        };
        let mut buffer = [0; LENGTH_MAX];
        let length = emit(&advert, self.own.octets(), GROUP.octets(), &mut buffer);
        let at = clock::now_ns();
        self.port.send(&buffer[..length], self.own, GROUP, 255).unwrap();
        at
    }
}

/// Whether a master answers a weaker advert at once, that is: well before its next one would be due.
fn answers(lab: &Lab, wire: &Wire, third: &Third) -> bool {
    // Just after one of its own.
    adverts_of(lab, wire, Side::A, 1);
    let usual = interval(wire, Side::A, u64::MAX);
    let spoke = wire.last(u64::MAX, advert_of(Side::A)).expect("just seen");
    let said = third.say(WEAK);
    let answer = seen(lab, wire, said, "the next advert", advert_of(Side::A));
    answer - spoke < usual / 2
}

/// How many adverts a master sends after a stronger one, until it takes over again as nobody goes on.
fn last_words(lab: &Lab, wire: &Wire, third: &Third, a: Daemon<'_>) -> usize {
    adverts_of(lab, wire, Side::A, 1);
    let said = third.say(200);
    a.is(State::Backup);
    a.is(State::Master);
    let usual = interval(wire, Side::A, said);
    // A Master_Down_Interval lies between the last word and the return: the longest gap since.
    let own = wire.since(said).into_iter().filter(|it| advert_of(Side::A)(it.what)).map(|it| it.at_ns);
    own.take_while(|at| at - said < usual).count()
}

/// With these words a master answers a weaker advert at once, or not, and yields to a stronger one with so many words more.
fn a_master(test: &str, words: &str, answered: bool, more: usize) {
    for who in [Ours, Theirs] {
        with_keepalived(test, |lab| {
            let wire = Wire::on(lab, "b").unwrap();
            let [a] = Daemon::each(lab, [who]);
            a.start_on(&with_words(a, &preempting(SLOW, STRONG), "", words));
            a.is(State::Master);
            let third = Third::on(lab);
            adverts_of(lab, &wire, Side::A, 3);
            let answers = [(); 3].map(|()| answers(lab, &wire, &third));
            assert_eq!((answers, a.state()), ([answered; 3], State::Master), "{who:?}");
            assert_eq!(last_words(lab, &wire, &third, a), more, "{who:?}: {:?}", wire.since(0));
        });
    }
}

#[test]
fn a_weaker_advert_is_answered_at_once_and_a_stronger_one_is_yielded_to_without_a_word() {
    let test = "a_weaker_advert_is_answered_at_once_and_a_stronger_one_is_yielded_to_without_a_word";
    a_master(test, "", true, 0);
}

#[test]
fn with_lower_prio_no_advert_a_weaker_advert_is_not_answered() {
    a_master("with_lower_prio_no_advert_a_weaker_advert_is_not_answered", "lower_prio_no_advert", false, 0);
}

#[test]
fn with_higher_prio_send_advert_a_master_yields_with_one_more() {
    a_master("with_higher_prio_send_advert_a_master_yields_with_one_more", "higher_prio_send_advert", true, 1);
}

/// What the word is for: the winner, whose announcement may have been overtaken by ours, hears a weaker advert, and
/// announces the address once more.
#[test]
fn the_winner_announces_again_after_the_last_word_of_the_loser() {
    for who in EITHER_WAY {
        with_keepalived("the_winner_announces_again_after_the_last_word_of_the_loser", |lab| {
            let wire = Wire::on(lab, "b").unwrap();
            let [a, b] = Daemon::each(lab, who);
            a.start_on(&with_words(a, &preempting(V3, WEAK), "", "higher_prio_send_advert"));
            a.is(State::Master);
            b.start(&preempting(V3, STRONG));
            b.is(State::Master);
            a.is(State::Backup);
            let won = seen(lab, &wire, 0, "the first advert of b", advert_of(Side::B));
            let word = seen(lab, &wire, won, "the last word of a", advert_of(Side::A));
            seen(lab, &wire, word, "b's announcement", |what| what == What::Garp(Side::B));
            assert_eq!(count(&wire, Side::A, word), 1, "{who:?}: {:?}", wire.since(won));
            address_is_on(lab, Side::B);
        });
    }
}
