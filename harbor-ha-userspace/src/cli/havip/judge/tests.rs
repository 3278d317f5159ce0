//! One thing wrong at a time, and the line that says so.

use super::*;
use crate::cloud::Status;
use crate::cloud::admission::{Policy, Rule, Source};
use crate::config::settings::Endpoint;
use crate::config::settings::cloud::{CredentialSource, Fence};

pub(in crate::cli::havip) fn settings() -> Settings {
    let second = std::time::Duration::from_secs(1);
    Settings {
        region: None,
        havip: None,
        address: [10, 0, 0, 5].into(),
        eip: Some("eip-1".into()),
        instance: None,
        peer_instance: "i-b".into(),
        vswitch: None,
        credentials: CredentialSource::Auto,
        credentials_file: "/k".into(),
        ram_role: None,
        vpc_endpoint: None,
        ecs_endpoint: None,
        metadata_endpoint: Endpoint { tls: false, host: "100.100.100.200".into(), port: 80 },
        connect_timeout: second,
        timeout: second,
        follow_deadline: second,
        poll_interval: second,
        fence: Fence { unassociate: false, stop: true, dry_run: false, cooldown: second, limit: 1 },
    }
}

fn node() -> Node {
    Node {
        address: Some([10, 0, 0, 1].into()),
        peer: Some([10, 0, 0, 2].into()),
        pulses: vec![5112, 5113],
        adverts: true,
        keys: Keys { address: "node.address", peer: "node.peer", vips: "node.vips" },
    }
}

fn instance(id: &str, last: u8) -> Instance {
    Instance {
        id: id.into(),
        status: Status::new("Running"),
        vswitch: Some("vsw-1".into()),
        address: Some([10, 0, 0, last].into()),
        groups: vec!["sg-1".into()],
        local_disks: 0,
    }
}

fn good() -> Facts {
    let havip = HaVip {
        id: "havip-1".into(),
        address: Some([10, 0, 0, 5].into()),
        status: Status::new("InUse"),
        vswitch: Some("vsw-1".into()),
        master: Some("i-a".into()),
        members: vec!["i-a".into(), "i-b".into()],
        of_interfaces: false,
    };
    let eip = Eip {
        id: "eip-1".into(),
        address: Some("47.1.2.3".into()),
        status: Status::new("InUse"),
        bound_to: Some("havip-1".into()),
        locks: Vec::new(),
    };
    Facts {
        keys: Ok("the environment".into()),
        region: Ok("cn-x".into()),
        own: Ok("i-a".into()),
        vswitch: Ok("vsw-1".into()),
        havip: Ok(Some(havip)),
        instances: Ok(vec![instance("i-a", 1), instance("i-b", 2)]),
        eip: Ok(Some(eip)),
        groups: Ok(vec![Group { id: "sg-1".into(), rules: Vec::new(), members_reach_each_other: Some(true) }]),
        stop: Some(Ok(())),
        serves: Some((true, false)),
    }
}

/// The lines that are not well, after `change`.
fn troubled(change: impl FnOnce(&mut Facts)) -> Vec<(Level, String)> {
    let mut facts = good();
    change(&mut facts);
    let lines = judge(&settings(), &node(), &facts).into_iter();
    let known = |line: &Line| line.text.starts_with("to bind and unbind: cannot be tried");
    let troubled = lines.filter(|line| line.level != Level::Ok && !known(line));
    troubled.map(|line| (line.level, format!("{}: {}", line.subject, line.text))).collect()
}

#[track_caller]
fn one(change: impl FnOnce(&mut Facts), level: Level, says: &str) {
    let found = troubled(change);
    let [(is, text)] = found.as_slice() else { panic!("one line is expected: {found:#?}") };
    assert!(*is == level && text.contains(says), "{found:#?}");
}

fn havip_of(facts: &mut Facts) -> &mut HaVip {
    facts.havip.as_mut().unwrap().as_mut().unwrap()
}

fn eip_of(facts: &mut Facts) -> &mut Eip {
    facts.eip.as_mut().unwrap().as_mut().unwrap()
}

fn not_told(denied: bool) -> NotTold {
    NotTold { why: "the reason".into(), denied }
}

#[test]
fn where_all_is_well_only_what_cannot_be_tried_is_unknown() {
    assert_eq!(troubled(|_| {}), []);
}

