//! The control group whose sockets are gated.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No unified hierarchy on this host.
    #[error(
        "no cgroup2 file system is mounted, and the gate sits on one; run `mount -t cgroup2 none /sys/fs/cgroup/unified`, \
         or name one as kernel.cgroup"
    )]
    None,
    /// The configured one, or the one that was found.
    #[error("cannot use control group `{path}`: {source}; correct kernel.cgroup")]
    File {
        /// Its folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A folder of something else.
    #[error("`{path}` is no folder of a cgroup2 file system; correct kernel.cgroup{}", hint(.found))]
    Other {
        /// What was configured.
        path: PathBuf,
        /// Where there is one.
        found: Option<PathBuf>,
    },
}

fn hint(found: &Option<PathBuf>) -> String {
    found.as_ref().map_or_else(String::new, |found| format!(", for instance to \"{}\" or \"auto\"", found.display()))
}

/// The group to attach to, `None` meaning the root of the hierarchy, opened, with its place.
///
/// # Errors
///
/// There is none, or it is of the old kind.
pub fn open(wanted: Option<&Path>) -> Result<(File, PathBuf), CgroupError> {
    let path = match wanted {
        Some(path) => path.to_owned(),
        None => root().ok_or(CgroupError::None)?,
    };
    let failed = |source| CgroupError::File { path: path.clone(), source };
    let folder = File::open(&path).map_err(failed)?;
    let kind = fstatfs(&folder).map_err(|error| failed(error.into()))?;
    if kind.filesystem_type() != CGROUP2_SUPER_MAGIC || !folder.metadata().map_err(failed)?.is_dir() {
        return Err(CgroupError::Other { path, found: root() });
    }
    Ok((folder, path))
}

/// Where the unified hierarchy is mounted: `/sys/fs/cgroup`, or a folder of it beside the old hierarchies.
pub fn root() -> Option<PathBuf> {
    find(&fs::read_to_string("/proc/self/mounts").ok()?)
}

fn find(mounts: &str) -> Option<PathBuf> {
    let mut fields = mounts.lines().map(|line| line.split(' '));
    let (_, place) = fields.find_map(|mut fields| {
        let (_device, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then_some((kind, place))
    })?;
    // As the kernel writes a blank in a path (getmntent(3)).
    Some(place.replace("\\040", " ").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_hierarchy_is_found_beside_the_old_ones() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/uni\\040fied cgroup2 rw,relatime 0 0\n";
        assert_eq!(find(mounts), Some("/sys/fs/cgroup/uni fied".into()));
        assert_eq!(find("tmpfs /sys/fs/cgroup tmpfs rw 0 0\n"), None);
    }

    #[test]
    fn a_folder_of_something_else_and_one_that_is_not_there_are_told_apart() {
        assert!(matches!(open(Some(Path::new("/proc"))), Err(CgroupError::Other { .. })));
        assert!(matches!(open(Some(Path::new("/nowhere"))), Err(CgroupError::File { .. })));
    }
}
