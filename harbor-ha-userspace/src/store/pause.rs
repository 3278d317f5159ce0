//! An operator's word that outlives the daemon: automatic action is paused.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The file that says so by being there.
#[derive(Clone, Debug)]
pub struct PauseFile(PathBuf);

impl PauseFile {
    /// Of an instance.
    pub fn new(state_dir: &Path, instance: &str) -> Self {
        Self(state_dir.join(format!("{instance}.paused")))
    }

    /// Whether it is there.
    pub fn is_set(&self) -> bool {
        self.0.exists()
    }

    /// Makes or removes it, durably.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub fn set(&self, paused: bool) -> io::Result<()> {
        if paused {
            File::create(&self.0)?.sync_all()?;
        } else {
            match fs::remove_file(&self.0) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.0.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_until_it_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = PauseFile::new(dir.path(), "x");
        assert!(!file.is_set());
        file.set(true).unwrap();
        file.set(true).unwrap();
        assert!(PauseFile::new(dir.path(), "x").is_set());
        file.set(false).unwrap();
        file.set(false).unwrap();
        assert!(!file.is_set());
    }
}
