//! The second listener, for tests: look at the cloud, break it, settle it.
//!
//! | request | what |
//! | --- | --- |
//! | `GET /_double/state` | HaVips, EIPs, instances, announcements, quirks, faults |
//! | `GET /_double/journal` | who called what |
//! | `POST /_double/faults` | adds one [`Fault`] |
//! | `DELETE /_double/faults` | takes all faults and quirks back |
//! | `POST /_double/quirks` | `stuck`, `havip_stuck`, `ignore_announcements`, `shown`: those that are given |
//! | `POST /_double/settle` | ends every transition now |
//! | `POST /_double/transition` | `{"ms": 200}`, or `null`: until it is settled |
//! | `POST /_double/expire-tokens` | every STS token is over |
//! | `POST /_double/members` | `{"id": …, "members": […]}`: who is bound to a HaVip |
//! | `POST /_double/delete` | `{"id": …}`: a HaVip, with all that is bound to it |
//! | `POST /_double/instance` | `{"id": …}` and what changes: `"status"`, `"address"`, `"local_disks"` |
//! | `POST /_double/announce` | `{"address": …, "mac": …}`, as if it had been on the wire |
//! | `POST /_double/policy` | `{"role": POLICY}`: what new keys of the role may do |

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::fault::Fault;
use super::ram::Policy;
use super::server::{Parts, Shared, date};
use super::verify::Received;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Quirks {
    stuck: Option<BTreeSet<String>>,
    havip_stuck: Option<BTreeSet<String>>,
    ignore_announcements: Option<u32>,
    shown: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Transition {
    ms: Option<u64>,
}

#[derive(Deserialize)]
struct Change {
    id: String,
    status: Option<String>,
    address: Option<Ipv4Addr>,
    local_disks: Option<u64>,
}

#[derive(Deserialize)]
struct Members {
    id: String,
    members: Vec<String>,
}

#[derive(Deserialize)]
struct Gone {
    id: String,
}

#[derive(Deserialize)]
struct Announce {
    address: Ipv4Addr,
    mac: String,
}

#[derive(Deserialize)]
struct Allow {
    role: Option<Policy>,
}

/// Answers a test: HTTP status and body.
pub fn answer(shared: &Shared, request: &Received) -> (u16, Value) {
    let parts = &mut *shared.parts();
    parts.world.settle(shared.now());
    match order(parts, request, shared.now()) {
        Ok(Some(body)) => (200, body),
        Ok(None) => (404, json!({ "error": format!("no {} of `{}`", request.method, request.path) })),
        Err(error) => (400, json!({ "error": error })),
    }
}

fn order(parts: &mut Parts, request: &Received, now: Duration) -> Result<Option<Value>, String> {
    let done = Ok(Some(json!({})));
    let what = request.path.strip_prefix("/_double/").unwrap_or_default();
    match (request.method.as_str(), what) {
        ("GET", "state") => return Ok(Some(state(parts))),
        ("GET", "journal") => return Ok(Some(json!(parts.journal.all()))),
        ("POST", "faults") => parts.faults.add(body::<Fault>(request)?),
        ("DELETE", "faults") => {
            parts.faults.clear();
            parts.world.quirks = super::world::Quirks::default();
        }
        ("POST", "quirks") => {
            let (given, quirks) = (body::<Quirks>(request)?, &mut parts.world.quirks);
            given.stuck.into_iter().for_each(|it| quirks.stuck = it);
            given.havip_stuck.into_iter().for_each(|it| quirks.havip_stuck = it);
            given.ignore_announcements.into_iter().for_each(|it| quirks.ignore_announcements = it);
            given.shown.into_iter().for_each(|it| quirks.shown = it);
        }
        ("POST", "settle") => parts.world.settle_all(),
        ("POST", "transition") => parts.world.transition = body::<Transition>(request)?.ms.map(Duration::from_millis),
        ("POST", "expire-tokens") => parts.world.keys.expire_tokens(date()),
        ("POST", "instance") => {
            let wanted = body::<Change>(request)?;
            let found = parts.world.instances.get_mut(&wanted.id).ok_or_else(|| format!("no `{}`", wanted.id))?;
            if let Some(status) = wanted.status {
                (found.status, found.change) = (status, None);
            }
            found.address = wanted.address.unwrap_or(found.address);
            found.local_disks = wanted.local_disks.unwrap_or(found.local_disks);
        }
        ("POST", "members") => {
            let wanted = body::<Members>(request)?;
            let found = parts.world.havips.get_mut(&wanted.id).ok_or_else(|| format!("no `{}`", wanted.id))?;
            found.members = wanted.members;
        }
        ("POST", "delete") => {
            let Gone { id } = body(request)?;
            parts.world.havips.remove(&id).ok_or_else(|| format!("no `{id}`"))?;
            let bound = parts.world.eips.values_mut().filter(|eip| eip.bound.as_ref() == Some(&id));
            bound.for_each(|eip| eip.bound = None);
        }
        ("POST", "announce") => {
            let said = body::<Announce>(request)?;
            let mac = super::garp::mac(&said.mac).ok_or_else(|| format!("`{}` is no MAC address", said.mac))?;
            parts.world.hear(now, said.address, mac);
        }
        ("POST", "policy") => {
            let allowed = body::<Allow>(request)?.role;
            let role = parts.world.role.as_mut().ok_or("there is no role")?;
            role.policy = allowed;
            // Keys that are out have the old one.
            parts.world.keys.expire_tokens(date());
        }
        _ => return Ok(None),
    }
    done
}

fn body<T: DeserializeOwned>(request: &Received) -> Result<T, String> {
    serde_json::from_slice(&request.body).map_err(|error| error.to_string())
}

fn state(parts: &Parts) -> Value {
    let world = &parts.world;
    let with_status = |value: Value, status: &str| {
        let mut value = value;
        value["status"] = json!(status);
        value
    };
    let havips: BTreeMap<_, _> =
        world.havips.iter().map(|(id, it)| (id, with_status(json!(it), it.status()))).collect();
    let eips: BTreeMap<_, _> = world.eips.iter().map(|(id, it)| (id, with_status(json!(it), it.status()))).collect();
    json!({
        "region": world.region, "account": world.account, "havips": havips, "eips": eips,
        "instances": world.instances, "quirks": world.quirks, "announcements": world.announcements,
        "faults": parts.faults.all(),
    })
}
