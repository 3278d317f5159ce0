//! `harbor-ha check` and `harbor-ha run` on bad input: a sentence, the documented exit status, an untouched host.
//!
//! The real binary, as an operator meets it. What needs root says so and is skipped without.

mod havip;
mod orders;
mod place;

use place::Place;

/// What every one of these must say, under `check` and under `run`, before anything is opened.
fn refused_as_configuration(change: (&str, &str), says: &[&str]) {
    let place = Place::new("eth0");
    place.edit(change);
    for verb in ["check", "run"] {
        let (code, text) = place.run(verb);
        assert_eq!(code, Some(78), "{verb}: {text}");
        for word in says {
            assert!(text.contains(word), "{verb}: `{word}` in: {text}");
        }
    }
    place.is_untouched();
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    refused_as_configuration(("priority = 100", "priority = 100\nprioritee = 1"), &["harbor-ha.toml:12", "prioritee"]);
}

#[test]
fn a_bad_unit_is_named_with_the_units_there_are() {
    refused_as_configuration(
        ("priority = 100", "priority = 100\nadvert_interval = \"1sec\""),
        &["\"sec\" is not a unit", "\"1s\""],
    );
}

#[test]
fn a_virtual_address_that_is_none_is_named() {
    refused_as_configuration(("10.255.77.9/32", "ten.0.0.9/32"), &["vips", "ten.0.0.9"]);
}

#[test]
fn the_same_address_on_both_nodes_is_refused() {
    refused_as_configuration(("peer = \"10.255.77.2\"", "peer = \"10.255.77.1\""), &["peer", "own address"]);
}

#[test]
fn two_mistakes_are_told_at_once() {
    let place = Place::new("eth0");
    place.edit(("vrid = 51", "vrid = 0"));
    place.edit(("priority = 100", "priority = 999"));
    let (code, text) = place.run("check");
    assert!(code == Some(78) && text.contains("vrrp.vrid") && text.contains("vrrp.priority"), "{text}");
}

#[test]
fn wrong_arguments_are_64_and_no_file_is_78() {
    let place = Place::new("eth0");
    assert_eq!(place.run("chekc").0, Some(64));
    std::fs::remove_file(place.config()).unwrap();
    let (code, text) = place.run("run");
    assert!(code == Some(78) && text.contains("harbor-ha.toml"), "{code:?} {text}");
}

#[test]
fn without_root_the_missing_capabilities_are_named() {
    let place = Place::new("eth0");
    for verb in ["check", "run"] {
        let (code, text) = place.run_as_nobody(verb);
        assert_eq!(code, Some(77), "{verb}: {text}");
        for word in ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF", "CAP_PERFMON", "root"] {
            assert!(text.contains(word), "{verb}: `{word}` in: {text}");
        }
    }
    place.is_untouched();
}

/// The usual way to forget `sudo`: the secret is closed to others, as it should be.
#[test]
fn without_root_a_closed_secret_is_77_and_not_a_mistake_of_the_file() {
    let Some(place) = Place::of_root("without_root_a_closed_secret_is_77_and_not_a_mistake_of_the_file", "eth0") else {
        return;
    };
    let key = place.secret("pulse.key", "00112233445566778899aabbccddeeff\n");
    place.edit(("enabled = false", &format!("key_file = \"{}\"\n[lease]\nisolated = \"hold\"", key.display())));
    for verb in ["check", "run", "status", "switchover", "failover", "pause", "resume", "hold", "reinit"] {
        let (code, text) = place.run_as_nobody(verb);
        assert!(code == Some(77) && text.contains("run as root"), "{verb} {code:?}: {text}");
    }
    place.is_untouched();
}

#[test]
fn a_missing_interface_is_named() {
    let Some(place) = Place::of_root("a_missing_interface_is_named", "hh-none0") else { return };
    for verb in ["check", "run"] {
        let (code, text) = place.run(verb);
        assert!(code == Some(69) && text.contains("hh-none0"), "{verb} {code:?}: {text}");
    }
    place.is_untouched();
}

#[test]
fn an_address_that_is_not_on_the_interface_is_named() {
    let Some(place) = Place::of_root("an_address_that_is_not_on_the_interface_is_named", "eth0") else { return };
    place.edit(("10.255.77.1\"", "10.255.77.3\""));
    for verb in ["check", "run"] {
        let (code, text) = place.run(verb);
        assert!(code == Some(69) && text.contains("10.255.77.3"), "{verb} {code:?}: {text}");
    }
    place.is_untouched();
}

#[test]
fn a_data_directory_that_is_none_is_named() {
    let Some(place) = Place::of_root("a_data_directory_that_is_none_is_named", "eth0") else { return };
    place
        .add("[postgres]\ndata_dir = \"/nowhere/data\"\nbin_dir = \"/nowhere/bin\"\nname = \"a\"\npeer_name = \"b\"\n");
    for verb in ["check", "run"] {
        let (code, text) = place.run(verb);
        assert!(code == Some(69) && text.contains("/nowhere/data"), "{verb} {code:?}: {text}");
    }
    place.is_untouched();
}

/// A seccomp filter that answers `ENOSYS` to bpf(2), which is what a kernel without `CONFIG_BPF_SYSCALL` answers.
#[test]
fn a_kernel_without_bpf_is_told_from_a_missing_right() {
    let Some(place) = Place::of_root("a_kernel_without_bpf_is_told_from_a_missing_right", "eth0") else { return };
    for verb in ["check", "run"] {
        let (code, text) = place.run_without_bpf(verb, libc::ENOSYS);
        assert_eq!(code, Some(69), "{verb}: {text}");
        assert!(text.contains("CONFIG_BPF_SYSCALL") || text.contains("not implemented"), "{verb}: {text}");
    }
    place.is_untouched();
}

/// The same filter with `EPERM`: a container's, or lockdown. All capabilities are there, so words must not name one.
#[test]
fn a_filter_that_forbids_bpf_is_77_and_named_as_what_it_may_be() {
    let test = "a_filter_that_forbids_bpf_is_77_and_named_as_what_it_may_be";
    let Some(place) = Place::of_root(test, "eth0") else { return };
    let (code, text) = place.run_without_bpf("run", libc::EPERM);
    assert!(code == Some(77) && text.contains("seccomp"), "{code:?}: {text}");
    let (code, text) = place.run_without_bpf("check", libc::EPERM);
    assert!(code == Some(69) && text.contains("seccomp"), "{code:?}: {text}");
    place.is_untouched();
}

/// A bridge has the generic hook only, as many drivers in a cloud: the program is loaded by then, and must go again.
#[test]
fn an_interface_without_the_hook_is_refused_and_the_pins_go_again() {
    let test = "an_interface_without_the_hook_is_refused_and_the_pins_go_again";
    let Some(place) = Place::of_root(test, "eth0") else { return };
    if !place.can_load() {
        return;
    }
    place.add("[kernel]\nxdp_mode = \"native\"\n");
    let (code, text) = place.run("run");
    assert!(code == Some(69) && text.contains("xdp_mode"), "{code:?}: {text}");
    place.is_untouched();
}
