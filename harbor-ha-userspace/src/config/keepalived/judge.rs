//! Judges the statements of the top, and holds what judging anything needs.

use std::collections::BTreeSet;
use std::time::Duration;

use toml::de::DeValue;

use super::draft::{self, Draft, Table};
use super::globals::{self, Globals};
use super::keywords::{self, GLOBALS, INSTANCE, TOP};
use super::safety::Culprit;
use super::tree::Node;
use super::verdict::{Kind, Ledger, Place};
use super::{Options, Surroundings, instance, timing};
use crate::config::router::command;
use crate::config::values::{self, Reading};

/// Everything that is known while statements are judged.
pub(super) struct Judge<'a> {
    pub(super) options: &'a Options,
    pub(super) around: &'a dyn Surroundings,
    pub(super) ledger: Ledger,
    pub(super) globals: Globals,
    pub(super) draft: Draft,
    /// Where mails are configured, and where one is asked for.
    pub(super) mail_lines: Vec<Place>,
    pub(super) mail_wanted: bool,
    /// Blocks so far.
    pub(super) scopes: usize,
    /// Which statement of the top is judged.
    pub(super) at: usize,
    /// Trackers that were carried over: the index of their kind in [`draft::TRACKS`], their name, and where they stand.
    pub(super) defined: Vec<(usize, String, usize)>,
    /// Trackers of which a line could not be read.
    pub(super) unread: BTreeSet<(usize, String)>,
    /// What the instance at hand may not run for.
    pub(super) culprit: Option<Culprit>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(options: &'a Options, around: &'a dyn Surroundings) -> Self {
        Self {
            options,
            around,
            ledger: Ledger::default(),
            globals: Globals::default(),
            draft: Draft::default(),
            mail_lines: Vec::new(),
            mail_wanted: false,
            scopes: 0,
            at: 0,
            defined: Vec::new(),
            unread: BTreeSet::new(),
            culprit: None,
        }
    }

    /// Globals first, as keepalived applies them wherever they stand; then trackers, of which it knows those that stand above
    /// (`tracked` tells of the others); groups last.
    pub(super) fn all(&mut self, statements: &[Node]) {
        let is = |node: &Node, names: &[&str]| names.contains(&node.keyword());
        const TRACKERS: [&str; 4] = ["vrrp_script", "vrrp_track_process", "track_file", "vrrp_track_file"];
        let once = globals::once();
        for node in statements.iter().filter(|node| is(node, &["global_defs"])) {
            self.carried(node, "its keys are below");
            for child in node.children() {
                if !self.superseded(node, child, &once, &[]) {
                    self.global(child);
                }
            }
        }
        let mut each = |names: &[&str], judge: fn(&mut Self, &Node)| {
            for (at, node) in statements.iter().enumerate().filter(|(_, node)| is(node, names)) {
                self.at = at;
                self.in_scope(|it| judge(it, node));
            }
        };
        each(&TRACKERS, Self::tracker);
        each(&["vrrp_instance"], Self::instance);
        each(&["vrrp_sync_group"], Self::group);
        let known = ["global_defs", "vrrp_instance", "vrrp_sync_group"];
        for node in statements.iter().filter(|node| !is(node, &known) && !is(node, &TRACKERS)) {
            self.top(node);
        }
        self.end_of_mail();
    }

    fn in_scope(&mut self, judge: impl FnOnce(&mut Self)) {
        self.scopes += 1;
        self.ledger.scope = Some(self.scopes);
        judge(self);
        self.ledger.scope = None;
    }

    /// Tells of a statement that keepalived leaves out as it is there twice. Of those in `first` it keeps the first, of those
    /// in `last` the last.
    pub(super) fn superseded(&mut self, block: &Node, child: &Node, last: &[&str], first: &[&str]) -> bool {
        let word = child.keyword();
        let (kept, why) = match (last.contains(&word), first.contains(&word)) {
            (true, _) if word == "state" => (instance::state(block), "is there once more, and keepalived keeps MASTER"),
            (_, true) => (block.first(word), "is there already, and keepalived keeps the first one of the block"),
            (true, _) => (block.last(word), "is there once more below, and keepalived keeps the last one of the block"),
            _ => return false,
        };
        let other = !kept.is_some_and(|kept| std::ptr::eq(kept, child));
        if other {
            self.trap(child, Kind::NotNeeded, why);
            self.parts_of(child, Kind::NotNeeded, why);
        }
        other
    }

    fn top(&mut self, node: &Node) {
        if node.keyword() == "instance" && node.block.is_none() {
            return match node.word(1).and_then(|name| slug(name, 32)) {
                Some(name) => {
                    self.draft.router.set("name", draft::text(&name));
                    self.carried(node, "router.name");
                }
                None => self.refused(node, "names no instance"),
            };
        }
        match keywords::find(TOP, node.keyword()) {
            Some((kind, why)) => self.all_of(node, kind, why),
            None => self.unknown(node, &TOP.iter().map(|(word, ..)| *word).collect::<Vec<_>>()),
        }
    }

    pub(super) fn carried(&mut self, node: &Node, to: &str) {
        let (kind, why) = self.placed(Kind::Carried, to.to_owned());
        self.ledger.note(node.place, node.keyword(), kind, why);
    }

    pub(super) fn changed(&mut self, node: &Node, why: impl Into<String>) {
        let (kind, why) = self.placed(Kind::Changed, why.into());
        self.ledger.note(node.place, node.keyword(), kind, why);
    }

    /// A sentence that begins with a key of the router form, for the form that is written.
    fn placed(&self, kind: Kind, why: String) -> (Kind, String) {
        if self.options.pair.is_none() {
            return (kind, why);
        }
        let key = why.split([' ', ',', ';', ':']).next().unwrap_or_default();
        match keywords::OF_PAIR.iter().find(|(of_router, ..)| *of_router == key) {
            Some((_, None, there)) => (kind, format!("{there}{}", &why[key.len()..])),
            Some((_, Some(kind), instead)) => (*kind, (*instead).to_owned()),
            None => (kind, why),
        }
    }

    pub(super) fn not_needed(&mut self, node: &Node, why: impl Into<String>) {
        self.ledger.note(node.place, node.keyword(), Kind::NotNeeded, why);
    }

    pub(super) fn trap(&mut self, node: &Node, kind: Kind, why: impl Into<String>) {
        let (kind, why) = self.placed(kind, why.into());
        self.ledger.trap(node.place, node.keyword(), kind, why);
    }

    /// This statement is lost, and all within it.
    pub(super) fn refused(&mut self, node: &Node, why: impl Into<String>) {
        self.all_of(node, Kind::NotSupported, &why.into());
    }

    /// One verdict for a statement and all within it.
    pub(super) fn all_of(&mut self, node: &Node, kind: Kind, why: &str) {
        self.ledger.note(node.place, node.keyword(), kind, why);
        let part = format!("belongs to `{}`, above", node.keyword());
        self.parts_of(node, kind, &part);
    }

    fn parts_of(&mut self, node: &Node, kind: Kind, why: &str) {
        for child in node.children() {
            self.ledger.note(child.place, child.keyword(), kind, why);
            self.parts_of(child, kind, why);
        }
    }

    /// A word that is keepalived's elsewhere, or nowhere.
    pub(super) fn unknown(&mut self, node: &Node, known: &[&str]) {
        let word = node.keyword().to_owned();
        // No keyword is that long, and comparing takes the product of both lengths.
        let comparable = if word.len() <= 64 { known } else { &[] };
        let why = match crate::config::suggest::closest(&word, comparable.iter().copied()) {
            Some(meant) if meant != word => format!("is no keyword here; was `{meant}` meant? keepalived ignores it"),
            _ if keywords::is_known(&word) => "is out of place here; keepalived ignores it, so remove it".to_owned(),
            _ => "is no keyword that harbor-ha knows; remove it, or see docs/migration.md".to_owned(),
        };
        self.refused(node, why);
    }

    /// Notes what stands in a block where there should be none.
    pub(super) fn no_block(&mut self, node: &Node) {
        for child in node.children() {
            self.refused(child, "stands in a block that should not be there");
        }
    }

    /// A whole number within a range, or the line is lost.
    pub(super) fn number(&mut self, node: &Node, low: i64, high: i64) -> Option<i64> {
        let found = node.word(1).and_then(|word| word.parse::<i64>().ok()).filter(|n| (low..=high).contains(n));
        if found.is_none() {
            self.refused(node, format!("takes a whole number from {low} to {high}; the default is used"));
        }
        found
    }

    /// A length of time up to `most`, or the line is lost.
    pub(super) fn seconds(&mut self, node: &Node, least: Duration, most: Duration) -> Option<Duration> {
        let found = node.word(1).and_then(timing::seconds).filter(|length| (least..=most).contains(length));
        if found.is_none() {
            let (least, most) = (values::show(least), values::show(most));
            self.refused(node, format!("takes seconds, {least} to {most}; the default is used"));
        }
        found
    }

    /// `on`, `off` and so on; nothing means on.
    pub(super) fn switch(&mut self, node: &Node) -> Option<bool> {
        let found = timing::switch(node.word(1));
        if found.is_none() {
            self.refused(node, "takes on or off; the default is used");
        }
        found
    }

    /// A command, as keepalived splits it, with the absolute path of its program; and what had to be done for that.
    pub(super) fn command(&self, text: &str) -> Result<(Vec<String>, Option<String>), String> {
        let mut words = command::split(text)?;
        if words.iter().any(|word| word.contains('\0')) {
            return Err("holds a zero byte".into());
        }
        let program = words[0].clone();
        if program.starts_with('/') {
            return Ok((words, None));
        }
        if program.is_empty() || program.contains('/') || program.starts_with(['<', '>', '|', '&', ';']) {
            return Err("names no program by an absolute path, and no shell would run it; make it a script".into());
        }
        let (path, why) = match self.around.program(&program).and_then(|path| path.to_str().map(str::to_owned)) {
            Some(path) if path.starts_with('/') => (path, "found along the PATH"),
            _ => (format!("/usr/bin/{program}"), "not found on this host, so look at it"),
        };
        let note = format!("`{program}` became `{path}` ({why})");
        words[0] = path;
        Ok((words, Some(note)))
    }

    /// The account that two words name, as `user` or `user:group`.
    pub(super) fn account(user: Option<&str>, group: Option<&str>) -> Result<Option<String>, String> {
        let Some(user) = user else { return Ok(None) };
        let account = group.map_or_else(|| user.to_owned(), |group| format!("{user}:{group}"));
        fits(&account, crate::config::router::shared::account)?;
        Ok(Some(account))
    }

    pub(super) fn scope(&self) -> usize {
        self.scopes
    }

    /// A table of our keys with the words of a keyword's own list.
    pub(super) fn words_of(list: &'static [(&'static str, Kind, &'static str)]) -> Vec<&'static str> {
        list.iter().map(|(word, ..)| *word).collect()
    }

    /// What the lists of keywords say of a statement within an instance, or in `global_defs`.
    pub(super) fn listed(&mut self, node: &Node, of_instance: bool, own: &[&'static str]) {
        let list = if of_instance { INSTANCE } else { GLOBALS };
        match keywords::find(list, node.keyword()) {
            Some((kind, why)) => self.all_of(node, kind, why),
            None => {
                let mut known = Self::words_of(list);
                known.extend(own);
                self.unknown(node, &known);
            }
        }
    }
}

/// What one of our own readers says of a string.
pub(super) fn fits<T>(text: &str, read: impl Fn(&DeValue<'_>) -> Reading<T>) -> Reading<T> {
    read(&DeValue::String(text.to_owned().into()))
}

/// A name of a-z, 0-9 and `-` made of another one; `None` when nothing is left.
pub(super) fn slug(name: &str, most: usize) -> Option<String> {
    let letters = name.to_ascii_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let letters: String = Some(letters).map(|it: String| it.chars().take(most).collect())?;
    letters.contains(|c: char| c.is_ascii_alphanumeric()).then_some(letters)
}

/// A rendered command, with who runs it.
pub(super) fn run(words: &[String], account: Option<&str>) -> String {
    let command = draft::list(words.iter().map(|word| draft::text(word)));
    match account {
        Some(account) => format!("{{ command = {command}, user = {} }}", draft::text(account)),
        None => command,
    }
}

/// For tables that are built with the judge borrowed.
pub(super) fn set(table: &mut Table, key: &str, value: impl ToString) {
    table.set(key, value.to_string());
}
