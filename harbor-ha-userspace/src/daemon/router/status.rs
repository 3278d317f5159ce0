//! The answer of the status socket, one JSON object.

use serde::Serialize;
use serde_json::Value;

use super::engine::Engine;
use crate::net::clock;
use crate::observe::status::{RejectCount, rejects};
use crate::vrrp::snapshot::Snapshot;

/// What does not change while it runs.
#[derive(Clone, Debug, Serialize)]
pub(super) struct About {
    /// Tells this answer from that of a pair.
    pub form: &'static str,
    /// Name of the router.
    pub instance: String,
    /// Version of the daemon.
    pub version: &'static str,
    /// How the engine is scheduled.
    pub realtime: String,
    /// Whether memory is locked.
    pub memory: String,
}

#[derive(Debug, Serialize)]
struct Status<'a> {
    #[serde(flatten)]
    about: &'a About,
    /// `CLOCK_MONOTONIC` of this answer; every other `*_ns` is to be compared with it.
    now_ns: u64,
    #[serde(flatten)]
    router: Snapshot,
    /// By instance, in the order of `instances`.
    addresses: Vec<Addresses>,
    interfaces: Vec<Interface<'a>>,
}

#[derive(Debug, Serialize)]
struct Addresses {
    instance: String,
    /// On their interfaces.
    up: bool,
}

#[derive(Debug, Serialize)]
struct Interface<'a> {
    name: &'a str,
    /// Adverts of router ids that nobody here has.
    strangers: u64,
    rejects: Vec<RejectCount>,
}

/// How the engine is.
pub(super) fn status(engine: &Engine) -> Value {
    let addresses = engine.speakers.iter().zip(&engine.up);
    let status = Status {
        about: &engine.about,
        now_ns: clock::now().0,
        router: engine.router.snapshot(),
        addresses: addresses.map(|(speaker, up)| Addresses { instance: speaker.name.clone(), up: up.is_up }).collect(),
        interfaces: engine
            .places
            .iter()
            .map(|place| Interface { name: &place.name, strangers: place.strangers, rejects: rejects(place.rejects) })
            .collect(),
    };
    serde_json::to_value(&status).unwrap_or_else(|error| serde_json::json!({"error": error.to_string()}))
}
