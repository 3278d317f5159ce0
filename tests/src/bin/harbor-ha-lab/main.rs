//! `harbor-ha-lab`: what `cargo xtask lab`, `run`, `chaos`, `points`, `calm` and `vrrp` become after the set-up and the build.

mod calm;
mod chaos;
mod drill;
mod points;
mod vrrp;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use harbor_ha_tests::chaos::client;
use harbor_ha_tests::lab::fault::Fault;
use harbor_ha_tests::lab::observer;
use harbor_ha_tests::lab::state::State;
use harbor_ha_tests::lab::witness::Witness;
use harbor_ha_tests::lab::{Isolated, Lab, Options, Profile, Side, host, residue, teardown};

#[derive(Parser)]
#[command(
    name = "cargo xtask lab",
    bin_name = "cargo xtask lab",
    about = "Two nodes, a client and a switch made of network namespaces"
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build a lab and leave it up.
    Up {
        #[command(flatten)]
        lab: LabArguments,
        /// Network and PostgreSQL only.
        #[arg(long)]
        no_daemon: bool,
    },
    /// What runs in a lab, and who serves.
    Status(Which),
    /// Run a command on a host: `exec a -- ip address`.
    Exec {
        #[command(flatten)]
        which: Which,
        /// `a`, `b`, `c`, `sw`, `w` of a witness, or `cloud`.
        host: String,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Break something.
    Fault {
        #[command(flatten)]
        which: Which,
        /// What.
        #[arg(value_enum)]
        name: Fault,
        /// On which node; without it: the primary.
        #[arg(long)]
        node: Option<Side>,
    },
    /// Undo all faults: cables, partition, stopped processes, daemons that do not run.
    Heal(Which),
    /// Take a lab down.
    Down {
        #[command(flatten)]
        which: Which,
        /// All labs of this checkout.
        #[arg(long)]
        all: bool,
    },
    /// Break the primary while a client writes, show the takeover, let the old primary rejoin.
    #[command(name = "run", override_usage = "cargo xtask run [OPTIONS]")]
    Run(drill::Arguments),
    /// Random faults together while clients write and observers watch; the seed is printed and runs it again.
    #[command(override_usage = "cargo xtask chaos [OPTIONS]")]
    Chaos(chaos::Arguments),
    /// A death at each single step of takeover, demotion and rejoin: the daemon's, PostgreSQL's, the node's.
    #[command(override_usage = "cargo xtask points [OPTIONS]")]
    Points(points::Arguments),
    /// No fault, but a busy machine: counts who takes over by mistake.
    #[command(override_usage = "cargo xtask calm [OPTIONS]")]
    Calm(calm::Arguments),
    /// Plain VRRP, measured: many instances beside keepalived, takeovers beside scripts that misbehave.
    #[command(override_usage = "cargo xtask vrrp load|torture [OPTIONS]")]
    Vrrp(vrrp::Arguments),
    /// The `init` of a host: starts a command and reaps what is left to it.
    #[command(hide = true, name = host::VERB)]
    Host {
        #[arg(long)]
        user: Option<String>,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// A process that asks who serves, and tells.
    #[command(hide = true, name = observer::VERB)]
    Observe,
    /// A client of a chaos run.
    #[command(hide = true, name = client::VERB)]
    Client {
        #[arg(long, value_enum)]
        kind: client::Kind,
        #[arg(long)]
        number: u32,
    },
    /// What an interrupted process becomes: takes its own labs down.
    #[command(hide = true)]
    Interrupted,
}

#[derive(Args)]
struct Which {
    /// The lab's run id; without it: the newest one.
    #[arg(long)]
    run: Option<String>,
}

#[derive(Args)]
struct LabArguments {
    /// How the daemons are configured.
    #[arg(long, value_enum, default_value = "harbor")]
    profile: Profile,
    /// Between pulses.
    #[arg(long, default_value = "10ms")]
    pulse: String,
    /// Pulses missed until the peer is dead.
    #[arg(long, default_value_t = 3)]
    threshold: u8,
    /// How the daemons attach XDP: `auto`, `native` or `generic`.
    #[arg(long, default_value = "generic")]
    xdp: String,
    /// A third party on a host of its own.
    #[arg(long, value_enum, default_value = "none")]
    witness: Witness,
    /// A host `cloud` with the double of Alibaba Cloud.
    #[arg(long)]
    cloud: bool,
    /// What a primary does that hears nobody, without a witness.
    #[arg(long, value_enum, default_value = "hold")]
    isolated: Isolated,
    /// `off`: the daemons do not ask for real-time scheduling.
    #[arg(long, default_value = "on", value_parser = ["on", "off"])]
    realtime: String,
}

impl LabArguments {
    /// The words that differ from the defaults, for a command line that does the same again.
    fn again(&self) -> String {
        let mut words = String::new();
        for (name, value, usual) in [
            ("pulse", self.pulse.clone(), "10ms"),
            ("threshold", self.threshold.to_string(), "3"),
            ("xdp", self.xdp.clone(), "generic"),
            ("witness", self.witness.name().to_owned(), "none"),
            ("isolated", self.isolated.name().to_owned(), "hold"),
            ("realtime", self.realtime.clone(), "on"),
        ] {
            if value != usual {
                words += &format!(" --{name} {value}");
            }
        }
        if self.cloud {
            words += " --cloud";
        }
        words
    }

    fn options(self) -> Options {
        let Self { profile, pulse, threshold, xdp: xdp_mode, witness, cloud, isolated, realtime } = self;
        let realtime = realtime == "on";
        Options {
            profile,
            pulse,
            threshold,
            daemon: true,
            xdp_mode,
            witness,
            cloud,
            isolated,
            realtime,
            ..Options::default()
        }
    }
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Up { lab, no_daemon } => up(Options { daemon: !no_daemon, ..lab.options() }),
        Verb::Status(which) => status(&which),
        Verb::Exec { which, host, command } => exec(&which, &host, &command),
        Verb::Fault { which, name, node } => fault(&which, name, node),
        Verb::Heal(which) => Lab::find(which.run.as_deref()).and_then(|lab| lab.heal()),
        Verb::Down { which, all } => down(&which, all),
        Verb::Run(arguments) => drill::verb(arguments),
        Verb::Calm(arguments) => calm::verb(arguments),
        Verb::Vrrp(arguments) => vrrp::verb(arguments),
        Verb::Chaos(arguments) => chaos::verb(arguments),
        Verb::Points(arguments) => points::verb(arguments),
        Verb::Observe => observer::observe(),
        Verb::Client { kind, number } => client::work(kind, number),
        Verb::Host { user, command } => host::be_init(user.as_deref(), &command),
        Verb::Interrupted => {
            teardown::clean_mine();
            // What a shell shows for a program that Ctrl-C ended.
            return ExitCode::from(130);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn up(options: Options) -> Result<()> {
    let run = Lab::up(&options)?.leave()?;
    eprintln!("lab {run}: up. Look: cargo xtask lab status; end: cargo xtask lab down --run {run}");
    println!("{run}");
    Ok(())
}

fn status(which: &Which) -> Result<()> {
    let lab = Lab::find(which.run.as_deref())?;
    println!("lab {}  {}", lab.run(), lab.state().home.display());
    for side in Side::BOTH {
        let node = lab.node(side);
        let postgres = match (node.postgres().postmaster(), node.postgres().in_recovery()) {
            (Err(_), _) => "not running".to_owned(),
            (Ok(pid), Err(_)) => format!("does not answer (pid {pid})"),
            (Ok(pid), Ok(standby)) => {
                let role = if standby { "standby" } else { "primary" };
                format!("{role}, timeline {} (pid {pid})", node.postgres().timeline())
            }
        };
        let daemon = match (node.daemons().first(), node.status()) {
            (None, _) => "not running".to_owned(),
            (Some(pid), Ok(status)) => format!("{} (pid {pid})", status.summary()),
            (Some(pid), Err(why)) => format!("{why:#} (pid {pid})"),
        };
        println!("  {side}  {}  {}", lab.state().address(side), node.netns());
        println!("     daemon      {daemon}\n     PostgreSQL  {postgres}");
    }
    Ok(())
}

/// Enters the network namespace only: `ip netns exec` would also hide `/sys/fs/bpf`.
fn exec(which: &Which, host: &str, command: &[OsString]) -> Result<()> {
    let lab = Lab::find(which.run.as_deref())?;
    let place = match host.parse::<Side>() {
        Ok(side) => lab.node(side).place(),
        Err(_) => host::Place { netns: lab.state().netns(host), cgroup: None },
    };
    place.enter().with_context(|| format!("`{host}` is none of a, b, c, sw, the witness's w, or cloud"))?;
    let (program, arguments) = command.split_first().context("no command")?;
    Err(Command::new(program).args(arguments).exec()).with_context(|| format!("cannot start {program:?}"))
}

fn fault(which: &Which, fault: Fault, node: Option<Side>) -> Result<()> {
    let lab = Lab::find(which.run.as_deref())?;
    let side = node.map_or_else(|| lab.primary(), Ok)?;
    let at = lab.inject(fault, side)?;
    println!("{fault} on {side} at {at} ns (CLOCK_MONOTONIC)");
    Ok(())
}

fn down(which: &Which, all: bool) -> Result<()> {
    let labs = match all {
        true => State::all(),
        false => vec![Lab::find(which.run.as_deref())?.state().clone()],
    };
    for state in labs {
        eprintln!("lab {}: taking it down", state.run);
        teardown::down(&state);
    }
    nothing_left()
}

fn nothing_left() -> Result<()> {
    let left = residue::of_all();
    ensure!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
    eprintln!("lab: nothing left behind");
    Ok(())
}

/// The end of a run: keeps the logs of a failed one, and takes the lab down or leaves it up.
fn finish(lab: Lab, outcome: Result<()>, keep: bool) -> Result<()> {
    if outcome.is_err() {
        lab.keep_logs();
    }
    match keep {
        true => {
            let run = lab.leave()?;
            eprintln!("lab {run}: left up. Look: cargo xtask lab status; end: cargo xtask lab down --run {run}");
        }
        false => {
            drop(lab);
            nothing_left()?;
        }
    }
    outcome
}
