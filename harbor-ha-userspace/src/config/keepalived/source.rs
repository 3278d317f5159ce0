//! From files to lines of statements: comments, `include`, `@conditions`, `$definitions` and `~SEQ`.
//!
//! Bounded in every direction, as a definition may double itself and a file include itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Surroundings;
use super::verdict::{Kind, Ledger, Place};

/// A line without comment, with its definitions put in.
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

pub(super) struct Reader<'a> {
    around: &'a dyn Surroundings,
    id: String,
    ledger: &'a mut Ledger,
    pub(super) files: Vec<(PathBuf, Vec<String>)>,
    pub(super) lines: Vec<Line>,
    definitions: BTreeMap<String, String>,
    /// Definitions over several lines, which are not resolved.
    long: BTreeSet<String>,
    /// Within one of them.
    within: bool,
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
            long: BTreeSet::new(),
            within: false,
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
            let text = without_comment(raw).trim();
            if text.is_empty() {
                if let Some(mark) = raw.trim().get(..1) {
                    self.ledger.note(place, mark, Kind::NotNeeded, "comment");
                }
                continue;
            }
            if text.len() > LONGEST_LINE {
                self.ledger.note(place, first(text), Kind::NotSupported, "is longer than any line of a configuration");
                continue;
            }
            if self.within {
                self.within = text.ends_with('\\');
                self.ledger.note(place, first(text), Kind::NotSupported, LONG_DEFINITION);
                continue;
            }
            // Before conditions and definitions, as keepalived does it.
            match first(text) {
                keyword @ ("include" | "includer" | "includem" | "includew" | "includeb" | "includea") => {
                    self.include(place, keyword, text[keyword.len()..].trim(), &parents);
                }
                _ => self.statement(place, text.to_owned(), path, 0),
            }
        }
    }

    fn include(&mut self, place: Place, keyword: &str, pattern: &str, parents: &[PathBuf]) {
        let pattern = pattern.trim_matches(|c| c == '"' || c == '\'');
        let lost = |ledger: &mut Ledger, why: String| ledger.note(place, keyword, Kind::NotSupported, why);
        if pattern.is_empty() {
            return lost(self.ledger, "names no file".into());
        }
        if parents.len() > DEEPEST_INCLUDE {
            return lost(self.ledger, format!("files within files more than {DEEPEST_INCLUDE} deep"));
        }
        let from = parents.last().expect("the file that includes");
        let found = match self.around.include(from, pattern) {
            Ok(found) => found,
            Err(why) => return lost(self.ledger, format!("`{pattern}`: {why}")),
        };
        if found.is_empty() {
            let why = "no file is there, which keepalived's `include` takes in silence";
            return self.ledger.note(place, keyword, Kind::NotNeeded, why);
        }
        if self.files.len() + found.len() > MOST_FILES
            || self.bytes + found.iter().map(|(_, text)| text.len()).sum::<usize>() > MOST_BYTES
        {
            return lost(self.ledger, "too many or too large files; import them one by one".into());
        }
        let names: Vec<String> = found.iter().map(|(path, _)| path.display().to_string()).collect();
        if let Some((looped, _)) = found.iter().find(|(path, _)| parents.contains(path)) {
            return lost(self.ledger, format!("`{}` would include itself", looped.display()));
        }
        self.ledger.note(place, keyword, Kind::Carried, format!("its lines are below: {}", names.join(", ")));
        for (path, text) in found {
            self.file(&path, &text, parents);
        }
    }

    /// One statement line, which may define, hold under a condition, or be repeated.
    fn statement(&mut self, place: Place, text: String, path: &Path, depth: usize) {
        self.work += 1;
        if depth > ROUNDS || self.work > 2 * MOST_LINES {
            return self.ledger.note(
                place,
                first(&text),
                Kind::NotSupported,
                "conditions and repeats too deep or too many",
            );
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
                rest => self.statement(place, rest.to_owned(), path, depth + 1),
            };
        }
        if let Some((name, value)) = definition(&text) {
            return self.define(place, name, value);
        }
        if let Some(rest) = text.strip_prefix('~') {
            return self.repeat(place, rest, &text, path, depth);
        }
        match self.resolved(&text, path) {
            Err(why) => self.ledger.note(place, first(&text), Kind::NotSupported, why),
            Ok(resolved) if resolved.trim().is_empty() => {
                self.ledger.note(place, first(&text), Kind::NotNeeded, "its definition is empty");
            }
            Ok(resolved) if resolved != text && resolved.trim_start().starts_with(['@', '~', '$']) => {
                self.statement(place, resolved.trim_start().to_owned(), path, depth + 1);
            }
            Ok(text) => self.push(place, text),
        }
    }

    fn push(&mut self, place: Place, text: String) {
        self.written += text.len();
        if self.lines.len() >= MOST_LINES || self.written > 4 * MOST_BYTES {
            let why = format!("more than {MOST_LINES} lines, or too long ones; import the file in parts");
            return self.ledger.note(place, first(&text), Kind::NotSupported, why);
        }
        self.lines.push(Line { place, text });
    }

    fn define(&mut self, place: Place, name: &str, value: &str) {
        let keyword = format!("${name}");
        if let Some(start) = value.trim_end().strip_suffix('\\') {
            self.within = true;
            self.definitions.remove(name);
            self.long.insert(name.to_owned());
            let _body = start;
            return self.ledger.note(place, &keyword, Kind::NotSupported, LONG_DEFINITION);
        }
        self.long.remove(name);
        self.definitions.insert(name.to_owned(), value.trim().to_owned());
        self.ledger.note(place, &keyword, Kind::Carried, "its value is written where it is used");
    }

    /// `~SEQ(name, start, step, end) rest`: `rest` once for each number.
    fn repeat(&mut self, place: Place, rest: &str, whole: &str, path: &Path, depth: usize) {
        let keyword = whole.split('(').next().unwrap_or("~").to_owned();
        let found = rest.strip_prefix("SEQ(").and_then(|rest| rest.split_once(')'));
        let Some((name, numbers, body)) = found.and_then(|(inside, body)| {
            let mut parts = inside.split(',').map(str::trim);
            let name = parts.next().filter(|name| is_name(name))?;
            let numbers = parts.map(|part| part.parse::<i64>().ok()).collect::<Option<Vec<_>>>()?;
            Some((name, numbers, body.trim()))
        }) else {
            let why = "only ~SEQ(NAME, START, STEP, END) with decimal numbers is resolved; write the lines out";
            return self.ledger.note(place, &keyword, Kind::NotSupported, why);
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
            return self.ledger.note(place, &keyword, Kind::NotSupported, why);
        };
        if body.is_empty() {
            return self.ledger.note(place, &keyword, Kind::NotNeeded, "nothing follows");
        }
        let before = self.definitions.get(name).cloned();
        for n in 0..=count {
            if self.lines.len() >= MOST_LINES || self.work > 2 * MOST_LINES {
                self.ledger.note(place, &keyword, Kind::NotSupported, "too many lines; import the file in parts");
                break;
            }
            self.definitions.insert(name.to_owned(), (from + n * step).to_string());
            self.statement(place, body.to_owned(), path, depth + 1);
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
            if self.long.contains(name) {
                return Err(format!(
                    "`${name}` is a definition over several lines; write the block out where it is used"
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
            name => self.definitions.get(name).cloned(),
        }
    }
}

const LONG_DEFINITION: &str = "a definition over several lines is not resolved; write the block out where it is used";

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
