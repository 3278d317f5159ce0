//! Instance metadata: who and where this ECS is, and the keys of its RAM role.
//!
//! Hardened mode first: a token by PUT, shown at each read. Where the service does not know of that, or the PUT is
//! swallowed on the way, plain reads, unless `ALIBABA_CLOUD_IMDSV1_DISABLED` forbids them. A wrong guess heals: plain mode
//! is left again after a while, a token that is refused is fetched anew, and so is one where plain reads are refused.

use std::net::Ipv4Addr;
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::http;
use crate::config::settings::Endpoint;

/// The official SDKs' limit, for each exchange: the service is on the host below.
const LIMIT: Duration = Duration::from_secs(1);
/// The longest that the service grants, in seconds.
const TOKEN_TTL: u64 = 21_600;
/// A token that is about to end is not used.
const MARGIN: Duration = Duration::from_secs(60);
/// How long plain mode is believed to be all there is, after the service refused to give a token.
const PLAIN: Duration = Duration::from_secs(600);
/// The same, after it said nothing to the wish for one.
const SILENT: Duration = Duration::from_secs(60);
/// The part of the caller's time that such a wish may take where a read without one is the way out.
const SHARE: u32 = 4;
/// Gives a token, by PUT.
const TOKEN: &str = "/latest/api/token";
/// No item is longer.
const ITEM_BYTES: usize = 64 * 1024;

/// Why metadata told nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Nobody answers: this is no ECS, or its metadata is switched off.
    #[error("instance metadata at {place} does not answer: {why}")]
    Unreachable {
        /// Host and port.
        place: String,
        /// In words.
        why: String,
    },
    /// It answers, but not this.
    #[error("instance metadata at {place} answers {status} to `{path}`{hint}")]
    Refused {
        /// Host and port.
        place: String,
        /// HTTP status.
        status: u16,
        /// What was asked for.
        path: String,
        /// What that means, where it is known.
        hint: &'static str,
    },
    /// The answer is not what it should be.
    #[error("instance metadata at {place} gave no usable `{path}`: {why}")]
    Unusable {
        /// Host and port.
        place: String,
        /// What was asked for.
        path: String,
        /// In words.
        why: String,
    },
}

/// How it is asked now.
enum Mode {
    Unknown,
    Hardened { token: SecretString, until: Instant },
    Plain { until: Instant },
}

/// Why there is no token.
enum NoToken {
    /// The service gives none.
    Refused(StatusCode),
    /// The wish was swallowed: a read without one may pass all the same.
    Unheard(String),
    /// All else.
    Wrong(MetadataError),
}

/// The metadata of this instance.
pub struct Metadata {
    http: Client,
    base: String,
    place: String,
    /// Whether to read without a token where there is none.
    fall_back: bool,
    /// How long is waited for a token before that.
    share: Duration,
    mode: Mutex<Mode>,
}

/// The keys of a role, as they came.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct RoleKeys {
    pub code: Option<String>,
    pub access_key_id: Option<String>,
    pub access_key_secret: Option<SecretString>,
    pub security_token: Option<SecretString>,
    /// UTC, `2023-10-26T10:22:32Z`.
    pub expiration: Option<String>,
}

impl Metadata {
    /// Prepares; asks nothing yet. `within`: what a caller has for all that he asks for, so that a token that does not
    /// come leaves him time to read without one.
    ///
    /// # Errors
    /// In words: no HTTP client could be made.
    pub fn new(endpoint: &Endpoint, fall_back: bool, within: Duration) -> Result<Self, String> {
        Ok(Self {
            http: http::client(LIMIT, LIMIT)?,
            base: http::base(endpoint),
            place: http::authority(endpoint),
            fall_back,
            share: LIMIT.min(within) / SHARE,
            mode: Mutex::new(Mode::Unknown),
        })
    }

    /// Such as `cn-hangzhou`.
    ///
    /// # Errors
    /// As [`MetadataError`] has it; also for each of the following.
    pub async fn region(&self) -> Result<String, MetadataError> {
        self.item("region-id").await
    }

    /// `i-…`.
    ///
    /// # Errors
    /// See [`Self::region`].
    pub async fn instance(&self) -> Result<String, MetadataError> {
        self.item("instance-id").await
    }

    /// `vsw-…`, of the primary interface.
    ///
    /// # Errors
    /// See [`Self::region`].
    pub async fn vswitch(&self) -> Result<String, MetadataError> {
        self.item("vswitch-id").await
    }

    /// The primary private address.
    ///
    /// # Errors
    /// See [`Self::region`].
    pub async fn address(&self) -> Result<Ipv4Addr, MetadataError> {
        let text = self.item("private-ipv4").await?;
        text.parse().map_err(|_| self.unusable("private-ipv4", format!("{text:?} is no IPv4 address")))
    }

    /// The account that owns the instance: part of the names of resources in a RAM policy.
    ///
    /// # Errors
    /// See [`Self::region`].
    pub async fn account(&self) -> Result<String, MetadataError> {
        self.item("owner-account-id").await
    }

    /// The keys of `role`, or of the role that the instance has.
    pub(super) async fn role_keys(&self, role: Option<&str>) -> Result<RoleKeys, MetadataError> {
        const AT: &str = "ram/security-credentials/";
        let role = match role {
            Some(role) => role.to_owned(),
            None => self.item(AT).await?,
        };
        let path = format!("{AT}{role}");
        let text = self.read(&path).await?;
        // serde_json's own words would repeat what it met.
        let keys: RoleKeys = serde_json::from_slice(&text).map_err(|_| self.unusable(&path, "no JSON".to_owned()))?;
        match keys.code.as_deref() {
            Some(code) if !code.eq_ignore_ascii_case("success") => {
                Err(self.unusable(&path, "its code is not \"Success\"".to_owned()))
            }
            _ => Ok(keys),
        }
    }

