//! The key pair: where it comes from, how long it is good, and that nobody sees it.
//!
//! Three sources, as the official SDKs have them: the environment, a file, the RAM role of the instance. What expires is
//! fetched anew 15 minutes before; when that fails the old one is used on and the next try waits, so that an outage of
//! metadata does not take a node's cloud away that still has a good key.
//!
//! Secrets are [`SecretString`]: wiped when they are dropped, and not shown by `Debug`. As they pass through the HTTP
//! library's buffers too, a process that has any makes itself undumpable ([`Keeper::new`]): no core file, and no debugger
//! of another user.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use secrecy::{ExposeSecret as _, SecretString};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Mutex;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::metadata::{Metadata, MetadataError, RoleKeys};
use super::sign::Signer;
use crate::config::lookup::Lookup;
use crate::config::settings::cloud::CredentialSource;

/// Before the end, as the official SDKs have it; in seconds.
const EARLY: u64 = 15 * 60;
/// A file may be replaced at any time; it is looked at no more often than this.
const FILE_AGE: Duration = Duration::from_secs(60);
/// The longest wait between two tries to fetch a key anew.
const RETRY_MOST: Duration = Duration::from_secs(60);

const ID: &str = "ALIBABA_CLOUD_ACCESS_KEY_ID";
const SECRET: &str = "ALIBABA_CLOUD_ACCESS_KEY_SECRET";
const TOKEN: &str = "ALIBABA_CLOUD_SECURITY_TOKEN";

/// Why there is no key pair.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Both are needed.
    #[error("the environment has no {0}; set {ID} and {SECRET} for the service, or choose another cloud.credentials")]
    Environment(&'static str),
    /// It cannot be read.
    #[error("`{}` could not be read: {why}", path.display())]
    File {
        /// `cloud.credentials_file`.
        path: PathBuf,
        /// In words.
        why: String,
    },
    /// Others could read it as well.
    #[error("others than its owner have access to `{}` (mode {mode:04o}); run `chmod 600 {}`", path.display(), path.display())]
    Open {
        /// `cloud.credentials_file`.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It lacks something.
    #[error("`{}` has no `{key} = …`", path.display())]
    Lacks {
        /// `cloud.credentials_file`.
        path: PathBuf,
        /// What is missing.
        key: &'static str,
    },
    /// The role's keys.
    #[error("the RAM role: {0}")]
    Role(#[from] MetadataError),
    /// The role's keys lack something.
    #[error("the RAM role: instance metadata gave no {0}")]
    RoleLacks(&'static str),
    /// New keys are waited for no longer, as there are older ones.
    #[error("{from}: no new keys within {patience:?}")]
    Late {
        /// Where they are from.
        from: From,
        /// How long.
        patience: Duration,
    },
    /// `auto` tried all.
    #[error("no key pair: {environment}; {file}; {role}")]
    Nowhere {
        /// What the environment lacks.
        environment: Box<CredentialsError>,
        /// What is wrong with the file.
        file: Box<CredentialsError>,
        /// What is wrong with the role.
        role: Box<CredentialsError>,
    },
}

/// A key pair, and the token that temporary ones have.
pub struct Keys {
    id: String,
    secret: SecretString,
    token: Option<SecretString>,
    /// Seconds since 1970; `None`: they do not expire.
    expires: Option<u64>,
}

impl fmt::Debug for Keys {
    /// Whether they expire, and nothing else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl Keys {
    /// To sign with.
    pub(super) fn signer(&self) -> Signer<'_> {
        Signer { id: &self.id, secret: &self.secret, token: self.token.as_ref() }
    }

    /// `text` of the service, fit for a log: without these keys (it repeats what it was sent), on one line, not long.
    pub(super) fn scrub(&self, text: &str) -> String {
        let mut text = text.to_owned();
        let token = self.token.as_ref().map(|token| token.expose_secret());
        for secret in [Some(self.secret.expose_secret()), token, Some(self.id.as_str())].into_iter().flatten() {
            for shown in [secret.to_owned(), super::sign::pct(secret), super::sign::pct(&super::sign::pct(secret))] {
                if shown.len() >= 4 {
                    text = text.replace(&shown, "<secret>");
                }
            }
        }
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        match line.char_indices().nth(300) {
            Some((at, _)) => format!("{}…", &line[..at]),
            None => line,
        }
    }
}

/// A source that gave keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The environment.
    Environment,
    /// The file.
    File,
    /// The role.
    Role,
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "the environment",
            Self::File => "the credentials file",
            Self::Role => "the instance's RAM role",
        })
    }
}

