//! Where secrets come from: files that only their owner reads, or the environment.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::problems::DENIED;
use super::secret::Secret;
use super::values::Reading;

/// A secret file as it was found.
#[derive(Clone, Debug)]
pub struct SecretFile {
    /// Permission bits, as `chmod` writes them.
    pub mode: u32,
    /// The whole content.
    pub content: Secret<Vec<u8>>,
}

/// The outside of the configuration file: what it refers to instead of holding it.
pub trait Lookup {
    /// The file `path`.
    ///
    /// # Errors
    /// Those of opening and reading; `InvalidInput` when it is no regular file or longer than a secret may be.
    fn file(&self, path: &Path) -> io::Result<SecretFile>;

    /// The environment variable `name`; `None` when it is not set.
    fn env(&self, name: &str) -> Option<OsString>;
}

/// The host itself.
#[derive(Clone, Copy, Debug)]
pub struct System;

/// Longer than any password; short enough that a wrong path (a log, a disk) is noticed before it is read.
const LONGEST_SECRET: u64 = 64 * 1024;

impl Lookup for System {
    fn file(&self, path: &Path) -> io::Result<SecretFile> {
        // O_NONBLOCK: a FIFO in the place of a file must not hold up the start.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut content = Vec::new();
        file.take(LONGEST_SECRET + 1).read_to_end(&mut content)?;
        if content.len() as u64 > LONGEST_SECRET {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "longer than 64 KiB, so not a secret"));
        }
        Ok(SecretFile { mode: metadata.mode() & 0o7777, content: Secret::new(content) })
    }

    fn env(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }
}

/// The secret in the file `path`, without the line's end that editors and `openssl` leave.
pub(super) fn from_file(lookup: &dyn Lookup, path: &Path) -> Reading<Secret<String>> {
    let shown = path.display();
    let found = lookup.file(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("`{shown}` does not exist; write the secret to it with mode 0600"),
        io::ErrorKind::PermissionDenied => {
            format!("`{shown}` {DENIED}; run as root, or make the daemon's user its owner, with mode 0600")
        }
        io::ErrorKind::InvalidInput => format!("`{shown}` is {error}; use the path of a file with the secret alone"),
        _ => format!("`{shown}` could not be read: {error}"),
    })?;
    if found.mode & 0o077 != 0 {
        return Err(format!(
            "others than its owner have access to `{shown}` (mode {:04o}); run `chmod 600 {shown}`",
            found.mode
        ));
    }
    let text = String::from_utf8(found.content.reveal().clone()).map_err(|_| format!("`{shown}` is not UTF-8 text"))?;
    one_line(text).map_err(|why| format!("`{shown}` {why}"))
}

/// The secret in the environment variable `name`. The name stays unsaid: it may be the secret, by mistake.
pub(super) fn from_env(lookup: &dyn Lookup, name: &str) -> Reading<Secret<String>> {
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err("this is no name of a variable; use letters, digits and `_`, not the secret itself".into());
    }
    let text =
        lookup.env(name).ok_or("no environment variable has this name; set it for the service, or use a file")?;
    let text = text.into_string().map_err(|_| "the variable does not hold UTF-8 text")?;
    one_line(text).map_err(|why| format!("the variable {why}"))
}

fn one_line(text: String) -> Result<Secret<String>, &'static str> {
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err("is empty; write the secret to it");
    }
    if line.chars().any(char::is_control) {
        return Err("holds more than one line of plain text; leave the secret alone in it");
    }
    Ok(Secret::new(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_comes_with_its_permissions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pulse.key");
        fs::write(&path, "abc\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let found = System.file(&path).unwrap();
        assert_eq!((found.mode, found.content.reveal().as_slice()), (0o640, b"abc\n".as_slice()));
    }

    #[test]
    fn a_directory_a_fifo_and_a_huge_file_are_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        let huge = dir.path().join("huge");
        fs::write(&huge, vec![b'x'; LONGEST_SECRET as usize + 1]).unwrap();
        let largest = dir.path().join("largest");
        fs::write(&largest, vec![b'x'; LONGEST_SECRET as usize]).unwrap();

        for path in [dir.path(), &fifo, &huge] {
            assert_eq!(System.file(path).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{path:?}");
        }
        assert!(System.file(&largest).is_ok());
    }
}
