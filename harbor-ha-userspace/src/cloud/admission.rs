//! Whether the security groups of an instance let a packet of another one in. Pure.
//!
//! As the service has it: an instance has several groups and the rules of all count together; the lower number of priority
//! goes first, and at the same number a `Drop`; where no rule fits, members of one group reach each other if the group
//! allows that, and nobody else does.

use std::net::Ipv4Addr;

/// A group, as far as it is about what comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// `sg-…`.
    pub id: String,
    /// Its rules for what comes in.
    pub rules: Vec<Rule>,
    /// `InnerAccessPolicy`; `None`: not told.
    pub members_reach_each_other: Option<bool>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it is about.
    pub protocol: Protocol,
    /// First and last port.
    pub ports: (u16, u16),
    /// Whose packets.
    pub source: Source,
    /// What happens to them.
    pub policy: Policy,
    /// 1 goes first.
    pub priority: u32,
}

/// Protocols a rule can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Every one.
    All,
    /// UDP.
    Udp,
    /// IP protocol 112, which only some regions let a rule name.
    Vrrp,
    /// One that is not ours.
    Other,
}

impl Protocol {
    /// As a rule names it.
    pub fn named(name: &str) -> Self {
        match name.to_ascii_uppercase().as_str() {
            "ALL" | "-1" => Self::All,
            "UDP" | "17" => Self::Udp,
            "VRRP" | "112" => Self::Vrrp,
            _ => Self::Other,
        }
    }
}

/// Whose packets a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An address and the length of its prefix.
    Range(Ipv4Addr, u8),
    /// The members of a group.
    Group(String),
    /// A prefix list, or something newer than this program.
    Other,
}

impl Source {
    /// `10.0.0.0/24`, or one address.
    pub fn range(text: &str) -> Self {
        let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
        match (address.trim().parse(), prefix.trim().parse::<u8>()) {
            (Ok(address), Ok(prefix @ 0..=32)) => Self::Range(address, prefix),
            _ => Self::Other,
        }
    }

    /// `None`: cannot be told.
    fn holds(&self, from: &Sender<'_>) -> Option<bool> {
        match self {
            Self::Range(address, prefix) => {
                let hosts = u32::MAX.checked_shr(u32::from(*prefix)).unwrap_or(0);
                Some((u32::from(*address) ^ u32::from(from.address)) & !hosts == 0)
            }
            Self::Group(group) => Some(from.groups.contains(group)),
            Self::Other => None,
        }
    }
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Lets pass.
    Accept,
    /// Drops.
    Drop,
}

/// Who sends.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its own groups.
    pub groups: &'a [String],
}

/// A packet: a protocol, and the port of UDP (0 for others).
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// [`Protocol::Udp`] or [`Protocol::Vrrp`].
    pub protocol: Protocol,
    /// Where it goes to.
    pub port: u16,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It passes.
    Yes,
    /// It does not.
    No,
    /// It hangs on something that is not known here.
    Unknown,
}

/// What the groups of the receiver do with `packet` of `from`.
pub fn admits(groups: &[Group], from: &Sender<'_>, packet: Packet) -> Admission {
    let mut rules: Vec<&Rule> =
        groups.iter().flat_map(|group| &group.rules).filter(|rule| rule.is_about(packet)).collect();
    rules.sort_by_key(|rule| (rule.priority, rule.policy != Policy::Drop));
    for rule in rules {
        match (rule.source.holds(from), rule.policy) {
            (Some(false), _) => {}
            (Some(true), Policy::Accept) => return Admission::Yes,
            (Some(true), Policy::Drop) => return Admission::No,
            (None, _) => return Admission::Unknown,
        }
    }
    let shared: Vec<&Group> = groups.iter().filter(|group| from.groups.contains(&group.id)).collect();
    match () {
        () if shared.iter().any(|group| group.members_reach_each_other == Some(true)) => Admission::Yes,
        () if shared.iter().any(|group| group.members_reach_each_other.is_none()) => Admission::Unknown,
        () => Admission::No,
    }
}

