//! Reads the configuration file.

use std::fs;
use std::io;
use std::path::Path;

use toml::de::DeTable;

use super::check;
use super::lookup::{Lookup, System};
use super::problems::{DENIED, Problem, Problems};
use super::reader::{Document, header, line_of};
use super::router;
use super::router::check::OF_ROUTER;
use super::settings::Settings;

/// The name that problems carry when the text did not come from a file.
const NAME: &str = "harbor-ha.toml";

/// A file of either form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Configuration {
    /// Two nodes, one virtual router, and what it stands for.
    Pair(Box<Settings>),
    /// Plain VRRP.
    Router(Box<router::Settings>),
}

/// Reads `path`, of whatever form, and the secrets that it names from this host.
///
/// # Errors
/// Everything that is wrong with the file, at once.
pub fn read(path: &Path) -> Result<Configuration, Problems> {
    parse_any(&text(path)?, &System).map_err(|problems| problems.in_file(path))
}

/// Reads `path`, which must be of the form for a pair.
///
/// # Errors
/// Everything that is wrong with the file, at once.
pub fn load(path: &Path) -> Result<Settings, Problems> {
    parse(&text(path)?, &System).map_err(|problems| problems.in_file(path))
}

/// The text of `path`.
///
/// # Errors
/// It cannot be read, or is no text.
pub(super) fn text(path: &Path) -> Result<String, Problems> {
    let bytes = fs::read(path).map_err(|error| Problems::of_file(path, unreadable(&error)))?;
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        let text = "is not UTF-8 text; save the file as UTF-8".into();
        Problems::new(path, vec![Problem { line: Some(line), key: String::new(), text }])
    })
}

/// The pure part of [`load`]: `lookup` stands for the host.
///
/// # Errors
/// Everything that is wrong with `text`, at once; a mistake in the TOML itself hides the others.
pub fn parse(text: &str, lookup: &dyn Lookup) -> Result<Settings, Problems> {
    match parse_any(text, lookup)? {
        Configuration::Pair(settings) => Ok(*settings),
        Configuration::Router(_) => Err(Problems::of_file(
            Path::new(NAME),
            "is for plain VRRP ([[instance]]); this needs one for a pair ([node])",
        )),
    }
}

/// The pure part of [`read`]: `lookup` stands for the host.
///
/// # Errors
/// As [`parse`].
pub fn parse_any(text: &str, lookup: &dyn Lookup) -> Result<Configuration, Problems> {
    let (root, errors) = DeTable::parse_recoverable(text);
    // The first error causes most of the others; `DeTable::parse` would answer with the last.
    if let Some(error) = errors.iter().min_by_key(|error| error.span().map(|span| span.start)) {
        return Err(Problems::new(Path::new(NAME), vec![syntax(text, error)]));
    }
    let document = Document::new(text, root.get_ref(), lookup);
    let found = match (document.first_of(&OF_ROUTER), document.first_of(&check::OF_PAIR)) {
        (Some(router), Some(pair)) => return Err(Problems::new(Path::new(NAME), vec![mixed(router, pair)])),
        (Some(_), None) => router::check::settings(&document).map(|it| Configuration::Router(Box::new(it))),
        (None, _) => check::settings(&document).map(|it| Configuration::Pair(Box::new(it))),
    };
    match (found, document.finish()) {
        (Some(found), problems) if problems.is_empty() => Ok(found),
        (_, problems) => Err(Problems::new(Path::new(NAME), problems)),
    }
}

/// At the table that came second.
fn mixed(router: (&str, usize), pair: (&str, usize)) -> Problem {
    let (second, line) = if router.1 > pair.1 { router } else { pair };
    let text = format!(
        "{} is of plain VRRP and {} of a pair of nodes, and one file describes one of the two; remove all tables of the \
         other, or make two files and run two daemons",
        header(router.0),
        header(pair.0)
    );
    Problem { line: Some(line), key: second.to_owned(), text }
}

fn syntax(text: &str, error: &toml::de::Error) -> Problem {
    let message = error.message().trim_end_matches(", expected nothing");
    let hint = if message.starts_with("invalid") { "; text needs quotes, like \"10.0.0.1\"" } else { "" };
    let line = error.span().map(|span| line_of(text, span.start));
    Problem { line, key: String::new(), text: format!("is not TOML: {message}{hint}") }
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "does not exist; name the configuration with `--config FILE`".into(),
        io::ErrorKind::PermissionDenied => format!("{DENIED}; run as root, or repair its mode"),
        io::ErrorKind::IsADirectory => "is a directory; name the file in it".into(),
        _ => format!("could not be read: {error}"),
    }
}
