//! The unprivileged user that PostgreSQL runs as: `postgres` refuses to run as root.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::unistd::{Gid, Uid, setgid, setgroups, setsid, setuid};
use serde::{Deserialize, Serialize};

/// A user that was there before: the lab creates none.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct User {
    /// Its name.
    pub name: String,
    uid: u32,
    gid: u32,
}

impl User {
    /// The first of the users that every system has and nobody uses.
    ///
    /// # Errors
    /// This system has none of them.
    pub fn unprivileged() -> Result<Self> {
        // A name is needed, not a bare number: `initdb` and `pg_ctl` look it up.
        let known = ["nobody", "daemon"].into_iter().find_map(|name| Self::named(name).ok());
        known.context("PostgreSQL does not run as root, and there is neither `nobody` nor `daemon`")
    }

    /// # Errors
    /// There is no such user.
    pub fn named(name: &str) -> Result<Self> {
        let user = nix::unistd::User::from_name(name)?.with_context(|| format!("no user `{name}`"))?;
        Ok(Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() })
    }

    /// Whether it may walk into this folder.
    pub fn can_enter(&self, folder: &Path) -> bool {
        folder.ancestors().all(|step| {
            fs::metadata(step).is_ok_and(|it| {
                let class = match it {
                    _ if it.uid() == self.uid => 6,
                    _ if it.gid() == self.gid => 3,
                    _ => 0,
                };
                it.mode() >> class & 1 == 1
            })
        })
    }

    /// Gives it a file or a folder.
    ///
    /// # Errors
    /// Not root.
    pub fn give(&self, path: &Path) -> Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("cannot give `{}` to {}", path.display(), self.name))
    }

    /// Lets a command run as this user, in a session of its own.
    ///
    /// Not `Command::uid`: that one is dropped before the hooks, and entering a namespace wants root.
    pub fn apply(&self, command: &mut Command) {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let drop_rights = move || {
            let _ = setsid();
            setgroups(&[gid])?;
            setgid(gid)?;
            setuid(uid)?;
            Ok(())
        };
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").env("HOME", "/");
        // SAFETY: the hook makes system calls only; it neither allocates nor takes a lock.
        unsafe { command.pre_exec(drop_rights) };
    }
}
