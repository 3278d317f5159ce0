//! keepalived's words that harbor-ha has nothing for, or nothing to be told of: each with the reason and the way out.
// size: one table

use super::verdict::Kind::{self, Changed, NotNeeded, NotSupported};

type Entry = (&'static str, Kind, &'static str);

const IPVS: &str = "harbor-ha is no load balancer (IPVS); keep a keepalived with these blocks alone, or use HAProxy";
const STATIC: &str =
    "stays on the host whoever is master; put it into the host's network configuration (netplan, ifupdown, nmcli)";
const SNMP: &str = "there is no SNMP; use `harbor-ha status --json`";
const DBUS: &str = "there is no D-Bus; use `harbor-ha status --json`, or router.fifo";
const BUFFERS: &str = "the kernel's own size does for adverts";
const VMAC: &str = "is for virtual MACs, which a cloud drops; remove it, as gratuitous ARP moves the address";
const FIREWALL: &str = "no firewall rule is made: the addresses are accepted, always";
const PROCESSES: &str = "harbor-ha is one process with one name";
const RELOAD: &str = "a configuration is checked and then the daemon restarted; use a systemd timer";
const DUMPS: &str = "`harbor-ha status --json` answers at once; there are no files";
const BFD: &str = "there is no BFD; use version 3, with adverts down to 10 ms, or a pair, with pulses";
const UNIT: &str = "use ExecStartPre= or ExecStopPost= of harbor-ha.service";

/// The first level.
pub(super) const TOP: &[Entry] = &[
    ("global_defs", Kind::Carried, ""),
    ("vrrp_instance", Kind::Carried, ""),
    ("vrrp_sync_group", Kind::Carried, ""),
    ("vrrp_script", Kind::Carried, ""),
    ("vrrp_track_process", Kind::Carried, ""),
    ("track_file", Kind::Carried, ""),
    ("vrrp_track_file", Kind::Carried, ""),
    ("instance", Kind::Carried, ""),
    ("static_ipaddress", NotSupported, STATIC),
    ("static_routes", NotSupported, STATIC),
    ("static_rules", NotSupported, STATIC),
    ("track_group", NotSupported, "there are no static addresses to track; use a [[script]]"),
    ("garp_group", NotSupported, "use instance.announce.interval, the gap on one interface"),
    (
        "interface_up_down_delays",
        NotSupported,
        "links are not debounced; use a [[script]] with rise and fall in place of the interface",
    ),
    ("linkbeat_interfaces", NotSupported, "links are not polled, as the kernel tells of them by netlink; remove it"),
    ("bfd_instance", NotSupported, BFD),
    ("virtual_server", NotSupported, IPVS),
    ("virtual_server_group", NotSupported, IPVS),
    ("real_server", NotSupported, IPVS),
    ("SSL", NotSupported, IPVS),
    ("local_address_group", NotSupported, IPVS),
    ("net_namespace", NotSupported, "use NetworkNamespacePath= of harbor-ha.service"),
    ("net_namespace_ipvs", NotSupported, IPVS),
    ("namespace_with_ipsets", NotNeeded, FIREWALL),
    ("use_pid_dir", NotNeeded, "there are no pid files; a lock guards against a second daemon"),
    ("linkbeat_use_polling", NotSupported, "links are not polled, as the kernel tells of them by netlink; remove it"),
    ("child_wait_time", NotNeeded, PROCESSES),
    ("daemon", NotNeeded, "systemd runs the daemon"),
];

