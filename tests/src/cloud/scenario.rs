//! What stands in the double's cloud at its start: a file, TOML or JSON.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::keys::{Key, Role};

/// The whole file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// `cn-hangzhou`
    pub region: String,
    /// Of the main account; resources of RAM policies have it.
    #[serde(default = "account")]
    pub account: String,
    /// How long a change takes, in milliseconds; without it: until somebody settles it.
    #[serde(default)]
    pub transition_ms: Option<u64>,
    /// Access keys, by id.
    #[serde(default)]
    pub key: BTreeMap<String, Key>,
    /// Of the instances.
    #[serde(default)]
    pub role: Option<Role>,
    /// By id.
    #[serde(default)]
    pub vswitch: BTreeMap<String, VSwitch>,
    /// By id.
    #[serde(default)]
    pub security_group: BTreeMap<String, SecurityGroup>,
    /// By id.
    #[serde(default)]
    pub instance: BTreeMap<String, Instance>,
    /// By id.
    #[serde(default)]
    pub havip: BTreeMap<String, HaVip>,
    /// By allocation id.
    #[serde(default)]
    pub eip: BTreeMap<String, Eip>,
    /// Whose metadata is shown to somebody who is none of the instances; for tests on the loopback interface.
    #[serde(default)]
    pub metadata_of: Option<String>,
    /// The metadata service shows nothing to whoever comes without a token.
    #[serde(default)]
    pub hardened: bool,
}

fn account() -> String {
    "1000000000000001".to_owned()
}

/// A subnet in one zone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VSwitch {
    /// Its VPC.
    pub vpc: String,
    /// First address.
    pub network: Ipv4Addr,
    /// Length of the prefix.
    pub prefix: u8,
    /// Its zone.
    pub zone: String,
}

impl VSwitch {
    /// Whether an address is inside.
    pub fn holds(&self, address: Ipv4Addr) -> bool {
        self.place(address).is_some()
    }

    /// The place of an address, counted from the first one.
    pub fn place(&self, address: Ipv4Addr) -> Option<u32> {
        let place = u32::from(address).checked_sub(u32::from(self.network))?;
        (place < self.size()).then_some(place)
    }

    /// How many addresses it has.
    pub fn size(&self) -> u32 {
        1u32.checked_shl(32 - u32::from(self.prefix)).unwrap_or(u32::MAX)
    }
}

/// A security group.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityGroup {
    /// Its VPC.
    pub vpc: String,
    /// `true`: its members may talk to each other without a rule.
    #[serde(default)]
    pub inner: bool,
    /// What may come in.
    #[serde(default)]
    pub rule: Vec<Rule>,
}

/// A rule for what comes in, or goes out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// `TCP`, `UDP`, `ICMP`, `GRE`, `ALL`, or a number.
    pub protocol: String,
    /// `3112/3112`, `-1/-1`
    pub ports: String,
    /// `10.0.0.0/24`
    pub source: String,
    /// `Accept` or `Drop`
    #[serde(default = "accept")]
    pub policy: String,
    /// `ingress` or `egress`
    #[serde(default = "ingress")]
    pub direction: String,
}

fn accept() -> String {
    "Accept".to_owned()
}

fn ingress() -> String {
    "ingress".to_owned()
}

/// An ECS instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// Its private address; who comes from it is this instance to the metadata service.
    pub address: Ipv4Addr,
    /// Of its primary interface, `02:00:00:00:00:01`: who announces an address from it is this instance.
    pub mac: String,
    /// Where it is.
    pub vswitch: String,
    /// Its security groups.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// `Running`, `Stopped`
    #[serde(default = "running")]
    pub status: String,
    /// It may not be started, stopped or rebooted.
    #[serde(default)]
    pub locked: bool,
    /// Its disks that a stop clears.
    #[serde(default)]
    pub local_disks: u64,
    /// What is run when it stops, besides that it is so: the power switch of a lab's node.
    #[serde(default)]
    pub on_stop: Vec<String>,
}

fn running() -> String {
    "Running".to_owned()
}

/// A HaVip.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HaVip {
    /// The private virtual address.
    pub address: Ipv4Addr,
    /// Where it is.
    pub vswitch: String,
    /// Instances that are bound.
    #[serde(default)]
    pub members: Vec<String>,
    /// Who announced it last.
    #[serde(default)]
    pub master: Option<String>,
}

/// A public address.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eip {
    /// The address.
    pub address: Ipv4Addr,
    /// The HaVip or instance it is bound to.
    #[serde(default)]
    pub bound: Option<String>,
}

