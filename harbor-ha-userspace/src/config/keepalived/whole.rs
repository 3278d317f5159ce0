//! What must hold of an instance as a whole and between instances, when each of its lines has been judged.

use std::net::Ipv4Addr;

use super::draft::{self, Instance};
use super::judge::{Judge, set, slug};
use super::tree::Node;
use super::verdict::Kind;
use super::{SecretToWrite, instance};
use crate::config::router::instance::MOST_VIPS;
use crate::config::secret::Secret;
use crate::config::settings::VrrpVersion;

impl Judge<'_> {
    /// What must hold of the whole, and between instances.
    pub(super) fn finish(
        &mut self,
        node: &Node,
        mut it: Instance,
        min_ttl: Option<u8>,
        mut password: Option<Secret<String>>,
    ) {
        if let Some(culprit) = self.unfit(node, &it, password.is_some()) {
            let why = format!("its instance is not carried over: {}", culprit.why);
            return self.ledger.lose_for(it.scope, culprit.place, &culprit.keyword, &why);
        }
        let same = self.draft.instances.iter().find(|other| {
            let overlap = match (it.peers.is_empty(), other.peers.is_empty()) {
                (true, true) => true,
                (false, false) => it.peers.iter().any(|peer| other.peers.contains(peer)),
                _ => false,
            };
            it.interface == other.interface && it.vrid == other.vrid && overlap
        });
        if let Some(other) = same {
            let why =
                format!("`{}` has the same virtual_router_id on the same interface with the same peers", other.name);
            return self.ledger.lose(it.scope, &format!("its instance is not carried over: {why}"));
        }
        let mut seen: Vec<(Ipv4Addr, String)> = Vec::new();
        for other in &self.draft.instances {
            seen.extend(other.vips.iter().chain(&other.excluded).map(|vip| whose(vip, &other.interface)));
        }
        let mut doubled = Vec::new();
        for list in [&mut it.vips, &mut it.excluded] {
            list.retain(|vip| {
                let this = whose(vip, &it.interface);
                let fresh = !seen.contains(&this);
                if fresh {
                    seen.push(this)
                } else {
                    doubled.push((vip.place, vip.address))
                }
                fresh
            });
        }
        for (place, address) in doubled {
            self.ledger.note(place, &address.to_string(), Kind::NotSupported, "is an address that is there already");
        }
        if it.vips.len() > MOST_VIPS {
            for vip in &it.vips[MOST_VIPS..] {
                let why = format!(
                    "moved to excluded_vips: an advert of harbor-ha carries {MOST_VIPS} at most; do it on all nodes"
                );
                self.ledger.note(vip.place, &vip.address.to_string(), Kind::NotSupported, why);
            }
            let place = node.last("virtual_ipaddress").map_or(node.place, |list| list.place);
            let why = format!(
                "has more than {MOST_VIPS} addresses, and harbor-ha hears no advert of so many: beside a keepalived with more \
                 than {MOST_VIPS} addresses in one instance both would be master; first move the rest to \
                 virtual_ipaddress_excluded on all nodes"
            );
            self.ledger.trap(place, "virtual_ipaddress", Kind::NotSupported, why);
            let rest = it.vips.split_off(MOST_VIPS);
            it.excluded.splice(0..0, rest);
        }
        if it.excluded.len() > 1000 {
            for vip in it.excluded.split_off(1000) {
                self.ledger.note(vip.place, &vip.address.to_string(), Kind::NotSupported, "more than 1000 addresses");
            }
        }
        self.ttl(node, &mut it, min_ttl);
        if password.is_some() && self.strict(node) {
            password = None;
            let place = node.last("authentication").map_or(node.place, |block| block.place);
            let why = "keepalived sends no password, as it is strict (`vrrp_strict`); nor does harbor-ha. Remove one of the two, on \
                       all nodes at once";
            self.ledger.trap(place, "authentication", Kind::Changed, why);
        }
        if self.options.pair.is_some() && !instance::holds_back(node) {
            self.changed(
                node,
                "the node with the higher priority does not take over when it returns; `harbor-ha switchover` does it",
            );
        }
        self.defaults(&mut it);
        if let Some(password) = password {
            let stem = slug(&it.name, 40).unwrap_or_else(|| "instance".into());
            let taken = |name: &str| self.draft.secrets.iter().any(|secret| secret.path.ends_with(name));
            let mut name = format!("{stem}.password");
            if taken(&name) {
                name = format!("{stem}-{}.password", it.scope);
            }
            let path = self.options.secrets_dir.join(name);
            it.main.set("password_file", draft::text(&path.to_string_lossy()));
            self.draft.secrets.push(SecretToWrite { path, secret: password });
        }
        self.draft.instances.push(it);
    }

    fn ttl(&mut self, node: &Node, it: &mut Instance, min_ttl: Option<u8>) {
        if it.peers.is_empty() {
            if it.main.get("ttl").is_some_and(|ttl| ttl != "255") {
                let place = node.last("unicast_ttl").map_or(node.place, |child| child.place);
                self.ledger.note(
                    place,
                    "unicast_ttl",
                    Kind::NotNeeded,
                    "without peers the adverts are multicast, with 255",
                );
            }
            it.main.remove("ttl");
            return;
        }
        match (min_ttl, it.main.get("ttl")) {
            (Some(least), _) => set(&mut it.main, "min_ttl", least),
            // Who sends less than 255 has a router between the nodes.
            (None, Some(ttl)) if ttl != "255" => {
                it.main.set("min_ttl", "0".into());
                let place = node.last("unicast_ttl").map_or(node.place, |child| child.place);
                let key = if self.options.pair.is_none() { "instance.min_ttl = 0" } else { "vrrp.min_ttl = 1" };
                let why = format!(
                    "{key}: adverts of any TTL are taken, as there is a router between the nodes; raise it to what arrives"
                );
                self.ledger.note(place, "unicast_ttl", Kind::Changed, why);
            }
            (None, _) => {
                let place = node.last("unicast_peer").map_or(node.place, |peers| peers.place);
                let why = match self.options.pair {
                    None => {
                        "a TTL below 255 is refused, which keepalived takes; with a router between the nodes use min_ttl = 0"
                    }
                    Some(_) => {
                        "a TTL below 255 is refused, which keepalived takes; with a router between the nodes use vrrp.min_ttl"
                    }
                };
                self.ledger.note(place, "unicast_peer", Kind::Changed, why);
            }
        }
    }

    /// What the globals say where the instance does not.
    fn defaults(&mut self, it: &mut Instance) {
        for (key, value) in self.globals.main.iter() {
            it.main.set_default(key, value);
        }
        if it.peers.is_empty() {
            it.main.remove("check_source");
        }
        for (key, value) in self.globals.announce.iter() {
            it.announce.set_default(key, value);
        }
        if self.globals.one_announcement {
            it.announce.set("repeat", "1".into());
            it.announce.set("delay", "\"0s\"".into());
        }
        if self.globals.rfc9568 && it.version == VrrpVersion::V3 {
            it.main.set_default("checksum", "\"rfc9568\"");
        }
        if self.globals.priority_changes {
            it.notify.set_default("priority_changes", "true");
        }
        // Said although it is the default: it is the first thing that one looks for.
        it.main.set_default("preempt", "true");
        if it.main.get("preempt") == Some("false") {
            it.main.remove("preempt_delay");
        }
    }
}

fn whose(vip: &draft::Address, interface: &str) -> (Ipv4Addr, String) {
    (vip.address, vip.interface.clone().unwrap_or_else(|| interface.to_owned()))
}
