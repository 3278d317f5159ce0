//! Every keyword that is known of keepalived has a verdict of its own, wherever it belongs.

use super::*;

/// Of `global_defs`, with an argument that it takes.
const GLOBAL: &[&str] = &[
    "router_id R",
    "notification_email_from a@b",
    "smtp_server 10.0.0.9",
    "smtp_helo_name h",
    "smtp_connect_timeout 30",
    "smtp_alert",
    "smtp_alert_vrrp on",
    "no_email_faults",
    "vrrp_version 3",
    "vrrp_garp_master_repeat 5",
    "vrrp_garp_master_delay 5",
    "vrrp_garp_master_refresh 60",
    "vrrp_garp_master_refresh_repeat 2",
    "vrrp_garp_lower_prio_repeat 2",
    "vrrp_garp_lower_prio_delay 10",
    "vrrp_garp_interval 0.001",
    "vrrp_gna_interval 0.000001",
    "vrrp_min_garp",
    "vrrp_garp_extra_if 100",
    "vrrp_down_timer_adverts 4",
    "vrrp_lower_prio_no_advert",
    "vrrp_higher_prio_send_advert",
    "v3_checksum_as_v2",
    "vrrp_check_unicast_src",
    "vrrp_skip_check_adv_addr",
    "vrrp_strict",
    "vrrp_startup_delay 5.5",
    "vrrp_delay_after_boot 3",
    "vrrp_priority -10",
    "vrrp_rt_priority 50",
    "vrrp_rlimit_rttime 10000",
    "vrrp_no_swap",
    "vrrp_cpu_affinity 0",
    "max_auto_priority 50",
    "min_auto_priority_delay 1000",
    "vrrp_rx_bufs_policy MTU",
    "vrrp_rx_bufs_multiplier 2",
    "vrrp_netlink_cmd_rcv_bufs 1000",
    "notify_fifo /run/f",
    "notify_fifo_script /r.sh",
    "vrrp_notify_fifo /run/v",
    "vrrp_notify_fifo_script /r.sh",
    "vrrp_notify_priority_changes on",
    "fifo_write_vrrp_states_on_reload",
    "script_user nobody nogroup",
    "enable_script_security",
    "startup_script /s.sh",
    "shutdown_script /s.sh",
    "startup_script_timeout 10",
    "shutdown_script_timeout 10",
    "enable_snmp_vrrp",
    "enable_snmp_rfc",
    "enable_snmp_rfcv2",
    "enable_snmp_rfcv3",
    "enable_traps",
    "snmp_socket udp:1.2.3.4:705",
    "enable_dbus",
    "dbus_service_name n",
    "json_version 2",
    "json_file_location /f",
    "state_file_location /f",
    "stats_file_location /f",
    "data_use_instance",
    "reload_check_config",
    "reload_time_file /f",
    "reload_repeat",
    "reload_file",
    "dynamic_interfaces",
    "linkbeat_use_polling",
    "log_unknown_vrids",
    "process_names",
    "include_check",
    "config_save_dir /d",
    "nftables",
    "nftables_priority 1",
    "vrrp_iptables",
    "vrrp_ipsets",
    "lvs_flush",
    "lvs_sync_daemon eth0",
    "checker_priority 1",
    "checker_no_swap",
    "vmac_prefix v",
    "vmac_addr_prefix v",
    "iproute_etc_dir /d",
];

/// Of `vrrp_instance`.
const OF_INSTANCE: &[&str] = &[
    "state BACKUP",
    "priority 90",
    "advert_int 1",
    "version 2",
    "unicast_src_ip 10.0.0.1",
    "mcast_src_ip 10.0.0.1",
    "unicast_ttl 255",
    "check_unicast_src",
    "unicast_fault_no_peer",
    "track_src_ip",
    "old_unicast_checksum never",
    "v3_checksum_as_v2",
    "no_virtual_ipaddress",
    "virtual_routes",
    "virtual_rules",
    "promote_secondaries",
    "nopreempt",
    "preempt",
    "preempt_delay 5",
    "garp_master_delay 1",
    "garp_master_repeat 1",
    "garp_master_refresh 5",
    "garp_master_refresh_repeat 1",
    "garp_lower_prio_delay 1",
    "garp_lower_prio_repeat 0",
    "garp_extra_if 5",
    "down_timer_adverts 3",
    "timer_expired_backup",
    "thread_timer_expired",
    "lower_prio_no_advert",
    "higher_prio_send_advert",
    "skip_check_adv_addr",
    "strict_mode",
    "accept",
    "no_accept",
    "dont_track_primary",
    "track_bfd",
    "notify_master /x",
    "notify_backup /x",
    "notify_fault /x",
    "notify_stop /x",
    "notify_deleted /x",
    "notify /x",
    "notify_master_rx_lower_pri /x",
    "notify_priority_changes on",
    "smtp_alert",
    "debug 1",
    "kernel_rx_buf_size 1000",
    "use_vmac",
    "use_vmac_addr",
    "vmac_xmit_base",
    "use_ipvlan",
    "vrf blue",
    "mcast_dst_ip 224.0.0.18",
    "linkbeat_use_polling",
];

const OF_TOP: &[&str] = &[
    "static_ipaddress",
    "static_routes",
    "static_rules",
    "track_group",
    "garp_group",
    "interface_up_down_delays",
    "linkbeat_interfaces",
    "bfd_instance",
    "virtual_server",
    "virtual_server_group",
    "net_namespace",
    "instance",
    "use_pid_dir",
];

#[track_caller]
fn is_known(text: &str, line: &str) {
    let verdict = verdict(text, line);
    let unknown = ["is no keyword", "out of place", NOT_UNDERSTOOD, "the default is used"];
    assert!(!unknown.iter().any(|words| verdict.why.contains(words)), "{line}: {verdict:#?}");
    // What is lost names what to use instead.
    let names_a_way = ["use ", "keep ", "put ", "remove "].iter().any(|way| verdict.why.contains(way));
    assert!(verdict.kind != Kind::NotSupported || names_a_way, "{line}: {verdict:#?}");
}

#[test]
fn each_of_global_defs_has_its_verdict_and_what_is_written_runs() {
    for line in GLOBAL {
        let text = format!("global_defs {{\n{line} \n}}\n{}", instance(""));
        is_known(&text, line);
        router(&text);
    }
    let all = format!("global_defs {{\n{}\n}}\n{}", GLOBAL.join("\n"), instance(""));
    router(&all);
}

#[test]
fn each_of_an_instance_has_its_verdict_and_what_is_written_runs() {
    for line in OF_INSTANCE {
        let text = instance(&format!("unicast_peer {{\n10.0.0.2\n}}\n{line} \n"));
        is_known(&text, &format!("{line} "));
        router(&text);
    }
}

#[test]
fn each_of_the_top_has_its_verdict() {
    for word in OF_TOP {
        is_known(&format!("{word} NAME\n{}", instance("")), &format!("{word} NAME"));
    }
}

#[test]
fn no_word_is_in_a_list_twice_and_what_is_lost_names_what_to_use_instead() {
    for list in [super::super::keywords::TOP, super::super::keywords::GLOBALS, super::super::keywords::INSTANCE] {
        for (word, kind, why) in list.iter().filter(|(_, kind, _)| *kind == Kind::NotSupported) {
            let way = ["use ", "keep ", "put ", "remove "].iter().any(|way| why.contains(way));
            assert!(way, "{word} is {kind:?}, and names nothing to use instead: {why}");
        }
        let mut words: Vec<_> = list.iter().map(|(word, ..)| word).collect();
        let all = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), all);
    }
}
