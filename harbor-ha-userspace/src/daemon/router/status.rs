//! The answer of the status socket and of the page.

use super::engine::Engine;
use crate::clock;
use crate::observe::router::{Addresses, Interface, Status};
use crate::observe::status::rejects;

/// How the engine is.
pub(super) fn status(engine: &Engine) -> Status {
    let addresses = engine.speakers.iter().zip(engine.up.iter().zip(&engine.not_ours));
    let interface = |place: &super::engine::Place| Interface {
        name: place.name.clone(),
        strangers: place.strangers,
        rejects: rejects(place.rejects),
        garp_sent: place.garp.sent(),
    };
    Status {
        about: engine.about.clone(),
        now_ns: clock::now().0,
        unix_ns: clock::wall_ns(),
        router: engine.router.snapshot(),
        addresses: addresses
            .map(|(speaker, (up, not_ours))| Addresses {
                instance: speaker.name.clone(),
                up: up.is_up,
                not_ours: not_ours.clone(),
            })
            .collect(),
        interfaces: engine.places.iter().map(interface).collect(),
        outside: (engine.others.counts)(),
        cloud: engine.followed.as_ref().map(|followed| followed.beside.view()),
    }
}
