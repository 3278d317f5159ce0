//! Reads `keepalived.conf`: a text becomes our TOML, and one verdict for each of its lines.
//!
//! Pure: files that it includes and programs along the PATH come through [`Surroundings`]. Never panics, whatever the text
//! is, and is bounded. Promises to the operator: no line is left out (`verdict`), and the TOML passes our own check, so
//! every value is judged here by the same readers as there, and one that would not pass is told and not written.
//! `source` reads lines, `tree` makes blocks of them, `globals`, `trackers`, `instance` and `notify` judge statements, `whole`
//! what must hold between them, `safety` what no instance may run without,
//! `draft` holds what will be written, `write` writes it in one of the two forms.

mod address;
mod authentication;
mod draft;
mod globals;
pub mod host;
mod instance;
mod judge;
mod keywords;
mod notify;
mod safety;
mod source;
mod timing;
mod trackers;
mod tree;
mod verdict;
mod whole;
mod write;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use self::judge::Judge;
use self::source::Reader;
use super::lookup::{Lookup, SecretFile};
use super::secret::Secret;

pub use self::verdict::{Kind, Verdict};

/// What an import asks of the outside.
pub trait Surroundings {
    /// The files that `pattern` names in the file `from`, in order, with their texts.
    ///
    /// # Errors
    /// A sentence.
    fn include(&self, from: &Path, pattern: &str) -> Result<Vec<(PathBuf, String)>, String>;
    /// Where a program is that is named without a path.
    fn program(&self, name: &str) -> Option<PathBuf>;
    /// The host's name, which keepalived puts into the sender of its mails.
    fn name(&self) -> Option<String>;
}

/// What keepalived cannot know.
#[derive(Clone, Debug)]
pub struct Options {
    /// keepalived's `--config-id`: which of the lines under `@conditions` hold.
    pub config_id: String,
    /// Where the files of passwords will be.
    pub secrets_dir: PathBuf,
    /// The form for a pair; `None`: the router form.
    pub pair: Option<Pair>,
}

/// What the form for a pair needs beyond `keepalived.conf`.
#[derive(Clone, Debug)]
pub struct Pair {
    /// PGDATA.
    pub data_dir: PathBuf,
    /// Where `pg_ctl` is.
    pub bin_dir: PathBuf,
    /// The key of the pulses.
    pub pulse_key_file: PathBuf,
    /// What a primary does that loses its standby: `hold` or `serve`.
    pub isolated: String,
    /// This node's `application_name` and the peer's; `None`: made of the addresses.
    pub names: Option<(String, String)>,
    /// Carry notify scripts over, as they do more than promote PostgreSQL.
    pub keep_notify: bool,
}

/// A secret, and the file that the TOML names for it.
#[derive(Clone, Debug)]
pub struct SecretToWrite {
    /// Where it is to be, with mode 0600.
    pub path: PathBuf,
    /// What is to be in it.
    pub secret: Secret<String>,
}

/// What became of a `keepalived.conf`.
#[derive(Clone, Debug)]
pub struct Import {
    /// Our configuration, or why there is none.
    pub toml: Result<String, String>,
    /// The secrets that it names.
    pub secrets: Vec<SecretToWrite>,
    /// One for each line that is not blank, in the order of the files.
    pub verdicts: Vec<Verdict>,
}

impl Import {
    /// Whether something is lost.
    pub fn loses(&self) -> bool {
        self.toml.is_err() || self.verdicts.iter().any(|verdict| verdict.kind == Kind::NotSupported)
    }
}

/// Reads `text`, which is the file `path`.
pub fn import(path: &Path, text: &str, options: &Options, around: &dyn Surroundings) -> Import {
    let mut judge = Judge::new(options, around);
    let mut reader = Reader::new(around, options.config_id.clone(), &mut judge.ledger);
    reader.file(path, text, &[]);
    let (files, lines) = reader.finish();
    let statements = tree::grow(&lines, &mut judge.ledger);
    judge.all(&statements);
    let toml = write::toml(&judge, path);
    let secrets = if toml.is_ok() { std::mem::take(&mut judge.draft.secrets) } else { Vec::new() };
    Import { toml, secrets, verdicts: judge.ledger.finish(&files) }
}

/// Answers for secrets that are in no file yet; for the rest asks another.
pub struct Memory<'a> {
    secrets: &'a [SecretToWrite],
    rest: &'a dyn Lookup,
}

impl<'a> Memory<'a> {
    /// `secrets` first, then `rest`.
    pub fn new(secrets: &'a [SecretToWrite], rest: &'a dyn Lookup) -> Self {
        Self { secrets, rest }
    }
}

impl Lookup for Memory<'_> {
    fn file(&self, path: &Path) -> std::io::Result<SecretFile> {
        match self.secrets.iter().find(|secret| secret.path == path) {
            Some(found) => {
                Ok(SecretFile { mode: 0o600, content: Secret::new(found.secret.reveal().clone().into_bytes()) })
            }
            None => self.rest.file(path),
        }
    }

    fn env(&self, name: &str) -> Option<std::ffi::OsString> {
        self.rest.env(name)
    }
}
