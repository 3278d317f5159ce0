//! The witness: a third party that says which of two nodes may serve when they cannot hear each other.
//!
//! It keeps three records per cluster, named after the prefix, the cluster id and the VRID:
//!
//! ```text
//! solo      who serves alone, with its term; forgotten after a TTL unless renewed
//! revoked   in this term the standby's right to promote is revoked, and by whom
//! highest   the highest term that was ever granted, and to whom
//! ```
//!
//! What may be written over what is decided in [`rules`], once for all kinds; [`etcd`] and [`redis`] do no more
//! than replace the three records at once if they are still what the rules were told. So a grant is atomic, and
//! both kinds answer alike. They are not worth the same: see [`redis`] for what a Redis can forget.
//!
//! Driven by the daemon, one request at a time. The room promises that each call ends within the configured
//! timeout, and that a grant carries an instant from before the request, so that the holder stops before the
//! witness forgets it. How long to serve on a grant, and what to do without one, is the core's to decide.

pub mod etcd;
pub mod redis;
pub mod rules;

use std::net::Ipv4Addr;
use std::time::Duration;

use harbor_ha_ebpf::units::Nanos;
use tokio::time::{Instant, timeout};

use crate::config::settings::{self, Endpoint, WitnessKind};

use rules::{Change, Request};
pub use rules::{Holder, Records, Refusal};

/// The solo key is ours for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// An instant before the request left (`CLOCK_MONOTONIC`): the witness counts from a later one.
    pub asked: Nanos,
    /// How long the witness remembers; at least what was asked for.
    pub ttl: Duration,
}

/// Why there is no grant, or no change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WitnessError {
    /// It said no. Asking again helps only after something changed.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// No usable answer within the timeout. Whether the request was carried out is not known; it may be repeated.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// It knows us not, or not well enough: the configuration is to be repaired.
    #[error("access denied: {0}")]
    Denied(String),
    /// A record that harbor-ha did not write: the prefix is used by somebody else.
    #[error("`{key}` holds {text:?}, which harbor-ha did not write; remove it, or use another witness.prefix")]
    Foreign {
        /// Its name at the witness.
        key: String,
        /// Its value.
        text: String,
    },
}

/// Who asks, and for which cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Of the pulses.
    pub cluster_id: u64,
    /// Of the adverts.
    pub vrid: u8,
    /// This node's own address.
    pub node: Ipv4Addr,
}

/// One witness, over a connection that is kept open and made anew when it breaks.
pub struct Witness {
    kind: WitnessKind,
    endpoints: Vec<Endpoint>,
    /// Which of them is asked first.
    at: usize,
    login: Option<settings::Login>,
    keys: Keys,
    node: Ipv4Addr,
    ttl: Duration,
    timeout: Duration,
    kept: Option<Connection>,
    /// As last seen. Never the reason of a refusal: the witness is read before.
    seen: Records,
}

/// What stopped an exchange.
enum Fault {
    /// Another connection may do better.
    Broken(String),
    /// A new connection, which logs in again, may do better; if it does not, nothing will.
    Denied(String),
    /// The answer.
    Final(WitnessError),
}

/// What came of an attempt to replace the records.
enum Swap {
    /// They are replaced. The grant is one only where the change renews.
    Done(Grant),
    /// They are other than expected, namely these.
    Differ(Records),
}

enum Connection {
    Etcd(Box<etcd::Connection>),
    Redis(redis::Connection),
}

impl Witness {
    /// Prepares; connects at the first call.
    pub fn new(settings: &settings::Witness, who: Identity) -> Self {
        Self {
            kind: settings.kind,
            endpoints: settings.endpoints.clone(),
            at: 0,
            login: settings.login.clone(),
            keys: Keys::new(settings.kind, &settings.prefix, who),
            node: who.node,
            ttl: settings.ttl,
            timeout: settings.timeout,
            kept: None,
            seen: Records::default(),
        }
    }

    /// Asks for the solo key, for `term`: as the successor of the primary of term `follows`, or, with 0, as a primary
    /// that serves already. May be repeated, also after [`WitnessError::Unreachable`].
    ///
    /// # Errors
    /// The other node holds the key, the term is not new enough, or the right to succeed `follows` is revoked; or
    /// there is no answer.
    pub async fn acquire(&mut self, term: u64, follows: u64) -> Result<Grant, WitnessError> {
        self.call(Request::Acquire { term, follows }).await
    }

    /// Asks for more time on a key that is still held by this node for `term`.
    ///
    /// # Errors
    /// [`Refusal::Lost`] when it is not; or there is no answer.
    pub async fn renew(&mut self, term: u64) -> Result<Grant, WitnessError> {
        self.call(Request::Renew { term }).await
    }

    /// Gives the solo key back, if this node still holds it for `term`.
    ///
    /// # Errors
    /// [`Refusal::Lost`] when it does not; or there is no answer.
    pub async fn release(&mut self, term: u64) -> Result<(), WitnessError> {
        self.call(Request::Release { term }).await.map(drop)
    }

    /// Revokes the standby's right to succeed this node's `term`; once this has come back, it will be refused.
    ///
    /// # Errors
    /// The other node was granted a later term, or serves; or there is no answer.
    pub async fn revoke(&mut self, term: u64) -> Result<(), WitnessError> {
        self.call(Request::Revoke { term }).await.map(drop)
    }

