//! The metadata service: the credentials package asks it at its own address, 100.100.100.200, in a network namespace.

use std::process::Command;

use harbor_ha_tests::cloud::scenario::{ids, no_cards, pair};
use harbor_ha_tests::cloud::{Double, Settings};
use harbor_ha_tests::lab::need::{self, Need};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use super::sdk::{self, Sdk};

/// A network namespace without a name: it ends with the last process in it.
fn in_a_namespace(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            for words in ["link set lo up", "address add 100.100.100.200/32 dev lo"] {
                assert!(Command::new("ip").args(words.split(' ')).status().unwrap().success(), "ip {words}");
            }
            test();
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn the_sdk_gets_the_keys_of_the_role_and_is_refused_when_they_are_over() {
    let name = "the_sdk_gets_the_keys_of_the_role_and_is_refused_when_they_are_over";
    if !need::has(name, &[Need::Root, Need::Tool("ip")]) || !sdk::there(name) {
        return;
    }
    in_a_namespace(|| {
        let listen = ["100.100.100.200:80", "127.0.0.1:0"].map(|it| it.parse().unwrap()).to_vec();
        let admin = "127.0.0.1:0".parse().unwrap();
        let scenario = pair(no_cards());
        let double = Double::start(&Settings { scenario, listen, admin, garp: None }).unwrap();
        let remote = double.remote();
        let mut sdk = Sdk::start(double.listen()[1]);
        sdk.key = None;
        let found = sdk.role().unwrap();
        assert_eq!(found, json!({ "id": "STS.double0001", "provider": "ecs_ram_role", "token": true }));
        let describe = json!({ "RegionId": ids::REGION });
        assert_eq!(sdk.vpc("DescribeHaVips", describe.clone()).unwrap()["TotalCount"], 1);
        let journal = remote.journal().unwrap();
        let last = journal.last().unwrap();
        assert_eq!(last.who, Some(("STS.double0001".into(), ids::ROLE.into())));
        assert!(journal.iter().filter(|it| it.service == "metadata").all(|it| it.outcome == "ok"), "{journal:?}");
        assert!(!format!("{journal:?}").contains("dummysecret"), "a secret is in the journal");
        // Each of these calls makes a new client, which asks the metadata service anew.
        remote.order("expire-tokens", &Value::Null).unwrap();
        assert_eq!(sdk.role().unwrap()["id"], "STS.double0002");
        sdk.vpc("DescribeHaVips", describe.clone()).unwrap();
        // Without the metadata service there is no key, and no call.
        remote.fault(&serde_json::from_value(json!({ "service": "metadata", "kind": "reset" })).unwrap()).unwrap();
        sdk.vpc("DescribeHaVips", describe).unwrap_err();
    });
}
