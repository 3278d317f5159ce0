//! The double of Alibaba Cloud, seen from outside: Alibaba's own SDK for Python must get what it would get there, and
//! must be refused where it would be. All on the loopback interface.

mod broken;
mod logs;
mod metadata;
mod ours;
mod program;
mod provision;
mod sdk;
mod tampered;

use harbor_ha_tests::cloud::scenario::{Scenario, ids, no_cards, pair};
use harbor_ha_tests::cloud::{Double, Settings};
use serde_json::{Value, json};

use sdk::Sdk;

const A: &str = ids::INSTANCES[0];
const B: &str = ids::INSTANCES[1];

/// A double of the pair, whose changes take until they are settled.
fn double() -> Double {
    double_of(pair(no_cards()))
}

fn double_of(scenario: Scenario) -> Double {
    let any = "127.0.0.1:0".parse().unwrap();
    Double::start(&Settings { scenario, listen: vec![any], admin: any, garp: None }).unwrap()
}

/// What `DescribeHaVips` says about one.
fn havip(sdk: &mut Sdk, id: &str) -> Value {
    let request = json!({ "RegionId": ids::REGION, "Filter": [{ "Key": "HaVipId", "Value": [id] }] });
    let mut found = sdk.vpc("DescribeHaVips", request).unwrap();
    found["HaVips"]["HaVip"][0].take()
}