#[test]
fn each_thing_that_is_wrong_has_its_line_and_its_way_out() {
    use Level::{Bad, Unknown};
    one(
        |it| havip_of(it).address = Some([10, 0, 0, 6].into()),
        Bad,
        "address: it is 10.0.0.6, and node.vips has 10.0.0.5",
    );
    one(|it| havip_of(it).vswitch = Some("vsw-2".into()), Bad, "vswitch: the HaVip is in vsw-2");
    one(|it| havip_of(it).members.retain(|id| id != "i-b"), Bad, "run `harbor-ha havip bind peer`");
    one(|it| havip_of(it).members.retain(|id| id != "i-a"), Bad, "run `harbor-ha havip bind own`");
    one(|it| havip_of(it).members.push("i-c".into()), Bad, "`harbor-ha havip unbind i-c`");
    one(|it| havip_of(it).of_interfaces = true, Bad, "network interfaces");
    one(|it| havip_of(it).status = Status::new("Associating"), Unknown, "a change is under way");
    one(|it| it.instances.as_mut().unwrap()[1].vswitch = Some("vsw-2".into()), Bad, "i-b is in vsw-2, not in vsw-1");
    one(|it| it.instances.as_mut().unwrap()[1].address = Some([10, 0, 0, 9].into()), Bad, "node.peer is 10.0.0.2");
    one(|it| it.instances.as_mut().unwrap()[1].status = Status::new("Stopped"), Unknown, "i-b is Stopped");
    one(|it| it.instances.as_mut().unwrap()[1].local_disks = 1, Bad, "take \"ecs-stop\" out");
    one(|it| eip_of(it).bound_to = None, Bad, "is bound to nothing; run `harbor-ha havip bind-eip`");
    one(|it| eip_of(it).bound_to = Some("i-z".into()), Bad, "is bound to i-z, not to havip-1");
    one(|it| eip_of(it).locks = vec!["financial".into()], Bad, "locked (financial)");
    one(|it| it.eip = Ok(None), Bad, "there is no eip-1");
    one(|it| it.stop = Some(Err(not_told(true))), Bad, "to stop the peer: the reason");
}

#[test]
fn without_a_havip_the_way_to_one_is_told_and_the_rest_is_not_guessed() {
    let found = troubled(|facts| facts.havip = Ok(None));
    assert!(found.iter().any(|(level, text)| *level == Level::Bad && text.contains("havip provision")), "{found:#?}");
    let found = troubled(|facts| facts.instances.as_mut().unwrap().clear());
    assert_eq!(found.len(), 2, "{found:#?}");
}

#[test]
fn a_question_that_was_denied_is_bad_and_one_that_was_not_answered_is_unknown() {
    for (denied, level) in [(true, Level::Bad), (false, Level::Unknown)] {
        let found = troubled(|facts| facts.groups = Err(not_told(denied)));
        assert!(found.iter().all(|(is, _)| *is == level) && found.len() == 2, "{found:#?}");
        let found = troubled(|facts| facts.havip = Err(not_told(denied)));
        assert!(found.contains(&(level, "havip: the reason".to_owned())), "{found:#?}");
        assert!(found.iter().all(|(is, _)| *is == level || *is == Level::Unknown), "{found:#?}");
    }
}

#[test]
fn pulses_and_adverts_must_pass_both_ways() {
    let closed = |rules: Vec<Rule>| {
        move |facts: &mut Facts| {
            facts.groups = Ok(vec![Group { id: "sg-1".into(), rules, members_reach_each_other: Some(false) }]);
        }
    };
    let found = troubled(closed(Vec::new()));
    assert_eq!(found.len(), 6, "{found:#?}");
    for says in ["allow UDP 5112 from 10.0.0.2/32 in one of sg-1", "allow UDP 5113 from 10.0.0.1/32", "adverts = false"]
    {
        assert!(found.iter().any(|(level, text)| *level == Level::Bad && text.contains(says)), "{says}: {found:#?}");
    }
    let udp = |source: &str| Rule {
        protocol: Protocol::Udp,
        ports: (5112, 5113),
        source: Source::range(source),
        policy: Policy::Accept,
        priority: 1,
    };
    assert_eq!(troubled(closed(vec![udp("10.0.0.2/32")])).len(), 4, "one way");
    let adverts_alone = troubled(closed(vec![udp("10.0.0.0/24")]));
    assert!(adverts_alone.len() == 2 && adverts_alone[0].1.contains("protocol 112"), "{adverts_alone:#?}");
    one_unknown_of_each_packet(troubled(closed(vec![Rule {
        protocol: Protocol::All,
        source: Source::Other,
        ..udp("x")
    }])));
}

fn one_unknown_of_each_packet(found: Vec<(Level, String)>) {
    assert!(found.len() == 6 && found.iter().all(|(level, _)| *level == Level::Unknown), "{found:#?}");
}

#[test]
fn the_cloud_and_the_daemon_agree_or_not() {
    let told = |master: Option<&str>, serves| agreement(master, "i-a", "i-b", serves);
    let (own, peer, nobody) = (Some((true, false)), Some((false, true)), Some((false, false)));
    assert!(matches!(told(Some("i-a"), own), Agreement::Yes(_)));
    assert!(matches!(told(Some("i-b"), peer), Agreement::Yes(_)));
    for (master, serves) in [("i-b", own), ("i-a", peer), ("i-c", own), ("i-c", peer)] {
        assert!(matches!(told(Some(master), serves), Agreement::No(_)), "{master} {serves:?}");
    }
    assert!(matches!(told(None, own), Agreement::No(_)));
    for (master, serves) in [(None, peer), (None, nobody), (None, None), (Some("i-a"), None), (Some("i-a"), nobody)] {
        assert!(matches!(told(master, serves), Agreement::Unknown(_)), "{master:?} {serves:?}");
    }
}
