//! The plan from each state that a `provision` can be killed in, and from those where it must not begin.

use super::*;
use crate::cloud::Status;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

fn wanted() -> Wanted {
    Wanted {
        havip: None,
        address: ADDRESS,
        vswitch: "vsw-1".into(),
        own: "i-a".into(),
        peer: "i-b".into(),
        eip: Some("eip-1".into()),
    }
}

fn havip(status: &str, members: &[&str]) -> HaVip {
    HaVip {
        id: "havip-1".into(),
        address: Some(ADDRESS),
        status: Status::new(status),
        vswitch: Some("vsw-1".into()),
        master: None,
        members: members.iter().map(|member| (*member).to_owned()).collect(),
        of_interfaces: false,
    }
}

fn instance(id: &str, status: &str) -> Instance {
    Instance {
        id: id.into(),
        status: Status::new(status),
        vswitch: Some("vsw-1".into()),
        address: None,
        groups: Vec::new(),
        local_disks: 0,
    }
}

fn eip(status: &str, bound_to: Option<&str>) -> Eip {
    Eip {
        id: "eip-1".into(),
        address: None,
        status: Status::new(status),
        bound_to: bound_to.map(str::to_owned),
        locks: Vec::new(),
    }
}

fn nothing() -> State {
    State {
        havip: None,
        eip: Some(eip("Available", None)),
        instances: vec![instance("i-a", "Running"), instance("i-b", "Running")],
        other_eips: Vec::new(),
    }
}

fn with(havip: HaVip) -> State {
    State { havip: Some(havip), ..nothing() }
}

fn shown(state: &State, wanted: &Wanted) -> Vec<String> {
    plan(state, wanted).unwrap().iter().map(ToString::to_string).collect()
}

#[track_caller]
fn refused(state: &State, wanted: &Wanted, says: &str) {
    let obstacles = plan(state, wanted).unwrap_err();
    let [obstacle] = obstacles.as_slice() else { panic!("one is expected: {obstacles:?}") };
    assert!(obstacle.to_string().contains(says), "{obstacle}");
}

#[test]
fn from_nothing_all_is_to_do() {
    assert_eq!(
        shown(&nothing(), &wanted()),
        [
            "make a HaVip with the address 10.0.0.5 in vsw-1",
            "bind instance i-a to the new HaVip",
            "bind instance i-b to the new HaVip",
            "bind EIP eip-1 to the new HaVip",
        ]
    );
    let without_eip = Wanted { eip: None, ..wanted() };
    assert_eq!(shown(&nothing(), &without_eip).len(), 3);
}

#[test]
fn each_state_on_the_way_leads_to_the_rest_and_the_last_to_nothing() {
    let rest = |state: &State| shown(state, &wanted());
    assert_eq!(rest(&with(havip("Available", &[]))).len(), 3);
    assert_eq!(rest(&with(havip("Creating", &[])))[0], "wait: HaVip havip-1 is Creating");
    assert_eq!(rest(&with(havip("Associating", &["i-a"])))[0], "wait: HaVip havip-1 is Associating");
    let bound = with(havip("InUse", &["i-a", "i-b"]));
    assert_eq!(rest(&with(havip("inuse", &["i-a"]))), ["bind instance i-b to havip-1", "bind EIP eip-1 to havip-1"]);
    assert_eq!(rest(&bound), ["bind EIP eip-1 to havip-1"]);
    let moving = State { eip: Some(eip("Associating", Some("havip-1"))), ..bound.clone() };
    assert_eq!(rest(&moving), ["wait: EIP eip-1 is Associating"]);
    let done = State { eip: Some(eip("InUse", Some("havip-1"))), ..bound };
    assert_eq!(rest(&done), Vec::<String>::new());
}

#[test]
fn a_third_member_is_left_alone_and_told_and_a_stopped_instance_can_be_bound() {
    let state = State {
        instances: vec![instance("i-a", "Running"), instance("i-b", "Stopped")],
        ..with(havip("InUse", &["i-a", "i-c"]))
    };
    assert_eq!(shown(&state, &Wanted { eip: None, ..wanted() }), ["bind instance i-b to havip-1"]);
    assert_eq!(strangers(&state, &wanted()), ["i-c"], "and told");
    assert_eq!(strangers(&with(havip("InUse", &["i-a", "i-b"])), &wanted()), Vec::<String>::new());
    assert_eq!(strangers(&nothing(), &wanted()), Vec::<String>::new());
    let moving = State { instances: vec![instance("i-a", "Running"), instance("i-b", "Stopping")], ..state };
    assert_eq!(shown(&moving, &Wanted { eip: None, ..wanted() })[0], "wait: instance i-b is Stopping");
}

#[test]
fn what_only_an_operator_can_clear_away_is_told() {
    let named = Wanted { havip: Some("havip-1".into()), ..wanted() };
    refused(&nothing(), &named, "there is no HaVip havip-1");
    let elsewhere = HaVip { address: Some([10, 0, 0, 6].into()), ..havip("Available", &[]) };
    refused(&with(elsewhere), &named, "has the address 10.0.0.6, and node.vips has 10.0.0.5");
    let other = HaVip { vswitch: Some("vsw-2".into()), ..havip("Available", &[]) };
    refused(&with(other), &named, "HaVip havip-1 is in the vSwitch vsw-2");
    let interfaces = HaVip { of_interfaces: true, ..havip("InUse", &["eni-1"]) };
    refused(&with(interfaces), &named, "network interfaces (eni-1)");

    let one = State { instances: vec![instance("i-a", "Running")], ..nothing() };
    refused(&one, &wanted(), "there is no instance i-b");
    let mut far = nothing();
    far.instances[1].vswitch = Some("vsw-2".into());
    refused(&far, &wanted(), "instance i-b is in the vSwitch vsw-2");

    refused(&State { eip: None, ..nothing() }, &wanted(), "there is no EIP eip-1");
    refused(&State { eip: Some(eip("InUse", Some("i-z"))), ..nothing() }, &wanted(), "is bound to i-z");
    let locked = Eip { locks: vec!["financial".into()], ..eip("Available", None) };
    refused(&State { eip: Some(locked), ..nothing() }, &wanted(), "locked (financial)");
    let taken = State { other_eips: vec!["eip-9".into()], ..with(havip("InUse", &["i-a", "i-b"])) };
    refused(&taken, &wanted(), "has another EIP, eip-9");
}

#[test]
fn all_obstacles_are_told_at_once() {
    let obstacles = plan(&State::default(), &Wanted { havip: Some("havip-1".into()), ..wanted() }).unwrap_err();
    assert_eq!(obstacles.len(), 4, "{obstacles:?}");
}
