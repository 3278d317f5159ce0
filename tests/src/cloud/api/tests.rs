//! The actions, with their refusals and what they leave behind; no HTTP, no signature, no time but the one that is told.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::error::ApiError;
use super::super::garp;
use super::super::keys::Caller;
use super::super::ram::Policy;
use super::super::scenario::{ids, no_cards, pair};
use super::super::verify::Received;
use super::super::world::{Heard, World};
use super::{ACTIONS, allowed};

const A: &str = ids::INSTANCES[0];
const B: &str = ids::INSTANCES[1];
const START: Duration = Duration::ZERO;

fn world() -> World {
    World::new(&pair(no_cards()))
}

fn owner() -> Caller {
    Caller { key_id: ids::KEY.into(), user: "owner".into(), policy: None }
}

fn as_user(caller: &Caller, world: &mut World, name: &str, parameters: &[(&str, &str)]) -> Result<Value, ApiError> {
    let action = ACTIONS.iter().find(|action| action.name == name).expect(name);
    // Nothing in these tests needs an escape but JSON's brackets, and who is asked decodes what is none.
    let pairs = parameters.iter().map(|(name, value)| format!("{name}={value}"));
    let query = pairs.chain([format!("RegionId={}", ids::REGION)]).collect::<Vec<_>>().join("&");
    allowed(world, action, &Received { query, ..Received::default() }, caller, START)
}

fn call(world: &mut World, name: &str, parameters: &[(&str, &str)]) -> Result<Value, ApiError> {
    as_user(&owner(), world, name, parameters)
}

fn code(world: &mut World, name: &str, parameters: &[(&str, &str)]) -> String {
    call(world, name, parameters).expect_err(name).code
}

fn havip(world: &mut World, id: &str) -> Value {
    let found = call(world, "DescribeHaVips", &[("Filter.1.Key", "HaVipId"), ("Filter.1.Value.1", id)]).unwrap();
    found["HaVips"]["HaVip"][0].clone()
}

const BOTH: [(&str, &str); 2] = [("HaVipId", ids::HAVIP), ("InstanceId", B)];

#[test]
fn a_havip_comes_to_be_in_time_and_goes_in_time() {
    let mut world = world();
    let made = call(&mut world, "CreateHaVip", &[("VSwitchId", ids::VSWITCH), ("IpAddress", "10.77.0.50")]).unwrap();
    let id = made["HaVipId"].as_str().unwrap().to_owned();
    assert_eq!(made["IpAddress"], "10.77.0.50");
    assert_eq!(havip(&mut world, &id)["Status"], "Creating");
    let bind = [("HaVipId", &*id), ("InstanceId", A)];
    for action in ["AssociateHaVip", "UnassociateHaVip"] {
        assert_eq!(code(&mut world, action, &bind), "IncorrectHaVipStatus");
    }
    assert_eq!(code(&mut world, "DeleteHaVip", &bind[..1]), "IncorrectHaVipStatus");
    world.settle_all();
    assert_eq!(havip(&mut world, &id)["Status"], "Available");
    assert_eq!(havip(&mut world, &id).get("MasterInstanceId"), None);
    call(&mut world, "DeleteHaVip", &bind[..1]).unwrap();
    assert_eq!(havip(&mut world, &id)["Status"], "Deleting");
    world.settle_all();
    assert_eq!(havip(&mut world, &id), Value::Null);
    assert_eq!(code(&mut world, "DeleteHaVip", &bind[..1]), "InvalidHaVipId.NotFound");
}

#[test]
fn an_address_for_a_havip_must_be_free_inside_and_not_the_vswitchs_own() {
    let mut world = world();
    for (address, why) in [
        ("10.77.0.100", "AlreadyUsed"),
        ("10.77.0.1", "AlreadyUsed"),
        ("10.78.0.9", "OutOfRange"),
        ("10.77.0.0", "NotAvailable"),
        ("10.77.0.253", "NotAvailable"),
        ("10.77.0", "Malformed"),
    ] {
        let found = code(&mut world, "CreateHaVip", &[("VSwitchId", ids::VSWITCH), ("IpAddress", address)]);
        assert_eq!(found, format!("InvalidIPAddress.{why}"), "{address}");
    }
    assert_eq!(code(&mut world, "CreateHaVip", &[("VSwitchId", "vsw-none")]), "InvalidVSwitch.NotFound");
    assert_eq!(code(&mut world, "CreateHaVip", &[]), "MissingVSwitchId");
    let any = call(&mut world, "CreateHaVip", &[("VSwitchId", ids::VSWITCH)]).unwrap();
    assert_eq!(any["IpAddress"], "10.77.0.3");
}

