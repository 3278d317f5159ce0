//! The witness in a Redis (6 or later): the records are strings, replaced by one script.
//!
//! **A Redis can forget, and then two nodes may serve.** A witness is only as good as its memory:
//! - without persistence a restart forgets all three records; with `appendonly yes` and the usual
//!   `appendfsync everysec` a crash forgets the last second. `appendfsync always` forgets nothing;
//! - replication is asynchronous: a failover by Sentinel or in a cluster forgets what the replica had not got yet;
//! - eviction (`maxmemory-policy` other than `noeviction`) and `FLUSHALL` forget whatever they like;
//! - a TTL is counted on the wall clock: a step forwards ends it early.
//!
//! What bounds the damage: terms are also on the nodes' own disks, synchronous replication acknowledges nothing that
//! the other node lacks, and a key that is lost is not renewed but noticed ([`super::Refusal::Lost`]) at the next
//! renewal. The Redis of a Harbor is a better witness than none; an etcd of three members is a better one than that.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisConnectionInfo, RedisError,
    Script,
};

use super::rules::{Change, Records};
use super::{Fault, Grant, Keys, Swap};
use crate::clock;
use crate::config::settings::{Endpoint, Login};

/// KEYS: the records. ARGV: what each is expected to be, what each shall be ("" is "not there", "=" is "as it is"),
/// and the TTL of the first in milliseconds. Answers with nothing when done, else with the records as they are.
const SWAP: &str = r"
for i = 1, 3 do
  if (redis.call('GET', KEYS[i]) or '') ~= ARGV[i] then
    return redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
  end
end
for i = 1, 3 do
  local new = ARGV[i + 3]
  if new == '' then
    redis.call('DEL', KEYS[i])
  elseif new ~= '=' and i == 1 then
    redis.call('SET', KEYS[i], new, 'PX', ARGV[7])
  elseif new ~= '=' then
    redis.call('SET', KEYS[i], new)
  end
end
return false
";

/// A connection to the server, logged in.
pub(super) struct Connection {
    redis: MultiplexedConnection,
    swap: Script,
}

impl Connection {
    pub(super) async fn open(endpoint: &Endpoint, login: Option<&Login>) -> Result<Self, Fault> {
        let Endpoint { tls, host, port } = endpoint.clone();
        let address = match tls {
            false => ConnectionAddr::Tcp(host, port),
            true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        };
        let mut account = RedisConnectionInfo::default();
        if let Some(Login { user, password }) = login {
            // Without a user it is `AUTH password`, which servers with `requirepass` alone know.
            if !user.is_empty() {
                account = account.set_username(user);
            }
            account = account.set_password(password.reveal());
        }
        let info = address.into_connection_info().map_err(fault)?.set_redis_settings(account);
        // The caller has a deadline for all of it.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let client = Client::open(info).map_err(fault)?;
        let redis = client.get_multiplexed_async_connection_with_config(&config).await.map_err(fault)?;
        Ok(Self { redis, swap: Script::new(SWAP) })
    }

    pub(super) async fn read(&mut self, keys: &Keys) -> Result<Records, Fault> {
        let texts = redis::cmd("MGET").arg(&keys.0).query_async(&mut self.redis).await.map_err(fault)?;
        keys.records(texts)
    }

    pub(super) async fn swap(
        &mut self,
        keys: &Keys,
        before: &Records,
        change: Change,
        ttl: Duration,
    ) -> Result<Swap, Fault> {
        let (before, after) = (before.texts(), change.after.texts());
        let mut call = self.swap.prepare_invoke();
        for key in &keys.0 {
            call.key(key);
        }
        for text in &before {
            call.arg(text.as_deref().unwrap_or_default());
        }
        for n in 0..3 {
            // What stays is not written again: that would end the solo key's TTL.
            let stays = before[n] == after[n] && !(n == 0 && change.renews);
            call.arg(if stays { "=" } else { after[n].as_deref().unwrap_or_default() });
        }
        let ttl = Duration::from_millis(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        call.arg(ttl.as_millis().to_string());
        let asked = clock::now();
        let found: Option<[Option<String>; 3]> = call.invoke_async(&mut self.redis).await.map_err(fault)?;
        match found {
            None => Ok(Swap::Done(Grant { asked, ttl })),
            Some(texts) => keys.records(texts).map(Swap::Differ),
        }
    }
}

fn fault(error: RedisError) -> Fault {
    let code = matches!(error.code(), Some("NOAUTH" | "NOPERM" | "WRONGPASS"));
    if code || error.kind() == ErrorKind::AuthenticationFailed {
        return Fault::Denied(error.to_string());
    }
    // What a command of more than ten words is told before NOAUTH is thought of.
    if error.detail().is_some_and(|detail| detail.contains("unauthenticated")) {
        return Fault::Denied("it wants a password, and none is configured".into());
    }
    Fault::Broken(error.to_string())
}
