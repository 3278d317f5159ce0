//! What the model remembers: two nodes, the packets between them, a witness.
//!
//! Times are relative and in ticks, so that the space is finite: an *age* counts up to a limit beyond which it makes no
//! difference, a *rest* counts down to [`OVER`].

/// A rest that is used up.
pub const OVER: i8 = -1;
/// A rest without end.
pub const FOREVER: i8 = i8::MAX;
/// Packets that the network holds at once, per direction.
pub const SLOTS_MAX: usize = 2;

/// The pair, its network and its witness, at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Node 0 takes even terms, node 1 odd ones.
    pub nodes: [Node; 2],
    /// What is on the way *to* each node.
    pub links: [Link; 2],
    /// The third party.
    pub witness: Witness,
    /// What may still go wrong.
    pub budget: Budget,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// Maps and programs; lost with power, and when they are unloaded.
    pub kernel: Kernel,
    /// The daemon.
    pub user: User,
    /// Survives everything.
    pub disk: Disk,
    /// Its request to the witness.
    pub ask: Ask,
    /// A release of the key that the witness has not executed yet.
    pub release: Release,
}

/// The pinned maps: `order`, `lease`, `own` and the detector's record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// Running at all.
    pub up: bool,
    /// `order.serving_term`.
    pub serving: u8,
    /// `order.echo`.
    pub echo: bool,
    /// `order.solo`, and why.
    pub solo: Solo,
    /// `order.solo_until`, a rest.
    pub solo_until: i8,
    /// `lease.leased_until`, a rest.
    pub leased: i8,
    /// `lease.promise_until`, a rest.
    pub promise: i8,
    /// `lease.highest_term`.
    pub highest: u8,
    /// `lease.echo_stamp`, as the age of that stamp.
    pub echo_stamp: Option<u8>,
    /// The peer's last word.
    pub heard: Said,
    /// `own`: what reflections say.
    pub own: Said,
    /// A packet between the two halves of the echo.
    pub halfway: Option<Halfway>,
}

/// A packet that the XDP program has in its hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Halfway {
    /// Age of its stamp.
    pub stamp: u8,
    /// The permission as the mutant with the wrong order of steps saw it.
    pub permitted: bool,
}

/// Why a node serves without the other's echoes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Solo {
    /// It does not.
    No,
    /// It took over.
    TookOver,
    /// The peer waived its right.
    Waived,
}

/// What a packet says of its sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Said {
    /// Of a primary: its own; else the highest known.
    pub term: u8,
    /// It serves.
    pub primary: bool,
    /// By the receiver's echoes alone.
    pub leased: bool,
    /// It has stopped serving.
    pub resign: bool,
    /// The term in which it will not take over; 0: none.
    pub waived: u8,
}

/// The daemon.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User {
    /// Running, and not hung.
    pub up: bool,
    /// Of a takeover.
    pub phase: Phase,
    /// It gave up its service and says so.
    pub resigned: bool,
    /// The term whose waiver is on its way to the disk; 0: none.
    pub storing: u8,
    /// Of the mutants: it says already what is not true yet.
    pub early: bool,
    /// Of the same-term return of a waived right: the primary was heard without `LEASED`.
    pub returning: bool,
    /// The later term that the witness said it had granted; 0: none that matters.
    pub outrun: u8,
}

/// How far a takeover is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// There is none.
    Idle,
    /// The echo is off, the promise is not read.
    Withdrawn,
    /// The promise was read: a rest.
    Waiting(i8),
    /// Of a mutant: the resignation was seen before the echo was off.
    ToldToSucceed,
    /// The term is on disk, PostgreSQL is promoted, the gate is not ordered open.
    Promoted(Solo),
}

/// What is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Disk {
    /// The term in which this node is, or was, a primary.
    pub mine: u8,
    /// The highest that it knew of when it last wrote.
    pub seen: u8,
    /// The term in which it will not take over.
    pub waived: u8,
    /// PostgreSQL is not in recovery.
    pub primary: bool,
}