struct Kept {
    keys: Arc<Keys>,
    from: From,
    fetched: Instant,
}

/// Only the end of a key is on the host's clock, as the service names it so. Waits are not: that clock may be set.
#[derive(Default)]
struct State {
    kept: Option<Kept>,
    /// The service did not accept the kept ones.
    distrusted: bool,
    failures: u32,
    /// A failed refresh waits until then.
    next: Option<Instant>,
}

impl State {
    /// Whether the kept keys are to be fetched anew before they are used. `date`: seconds since 1970.
    fn is_due(&self, date: u64, now: Instant) -> bool {
        let Some(kept) = &self.kept else { return true };
        let ends = kept.keys.expires.is_some_and(|end| date.saturating_add(EARLY) >= end);
        let old = kept.from == From::File && now.saturating_duration_since(kept.fetched) >= FILE_AGE;
        ends || old || self.distrusted
    }

    /// Whether that has to wait, as it failed just now.
    fn waits(&self, now: Instant) -> bool {
        self.next.is_some_and(|next| now < next)
    }

    fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.next = Some(now + Duration::from_secs(1 << self.failures.min(16)).min(RETRY_MOST));
    }

    fn succeeded(&mut self, keys: Keys, from: From, now: Instant) -> Arc<Keys> {
        let keys = Arc::new(keys);
        *self = Self { kept: Some(Kept { keys: keys.clone(), from, fetched: now }), ..Self::default() };
        keys
    }
}

/// Keeps a key pair fresh.
pub struct Keeper {
    source: CredentialSource,
    file: PathBuf,
    role: Option<String>,
    metadata: Arc<Metadata>,
    host: Arc<dyn Lookup + Send + Sync>,
    state: Mutex<State>,
}

impl Keeper {
    /// Prepares, and makes this process undumpable from now on (`PR_SET_DUMPABLE`), for all that it does.
    pub fn new(
        source: CredentialSource,
        file: &Path,
        role: Option<String>,
        metadata: Arc<Metadata>,
        host: Arc<dyn Lookup + Send + Sync>,
    ) -> Self {
        if let Err(error) = nix::sys::prctl::set_dumpable(false) {
            tracing::warn!(%error, "a core file of this process could hold the AccessKey");
        }
        let state = Mutex::default();
        Self { source, file: file.to_owned(), role, metadata, host, state }
    }

    /// Keys to sign with now, and where they are from.
    ///
    /// # Errors
    /// There never were any. Once there were, they stay in use when no new ones can be had.
    ///
    /// Where there are some already, new ones are waited for no longer than `patience`: a metadata service that hangs
    /// must not use up the time of the call that the old ones are good for.
    pub async fn current(&self, patience: Duration) -> Result<(Arc<Keys>, From), CredentialsError> {
        let mut state = self.state.lock().await;
        let now = Instant::now();
        if let Some(kept) = &state.kept
            && (!state.is_due(unix_seconds(), now) || state.waits(now))
        {
            return Ok((kept.keys.clone(), kept.from));
        }
        // A source that has given keys is not left for another one.
        let before = state.kept.as_ref().map(|kept| kept.from);
        // Whoever asks may give up meanwhile, and the next one must not try the same again.
        state.failed(now);
        let fetched = match before {
            None => self.fetch(before).await,
            Some(from) => {
                let late = || CredentialsError::Late { from, patience };
                tokio::time::timeout(patience, self.fetch(before)).await.unwrap_or_else(|_| Err(late()))
            }
        };
        match fetched {
            Ok((keys, from)) => {
                if before.is_none() {
                    tracing::info!(%from, "AccessKey");
                }
                Ok((state.succeeded(keys, from, now), from))
            }
            Err(error) => {
                let Some(kept) = &state.kept else { return Err(error) };
                tracing::warn!(%error, "the AccessKey could not be fetched anew; the old one is used on");
                Ok((kept.keys.clone(), kept.from))
            }
        }
    }

    /// The service did not accept `keys`: fetch others, unless that was just tried.
    pub(super) async fn distrust(&self, keys: &Arc<Keys>) {
        let mut state = self.state.lock().await;
        if state.kept.as_ref().is_some_and(|kept| Arc::ptr_eq(&kept.keys, keys)) {
            state.distrusted = true;
        }
    }

