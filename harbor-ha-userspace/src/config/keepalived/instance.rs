//! Judges `vrrp_instance`.

use std::time::Duration;

use super::address::is_ipv6;
use super::draft::{self, Instance, Table, Tracks};
use super::judge::{Judge, fits, set};
use super::tree::Node;
use super::verdict::Kind;
use super::{notify, timing};
use crate::config::check;
use crate::config::router::shared;
use crate::config::settings::VrrpVersion;
use crate::config::values;

/// What is judged here, beside [`notify::OWN`].
pub(super) const OWN: [&str; 37] = [
    "state",
    "interface",
    "virtual_router_id",
    "priority",
    "advert_int",
    "version",
    "authentication",
    "unicast_src_ip",
    "mcast_src_ip",
    "unicast_peer",
    "unicast_ttl",
    "check_unicast_src",
    "v3_checksum_as_v2",
    "virtual_ipaddress",
    "virtual_ipaddress_excluded",
    "no_virtual_ipaddress",
    "nopreempt",
    "preempt",
    "preempt_delay",
    "garp_master_delay",
    "garp_master_repeat",
    "garp_master_refresh",
    "garp_master_refresh_repeat",
    "garp_lower_prio_delay",
    "garp_lower_prio_repeat",
    "down_timer_adverts",
    "lower_prio_no_advert",
    "higher_prio_send_advert",
    "skip_check_adv_addr",
    "accept",
    "dont_track_primary",
    "track_interface",
    "track_script",
    "track_process",
    "track_file",
    "unicast_fault_no_peer",
    "old_unicast_checksum",
];

/// Of [`OWN`], those that may be there several times, or in blocks.
const SEVERAL: [&str; 10] = [
    "authentication",
    "unicast_peer",
    "virtual_ipaddress",
    "virtual_ipaddress_excluded",
    "nopreempt",
    "preempt",
    "track_interface",
    "track_script",
    "track_process",
    "track_file",
];

/// Of which keepalived keeps the first.
const FIRST: [&str; 1] = ["version"];

/// The `state` that counts: a MASTER, wherever it stands.
pub(super) fn state(node: &Node) -> Option<&Node> {
    let master = |child: &&Node| child.keyword() == "state" && child.word(1) == Some("MASTER");
    node.children().iter().find(master).or_else(|| node.last("state"))
}

/// Whether `nopreempt` holds: a `preempt` below takes its place.
pub(super) fn holds_back(node: &Node) -> bool {
    let last = node.children().iter().rev().find(|child| ["nopreempt", "preempt"].contains(&child.keyword()));
    last.is_some_and(|child| child.keyword() == "nopreempt")
}

const LONGEST_DELAY: Duration = Duration::from_secs(1000);