#[test]
fn binding_and_unbinding_are_seen_in_the_list_only_when_they_are_over() {
    let mut world = world();
    call(&mut world, "UnassociateHaVip", &BOTH).unwrap();
    let during = havip(&mut world, ids::HAVIP);
    assert_eq!(
        (&during["Status"], &during["AssociatedInstances"]),
        (&json!("Unassociating"), &json!({ "associatedInstance": [A, B] }))
    );
    assert_eq!(code(&mut world, "AssociateHaVip", &BOTH), "IncorrectHaVipStatus", "not concurrent");
    world.settle_all();
    assert_eq!(havip(&mut world, ids::HAVIP)["AssociatedInstances"]["associatedInstance"], json!([A]));
    assert_eq!(code(&mut world, "UnassociateHaVip", &BOTH), "ResourceNotAssociated");
    call(&mut world, "AssociateHaVip", &BOTH).unwrap();
    let during = havip(&mut world, ids::HAVIP);
    assert_eq!(
        (&during["Status"], &during["AssociatedInstances"]["associatedInstance"]),
        (&json!("Associating"), &json!([A]))
    );
    world.settle_all();
    let after = havip(&mut world, ids::HAVIP);
    assert_eq!(
        (&after["Status"], &after["AssociatedInstances"]["associatedInstance"]),
        (&json!("InUse"), &json!([A, B]))
    );
    assert_eq!(after["AssociatedEipAddresses"]["associatedEipAddresse"], json!(["203.0.113.10"]));
    assert_eq!(code(&mut world, "AssociateHaVip", &BOTH), "OperationDenied");
}

#[test]
fn binding_asks_for_an_instance_of_the_same_vswitch_that_is_in_no_transition() {
    let mut world = world();
    let bind = |id| [("HaVipId", ids::HAVIP), ("InstanceId", id)];
    assert_eq!(code(&mut world, "AssociateHaVip", &bind("i-none")), "InvalidInstanceId.NotFound");
    assert_eq!(code(&mut world, "AssociateHaVip", &bind(ids::STRANGER)), "InvalidParameter.Mismatch");
    call(&mut world, "StopInstance", &[("InstanceId", B), ("StoppedMode", "KeepCharging")]).unwrap();
    assert_eq!(code(&mut world, "UnassociateHaVip", &bind(B)), "IncorrectInstanceStatus", "Stopping");
    world.settle_all();
    call(&mut world, "UnassociateHaVip", &bind(B)).unwrap();
}

#[test]
fn an_instance_has_five_havips_at_most() {
    let mut world = world();
    for number in 0..5 {
        let id = call(&mut world, "CreateHaVip", &[("VSwitchId", ids::VSWITCH)]).unwrap()["HaVipId"].clone();
        world.settle_all();
        let bound = call(&mut world, "AssociateHaVip", &[("HaVipId", id.as_str().unwrap()), ("InstanceId", A)]);
        world.settle_all();
        // It has one from the start.
        let wanted = if number < 4 { None } else { Some("CountLimitExceed.HaVipOnInstance".to_owned()) };
        assert_eq!(bound.err().map(|error| error.code), wanted, "{number}");
    }
}