impl Scenario {
    /// Reads a file: JSON when its name says so, else TOML.
    ///
    /// # Errors
    /// It cannot be read, or names what is not in it.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?;
        let json = file.extension().is_some_and(|extension| extension == "json");
        let parsed: Result<Self> = match json {
            true => serde_json::from_str(&text).map_err(Into::into),
            false => toml::from_str(&text).map_err(Into::into),
        };
        let scenario = parsed.with_context(|| format!("cannot understand `{}`", file.display()))?;
        scenario.check().with_context(|| format!("in `{}`", file.display()))?;
        Ok(scenario)
    }

    /// # Errors
    /// Something refers to what is not there.
    pub fn check(&self) -> Result<()> {
        for (id, instance) in &self.instance {
            ensure!(self.vswitch.contains_key(&instance.vswitch), "instance {id}: no vswitch `{}`", instance.vswitch);
            ensure!(super::garp::mac(&instance.mac).is_some(), "instance {id}: `{}` is no MAC address", instance.mac);
        }
        for (id, havip) in &self.havip {
            ensure!(self.vswitch.contains_key(&havip.vswitch), "havip {id}: no vswitch `{}`", havip.vswitch);
            for member in havip.members.iter().chain(&havip.master) {
                ensure!(self.instance.contains_key(member), "havip {id}: no instance `{member}`");
            }
        }
        for (id, eip) in &self.eip {
            if let Some(bound) = &eip.bound {
                let known = self.havip.contains_key(bound) || self.instance.contains_key(bound);
                ensure!(known, "eip {id}: neither a havip nor an instance is `{bound}`");
            }
        }
        if let Some(id) = &self.metadata_of {
            ensure!(self.instance.contains_key(id), "metadata_of: no instance `{id}`");
        }
        Ok(())
    }

    /// How long a change takes; `None`: until somebody settles it.
    pub fn transition(&self) -> Option<Duration> {
        self.transition_ms.map(Duration::from_millis)
    }
}

/// The ids of [`pair`].
pub mod ids {
    /// The region.
    pub const REGION: &str = "cn-double-1";
    /// The subnet of everything.
    pub const VSWITCH: &str = "vsw-double";
    /// The two instances.
    pub const INSTANCES: [&str; 2] = ["i-double-a", "i-double-b"];
    /// A third one, in another subnet.
    pub const STRANGER: &str = "i-double-far";
    /// The HaVip of the two.
    pub const HAVIP: &str = "havip-double";
    /// Its public address.
    pub const EIP: &str = "eip-double";
    /// One that is free.
    pub const FREE_EIP: &str = "eip-double-free";
    /// The account's own key.
    pub const KEY: &str = "LTAI-double-owner";
    /// The role of the instances.
    pub const ROLE: &str = "harbor-ha-double";
    /// The security group of the two.
    pub const GROUP: &str = "sg-double";
}

/// Two instances with these cards at 10.77.0.1 and .2, bound to a HaVip at 10.77.0.100, which has a public address.
///
/// The addresses are the lab's. Changes take until they are settled.
pub fn pair(macs: [String; 2]) -> Scenario {
    let instance = |last: u8, mac: String| Instance {
        address: Ipv4Addr::new(10, 77, 0, last),
        mac,
        vswitch: ids::VSWITCH.into(),
        security_groups: vec![ids::GROUP.into()],
        status: running(),
        locked: false,
        local_disks: 0,
        on_stop: Vec::new(),
    };
    let vswitch = |third: u8| VSwitch {
        vpc: "vpc-double".into(),
        network: Ipv4Addr::new(10, 77, third, 0),
        prefix: 24,
        zone: format!("{}-a", ids::REGION),
    };
    let stranger = Instance {
        address: Ipv4Addr::new(10, 77, 1, 1),
        vswitch: "vsw-double-far".into(),
        ..instance(1, "02:77:ff:ff:ff:ff".into())
    };
    let rule = |protocol: &str, ports: &str| Rule {
        protocol: protocol.into(),
        ports: ports.into(),
        source: "10.77.0.0/24".into(),
        policy: accept(),
        direction: ingress(),
    };
    let group = SecurityGroup {
        vpc: "vpc-double".into(),
        inner: false,
        rule: vec![rule("UDP", "1/65535"), rule("TCP", "5432/5432"), rule("112", "-1/-1")],
    };
    let owner = Key {
        secret: format!("{}-of-owner", super::keys::MARK),
        active: true,
        user: "owner".into(),
        token: None,
        policy: None,
    };
    let [a, b] = macs;
    let [one, two] = ids::INSTANCES.map(str::to_owned);
    let members = vec![one.clone(), two.clone()];
    let eip = |last: u8, bound: Option<&str>| Eip {
        address: Ipv4Addr::new(203, 0, 113, last),
        bound: bound.map(str::to_owned),
    };
    Scenario {
        region: ids::REGION.into(),
        account: account(),
        transition_ms: None,
        key: [(ids::KEY.into(), owner)].into(),
        role: Some(Role { name: ids::ROLE.into(), lifetime: 6 * 3600, policy: None }),
        vswitch: [(ids::VSWITCH.into(), vswitch(0)), ("vsw-double-far".into(), vswitch(1))].into(),
        security_group: [(ids::GROUP.into(), group)].into(),
        instance: [(one, instance(1, a)), (two, instance(2, b)), (ids::STRANGER.into(), stranger)].into(),
        havip: [(
            ids::HAVIP.into(),
            HaVip { address: Ipv4Addr::new(10, 77, 0, 100), vswitch: ids::VSWITCH.into(), members, master: None },
        )]
        .into(),
        eip: [(ids::EIP.into(), eip(10, Some(ids::HAVIP))), (ids::FREE_EIP.into(), eip(11, None))].into(),
        metadata_of: Some(ids::INSTANCES[0].into()),
        hardened: true,
    }
}

/// The cards of [`pair`] where there is no lab.
pub fn no_cards() -> [String; 2] {
    ["02:77:00:00:00:0a".into(), "02:77:00:00:00:0b".into()]
}
