//! What breaks, and the healing. Each fault returns the instant just before the call that injects it.

use std::fmt;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};

use super::{Lab, Side, clock, link, netns};

/// A fault, as `cargo xtask lab fault NAME` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// Power loss: the cable first, then every process, then what a kernel forgets.
    Node,
    /// SIGKILL of the daemon.
    Daemon,
    /// SIGSTOP of the daemon.
    Hang,
    /// SIGKILL of the postmaster.
    Postgres,
    /// SIGSTOP of the postmaster.
    PostgresHang,
    /// The cable of the node.
    Link,
    /// The nodes lose each other, the client sees both.
    Partition,
    /// SIGTERM to the daemon.
    Graceful,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Node,
        Self::Daemon,
        Self::Hang,
        Self::Postgres,
        Self::PostgresHang,
        Self::Link,
        Self::Partition,
        Self::Graceful,
    ];

    /// As on the command line and in the JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Daemon => "daemon",
            Self::Hang => "hang",
            Self::Postgres => "postgres",
            Self::PostgresHang => "postgres-hang",
            Self::Link => "link",
            Self::Partition => "partition",
            Self::Graceful => "graceful",
        }
    }

    /// What happens, for a person.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Node => "power loss",
            Self::Daemon => "daemon killed",
            Self::Hang => "daemon stopped (SIGSTOP)",
            Self::Postgres => "postmaster killed",
            Self::PostgresHang => "postmaster stopped (SIGSTOP)",
            Self::Link => "cable pulled",
            Self::Partition => "nodes parted, client sees both",
            Self::Graceful => "daemon told to stop (SIGTERM)",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Lab {
    /// Breaks something on a node; CLOCK_MONOTONIC nanoseconds of the instant before.
    ///
    /// # Errors
    /// There is nothing of the kind to break.
    pub fn inject(&self, fault: Fault, side: Side) -> Result<u64> {
        let node = self.node(side);
        let daemon = |signal| {
            let daemons = node.daemons();
            let pid = *daemons.first().with_context(|| format!("no daemon runs on {side}"))?;
            let at = clock::now_ns();
            kill(pid, signal)?;
            Ok(at)
        };
        let postmaster = |signal| {
            let pid = node.postgres().postmaster()?;
            let at = clock::now_ns();
            kill(pid, signal)?;
            Ok(at)
        };
        match fault {
            Fault::Node => {
                let inode = netns::inode(&node.netns())?;
                let at = link::set_port(self.state(), side, false)?;
                netns::kill_all(inode);
                node.forget()?;
                Ok(at)
            }
            Fault::Daemon => daemon(Signal::SIGKILL),
            Fault::Hang => daemon(Signal::SIGSTOP),
            Fault::Graceful => daemon(Signal::SIGTERM),
            Fault::Postgres => postmaster(Signal::SIGKILL),
            Fault::PostgresHang => postmaster(Signal::SIGSTOP),
            Fault::Link => link::set_port(self.state(), side, false),
            Fault::Partition => link::set_partition(self.state(), true),
        }
    }

    /// Undoes whatever is in force: looks at the lab, not at what was injected.
    ///
    /// # Errors
    /// Something cannot be undone.
    pub fn heal(&self) -> Result<()> {
        link::set_partition(self.state(), false)?;
        for side in Side::BOTH {
            let node = self.node(side);
            link::set_port(self.state(), side, true)?;
            for pid in netns::processes(netns::inode(&node.netns())?) {
                // Harmless to one that runs.
                let _ = kill(pid, Signal::SIGCONT);
            }
            match self.state().options.daemon {
                true => node.start_daemon()?,
                false if node.postgres().postmaster().is_err() => node.postgres().start()?,
                false => {}
            }
        }
        Ok(())
    }
}