#[test]
fn who_announces_is_master_if_he_is_bound_and_the_api_takes_a_master_only_by_force() {
    let mut world = world();
    let (vip, [a, b]) = ([10, 77, 0, 100].into(), no_cards().map(|text| garp::mac(&text).unwrap()));
    world.hear(START, vip, b);
    assert_eq!(havip(&mut world, ids::HAVIP)["MasterInstanceId"], B);
    assert_eq!(code(&mut world, "UnassociateHaVip", &BOTH), "Forbidden.UnassociateMaster");
    let force = |word| [BOTH[0], BOTH[1], ("Force", word)];
    assert_eq!(code(&mut world, "UnassociateHaVip", &force("False")), "Forbidden.UnassociateMaster");
    assert_eq!(code(&mut world, "UnassociateHaVip", &force("yes")), "InvalidParameter.Force");
    call(&mut world, "UnassociateHaVip", &force("True")).unwrap();
    assert_eq!(havip(&mut world, ids::HAVIP)["MasterInstanceId"], B, "until it is over");
    world.settle_all();
    assert_eq!(havip(&mut world, ids::HAVIP).get("MasterInstanceId"), None);
    world.hear(START, vip, b);
    assert_eq!(havip(&mut world, ids::HAVIP).get("MasterInstanceId"), None, "no longer bound");
    world.hear(START, vip, [9; 6]);
    world.hear(START, [10, 77, 0, 99].into(), a);
    world.hear(START, vip, a);
    world.hear(START, vip, a);
    let outcomes: Vec<Heard> = world.announcements.iter().map(|it| it.outcome).collect();
    assert_eq!(outcomes, [Heard::Moved, Heard::NotBound, Heard::NotBound, Heard::Moved, Heard::Same]);
}

#[test]
fn announcements_are_overheard_as_often_as_a_test_wants_and_a_stuck_havip_stays() {
    let mut world = world();
    let (vip, [a, b]) = ([10, 77, 0, 100].into(), no_cards().map(|text| garp::mac(&text).unwrap()));
    world.quirks.ignore_announcements = 2;
    (0..3).for_each(|_| world.hear(START, vip, a));
    world.quirks.havip_stuck.insert(ids::HAVIP.into());
    world.hear(START, vip, b);
    let outcomes: Vec<Heard> = world.announcements.iter().map(|it| it.outcome).collect();
    assert_eq!(outcomes, [Heard::Ignored, Heard::Ignored, Heard::Moved, Heard::Ignored]);
    assert_eq!(havip(&mut world, ids::HAVIP)["MasterInstanceId"], A);
}

#[test]
fn a_call_with_the_token_of_an_earlier_one_is_that_call() {
    let mut world = world();
    let create = [("VSwitchId", ids::VSWITCH), ("ClientToken", "one")];
    let first = call(&mut world, "CreateHaVip", &create).unwrap();
    assert_eq!(code(&mut world, "CreateHaVip", &create), "LastTokenProcessing");
    world.settle_all();
    assert_eq!(call(&mut world, "CreateHaVip", &create).unwrap(), first);
    assert_eq!(world.havips.len(), 2);
    let other = [("VSwitchId", ids::VSWITCH), ("ClientToken", "one"), ("Name", "x")];
    assert_eq!(code(&mut world, "CreateHaVip", &other), "IdempotentParameterMismatch");
    assert_eq!(
        code(&mut world, "CreateHaVip", &[create[0], ("ClientToken", &*"x".repeat(65))]),
        "InvalidParameter.ClientToken"
    );
    // One that was refused may be sent again with the same token.
    let bind = [BOTH[0], BOTH[1], ("ClientToken", "two")];
    assert_eq!(code(&mut world, "AssociateHaVip", &bind), "OperationDenied");
    call(&mut world, "UnassociateHaVip", &BOTH).unwrap();
    world.settle_all();
    call(&mut world, "AssociateHaVip", &bind).unwrap();
    world.settle_all();
    call(&mut world, "AssociateHaVip", &bind).unwrap();
    assert_eq!(havip(&mut world, ids::HAVIP)["Status"], "InUse", "nothing was begun again");
}

