//! What no instance may run without: its peers, its password, and all else by which two nodes agree on one master.
//!
//! An instance that would lose one of them is not carried over, and a file that has one is not run: both nodes would be
//! master. What keepalived leaves out as well, and goes on without harm, is no such thing.

use super::draft::Instance;
use super::judge::Judge;
use super::keywords::{self, INSTANCE};
use super::tree::Node;
use super::verdict::Place;
use super::{instance, notify};
use crate::config::settings::VrrpVersion;

/// The line for which an instance is not carried over.
pub(super) struct Culprit {
    pub(super) place: Place,
    pub(super) keyword: String,
    pub(super) why: String,
}

impl Culprit {
    pub(super) fn new(node: &Node, why: impl Into<String>) -> Self {
        Self { place: node.place, keyword: node.keyword().to_owned(), why: why.into() }
    }
}

impl Judge<'_> {
    /// Why an instance may not run, if there is a reason. `password`: it has one.
    pub(super) fn unfit(&mut self, node: &Node, it: &Instance, password: bool) -> Option<Culprit> {
        if let Some(place) = self.ledger.hole_in(node.place) {
            let why = format!("its line {} could not be read", place.line);
            return Some(Culprit { place, keyword: "?".to_owned(), why });
        }
        self.culprit
            .take()
            .or_else(|| unknown_block(node))
            .or_else(|| other_adverts(node, it))
            .or_else(|| self.other_group(it))
            .or_else(|| nobody_to_speak_to(node, it))
            .or_else(|| (!password && !self.strict(node)).then(|| unauthenticated(node, it)).flatten())
    }

    /// Whether keepalived would be strict, and then sends no password.
    pub(super) fn strict(&self, node: &Node) -> bool {
        let own = node.last("strict_mode").and_then(|child| super::timing::switch(child.word(1)));
        own.unwrap_or(self.globals.strict)
    }

    fn other_group(&self, it: &Instance) -> Option<Culprit> {
        let place = self.globals.other_group.filter(|_| it.peers.is_empty())?;
        let why = "adverts go to 224.0.0.18, the address of the protocol, and who listens to another group hears none; use \
                   instance.peers, or remove it on all nodes";
        Some(Culprit { place, keyword: "vrrp_mcast_group4".to_owned(), why: why.to_owned() })
    }
}

/// keepalived takes the end of a block that it does not know for the end of the instance, so what follows is lost there, and
/// such a block is a misspelt `unicast_peer` or `authentication` more often than not.
fn unknown_block(node: &Node) -> Option<Culprit> {
    let known = |word: &str| {
        instance::OWN.contains(&word) || notify::OWN.contains(&word) || keywords::find(INSTANCE, word).is_some()
    };
    let found = node.children().iter().find(|child| child.block.is_some() && !known(child.keyword()))?;
    let comparable = if found.keyword().len() <= 64 { &instance::OWN[..] } else { &[] };
    let why = match crate::config::suggest::closest(found.keyword(), comparable.iter().copied()) {
        Some(meant) => format!("this block is none of keepalived's; was `{meant}` meant?"),
        None => {
            "this block is none of keepalived's, which takes its end for that of the instance; remove it".to_owned()
        }
    };
    Some(Culprit::new(found, why))
}

/// What makes of adverts something that the other side, or this one, would not take.
fn other_adverts(node: &Node, it: &Instance) -> Option<Culprit> {
    let listed =
        |child: &Node| Culprit::new(child, keywords::find(INSTANCE, child.keyword()).map_or("", |(_, why)| why));
    node.children().iter().find_map(|child| match child.keyword() {
        "auth_hmac" => Some(listed(child)),
        "mcast_dst_ip" if it.peers.is_empty() && child.word(1) != Some("224.0.0.18") => Some(listed(child)),
        "old_unicast_checksum"
            if it.version == VrrpVersion::V3 && !it.peers.is_empty() && child.word(1) != Some("never") =>
        {
            Some(Culprit::new(child, "the checksum of keepalived before 1.3.7 is not there; upgrade that peer"))
        }
        _ => None,
    })
}

/// keepalived falls back to multicast then. Where unicast was meant, nobody hears that.
fn nobody_to_speak_to(node: &Node, it: &Instance) -> Option<Culprit> {
    if !it.peers.is_empty() {
        return None;
    }
    if let Some(peers) = node.last("unicast_peer") {
        let why = "unicast_peer names no other node, and multicast, to which keepalived falls back, is heard by nobody \
                   where unicast is needed; name the peer, or remove the block on all nodes";
        return Some(Culprit::new(peers, why));
    }
    let source = node.last("unicast_src_ip")?;
    let why = "there is no unicast_peer beside unicast_src_ip, and multicast, to which keepalived falls back, is heard by nobody \
               where unicast is needed; name the peer, or write mcast_src_ip if multicast is meant";
    Some(Culprit::new(source, why))
}

/// keepalived would send a password, or an AH, and ours none.
fn unauthenticated(node: &Node, it: &Instance) -> Option<Culprit> {
    if it.version == VrrpVersion::V3 {
        return None;
    }
    // Each statement replaces the one before, also over several blocks; what keepalived does not know changes nothing.
    let (mut kind, mut pass) = (None, None);
    let blocks = node.children().iter().filter(|child| child.keyword() == "authentication");
    for child in blocks.flat_map(Node::children) {
        match (child.keyword(), child.word(1)) {
            ("auth_type", Some("PASS" | "AH")) => kind = Some(child),
            ("auth_pass", Some(_)) => pass = Some(child),
            _ => {}
        }
    }
    let (kind, pass) = (kind?, pass?);
    Some(match kind.word(1) {
        Some("AH") => {
            Culprit::new(kind, "AH is not there; use auth_type PASS on all nodes, or an IPsec policy of the hosts")
        }
        _ => Culprit::new(
            pass,
            "keepalived sends a password that is not carried over; write auth_type PASS and an auth_pass of 1 to 8 plain \
             characters, in one block",
        ),
    })
}
