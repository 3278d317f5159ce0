//! `cargo xtask run`: the main job.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;
use harbor_ha_tests::cloud::fault as cloud;
use harbor_ha_tests::lab::Lab;
use harbor_ha_tests::lab::fault::Fault;
use harbor_ha_tests::run::{self, report};

use super::{LabArguments, finish};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    lab: LabArguments,
    /// What breaks on the primary.
    #[arg(long, value_enum, default_value = "node")]
    fault: Fault,
    /// How many times; the nodes swap their roles each time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Open so many connections before each fault, and tell when their clients noticed and were served again.
    #[arg(long, value_name = "CONNECTIONS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=200))]
    pool: u32,
    /// With `--cloud`: it takes every call from the first fault on, and answers none.
    #[arg(long, requires = "cloud")]
    cloud_black_hole: bool,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Leave the lab up for a look.
    #[arg(long)]
    keep: bool,
    /// No lab: run the daemon on this host with this configuration.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Rounds in a lab, or the daemon on this host.
///
/// # Errors
/// What went wrong.
pub fn verb(arguments: Arguments) -> Result<()> {
    let Arguments { lab, fault, rounds, pool, cloud_black_hole, json, keep, config } = arguments;
    if let Some(config) = config {
        let daemon = std::env::current_exe()?.with_file_name("harbor-ha");
        let error = Command::new(&daemon).arg("run").arg("--config").arg(config).exec();
        return Err(error).with_context(|| format!("cannot start `{}`", daemon.display()));
    }
    let lab = Lab::up(&lab.options())?;
    if cloud_black_hole {
        let every =
            cloud::Fault { service: None, action: None, times: None, after: false, kind: cloud::Kind::BlackHole };
        lab.cloud().fault(&every)?;
    }
    let outcome =
        run::rounds(&lab, fault, rounds, pool as usize, |round| println!("{}", round.timeline())).and_then(|done| {
            println!("{}", report::summary(&done));
            if let Some(file) = &json {
                std::fs::write(file, format!("{:#}\n", report::json(&done)))
                    .with_context(|| format!("cannot write `{}`", file.display()))?;
            }
            run::judge(&done, rounds)
        });
    finish(lab, outcome, keep)
}
