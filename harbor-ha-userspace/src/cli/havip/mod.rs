//! `harbor-ha havip`: the HaVip at Alibaba Cloud, looked at and set up.
//!
//! Exit status as everywhere: 69 what is needed is not there (an obstacle, a bad line of `verify`, no answer), 77 the RAM
//! policy does not allow it, 78 no `[cloud]`.

mod bind;
mod judge;
mod plan;
mod policy;
mod provision;
mod show;
mod site;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use self::site::Site;
use super::{NOT_PERMITTED, UNAVAILABLE, WithConfig};
use crate::cloud::{Cloud, CloudError};
use crate::config::settings::cloud::Cloud as CloudSettings;

/// How long one call may take, repetitions included: a change that waits for another one takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Configuration file; its table [cloud] is what this is about.
    #[arg(long, global = true, default_value = "/etc/harbor-ha/harbor-ha.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The HaVip, who is bound to it, who has it, and whether the daemon agrees.
    Show(show::Arguments),
    /// Whether everything is as it must be, line by line, and what to do where it is not.
    Verify(verify::Arguments),
    /// Make the HaVip if there is none, bind both instances and the EIP; shows the plan first.
    Provision(provision::Arguments),
    /// Bind an instance to the HaVip.
    Bind(bind::Bind),
    /// Take an instance's binding to the HaVip away.
    Unbind(bind::Unbind),
    /// Bind the EIP to the HaVip.
    BindEip,
    /// Print the smallest RAM policy that this configuration needs.
    Policy(policy::Arguments),
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, ExitCode> {
    let with = WithConfig { config: arguments.config.clone() };
    let result = match &arguments.command {
        Command::Show(arguments) => super::block_on(show::run(&with, arguments)),
        Command::Verify(arguments) => super::block_on(verify::run(&with, arguments)),
        Command::Provision(arguments) => super::block_on(provision::run(&with, arguments)),
        Command::Bind(arguments) => super::block_on(bind::bind(&with, arguments)),
        Command::Unbind(arguments) => super::block_on(bind::unbind(&with, arguments)),
        Command::BindEip => super::block_on(bind::bind_eip(&with)),
        Command::Policy(arguments) => super::block_on(policy::run(&with, arguments)),
    };
    result.map_err(|end| match end {
        End::Told(code) => code,
        End::Cloud(error) => failed(&error),
    })
}

/// Why a command does not end well.
enum End {
    /// It has been said.
    Told(ExitCode),
    /// To be said.
    Cloud(CloudError),
}

impl From<CloudError> for End {
    fn from(error: CloudError) -> Self {
        Self::Cloud(error)
    }
}

impl From<ExitCode> for End {
    fn from(code: ExitCode) -> Self {
        Self::Told(code)
    }
}

fn failed(error: &CloudError) -> ExitCode {
    eprintln!("harbor-ha: {error}");
    ExitCode::from(if error.is_denial() { NOT_PERMITTED } else { UNAVAILABLE })
}

/// The node that the configuration describes, and the cloud that it names.
fn open(with: &WithConfig) -> Result<(Site, Cloud), End> {
    let site = Site::of(with)?;
    let cloud = Cloud::new(&site.cloud, PATIENCE)?;
    Ok((site, cloud))
}

/// What is missing, by its id or by its address.
fn absent(settings: &CloudSettings, region: &str) -> CloudError {
    let what = match &settings.havip {
        Some(id) => format!("HaVip {id}"),
        None => format!("HaVip with the address {}", settings.address),
    };
    let way_out = match &settings.havip {
        Some(_) => "correct cloud.havip, or use \"auto\" and `harbor-ha havip provision`",
        None => "`harbor-ha havip provision` makes it",
    };
    CloudError::Absent { what, region: region.to_owned(), way_out: way_out.to_owned() }
}

/// An instance, and whose it is.
fn whose(id: &str, own: &str, peer: &str) -> String {
    match id {
        id if id == own => format!("{id} (this node)"),
        id if id == peer => format!("{id} (the peer)"),
        id => format!("{id} (neither node)"),
    }
}

/// What to say of an instance that is bound and is neither node.
fn stranger(id: &str) -> String {
    format!(
        "{id} is bound too and is neither node: it gets the address if it announces it; `harbor-ha havip unbind {id}`"
    )
}
