//! PostgreSQL's own settings that a change of roles touches, and how to write them without breaking the rest.
//!
//! A running server is asked (`ALTER SYSTEM`); the file of one at rest is edited here, with PostgreSQL's quoting.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::connect::SqlError;
use super::{Owner, Pg};

/// Between two looks whether a reload has arrived; it takes about a millisecond.
const POLL: Duration = Duration::from_millis(1);

impl Pg {
    /// Sets `synchronous_standby_names` and waits until a session sees it; works on a standby as well. Empty: nobody.
    ///
    /// Emptying it acknowledges every commit that waits. The checkpointer, which tells waiting backends, reloads at the
    /// same signal as the session that is asked here, but nothing in SQL shows that it has done so.
    ///
    /// # Errors
    /// No answer, or another source (the command line) overrides the setting.
    pub async fn set_sync(&self, names: &str, within: Duration) -> Result<(), SettingError> {
        self.set_system(&[("synchronous_standby_names", names)], within).await
    }

    /// Sets, reloads, and waits until all of them are in force; does nothing when they are.
    pub(super) async fn set_system(
        &self,
        wanted: &[(&'static str, &str)],
        within: Duration,
    ) -> Result<(), SettingError> {
        let deadline = Instant::now() + within;
        let left = || deadline.saturating_duration_since(Instant::now());
        let session = self.session(within).await?;
        let mut reload = false;
        for (name, value) in wanted {
            if session.ask_one(name, &format!("SHOW {name}"), left()).await? != *value {
                let sql = format!("ALTER SYSTEM SET {name} = {}", literal(value));
                session.ask("to change a setting", &sql, left()).await?;
                reload = true;
            }
        }
        if !reload {
            return Ok(());
        }
        session.ask("to reload", "SELECT pg_reload_conf()", left()).await?;
        for (name, value) in wanted {
            loop {
                let current = session.ask_one(name, &format!("SHOW {name}"), left()).await?;
                if current == *value {
                    break;
                }
                if left() < Duration::from_millis(50) {
                    let sql = format!("SELECT source FROM pg_settings WHERE name = '{name}'");
                    let source = session.ask_one("the source of a setting", &sql, within).await?;
                    return Err(SettingError::NotInForce { name, wanted: (*value).to_owned(), current, source });
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Edits `postgresql.auto.conf` of a server at rest; `None` removes a line.
    pub(super) fn edit_auto_conf(&self, changes: &[(&str, Option<&str>)]) -> io::Result<()> {
        let path = self.in_data_dir("postgresql.auto.conf");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let edited = edit(&text, changes);
        if edited == text { Ok(()) } else { write_owned(&path, edited.as_bytes(), 0o600, self.owner()) }
    }
}

/// An SQL string, whatever `standard_conforming_strings` says.
pub(super) fn literal(value: &str) -> String {
    let quoted = value.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// A word for `/bin/sh`.
pub(super) fn shell_word(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// `postgresql.auto.conf` with some settings replaced (at the end) or removed; every other line stays as it is.
fn edit(text: &str, changes: &[(&str, Option<&str>)]) -> String {
    let key = |line: &str| {
        let line = line.trim_start();
        let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || "_.$".contains(c))).unwrap_or(line.len());
        line[..end].to_ascii_lowercase()
    };
    let changed = |line: &str| changes.iter().any(|(name, _)| key(line) == *name);
    let mut edited: String = text.lines().filter(|line| !changed(line)).flat_map(|line| [line, "\n"]).collect();
    for (name, value) in changes {
        if let Some(value) = value {
            // As ALTER SYSTEM does it: both characters doubled. A line break would end the setting.
            let value = value.replace('\\', "\\\\").replace('\'', "''").replace(['\n', '\r'], " ");
            edited.push_str(&format!("{name} = '{value}'\n"));
        }
    }
    edited
}

/// Replaces a file so that a crash leaves the old one or the new one, and gives it to the data directory's owner.
pub(super) fn write_owned(path: &Path, bytes: &[u8], mode: u32, owner: Owner) -> io::Result<()> {
    replace(path, bytes, mode, |file| fchown(file, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())))
}

/// Replaces a file of the daemon's own, durably.
pub(super) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, 0o600, |_| Ok(()))
}

fn replace(path: &Path, bytes: &[u8], mode: u32, own: impl Fn(&File) -> io::Result<()>) -> io::Result<()> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(".harbor-ha.tmp");
    let temporary = parent.join(temporary);
    let _ = fs::remove_file(&temporary); // of a crash; never follow what somebody may have put there
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    own(&file)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_dir(parent)
}

/// Makes a rename, a creation or a removal in the directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Why a setting is not as it was wanted.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// A question failed.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// Written and reloaded, and still another value: the source says where that comes from.
    #[error("`{name}` is `{current}` (source: {source_name}) and not `{wanted}` after a reload", source_name = .source)]
    NotInForce {
        /// The setting.
        name: &'static str,
        /// As asked.
        wanted: String,
        /// In force.
        current: String,
        /// `pg_settings.source` of what is in force.
        r#source: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_keeps_other_lines_and_replaces_every_occurrence() {
        let text = "# Do not edit this file manually!\nport = '5433'\nprimary_conninfo = 'host=a'\n\
                    Primary_Conninfo='host=b'\nprimary_conninfo_x = 1\nwork_mem = '4MB' # primary_conninfo\n";
        let edited = edit(text, &[("primary_conninfo", Some("host=c")), ("port", None), ("absent", None)]);
        assert_eq!(
            edited,
            "# Do not edit this file manually!\nprimary_conninfo_x = 1\nwork_mem = '4MB' # primary_conninfo\n\
             primary_conninfo = 'host=c'\n"
        );
    }

    #[test]
    fn an_edit_that_was_done_already_changes_nothing() {
        let changes = [("a", Some("it's a \\ b")), ("b", None)];
        let once = edit("c = 1\nb = 2", &changes);
        assert_eq!(once, "c = 1\na = 'it''s a \\\\ b'\n");
        assert_eq!(edit(&once, &changes), once);
    }

    #[test]
    fn a_value_cannot_end_its_line() {
        assert_eq!(edit("", &[("a", Some("x\nfsync = off"))]), "a = 'x fsync = off'\n");
    }

    #[test]
    fn each_quoting_has_its_own_rules() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\'b"), r"E'a\\''b'");
        assert_eq!(shell_word("a'b c"), r"'a'\''b c'");
    }
}
