use std::net::Ipv4Addr;
use std::path::Path;

use super::*;
use crate::config::lookup::{Lookup, SecretFile};
use crate::config::secret::Secret;
use crate::config::settings::Isolated;
use crate::kernel::probe::{Attached, Capabilities, Clock, Interface};

struct Key;

impl Lookup for Key {
    fn file(&self, _: &Path) -> std::io::Result<SecretFile> {
        Ok(SecretFile { mode: 0o600, content: Secret::new([b'0'; 32].to_vec()) })
    }

    fn env(&self, _: &str) -> Option<std::ffi::OsString> {
        None
    }
}

fn settings() -> Settings {
    crate::config::parse(include_str!("../../../../packaging/harbor-ha.toml"), &Key).unwrap()
}

const ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 19, 48, 253);
const PEER: Ipv4Addr = Ipv4Addr::new(172, 19, 48, 254);
const VIP: Ipv4Addr = Ipv4Addr::new(172, 19, 48, 188);

/// Without `SysAdmin`, which `Bpf` and `Perfmon` make needless.
const ALL: [Capability; 12] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Kill,
    Capability::SetGid,
    Capability::SetUid,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::SysPtrace,
    Capability::SysNice,
    Capability::Perfmon,
    Capability::Bpf,
];

/// A host that has all that the example asks for.
fn good() -> Host {
    let interface = |name: &str, address| Interface { name: name.into(), addresses: vec![address] };
    Host {
        release: Ok(Release::parse("6.1.0").unwrap()),
        capabilities: Ok(Capabilities::of(&ALL)),
        foreign_postgres: true,
        bpf: Bpf { array: Ok(true), ring_buffer: Ok(true), xdp: Ok(true), cgroup_skb: Ok(true), timer: Ok(true) },
        cgroup: Some(Ok("/sys/fs/cgroup".into())),
        bpffs: Ok(true),
        interfaces: Ok(vec![interface("lo", Ipv4Addr::LOCALHOST), interface("eth0", ADDRESS)]),
        link: Ok(Some(Link { up: true, running: true, ethernet: true, mtu: Some(1500), xdp: Vec::new() })),
        fifo: Some(Ok(())),
        memory_lock: Ok(8 << 20),
        clock: Ok(Clock { current: "tsc".into(), available: vec!["tsc".into(), "hpet".into()] }),
    }
}

fn unreadable<T>(why: &str) -> Result<T, Unreadable> {
    Err(Unreadable(why.into()))
}

fn without(capability: Capability) -> Result<Capabilities, Unreadable> {
    Ok(Capabilities::of(&ALL.into_iter().filter(|c| *c != capability).collect::<Vec<_>>()))
}

fn link(host: &mut Host) -> &mut Link {
    host.link.as_mut().unwrap().as_mut().unwrap()
}

/// What is wrong with the good host after `change`, as `subject: text`.
fn wrong(level: Level, change: impl FnOnce(&mut Settings, &mut Host)) -> Vec<String> {
    let (mut settings, mut host) = (settings(), good());
    change(&mut settings, &mut host);
    let found = findings(&settings, &host);
    let bad: Vec<_> = found.into_iter().filter(|finding| finding.level != Level::Ok).collect();
    assert!(bad.iter().all(|finding| finding.level == level), "{bad:#?}");
    bad.into_iter().map(|finding| format!("{}: {}", finding.subject, finding.text)).collect()
}

/// Exactly one finding, that says `words`.
#[track_caller]
fn wrong_once(level: Level, words: &[&str], change: impl FnOnce(&mut Settings, &mut Host)) {
    let found = wrong(level, change);
    assert_eq!(found.len(), 1, "{found:#?}");
    for word in words {
        assert!(found[0].contains(word), "{word:?} in {found:?}");
    }
}

#[test]
fn a_host_that_has_everything_is_ok_in_every_point() {
    assert_eq!(wrong(Level::Error, |_, _| {}), Vec::<String>::new());
    assert_eq!(findings(&settings(), &good()).len(), 17);
}

#[test]
fn a_missing_capability_is_an_error_and_one_for_postgresql_only_where_that_is_another_user_s() {
    for capability in [Capability::NetAdmin, Capability::NetRaw, Capability::Bpf, Capability::Perfmon] {
        let words = [&*format!("{capability} is missing"), "CapabilityBoundingSet="];
        wrong_once(Level::Error, &words, |_, host| host.capabilities = without(capability));
    }
    use Capability::{Chown, DacOverride, Kill, SetGid, SetUid, SysPtrace};
    for capability in [Kill, SetUid, SetGid, Chown, DacOverride, SysPtrace] {
        wrong_once(Level::Error, &["PostgreSQL"], |_, host| host.capabilities = without(capability));
        let none = wrong(Level::Warning, |_, host| {
            host.foreign_postgres = false;
            host.capabilities = without(capability);
        });
        assert_eq!(none, Vec::<String>::new());
    }
}

