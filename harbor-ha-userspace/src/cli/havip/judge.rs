//! What is right, wrong or unknown about the HaVip and all that it needs. Pure: facts in, lines out.

use std::net::Ipv4Addr;

use serde::Serialize;

use super::stranger;
use crate::cloud::admission::{Admission, Group, Packet, Protocol, Sender, admits};
use crate::cloud::{Eip, HaVip, Instance};
use crate::config::settings::cloud::Cloud as Settings;

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    Unknown,
    Bad,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    pub level: Level,
    pub subject: &'static str,
    pub text: String,
}

/// A question that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotTold {
    /// In words.
    pub why: String,
    /// The RAM policy does not allow it.
    pub denied: bool,
}

/// What was asked and found.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub keys: Result<String, NotTold>,
    pub region: Result<String, NotTold>,
    pub own: Result<String, NotTold>,
    pub vswitch: Result<String, NotTold>,
    pub havip: Result<Option<HaVip>, NotTold>,
    pub instances: Result<Vec<Instance>, NotTold>,
    /// Of the configured EIP; `Ok(None)` also when none is.
    pub eip: Result<Option<Eip>, NotTold>,
    /// Those of all instances.
    pub groups: Result<Vec<Group>, NotTold>,
    /// A stop of the peer, tried without doing it; `None`: not configured.
    pub stop: Option<Result<(), NotTold>>,
    /// Whether the daemon of this node serves, and whether the peer does, as it sees that; `None`: it does not answer.
    pub serves: Option<(bool, bool)>,
}

/// What the configuration says besides `[cloud]`.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// `None`: as the interface has it.
    pub address: Option<Ipv4Addr>,
    /// `None`: there are several.
    pub peer: Option<Ipv4Addr>,
    /// UDP ports of the pulses and of the table of connections; empty without pulses.
    pub pulses: Vec<u16>,
    pub adverts: bool,
    pub keys: Keys,
}

/// Where the configuration says so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    pub address: &'static str,
    pub peer: &'static str,
    pub vips: &'static str,
}

/// Every line there is to say.
pub(super) fn judge(settings: &Settings, node: &Node, facts: &Facts) -> Vec<Line> {
    let mut lines = Lines(Vec::new());
    lines.told("keys", &facts.keys, |from| format!("from {from}"));
    lines.told("region", &facts.region, Clone::clone);
    lines.told("instance", &facts.own, |id| format!("{id} is this node"));
    lines.told("vswitch", &facts.vswitch, Clone::clone);
    havip(settings, node, facts, &mut lines);
    members(settings, facts, &mut lines);
    instances(settings, node, facts, &mut lines);
    eip(settings, facts, &mut lines);
    master(settings, facts, &mut lines);
    security_groups(settings, node, facts, &mut lines);
    permissions(settings, facts, &mut lines);
    lines.0
}

struct Lines(Vec<Line>);

impl Lines {
    fn add(&mut self, level: Level, subject: &'static str, text: impl Into<String>) {
        self.0.push(Line { level, subject, text: text.into() });
    }

    /// What was told; or that it was not, without which nothing else can be asked, and then `None`.
    fn told<'a, T>(
        &mut self,
        subject: &'static str,
        fact: &'a Result<T, NotTold>,
        show: impl Fn(&T) -> String,
    ) -> Option<&'a T> {
        match fact {
            Ok(value) => {
                self.add(Level::Ok, subject, show(value));
                Some(value)
            }
            Err(not_told) => {
                self.add(Level::Bad, subject, not_told.why.clone());
                None
            }
        }
    }
}

