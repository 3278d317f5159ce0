//! Which file a command means, and whether root may run it.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::User;

/// Where programs without a `/` are looked for; also the program's own `PATH`.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a command is not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Nothing to run.
    #[error("the command is empty")]
    Empty,
    /// Not in the path.
    #[error("there is no program `{0}` in {PATH}; give it with its whole path")]
    NotInPath(String),
    /// Cannot be looked at.
    #[error("cannot look at `{path}`: {reason}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        reason: String,
    },
    /// A folder, a socket, …
    #[error("`{0}` is no file")]
    NoFile(PathBuf),
    /// Nobody may execute it.
    #[error("`{0}` is not executable; chmod +x")]
    NotExecutable(PathBuf),
    /// Somebody who is not root could make root run something else.
    #[error(
        "`{path}` is not run as root: `{part}` can be changed by others than root ({why}); chown root and chmod go-w, or name a user for it"
    )]
    Insecure {
        /// The file.
        path: PathBuf,
        /// The part of its path.
        part: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// The file that `program` means for `user`; no symbolic link is left in it, so what was looked at is what is run.
///
/// # Errors
/// It is not there, not executable, or root is to run what others can change.
pub(super) fn resolve(program: &str, user: &User) -> Result<PathBuf, CommandError> {
    let named = if program.is_empty() {
        return Err(CommandError::Empty);
    } else if program.contains('/') {
        PathBuf::from(program)
    } else {
        let mut places = PATH.split(':').map(|folder| Path::new(folder).join(program));
        places.find(|path| path.is_file()).ok_or_else(|| CommandError::NotInPath(program.to_owned()))?
    };
    let missing =
        |path: &Path, error: std::io::Error| CommandError::Missing { path: path.into(), reason: error.to_string() };
    let real = fs::canonicalize(&named).map_err(|error| missing(&named, error))?;
    let meta = fs::metadata(&real).map_err(|error| missing(&real, error))?;
    if !meta.is_file() {
        return Err(CommandError::NoFile(real));
    }
    if meta.permissions().mode() & 0o111 == 0 {
        return Err(CommandError::NotExecutable(real));
    }
    if user.is_root() {
        let absolute = std::path::absolute(&named).map_err(|error| missing(&named, error))?;
        // The way as it was named may lead over a link in a folder of somebody else's.
        for path in [&absolute, &real] {
            for part in path.ancestors() {
                let meta = fs::symlink_metadata(part).map_err(|error| missing(part, error))?;
                if let Some(why) = open_to_others(&meta) {
                    return Err(CommandError::Insecure { path: real.clone(), part: part.into(), why });
                }
            }
        }
    }
    Ok(real)
}

/// A link's own mode says nothing; who owns it could make it anew elsewhere only with rights on the folder. A sticky
/// folder (`/tmp`) lets nobody replace what is root's, and what is in it is looked at too.
fn open_to_others(meta: &Metadata) -> Option<String> {
    let mode = meta.mode();
    let sticky = meta.is_dir() && mode & 0o1000 != 0;
    if meta.uid() != 0 {
        Some(format!("it belongs to user {}", meta.uid()))
    } else if meta.is_symlink() || sticky {
        None
    } else if mode & 0o002 != 0 {
        Some(format!("everybody can write to it, mode {:04o}", mode & 0o7777))
    } else if mode & 0o020 != 0 && meta.gid() != 0 {
        Some(format!("group {} can write to it, mode {:04o}", meta.gid(), mode & 0o7777))
    } else {
        None
    }
}