fn members(havip: &Value) -> Vec<&str> {
    let list = havip["AssociatedInstances"]["associatedInstance"].as_array();
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

fn with_region(mut request: Value) -> Value {
    request["RegionId"] = json!(ids::REGION);
    request
}

#[test]
fn the_sdk_makes_binds_unbinds_and_deletes_a_havip_over_its_transitions() {
    if !sdk::there("the_sdk_makes_binds_unbinds_and_deletes_a_havip_over_its_transitions") {
        return;
    }
    let double = double();
    let (mut sdk, remote) = (Sdk::start(double.listen()[0]), double.remote());
    let settle = || remote.order("settle", &Value::Null).unwrap();
    // A blank, which this SDK signs in one form and sends in another, and letters that are not ASCII.
    let create = with_region(json!({ "VSwitchId": ids::VSWITCH, "IpAddress": "10.77.0.50", "Name": "the pair's",
        "Description": "主备 of a pair: ~*'()!", "ClientToken": "token-1" }));
    let made = sdk.vpc("CreateHaVip", create.clone()).unwrap();
    let id = made["HaVipId"].as_str().unwrap().to_owned();
    assert_eq!(sdk.vpc("CreateHaVip", create.clone()).unwrap_err().code, "LastTokenProcessing");
    let bind = with_region(json!({ "HaVipId": id, "InstanceId": A, "InstanceType": "EcsInstance" }));
    assert_eq!(havip(&mut sdk, &id)["Status"], "Creating");
    assert_eq!(sdk.vpc("AssociateHaVip", bind.clone()).unwrap_err().code, "IncorrectHaVipStatus");
    settle();
    assert_eq!(sdk.vpc("CreateHaVip", create).unwrap()["HaVipId"], id, "the same call again");
    let seen = havip(&mut sdk, &id);
    assert_eq!((&seen["Status"], &seen["Description"]), (&json!("Available"), &json!("主备 of a pair: ~*'()!")));
    sdk.vpc("AssociateHaVip", bind.clone()).unwrap();
    assert_eq!(havip(&mut sdk, &id)["Status"], "Associating");
    settle();
    let seen = havip(&mut sdk, &id);
    assert_eq!((&seen["Status"], members(&seen)), (&json!("InUse"), vec![A]), "the SDK knows the odd names");
    sdk.vpc("UnassociateHaVip", bind.clone()).unwrap();
    assert_eq!(havip(&mut sdk, &id)["Status"], "Unassociating");
    settle();
    assert_eq!(sdk.vpc("UnassociateHaVip", bind).unwrap_err().code, "ResourceNotAssociated");
    let rename = with_region(json!({ "HaVipId": id, "Name": "another" }));
    sdk.vpc("ModifyHaVipAttribute", rename).unwrap();
    assert_eq!(havip(&mut sdk, &id)["Name"], "another");
    sdk.vpc("DeleteHaVip", with_region(json!({ "HaVipId": id }))).unwrap();
    settle();
    let gone = sdk.vpc("DeleteHaVip", with_region(json!({ "HaVipId": id }))).unwrap_err();
    assert_eq!((&*gone.code, gone.status), ("InvalidHaVipId.NotFound", Some(404)));
}

#[test]
fn the_sdk_takes_a_master_away_only_by_force() {
    if !sdk::there("the_sdk_takes_a_master_away_only_by_force") {
        return;
    }
    let double = double();
    let (mut sdk, remote) = (Sdk::start(double.listen()[0]), double.remote());
    assert_eq!(havip(&mut sdk, ids::HAVIP).get("MasterInstanceId"), None, "nobody has announced it");
    let card = &no_cards()[1];
    remote.order("announce", &json!({ "address": "10.77.0.100", "mac": card })).unwrap();
    assert_eq!(havip(&mut sdk, ids::HAVIP)["MasterInstanceId"], B);
    let request = with_region(json!({ "HaVipId": ids::HAVIP, "InstanceId": B }));
    assert_eq!(sdk.vpc("UnassociateHaVip", request.clone()).unwrap_err().code, "Forbidden.UnassociateMaster");
    let mut force = request;
    force["Force"] = json!("True");
    sdk.vpc("UnassociateHaVip", force).unwrap();
    remote.order("settle", &Value::Null).unwrap();
    assert_eq!(members(&havip(&mut sdk, ids::HAVIP)), [A]);
    assert_eq!(remote.master(ids::HAVIP).unwrap(), None);
}

#[test]
fn the_sdk_binds_a_public_address() {
    if !sdk::there("the_sdk_binds_a_public_address") {
        return;
    }
    let double = double();
    let (mut sdk, remote) = (Sdk::start(double.listen()[0]), double.remote());
    let request = |eip| with_region(json!({ "AllocationId": eip, "InstanceId": ids::HAVIP, "InstanceType": "HaVip" }));
    assert_eq!(
        sdk.vpc("AssociateEipAddress", request(ids::FREE_EIP)).unwrap_err().code,
        "InvalidAssociation.Duplicated"
    );
    sdk.vpc("UnassociateEipAddress", request(ids::EIP)).unwrap();
    assert_eq!(sdk.vpc("UnassociateEipAddress", request(ids::EIP)).unwrap_err().code, "IncorrectEipStatus");
    remote.order("settle", &Value::Null).unwrap();
    sdk.vpc("AssociateEipAddress", request(ids::FREE_EIP)).unwrap();
    remote.order("settle", &Value::Null).unwrap();
    let of_havip = json!({ "AssociatedInstanceType": "HaVip", "AssociatedInstanceId": ids::HAVIP });
    let found = sdk.vpc("DescribeEipAddresses", with_region(of_havip)).unwrap();
    let eip = &found["EipAddresses"]["EipAddress"][0];
    assert_eq!((&eip["AllocationId"], &eip["Status"]), (&json!(ids::FREE_EIP), &json!("InUse")));
    assert_eq!((&eip["Bandwidth"], &found["TotalCount"]), (&json!("5"), &json!(1)));
    assert_eq!(havip(&mut sdk, ids::HAVIP)["AssociatedEipAddresses"]["associatedEipAddresse"], json!(["203.0.113.11"]));
}

#[test]
fn the_sdk_stops_an_instance_and_reads_what_became_of_it() {
    if !sdk::there("the_sdk_stops_an_instance_and_reads_what_became_of_it") {
        return;
    }
    let double = double();
    let (mut sdk, remote) = (Sdk::start(double.listen()[0]), double.remote());
    let stop = |dry| json!({ "InstanceId": B, "ForceStop": true, "StoppedMode": "KeepCharging", "DryRun": dry });
    let status = |sdk: &mut Sdk| {
        let found = sdk.ecs("DescribeInstanceStatus", with_region(json!({ "InstanceId": [A, B] }))).unwrap();
        let list = found["InstanceStatuses"]["InstanceStatus"].as_array().unwrap().clone();
        list.iter().map(|it| it["Status"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(sdk.ecs("StopInstance", stop(true)).unwrap_err().code, "DryRunOperation");
    assert_eq!(status(&mut sdk), ["Running", "Running"]);
    sdk.ecs("StopInstance", stop(false)).unwrap();
    assert_eq!(status(&mut sdk), ["Running", "Stopping"]);
    assert_eq!(sdk.ecs("StopInstance", stop(false)).unwrap_err().code, "IncorrectInstanceStatus");
    remote.order("settle", &Value::Null).unwrap();
    assert_eq!(status(&mut sdk), ["Running", "Stopped"]);
    let found = sdk.ecs("DescribeInstances", with_region(json!({ "InstanceIds": format!("[\"{B}\"]") }))).unwrap();
    let instance = &found["Instances"]["Instance"][0];
    assert_eq!((&instance["Status"], &instance["StoppedMode"]), (&json!("Stopped"), &json!("KeepCharging")));
    assert_eq!(instance["VpcAttributes"]["VSwitchId"], ids::VSWITCH);
    assert_eq!(instance["SecurityGroupIds"]["SecurityGroupId"], json!([ids::GROUP]));
    let group = with_region(json!({ "SecurityGroupId": ids::GROUP, "Direction": "ingress" }));
    let group = sdk.ecs("DescribeSecurityGroupAttribute", group).unwrap();
    assert_eq!(group["Permissions"]["Permission"][0]["IpProtocol"], "UDP");
    sdk.ecs("StartInstance", json!({ "InstanceId": B })).unwrap();
    remote.order("settle", &Value::Null).unwrap();
    sdk.ecs("RebootInstance", json!({ "InstanceId": B, "ForceStop": true })).unwrap();
    assert_eq!(status(&mut sdk), ["Running", "Starting"]);
}

#[test]
fn the_sdk_is_refused_with_a_wrong_key_a_wrong_secret_and_a_token_that_is_over() {
    if !sdk::there("the_sdk_is_refused_with_a_wrong_key_a_wrong_secret_and_a_token_that_is_over") {
        return;
    }
    let mut scenario = pair(no_cards());
    let token = |value: &str, expires| {
        let mut key = scenario.key[ids::KEY].clone();
        key.token = Some(harbor_ha_tests::cloud::keys::Token { value: value.into(), expires });
        key
    };
    let (lasting, over) = (token("dummysecret-lasting", i64::MAX), token("dummysecret-over", 1));
    scenario.key.extend([("STS.lasting".to_owned(), lasting), ("STS.over".to_owned(), over)]);
    let double = double_of(scenario);
    let mut sdk = Sdk::start(double.listen()[0]);
    let mut with = |id: &str, secret: &str, token: Option<&str>| {
        sdk.key = Some((id.to_owned(), secret.to_owned()));
        sdk.token = token.map(str::to_owned);
        sdk.vpc("DescribeHaVips", json!({ "RegionId": ids::REGION })).map_err(|refused| refused.code)
    };
    let (owner, refused) = ("dummysecret-of-owner", |code: &str| Err(code.to_owned()));
    assert_eq!(with("LTAI-nobody", owner, None), refused("InvalidAccessKeyId.NotFound"));
    assert_eq!(with(ids::KEY, "dummysecret-of-another", None), refused("SignatureDoesNotMatch"));
    assert_eq!(with("STS.over", owner, Some("dummysecret-over")), refused("InvalidSecurityToken.Expired"));
    assert_eq!(with("STS.lasting", owner, None), refused("MissingSecurityToken"));
    assert_eq!(with("STS.lasting", owner, Some("other")), refused("InvalidSecurityToken.MismatchWithAccessKey"));
    with("STS.lasting", owner, Some("dummysecret-lasting")).unwrap();
    with(ids::KEY, owner, None).unwrap();
    let journal = double.remote().journal().unwrap();
    let outcomes: Vec<&str> = journal.iter().map(|entry| entry.outcome.as_str()).collect();
    assert_eq!(outcomes.iter().filter(|it| **it == "ok").count(), 2, "{outcomes:?}");
    // Who could not prove to be somebody is nobody.
    assert!(journal.iter().all(|entry| entry.who.is_some() == (entry.outcome == "ok")), "{journal:?}");
    assert!(!format!("{journal:?}").contains(harbor_ha_tests::cloud::keys::MARK), "a secret is in the journal");
}

#[test]
fn the_sdk_is_told_what_ram_does_not_allow() {
    if !sdk::there("the_sdk_is_told_what_ram_does_not_allow") {
        return;
    }
    let mut scenario = pair(no_cards());
    let policy = json!({ "Version": "1", "Statement": [
        { "Effect": "Allow", "Action": ["vpc:DescribeHaVips"], "Resource": "*" }] });
    scenario.key.get_mut(ids::KEY).unwrap().policy = Some(serde_json::from_value(policy).unwrap());
    let double = double_of(scenario);
    let mut sdk = Sdk::start(double.listen()[0]);
    assert_eq!(havip(&mut sdk, ids::HAVIP)["Status"], "InUse");
    let request = with_region(json!({ "HaVipId": ids::HAVIP, "InstanceId": B }));
    let refused = sdk.vpc("UnassociateHaVip", request).unwrap_err();
    assert_eq!((&*refused.code, refused.status), ("Forbidden.RAM", Some(403)), "{refused}");
}