fn havip(settings: &Settings, node: &Node, facts: &Facts, lines: &mut Lines) {
    let vips = node.keys.vips;
    let found = match &facts.havip {
        Ok(Some(havip)) => havip,
        Ok(None) => {
            let text = match &settings.havip {
                Some(id) => format!("there is no {id}; correct cloud.havip, or use \"auto\""),
                None => format!("there is none with the address {}; run `harbor-ha havip provision`", settings.address),
            };
            return lines.add(Level::Bad, "havip", text);
        }
        Err(not_told) => {
            let level = if not_told.denied { Level::Bad } else { Level::Unknown };
            return lines.add(level, "havip", not_told.why.clone());
        }
    };
    match found.is_at_rest() {
        true => lines.add(Level::Ok, "havip", format!("{} is {}", found.id, found.status)),
        false => {
            let text = format!("{} is {}: a change is under way; ask again in a minute", found.id, found.status);
            lines.add(Level::Unknown, "havip", text);
        }
    }
    match found.address {
        Some(address) if address == settings.address => {
            lines.add(Level::Ok, "address", format!("{address}, as in {vips}"));
        }
        Some(address) => lines.add(
            Level::Bad,
            "address",
            format!("it is {address}, and {vips} has {}; correct one of the two", settings.address),
        ),
        None => lines.add(Level::Unknown, "address", "not told"),
    }
    if let (Ok(wanted), Some(is)) = (&facts.vswitch, &found.vswitch)
        && wanted != is
    {
        let text =
            format!("the HaVip is in {is}, and this pair in {wanted}: it can have no instance of another vSwitch");
        lines.add(Level::Bad, "vswitch", text);
    }
}

fn members(settings: &Settings, facts: &Facts, lines: &mut Lines) {
    let (Ok(Some(havip)), Ok(own)) = (&facts.havip, &facts.own) else { return };
    if havip.of_interfaces {
        let text = "it is bound to network interfaces, and harbor-ha speaks of instances; bind the instances instead";
        return lines.add(Level::Bad, "bound", text);
    }
    for (id, which, word) in [(own, "this node", "own"), (&settings.peer_instance, "the peer", "peer")] {
        match havip.members.contains(id) {
            true => lines.add(Level::Ok, "bound", format!("{id}, {which}")),
            false => {
                let text = format!(
                    "{id}, {which}, is NOT bound: it cannot get the address; run `harbor-ha havip bind {word}`"
                );
                lines.add(Level::Bad, "bound", text);
            }
        }
    }
    for other in havip.members.iter().filter(|id| *id != own && **id != settings.peer_instance) {
        lines.add(Level::Bad, "bound", stranger(other));
    }
}

fn instances(settings: &Settings, node: &Node, facts: &Facts, lines: &mut Lines) {
    let Ok(own) = &facts.own else { return };
    let Some(found) = told_silently("instances", &facts.instances, lines) else { return };
    let both = [
        (own, node.keys.address, node.address, "cloud.instance"),
        (&settings.peer_instance, node.keys.peer, node.peer, "cloud.peer_instance"),
    ];
    for (id, key, address, from) in both {
        let Some(instance) = found.iter().find(|instance| instance.id == *id) else {
            lines.add(Level::Bad, "instances", format!("there is no {id} in this region; correct {from}"));
            continue;
        };
        let running = instance.status.is("Running");
        let level = if running { Level::Ok } else { Level::Unknown };
        lines.add(level, "instances", format!("{id} is {}", instance.status));
        if let (Some(is), Some(address)) = (instance.address, address)
            && is != address
        {
            let text = format!("{id} has the address {is}, and {key} is {address}; correct {from} or {key}");
            lines.add(Level::Bad, "instances", text);
        }
        if let (Some(is), Ok(wanted)) = (&instance.vswitch, &facts.vswitch)
            && is != wanted
        {
            let text = format!("{id} is in {is}, not in {wanted}: a HaVip and its instances are in one vSwitch");
            lines.add(Level::Bad, "vswitch", text);
        }
        if settings.fence.stop && instance.local_disks > 0 && *id == settings.peer_instance {
            let text = format!("{id} has local disks, which a stop clears; take \"ecs-stop\" out of cloud.fence");
            lines.add(Level::Bad, "fence", text);
        }
    }
}

