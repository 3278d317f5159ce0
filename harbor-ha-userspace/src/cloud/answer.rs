//! Reads the service's JSON: every field may be missing, and some have odd names.
//!
//! Names are compared without case, as the service writes `associatedInstance` beside `HaVip`; a single value where a list
//! is expected is a list of one, as old samples of the service's own show it.

use std::fmt;
use std::net::Ipv4Addr;

use serde_json::Value;

/// The member of that name.
fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let object = value.as_object()?;
    object.get(name).or_else(|| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}

/// A text; a number or a truth value as one. `None` when it is missing or empty.
pub(super) fn text(value: &Value, name: &str) -> Option<String> {
    plain(member(value, name)?)
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// A number, also one that is written as a text.
pub(super) fn number(value: &Value, name: &str) -> Option<u64> {
    text(value, name)?.parse().ok()
}

/// An IPv4 address.
pub(super) fn address(value: &Value, name: &str) -> Option<Ipv4Addr> {
    text(value, name)?.parse().ok()
}

/// The items of `value.outer.inner`, where `inner` has one of these names; or of `value.outer` itself when that is the
/// list already.
pub(super) fn list<'a>(value: &'a Value, outer: &str, inner: &[&str]) -> Vec<&'a Value> {
    let Some(outer) = member(value, outer) else { return Vec::new() };
    let found = inner.iter().find_map(|name| member(outer, name));
    match found.unwrap_or(outer) {
        Value::Array(items) => items.iter().filter(|item| !item.is_null()).collect(),
        Value::Null => Vec::new(),
        // A table that has none of the names is an empty list, not an item.
        Value::Object(_) if found.is_none() => Vec::new(),
        single => vec![single],
    }
}

/// The same for a list of texts.
pub(super) fn texts(value: &Value, outer: &str, inner: &[&str]) -> Vec<String> {
    list(value, outer, inner).into_iter().filter_map(plain).collect()
}

/// A state as the service names it; compared without case, as it is spelt in more than one way.
#[derive(Clone, Debug, Default)]
pub struct Status(String);

impl Status {
    pub(super) fn of(value: &Value, name: &str) -> Self {
        Self(text(value, name).unwrap_or_default())
    }

    /// A status of that name.
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// Whether it is this one.
    pub fn is(&self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name)
    }

    /// Whether it is one of these; every other one, known or not, is a transition.
    pub fn is_one_of(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.is(name))
    }
}

impl PartialEq for Status {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.0)
    }
}

impl Eq for Status {}

impl fmt::Display for Status {
    /// As the service spells it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "not told" } else { &self.0 })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_found_without_case_and_lists_in_each_of_their_shapes() {
        let odd = json!({"AssociatedInstances": {"associatedInstance": ["i-1", "i-2"]}});
        let names = ["AssociatedInstance"];
        assert_eq!(texts(&odd, "associatedInstances", &names), ["i-1", "i-2"]);
        for (shape, expected) in [
            (json!({"AssociatedInstances": {"associatedInstance": "i-1"}}), vec!["i-1"]),
            (json!({"AssociatedInstances": ["i-1"]}), vec!["i-1"]),
            (json!({"AssociatedInstances": "i-1"}), vec!["i-1"]),
            (json!({"AssociatedInstances": {"associatedInstance": [null, "", 5]}}), vec!["5"]),
            (json!({"AssociatedInstances": {}}), vec![]),
            (json!({"AssociatedInstances": null}), vec![]),
            (json!({}), vec![]),
            (json!("nonsense"), vec![]),
        ] {
            assert_eq!(texts(&shape, "AssociatedInstances", &names), expected, "{shape}");
        }
        let single = json!({"HaVips": {"HaVip": {"HaVipId": "havip-1"}}});
        assert_eq!(text(list(&single, "HaVips", &["HaVip"])[0], "HaVipId").as_deref(), Some("havip-1"));
    }

    #[test]
    fn what_is_missing_or_empty_is_nothing() {
        let value = json!({"MasterInstanceId": "", "Null": null, "Number": 7, "Text": "8"});
        for name in ["MasterInstanceId", "Null", "Gone"] {
            assert_eq!(text(&value, name), None, "{name}");
        }
        assert_eq!((number(&value, "number"), number(&value, "Text")), (Some(7), Some(8)));
    }

    #[test]
    fn a_status_is_compared_without_case() {
        let status = Status::new("Inuse");
        assert!(status.is("InUse") && status == Status::new("INUSE") && !status.is_one_of(&["Available"]));
        assert_eq!((status.to_string().as_str(), Status::default().to_string().as_str()), ("Inuse", "not told"));
    }
}