    /// Gives the standby its right back, by the primary of `term`.
    ///
    /// # Errors
    /// The other node was granted a later term, or serves; or there is no answer.
    pub async fn restore(&mut self, term: u64) -> Result<(), WitnessError> {
        self.call(Request::Restore { term }).await.map(drop)
    }

    /// The records as they are, for `status` and for a node that does not know the highest term.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn look(&mut self) -> Result<Records, WitnessError> {
        self.call(Request::Look).await?;
        Ok(self.seen)
    }

    /// Every endpoint once, each with its share of the time that is left: one that hangs must not use it up.
    async fn call(&mut self, request: Request) -> Result<Grant, WitnessError> {
        let deadline = Instant::now() + self.timeout;
        let mut told = Vec::new();
        for left in (1..=self.endpoints.len()).rev() {
            let share = deadline.saturating_duration_since(Instant::now()) / left as u32;
            let why = match timeout(share, self.ask(request)).await {
                Ok(Ok(grant)) => return Ok(grant),
                Ok(Err(Fault::Final(error))) => return Err(error),
                Ok(Err(Fault::Denied(why))) => return Err(WitnessError::Denied(why)),
                Ok(Err(Fault::Broken(why))) => why,
                Err(_) => format!("silent for {} ms", share.as_millis()),
            };
            told.push(format!("{}: {why}", self.endpoints[self.at]));
            self.at = (self.at + 1) % self.endpoints.len();
        }
        Err(WitnessError::Unreachable(told.join("; ")))
    }

    /// On the kept connection; if that fails, on a new one. It is put back only after an answer, so a call that is
    /// given up half-way leaves none behind on which a late answer could be read as that of another request.
    async fn ask(&mut self, request: Request) -> Result<Grant, Fault> {
        if let Some(mut kept) = self.kept.take() {
            match self.exchange(&mut kept, request).await {
                Err(Fault::Broken(_) | Fault::Denied(_)) => {}
                answer => {
                    self.kept = Some(kept);
                    return answer;
                }
            }
        }
        let (endpoint, login) = (&self.endpoints[self.at], self.login.as_ref());
        let mut fresh = match self.kind {
            WitnessKind::Etcd => Connection::Etcd(Box::new(etcd::Connection::open(endpoint, login).await?)),
            WitnessKind::Redis => Connection::Redis(redis::Connection::open(endpoint, login).await?),
        };
        let answer = self.exchange(&mut fresh, request).await;
        if !matches!(answer, Err(Fault::Broken(_) | Fault::Denied(_))) {
            self.kept = Some(fresh);
        }
        answer
    }

    /// Judges by what was seen last and replaces it if it is still so; if not, judges again. Each further round means
    /// that somebody else got something written, so two nodes cannot keep each other from an end.
    async fn exchange(&mut self, on: &mut Connection, request: Request) -> Result<Grant, Fault> {
        let mut read = false;
        loop {
            let change = match request.judge(&self.seen, self.node) {
                Ok(change) => change,
                Err(refusal) if read => return Err(Fault::Final(refusal.into())),
                Err(_) => {
                    self.seen = on.read(&self.keys).await?;
                    read = true;
                    continue;
                }
            };
            match on.swap(&self.keys, &self.seen, change, self.ttl).await? {
                Swap::Done(grant) => {
                    self.seen = change.after;
                    return Ok(grant);
                }
                Swap::Differ(found) => self.seen = found,
            }
            read = true;
        }
    }
}

impl Connection {
    async fn read(&mut self, keys: &Keys) -> Result<Records, Fault> {
        match self {
            Self::Etcd(etcd) => etcd.read(keys).await,
            Self::Redis(redis) => redis.read(keys).await,
        }
    }

    async fn swap(&mut self, keys: &Keys, before: &Records, change: Change, ttl: Duration) -> Result<Swap, Fault> {
        match self {
            Self::Etcd(etcd) => etcd.swap(keys, before, change, ttl).await,
            Self::Redis(redis) => redis.swap(keys, before, change, ttl).await,
        }
    }
}

/// The names of the three records, in the order of [`Records::texts`].
struct Keys([String; 3]);

impl Keys {
    fn new(kind: WitnessKind, prefix: &str, who: Identity) -> Self {
        let Identity { cluster_id, vrid, .. } = who;
        Self(["solo", "revoked", "highest"].map(|record| match kind {
            WitnessKind::Etcd => format!("/{prefix}/{cluster_id}/{vrid}/{record}"),
            // Braces: a Redis Cluster keeps what they hold in one place, and a script needs its keys in one.
            WitnessKind::Redis => format!("{{{prefix}:{cluster_id}:{vrid}}}:{record}"),
        }))
    }

    /// Values as they came, in the order of the keys.
    fn records(&self, texts: [Option<String>; 3]) -> Result<Records, Fault> {
        let mut holders = [None; 3];
        for ((key, text), holder) in self.0.iter().zip(texts).zip(&mut holders) {
            let Some(text) = text else { continue };
            *holder = Holder::parse(&text);
            if holder.is_none() {
                return Err(Fault::Final(WitnessError::Foreign { key: key.clone(), text }));
            }
        }
        let [solo, revoked, highest] = holders;
        Ok(Records { solo, revoked, highest })
    }
}
