//! The witness in an etcd (3.4 or later): the records are keys, replaced by one transaction.
//!
//! Each grant has a lease of its own, and the transaction binds the solo key to it; the lease before, with no key
//! left, runs out by itself. A lease that is kept alive instead would be one request less, but its answer does not
//! say whether the key is still ours. etcd counts in whole seconds, forgets late and never early (a new leader starts
//! every lease anew), and has a lower limit of its own (about 2 s by default): so the TTL is what it answers.

use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, Error, PutOptions, TlsOptions, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use tonic::Code;

use super::rules::{Change, Records};
use super::{Fault, Grant, Keys, Swap, WitnessError};
use crate::clock;
use crate::config::settings::{Endpoint, Login};

/// A client of one member, logged in.
pub(super) struct Connection(Client);

impl Connection {
    pub(super) async fn open(endpoint: &Endpoint, login: Option<&Login>) -> Result<Self, Fault> {
        let scheme = if endpoint.tls { "https" } else { "http" };
        let mut options = ConnectOptions::new();
        if endpoint.tls {
            options = options.with_tls(TlsOptions::new().with_native_roots());
        }
        if let Some(Login { user, password }) = login {
            options = options.with_user(user, password.reveal());
        }
        // Of one member, not of all: the client would choose among them, and a silent one would use up the time.
        Client::connect([format!("{scheme}://{endpoint}")], Some(options)).await.map(Self).map_err(fault)
    }

    pub(super) async fn read(&mut self, keys: &Keys) -> Result<Records, Fault> {
        let answer = self.0.txn(Txn::new().and_then(gets(keys))).await.map_err(fault)?;
        found(keys, &answer)
    }

    pub(super) async fn swap(
        &mut self,
        keys: &Keys,
        before: &Records,
        change: Change,
        ttl: Duration,
    ) -> Result<Swap, Fault> {
        // Before the lease is asked for: the server counts from when it grants that, not from the transaction.
        let asked = clock::now();
        let (lease, ttl) = if change.renews { self.lease(ttl).await? } else { (0, Duration::ZERO) };
        let (before, after) = (before.texts(), change.after.texts());
        let (mut compares, mut changes) = (Vec::new(), Vec::new());
        for (n, key) in keys.0.iter().map(String::as_str).enumerate() {
            compares.push(match &before[n] {
                // A key that does not exist.
                None => Compare::version(key, CompareOp::Equal, 0),
                Some(text) => Compare::value(key, CompareOp::Equal, text.as_str()),
            });
            let renewed = n == 0 && change.renews;
            // What stays is not written again: that would take a lease from the solo key.
            if before[n] == after[n] && !renewed {
                continue;
            }
            changes.push(match &after[n] {
                None => TxnOp::delete(key, None),
                Some(text) => {
                    let bound = renewed.then(|| PutOptions::new().with_lease(lease));
                    TxnOp::put(key, text.as_str(), bound)
                }
            });
        }
        let replace = Txn::new().when(compares).and_then(changes).or_else(gets(keys));
        let answer = self.0.txn(replace).await.map_err(fault)?;
        if answer.succeeded() {
            return Ok(Swap::Done(Grant { asked, ttl }));
        }
        found(keys, &answer).map(Swap::Differ)
    }

    /// A new lease, and how long it lasts as the server chose it.
    async fn lease(&mut self, ttl: Duration) -> Result<(i64, Duration), Fault> {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let lease = self.0.lease_grant(i64::try_from(seconds).unwrap_or(i64::MAX), None).await.map_err(fault)?;
        match u64::try_from(lease.ttl()) {
            Ok(seconds @ 1..) if lease.id() != 0 => Ok((lease.id(), Duration::from_secs(seconds))),
            _ => Err(Fault::Broken("it granted no lease".into())),
        }
    }
}

fn gets(keys: &Keys) -> Vec<TxnOp> {
    keys.0.iter().map(|key| TxnOp::get(key.as_str(), None)).collect()
}

/// The records in the answer to [`gets`].
fn found(keys: &Keys, answer: &TxnResponse) -> Result<Records, Fault> {
    let mut answers = answer.op_responses().into_iter();
    let mut texts = [const { None }; 3];
    for (key, text) in keys.0.iter().zip(&mut texts) {
        let Some(TxnOpResponse::Get(mut range)) = answers.next() else {
            return Err(Fault::Broken("half an answer".into()));
        };
        let Some(found) = range.take_kvs().into_iter().next() else { continue };
        let (name, value) = found.into_key_value();
        if name != key.as_bytes() {
            return Err(Fault::Broken(format!("it answered for another key than `{key}`")));
        }
        let value = String::from_utf8(value).map_err(|error| {
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            Fault::Final(WitnessError::Foreign { key: key.clone(), text })
        })?;
        *text = Some(value);
    }
    keys.records(texts)
}

/// What etcd says of accounts has several codes, and some of them mean other things too.
fn fault(error: Error) -> Fault {
    let status = match error {
        Error::GRpcStatus(status) => status,
        Error::TransportError(error) => return Fault::Broken(causes(&error)),
        other => return Fault::Broken(other.to_string()),
    };
    let text = status.message();
    let of_accounts = text.contains("auth") || text.contains("user name is empty");
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => Fault::Denied(text.to_owned()),
        Code::InvalidArgument | Code::FailedPrecondition if of_accounts => Fault::Denied(text.to_owned()),
        code => Fault::Broken(format!("{code:?}: {}", causes(&status))),
    }
}

/// An error with its causes: tonic's own words are "transport error".
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