fn told_silently<'a, T>(subject: &'static str, fact: &'a Result<T, NotTold>, lines: &mut Lines) -> Option<&'a T> {
    match fact {
        Ok(value) => Some(value),
        Err(not_told) => {
            let level = if not_told.denied { Level::Bad } else { Level::Unknown };
            lines.add(level, subject, not_told.why.clone());
            None
        }
    }
}

fn eip(settings: &Settings, facts: &Facts, lines: &mut Lines) {
    let Some(id) = &settings.eip else { return lines.add(Level::Ok, "eip", "none is configured") };
    let Some(found) = told_silently("eip", &facts.eip, lines) else { return };
    let Some(eip) = found else {
        return lines.add(Level::Bad, "eip", format!("there is no {id} in this region; correct cloud.eip"));
    };
    let shown = format!("{id} ({})", eip.address.as_deref().unwrap_or("address not told"));
    let havip = facts.havip.as_ref().ok().and_then(Option::as_ref);
    match (&eip.bound_to, havip) {
        (Some(to), Some(havip)) if *to == havip.id => lines.add(Level::Ok, "eip", format!("{shown} is bound to {to}")),
        (Some(to), Some(havip)) => {
            let text = format!(
                "{shown} is bound to {to}, not to {}; unbind it there, then `harbor-ha havip bind-eip`",
                havip.id
            );
            lines.add(Level::Bad, "eip", text);
        }
        (None, _) => {
            lines.add(Level::Bad, "eip", format!("{shown} is bound to nothing; run `harbor-ha havip bind-eip`"));
        }
        (Some(to), None) => lines.add(Level::Unknown, "eip", format!("{shown} is bound to {to}")),
    }
    if !eip.locks.is_empty() {
        let text = format!("{id} is locked ({}); settle that with Alibaba Cloud", eip.locks.join(", "));
        lines.add(Level::Bad, "eip", text);
    }
}

fn master(settings: &Settings, facts: &Facts, lines: &mut Lines) {
    let (Ok(Some(havip)), Ok(own)) = (&facts.havip, &facts.own) else { return };
    let (level, text) = match agreement(havip.master.as_deref(), own, &settings.peer_instance, facts.serves) {
        Agreement::Yes(text) => (Level::Ok, text),
        Agreement::No(text) => (Level::Bad, text),
        Agreement::Unknown(text) => (Level::Unknown, text),
    };
    lines.add(level, "master", text);
}

/// Whether the cloud and the daemon mean the same node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Agreement {
    Yes(String),
    No(String),
    Unknown(String),
}

/// `serves`: whether this node's daemon serves, and whether it sees the peer do so; `None`: it does not answer.
pub(super) fn agreement(master: Option<&str>, own: &str, peer: &str, serves: Option<(bool, bool)>) -> Agreement {
    let Some(master) = master else {
        return match serves {
            Some((true, _)) => Agreement::No(
                "nobody has the HaVip, and this node serves: its announcements are not seen; is it bound?".to_owned(),
            ),
            _ => Agreement::Unknown("nobody has announced the address yet".to_owned()),
        };
    };
    let has = super::whose(master, own, peer);
    let no = |who: &str| Agreement::No(format!("{has} has the HaVip, and by the daemon {who} serves"));
    match serves {
        None => Agreement::Unknown(format!("{has} has the HaVip; the daemon of this node does not answer")),
        Some((true, _)) if master == own => Agreement::Yes(format!("{has} has the HaVip and serves")),
        Some((true, _)) => no("this node"),
        Some((false, true)) if master == peer => Agreement::Yes(format!("{has} has the HaVip and serves")),
        Some((false, true)) => no("the peer"),
        Some((false, false)) => Agreement::Unknown(format!("{has} has the HaVip; by the daemon neither node serves")),
    }
}

