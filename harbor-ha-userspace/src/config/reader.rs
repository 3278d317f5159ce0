//! Walks a parsed document section by section, notes every mistake with its line and goes on.
//!
//! A key that no check asked for is unknown: so the checks themselves are the list of keys, and the two cannot
//! drift apart. Each question answers `None` when it has noted a problem; a check that needs two answers is
//! therefore silent when one of them is already known to be wrong.

use std::cell::RefCell;

use toml::de::{DeTable, DeValue};

use super::lookup::{self, Lookup};
use super::problems::Problem;
use super::secret::Secret;
use super::suggest;
use super::values::{self, Reading};

/// A parsed file, and what was found wrong with it so far.
pub(super) struct Document<'a> {
    text: &'a str,
    root: &'a DeTable<'a>,
    lookup: &'a dyn Lookup,
    problems: RefCell<Vec<Problem>>,
    sections: RefCell<Vec<&'static str>>,
    /// `(class, key)`, as asked for.
    keys: RefCell<Vec<(&'static str, String)>>,
    /// Every table that was opened, with its class and the name that it is shown by.
    opened: RefCell<Vec<(&'static str, String, &'a DeTable<'a>)>>,
}

impl<'a> Document<'a> {
    pub(super) fn new(text: &'a str, root: &'a DeTable<'a>, lookup: &'a dyn Lookup) -> Self {
        let (problems, sections) = (RefCell::default(), RefCell::default());
        let (keys, opened) = (RefCell::default(), RefCell::default());
        Self { text, root, lookup, problems, sections, keys, opened }
    }

    /// The first of `names` that is at the top of the file, with its line.
    pub(super) fn first_of(&self, names: &[&'static str]) -> Option<(&'static str, usize)> {
        let found = names.iter().filter_map(|name| {
            let (key, _) = self.root.get_key_value(*name)?;
            Some((*name, line_of(self.text, key.span().start)))
        });
        found.min_by_key(|(_, line)| *line)
    }

    /// The table `[name]`; as if empty when it is not there.
    pub(super) fn section(&'a self, name: &'static str) -> Section<'a> {
        self.sections.borrow_mut().push(name);
        let Some((key, value)) = self.root.get_key_value(name) else {
            return Section { document: self, class: name, name: name.into(), line: None, table: None };
        };
        self.open(name, name.into(), line_of(self.text, key.span().start), value.get_ref())
    }

    /// The tables `[[name]]`, in the order of the file.
    pub(super) fn sections(&'a self, name: &'static str) -> Vec<Section<'a>> {
        self.sections.borrow_mut().push(name);
        let Some((key, value)) = self.root.get_key_value(name) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            let text = values::wrong_type(value.get_ref(), &format!("a list of tables, under headers `[[{name}]]`"));
            self.note(Some(line_of(self.text, key.span().start)), name.into(), text);
            return Vec::new();
        };
        let open = |(n, item): (usize, &'a toml::Spanned<DeValue<'a>>)| {
            self.open(name, format!("{name}[{n}]"), line_of(self.text, item.span().start), item.get_ref())
        };
        items.iter().enumerate().map(open).collect()
    }

    fn open(&'a self, class: &'static str, name: String, line: usize, value: &'a DeValue<'a>) -> Section<'a> {
        let table = value.as_table();
        match table {
            Some(table) => self.opened.borrow_mut().push((class, name.clone(), table)),
            None => {
                let wanted = format!("one table, under the header `{}`", header(class));
                self.note(Some(line), name.clone(), values::wrong_type(value, &wanted));
            }
        }
        Section { document: self, class, name, line: Some(line), table }
    }

    /// Notes the keys that nobody asked for and hands out all problems.
    pub(super) fn finish(&self) -> Vec<Problem> {
        for (name, value) in self.root {
            let (line, name) = (Some(line_of(self.text, name.span().start)), name.get_ref().as_ref());
            if self.sections.borrow().contains(&name) {
                continue; // opened below, or noted when it was to be
            }
            match value.get_ref() {
                DeValue::Table(_) => self.note(line, name.into(), self.unknown_section(name)),
                DeValue::Array(items) if items.iter().any(|item| item.get_ref().is_table()) => {
                    self.note(line, name.into(), self.unknown_section(name));
                }
                _ => self.note(line, name.into(), self.unknown_key("", name)),
            }
        }
        for (class, shown, table) in self.opened.borrow().iter() {
            self.unknown_keys(class, shown, table);
        }
        self.problems.take()
    }

    /// Every `(class, key)` that was asked for.
    #[cfg(test)]
    pub(super) fn keys(&self) -> Vec<(&'static str, String)> {
        self.keys.borrow().clone()
    }

    fn unknown_keys(&self, class: &'static str, shown: &str, table: &DeTable<'_>) {
        for key in table.keys() {
            let (line, key) = (Some(line_of(self.text, key.span().start)), key.get_ref().as_ref());
            if !self.keys.borrow().iter().any(|(c, k)| *c == class && k == key) {
                self.note(line, format!("{shown}.{key}"), self.unknown_key(class, key));
            }
        }
    }

    fn unknown_section(&self, name: &str) -> String {
        let sections = self.sections.borrow();
        if let Some(section) = suggest::closest(name, sections.iter().copied()) {
            return format!("is no table of this file; did you mean {}?", header(section));
        }
        // A pair has [announce], the instances of a router have one each.
        if let Some((home, _)) = self.keys.borrow().iter().find(|(_, key)| key == name) {
            return format!("is no table of this file; did you mean {}?", header(&format!("{home}.{name}")));
        }
        let headers = values::either(sections.iter().map(|section| header(section)));
        format!("is no table of this file; use {headers}")
    }

    /// keepalived's words first, as `nopreempt` is not meant to be `preempt`; then the nearest word of the same table, then
    /// the same word elsewhere.
    fn unknown_key(&self, class: &str, key: &str) -> String {
        let plain = self.sections.borrow().contains(&"instance");
        if let Some(advice) = suggest::from_keepalived(key, plain) {
            return format!("is keepalived's word; {advice}");
        }
        let keys = self.keys.borrow();
        let here = keys.iter().filter(|(c, _)| *c == class).map(|(_, key)| key.as_str());
        if let Some(meant) = suggest::closest(key, here) {
            return format!("is unknown; did you mean `{meant}`?");
        }
        match keys.iter().find(|(_, k)| k == key) {
            Some((home, _)) => format!("is out of place; move it to {}", header(home)),
            None => "is unknown; remove it, or see the commented example for the keys there are".into(),
        }
    }

    /// Notes a problem that belongs to no table.
    pub(super) fn note(&self, line: Option<usize>, key: String, text: String) {
        self.problems.borrow_mut().push(Problem { line, key, text });
    }
}

