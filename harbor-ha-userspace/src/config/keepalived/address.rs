//! Judges virtual addresses and peers.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::draft::Address;
use super::judge::{Judge, fits};
use super::safety::Culprit;
use super::tree::Node;
use crate::config::check;
use crate::config::values;

/// Whether a word is an IPv6 address, with or without a prefix length.
pub(super) fn is_ipv6(word: &str) -> bool {
    word.split('/').next().is_some_and(|bare| bare.parse::<Ipv6Addr>().is_ok())
}

impl Judge<'_> {
    /// The statements of a block of addresses. `interface`: the instance's.
    pub(super) fn addresses(&mut self, node: &Node, key: &str, interface: &str, list: &mut Vec<Address>) {
        self.carried(node, &format!("instance.{key}"));
        for child in node.children() {
            self.no_block(child);
            if let Some(address) = self.address(child, key, interface) {
                list.push(address);
            }
        }
    }

    fn address(&mut self, node: &Node, key: &str, interface: &str) -> Option<Address> {
        if is_ipv6(node.keyword()) {
            self.refused(node, "is an IPv6 address, and harbor-ha serves IPv4 only; keep it in a keepalived");
            return None;
        }
        // Without a length keepalived means the address alone.
        let text = match node.keyword().split_once('/') {
            Some(_) => node.keyword().to_owned(),
            None => format!("{}/32", node.keyword()),
        };
        let vip = match fits(&text, values::vip) {
            Ok(vip) => vip,
            Err(why) => {
                self.refused(node, why);
                return None;
            }
        };
        let mut found = Address {
            place: node.place,
            address: vip.address,
            prefix: vip.prefix,
            interface: None,
            label: None,
            scope: None,
        };
        let mut dropped: Vec<String> = Vec::new();
        let mut words = node.words.iter().skip(1).map(String::as_str);
        while let Some(word) = words.next() {
            let wrong = match word {
                "dev" => match words.next().map(|name| fits(name, check::interface)) {
                    Some(Ok(name)) => {
                        found.interface = Some(name).filter(|name| name != interface);
                        None
                    }
                    Some(Err(why)) => Some(why),
                    None => Some("names no interface".into()),
                },
                "label" => match words.next() {
                    Some(label) if fits(label, crate::config::router::instance::label).is_ok() => {
                        found.label = Some(label.to_owned());
                        None
                    }
                    _ => Some("has a label that the kernel would not take".into()),
                },
                "scope" => match words.next() {
                    Some("global" | "0") => None,
                    Some("site" | "200") => {
                        found.scope = Some("site");
                        None
                    }
                    Some("link" | "253") => {
                        found.scope = Some("link");
                        None
                    }
                    Some("host" | "254") => {
                        found.scope = Some("host");
                        None
                    }
                    _ => Some("has a scope other than global, site, link and host".into()),
                },
                "brd" | "broadcast" | "preferred_lft" | "track_group" => {
                    dropped.push(format!("{word} {}", words.next().unwrap_or_default()));
                    None
                }
                "home" | "-nodad" | "mngtmpaddr" | "noprefixroute" | "autojoin" | "no_track" => {
                    dropped.push(word.to_owned());
                    None
                }
                "peer" => Some("is one end of a point-to-point link; put it up by a notify script".into()),
                "use_vmac" => Some("has a virtual MAC, which a cloud drops; gratuitous ARP moves the address".into()),
                _ => Some("says more than dev, label and scope".into()),
            };
            if let Some(why) = wrong {
                self.refused(node, why);
                return None;
            }
        }
        match dropped.as_slice() {
            [] => self.carried(node, &format!("instance.{key}")),
            _ => self.changed(node, format!("instance.{key}, without `{}`", dropped.join("`, `"))),
        }
        Some(found)
    }

    /// `unicast_peer`; answers with the least TTL that is asked for.
    pub(super) fn peers(&mut self, node: &Node, source: Option<Ipv4Addr>, peers: &mut Vec<Ipv4Addr>) -> Option<u8> {
        let mut least: Option<u8> = None;
        self.carried(node, "instance.peers; adverts of others are dropped");
        for child in node.children() {
            self.no_block(child);
            // keepalived takes a prefix length, and leaves it out.
            let bare =
                child.keyword().split_once('/').filter(|(_, length)| length.parse::<u8>().is_ok_and(|it| it <= 32));
            let address = match fits(bare.map_or(child.keyword(), |(bare, _)| bare), values::host_address) {
                Ok(address) if source == Some(address) => {
                    self.not_needed(child, "is this node's own address, and nobody speaks to himself");
                    continue;
                }
                Ok(address) if peers.contains(&address) => {
                    self.not_needed(child, "is named twice");
                    continue;
                }
                Ok(address) => address,
                Err(why) => {
                    self.refused(child, why.clone());
                    self.culprit
                        .get_or_insert_with(|| Culprit::new(child, format!("it would run without this peer: {why}")));
                    continue;
                }
            };
            peers.push(address);
            let mut words = child.words.iter().skip(1).map(String::as_str);
            let mut lost = None;
            while let Some(word) = words.next() {
                match (word, words.next().and_then(|n| n.parse::<u8>().ok())) {
                    ("min_ttl", Some(ttl)) => least = Some(least.map_or(ttl, |least| least.min(ttl))),
                    ("max_ttl", Some(255)) => {}
                    ("max_ttl", Some(_)) => lost = Some("there is no max_ttl; use instance.min_ttl"),
                    _ => lost = Some("takes min_ttl and max_ttl with numbers from 0 to 255"),
                }
            }
            match lost {
                Some(why) => self.refused(child, why),
                None => self.carried(child, "instance.peers"),
            }
        }
        least
    }
}
