//! The terms on disk: `<state_dir>/<instance>.terms.json`.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::core::Terms;

/// The file of one instance.
#[derive(Clone, Debug)]
pub struct TermFile {
    path: PathBuf,
}

/// Why the terms cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TermError {
    /// The file system.
    #[error("`{path}`: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The content.
    #[error(
        "`{path}` holds no terms ({source}): this node cannot know whether a later primary exists. If the other node is \
         the primary, remove the file; if this node is, and you are sure, remove it as well, and start this node first"
    )]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl TermFile {
    /// Names the file; touches nothing.
    pub fn new(state_dir: &Path, instance: &str) -> Self {
        Self { path: state_dir.join(format!("{instance}.terms.json")) }
    }

    /// What was stored last; zeros when nothing ever was.
    ///
    /// # Errors
    ///
    /// Unreadable, or not what [`TermFile::save`] writes: never guessed at.
    pub fn load(&self) -> Result<Terms, TermError> {
        match fs::read(&self.path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| TermError::Content { path: self.path.clone(), source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Terms::default()),
            Err(source) => Err(TermError::File { path: self.path.clone(), source }),
        }
    }

    /// Stores; comes back when it would survive a power loss. After an error the old content is in place.
    ///
    /// # Errors
    ///
    /// The file system's.
    pub fn save(&self, terms: &Terms) -> Result<(), TermError> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let new = self.path.with_extension("json.new");
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec(terms)?)?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            // The rename itself is in the folder.
            File::open(folder)?.sync_all()
        };
        write().map_err(|source| TermError::File { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { seen: 5, mine: 3, reserved: 6, waived: 5 };

    #[test]
    fn what_is_saved_is_loaded_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let file = TermFile::new(folder.path(), "x");
        assert_eq!(file.load().unwrap(), Terms::default());
        file.save(&TERMS).unwrap();
        file.save(&Terms { seen: 6, ..TERMS }).unwrap();
        assert_eq!(file.load().unwrap(), Terms { seen: 6, ..TERMS });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_crash_before_the_rename_leaves_the_old_terms() {
        let folder = tempfile::tempdir().unwrap();
        let file = TermFile::new(folder.path(), "x");
        file.save(&TERMS).unwrap();
        fs::write(folder.path().join("x.terms.json.new"), b"{\"seen\":").unwrap();
        assert_eq!(file.load().unwrap(), TERMS);
    }

    #[test]
    fn half_a_file_is_refused_and_not_read_as_zero() {
        let folder = tempfile::tempdir().unwrap();
        let file = TermFile::new(folder.path(), "x");
        for content in ["", "{\"seen\":5", "{\"seen\":5,\"mine\":3}", "{\"seen\":5,\"mine\":3,\"reserved\":-1}"] {
            fs::write(folder.path().join("x.terms.json"), content).unwrap();
            assert!(matches!(file.load(), Err(TermError::Content { .. })), "{content}");
        }
    }

    #[test]
    fn a_folder_that_is_gone_is_an_error_with_its_name() {
        let file = TermFile::new(Path::new("/nonexistent"), "x");
        assert!(file.save(&TERMS).unwrap_err().to_string().contains("/nonexistent/x.terms.json"));
    }
}
