//! What the faults of the double look like to a client that is not ours.

use harbor_ha_tests::cloud::fault::Fault;
use harbor_ha_tests::cloud::scenario::ids;
use serde_json::{Value, json};

use super::sdk::{self, Sdk};
use super::{double, havip, with_region};

fn fault(text: Value) -> Fault {
    serde_json::from_value(text).unwrap()
}

#[test]
fn each_fault_reaches_the_sdk_and_is_over_when_it_is_used_up() {
    if !sdk::there("each_fault_reaches_the_sdk_and_is_over_when_it_is_used_up") {
        return;
    }
    let double = double();
    let (mut sdk, remote) = (Sdk::start(double.listen()[0]), double.remote());
    for (kind, code, status) in [
        (json!({ "throttle": {} }), "Throttling.User", Some(400)),
        (json!({ "throttle": { "retry-after-ms": 50 } }), "Throttling.User", Some(400)),
        (json!({ "error": { "status": 503, "code": "ServiceUnavailable" } }), "ServiceUnavailable", Some(503)),
        (json!({ "error": { "status": 500, "code": "InternalError" } }), "InternalError", Some(500)),
        (json!("truncated"), "", None),
        (json!("garbage"), "", None),
        (json!("reset"), "", None),
        // As long as the SDK waits: two seconds, by `sdk.py`.
        (json!("black-hole"), "", None),
    ] {
        remote.fault(&fault(json!({ "action": "DescribeHaVips", "times": 1, "kind": kind }))).unwrap();
        let refused = sdk.vpc("DescribeHaVips", json!({ "RegionId": ids::REGION })).unwrap_err();
        if !code.is_empty() {
            assert_eq!((&*refused.code, refused.status), (code, status), "{kind}: {refused}");
        }
        assert_eq!(havip(&mut sdk, ids::HAVIP)["Status"], "InUse", "after {kind}");
    }
    remote.fault(&fault(json!({ "times": 1, "kind": { "wrong-status": { "status": 404 } } }))).unwrap();
    sdk.vpc("DescribeHaVips", json!({ "RegionId": ids::REGION })).unwrap_err();
    remote.fault(&fault(json!({ "times": 1, "kind": { "slow": { "ms": 300 } } }))).unwrap();
    sdk.vpc("DescribeHaVips", json!({ "RegionId": ids::REGION })).unwrap();
}

#[test]
fn what_was_done_before_its_answer_was_lost_is_found_done() {
    if !sdk::there("what_was_done_before_its_answer_was_lost_is_found_done") {
        return;
    }
    let double = double();
    let (mut sdk, remote) = (Sdk::start(double.listen()[0]), double.remote());
    let create = with_region(json!({ "VSwitchId": ids::VSWITCH, "ClientToken": "lost" }));
    remote.fault(&fault(json!({ "action": "CreateHaVip", "times": 1, "after": true, "kind": "truncated" }))).unwrap();
    sdk.vpc("CreateHaVip", create.clone()).unwrap_err();
    remote.order("settle", &Value::Null).unwrap();
    let made = sdk.vpc("CreateHaVip", create).unwrap();
    let all = sdk.vpc("DescribeHaVips", json!({ "RegionId": ids::REGION })).unwrap();
    assert_eq!(all["TotalCount"], 2, "one of the scenario, one that was made once");
    assert_eq!(havip(&mut sdk, made["HaVipId"].as_str().unwrap())["Status"], "Available");
}
