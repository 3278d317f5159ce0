//! Whom a program runs as.

use std::ffi::CString;
use std::path::PathBuf;

use nix::unistd::{Gid, Group, Uid, User as Entry, getegid, geteuid, getgrouplist};

use super::keeper::Identity;

/// The user that keepalived's scripts run as where nobody says otherwise.
const SCRIPT_USER: &str = "keepalived_script";

/// A user of this host with all its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub(super) name: String,
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    pub(super) groups: Vec<Gid>,
    pub(super) home: PathBuf,
}

/// Why a program cannot run as somebody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// Nobody of that name.
    #[error("there is no user `{0}` on this host; `getent passwd` lists them")]
    NoUser(String),
    /// No group of that name.
    #[error("there is no group `{0}` on this host; `getent group` lists them")]
    NoGroup(String),
    /// We may not.
    #[error("the daemon runs as `{own}` and cannot run a program as `{other}`; only root can")]
    NotRoot {
        /// Who we are.
        own: String,
        /// Who was asked for.
        other: String,
    },
    /// The user data base does not answer.
    #[error("cannot look up `{name}`: {reason}")]
    Lookup {
        /// What was looked up.
        name: String,
        /// What went wrong.
        reason: String,
    },
}

impl User {
    /// `user` or `user:group`; numbers will do. With a group named, that one takes the place of the user's first one.
    ///
    /// # Errors
    /// There is no such user or group, or the daemon is not root and somebody else.
    pub fn find(text: &str) -> Result<Self, UserError> {
        let (name, group) = match text.split_once(':') {
            Some((name, group)) => (name, Some(group)),
            None => (text, None),
        };
        let looked =
            |name: &str, error: nix::Error| UserError::Lookup { name: name.to_owned(), reason: error.to_string() };
        let entry = match name.parse() {
            Ok(number) => Entry::from_uid(Uid::from_raw(number)),
            Err(_) => Entry::from_name(name),
        };
        let entry = entry.map_err(|error| looked(name, error))?.ok_or_else(|| UserError::NoUser(name.to_owned()))?;
        let gid = match group {
            None => entry.gid,
            Some(group) => {
                let found = match group.parse() {
                    Ok(number) => Group::from_gid(Gid::from_raw(number)),
                    Err(_) => Group::from_name(group),
                };
                found.map_err(|error| looked(group, error))?.ok_or_else(|| UserError::NoGroup(group.to_owned()))?.gid
            }
        };
        let user = Self::of(entry, gid);
        if !geteuid().is_root() && (user.uid != geteuid() || user.gid != getegid()) {
            return Err(UserError::NotRoot { own: Self::own().name, other: text.to_owned() });
        }
        Ok(user)
    }

    /// Who the daemon is.
    #[must_use]
    pub fn own() -> Self {
        let uid = geteuid();
        match Entry::from_uid(uid) {
            Ok(Some(entry)) => Self::of(entry, getegid()),
            // A container's number without a name.
            _ => Self { name: uid.to_string(), uid, gid: getegid(), groups: vec![getegid()], home: "/".into() },
        }
    }

    /// Where nobody says otherwise: `keepalived_script` if the daemon is root and there is one, else who the daemon is.
    #[must_use]
    pub fn usual() -> Self {
        Self::find(SCRIPT_USER).unwrap_or_else(|_| Self::own())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether what it runs may do everything.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.uid.is_root()
    }

    /// Its numbers, for `chown`.
    #[must_use]
    pub fn ids(&self) -> (Uid, Gid) {
        (self.uid, self.gid)
    }

    fn of(entry: Entry, gid: Gid) -> Self {
        let name = CString::new(entry.name.as_str()).ok();
        let groups = name.and_then(|name| getgrouplist(&name, gid).ok()).unwrap_or_else(|| vec![gid]);
        Self { name: entry.name, uid: entry.uid, gid, groups, home: entry.dir }
    }

    /// For the keeper: `None` where nothing can be changed, nor has to be.
    pub(super) fn identity(&self) -> Option<Identity> {
        let groups = self.groups.iter().map(|group| group.as_raw()).collect();
        geteuid().is_root().then(|| Identity { uid: self.uid.as_raw(), gid: self.gid.as_raw(), groups })
    }
}