impl Rule {
    fn is_about(&self, packet: Packet) -> bool {
        match self.protocol {
            Protocol::All => true,
            Protocol::Other => false,
            Protocol::Vrrp => packet.protocol == Protocol::Vrrp,
            Protocol::Udp => packet.protocol == Protocol::Udp && (self.ports.0..=self.ports.1).contains(&packet.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PULSE: Packet = Packet { protocol: Protocol::Udp, port: 5112 };
    const ADVERT: Packet = Packet { protocol: Protocol::Vrrp, port: 0 };

    fn rule(protocol: Protocol, ports: (u16, u16), source: &str, policy: Policy, priority: u32) -> Rule {
        Rule { protocol, ports, source: Source::range(source), policy, priority }
    }

    fn group(id: &str, rules: &[Rule], inner: Option<bool>) -> Group {
        Group { id: id.to_owned(), rules: rules.to_vec(), members_reach_each_other: inner }
    }

    fn judged(groups: &[Group], packet: Packet) -> Admission {
        let own = ["sg-1".to_owned()];
        admits(groups, &Sender { address: Ipv4Addr::new(10, 0, 0, 2), groups: &own }, packet)
    }

    #[test]
    fn members_of_one_group_reach_each_other_if_the_group_says_so() {
        for (inner, expected) in
            [(Some(true), Admission::Yes), (Some(false), Admission::No), (None, Admission::Unknown)]
        {
            assert_eq!(judged(&[group("sg-1", &[], inner)], ADVERT), expected, "{inner:?}");
        }
        assert_eq!(judged(&[group("sg-2", &[], Some(true))], ADVERT), Admission::No, "of another group");
        assert_eq!(judged(&[], ADVERT), Admission::No);
    }

    #[test]
    fn a_rule_counts_from_its_first_port_to_its_last_and_within_its_range() {
        let udp = |low, high, source: &str| {
            group("sg-2", &[rule(Protocol::Udp, (low, high), source, Policy::Accept, 1)], None)
        };
        for (low, high, source, expected) in [
            (5112, 5112, "10.0.0.2", Admission::Yes),
            (5000, 5112, "10.0.0.0/30", Admission::Yes),
            (5112, 6000, "0.0.0.0/0", Admission::Yes),
            (5113, 6000, "0.0.0.0/0", Admission::No),
            (5000, 5111, "0.0.0.0/0", Admission::No),
            (5112, 5112, "10.0.0.3", Admission::No),
            (5112, 5112, "10.0.0.0/31", Admission::No),
        ] {
            assert_eq!(judged(&[udp(low, high, source)], PULSE), expected, "{low}/{high} {source}");
        }
        assert_eq!(judged(&[udp(0, 65535, "0.0.0.0/0")], ADVERT), Admission::No, "UDP is not protocol 112");
    }

    #[test]
    fn protocol_112_passes_where_all_do_or_where_it_is_named() {
        for (name, expected) in [("all", Admission::Yes), ("112", Admission::Yes), ("tcp", Admission::No)] {
            let rule = rule(Protocol::named(name), (0, 65535), "0.0.0.0/0", Policy::Accept, 1);
            assert_eq!(judged(&[group("sg-2", &[rule], None)], ADVERT), expected, "{name}");
        }
    }

    #[test]
    fn the_lower_number_goes_first_over_all_groups_and_a_drop_before_an_accept() {
        let all = |policy, priority| rule(Protocol::All, (0, 65535), "10.0.0.0/8", policy, priority);
        let two = |first, second| [group("sg-2", &[first], None), group("sg-3", &[second], None)];
        assert_eq!(judged(&two(all(Policy::Accept, 1), all(Policy::Drop, 2)), PULSE), Admission::Yes);
        assert_eq!(judged(&two(all(Policy::Accept, 2), all(Policy::Drop, 1)), PULSE), Admission::No);
        assert_eq!(judged(&two(all(Policy::Accept, 1), all(Policy::Drop, 1)), PULSE), Admission::No);
        // A drop goes before what members may among themselves.
        assert_eq!(judged(&[group("sg-1", &[all(Policy::Drop, 1)], Some(true))], PULSE), Admission::No);
    }

    #[test]
    fn a_source_that_is_not_understood_is_no_answer() {
        let mut listed = rule(Protocol::All, (0, 65535), "pl-1", Policy::Accept, 1);
        assert_eq!(listed.source, Source::Other);
        assert_eq!(judged(&[group("sg-2", &[listed.clone()], None)], PULSE), Admission::Unknown);
        listed.source = Source::Group("sg-1".to_owned());
        assert_eq!(judged(&[group("sg-2", &[listed], None)], PULSE), Admission::Yes);
    }
}