impl Judge<'_> {
    pub(super) fn instance(&mut self, node: &Node) {
        let mut instance = match self.begin(node) {
            Ok(instance) => instance,
            Err(why) => return self.refused(node, why),
        };
        self.carried(node, "[[instance]]");
        self.culprit = None;
        let (mut min_ttl, mut password) = (None, None);
        let once: Vec<_> = OWN.into_iter().chain(notify::OWN).filter(|word| !SEVERAL.contains(word)).collect();
        let first: Vec<_> = FIRST.into_iter().chain(notify::SCRIPTS).collect();
        for child in node.children() {
            if self.superseded(node, child, &once, &first) {
                continue;
            }
            match child.keyword() {
                "authentication" => password = self.authentication(child, instance.version),
                "unicast_peer" => min_ttl = self.peers(child, instance.source, &mut instance.peers),
                "virtual_ipaddress" => self.addresses(child, "vips", &instance.interface, &mut instance.vips),
                "virtual_ipaddress_excluded" => {
                    self.addresses(child, "excluded_vips", &instance.interface, &mut instance.excluded);
                }
                "track_interface" | "track_script" | "track_process" | "track_file" => {
                    let own = (!node.has("dont_track_primary")).then_some(instance.interface.as_str());
                    self.track(child, own, &mut instance.track);
                }
                keyword if notify::OWN.contains(&keyword) => self.notify(child, &mut instance.notify),
                keyword if keyword.starts_with("garp_") => {
                    self.no_block(child);
                    let mut announce = std::mem::take(&mut instance.announce);
                    self.announce(child, keyword, &mut announce, "");
                    instance.announce = announce;
                }
                _ => self.key(node, child, &mut instance),
            }
        }
        self.finish(node, instance, min_ttl, password);
    }

    /// What the rest depends on, or why there is nothing to carry over.
    fn begin(&mut self, node: &Node) -> Result<Instance, String> {
        let name = fits(node.word(1).ok_or("has no name")?, shared::name)?;
        if self.draft.instances.iter().any(|instance| instance.name == name) {
            return Err("has the name of an instance that is there already".into());
        }
        if self.options.pair.is_some() && !self.draft.instances.is_empty() {
            return Err("a pair has one instance, and this is another one; import without --postgres".into());
        }
        let word = |keyword: &str| node.last(keyword).and_then(|child| child.word(1));
        let ipv6 = node.has("native_ipv6")
            || ["unicast_src_ip", "mcast_src_ip"].iter().any(|keyword| word(keyword).is_some_and(is_ipv6))
            || ["virtual_ipaddress", "unicast_peer"].iter().any(|keyword| {
                node.children()
                    .iter()
                    .filter(|child| child.keyword() == *keyword)
                    .any(|list| list.children().iter().any(|item| is_ipv6(item.keyword())))
            });
        if ipv6 {
            return Err(
                "is an instance of IPv6, and harbor-ha serves IPv4 only, as a HaVip does; keep a keepalived for it"
                    .into(),
            );
        }
        let Some(interface) = word("interface") else {
            return Err("names no interface, which harbor-ha needs; add `interface`".into());
        };
        let interface = fits(interface, check::interface)?;
        let Some(vrid) = word("virtual_router_id").and_then(|id| id.parse::<u8>().ok()).filter(|id| *id > 0) else {
            return Err("has no virtual_router_id from 1 to 255; keepalived refuses it too".into());
        };
        let version = match node.first("version").and_then(|child| child.word(1)) {
            Some("2") => VrrpVersion::V2,
            Some("3") => VrrpVersion::V3,
            _ => self.globals.version,
        };
        let source = word("unicast_src_ip").or(word("mcast_src_ip"));
        let source = source.and_then(|source| fits(source, values::host_address).ok());
        Ok(Instance {
            scope: self.scope(),
            name,
            interface,
            vrid,
            version,
            source,
            peers: Vec::new(),
            vips: Vec::new(),
            excluded: Vec::new(),
            main: Table::default(),
            announce: Table::default(),
            track: Tracks::default(),
            notify: Table::default(),
        })
    }

    /// The keys without a block.
    fn key(&mut self, node: &Node, child: &Node, instance: &mut Instance) {
        if OWN.contains(&child.keyword()) {
            self.no_block(child);
        }
        let main = &mut instance.main;
        let wishes_master = state(node).and_then(|child| child.word(1)) == Some("MASTER");
        let owner = node.last("priority").and_then(|child| child.word(1)) == Some("255");
        match child.keyword() {
            "state" => match child.word(1) {
                Some(state @ ("MASTER" | "BACKUP")) => {
                    main.set("state", draft::text(&state.to_ascii_lowercase()));
                    self.carried(child, "instance.state; it decides with priority 255 alone, as with keepalived");
                }
                _ => self.refused(child, "takes MASTER or BACKUP; BACKUP is used"),
            },
            "interface" => self.carried(child, "instance.interface"),
            "virtual_router_id" => self.carried(child, "instance.vrid"),
            "version" => match child.word(1) {
                Some("2" | "3") => self.carried(child, "instance.version"),
                _ => self.refused(child, "takes 2 or 3; the default is used"),
            },
            "priority" => {
                if let Some(priority) = self.number(child, 1, 255) {
                    set(main, "priority", priority);
                    self.carried(child, "instance.priority");
                }
            }
            "advert_int" => {
                let Some(wanted) = child.word(1).and_then(timing::seconds) else {
                    return self.refused(child, "takes seconds; 1 is used");
                };
                let rounded = timing::advert_interval(wanted, instance.version);
                main.set("advert_interval", draft::length(rounded));
                if rounded == wanted {
                    self.carried(child, "instance.advert_interval");
                } else {
                    let (shown, steps) = match instance.version {
                        VrrpVersion::V2 => (values::show(rounded), "version 2 knows whole seconds, 1 to 255"),
                        VrrpVersion::V3 => (values::show(rounded), "version 3 knows steps of 10 ms, 10 ms to 40.95 s"),
                    };
                    self.changed(
                        child,
                        format!("instance.advert_interval = \"{shown}\", as keepalived rounds it: {steps}"),
                    );
                }
            }
            "unicast_src_ip" | "mcast_src_ip" => match child.word(1).map(|word| fits(word, values::host_address)) {
                Some(Ok(_)) => self.carried(child, "instance.source"),
                Some(Err(why)) => self.refused(child, why),
                None => self.refused(child, "names no address"),
            },
            "unicast_ttl" => {
                if let Some(ttl) = self.number(child, 1, 255) {
                    set(main, "ttl", ttl);
                    self.carried(child, "instance.ttl");
                }
            }
            "check_unicast_src" => {
                if let Some(on) = self.switch(child) {
                    set(main, "check_source", on);
                    self.carried(child, "instance.check_source");
                }
            }
            "unicast_fault_no_peer" => {
                match node.last("unicast_peer").is_some_and(|peers| !peers.children().is_empty()) {
                    true => self.not_needed(child, "there are peers"),
                    false => self.refused(child, "without peers the adverts are multicast; name the peers"),
                }
            }
            "old_unicast_checksum" => match child.word(1) {
                Some("never") => {
                    self.not_needed(child, "the checksum of keepalived before 1.3.7 is never sent or taken")
                }
                _ => self.refused(child, "the checksum of keepalived before 1.3.7 is not there; upgrade that peer"),
            },
            "v3_checksum_as_v2" => {
                let Some(on) = self.switch(child) else { return };
                if instance.version == VrrpVersion::V2 {
                    return self.not_needed(child, "is for version 3");
                }
                main.set("checksum", draft::text(if on { "rfc9568" } else { "pseudo-header" }));
                self.carried(child, "instance.checksum");
            }
            "no_virtual_ipaddress" => self.carried(child, "instance.vips = []"),
            "nopreempt" if owner => {
                self.not_needed(child, "the owner of the address (priority 255) always preempts, in keepalived too");
            }
            "nopreempt" if !holds_back(node) => self.not_needed(child, "a `preempt` below takes its place"),
            "nopreempt" if wishes_master => {
                main.set("preempt", "false".into());
                self.trap(
                    child,
                    Kind::Changed,
                    "instance.preempt = false; keepalived cancels it because of `state MASTER`, so this node took over at each \
                     return; here it holds",
                );
            }
            "nopreempt" => {
                main.set("preempt", "false".into());
                self.carried(child, "instance.preempt = false");
            }
            "preempt" if holds_back(node) => self.not_needed(child, "a `nopreempt` below takes its place"),
            "preempt" => self.carried(child, "instance.preempt, the default"),
            "preempt_delay" => {
                let Some(delay) = self.seconds(child, Duration::ZERO, LONGEST_DELAY) else { return };
                if holds_back(node) && !owner {
                    return self.not_needed(child, "does nothing beside nopreempt");
                }
                main.set("preempt_delay", draft::length(delay));
                if wishes_master {
                    let why = "instance.preempt_delay; keepalived cancels it because of `state MASTER`; here it holds";
                    return self.trap(child, Kind::Changed, why);
                }
                self.carried(child, "instance.preempt_delay");
            }
            "down_timer_adverts" => {
                if let Some(number) = self.number(child, 1, 100) {
                    set(main, "down_timer_adverts", number);
                    self.carried(child, "instance.down_timer_adverts");
                }
            }
            key @ ("lower_prio_no_advert" | "higher_prio_send_advert" | "skip_check_adv_addr") => {
                if let Some(on) = self.switch(child) {
                    set(main, key, on);
                    self.carried(child, &format!("instance.{key}"));
                }
            }
            "accept" => self.carried(child, "the addresses are accepted, always"),
            "dont_track_primary" => {
                main.set("track_primary", "false".into());
                self.carried(child, "instance.track_primary = false");
            }
            _ => {
                let own: Vec<_> = OWN.iter().chain(&notify::OWN).copied().collect();
                self.listed(child, true, &own);
            }
        }
    }
}
