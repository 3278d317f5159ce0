//! `harbor-ha havip` where there is no cloud: what it says, and with which status.

use crate::place::Place;

/// Port 1 of this host, where nobody listens.
const NOBODY: &str = "[cloud]\nhavip = \"auto\"\npeer_instance = \"i-peer\"\ncredentials = \"file\"\n\
     vpc_endpoint = \"http://127.0.0.1:1\"\necs_endpoint = \"http://127.0.0.1:1\"\nmetadata_endpoint = \"http://127.0.0.1:1\"\n";

const COMMANDS: [&[&str]; 7] = [
    &["show"],
    &["verify"],
    &["provision", "--dry-run"],
    &["bind", "peer"],
    &["unbind", "peer"],
    &["bind-eip"],
    &["policy"],
];

#[test]
fn without_its_table_every_command_is_78_and_says_which() {
    let place = Place::new("eth0");
    for command in COMMANDS {
        let (code, text) = place.order("havip", command);
        assert!(code == Some(78) && text.contains("has no [cloud]"), "{command:?} {code:?}: {text}");
    }
}

#[test]
fn arguments_that_are_none_are_64() {
    let place = Place::new("eth0");
    place.add(NOBODY);
    let wrong: [&[&str]; 5] = [&[], &["shwo"], &["bind"], &["bind", "the-other"], &["policy", "now"]];
    for command in wrong {
        let (code, text) = place.order("havip", command);
        assert_eq!(code, Some(64), "{command:?}: {text}");
    }
}

#[test]
fn what_cannot_be_learnt_is_69_and_says_what_to_set() {
    let place = Place::new("eth0");
    place.add(NOBODY);
    for command in [&["show"][..], &["provision"], &["bind", "peer"]] {
        let (code, text) = place.order("havip", command);
        assert!(
            code == Some(69) && text.contains("is \"auto\", and instance metadata at 127.0.0.1:1"),
            "{code:?}: {text}"
        );
    }
}

#[test]
fn verify_says_all_that_it_does_not_know_and_what_is_wrong_with_the_keys() {
    let place = Place::new("eth0");
    let keys = place.secret("keys", "access_key_id = hunter1\naccess_key_secret = hunter2\n");
    std::fs::set_permissions(&keys, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    place.add(&format!("{NOBODY}credentials_file = {keys:?}\n"));
    let (_, text) = place.order("havip", &["verify"]);
    assert!(text.contains("run `chmod 600") && text.contains("cloud.region is \"auto\""), "{text}");
    assert!(!text.contains("hunter"), "{text}");
}

#[test]
fn the_policy_needs_nobody_to_ask() {
    let place = Place::new("eth0");
    place.add(NOBODY);
    let (code, text) = place.order("havip", &["policy"]);
    for part in ["vpc:AssociateHaVip", "vpc:CreateHaVip", "acs:vpc:*:*:instance/i-peer", "\"Version\": \"1\""] {
        assert!(code == Some(0) && text.contains(part), "{part} {code:?}: {text}");
    }
    assert!(!text.contains("StopInstance"), "{text}");
}