/// In `global_defs`.
pub(super) const GLOBALS: &[Entry] = &[
    (
        "enable_script_security",
        Kind::Carried,
        "always: `harbor-ha check` refuses scripts of root that others may change",
    ),
    (
        "vrrp_garp_extra_if",
        NotSupported,
        "use instance.announce.refresh, which announces each address on its own interface",
    ),
    ("garp_extra_if", NotSupported, "use instance.announce.refresh, which announces each address on its own interface"),
    (
        "vrrp_strict",
        NotSupported,
        "there is no strict mode, and `harbor-ha check` names what contradicts itself; remove it on all nodes",
    ),
    ("vrrp_priority", NotNeeded, "realtime.priority is better than niceness, and the default"),
    ("vrrp_rlimit_rttime", NotNeeded, "no limit of real time kills the daemon"),
    ("vrrp_cpu_affinity", NotSupported, "use CPUAffinity= of harbor-ha.service"),
    ("max_auto_priority", NotNeeded, "real time is asked for from the start, see [realtime]"),
    ("min_auto_priority_delay", NotNeeded, "real time is asked for from the start, see [realtime]"),
    ("vrrp_rx_bufs_policy", NotNeeded, BUFFERS),
    ("vrrp_rx_bufs_multiplier", NotNeeded, BUFFERS),
    ("vrrp_netlink_cmd_rcv_bufs", NotNeeded, BUFFERS),
    ("vrrp_netlink_cmd_rcv_bufs_force", NotNeeded, BUFFERS),
    ("vrrp_netlink_monitor_rcv_bufs", NotNeeded, BUFFERS),
    ("vrrp_netlink_monitor_rcv_bufs_force", NotNeeded, BUFFERS),
    ("process_monitor_rcv_bufs", NotNeeded, BUFFERS),
    ("process_monitor_rcv_bufs_force", NotNeeded, BUFFERS),
    ("lvs_netlink_cmd_rcv_bufs", NotNeeded, BUFFERS),
    ("lvs_netlink_cmd_rcv_bufs_force", NotNeeded, BUFFERS),
    ("lvs_netlink_monitor_rcv_bufs", NotNeeded, BUFFERS),
    ("lvs_netlink_monitor_rcv_bufs_force", NotNeeded, BUFFERS),
    ("fifo_write_vrrp_states_on_reload", NotNeeded, "there is no reload; a restart writes the states"),
    ("startup_script", NotSupported, UNIT),
    ("startup_script_timeout", NotSupported, UNIT),
    ("shutdown_script", NotSupported, UNIT),
    ("shutdown_script_timeout", NotSupported, UNIT),
    ("enable_snmp_keepalived", NotSupported, SNMP),
    ("enable_snmp_vrrp", NotSupported, SNMP),
    ("enable_snmp_checker", NotSupported, SNMP),
    ("enable_snmp_rfc", NotSupported, SNMP),
    ("enable_snmp_rfcv2", NotSupported, SNMP),
    ("enable_snmp_rfcv3", NotSupported, SNMP),
    ("enable_traps", NotSupported, SNMP),
    ("snmp_socket", NotSupported, SNMP),
    ("enable_dbus", NotSupported, DBUS),
    ("dbus_service_name", NotSupported, DBUS),
    ("json_version", NotNeeded, DUMPS),
    ("json_file_location", NotNeeded, DUMPS),
    ("state_file_location", NotNeeded, DUMPS),
    ("stats_file_location", NotNeeded, DUMPS),
    ("state_dump_file", NotNeeded, DUMPS),
    ("stats_dump_file", NotNeeded, DUMPS),
    ("data_use_instance", NotNeeded, DUMPS),
    ("reload_check_config", NotNeeded, "`harbor-ha check` does it, and a start with a wrong file changes nothing"),
    ("reload_time_file", NotSupported, RELOAD),
    ("reload_repeat", NotSupported, RELOAD),
    ("reload_file", NotSupported, RELOAD),
    ("dynamic_interfaces", Changed, "the daemon waits for its interfaces: it ends, and systemd starts it again"),
    ("linkbeat_use_polling", NotSupported, "links are not polled, as the kernel tells of them by netlink; remove it"),
    ("log_unknown_vrids", NotNeeded, "adverts of other routers are counted"),
    ("process_names", NotNeeded, PROCESSES),
    ("process_name", NotNeeded, PROCESSES),
    ("vrrp_process_name", NotNeeded, PROCESSES),
    ("checker_process_name", NotNeeded, PROCESSES),
    ("bfd_process_name", NotNeeded, PROCESSES),
    ("instance", NotSupported, "stands outside of global_defs; put it there"),
    ("net_namespace", NotSupported, "stands outside of global_defs; use NetworkNamespacePath= of harbor-ha.service"),
    ("include_check", NotNeeded, "includes are resolved here, and each is told"),
    ("config_save_dir", NotNeeded, "keep the file in version control"),
    ("tmp_config_directory", NotNeeded, "the configuration is small and read once"),
    ("nftables", NotNeeded, FIREWALL),
    ("nftables_priority", NotNeeded, FIREWALL),
    ("nftables_counters", NotNeeded, FIREWALL),
    ("nftables_ifindex", NotNeeded, FIREWALL),
    ("nftables_ipvs", NotSupported, IPVS),
    ("nftables_ipvs_priority", NotSupported, IPVS),
    ("nftables_ipvs_start_fwmark", NotSupported, IPVS),
    ("vrrp_iptables", NotNeeded, FIREWALL),
    ("vrrp_ipsets", NotNeeded, FIREWALL),
    ("iptables", NotNeeded, FIREWALL),
    ("disable_local_igmp", NotNeeded, VMAC),
    ("lvs_sync_daemon", NotSupported, IPVS),
    ("lvs_timeouts", NotSupported, IPVS),
    ("lvs_flush", NotSupported, IPVS),
    ("lvs_flush_on_stop", NotSupported, IPVS),
    ("lvs_flush_onstop", NotSupported, IPVS),
    ("lvs_notify_fifo", NotSupported, IPVS),
    ("lvs_notify_fifo_script", NotSupported, IPVS),
    ("lvs_sched", NotSupported, IPVS),
    ("checker_priority", NotNeeded, "there are no checkers"),
    ("checker_no_swap", NotNeeded, "there are no checkers"),
    ("checker_cpu_affinity", NotNeeded, "there are no checkers"),
    ("checker_rt_priority", NotNeeded, "there are no checkers"),
    ("checker_rlimit_rttime", NotNeeded, "there are no checkers"),
    ("checker_log_all_failures", NotNeeded, "there are no checkers"),
    ("smtp_alert_checker", NotNeeded, "there are no checkers"),
    ("no_checker_emails", NotNeeded, "there are no checkers"),
    ("rs_init_notifies", NotNeeded, "there are no checkers"),
    ("bfd_priority", NotNeeded, BFD),
    ("bfd_no_swap", NotNeeded, BFD),
    ("bfd_cpu_affinity", NotNeeded, BFD),
    ("bfd_rt_priority", NotNeeded, BFD),
    ("bfd_rlimit_rttime", NotNeeded, BFD),
    ("vmac_prefix", NotNeeded, VMAC),
    ("vmac_addr_prefix", NotNeeded, VMAC),
    ("iproute_usr_dir", NotNeeded, "no names of routing tables are looked up"),
    ("iproute_etc_dir", NotNeeded, "no names of routing tables are looked up"),
    ("default_interface", NotNeeded, "there are no static addresses, and each instance names its interface"),
    ("vrrp_mcast_group6", NotNeeded, "is for IPv6"),
    ("umask", NotSupported, "use UMask= of harbor-ha.service"),
    ("random_seed", NotNeeded, "nothing of the protocol is random"),
    ("use_symlink_paths", NotNeeded, "scripts run by the path that is written"),
    ("set_supplementary_groups", NotNeeded, "a script has the groups of its user"),
    ("max_advert_int", NotNeeded, "the limits are the protocol's"),
];

