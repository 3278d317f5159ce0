//! The command line: one file per command.
//!
//! Exit status, after `sysexits.h`: 0 well; 3 an import lost something; 64 wrong arguments; 69 something that is needed is not there; 70 our own
//! mistake; 73 a file cannot be made; 75 another daemon runs; 77 not permitted; 78 wrong configuration.

mod check;
mod detach;
mod failover;
mod follow;
mod havip;
mod hold;
mod import;
mod pause;
mod reinit;
mod run;
mod status;
mod switchover;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::keepalived::{Kind, Verdict, host};
use crate::config::{self, Configuration, Settings};

/// An import wrote a configuration, and not all of the old one is in it.
pub const LOST: u8 = 3;
/// Wrong arguments.
pub const USAGE: u8 = 64;
/// Something that is needed is not there.
pub const UNAVAILABLE: u8 = 69;
/// Our own mistake.
pub const SOFTWARE: u8 = 70;
/// This process may not.
pub const NOT_PERMITTED: u8 = 77;
/// Wrong configuration.
pub const CONFIG: u8 = 78;

/// Two-node high availability for PostgreSQL behind one virtual address.
#[derive(Debug, Parser)]
#[command(
    name = "harbor-ha",
    version,
    after_help = "Exit status: 0 well, 3 an import lost something, 64 wrong arguments, 69 something needed is not there, 70 our own mistake, \
                  73 a file cannot be made, 75 another daemon runs, 77 not permitted, 78 wrong configuration."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground.
    Run(WithConfig),
    /// Look at the configuration and at this host; change nothing.
    Check(check::Arguments),
    /// Make our configuration from keepalived's, and say what becomes of each line.
    Import(import::Arguments),
    /// Show what the running daemon sees and does.
    Status(status::Arguments),
    /// Hand the service to the other node and stay as its standby.
    Switchover(WithConfig),
    /// Take over on this standby, whatever the peer does: acknowledged writes may be lost.
    Failover(failover::Arguments),
    /// No automatic action on this node until `resume`.
    Pause(WithConfig),
    /// Act by itself again.
    Resume(WithConfig),
    /// Ask the peer to wait while this daemon is restarted or upgraded, so that it does not take over.
    Hold(WithConfig),
    /// The HaVip at Alibaba Cloud: show it, verify it, set it up.
    Havip(havip::Arguments),
    /// Make this standby anew by a base backup from the primary.
    Reinit(reinit::Arguments),
    /// Remove the program and its maps from the kernel; the daemon must not run.
    Detach(WithConfig),
}

/// The configuration file.
#[derive(Debug, clap::Args)]
pub struct WithConfig {
    /// Configuration file; packaging/harbor-ha.toml explains every key. `run` and `check` take a keepalived.conf too.
    #[arg(long, default_value = "/etc/harbor-ha/harbor-ha.toml")]
    pub config: PathBuf,
}

impl WithConfig {
    /// Reads it, or says everything that is wrong with it.
    fn load(&self) -> Result<Settings, ExitCode> {
        config::load(&self.config).map_err(refused)
    }

    /// Reads it, of whatever form, keepalived's too, and then with what became of its lines.
    fn any(&self) -> Result<(Configuration, Vec<Verdict>), ExitCode> {
        let text = || host::read(&self.config).unwrap_or_default();
        let read = match host::is_keepalived(&self.config, text) {
            true => host::load(&self.config),
            false => config::read(&self.config).map(|found| (found, Vec::new())),
        };
        read.map_err(refused)
    }
}

fn refused(problems: config::Problems) -> ExitCode {
    eprintln!("{problems}");
    ExitCode::from(if problems.are_denials() { NOT_PERMITTED } else { CONFIG })
}

/// What a keepalived.conf that runs as it is loses, and where it is understood in another way.
fn losses(verdicts: &[Verdict]) -> impl Iterator<Item = &Verdict> {
    verdicts.iter().filter(|it| it.keyword != "}" && (it.kind == Kind::NotSupported || it.trap))
}

/// Runs the command of the process's arguments.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            let _closed = error.print();
            return ExitCode::from(code);
        }
    };
    let result = match &arguments.command {
        Command::Run(with) => run::run(with),
        Command::Check(arguments) => check::run(arguments),
        Command::Import(arguments) => import::run(arguments),
        Command::Status(arguments) => status::run(arguments),
        Command::Switchover(with) => switchover::run(with),
        Command::Failover(arguments) => failover::run(arguments),
        Command::Pause(with) => pause::run(with, true),
        Command::Resume(with) => pause::run(with, false),
        Command::Hold(with) => hold::run(with),
        Command::Havip(arguments) => havip::run(arguments),
        Command::Reinit(arguments) => reinit::run(arguments),
        Command::Detach(with) => detach::run(with),
    };
    result.unwrap_or_else(|code| code)
}

/// A small runtime for a command that asks something.
fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a thread and an epoll descriptor").block_on(future)
}
