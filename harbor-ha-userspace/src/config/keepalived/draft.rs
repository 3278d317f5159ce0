//! What will be written: tables of keys and rendered values, in the order they came.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::SecretToWrite;
use super::verdict::Place;
use crate::config::settings::VrrpVersion;
use crate::config::values;

/// Keys with rendered values; a key that comes again replaces the earlier one, as keepalived does it.
#[derive(Clone, Debug, Default)]
pub(super) struct Table(Vec<(String, String)>);

impl Table {
    pub(super) fn set(&mut self, key: &str, value: String) {
        match self.0.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => *known = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Unless it is there.
    pub(super) fn set_default(&mut self, key: &str, value: &str) {
        if self.get(key).is_none() {
            self.0.push((key.to_owned(), value.to_owned()));
        }
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.0.retain(|(known, _)| known != key);
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One `vrrp_instance`.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) scope: usize,
    pub(super) name: String,
    pub(super) interface: String,
    pub(super) vrid: u8,
    pub(super) version: VrrpVersion,
    pub(super) source: Option<Ipv4Addr>,
    pub(super) peers: Vec<Ipv4Addr>,
    pub(super) vips: Vec<Address>,
    pub(super) excluded: Vec<Address>,
    /// Everything else.
    pub(super) main: Table,
    pub(super) announce: Table,
    pub(super) track: Tracks,
    pub(super) notify: Table,
}

/// A virtual address.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) place: Place,
    pub(super) address: Ipv4Addr,
    pub(super) prefix: u8,
    pub(super) interface: Option<String>,
    pub(super) label: Option<String>,
    pub(super) scope: Option<&'static str>,
}

impl Address {
    pub(super) fn render(&self) -> String {
        let bare = text(&format!("{}/{}", self.address, self.prefix));
        if self.interface.is_none() && self.label.is_none() && self.scope.is_none() {
            return bare;
        }
        let mut parts = vec![format!("address = {bare}")];
        parts.extend(self.interface.iter().map(|it| format!("interface = {}", text(it))));
        parts.extend(self.label.iter().map(|it| format!("label = {}", text(it))));
        parts.extend(self.scope.iter().map(|it| format!("scope = {}", text(it))));
        format!("{{ {} }}", parts.join(", "))
    }
}

/// What an instance or a group tracks.
#[derive(Debug, Default)]
pub(super) struct Tracks(pub(super) [Vec<Tracked>; 4]);

/// The keys of [`Tracks`], in its order.
pub(super) const TRACKS: [&str; 4] = ["interfaces", "scripts", "processes", "files"];

#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) name: String,
    pub(super) weight: Option<i32>,
    pub(super) reverse: Option<bool>,
}

impl Tracks {
    pub(super) fn table(&self) -> Table {
        let mut table = Table::default();
        for (key, items) in TRACKS.iter().zip(&self.0).filter(|(_, items)| !items.is_empty()) {
            table.set(key, list(items.iter().map(Tracked::render)));
        }
        table
    }
}

impl Tracked {
    fn render(&self) -> String {
        if self.weight.is_none() && self.reverse.is_none() {
            return text(&self.name);
        }
        let mut parts = vec![format!("name = {}", text(&self.name))];
        parts.extend(self.weight.map(|weight| format!("weight = {weight}")));
        parts.extend(self.reverse.map(|reverse| format!("reverse = {reverse}")));
        format!("{{ {} }}", parts.join(", "))
    }
}

/// One `vrrp_sync_group`.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) members: Vec<String>,
    pub(super) main: Table,
    pub(super) track: Tracks,
    pub(super) notify: Table,
}

/// Everything that will be written.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) router: Table,
    pub(super) fifo: Table,
    pub(super) realtime: Table,
    pub(super) mail: Table,
    /// Each with its name.
    pub(super) scripts: Vec<(String, Table)>,
    pub(super) processes: Vec<(String, Table)>,
    pub(super) files: Vec<(String, Table)>,
    pub(super) instances: Vec<Instance>,
    pub(super) groups: Vec<Group>,
    pub(super) secrets: Vec<SecretToWrite>,
    /// Notify scripts that the form for a pair does without.
    pub(super) left_out: Vec<(String, String)>,
}

/// A string, quoted.
pub(super) fn text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

pub(super) fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}

pub(super) fn length(length: Duration) -> String {
    text(&values::show(length))
}