#[test]
fn lists_are_filtered_and_come_in_pages() {
    let mut world = world();
    for _ in 0..4 {
        call(&mut world, "CreateHaVip", &[("VSwitchId", ids::VSWITCH)]).unwrap();
    }
    let page = call(&mut world, "DescribeHaVips", &[("PageSize", "2"), ("PageNumber", "3")]).unwrap();
    assert_eq!((page["TotalCount"].as_u64(), page["HaVips"]["HaVip"].as_array().unwrap().len()), (Some(5), 1));
    let filter = [
        ("Filter.1.Key", "Status"),
        ("Filter.1.Value.1", "Available"),
        ("Filter.1.Value.2", "Creating"),
        ("Filter.2.Key", "HaVipAddress"),
        ("Filter.2.Value.1", "10.77.0.4"),
    ];
    assert_eq!(call(&mut world, "DescribeHaVips", &filter).unwrap()["TotalCount"], 1);
    let odd = [("Filter.1.Key", "Colour"), ("Filter.1.Value.1", "red")];
    assert_eq!(code(&mut world, "DescribeHaVips", &odd), "InvalidFilterKey.ValueNotSupported");
    assert_eq!(code(&mut world, "DescribeHaVips", &[("PageSize", "51")]), "InvalidParameter.PageSize");
}

#[test]
fn an_eip_is_bound_to_one_havip_and_each_havip_has_one() {
    let mut world = world();
    let bind = |eip| [("AllocationId", eip), ("InstanceId", ids::HAVIP), ("InstanceType", "HaVip")];
    assert_eq!(code(&mut world, "AssociateEipAddress", &bind(ids::EIP)), "IncorrectEipStatus");
    assert_eq!(code(&mut world, "AssociateEipAddress", &bind(ids::FREE_EIP)), "InvalidAssociation.Duplicated");
    assert_eq!(code(&mut world, "AssociateEipAddress", &bind("eip-none")), "InvalidAllocationId.NotFound");
    call(&mut world, "UnassociateEipAddress", &bind(ids::EIP)).unwrap();
    assert_eq!(code(&mut world, "UnassociateEipAddress", &bind(ids::EIP)), "IncorrectEipStatus");
    world.settle_all();
    call(&mut world, "AssociateEipAddress", &bind(ids::FREE_EIP)).unwrap();
    assert_eq!(code(&mut world, "AssociateEipAddress", &bind(ids::EIP)), "InvalidAssociation.Duplicated");
    let of_havip = [("AssociatedInstanceType", "HaVip"), ("AssociatedInstanceId", ids::HAVIP)];
    assert_eq!(call(&mut world, "DescribeEipAddresses", &of_havip).unwrap()["TotalCount"], 0);
    world.settle_all();
    let found = call(&mut world, "DescribeEipAddresses", &of_havip).unwrap();
    let eip = &found["EipAddresses"]["EipAddress"][0];
    assert_eq!(
        (&eip["AllocationId"], &eip["Status"], &eip["Bandwidth"]),
        (&json!(ids::FREE_EIP), &json!("InUse"), &json!("5"))
    );
    assert_eq!(eip["PrivateIpAddress"], "10.77.0.100");
}

#[test]
fn an_instance_stops_over_a_status_in_which_nothing_else_is_done_and_a_dry_run_is_an_error() {
    let mut world = world();
    let stop = [("InstanceId", B), ("ForceStop", "true"), ("StoppedMode", "KeepCharging")];
    let dry = [("InstanceId", B), ("DryRun", "true")];
    assert_eq!(code(&mut world, "StopInstance", &dry), "DryRunOperation");
    assert_eq!(world.instances[B].status, "Running");
    call(&mut world, "StopInstance", &stop).unwrap();
    assert_eq!(world.instances[B].status, "Stopping");
    for action in ["StopInstance", "StartInstance", "RebootInstance"] {
        let refusal = call(&mut world, action, &stop).unwrap_err();
        assert_eq!((refusal.status, &*refusal.code), (403, "IncorrectInstanceStatus"));
    }
    world.settle_all();
    let seen = call(&mut world, "DescribeInstanceStatus", &[("InstanceId.1", B)]).unwrap();
    assert_eq!(seen["InstanceStatuses"]["InstanceStatus"], json!([{ "InstanceId": B, "Status": "Stopped" }]));
    let seen = call(&mut world, "DescribeInstances", &[("InstanceIds", &format!("[\"{B}\"]"))]).unwrap();
    assert_eq!(seen["Instances"]["Instance"][0]["StoppedMode"], "KeepCharging");
    call(&mut world, "StartInstance", &stop[..1]).unwrap();
    world.settle_all();
    call(&mut world, "RebootInstance", &stop[..2]).unwrap();
    assert_eq!(world.instances[B].status, "Starting");
    world.settle_all();
    world.instances.get_mut(B).unwrap().locked = true;
    assert_eq!(code(&mut world, "StopInstance", &stop), "InstanceLockedForSecurity");
    assert_eq!(code(&mut world, "StopInstance", &[("InstanceId", "i-none")]), "InvalidInstanceId.NotFound");
}