#[test]
fn sys_admin_stands_in_for_the_capabilities_that_were_split_from_it() {
    let found = wrong(Level::Error, |_, host| {
        let split = [Capability::Bpf, Capability::Perfmon];
        let stands_in = |c| if split.contains(&c) { Capability::SysAdmin } else { c };
        host.capabilities = Ok(Capabilities::of(&ALL.map(stands_in)));
    });
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_refusal_of_bpf_names_its_likely_cause() {
    let refuse = |host: &mut Host| host.bpf.xdp = unreadable("`bpf_prog_load`: EPERM");
    wrong_once(Level::Error, &["xdp: refused: `bpf_prog_load`: EPERM", "seccomp"], |_, host| refuse(host));
    wrong_once(Level::Error, &["LimitMEMLOCK=infinity"], |_, host| {
        refuse(host);
        host.release = Ok(Release::parse("5.10.134").unwrap());
    });
    wrong_once(Level::Error, &["seccomp"], |_, host| {
        refuse(host);
        host.release = Ok(Release::parse("5.11.0").unwrap());
    });
    let found = wrong(Level::Error, |_, host| {
        refuse(host);
        host.capabilities = without(Capability::Bpf);
    });
    assert!(found.len() == 2 && found[1].contains("grant CAP_BPF, see above"), "{found:?}");
}

#[test]
fn what_the_kernel_does_not_know_comes_with_the_version_that_does() {
    wrong_once(Level::Error, &["ring buffer: this kernel does not know it; use one from 5.8 on"], |_, host| {
        host.bpf.ring_buffer = Ok(false);
    });
}

#[test]
fn without_bpf_timer_there_is_no_detector() {
    wrong_once(Level::Error, &["bpf_timer: this kernel has none", "5.15"], |_, host| host.bpf.timer = Ok(false));
}

#[test]
fn an_untried_timer_is_assumed_from_the_version_and_says_so() {
    for (level, release, words) in
        [(Level::Warning, "5.15.0", "assumed from the version, 5.15.0"), (Level::Error, "5.14.21", "assumed missing")]
    {
        wrong_once(level, &[words], |_, host| {
            host.bpf.timer = unreadable("EPERM");
            host.release = Ok(Release::parse(release).unwrap());
        });
    }
}

#[test]
fn a_bpf_file_system_that_is_not_mounted_comes_with_the_mount() {
    wrong_once(Level::Error, &["run `mount -t bpf bpf /sys/fs/bpf`"], |_, host| host.bpffs = Ok(false));
    wrong_once(Level::Error, &["create it"], |_, host| host.bpffs = unreadable("No such file or directory"));
}

#[test]
fn an_interface_that_is_missing_comes_with_those_there_are() {
    wrong_once(Level::Error, &["there is no `eth0`", "use one of: lo, eth0"], |_, host| host.link = Ok(None));
}

#[test]
fn an_interface_is_ethernet_up_and_has_a_carrier() {
    wrong_once(Level::Error, &["Ethernet"], |_, host| link(host).ethernet = false);
    wrong_once(Level::Error, &["run `ip link set eth0 up`"], |_, host| link(host).up = false);
    wrong_once(Level::Error, &["no carrier"], |_, host| link(host).running = false);
}

#[test]
fn the_mtu_suffices_for_ipv4_and_is_not_too_large_for_native_xdp() {
    wrong_once(Level::Error, &["575 bytes"], |_, host| link(host).mtu = Some(575));
    assert_eq!(wrong(Level::Error, |_, host| link(host).mtu = Some(576)), Vec::<String>::new());
    assert_eq!(wrong(Level::Error, |_, host| link(host).mtu = Some(9000)), Vec::<String>::new());
    wrong_once(Level::Warning, &["xdp_mode = \"auto\""], |settings, host| {
        settings.xdp_mode = XdpMode::Native;
        link(host).mtu = Some(3499);
    });
    let found = wrong(Level::Warning, |settings, host| {
        settings.xdp_mode = XdpMode::Native;
        link(host).mtu = Some(3498);
    });
    assert_eq!(found, Vec::<String>::new());
}

fn program(name: Option<&str>) -> Attached {
    Attached { hook: XdpHook::Generic, id: 7, name: name.map(str::to_owned) }
}

#[test]
fn a_foreign_xdp_program_is_reported_and_our_own_is_not() {
    wrong_once(Level::Error, &["`xdp_lb` (id 7, generic)", "ip link set eth0 xdpgeneric off"], |_, host| {
        link(host).xdp = vec![program(Some("xdp_lb"))];
    });
    wrong_once(Level::Warning, &["whose name may not be read"], |_, host| link(host).xdp = vec![program(None)]);
    let found = wrong(Level::Error, |_, host| link(host).xdp = vec![program(Some(OUR_PROGRAM))]);
    assert_eq!(found, Vec::<String>::new());
}

fn addresses(host: &mut Host, list: &[(&str, Ipv4Addr)]) {
    let interface = |(name, address): &(&str, Ipv4Addr)| Interface { name: (*name).into(), addresses: vec![*address] };
    host.interfaces = Ok(list.iter().map(interface).collect());
}

#[test]
fn an_address_that_is_elsewhere_names_the_interface_to_use() {
    wrong_once(Level::Error, &["is on `ens5`; use interface = \"ens5\""], |_, host| {
        addresses(host, &[("eth0", Ipv4Addr::new(10, 0, 0, 1)), ("ens5", ADDRESS)]);
    });
    wrong_once(Level::Error, &["172.19.48.253 is on no interface"], |_, host| addresses(host, &[]));
}

#[test]
fn the_file_of_the_other_node_is_recognised() {
    wrong_once(Level::Error, &["exchange address and peer: this is the other node's file"], |_, host| {
        addresses(host, &[("eth0", PEER)]);
    });
}

#[test]
fn a_virtual_address_that_nothing_guards_is_a_warning() {
    let with_vip = |host: &mut Host| addresses(host, &[("eth0", ADDRESS), ("eth0", VIP)]);
    wrong_once(Level::Warning, &["stop keepalived", "ip address del 172.19.48.188/32 dev eth0"], |_, host| {
        with_vip(host)
    });
    let found = wrong(Level::Warning, |_, host| {
        with_vip(host);
        link(host).xdp = vec![program(Some(OUR_PROGRAM))];
    });
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_refused_fifo_names_the_capability_or_the_budget_of_the_control_group() {
    wrong_once(Level::Warning, &["SCHED_FIFO 50 is refused (EPERM)", "RT_GROUP_SCHED"], |_, host| {
        host.fifo = Some(unreadable("EPERM"));
    });
    wrong_once(Level::Warning, &["grant CAP_SYS_NICE"], |_, host| {
        host.fifo = Some(unreadable("EPERM"));
        host.capabilities = without(Capability::SysNice);
    });
    assert_eq!(wrong(Level::Warning, |_, host| host.fifo = None), Vec::<String>::new());
}

#[test]
fn the_limit_of_locked_memory_counts_only_without_the_capability() {
    let limited = |host: &mut Host, limit| {
        host.capabilities = without(Capability::IpcLock);
        host.memory_lock = Ok(limit);
    };
    wrong_once(Level::Warning, &["at most 65535 KiB", "LimitMEMLOCK=infinity"], |_, host| {
        limited(host, (64 << 20) - 1)
    });
    for enough in [64 << 20, u64::MAX] {
        assert_eq!(wrong(Level::Warning, |_, host| limited(host, enough)), Vec::<String>::new());
    }
    let not_asked = wrong(Level::Warning, |settings, host| {
        settings.realtime.lock_memory = false;
        limited(host, 0);
    });
    assert_eq!(not_asked, Vec::<String>::new());
}

#[test]
fn kvm_clock_is_a_warning_with_what_it_may_cost() {
    let kvm = |available: &[&str]| {
        Ok(Clock { current: "kvm-clock".into(), available: available.iter().map(|name| (*name).into()).collect() })
    };
    wrong_once(Level::Warning, &["beside its successor", "boot with clocksource=tsc"], |_, host| {
        host.clock = kvm(&["kvm-clock", "tsc"]);
    });
    wrong_once(Level::Warning, &["a stable TSC"], |_, host| host.clock = kvm(&["kvm-clock"]));
}

#[test]
fn facts_that_cannot_be_read_are_findings_and_hide_no_other() {
    let found = wrong(Level::Warning, |_, host| {
        host.release = unreadable("a");
        host.interfaces = unreadable("b");
        host.link = unreadable("c");
        host.clock = unreadable("d");
    });
    let subjects: Vec<_> = found.iter().map(|text| text.split(':').next().unwrap()).collect();
    assert_eq!(subjects, ["kernel", "interface", "addresses", "clock"]);
    assert!(found[0].ends_with("could not be read: a; check it by hand"));
}

#[test]
fn the_gate_is_asked_for_with_pulses_only() {
    wrong_once(Level::Error, &["gate", "no folder of a cgroup2"], |_, host| {
        host.cgroup = Some(unreadable("`/proc` is no folder of a cgroup2 file system"));
    });
    wrong_once(Level::Error, &["cgroup-skb", "4.10"], |_, host| host.bpf.cgroup_skb = Ok(false));
    let without = wrong(Level::Error, |_, host| (host.cgroup, host.bpf.cgroup_skb) = (None, Ok(false)));
    assert_eq!(without, Vec::<String>::new());
}

#[test]
fn the_choice_of_what_an_isolated_primary_does_is_told_with_its_price() {
    let text = |change: fn(&mut Settings)| {
        let mut settings = settings();
        change(&mut settings);
        let found = findings(&settings, &good()).into_iter().find(|finding| finding.subject == "isolated");
        found.map(|found| (found.level, found.text))
    };
    let serve = text(|settings| settings.lease.as_mut().unwrap().isolated = Isolated::Serve).unwrap();
    assert!(serve.0 == Level::Ok && serve.1.contains("BOTH nodes serve"), "{serve:?}");
    assert!(text(|_| ()).unwrap().1.contains("loss of the standby alone stops the service"));
    assert_eq!(text(|settings| settings.lease = None), None);
}
