//! Reads the configuration file.

use std::fs;
use std::io;
use std::path::Path;

use toml::de::DeTable;

use super::check;
use super::lookup::{Lookup, System};
use super::problems::{DENIED, Problem, Problems};
use super::reader::{Document, line_of};
use super::settings::Settings;

/// The name that problems carry when the text did not come from a file.
const NAME: &str = "harbor-ha.toml";

/// Reads `path`, and the secrets that it names from this host.
///
/// # Errors
/// Everything that is wrong with the file, at once.
pub fn load(path: &Path) -> Result<Settings, Problems> {
    let bytes = fs::read(path).map_err(|error| Problems::of_file(path, unreadable(&error)))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        let text = "is not UTF-8 text; save the file as UTF-8".into();
        Problems::new(path, vec![Problem { line: Some(line), key: String::new(), text }])
    })?;
    parse(&text, &System).map_err(|problems| problems.in_file(path))
}

/// The pure part of [`load`]: `lookup` stands for the host.
///
/// # Errors
/// Everything that is wrong with `text`, at once; a mistake in the TOML itself hides the others.
pub fn parse(text: &str, lookup: &dyn Lookup) -> Result<Settings, Problems> {
    let (root, errors) = DeTable::parse_recoverable(text);
    // The first error causes most of the others; `DeTable::parse` would answer with the last.
    if let Some(error) = errors.iter().min_by_key(|error| error.span().map(|span| span.start)) {
        return Err(Problems::new(Path::new(NAME), vec![syntax(text, error)]));
    }
    let document = Document::new(text, root.get_ref(), lookup);
    let settings = check::settings(&document);
    match (settings, document.finish()) {
        (Some(settings), problems) if problems.is_empty() => Ok(settings),
        (_, problems) => Err(Problems::new(Path::new(NAME), problems)),
    }
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