    async fn fetch(&self, before: Option<From>) -> Result<(Keys, From), CredentialsError> {
        let role = async || Ok((self.role().await?, From::Role));
        let file = || Ok((from_file(&*self.host, &self.file)?, From::File));
        let environment = || Ok((from_environment(&*self.host)?, From::Environment));
        match (self.source, before) {
            (CredentialSource::Env, _) | (CredentialSource::Auto, Some(From::Environment)) => environment(),
            (CredentialSource::File, _) | (CredentialSource::Auto, Some(From::File)) => file(),
            (CredentialSource::RamRole, _) | (CredentialSource::Auto, Some(From::Role)) => role().await,
            (CredentialSource::Auto, None) => {
                let environment = match environment() {
                    Ok(found) => return Ok(found),
                    Err(error) => Box::new(error),
                };
                let file = match file() {
                    Ok(found) => return Ok(found),
                    // A file that is there and wrong is a mistake to be mended, not one to be passed over.
                    Err(error @ (CredentialsError::Open { .. } | CredentialsError::Lacks { .. })) => return Err(error),
                    Err(error) => Box::new(error),
                };
                let role = role().await;
                role.map_err(|role| CredentialsError::Nowhere { environment, file, role: Box::new(role) })
            }
        }
    }

    async fn role(&self) -> Result<Keys, CredentialsError> {
        let named = self.host.env("ALIBABA_CLOUD_ECS_METADATA").and_then(|name| name.into_string().ok());
        let named = named.filter(|name| !name.is_empty() && !name.contains('/'));
        let found = self.metadata.role_keys(self.role.as_deref().or(named.as_deref())).await?;
        keys_of_role(found)
    }
}

/// All four are there, or they are no keys of a role.
fn keys_of_role(found: RoleKeys) -> Result<Keys, CredentialsError> {
    let RoleKeys { access_key_id, access_key_secret, security_token, expiration, .. } = found;
    let end = expiration.as_deref().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    Ok(Keys {
        id: access_key_id.ok_or(CredentialsError::RoleLacks("AccessKeyId"))?,
        secret: access_key_secret.ok_or(CredentialsError::RoleLacks("AccessKeySecret"))?,
        token: Some(security_token.ok_or(CredentialsError::RoleLacks("SecurityToken"))?),
        expires: Some(
            end.and_then(|end| u64::try_from(end.unix_timestamp()).ok())
                .ok_or(CredentialsError::RoleLacks("Expiration that can be read"))?,
        ),
    })
}

fn from_environment(host: &dyn Lookup) -> Result<Keys, CredentialsError> {
    let text = |name| {
        let text = host.env(name).and_then(|text: OsString| text.into_string().ok());
        text.filter(|text| is_one_word(text)).map(Zeroizing::new)
    };
    Ok(Keys {
        id: text(ID).ok_or(CredentialsError::Environment(ID))?.to_string(),
        secret: SecretString::from(text(SECRET).ok_or(CredentialsError::Environment(SECRET))?.as_str()),
        token: text(TOKEN).map(|token| SecretString::from(token.as_str())),
        expires: None,
    })
}

/// The keys that a header can hold.
fn is_one_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn from_file(host: &dyn Lookup, path: &Path) -> Result<Keys, CredentialsError> {
    let found = host.file(path).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "it does not exist".to_owned(),
            _ => error.to_string(),
        };
        CredentialsError::File { path: path.to_owned(), why }
    })?;
    if found.mode & 0o077 != 0 {
        return Err(CredentialsError::Open { path: path.to_owned(), mode: found.mode });
    }
    let content = Zeroizing::new(found.content.reveal().clone());
    let text = std::str::from_utf8(&content)
        .map_err(|_| CredentialsError::File { path: path.to_owned(), why: "it is not UTF-8 text".to_owned() })?;
    let lacks = |key| CredentialsError::Lacks { path: path.to_owned(), key };
    let [id, secret, token] = ["access_key_id", "access_key_secret", "security_token"].map(|key| value_of(text, key));
    Ok(Keys {
        id: id.ok_or(lacks("access_key_id"))?.to_owned(),
        secret: SecretString::from(secret.ok_or(lacks("access_key_secret"))?),
        token: token.map(SecretString::from),
        expires: None,
    })
}

/// The value of a key in what is at once the simplest TOML and the simplest ini: `key = value`, quoted or not, at the top
/// or under `[default]`, as the official tools write it.
fn value_of<'a>(text: &'a str, wanted: &str) -> Option<&'a str> {
    let mut mine = true;
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            mine = section.trim_end_matches(']').trim() == "default";
        } else if mine
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == wanted
        {
            let value = value.trim();
            let bare = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
            return Some(bare.unwrap_or(value)).filter(|value| is_one_word(value));
        }
    }
    None
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests;
