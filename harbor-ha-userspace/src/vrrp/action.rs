//! What goes out of the router: effects as plain data, in the order in which they must begin.

use harbor_ha_ebpf::units::{Nanos, Priority};

use super::State;
use super::rules::{GroupId, InstanceId};

/// One effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send one advert to each peer, or to the group.
    Advert {
        /// Whose.
        instance: InstanceId,
        /// With this priority.
        priority: Priority,
    },
    /// Put the addresses up, excluded ones too.
    AddAddresses(InstanceId),
    /// Take them off.
    RemoveAddresses(InstanceId),
    /// Send gratuitous ARPs.
    Announce {
        /// Whose.
        instance: InstanceId,
        /// So many for each address.
        count: u32,
    },
    /// Tell scripts, pipe and mail.
    Notify(Event),
    /// The state changed: log it.
    Report(Report),
    /// Something is not as it should be: log it.
    Warn {
        /// Where.
        instance: InstanceId,
        /// What, in a sentence.
        what: String,
    },
}

/// Something that the operator may want to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Of what.
    pub subject: Subject,
    /// What.
    pub what: What,
    /// The priority now; of a group, that of its strongest member.
    pub priority: Priority,
}

/// An instance or a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// An instance.
    Instance(InstanceId),
    /// A group.
    Group(GroupId),
}

/// What an [`Event`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It is master.
    Master,
    /// It is backup.
    Backup,
    /// It cannot be either.
    Fault,
    /// It ended.
    Stop,
    /// A master heard a weaker advert: whoever sent it may have moved the address by an API (keepalived PR 957).
    LowerPriority,
    /// Its priority changed.
    Priority {
        /// It is master.
        master: bool,
    },
}

/// A change of state, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whose.
    pub instance: InstanceId,
    /// State before.
    pub from: State,
    /// State after.
    pub to: State,
    /// Why, in a sentence.
    pub why: String,
}

/// Collects what one input causes.
#[derive(Debug, Default)]
pub struct Actions {
    list: Vec<Action>,
    wake_at: Option<Nanos>,
}

impl Actions {
    pub(super) fn push(&mut self, action: Action) {
        self.list.push(action);
    }

    pub(super) const fn set_wake(&mut self, at: Option<Nanos>) {
        self.wake_at = at;
    }

    /// The effects.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Action> {
        self.list.drain(..)
    }

    /// When the router wants to be called with [`super::Input::Wake`]; may be early, which is harmless.
    pub const fn wake_at(&self) -> Option<Nanos> {
        self.wake_at
    }
}
