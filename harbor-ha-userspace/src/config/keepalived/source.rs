//! From files to lines of statements: comments, `include`, `@conditions`, `$definitions` and `~SEQ`.
//!
//! Bounded in every direction, as a definition may double itself and a file include itself.
// size: one reader, whose bounds hold together

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::Surroundings;
use super::verdict::{Kind, Ledger, Place};

/// A line without comment, with its definitions put in; empty: one that could not be read, and what it would have held is not known.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) place: Place,
    pub(super) text: String,
}

/// A few hundred instances; some checks compare each with each.
const MOST_LINES: usize = 20_000;
const MOST_FILES: usize = 200;
const MOST_BYTES: usize = 4 << 20;
const DEEPEST_INCLUDE: usize = 16;
const LONGEST_LINE: usize = 16 << 10;
const MOST_REPEATS: i64 = 1000;
/// Rounds of putting in definitions, and nested conditions and repeats.
const ROUNDS: usize = 24;

enum Definition {
    Line(String),
    /// Over several lines.
    Lines(Rc<Lines>),
}

/// Where each stands, and its text.
type Lines = [(Place, String)];

pub(super) struct Reader<'a> {
    around: &'a dyn Surroundings,
    id: String,
    ledger: &'a mut Ledger,
    pub(super) files: Vec<(PathBuf, Vec<String>)>,
    pub(super) lines: Vec<Line>,
    definitions: BTreeMap<String, Definition>,
    /// A definition over several lines that is not at its end yet, with its lines so far.
    within: Option<(String, Vec<(Place, String)>)>,
    /// Lines of such definitions that were put in nowhere yet.
    unused: BTreeSet<Place>,
    /// Definitions over several lines that are being put in, one within the other.
    expanding: usize,
    bytes: usize,
    /// Bytes of `lines`, which definitions and repeats make more than the files'.
    written: usize,
    /// Work done: bounds repeats within repeats, also those that leave no line.
    work: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(around: &'a dyn Surroundings, id: String, ledger: &'a mut Ledger) -> Self {
        Self {
            around,
            id,
            ledger,
            files: Vec::new(),
            lines: Vec::new(),
            definitions: BTreeMap::new(),
            within: None,
            unused: BTreeSet::new(),
            expanding: 0,
            bytes: 0,
            written: 0,
            work: 0,
        }
    }

    pub(super) fn file(&mut self, path: &Path, text: &str, parents: &[PathBuf]) {
        self.bytes += text.len();
        let raw: Vec<String> = text.lines().map(str::to_owned).collect();
        let file = self.files.len();
        self.files.push((path.to_owned(), raw.clone()));
        let mut parents = parents.to_vec();
        parents.push(path.to_owned());
        for (n, raw) in raw.iter().enumerate() {
            let place = Place { file, line: n + 1 };
            if let Some((name, lines)) = self.within.take() {
                self.body(place, raw, name, lines);
                continue;
            }
            let text = without_comment(raw).trim();
            if text.is_empty() {
                if let Some(mark) = raw.trim().get(..1) {
                    self.ledger.note(place, mark, Kind::NotNeeded, "comment");
                }
                continue;
            }
            self.statement(place, text.to_owned(), &parents, 0);
        }
        if let Some((name, lines)) = self.within.take() {
            self.definitions.insert(name, Definition::Lines(lines.into()));
        }
    }

    /// What was read, when the last file is.
    pub(super) fn finish(self) -> (Vec<(PathBuf, Vec<String>)>, Vec<Line>) {
        for place in self.unused {
            self.ledger.note(place, "$", Kind::NotNeeded, "is of a definition that is put in nowhere");
        }
        (self.files, self.lines)
    }

    /// A line of a definition over several ones. As keepalived has it, a blank one or a comment ends it unless a `\` follows.
    fn body(&mut self, place: Place, raw: &str, name: String, mut lines: Vec<(Place, String)>) {
        let raw = raw.trim();
        if !raw.is_empty() {
            self.unused.insert(place);
            lines.push((place, without_comment(raw.strip_suffix('\\').unwrap_or(raw)).trim().to_owned()));
        }
        match raw.ends_with('\\') {
            true => self.within = Some((name, lines)),
            false => _ = self.definitions.insert(name, Definition::Lines(lines.into())),
        }
    }

    /// A line that cannot be read: nobody knows what is lost with it, so nothing that it stands in may run.
    fn hole(&mut self, place: Place, keyword: &str, why: impl Into<String>) {
        self.ledger.stop(place, keyword, why);
        if self.lines.last().is_none_or(|last| !last.text.is_empty()) {
            self.lines.push(Line { place, text: String::new() });
        }
    }

    fn include(&mut self, place: Place, keyword: &str, pattern: &str, parents: &[PathBuf]) {
        let pattern = pattern.trim_matches(|c| c == '"' || c == '\'');
        if pattern.is_empty() {
            return self.hole(place, keyword, "names no file");
        }
        if parents.len() > DEEPEST_INCLUDE {
            return self.hole(place, keyword, format!("files within files more than {DEEPEST_INCLUDE} deep"));
        }
        let from = parents.last().expect("the file that includes");
        let found = match self.around.include(from, pattern) {
            Ok(found) => found,
            Err(why) => return self.hole(place, keyword, format!("`{pattern}`: {why}")),
        };
        if found.is_empty() {
            let why = "no file is there, which keepalived's `include` takes in silence";
            return self.ledger.note(place, keyword, Kind::NotNeeded, why);
        }
        if self.files.len() + found.len() > MOST_FILES
            || self.bytes + found.iter().map(|(_, text)| text.len()).sum::<usize>() > MOST_BYTES
        {
            return self.hole(place, keyword, "too many or too large files; import them one by one");
        }
        let names: Vec<String> = found.iter().map(|(path, _)| path.display().to_string()).collect();
        if let Some((looped, _)) = found.iter().find(|(path, _)| parents.contains(path)) {
            return self.hole(place, keyword, format!("`{}` would include itself", looped.display()));
        }
        self.ledger.note(place, keyword, Kind::Carried, format!("its lines are below: {}", names.join(", ")));
        for (path, text) in found {
            self.file(&path, &text, parents);
        }
    }

    /// One statement line, which may define, hold under a condition, or be repeated.
    fn statement(&mut self, place: Place, text: String, parents: &[PathBuf], depth: usize) {
        self.work += 1;
        if depth > ROUNDS || self.work > 2 * MOST_LINES {
            return self.hole(place, first(&text), "conditions, definitions and repeats too deep or too many");
        }
        if text.len() > LONGEST_LINE {
            return self.hole(place, first(&text), "is longer than any line of a configuration");
        }
        if let Some(rest) = text.strip_prefix('@') {
            let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            let (negative, id) = word.strip_prefix('^').map_or((false, word), |id| (true, id));
            if (id == self.id) == negative {
                let why = format!("holds for another host only (config-id here: `{}`)", self.id);
                return self.ledger.note(place, &format!("@{word}"), Kind::NotNeeded, why);
            }
            return match rest.trim() {
                "" => self.ledger.note(place, &format!("@{word}"), Kind::NotNeeded, "nothing follows"),
                rest => self.statement(place, rest.to_owned(), parents, depth + 1),
            };
        }
        if let Some((name, value)) = definition(&text) {
            return self.define(place, name, value);
        }
        if let Some(rest) = text.strip_prefix('~') {
            return self.repeat(place, rest, &text, parents, depth);
        }
        if let Some((before, lines)) = self.tail(&text) {
            return self.expand(place, before, &lines, parents, depth);
        }
        match self.resolved(&text, parents.last().expect("the file itself")) {
            Err(why) => self.hole(place, first(&text), why),
            Ok(resolved) if resolved.trim().is_empty() => {
                self.ledger.note(place, first(&text), Kind::NotNeeded, "its definition is empty");
            }
            Ok(resolved)
                if resolved != text
                    && (resolved.trim_start().starts_with(['@', '~', '$']) || self.tail(&resolved).is_some()) =>
            {
                self.statement(place, resolved.trim_start().to_owned(), parents, depth + 1);
            }
            // Behind conditions and with definitions as well, as keepalived has it in spite of its manual.
            Ok(text) => match first(&text) {
                keyword @ ("include" | "includer" | "includem" | "includew" | "includeb" | "includea") => {
                    self.include(place, keyword, text.trim()[keyword.len()..].trim(), parents);
                }
                _ => self.push(place, text),
            },
        }
    }

    /// A definition over several lines at the end of a line, where alone keepalived puts it in: what stands before it, and
    /// its lines.
    fn tail<'t>(&self, text: &'t str) -> Option<(&'t str, Rc<Lines>)> {
        let (before, name) = text.trim_end().rsplit_once('$')?;
        let name = name.strip_prefix('{').map_or(Some(name), |inside| inside.strip_suffix('}'))?;
        match self.definitions.get(name)? {
            Definition::Lines(lines) => Some((before, lines.clone())),
            Definition::Line(_) => None,
        }
    }

    fn expand(&mut self, place: Place, before: &str, lines: &Lines, parents: &[PathBuf], depth: usize) {
        self.expanding += 1;
        let mut rest = lines;
        if before.trim().is_empty() {
            self.ledger.note(place, "$", Kind::Carried, "each of its lines is told where it stands");
        } else {
            let mut whole = before.to_owned();
            if let [(of, text), more @ ..] = lines {
                self.unused.remove(of);
                self.ledger.note(*of, first(text), Kind::Carried, "its value is written where it is used");
                whole.push_str(text);
                rest = more;
            }
            self.statement(place, whole, parents, depth + 1);
        }
        for (of, text) in rest {
            if self.lines.len() >= MOST_LINES || self.work > 2 * MOST_LINES {
                self.hole(place, "$", "too many lines; import the file in parts");
                break;
            }
            self.unused.remove(of);
            match text.is_empty() {
                true => self.ledger.note(*of, "#", Kind::NotNeeded, "comment"),
                false => self.statement(*of, text.clone(), parents, depth + 1),
            }
        }
        self.expanding -= 1;
    }

    fn push(&mut self, place: Place, text: String) {
        self.written += text.len();
        if self.lines.len() >= MOST_LINES || self.written > 4 * MOST_BYTES {
            let why = format!("more than {MOST_LINES} lines, or too long ones; import the file in parts");
            return self.hole(place, first(&text), why);
        }
        self.lines.push(Line { place, text });
    }

    fn define(&mut self, place: Place, name: &str, value: &str) {
        let keyword = format!("${name}");
        if let Some(start) = value.trim_end().strip_suffix('\\') {
            if self.expanding > 0 {
                let why = "begins a definition over several lines within another one; write it outside";
                return self.hole(place, &keyword, why);
            }
            let start = Some(start.trim()).filter(|start| !start.is_empty());
            self.within = Some((name.to_owned(), start.map(|start| (place, start.to_owned())).into_iter().collect()));
            return self.ledger.note(place, &keyword, Kind::Carried, "its lines are written where it is used");
        }
        self.definitions.insert(name.to_owned(), Definition::Line(value.trim().to_owned()));
        self.ledger.note(place, &keyword, Kind::Carried, "its value is written where it is used");
    }

    /// `~SEQ(name, start, step, end) rest`: `rest` once for each number.
    fn repeat(&mut self, place: Place, rest: &str, whole: &str, parents: &[PathBuf], depth: usize) {
        let keyword = whole.split('(').next().unwrap_or("~").to_owned();
        let found = rest.strip_prefix("SEQ(").and_then(|rest| rest.split_once(')'));
        let Some((name, numbers, body)) = found.and_then(|(inside, body)| {
            let mut parts = inside.split(',').map(str::trim);
            let name = parts.next().filter(|name| is_name(name))?;
            let numbers = parts.map(|part| part.parse::<i64>().ok()).collect::<Option<Vec<_>>>()?;
            Some((name, numbers, body.trim()))
        }) else {
            let why = "only ~SEQ(NAME, START, STEP, END) with decimal numbers is resolved; write the lines out";
            return self.hole(place, &keyword, why);
        };
        let toward = |from: i64, to: i64| if to < from { -1 } else { 1 };
        let (from, step, to) = match numbers.as_slice() {
            [to] => (if *to < 0 { -1 } else { 1 }, toward(0, *to), *to),
            [from, to] => (*from, toward(*from, *to), *to),
            [from, step, to] => (*from, *step, *to),
            _ => (0, 0, 0),
        };
        let count = if step == 0 { None } else { to.checked_sub(from).map(|span| span / step) };
        let Some(count) = count.filter(|count| (0..MOST_REPEATS).contains(count)) else {
            let why = format!("repeats never, without end or more than {MOST_REPEATS} times; write the lines out");
            return self.hole(place, &keyword, why);
        };
        if body.is_empty() {
            return self.ledger.note(place, &keyword, Kind::NotNeeded, "nothing follows");
        }
        let before = self.definitions.remove(name);
        for n in 0..=count {
            if self.lines.len() >= MOST_LINES || self.work > 2 * MOST_LINES {
                self.hole(place, &keyword, "too many lines; import the file in parts");
                break;
            }
            self.definitions.insert(name.to_owned(), Definition::Line((from + n * step).to_string()));
            self.statement(place, body.to_owned(), parents, depth + 1);
        }
        match before {
            Some(before) => self.definitions.insert(name.to_owned(), before),
            None => self.definitions.remove(name),
        };
    }

    /// With the definitions put in, over and over as they may hold each other; what is not defined stays.
    fn resolved(&self, text: &str, path: &Path) -> Result<String, String> {
        let mut text = text.to_owned();
        for _ in 0..ROUNDS {
            let Some(next) = self.resolved_once(&text, path)? else { return Ok(text) };
            if next.len() > LONGEST_LINE {
                return Err("grows beyond all bounds when its definitions are put in".into());
            }
            text = next;
        }
        Err("its definitions hold each other".into())
    }

    /// `None` when there is nothing to put in.
    fn resolved_once(&self, text: &str, path: &Path) -> Result<Option<String>, String> {
        let mut out = String::with_capacity(text.len());
        let (mut rest, mut any) = (text, false);
        while let Some(at) = rest.find('$') {
            let (before, after) = rest.split_at(at);
            out.push_str(before);
            let (name, length) = match after[1..].strip_prefix('{') {
                Some(inside) => match inside.split_once('}') {
                    Some((name, _)) => (name, name.len() + 3),
                    None => ("", 1),
                },
                None => {
                    let name = after[1..].split(|c: char| !is_letter(c)).next().unwrap_or_default();
                    // `$NAME` must end there, `${NAME}` need not.
                    let ends = after[1 + name.len()..].chars().next().is_none_or(char::is_whitespace);
                    if ends { (name, name.len() + 1) } else { ("", 1) }
                }
            };
            let at_the_end = after[length..].trim().is_empty();
            if !at_the_end && matches!(self.definitions.get(name), Some(Definition::Lines(_))) {
                return Err(format!(
                    "`${name}` is a definition over several lines, which keepalived puts in at the end of a line alone"
                ));
            }
            match self.value(name, path) {
                Some(value) => {
                    out.push_str(&value);
                    any = true;
                }
                None => out.push_str(&after[..length]),
            }
            rest = &after[length..];
            if out.len() > LONGEST_LINE {
                break;
            }
        }
        out.push_str(rest);
        Ok(any.then_some(out))
    }

    fn value(&self, name: &str, path: &Path) -> Option<String> {
        match name {
            "_PWD" => Some(path.parent().unwrap_or(Path::new("/")).display().to_string().replace('$', "")),
            "_INSTANCE" => Some(self.id.replace('$', "")),
            "_HASH" => Some("#".into()),
            "_BANG" => Some("!".into()),
            name => match self.definitions.get(name)? {
                Definition::Line(value) => Some(value.clone()),
                Definition::Lines(_) => None,
            },
        }
    }
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_letter) && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// `$NAME=VALUE`, without a blank before the sign.
fn definition(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.strip_prefix('$')?.split_once('=')?;
    is_name(name).then_some((name, value))
}

pub(super) fn first(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

/// Up to the first `#` or `!` that stands outside of quotes.
fn without_comment(text: &str) -> &str {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in text.char_indices() {
        match (c, quote) {
            _ if escaped => escaped = false,
            ('\\', _) => escaped = true,
            (c, Some(open)) if c == open => quote = None,
            ('"', None) => quote = Some(c),
            ('#' | '!', None) => return &text[..at],
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_begins_anywhere_but_within_quotes() {
        assert_eq!(without_comment("state MASTER # x"), "state MASTER ");
        assert_eq!(without_comment("! x"), "");
        assert_eq!(without_comment("script \"a # b\" ! c"), "script \"a # b\" ");
        assert_eq!(without_comment("script \"a \\\" # b\""), "script \"a \\\" # b\"");
    }
}
