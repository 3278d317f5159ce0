//! One host: its clock, its kernel, its daemon, its PostgreSQL, its disk, and until when which of them fails.

use std::collections::VecDeque;

use harbor_ha::core::{Actions, Core, Input, PulseState, Terms};
use harbor_ha_ebpf::decide::gate::Gate;
use harbor_ha_ebpf::units::Nanos;

use super::clock::Clock;
use super::kernel::Kernel;
use super::postgres::Server;

/// The daemon while it runs.
pub struct Daemon {
    pub core: Core,
    pub out: Actions,
    pub said: PulseState,
    /// Ends of what was done on the spot; read before all else.
    pub done: VecDeque<Input>,
    pub verdicts: VecDeque<Input>,
    pub inbox: VecDeque<Input>,
    /// The core's own sign of life.
    pub sign: Nanos,
}

/// Instants until which something is broken; true time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Broken {
    pub power: u64,
    pub daemon: u64,
    pub stopped: u64,
    pub core: u64,
    pub pulses: u64,
    pub frozen: u64,
    pub link: u64,
    pub disk: u64,
    pub actions: u64,
    pub stream: u64,
    pub witness: u64,
    pub witness_slow: u64,
    pub paused: u64,
    /// The check of weight 0 fails.
    pub check: u64,
    /// The check that lowers the priority fails.
    pub weight: u64,
    /// The network towards the peer.
    pub cut: u64,
    pub loss: (u64, u64),
    pub delay: (u64, u64),
    pub twice: (u64, u64),
}

/// A host.
pub struct Node {
    pub power: bool,
    /// The carrier, as the daemon was last told.
    pub link: bool,
    pub clock: Clock,
    pub kernel: Kernel,
    pub daemon: Option<Daemon>,
    pub server: Server,
    pub terms: Terms,
    pub paused: bool,
    pub sequence: u64,
    /// The addresses are on the interface.
    pub vip: bool,
    /// Grows at each boot, and at each start of the daemon: ends of actions of an earlier one are nobody's.
    pub boot: u32,
    pub run: u32,
    pub broken: Broken,
    /// When the next turn of the daemon's loop is scheduled.
    pub turn_at: u64,
    /// When the kernel's timer is looked at next.
    pub timer_at: u64,
    /// The gate, as last seen.
    pub gate: Gate,
}

impl Node {
    /// A host that has never booted.
    pub fn new(clock: Clock, server: Server) -> Self {
        Self {
            power: true,
            link: true,
            clock,
            kernel: Kernel::default(),
            daemon: None,
            server,
            terms: Terms::default(),
            paused: false,
            sequence: 1,
            vip: false,
            boot: 0,
            run: 0,
            broken: Broken::default(),
            turn_at: u64::MAX,
            timer_at: u64::MAX,
            gate: Gate::NotServing,
        }
    }

    pub const fn is_frozen(&self, now: u64) -> bool {
        now < self.broken.frozen
    }

    /// Packets come and go.
    pub const fn hears(&self, now: u64) -> bool {
        self.power && now >= self.broken.link
    }
}
