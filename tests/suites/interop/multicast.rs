//! Adverts to 224.0.0.18, as on a plain LAN: the same life as with unicast, beside a real keepalived.

use anyhow::{Context, Result, ensure};
use harbor_ha_tests::lab::keepalived::{Setup, State};
use harbor_ha_tests::lab::tshark::{Checksum, Judgement};
use harbor_ha_tests::lab::wire::Wire;
use harbor_ha_tests::lab::{Lab, Side};

use super::dropin::live;
use super::either::{Daemon, EITHER_WAY, Who};
use super::keepalived::{Protocol, STRONG, V2, V3, WEAK};
use super::waits::{Stated, advert_of, adverts_of};
use super::{on_a_judged_network, requirements_met};

/// RFC 9568 §5.1.1.2, and the Ethernet address that belongs to it (RFC 1112 §6.4).
const GROUP: (&str, &str) = ("224.0.0.18", "01:00:5e:00:00:12");

const V2_MULTICAST: Protocol = Protocol { multicast: true, ..V2 };
const V3_MULTICAST: Protocol = Protocol { multicast: true, ..V3 };

/// Every advert of both nodes is good, and went to the group.
fn to_the_group(judgement: &Judgement) -> Result<()> {
    judgement.insist()?;
    ensure!(judgement.adverts.len() == Side::BOTH.len(), "adverts of {:?}", judgement.adverts);
    let elsewhere = judgement.destinations.iter().find(|(ip, mac)| (ip.as_str(), mac.as_str()) != GROUP);
    elsewhere.map_or(Ok(()), |it| Err(anyhow::anyhow!("{it:?}"))).context("adverts went to another than the group")
}

fn lives(test: &str, protocol: Protocol) {
    if !requirements_met(test, &["keepalived"]) {
        return;
    }
    for who in EITHER_WAY {
        on_a_judged_network(Checksum::PseudoHeader, |lab| live(lab, test, who, protocol), to_the_group);
    }
}

#[test]
fn multicast_lives_of_ours_beside_a_weaker_and_a_stronger_keepalived_v2() {
    lives("multicast_lives_of_ours_beside_a_weaker_and_a_stronger_keepalived_v2", V2_MULTICAST);
}

#[test]
fn multicast_lives_of_ours_beside_a_weaker_and_a_stronger_keepalived_v3() {
    lives("multicast_lives_of_ours_beside_a_weaker_and_a_stronger_keepalived_v3", V3_MULTICAST);
}

/// One that speaks to the group and one that speaks to its peer do not take each other's adverts, in either daemon.
fn apart(test: &str, who: [Who; 2], multicast: [bool; 2]) {
    if !requirements_met(test, &["keepalived"]) {
        return;
    }
    let run = |lab: &Lab| {
        let wire = Wire::on(lab, "b").unwrap();
        let [a, b] = Daemon::each(lab, who);
        a.start(&Setup { multicast: multicast[0], ..V3.keepalived(STRONG) });
        a.is(State::Master);
        b.start(&Setup { multicast: multicast[1], ..V3.keepalived(WEAK) });
        b.is(State::Master);
        adverts_of(lab, &wire, Side::A, 5);
        assert_eq!((a.state(), b.state()), (State::Master, State::Master));
        for side in Side::BOTH {
            assert!(wire.first(0, advert_of(side)).is_some(), "{side} was heard on the wire");
        }
    };
    on_a_judged_network(Checksum::PseudoHeader, run, Judgement::insist);
}

#[test]
fn unicast_and_multicast_do_not_meet() {
    for who in EITHER_WAY {
        for multicast in [[true, false], [false, true]] {
            apart("unicast_and_multicast_do_not_meet", who, multicast);
        }
    }
}
