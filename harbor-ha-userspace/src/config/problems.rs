//! Everything that is wrong with one configuration file.

use std::fmt;
use std::path::{Path, PathBuf};

/// One mistake: where it is, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1; `None` when the file as a whole is meant.
    pub line: Option<usize>,
    /// `section.key`; empty when the file as a whole is meant.
    pub key: String,
    /// What is wrong and the way out.
    pub text: String,
}

/// The words of a problem that another user would not have.
pub(super) const DENIED: &str = "may not be read by this user";

/// All mistakes of one file, in the order of their lines; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    file: PathBuf,
    list: Vec<Problem>,
}

impl Problems {
    /// Puts `list` in the order of the file; what has no line comes last.
    ///
    /// # Panics
    /// When there is nothing wrong.
    pub fn new(file: &Path, mut list: Vec<Problem>) -> Self {
        assert!(!list.is_empty(), "a list of problems holds at least one");
        list.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        Self { file: file.to_owned(), list }
    }

    /// One problem of the whole file.
    pub(super) fn of_file(file: &Path, text: impl Into<String>) -> Self {
        Self::new(file, vec![Problem { line: None, key: String::new(), text: text.into() }])
    }

    /// The same problems under the name that the operator knows the file by.
    pub fn in_file(self, file: &Path) -> Self {
        Self { file: file.to_owned(), ..self }
    }

    /// Whether all that is wrong is who asks.
    pub fn are_denials(&self) -> bool {
        self.list.iter().all(|problem| problem.text.contains(DENIED))
    }

    /// The problems, first line first.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }
}

impl fmt::Display for Problems {
    /// One line each, as compilers do: `harbor-ha.toml:12: vrrp.priority: 300 is outside …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Problem { line, key, text }) in self.list.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:", self.file.display())?;
            if let Some(line) = line {
                write!(f, "{line}:")?;
            }
            if !key.is_empty() {
                write!(f, " {key}:")?;
            }
            write!(f, " {text}")?;
        }
        Ok(())
    }
}
