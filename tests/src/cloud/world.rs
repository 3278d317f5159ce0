//! The state of the double's cloud, and how it changes by itself: what a call began ends some time later.
//!
//! Pure: the caller says what time it is, counted from the double's start.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::keys::{Keys, Role};
use super::scenario::{Scenario, SecurityGroup, VSwitch};
use super::verify::Nonces;

/// Everything.
#[derive(Debug)]
pub struct World {
    /// The only region there is.
    pub region: String,
    /// The main account.
    pub account: String,
    /// How long a change takes; `None`: until it is settled by hand.
    pub transition: Option<Duration>,
    /// Access keys.
    pub keys: Keys,
    /// The role of the instances.
    pub role: Option<Role>,
    /// What was signed with.
    pub nonces: Nonces,
    /// By id.
    pub vswitches: BTreeMap<String, VSwitch>,
    /// By id.
    pub groups: BTreeMap<String, SecurityGroup>,
    /// By id.
    pub instances: BTreeMap<String, Instance>,
    /// By id.
    pub havips: BTreeMap<String, HaVip>,
    /// By allocation id.
    pub eips: BTreeMap<String, Eip>,
    /// Calls with a client token, and what came of them.
    pub calls: BTreeMap<String, Call>,
    /// What does not go as it should.
    pub quirks: Quirks,
    /// Gratuitous ARP for a HaVip, as it was seen.
    pub announcements: Vec<Announcement>,
    /// Power switches to be turned; whoever runs the world takes them.
    pub orders: Vec<Vec<String>>,
    made: u32,
}

/// An instance.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "as in the scenario")]
pub struct Instance {
    pub address: Ipv4Addr,
    pub mac: String,
    pub vswitch: String,
    pub security_groups: Vec<String>,
    /// `Running`, `Stopping`, ...
    pub status: String,
    /// Said by the last stop.
    pub stopped_mode: Option<String>,
    pub locked: bool,
    pub local_disks: u64,
    #[serde(skip)]
    pub on_stop: Vec<String>,
    /// What it becomes, and when.
    #[serde(skip)]
    pub change: Option<(Due, &'static str)>,
}

/// A HaVip.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "as in the scenario")]
pub struct HaVip {
    pub address: Ipv4Addr,
    pub vswitch: String,
    pub name: String,
    pub description: String,
    pub members: Vec<String>,
    /// Who announced it last, of those that were bound then.
    pub master: Option<String>,
    #[serde(skip)]
    pub change: Option<(Due, Change)>,
}

/// What a HaVip is being changed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It comes to be.
    Create,
    /// It goes.
    Delete,
    /// An instance is bound.
    Bind(String),
    /// An instance is taken away.
    Unbind(String),
}

/// A public address.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "as in the scenario")]
pub struct Eip {
    pub address: Ipv4Addr,
    /// A HaVip, or an instance.
    pub bound: Option<String>,
    /// What it will be bound to, and when.
    #[serde(skip)]
    pub change: Option<(Due, Option<String>)>,
}

/// When a change ends; `None`: when it is settled by hand.
pub type Due = Option<Duration>;

/// A call with a client token.
#[derive(Clone, Debug)]
pub struct Call {
    /// Everything but who asked and when.
    pub parameters: Vec<(String, String)>,
    /// Its answer.
    pub answer: Value,
    /// The HaVip or EIP that it changes: while that goes on, the call does.
    pub about: Option<String>,
}

/// What does not go as it should, until it is taken back.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Quirks {
    /// Ids of HaVips, EIPs and instances that stay in transition.
    pub stuck: BTreeSet<String>,
    /// So many announcements are still overheard.
    pub ignore_announcements: u32,
    /// HaVips that no announcement moves.
    pub havip_stuck: BTreeSet<String>,
    /// Status words to be shown instead of the true ones, by id.
    pub shown: BTreeMap<String, String>,
}

/// A gratuitous ARP for the address of a HaVip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Announcement {
    /// Milliseconds since the double's start.
    pub at_ms: u64,
    /// Which.
    pub havip: String,
    /// The instance whose interface it came from, when it is known.
    pub from: Option<String>,
    /// What came of it.
    pub outcome: Heard,
}

/// What came of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Heard {
    /// The HaVip is the sender's now.
    Moved,
    /// It was already.
    Same,
    /// The sender is not bound to it.
    NotBound,
    /// A fault of the double.
    Ignored,
}

impl World {
    /// As the scenario says.
    pub fn new(scenario: &Scenario) -> Self {
        let instances = scenario.instance.iter().map(|(id, it)| {
            let it = it.clone();
            let instance = Instance {
                address: it.address,
                mac: it.mac,
                vswitch: it.vswitch,
                security_groups: it.security_groups,
                status: it.status,
                stopped_mode: None,
                locked: it.locked,
                local_disks: it.local_disks,
                on_stop: it.on_stop,
                change: None,
            };
            (id.clone(), instance)
        });
        let havips = scenario.havip.iter().map(|(id, it)| {
            let it = it.clone();
            (id.clone(), HaVip { members: it.members, master: it.master, ..HaVip::new(it.address, it.vswitch) })
        });
        let eips = scenario.eip.iter();
        Self {
            region: scenario.region.clone(),
            account: scenario.account.clone(),
            transition: scenario.transition(),
            keys: Keys::new(scenario.key.clone()),
            role: scenario.role.clone(),
            nonces: Nonces::default(),
            vswitches: scenario.vswitch.clone(),
            groups: scenario.security_group.clone(),
            instances: instances.collect(),
            havips: havips.collect(),
            eips: eips
                .map(|(id, it)| (id.clone(), Eip { address: it.address, bound: it.bound.clone(), change: None }))
                .collect(),
            calls: BTreeMap::new(),
            quirks: Quirks::default(),
            announcements: Vec::new(),
            orders: Vec::new(),
            made: 0,
        }
    }