#[test]
fn a_stuck_transition_ends_when_the_fault_does_and_a_due_one_by_itself() {
    let mut world = world();
    world.transition = Some(Duration::from_secs(1));
    world.quirks.stuck.insert(ids::HAVIP.into());
    call(&mut world, "UnassociateHaVip", &BOTH).unwrap();
    world.settle(Duration::from_secs(9));
    assert_eq!(havip(&mut world, ids::HAVIP)["Status"], "Unassociating");
    world.quirks.stuck.clear();
    world.settle(Duration::from_millis(999));
    assert_eq!(havip(&mut world, ids::HAVIP)["Status"], "Unassociating");
    world.settle(Duration::from_secs(1));
    assert_eq!(havip(&mut world, ids::HAVIP)["Status"], "InUse");
    world.quirks.shown.insert(ids::HAVIP.into(), "Inuse".into());
    assert_eq!(havip(&mut world, ids::HAVIP)["Status"], "Inuse");
}

#[test]
fn the_documented_policy_is_enough_for_binding_and_for_nothing_else() {
    let policy: Policy = serde_json::from_value(json!({ "Version": "1", "Statement": [
        { "Effect": "Allow", "Action": ["vpc:DescribeHaVips"], "Resource": "acs:vpc:cn-double-1:1000000000000001:havip/*" },
        { "Effect": "Allow", "Action": ["vpc:AssociateHaVip", "vpc:UnassociateHaVip"], "Resource": [
            "acs:vpc:cn-double-1:1000000000000001:havip/havip-double",
            "acs:vpc:cn-double-1:1000000000000001:instance/*"] },
        { "Effect": "Allow", "Action": "ecs:StopInstance",
          "Resource": "acs:ecs:cn-double-1:1000000000000001:instance/i-double-b" },
    ]}))
    .unwrap();
    let (mut world, user) = (world(), Caller { policy: Some(policy), ..owner() });
    as_user(&user, &mut world, "DescribeHaVips", &[]).unwrap();
    as_user(&user, &mut world, "UnassociateHaVip", &BOTH).unwrap();
    let mut refused = |name: &str, parameters: &[(&str, &str)]| {
        let error = as_user(&user, &mut world, name, parameters).expect_err(name);
        (error.status, error.code.clone(), error.denied.expect("RAM says what").resource)
    };
    let what = |resource: &str| (403, "Forbidden.RAM".to_owned(), format!("acs:{resource}"));
    let other = [("HaVipId", "havip-other"), ("InstanceId", B)];
    assert_eq!(refused("AssociateHaVip", &other), what("vpc:cn-double-1:1000000000000001:havip/havip-other"));
    assert_eq!(
        refused("StopInstance", &[("InstanceId", A)]),
        what("ecs:cn-double-1:1000000000000001:instance/i-double-a")
    );
    assert_eq!(refused("CreateHaVip", &[]), what("vpc:cn-double-1:1000000000000001:havip/*"));
    assert_eq!(refused("DescribeEipAddresses", &[]), what("vpc:cn-double-1:1000000000000001:eip/*"));
}

#[test]
fn a_region_that_is_not_this_one_is_not_found() {
    let mut world = world();
    let action = ACTIONS.iter().find(|action| action.name == "DescribeHaVips").unwrap();
    let in_region = |query: &str| Received { query: query.into(), ..Received::default() };
    let mut judged = |query| allowed(&mut world, action, &in_region(query), &owner(), START).unwrap_err().code;
    assert_eq!(judged("RegionId=cn-hangzhou"), "InvalidRegionId.NotFound");
    assert_eq!(judged(""), "MissingRegionId");
    assert_eq!(judged("RegionId=a&RegionId=a"), "InvalidParameter.RegionId");
}
