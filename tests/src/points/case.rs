//! Which death, where, and what makes a node come to that place.

use std::fmt;

use harbor_ha::fault::POINTS;

/// What dies at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// The daemon that has reached it.
    Daemon,
    /// The postmaster of its node; where that one has none, the other node's.
    Postgres,
    /// The node, with everything on it.
    Node,
}

impl Kind {
    /// All of them, the mildest first.
    pub const ALL: [Self; 3] = [Self::Daemon, Self::Postgres, Self::Node];

    /// As on the command line and in the JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Postgres => "postgres",
            Self::Node => "node",
        }
    }
}

/// Whose daemon is to reach the point: the node that is this when the scenario begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It serves.
    Primary,
    /// It stands by.
    Standby,
}

/// What makes the nodes go through takeover, demotion and rejoin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// The primary loses its power, and gets it back once the other one serves.
    Power,
    /// The postmaster of the primary is killed.
    Postgres,
    /// A hand-over that was asked for.
    Switchover,
    /// The primary writes what its standby never gets, then loses its power: it has to be rewound.
    Fork,
    /// The standby is made anew.
    Reinit,
    /// The postmaster of the standby is killed.
    Standby,
    /// The standby loses its power.
    StandbyPower,
    /// The standby lost its power in the middle of a promotion, and the primary went on.
    BrokeOff,
    /// Both lose their power.
    Blackout,
}

impl Scenario {
    /// For lines and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Power => "power loss",
            Self::Postgres => "postmaster killed",
            Self::Switchover => "switchover",
            Self::Fork => "fork, power loss",
            Self::Reinit => "reinit",
            Self::Standby => "standby's postmaster killed",
            Self::StandbyPower => "standby's power loss",
            Self::BrokeOff => "standby's promotion broke off",
            Self::Blackout => "blackout",
        }
    }

    /// The node that is meant comes to its point only after it lost its power: its daemon is armed when it gets it back.
    pub fn arms_at_power_on(self, role: Role) -> bool {
        matches!(
            (self, role),
            (Self::Power | Self::Fork, Role::Primary)
                | (Self::StandbyPower | Self::BrokeOff, Role::Standby)
                | (Self::Blackout, _)
        )
    }
}

/// A place where something dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// One of the daemon's fault points.
    pub point: &'static str,
    /// Whose.
    pub role: Role,
    /// On which way.
    pub scenario: Scenario,
}

/// Cases that do not come to their point each time, and why: of every other one a sweep insists that it was reached.
const BY_CHANCE: [(Scenario, &str, &str); 2] = [
    (Scenario::Blackout, "start.", "who is back first serves: then the old primary rejoins instead of starting as one"),
    (
        Scenario::Standby,
        "start.",
        "one that was seen without its stream before its server was gone is rejoined, which starts it as well",
    ),
];

impl Case {
    /// Why nobody may have come to the point, without that something is wrong.
    pub fn may_be_missed(&self) -> Option<&'static str> {
        let known = |(scenario, prefix, _): &&(Scenario, &str, &str)| {
            *scenario == self.scenario && self.point.starts_with(prefix)
        };
        BY_CHANCE.iter().find(known).map(|(_, _, why)| *why)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::Primary => "primary",
            Role::Standby => "standby",
        };
        write!(f, "{:<24} {:<37}", self.point, format!("{role}, {}", self.scenario.name()))
    }
}

/// The ways on which a point is reached: most belong to one step of one role, some to several.
fn ways(point: &str) -> Vec<(Role, Scenario)> {
    use Role::{Primary, Standby};
    match point {
        "order.begin" | "order.done" => vec![(Standby, Scenario::Power), (Primary, Scenario::Postgres)],
        "terms.done" => vec![(Standby, Scenario::Power), (Primary, Scenario::Switchover)],
        "stop.begin" => vec![(Primary, Scenario::Switchover), (Primary, Scenario::Postgres)],
        "stop.signalled" | "stop.done" | "withdraw.done" => vec![(Primary, Scenario::Switchover)],
        "start.begin" | "start.done" => {
            vec![(Standby, Scenario::StandbyPower), (Standby, Scenario::Standby), (Primary, Scenario::Blackout)]
        }
        "start.signal" => vec![(Standby, Scenario::StandbyPower)],
        "promote.signalled" => vec![(Standby, Scenario::Power), (Standby, Scenario::Switchover)],
        _ if point.starts_with("rejoin.") => vec![(Primary, Scenario::Fork)],
        _ if point.starts_with("untaken.") => vec![(Standby, Scenario::BrokeOff)],
        _ if point.starts_with("basebackup.") => vec![(Standby, Scenario::Reinit)],
        _ => vec![(Standby, Scenario::Power)],
    }
}

/// All cases, or those of one point.
pub fn cases(only: Option<&str>) -> Vec<Case> {
    let wanted = POINTS.into_iter().filter(|point| only.is_none_or(|only| only == *point));
    wanted
        .flat_map(|point| ways(point).into_iter().map(move |(role, scenario)| Case { point, role, scenario }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_has_a_way_to_it_and_one_can_be_had_alone() {
        let all = cases(None);
        assert!(POINTS.into_iter().all(|point| all.iter().any(|case| case.point == point)));
        assert_eq!(cases(Some("start.signal")).len(), 1);
        assert_eq!(cases(Some("no.point")), []);
    }
}
