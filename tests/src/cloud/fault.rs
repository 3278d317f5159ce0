//! What goes wrong between a client and the service: set by a test, used up by calls.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// `vpc`, `ecs` or `metadata`; without it: all of them.
    #[serde(default)]
    pub service: Option<String>,
    /// Only calls of this action.
    #[serde(default)]
    pub action: Option<String>,
    /// So many calls; without it: until it is taken back.
    #[serde(default)]
    pub times: Option<u32>,
    /// The action is done all the same, and only its answer suffers.
    #[serde(default)]
    pub after: bool,
    /// What happens.
    pub kind: Kind,
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Kind {
    /// Too many calls; perhaps with the time after which to come again.
    Throttle {
        /// `x-acs-retry-after`, which the SDKs read as milliseconds.
        #[serde(default)]
        retry_after_ms: Option<u64>,
    },
    /// An error of this HTTP status and code.
    Error {
        /// 503
        status: u16,
        /// `ServiceUnavailable`
        code: String,
    },
    /// The right answer under this HTTP status.
    WrongStatus {
        /// 200
        status: u16,
    },
    /// Its answer begins so much later.
    Slow {
        /// Milliseconds.
        ms: u64,
    },
    /// Half of the answer, and the end of the connection.
    Truncated,
    /// A page that is no JSON.
    Garbage,
    /// The end of the connection, without a word.
    Reset,
    /// Taken, and never answered.
    BlackHole,
}

impl Kind {
    /// For the journal.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Throttle { .. } => "throttle",
            Self::Error { .. } => "error",
            Self::WrongStatus { .. } => "wrong-status",
            Self::Slow { .. } => "slow",
            Self::Truncated => "truncated",
            Self::Garbage => "garbage",
            Self::Reset => "reset",
            Self::BlackHole => "black-hole",
        }
    }

    /// How much later the answer begins.
    pub fn delay(&self) -> Duration {
        match self {
            Self::Slow { ms } => Duration::from_millis(*ms),
            _ => Duration::ZERO,
        }
    }

    /// Whether the service does what it was asked for, as far as the kind alone says.
    pub fn works(&self) -> bool {
        matches!(self, Self::Slow { .. } | Self::WrongStatus { .. })
    }
}

/// Those in force, the oldest first.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Adds one.
    pub fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// Takes all back.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Those in force.
    pub fn all(&self) -> &[Fault] {
        &self.0
    }

    /// The first one that is meant for a call; counted.
    pub fn hit(&mut self, service: &str, action: &str) -> Option<Fault> {
        let meant = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        let at = self.0.iter().position(|it| meant(&it.service, service) && meant(&it.action, action))?;
        let hit = self.0[at].clone();
        match &mut self.0[at].times {
            Some(times) if *times > 1 => *times -= 1,
            Some(_) => drop(self.0.remove(at)),
            None => {}
        }
        Some(hit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_hits_whom_it_is_meant_for_and_is_used_up() {
        let mut faults = Faults::default();
        let text = r#"{"service":"vpc","action":"DescribeHaVips","times":2,"kind":{"throttle":{"retry-after-ms":20}}}"#;
        faults.add(serde_json::from_str(text).unwrap());
        faults.add(serde_json::from_str(r#"{"kind":"black-hole"}"#).unwrap());
        assert_eq!(faults.hit("vpc", "CreateHaVip").map(|it| it.kind), Some(Kind::BlackHole));
        for _ in 0..2 {
            let hit = faults.hit("vpc", "DescribeHaVips").map(|it| it.kind);
            assert_eq!(hit, Some(Kind::Throttle { retry_after_ms: Some(20) }));
        }
        assert_eq!(faults.hit("vpc", "DescribeHaVips").map(|it| it.kind), Some(Kind::BlackHole));
        assert_eq!(faults.all().len(), 1);
    }
}