/// In `vrrp_instance`.
pub(super) const INSTANCE: &[Entry] = &[
    (
        "auth_hmac",
        NotSupported,
        "adverts signed by HMAC (keepalived 2.4) are not there; use auth_type PASS on all nodes, or a pair, whose pulses are signed",
    ),
    (
        "track_src_ip",
        NotSupported,
        "the loss of the source address is no fault; use a [[script]] with `ip -4 addr show`",
    ),
    (
        "virtual_routes",
        NotSupported,
        "routes do not move; use notify.master to set them and notify.backup to take them back",
    ),
    (
        "virtual_rules",
        NotSupported,
        "rules do not move; use notify.master to set them and notify.backup to take them back",
    ),
    (
        "virtual_routes_excluded",
        NotSupported,
        "routes do not move; use notify.master to set them and notify.backup to take them back",
    ),
    ("promote_secondaries", NotSupported, "use `sysctl net.ipv4.conf.INTERFACE.promote_secondaries=1`"),
    ("garp_extra_if", NotSupported, "use instance.announce.refresh, which announces each address on its own interface"),
    ("timer_expired_backup", NotNeeded, "a daemon that comes late reads the adverts that came in time before it acts"),
    ("thread_timer_expired", NotNeeded, "a daemon that comes late reads the adverts that came in time before it acts"),
    (
        "strict_mode",
        NotSupported,
        "there is no strict mode, and `harbor-ha check` names what contradicts itself; remove it on all nodes",
    ),
    ("no_accept", NotSupported, "the addresses are accepted, always; use nftables to drop packets to them"),
    ("track_bfd", NotSupported, BFD),
    ("notify_deleted", NotSupported, "no instance is ever deleted while the daemon runs; use notify.stop"),
    ("debug", NotNeeded, "RUST_LOG=debug of the service says more"),
    ("kernel_rx_buf_size", NotNeeded, BUFFERS),
    ("linkbeat_use_polling", NotSupported, "links are not polled, as the kernel tells of them by netlink; remove it"),
    (
        "use_vmac",
        NotSupported,
        "a cloud drops frames of a virtual MAC, and the address moves by gratuitous ARP; remove it on all nodes",
    ),
    ("use_vmac_addr", NotSupported, VMAC),
    ("vmac_xmit_base", NotNeeded, VMAC),
    (
        "use_ipvlan",
        NotSupported,
        "the address is put on the interface itself and moves by gratuitous ARP; remove it on all nodes",
    ),
    ("vrf", NotSupported, "there are no VRFs; use a network namespace for the daemon (NetworkNamespacePath=)"),
    ("mcast_dst_ip", NotSupported, "adverts go to 224.0.0.18, the address of the protocol; use instance.peers"),
    ("native_ipv6", NotSupported, "harbor-ha serves IPv4 only; keep a keepalived for it"),
    ("lvs_sync_daemon_interface", NotSupported, IPVS),
    ("unicast_bind", NotNeeded, "the source is what adverts are sent from"),
];