fn security_groups(settings: &Settings, node: &Node, facts: &Facts, lines: &mut Lines) {
    const SUBJECT: &str = "security group";
    let (Ok(own), Ok(instances)) = (&facts.own, &facts.instances) else { return };
    let Some(groups) = told_silently(SUBJECT, &facts.groups, lines) else { return };
    let find = |id: &String| instances.iter().find(|instance| instance.id == *id);
    let (Some(own), Some(peer)) = (find(own), find(&settings.peer_instance)) else { return };
    let udp = |port: &u16| (format!("UDP {port}"), Packet { protocol: Protocol::Udp, port: *port });
    let mut packets: Vec<_> = node.pulses.iter().map(udp).collect();
    if node.adverts {
        packets.push(("IP protocol 112".to_owned(), Packet { protocol: Protocol::Vrrp, port: 0 }));
    }
    for (to, from, from_address) in [(own, peer, node.peer), (peer, own, node.address)] {
        // What is not configured is as the service has it.
        let Some(from_address) = from_address.or(from.address) else {
            lines.add(Level::Unknown, SUBJECT, format!("the address of {} is not told", from.id));
            continue;
        };
        let of_receiver: Vec<Group> = groups.iter().filter(|group| to.groups.contains(&group.id)).cloned().collect();
        let sender = Sender { address: from_address, groups: &from.groups };
        for (name, packet) in &packets {
            let which = format!("{name} from {from_address} to {}", to.id);
            match admits(&of_receiver, &sender, *packet) {
                Admission::Yes => lines.add(Level::Ok, SUBJECT, format!("{which} passes")),
                Admission::Unknown => {
                    let text = format!("{which}: a rule is not understood (a prefix list?); look at it in the console");
                    lines.add(Level::Unknown, SUBJECT, text);
                }
                Admission::No => {
                    let way_out = match packet.protocol {
                        Protocol::Udp => {
                            format!("allow {name} from {from_address}/32 in one of {}", to.groups.join(", "))
                        }
                        _ if node.pulses.is_empty() => "allow all from that address".to_owned(),
                        _ => "allow all from that address, or set vrrp.adverts = false: pulses suffice".to_owned(),
                    };
                    lines.add(Level::Bad, SUBJECT, format!("{which} is dropped; {way_out}"));
                }
            }
        }
    }
}

fn permissions(settings: &Settings, facts: &Facts, lines: &mut Lines) {
    const SUBJECT: &str = "permissions";
    let asked = [
        facts.havip.as_ref().map(|_| ()),
        facts.instances.as_ref().map(|_| ()),
        facts.groups.as_ref().map(|_| ()),
        facts.eip.as_ref().map(|_| ()),
    ];
    match asked.iter().all(Result::is_ok) {
        true => lines.add(Level::Ok, SUBJECT, "to look: all that was asked was answered"),
        // The lines above say which.
        false if asked.iter().any(|asked| asked.is_err_and(|not_told| not_told.denied)) => {
            lines.add(Level::Bad, SUBJECT, "to look: not all; `harbor-ha havip policy` prints what is needed");
        }
        false => lines.add(Level::Unknown, SUBJECT, "to look: not all was answered"),
    }
    // The service has no dry run for these: to try them would be to do them.
    let text = "to bind and unbind: cannot be tried without doing it; `harbor-ha havip policy` prints what is needed";
    lines.add(Level::Unknown, SUBJECT, text);
    if settings.fence.stop {
        match &facts.stop {
            Some(Ok(())) => lines.add(Level::Ok, SUBJECT, "to stop the peer: a dry run is allowed"),
            Some(Err(not_told)) => {
                let level = if not_told.denied { Level::Bad } else { Level::Unknown };
                lines.add(level, SUBJECT, format!("to stop the peer: {}", not_told.why));
            }
            None => lines.add(Level::Unknown, SUBJECT, "to stop the peer: not tried"),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