/// The tables of which a file may hold several.
const LISTS: [&str; 5] = ["instance", "group", "script", "process", "file"];

/// The header of the tables of a class, as a file writes it.
pub(super) fn header(class: &str) -> String {
    if LISTS.contains(&class) { format!("[[{class}]]") } else { format!("[{class}]") }
}

/// One table of the document.
pub(super) struct Section<'a> {
    document: &'a Document<'a>,
    /// What the tables that have the same keys are called: `instance.track`.
    class: &'static str,
    /// What this one is called: `instance[0].track`.
    name: String,
    line: Option<usize>,
    table: Option<&'a DeTable<'a>>,
}

/// An item of a list of names, which may be a table when there is more to say than the name.
pub(super) enum Entry<'a> {
    /// The name alone.
    Name(String),
    /// More.
    Table(Section<'a>),
}

impl<'a> Section<'a> {
    /// Whether the file holds this table at all.
    pub(super) fn is_present(&self) -> bool {
        self.line.is_some()
    }

    /// A key that must be set; `example` is what the message proposes.
    pub(super) fn required<T>(&self, key: &str, example: &str, read: impl Fn(&DeValue<'a>) -> Reading<T>) -> Option<T> {
        let found = self.optional(key, read)?;
        if found.is_none() { self.missing(key, example) } else { found }
    }

    /// A key with a default.
    pub(super) fn or<T>(&self, key: &str, default: T, read: impl Fn(&DeValue<'a>) -> Reading<T>) -> Option<T> {
        Some(self.optional(key, read)?.unwrap_or(default))
    }

    /// A key that may be left out; `Some(None)` then.
    pub(super) fn optional<T>(&self, key: &str, read: impl Fn(&DeValue<'a>) -> Reading<T>) -> Option<Option<T>> {
        let Some(value) = self.find(key) else { return Some(None) };
        self.judge(self.line_of_key(key), key, read(value)).map(Some)
    }

    /// A list that must be set: each item with its line, `None` for one that is wrong.
    pub(super) fn list<T>(
        &self,
        key: &str,
        example: &str,
        read: impl Fn(&DeValue<'a>) -> Reading<T>,
    ) -> Option<Vec<(usize, Option<T>)>> {
        let items = match self.find(key) {
            None => return self.missing(key, example),
            Some(DeValue::Array(items)) => items,
            Some(DeValue::String(text)) => return self.problem(key, format!("is a string; use a list, [{text:?}]")),
            Some(other) => return self.problem(key, values::wrong_type(other, &format!("a list, {example}"))),
        };
        let read_item = |(n, item): (usize, &toml::Spanned<DeValue<'a>>)| {
            let line = line_of(self.document.text, item.span().start);
            (line, self.judge(Some(line), &format!("{key}[{n}]"), read(item.get_ref())))
        };
        Some(items.iter().enumerate().map(read_item).collect())
    }

    /// A table in this one; as if empty when it is not there.
    pub(super) fn table(&self, key: &str, class: &'static str) -> Section<'a> {
        let name = format!("{}.{key}", self.name);
        match self.find(key) {
            Some(value) => self.document.open(class, name, self.line_of_key(key).unwrap_or(1), value),
            None => Section { document: self.document, class, name, line: None, table: None },
        }
    }

    /// A list of names or of tables; empty when it is not there. Each item with its line, `None` for one that is neither.
    pub(super) fn entries(&self, key: &str, class: &'static str) -> Option<Vec<(usize, Option<Entry<'a>>)>> {
        let items = match self.find(key) {
            None => return Some(Vec::new()),
            Some(DeValue::Array(items)) => items,
            Some(DeValue::String(text)) => return self.problem(key, format!("is a string; use a list, [{text:?}]")),
            Some(other) => return self.problem(key, values::wrong_type(other, "a list, [\"…\"]")),
        };
        let entry = |(n, item): (usize, &'a toml::Spanned<DeValue<'a>>)| {
            let (line, name) = (line_of(self.document.text, item.span().start), format!("{key}[{n}]"));
            let entry = match item.get_ref() {
                table @ DeValue::Table(_) => {
                    Some(Entry::Table(self.document.open(class, format!("{}.{name}", self.name), line, table)))
                }
                other => self.judge(Some(line), &name, values::line(other)).map(Entry::Name),
            };
            (line, entry)
        };
        Some(items.iter().enumerate().map(entry).collect())
    }

    /// A value that is either no table, for `read`, or a table of a class.
    pub(super) fn value_or_table<T>(
        &self,
        key: &str,
        class: &'static str,
        read: impl Fn(&DeValue<'a>) -> Reading<T>,
    ) -> Option<Option<Result<T, Section<'a>>>> {
        match self.find(key) {
            Some(table @ DeValue::Table(_)) => {
                let (name, line) = (format!("{}.{key}", self.name), self.line_of_key(key).unwrap_or(1));
                Some(Some(Err(self.document.open(class, name, line, table))))
            }
            _ => Some(self.optional(key, read)?.map(Ok)),
        }
    }

    /// Where the table begins.
    pub(super) fn line(&self) -> Option<usize> {
        self.line
    }

    /// A secret, from `<stem>_file` or `<stem>_env`; its text in the file itself is refused.
    pub(super) fn secret(&self, stem: &str) -> Option<Option<Secret<String>>> {
        let (file_key, env_key) = (format!("{stem}_file"), format!("{stem}_env"));
        let file = self.optional(&file_key, values::path);
        let env = self.optional(&env_key, |value| values::string(value).map(str::to_owned));
        if self.has(stem) {
            self.document.keys.borrow_mut().push((self.class, stem.to_owned()));
            return self.problem(
                stem,
                format!(
                    "a secret has no place in this file; move it to a file with mode 0600 and use \
                     `{file_key} = \"/etc/harbor-ha/{stem}\"`, or use `{env_key}` with the name of a variable"
                ),
            );
        }
        let lookup = self.document.lookup;
        match (file?, env?) {
            (None, None) => Some(None),
            (Some(path), None) => {
                self.judge(self.line_of_key(&file_key), &file_key, lookup::from_file(lookup, &path)).map(Some)
            }
            (None, Some(name)) => {
                self.judge(self.line_of_key(&env_key), &env_key, lookup::from_env(lookup, &name)).map(Some)
            }
            (Some(_), Some(_)) => self.problem(&env_key, format!("`{file_key}` is set too; remove one of the two")),
        }
    }

    /// Marks the keys of a secret as known without fetching it: what it belongs to is switched off.
    pub(super) fn unread_secret(&self, stem: &str) {
        for key in ["_file", "_env"] {
            self.find(&format!("{stem}{key}"));
        }
    }

    /// Which key a secret comes from, to put a problem with its content there.
    pub(super) fn source(&self, stem: &str) -> String {
        let file = format!("{stem}_file");
        if self.has(&file) { file } else { format!("{stem}_env") }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Notes a problem with `key`, at its line or, when it is not in the file, at the table's.
    pub(super) fn problem<T>(&self, key: &str, text: impl Into<String>) -> Option<T> {
        self.problem_at(self.line_of_key(key), key, text)
    }

    /// Notes a problem with `key` at a line that the caller knows better.
    pub(super) fn problem_at<T>(&self, line: Option<usize>, key: &str, text: impl Into<String>) -> Option<T> {
        self.judge(line, key, Err(text.into()))
    }

    /// Notes that a key which must be set is not; `example` is what to add.
    pub(super) fn missing<T>(&self, key: &str, example: &str) -> Option<T> {
        let under =
            if self.is_present() { String::new() } else { format!(" under the header `{}`", header(self.class)) };
        self.problem(key, format!("is missing; add `{key} = {example}`{under}"))
    }

    fn find(&self, key: &str) -> Option<&'a DeValue<'a>> {
        self.document.keys.borrow_mut().push((self.class, key.to_owned()));
        self.table?.get(key).map(|value| value.get_ref())
    }

    fn line_of_key(&self, key: &str) -> Option<usize> {
        let found = self.table.and_then(|table| table.get_key_value(key));
        found.map(|(key, _)| line_of(self.document.text, key.span().start)).or(self.line)
    }

    fn judge<T>(&self, line: Option<usize>, key: &str, reading: Reading<T>) -> Option<T> {
        reading.map_err(|text| self.document.note(line, format!("{}.{key}", self.name), text)).ok()
    }
}

/// Counted from 1.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}