    /// One line of text.
    async fn item(&self, path: &str) -> Result<String, MetadataError> {
        let bytes = self.read(path).await?;
        let text = std::str::from_utf8(&bytes).map_err(|_| self.unusable(path, "it is no text".to_owned()))?.trim();
        if text.is_empty() || text.len() > 256 || text.chars().any(|c| c.is_control() || c == '/' || c == ' ') {
            return Err(self.unusable(path, "it is not one word".to_owned()));
        }
        Ok(text.to_owned())
    }

    async fn read(&self, path: &str) -> Result<Zeroizing<Vec<u8>>, MetadataError> {
        let mut mode = self.mode.lock().await;
        let (mut renewed, mut hardened) = (false, false);
        loop {
            let token = self.token(&mut mode, hardened).await?;
            let mut request = self.http.get(format!("{}/latest/meta-data/{path}", self.base));
            if let Some(token) = &token {
                request = request.header("X-aliyun-ecs-metadata-token", sensitive(token.expose_secret()));
            }
            let response = request.send().await.map_err(|error| self.unreachable(&error))?;
            match response.status() {
                StatusCode::OK => {
                    let body = http::body(response, ITEM_BYTES).await;
                    return body.map_err(|why| self.unusable(path, why));
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if !renewed => {
                    *mode = Mode::Unknown;
                    (renewed, hardened) = (true, token.is_none());
                }
                status => return Err(self.refused(path, status)),
            }
        }
    }

    /// The token to show; `None`: plain mode. `hardened`: a plain read was just refused.
    async fn token(&self, mode: &mut Mode, hardened: bool) -> Result<Option<SecretString>, MetadataError> {
        let now = Instant::now();
        match mode {
            Mode::Hardened { token, until } if now < *until => return Ok(Some(token.clone())),
            Mode::Plain { until } if now < *until => return Ok(None),
            Mode::Unknown | Mode::Hardened { .. } | Mode::Plain { .. } => {}
        }
        let (patience, without) = match self.fall_back && !hardened {
            true => (self.share, Mode::Plain { until: now + SILENT }),
            false => (LIMIT, Mode::Unknown),
        };
        let is_plain = matches!(without, Mode::Plain { .. });
        // Before it is asked for: whoever waits for it may give up, and the next one must not wait for the same again.
        *mode = without;
        let late = |_| Err(NoToken::Unheard("a token is not given in time".to_owned()));
        match timeout(patience, self.ask_for_token()).await.unwrap_or_else(late) {
            Ok(token) => {
                *mode = Mode::Hardened { token: token.clone(), until: now + Duration::from_secs(TOKEN_TTL) - MARGIN };
                Ok(Some(token))
            }
            Err(NoToken::Refused(_)) if self.fall_back => {
                *mode = Mode::Plain { until: now + PLAIN };
                Ok(None)
            }
            Err(NoToken::Refused(status)) => Err(self.refused(TOKEN, status)),
            Err(NoToken::Unheard(why)) if is_plain => {
                tracing::info!(place = self.place, why, "instance metadata is read without a token for a while");
                Ok(None)
            }
            Err(NoToken::Unheard(why)) => Err(MetadataError::Unreachable { place: self.place.clone(), why }),
            Err(NoToken::Wrong(error)) => {
                *mode = Mode::Unknown;
                Err(error)
            }
        }
    }

    async fn ask_for_token(&self) -> Result<SecretString, NoToken> {
        let request = self.http.request(Method::PUT, format!("{}{TOKEN}", self.base));
        let request = request.header("X-aliyun-ecs-metadata-token-ttl-seconds", TOKEN_TTL.to_string());
        let response = request.send().await.map_err(|error| match error.is_connect() {
            // Nor would a read be.
            true => NoToken::Wrong(self.unreachable(&error)),
            false => NoToken::Unheard(http::words(&error)),
        })?;
        if response.status() != StatusCode::OK {
            return Err(NoToken::Refused(response.status()));
        }
        let unusable = |why| NoToken::Wrong(self.unusable(TOKEN, why));
        let body = http::body(response, ITEM_BYTES).await.map_err(unusable)?;
        let text = std::str::from_utf8(&body).map(str::trim).unwrap_or_default();
        if text.is_empty() || text.chars().any(|c| c.is_control()) {
            return Err(unusable("it is no token".to_owned()));
        }
        Ok(SecretString::from(text))
    }

    fn unreachable(&self, error: &reqwest::Error) -> MetadataError {
        MetadataError::Unreachable { place: self.place.clone(), why: http::words(error) }
    }

    fn refused(&self, path: &str, status: StatusCode) -> MetadataError {
        let hint = match status {
            StatusCode::NOT_FOUND if path.starts_with("ram/") => ": the instance has no RAM role (of that name)",
            StatusCode::FORBIDDEN => ": it wants the hardened mode, and no proxy on the way",
            _ => "",
        };
        MetadataError::Refused { place: self.place.clone(), status: status.as_u16(), path: path.to_owned(), hint }
    }

    fn unusable(&self, path: &str, why: String) -> MetadataError {
        MetadataError::Unusable { place: self.place.clone(), path: path.to_owned(), why }
    }
}

/// A header that no log shows.
pub(super) fn sensitive(text: &str) -> reqwest::header::HeaderValue {
    let value = reqwest::header::HeaderValue::from_str(text);
    // A text that is no header is not sent: the answer to that is clearer than a panic.
    let mut value = value.unwrap_or_else(|_| reqwest::header::HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests;
