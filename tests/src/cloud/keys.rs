//! Access keys and tokens: long-lived ones of the scenario, and those that a role hands out and that expire.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::{ApiError, Denied, refuse};
use super::ram::Policy;

/// Every secret and token that the double makes has this in it, so that a test can look for it everywhere.
pub const MARK: &str = "dummysecret";

/// An access key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Not shown anywhere.
    pub secret: String,
    /// `false`: disabled by its owner.
    #[serde(default = "yes")]
    pub active: bool,
    /// Whose it is, for the journal.
    pub user: String,
    /// A temporary key comes with a token.
    #[serde(default)]
    pub token: Option<Token>,
    /// What its user may do; without one it is the account's own, which may do everything.
    #[serde(default)]
    pub policy: Option<Policy>,
}

/// What a temporary key must be sent with.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Not shown anywhere.
    pub value: String,
    /// Seconds since 1970, UTC.
    pub expires: i64,
}

fn yes() -> bool {
    true
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("user", &self.user).field("active", &self.active).finish_non_exhaustive()
    }
}

impl Key {
    /// Judges the token that came with a request.
    ///
    /// # Errors
    /// It is missing, another one's, or expired.
    pub fn token(&self, sent: Option<&str>, now: i64) -> Result<(), ApiError> {
        match (&self.token, sent) {
            (None, None) => Ok(()),
            (Some(_), None) => Err(refuse(400, "MissingSecurityToken", "SecurityToken is mandatory for this action.")),
            (Some(token), Some(sent)) if token.value == sent && now < token.expires => Ok(()),
            (Some(token), Some(sent)) if token.value == sent => {
                Err(refuse(400, "InvalidSecurityToken.Expired", "Specified SecurityToken is expired."))
            }
            (_, Some(_)) => {
                let words = "Specified SecurityToken does not match the access key.";
                Err(refuse(400, "InvalidSecurityToken.MismatchWithAccessKey", words))
            }
        }
    }

    /// The one who holds it.
    pub fn caller(&self, key_id: &str) -> Caller {
        Caller { key_id: key_id.to_owned(), user: self.user.clone(), policy: self.policy.clone() }
    }
}

/// Somebody whose signature was right.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Of the key.
    pub key_id: String,
    /// Its user.
    pub user: String,
    /// What the user may do.
    pub policy: Option<Policy>,
}

impl Caller {
    /// # Errors
    /// A policy does not allow the action with one of the resources.
    pub fn may(&self, action: &str, resources: &[String]) -> Result<(), ApiError> {
        let Some(policy) = &self.policy else { return Ok(()) };
        let Some(denied) = resources.iter().find(|resource| !policy.allows(action, resource)) else { return Ok(()) };
        let words = format!(
            "User not authorized to operate on the specified resource, or this API doesn't support RAM: {action} on \
             {denied}"
        );
        let detail = Denied { action: action.to_owned(), resource: denied.clone(), principal: self.user.clone() };
        Err(ApiError { denied: Some(Box::new(detail)), ..refuse(403, "Forbidden.RAM", words) })
    }
}

/// A RAM role of instances: whoever may ask their metadata service gets a key of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// As the metadata service lists it.
    pub name: String,
    /// Of a key that is handed out, in seconds.
    #[serde(default = "six_hours")]
    pub lifetime: i64,
    /// What its keys may do; without one: everything.
    #[serde(default)]
    pub policy: Option<Policy>,
}

/// As the sample of the documentation.
fn six_hours() -> i64 {
    6 * 3600
}

/// All keys that anybody may come with.
#[derive(Debug, Default)]
pub struct Keys {
    known: BTreeMap<String, Key>,
    /// The key that a role hands out at present.
    current: Option<String>,
    issued: u32,
}

impl Keys {
    /// Those of a scenario.
    pub fn new(known: BTreeMap<String, Key>) -> Self {
        Self { known, ..Self::default() }
    }

    /// The key of an id; `None`: nobody has it.
    pub fn find(&self, id: &str) -> Option<&Key> {
        self.known.get(id)
    }

    /// The key that a role hands out: the same as before until half of its life is over.
    pub fn of_role(&mut self, role: &Role, now: i64) -> (String, Key, Token) {
        let fresh = |key: &Key| key.token.clone().filter(|token| (token.expires - now) * 2 > role.lifetime);
        let current = self.current.as_ref().and_then(|id| Some((id.clone(), self.known.get(id)?.clone())));
        if let Some((id, key)) = current
            && let Some(token) = fresh(&key)
        {
            return (id, key, token);
        }
        self.issued += 1;
        let (id, number) = (format!("STS.double{:04}", self.issued), self.issued);
        let token = Token { value: format!("CAIS-{MARK}-token-{number:04}+/=="), expires: now + role.lifetime };
        let key = Key {
            secret: format!("{MARK}-of-role-{number:04}"),
            active: true,
            user: role.name.clone(),
            token: Some(token.clone()),
            policy: role.policy.clone(),
        };
        self.known.insert(id.clone(), key.clone());
        self.current = Some(id.clone());
        (id, key, token)
    }

    /// Every token is over at once.
    pub fn expire_tokens(&mut self, now: i64) {
        self.known
            .values_mut()
            .filter_map(|key| key.token.as_mut())
            .for_each(|token| token.expires = token.expires.min(now));
    }

    /// Every secret and token there is, for whoever looks whether one got out.
    pub fn secrets(&self) -> Vec<String> {
        let tokens = self.known.values().filter_map(|key| key.token.as_ref()).map(|token| token.value.clone());
        self.known.values().map(|key| key.secret.clone()).chain(tokens).collect()
    }
}
