//! `cargo xtask`: set-up, the lab, the main job and the tests, from one command line.
//!
//! Must stay able to build and to run `setup` on a machine without an eBPF toolchain, so it depends on
//! nothing that builds the eBPF object or wants `protoc`: the lab is a program of its own (`harbor-ha-lab`), which the verbs
//! build after the set-up and then become.

mod cargo;
mod lint;
mod setup;
mod test;
mod tidy;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "harbor-ha: set-up, lab, main job and tests")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what building and testing need; the other verbs call it, it is quick when all is there.
    Setup,
    /// Hosts made of network namespaces: `lab up|status|exec HOST -- CMD|fault NAME|heal|down`.
    #[command(disable_help_flag = true)]
    Lab {
        /// Handed to `harbor-ha-lab`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Break the primary of a lab, show the takeover; with `--config FILE`: run the daemon on this host.
    #[command(disable_help_flag = true)]
    Run {
        /// Handed to `harbor-ha-lab run`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Random faults together on a lab while clients write, judged from outside: `--rounds N --seed S`.
    #[command(disable_help_flag = true)]
    Chaos {
        /// Handed to `harbor-ha-lab chaos`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// A death at each single step of takeover and rejoin: `--only NAME --kind daemon|postgres|node`.
    #[command(disable_help_flag = true)]
    Points {
        /// Handed to `harbor-ha-lab points`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// No fault, but a busy machine: who takes over does so by mistake: `--minutes M [--realtime off]`.
    #[command(disable_help_flag = true)]
    Calm {
        /// Handed to `harbor-ha-lab calm`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Plain VRRP, measured: `load` (many instances beside keepalived), `torture` (scripts that misbehave).
    #[command(disable_help_flag = true)]
    Vrrp {
        /// Handed to `harbor-ha-lab vrrp`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Random schedules of faults on virtual time: `sim [--seeds N] [--from S] [--replay SEED] [--mutants]`.
    #[command(disable_help_flag = true)]
    Sim {
        /// Handed to `harbor-ha-sim`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run the tests: all that this machine allows, or one suite.
    Test {
        /// The suite; without it: all of them.
        #[arg(value_enum)]
        suite: Option<test::Suite>,
    },
    /// Explore every state of the lease protocol within bounds: `model --bounds small|full`.
    #[command(disable_help_flag = true)]
    Model {
        /// Handed to `harbor-ha-model`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Formatter, clippy and rustdoc; part of `test pure`.
    Lint,
    /// Sizes of files and direction between rooms; part of `test pure`.
    Tidy,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Setup => setup::verb(),
        Verb::Lab { arguments } => cargo::become_lab(None, &arguments),
        Verb::Run { arguments } => cargo::become_lab(Some("run"), &arguments),
        Verb::Chaos { arguments } => cargo::become_lab(Some("chaos"), &arguments),
        Verb::Points { arguments } => cargo::become_lab(Some("points"), &arguments),
        Verb::Calm { arguments } => cargo::become_lab(Some("calm"), &arguments),
        Verb::Vrrp { arguments } => cargo::become_lab(Some("vrrp"), &arguments),
        Verb::Sim { arguments } => cargo::become_sim(&arguments),
        Verb::Test { suite } => test::verb(suite),
        Verb::Model { arguments } => cargo::become_model(&arguments),
        Verb::Lint => setup::ensure().and_then(|ready| lint::verb(&ready)).map(|()| ExitCode::SUCCESS),
        Verb::Tidy => tidy::verb().map(|()| ExitCode::SUCCESS),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