const PULSES: &str = "pulses decide how long a silent node is believed to live, see [pulse]";
const ELECTION: &str = "the node whose PostgreSQL is the primary serves; who is first is decided by priority";

/// Where the form for a pair has what the router form has elsewhere, or what becomes of it there.
pub(super) const OF_PAIR: &[(&str, Option<Kind>, &str)] = &[
    ("[[instance]]", None, "[node] and [vrrp]"),
    ("instance.interface", None, "node.interface"),
    ("instance.source", None, "node.address"),
    ("instance.peers", None, "node.peer"),
    ("instance.vips", None, "node.vips"),
    ("instance.excluded_vips", None, "node.vips, advertised like the others"),
    ("instance.version", None, "vrrp.version"),
    ("instance.vrid", None, "vrrp.vrid"),
    ("instance.priority", None, "vrrp.priority"),
    ("instance.advert_interval", None, "vrrp.advert_interval"),
    ("instance.password_file", None, "vrrp.password_file"),
    ("instance.preempt", None, "vrrp.preempt"),
    ("instance.announce.repeat", None, "announce.repeat"),
    ("instance.announce.delay", None, "announce.delay"),
    ("instance.announce.refresh", None, "announce.refresh"),
    ("instance.announce.refresh_repeat", None, "announce.refresh_repeat"),
    ("instance.announce.interval", Some(NotSupported), "a pair does not pace its gratuitous ARP; it has few addresses"),
    ("instance.announce.lower_priority_repeat", Some(NotNeeded), ELECTION),
    ("instance.announce.lower_priority_delay", Some(NotNeeded), ELECTION),
    ("instance.state", Some(NotNeeded), ELECTION),
    ("instance.preempt_delay", Some(NotNeeded), ELECTION),
    ("instance.down_timer_adverts", Some(NotNeeded), PULSES),
    ("instance.lower_prio_no_advert", Some(NotNeeded), ELECTION),
    ("instance.higher_prio_send_advert", Some(NotNeeded), ELECTION),
    ("instance.skip_check_adv_addr", Some(NotNeeded), "the addresses of a pair's adverts are compared in passing"),
    ("instance.check_source", Some(NotNeeded), "adverts of others than the peer are dropped, always"),
    ("instance.ttl", Some(NotSupported), "a pair sends with 255, for nodes on one network"),
    (
        "instance.checksum",
        Some(NotSupported),
        "a pair sends with a pseudo header; between two harbor-ha nodes nothing else is needed",
    ),
    ("instance.track_primary", Some(NotSupported), "the loss of the interface is a fault of a pair, always"),
    ("router.name", Some(NotNeeded), "node.instance names the daemon; add it if there are several"),
    ("router.router_id", Some(NotNeeded), "mails name the host itself"),
    (
        "router.startup_delay",
        Some(NotNeeded),
        "a node that starts waits until it has heard its peer or asked its PostgreSQL",
    ),
    (
        "router.delay_after_boot",
        Some(NotNeeded),
        "a node that starts waits until it has heard its peer or asked its PostgreSQL",
    ),
    ("router.script_user", Some(NotSupported), "is of the router form; use notify.user, and user of each [[script]]"),
    ("router.fifo", Some(NotSupported), "is of the router form; use notify.all"),
    ("router.fifo.command", Some(NotSupported), "is of the router form; use notify.all"),
    ("notify.priority_changes", Some(NotSupported), "a pair has no FIFO; use notify.all"),
];

/// What a list says of a word.
pub(super) fn find(list: &'static [Entry], word: &str) -> Option<(Kind, &'static str)> {
    list.iter().find(|(known, ..)| *known == word).map(|(_, kind, why)| (*kind, *why))
}

/// Whether it is keepalived's somewhere.
pub(super) fn is_known(word: &str) -> bool {
    [TOP, GLOBALS, INSTANCE].iter().any(|list| find(list, word).is_some())
}
