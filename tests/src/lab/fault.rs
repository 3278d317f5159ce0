//! What breaks, and the healing. Each fault returns the instant just before the call that injects it.

use std::fmt;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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
    /// What the node sends to the other is lost, what it hears from it is not; the client sees both.
    Asymmetric,
    /// Power loss of the other node: of the standby, when the node is the primary.
    Standby,
    /// SIGKILL of the witness.
    WitnessDown,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Node,
        Self::Daemon,
        Self::Hang,
        Self::Postgres,
        Self::PostgresHang,
        Self::Link,
        Self::Partition,
        Self::Graceful,
        Self::Asymmetric,
        Self::Standby,
        Self::WitnessDown,
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
            Self::Asymmetric => "asymmetric",
            Self::Standby => "standby",
            Self::WitnessDown => "witness-down",
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
            Self::Asymmetric => "what it sends to the other node is lost",
            Self::Standby => "power loss of the other node",
            Self::WitnessDown => "witness killed",
        }
    }

    /// Whether the other node shall take over when this hits the primary.
    pub const fn moves_the_service(self) -> bool {
        !matches!(self, Self::Standby | Self::WitnessDown)
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
            Fault::Node => self.power_loss(side),
            Fault::Standby => self.power_loss(side.other()),
            Fault::Daemon => daemon(Signal::SIGKILL),
            Fault::Hang => daemon(Signal::SIGSTOP),
            Fault::Graceful => daemon(Signal::SIGTERM),
            Fault::Postgres => postmaster(Signal::SIGKILL),
            Fault::PostgresHang => postmaster(Signal::SIGSTOP),
            Fault::Link => link::set_port(self.state(), side, false),
            Fault::Partition => link::set_partition(self.state(), true),
            Fault::Asymmetric => link::set_oneway(self.state(), side, true),
            Fault::WitnessDown => self.kill_witness(),
        }
    }

    fn power_loss(&self, side: Side) -> Result<u64> {
        let node = self.node(side);
        let inode = netns::inode(&node.netns())?;
        let at = link::set_port(self.state(), side, false)?;
        netns::kill_all(inode);
        node.forget()?;
        Ok(at)
    }

    /// Undoes one fault, and leaves others in force.
    ///
    /// # Errors
    /// It cannot be undone.
    pub fn undo(&self, fault: Fault, side: Side) -> Result<()> {
        match fault {
            Fault::Node => self.power_on(side),
            Fault::Standby => self.power_on(side.other()),
            Fault::Daemon | Fault::Graceful => self.restart(side),
            Fault::Hang => {
                self.node(side).daemons().into_iter().for_each(resume);
                Ok(())
            }
            // The daemon starts a dead server, or has long made a standby of it.
            Fault::Postgres => Ok(()),
            Fault::PostgresHang => {
                // A daemon may be stopped beside it.
                let daemons = self.node(side).daemons();
                let living = netns::processes(netns::inode(&self.node(side).netns())?);
                living.into_iter().filter(|pid| !daemons.contains(pid)).for_each(resume);
                Ok(())
            }
            Fault::Link => link::set_port(self.state(), side, true).map(drop),
            Fault::Partition => link::set_partition(self.state(), false).map(drop),
            Fault::Asymmetric => link::set_oneway(self.state(), side, false).map(drop),
            Fault::WitnessDown => self.start_witness(),
        }
    }

    fn power_on(&self, side: Side) -> Result<()> {
        link::set_port(self.state(), side, true)?;
        self.restart(side)
    }

    /// What a service manager starts.
    fn restart(&self, side: Side) -> Result<()> {
        let node = self.node(side);
        match self.state().options.daemon {
            true => node.start_daemon(),
            false if node.postgres().postmaster().is_err() => node.postgres().start(),
            false => Ok(()),
        }
    }

    /// Undoes whatever is in force: looks at the lab, not at what was injected.
    ///
    /// # Errors
    /// Something cannot be undone.
    pub fn heal(&self) -> Result<()> {
        link::set_partition(self.state(), false)?;
        self.start_witness()?;
        for side in Side::BOTH {
            link::set_oneway(self.state(), side, false)?;
            link::set_port(self.state(), side, true)?;
            netns::processes(netns::inode(&self.node(side).netns())?).into_iter().for_each(resume);
            self.restart(side)?;
        }
        Ok(())
    }
}

/// Harmless to one that runs.
fn resume(pid: Pid) {
    let _ = kill(pid, Signal::SIGCONT);
}
