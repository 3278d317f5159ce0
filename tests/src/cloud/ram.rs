//! What RAM allows: policies in the form that Alibaba Cloud publishes, and their judgement.
//!
//! Only what such a policy needs here: `Allow` and `Deny`, actions and resources with `*`. A condition is refused when the
//! policy is read, as whoever ignores one allows too much.

use serde::{Deserialize, Serialize};

/// A policy document.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Policy {
    /// `1`
    pub version: String,
    /// All of them count.
    pub statement: Vec<Statement>,
}

/// One statement.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Statement {
    /// Allow or deny.
    pub effect: Effect,
    /// `vpc:DescribeHaVips`, `vpc:*`
    pub action: Words,
    /// `acs:vpc:REGION:ACCOUNT:havip/ID`, `*`
    pub resource: Words,
}

/// What a statement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Unless another one denies it.
    Allow,
    /// Whatever others allow.
    Deny,
}

/// One word, or a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Words {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Words {
    fn any(&self, text: &str) -> bool {
        match self {
            Self::One(pattern) => matches(pattern, text),
            Self::Many(patterns) => patterns.iter().any(|pattern| matches(pattern, text)),
        }
    }
}

impl Policy {
    /// Whether the action may be done with the resource; who is denied and who is not mentioned both may not.
    pub fn allows(&self, action: &str, resource: &str) -> bool {
        let about = |effect| {
            let mut those = self.statement.iter().filter(|statement| statement.effect == effect);
            those.any(|statement| statement.action.any(action) && statement.resource.any(resource))
        };
        about(Effect::Allow) && !about(Effect::Deny)
    }
}

/// Whether a pattern with `*` describes a whole text; the case of letters does not count.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    // Without a star the first part is the whole.
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Policy {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_star_stands_for_anything_and_nothing() {
        assert!(matches("*", "") && matches("acs:*:havip/*", "acs:vpc:r:1:havip/a") && matches("vpc:*", "vpc:X"));
        assert!(!matches("vpc:A", "vpc:AB") && !matches("a*b*c", "a-c-b") && matches("a*b*c", "abbc"));
    }

    #[test]
    fn what_nobody_allows_is_denied_and_a_denial_wins() {
        let it = policy(
            r#"{"Version":"1","Statement":[
                {"Effect":"Allow","Action":["vpc:Describe*","ecs:StopInstance"],"Resource":"*"},
                {"Effect":"Deny","Action":"ecs:StopInstance","Resource":"acs:ecs:*:*:instance/i-a"}]}"#,
        );
        assert!(it.allows("vpc:DescribeHaVips", "acs:vpc:r:1:havip/*"));
        assert!(it.allows("ecs:StopInstance", "acs:ecs:r:1:instance/i-b"));
        assert!(!it.allows("ecs:StopInstance", "acs:ecs:r:1:instance/i-a"));
        assert!(!it.allows("vpc:AssociateHaVip", "acs:vpc:r:1:havip/h"));
    }

    #[test]
    fn a_condition_is_refused_rather_than_ignored() {
        let text = r#"{"Version":"1","Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{}}]}"#;
        assert!(serde_json::from_str::<Policy>(text).is_err());
    }
}
