//! The witness in an etcd (3.4 or later): the records are keys, replaced by one transaction.
//!
//! Each grant has a lease of its own, and the transaction binds the solo key to it; the lease before, with no key
//! left, runs out by itself. A lease that is kept alive instead would be one request less, but its answer does not
//! say whether the key is still ours. etcd counts in whole seconds, forgets late and never early (a new leader starts
//! every lease anew), and has a lower limit of its own (about 2 s by default): so the TTL is what it answers.

mod messages;

use std::time::Duration;

use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, ClientTlsConfig};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::rules::{Change, Records};
use super::{Fault, Grant, Keys, Swap, WitnessError, monotonic};
use crate::config::settings::{Endpoint, Login};
use messages::*;

const TXN: &str = "/etcdserverpb.KV/Txn";
const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";

/// A channel to one member, logged in.
pub(super) struct Connection {
    grpc: Grpc<Channel>,
    token: Option<MetadataValue<Ascii>>,
}

impl Connection {
    pub(super) async fn open(endpoint: &Endpoint, login: Option<&Login>) -> Result<Self, Fault> {
        let scheme = if endpoint.tls { "https" } else { "http" };
        let broken = |error: &dyn std::error::Error| Fault::Broken(causes(error));
        let mut channel = Channel::from_shared(format!("{scheme}://{endpoint}")).map_err(|error| broken(&error))?;
        if endpoint.tls {
            let tls = ClientTlsConfig::new().with_native_roots();
            channel = channel.tls_config(tls).map_err(|error| broken(&error))?;
        }
        let channel = channel.connect().await.map_err(|error| broken(&error))?;
        let mut connection = Self { grpc: Grpc::new(channel), token: None };
        if let Some(Login { user, password }) = login {
            let request = AuthenticateRequest { name: user.clone(), password: password.reveal().clone() };
            let AuthenticateResponse { token } = connection.call(AUTHENTICATE, request).await?;
            let token = token.try_into().map_err(|_| Fault::Broken("its token is no header".into()))?;
            connection.token = Some(token);
        }
        Ok(connection)
    }

    pub(super) async fn read(&mut self, keys: &Keys) -> Result<Records, Fault> {
        let request = TxnRequest { success: ranges(keys), ..TxnRequest::default() };
        let answer = self.call(TXN, request).await?;
        found(keys, answer)
    }

    pub(super) async fn swap(
        &mut self,
        keys: &Keys,
        before: &Records,
        change: Change,
        ttl: Duration,
    ) -> Result<Swap, Fault> {
        // Before the lease is asked for: the server counts from when it grants that, not from the transaction.
        let asked = monotonic();
        let lease = if change.renews { self.lease(ttl).await? } else { LeaseGrantResponse::default() };
        let (before, after) = (before.texts(), change.after.texts());
        let mut request = TxnRequest { failure: ranges(keys), ..TxnRequest::default() };
        for (n, key) in keys.0.iter().map(|key| key.as_bytes().to_vec()).enumerate() {
            let (target, to) = match &before[n] {
                None => (VERSION, Target::Version(0)),
                Some(text) => (VALUE, Target::Value(text.as_bytes().to_vec())),
            };
            request.compare.push(Compare { result: EQUAL, target, key: key.clone(), to: Some(to) });
            let renewed = n == 0 && change.renews;
            // What stays is not written again: that would take a lease from the solo key.
            if before[n] == after[n] && !renewed {
                continue;
            }
            let op = match &after[n] {
                None => Op::Delete(DeleteRangeRequest { key }),
                Some(text) => {
                    let lease = if renewed { lease.id } else { 0 };
                    Op::Put(PutRequest { key, value: text.as_bytes().to_vec(), lease })
                }
            };
            request.success.push(RequestOp { op: Some(op) });
        }
        let answer: TxnResponse = self.call(TXN, request).await?;
        if answer.succeeded {
            let ttl = Duration::from_secs(lease.ttl.unsigned_abs());
            return Ok(Swap::Done(Grant { asked, ttl }));
        }
        found(keys, answer).map(Swap::Differ)
    }

    async fn lease(&mut self, ttl: Duration) -> Result<LeaseGrantResponse, Fault> {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let request = LeaseGrantRequest { ttl: i64::try_from(seconds).unwrap_or(i64::MAX) };
        let lease: LeaseGrantResponse = self.call(LEASE_GRANT, request).await?;
        if lease.id == 0 || lease.ttl <= 0 {
            return Err(Fault::Broken("it granted no lease".into()));
        }
        Ok(lease)
    }

    async fn call<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A, Fault>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.grpc.ready().await.map_err(|error| Fault::Broken(causes(&error)))?;
        let mut request = tonic::Request::new(request);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        let codec = ProstCodec::<Q, A>::default();
        let answer = self.grpc.unary(request, PathAndQuery::from_static(path), codec).await;
        answer.map(tonic::Response::into_inner).map_err(|status| fault(&status))
    }
}

fn ranges(keys: &Keys) -> Vec<RequestOp> {
    let range = |key: &String| Op::Range(RangeRequest { key: key.as_bytes().to_vec() });
    keys.0.iter().map(|key| RequestOp { op: Some(range(key)) }).collect()
}

/// The records in the answer to [`ranges`].
fn found(keys: &Keys, answer: TxnResponse) -> Result<Records, Fault> {
    let mut ranges = answer.responses.into_iter().map(|response| response.range.unwrap_or_default());
    let mut texts = [const { None }; 3];
    for (key, text) in keys.0.iter().zip(&mut texts) {
        let Some(range) = ranges.next() else { return Err(Fault::Broken("half an answer".into())) };
        let Some(found) = range.kvs.into_iter().next() else { continue };
        if found.key != key.as_bytes() {
            return Err(Fault::Broken(format!("it answered for another key than `{key}`")));
        }
        let value = String::from_utf8(found.value).map_err(|error| {
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            Fault::Final(WitnessError::Foreign { key: key.clone(), text })
        })?;
        *text = Some(value);
    }
    keys.records(texts)
}

/// What etcd says of accounts has several codes, and some of them mean other things too.
fn fault(status: &Status) -> Fault {
    let text = status.message();
    let of_accounts = text.contains("auth") || text.contains("user name is empty");
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => Fault::Denied(text.to_owned()),
        Code::InvalidArgument | Code::FailedPrecondition if of_accounts => Fault::Denied(text.to_owned()),
        code => Fault::Broken(format!("{code:?}: {}", causes(status))),
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