/// A request for the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// None under way.
    No,
    /// On its way to the witness.
    Sent {
        /// Since it was sent.
        age: u8,
        /// In which the sender serves, or would.
        term: u8,
    },
    /// Granted, the answer is on its way.
    Granted {
        /// Since it was sent.
        age: u8,
        /// As sent.
        term: u8,
    },
    /// Refused, as a later term was granted; the answer is on its way.
    Outrun {
        /// Since it was sent.
        age: u8,
        /// The later one.
        term: u8,
    },
}

/// A release on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Release {
    /// None.
    No,
    /// Of the last grant.
    Last,
    /// Of one before the last.
    Older,
}

/// Packets to one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// Place of the newest stamp heard among the stamps under way.
    pub heard: u8,
    /// Any of them may arrive at any time, any number of times, or never.
    pub slots: [Option<Packet>; SLOTS_MAX],
}

/// A pulse or a reflection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    /// Its place among the stamps under way.
    pub order: u8,
    /// Age of its stamp.
    pub stamp: u8,
    /// Age of the receiver's stamp that it echoes.
    pub echo: Option<u8>,
    /// Of its sender.
    pub said: Said,
}

/// The third party's record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Witness {
    /// Whose the key is.
    pub holder: Option<u8>,
    /// Rest of its life.
    pub ttl: i8,
    /// Highest term granted.
    pub highest: u8,
}

/// What may still happen. Each is used up; what is not limited here may happen at any time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Daemons that crash or hang.
    pub crashes: u8,
    /// Hosts that lose power, or their maps.
    pub losses: u8,
    /// Primaries that resign.
    pub resigns: u8,
    /// Standbys that waive.
    pub waivers: u8,
    /// Questions for the witness's key.
    pub asks: u8,
    /// `failover --force`.
    pub forces: u8,
    /// It was used: two gates are the operator's.
    pub forced: bool,
}

impl Node {
    /// The highest term that this node knows of.
    pub fn known(&self) -> u8 {
        self.disk.mine.max(self.disk.seen).max(self.kernel.highest)
    }

    /// It gave up its right to succeed the primary of the newest term that it knows.
    pub fn has_waived(&self) -> bool {
        self.disk.waived >= self.known()
    }

    /// It is a standby that may succeed a primary of the term that it follows, by what that one said.
    pub fn has_right(&self) -> bool {
        let heard = &self.kernel.heard;
        let followed = heard.primary && heard.leased && heard.term >= self.known();
        followed && !self.disk.primary && self.disk.waived < heard.term
    }
}

impl Link {
    /// Nothing was ever sent.
    pub const fn new() -> Self {
        Self { heard: 0, slots: [None; SLOTS_MAX] }
    }

    /// A packet leaves; it takes the place of another, or is lost.
    pub fn send(&mut self, slot: Option<u8>, stamp: u8, echo: Option<u8>, said: Said) {
        if let Some(slot) = slot {
            self.slots[slot as usize] = Some(Packet { order: u8::MAX, stamp, echo, said });
            self.settle();
        }
    }

    /// The receiver forgot what it heard: everything is news.
    pub fn forget(&mut self) {
        for packet in self.slots.iter_mut().flatten() {
            packet.order += 1;
        }
        self.heard = 0;
        self.settle();
    }

    /// Renumbers the stamps: only their order matters.
    pub fn settle(&mut self) {
        let mut places = [self.heard; SLOTS_MAX + 1];
        for (place, packet) in places.iter_mut().zip(self.slots.iter().flatten()) {
            *place = packet.order;
        }
        places.sort_unstable();
        let rank = |order: u8| {
            let mut rank = 0;
            for pair in places.windows(2) {
                rank += u8::from(pair[0] != pair[1] && pair[1] <= order);
            }
            rank
        };
        let heard = rank(self.heard);
        for packet in self.slots.iter_mut().flatten() {
            packet.order = rank(packet.order);
        }
        self.heard = heard;
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::new()
    }
}
