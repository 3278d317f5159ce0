//! The running router: plain VRRP, as many instances as there are.
//!
//! ```text
//!   sockets (112) ─► ┌────────────────────────────┐ ─► adverts, gratuitous ARP
//!   watchers ─facts─►│ engine: vrrp::Router       │ ─► notifier: scripts, FIFO, mail
//!   clients ──asks──►│ a thread, SCHED_FIFO       │ ─► desk ─► clerk (task): addresses, by netlink
//!                    └────────────────────────────┘ ◄── done, or gone ──┘
//! ```
//!
//! With `[cloud]` the engine also tells `daemon::cloud` whether the instance that has the HaVip's address serves, and
//! announces again when that has not followed.
//!
//! The engine waits for nobody: what may take its time is a task of its own, and comes back as a message.

mod build;
mod desk;
mod engine;
mod record;
mod run;
mod status;
#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use harbor_ha_ebpf::units::Nanos;
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::oneshot;

pub use build::rules;
pub use run::run;

use crate::observe::router::Status;
use crate::vrrp::{InstanceId, TrackValue, TrackerId};

/// What the engine is told.
enum Message {
    /// A fact.
    Tracked(TrackerId, TrackValue),
    /// What was wanted of addresses is done.
    Addresses {
        instance: InstanceId,
        /// Of the wish.
        serial: u64,
    },
    /// Somebody took addresses away.
    Gone(InstanceId),
    /// Addresses of an instance that is not master, which others put there; none any more when empty.
    NotOurs(InstanceId, Vec<String>),
    /// The HaVip did not follow: announce its instance again.
    Unfollowed,
    /// How is it?
    Status(oneshot::Sender<Status>),
    /// End.
    Stop,
}

/// Tells the engine; a message wakes it. There is no limit: facts and wishes come a few a second, and are taken before
/// anything else is done.
#[derive(Clone)]
struct Teller {
    messages: mpsc::Sender<Message>,
    bell: Arc<Bell>,
}

impl Teller {
    fn tell(&self, message: Message) {
        // An engine that ended needs to hear nothing.
        if self.messages.send(message).is_ok() {
            self.bell.ring();
        }
    }
}

/// Wakes the engine, and shows that it turns.
#[derive(Debug)]
struct Bell {
    event: EventFd,
    turned_ns: AtomicU64,
}

impl Bell {
    fn new(now: Nanos) -> nix::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Self { event, turned_ns: AtomicU64::new(now.0) })
    }

    fn ring(&self) {
        // Full means that it rings already.
        let _rings = self.event.write(1);
    }

    /// The engine turns.
    fn answer(&self, now: Nanos) {
        let _silent = self.event.read();
        self.turned_ns.store(now.0, Ordering::Relaxed);
    }

    fn turned(&self) -> Nanos {
        Nanos(self.turned_ns.load(Ordering::Relaxed))
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
