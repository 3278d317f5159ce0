//! What becomes of each line of `keepalived.conf`.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What becomes of a line; the later the graver, which decides where a line holds several statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Says nothing that harbor-ha would have to be told.
    NotNeeded,
    /// Means the same there and here.
    Carried,
    /// Is there, and means something else than keepalived made of it.
    Changed,
    /// Is lost; the verdict names what to use instead.
    NotSupported,
}

impl Kind {
    /// As operators read it.
    pub const fn words(self) -> &'static str {
        match self {
            Self::NotNeeded => "not needed",
            Self::Carried => "carried over",
            Self::Changed => "changed",
            Self::NotSupported => "not supported",
        }
    }
}

/// What becomes of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The file.
    pub file: PathBuf,
    /// The line in it, from 1.
    pub line: usize,
    /// Its first word; `}` and `#` for lines that hold no other.
    pub keyword: String,
    /// What becomes of it.
    pub kind: Kind,
    /// Where it went, or why it is as it is and what to use instead; empty for braces.
    pub why: String,
    /// It did not do in keepalived what it seems to say.
    pub trap: bool,
    /// A router without it could be master beside another one: `run` does not start on such a file.
    pub stops: bool,
}

/// A line of one of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) file: usize,
    pub(super) line: usize,
}

#[derive(Debug)]
struct Note {
    keyword: String,
    kind: Kind,
    why: String,
    trap: bool,
    stops: bool,
    scope: Option<usize>,
}

/// Every verdict so far.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    notes: BTreeMap<Place, Vec<Note>>,
    /// Braces alone on a line, with the line of their block.
    braces: BTreeMap<Place, Place>,
    /// Blocks with a line that could not be read, and that line.
    holes: BTreeMap<Place, Place>,
    /// The block that the notes belong to, which may turn out to be lost as a whole.
    pub(super) scope: Option<usize>,
}

/// Longer sentences of one line are cut: a line may be repeated a thousand times.
const SENTENCES: usize = 3;

impl Ledger {
    pub(super) fn note(&mut self, place: Place, keyword: &str, kind: Kind, why: impl Into<String>) {
        self.push(place, keyword, kind, why.into(), false);
    }

    /// A line that did not do in keepalived what it seems to say.
    pub(super) fn trap(&mut self, place: Place, keyword: &str, kind: Kind, why: impl Into<String>) {
        self.push(place, keyword, kind, why.into(), true);
    }

    fn push(&mut self, place: Place, keyword: &str, kind: Kind, why: String, trap: bool) {
        let keyword: String = keyword.chars().filter(|c| !c.is_control()).take(40).collect();
        self.notes.entry(place).or_default().push(Note { keyword, kind, why, trap, stops: false, scope: self.scope });
    }

    /// A line that is lost, and without which nothing may run.
    pub(super) fn stop(&mut self, place: Place, keyword: &str, why: impl Into<String>) {
        self.note(place, keyword, Kind::NotSupported, why);
        if let Some(note) = self.notes.get_mut(&place).and_then(|notes| notes.last_mut()) {
            note.stops = true;
        }
    }

    /// A line of this block could not be read.
    pub(super) fn hole(&mut self, block: Place, line: Place) {
        self.holes.entry(block).or_insert(line);
    }

    /// The line of a block that could not be read.
    pub(super) fn hole_in(&self, block: Place) -> Option<Place> {
        self.holes.get(&block).copied()
    }

    pub(super) fn brace(&mut self, place: Place, block: Place) {
        self.braces.entry(place).or_insert(block);
    }

    /// All that was noted in `scope` is lost.
    pub(super) fn lose(&mut self, scope: usize, why: &str) {
        for note in self.notes.values_mut().flatten().filter(|note| note.scope == Some(scope)) {
            note.kind = Kind::NotSupported;
            note.trap = false;
            why.clone_into(&mut note.why);
        }
    }

    /// The same because of one line, without which nothing may run.
    pub(super) fn lose_for(&mut self, scope: usize, culprit: Place, keyword: &str, why: &str) {
        self.lose(scope, why);
        match self.notes.get_mut(&culprit).and_then(|notes| notes.iter_mut().find(|note| note.scope == Some(scope))) {
            Some(note) => note.stops = true,
            None => self.stop(culprit, keyword, why),
        }
    }

    /// Adds to what a line says, and makes it a trap.
    pub(super) fn warn(&mut self, place: Place, more: &str) {
        if let Some(note) = self.notes.get_mut(&place).and_then(|notes| notes.first_mut()) {
            note.trap = true;
            note.why = if note.why.is_empty() { more.to_owned() } else { format!("{}; {more}", note.why) };
        }
    }

    /// What a line says turns out to be something else.
    pub(super) fn replace(&mut self, place: Place, kind: Kind, why: &str) {
        for note in self.notes.get_mut(&place).into_iter().flatten().filter(|note| note.kind != Kind::NotSupported) {
            note.kind = kind;
            why.clone_into(&mut note.why);
        }
    }

    fn kind(&self, place: Place) -> Option<Kind> {
        self.notes.get(&place)?.iter().map(|note| note.kind).max()
    }

    /// One verdict for each line that is not blank. `files`: the paths, and the text of each line.
    pub(super) fn finish(mut self, files: &[(PathBuf, Vec<String>)]) -> Vec<Verdict> {
        for (place, block) in std::mem::take(&mut self.braces) {
            if !self.notes.contains_key(&place) {
                let kind = self.kind(block).unwrap_or(Kind::NotSupported);
                self.push(place, "}", kind, String::new(), false);
            }
        }
        let mut verdicts = Vec::new();
        for (file, (path, lines)) in files.iter().enumerate() {
            for (n, _) in lines.iter().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
                let place = Place { file, line: n + 1 };
                let verdict = |keyword: &str, kind, why: String, trap, stops| Verdict {
                    file: path.clone(),
                    line: place.line,
                    keyword: keyword.to_owned(),
                    kind,
                    why,
                    trap,
                    stops,
                };
                verdicts.push(match self.notes.get(&place).map(Vec::as_slice) {
                    Some([]) | None => verdict("?", Kind::NotSupported, NOT_UNDERSTOOD.to_owned(), false, true),
                    Some(notes @ [first, ..]) => {
                        let kind = notes.iter().map(|note| note.kind).max().unwrap_or(first.kind);
                        let mut said: Vec<&str> = Vec::new();
                        for note in notes.iter().filter(|note| !note.why.is_empty()) {
                            if !said.contains(&note.why.as_str()) && said.len() < SENTENCES {
                                said.push(&note.why);
                            }
                        }
                        let any = |is: fn(&Note) -> bool| notes.iter().any(is);
                        verdict(&first.keyword, kind, said.join("; "), any(|it| it.trap), any(|it| it.stops))
                    }
                });
            }
        }
        verdicts
    }
}

/// A line that nobody judged; there is none, and if there were, it would be told and not left out.
pub(super) const NOT_UNDERSTOOD: &str = "was not understood";
