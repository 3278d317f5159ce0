//! What an instance must not run without; and what it may, as keepalived does.

use super::*;

/// The instance is not carried over, and the file not run, because of the line that holds `needle`.
#[track_caller]
fn stops(text: &str, needle: &str, words: &str) {
    let verdict = verdict(text, needle);
    assert!(verdict.stops && verdict.kind == Kind::NotSupported && verdict.why.contains(words), "{verdict:#?}");
    let import = imported(text);
    assert!(import.loses() && import.toml.is_err(), "{:?}", import.toml);
    // The other lines say why they are lost, too.
    judged(text, "virtual_router_id", Kind::NotSupported, "its instance is not carried over: ");
}

#[track_caller]
fn runs(text: &str) -> Router {
    assert_eq!(imported(text).verdicts.iter().find(|it| it.stops), None);
    router(text)
}

#[test]
fn an_instance_that_would_lose_a_peer_is_not_carried_over() {
    let with = |peers: &str| instance(&UNICAST.replace("10.0.0.2", peers));
    stops(&with("db2.example.com"), "db2", "it would run without this peer");
    stops(&with("10.0.0.2\ndb3.example.com"), "db3", "it would run without this peer");
    stops(&with("10.0.0.2\n\"10.0.0.3"), "0.3", "could not be read");
    stops(&with(""), "unicast_peer", "name the peer");
    stops(&instance("unicast_peer {\n10.0.0.1\n}\nunicast_src_ip 10.0.0.1\n"), "unicast_peer", "names no other node");
    stops(&instance("unicast_src_ip 10.0.0.1\n"), "unicast_src_ip", "write mcast_src_ip");
    stops(&instance("unicast_peers {\n10.0.0.2\n}\n"), "unicast_peers", "was `unicast_peer` meant?");
    stops(&instance("frob {\n}\n"), "frob", "remove it");
    // Its own address among the others, one of them twice, with a length, or with more words: keepalived has them all.
    let runs = runs(&with("10.0.0.1\n10.0.0.2\n10.0.0.2\n10.0.0.3/24\n10.0.0.4 min_ttl x\n"));
    assert_eq!(runs.instances[0].peers.len(), 3);
    assert!(self::runs(&instance("mcast_src_ip 10.0.0.1\n")).instances[0].peers.is_empty());
}

#[test]
fn an_instance_that_would_lose_its_authentication_is_not_carried_over() {
    let with = |lines: &str| instance(&format!("authentication {{\n{lines}\n}}\n"));
    stops(&with("auth_type AH\nauth_pass 1"), "auth_type", "AH is not there");
    stops(&with("auth_type PASS\nauth_pass \u{7}"), "auth_pass", "keepalived sends a password");
    stops(&instance("auth_hmac {\nkey x\n}\n"), "auth_hmac", "use auth_type PASS");
    stops(&instance("authentification {\nauth_type PASS\n}\n"), "authentification", "was `authentication` meant?");
    // keepalived sends none for these.
    for none in ["auth_type PASS", "auth_pass 1", "auth_type AH"] {
        assert!(runs(&with(none)).instances[0].password.is_none(), "{none}");
    }
    assert!(
        runs(&instance("version 3\nauthentication {\nauth_type AH\nauth_pass 1\n}\n")).instances[0].password.is_none()
    );
    let strict = |more: &str| {
        format!(
            "global_defs {{\nvrrp_strict\n}}\n{}",
            with("auth_type PASS\nauth_pass 1").replace("interface", &format!("{more}interface"))
        )
    };
    assert!(runs(&strict("")).instances[0].password.is_none());
    judged(&strict(""), "authentication", Kind::Changed, "keepalived sends no password, as it is strict");
    assert!(runs(&strict("strict_mode off\n")).instances[0].password.is_some());
}

#[test]
fn an_instance_whose_adverts_would_be_others_is_not_carried_over() {
    let group = |more: &str| format!("global_defs {{\nvrrp_mcast_group4 224.0.0.19\n}}\n{}", instance(more));
    stops(&group(""), "vrrp_mcast_group4", "who listens to another group hears none");
    assert_eq!(runs(&group(UNICAST)).instances.len(), 1);
    stops(&instance("mcast_dst_ip 224.0.0.19\n"), "mcast_dst_ip", "the address of the protocol");
    stops(&instance(&format!("version 3\nold_unicast_checksum\n{UNICAST}")), "old_unicast", "upgrade that peer");
}

#[test]
fn an_instance_of_ipv6_beside_others_keeps_nobody_from_running() {
    let v6 = "vrrp_instance V6 {\ninterface eth0\nvirtual_router_id 6\nvirtual_ipaddress {\nfe80::1\n}\n}\n";
    assert_eq!(runs(&format!("{v6}{}", instance(""))).instances.len(), 1);
}

#[test]
fn a_file_that_would_make_two_masters_is_not_loaded() {
    let folder = std::env::temp_dir().join(format!("harbor-ha-import-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("keepalived.conf");
    std::fs::write(&file, instance("include peers\n")).unwrap();
    std::fs::write(folder.join("peers"), "unicast_peer {\ndb2.example.com\n}\n").unwrap();
    let said = super::super::host::load(&file).map(|_| ()).map_err(|problems| problems.to_string());
    std::fs::write(folder.join("peers"), "unicast_peer {\n10.0.0.2\n}\n").unwrap();
    let runs = super::super::host::load(&file).is_ok();
    std::fs::remove_dir_all(&folder).unwrap();
    let said = said.unwrap_err();
    let line =
        format!("{}: {}/peers:2: db2.example.com: its instance is not carried over", file.display(), folder.display());
    assert!(said.contains(&line) && said.contains("could be master beside another one"), "{said}");
    assert!(runs);
}

#[test]
fn a_ttl_below_255_weakens_what_is_taken_and_the_line_says_so() {
    let text = instance(&format!("{UNICAST}unicast_ttl 64\n"));
    judged(&text, "unicast_ttl", Kind::Changed, "instance.min_ttl = 0: adverts of any TTL are taken");
    let found = import(Path::new("/k.conf"), &text, &for_pair(), &Files::default());
    assert!(found.toml.as_ref().unwrap().contains("min_ttl = 1"));
    let line = found.verdicts.iter().find(|it| it.keyword == "unicast_ttl").unwrap();
    assert!(line.kind == Kind::NotSupported && line.why.contains("vrrp.min_ttl = 1: adverts of any TTL"), "{line:?}");
}