    /// When a change that begins now ends.
    pub fn due(&self, now: Duration) -> Due {
        self.transition.map(|transition| now + transition)
    }

    /// A new id, unlike all others.
    pub fn new_id(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("{kind}-double{:04}", self.made)
    }

    /// Ends every change whose time has come.
    pub fn settle(&mut self, now: Duration) {
        self.end_changes(|due| due.is_some_and(|due| due <= now));
    }

    /// Ends every change, now; those of stuck things excepted.
    pub fn settle_all(&mut self) {
        self.end_changes(|_| true);
    }

    fn end_changes(&mut self, over: impl Fn(Due) -> bool) {
        let stuck = self.quirks.stuck.clone();
        let mut gone = Vec::new();
        for (id, havip) in &mut self.havips {
            if stuck.contains(id) {
                continue;
            }
            if let Some((_, change)) = havip.change.take_if(|(due, _)| over(*due)) {
                if change == Change::Delete {
                    gone.push(id.clone());
                }
                havip.end(change);
            }
        }
        self.havips.retain(|id, _| !gone.contains(id));
        for (id, eip) in &mut self.eips {
            if let Some((_, bound)) = eip.change.take_if(|(due, _)| over(*due) && !stuck.contains(id)) {
                eip.bound = bound;
            }
        }
        for (id, instance) in &mut self.instances {
            let change = instance.change.take_if(|(due, _)| over(*due) && !stuck.contains(id));
            let Some((_, status)) = change else { continue };
            instance.status = status.to_owned();
            if status == "Stopped" && !instance.on_stop.is_empty() {
                self.orders.push(instance.on_stop.clone());
            }
        }
    }

    /// Whether something is in transition.
    pub fn in_transition(&self, id: &str) -> bool {
        self.havips.get(id).is_some_and(|it| it.change.is_some())
            || self.eips.get(id).is_some_and(|it| it.change.is_some())
    }

    /// A status word as it goes out.
    pub fn shown(&self, id: &str, status: &str) -> String {
        self.quirks.shown.get(id).cloned().unwrap_or_else(|| status.to_owned())
    }

    /// Somebody said on the wire that an address lives with it.
    ///
    /// `from`: the MAC address of the sender. Whatever is not about a HaVip is nobody's business here.
    pub fn hear(&mut self, now: Duration, address: Ipv4Addr, from: [u8; 6]) {
        let Some((id, havip)) = self.havips.iter_mut().find(|(_, havip)| havip.address == address) else { return };
        let sender = self.instances.iter().find(|(_, it)| super::garp::mac(&it.mac) == Some(from));
        let sender = sender.map(|(sender, _)| sender.clone());
        let outcome = match &sender {
            Some(sender) if !havip.members.contains(sender) => Heard::NotBound,
            None => Heard::NotBound,
            Some(_) if self.quirks.ignore_announcements > 0 => {
                self.quirks.ignore_announcements -= 1;
                Heard::Ignored
            }
            sender if havip.master == *sender => Heard::Same,
            Some(_) if self.quirks.havip_stuck.contains(id) => Heard::Ignored,
            sender => {
                havip.master.clone_from(sender);
                Heard::Moved
            }
        };
        let at_ms = now.as_millis() as u64;
        self.announcements.push(Announcement { at_ms, havip: id.clone(), from: sender, outcome });
    }
}

impl HaVip {
    /// Nobody is bound to it.
    pub fn new(address: Ipv4Addr, vswitch: String) -> Self {
        let (name, description) = (String::new(), String::new());
        Self { address, vswitch, name, description, members: Vec::new(), master: None, change: None }
    }

    /// As `DescribeHaVips` has it.
    pub fn status(&self) -> &'static str {
        match &self.change {
            Some((_, Change::Create)) => "Creating",
            Some((_, Change::Delete)) => "Deleting",
            Some((_, Change::Bind(_))) => "Associating",
            Some((_, Change::Unbind(_))) => "Unassociating",
            None if self.members.is_empty() => "Available",
            None => "InUse",
        }
    }

    /// Bound and unbound only now: until then a reader sees what was before, the worse of the two for a client that
    /// counts on its call.
    fn end(&mut self, change: Change) {
        match change {
            Change::Create | Change::Delete => {}
            Change::Bind(instance) => self.members.push(instance),
            Change::Unbind(instance) => {
                self.members.retain(|member| *member != instance);
                self.master.take_if(|master| *master == instance);
            }
        }
    }
}

impl Eip {
    /// As `DescribeEipAddresses` has it.
    pub fn status(&self) -> &'static str {
        match (&self.change, &self.bound) {
            (Some((_, Some(_))), _) => "Associating",
            (Some((_, None)), _) => "Unassociating",
            (None, Some(_)) => "InUse",
            (None, None) => "Available",
        }
    }
}
