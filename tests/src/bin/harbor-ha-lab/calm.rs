//! `cargo xtask calm`: a busy machine, no fault.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use harbor_ha_tests::lab::Lab;
use harbor_ha_tests::run::calm;

use super::{LabArguments, finish};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    lab: LabArguments,
    /// For so long; a fraction is one.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Without the load, for comparison.
    #[arg(long)]
    idle: bool,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Leave the lab up for a look.
    #[arg(long)]
    keep: bool,
}

/// Looks on in a lab.
///
/// # Errors
/// Somebody took over.
pub fn verb(arguments: Arguments) -> Result<()> {
    let Arguments { lab, minutes, idle, json, keep } = arguments;
    let time = Duration::try_from_secs_f64(minutes * 60.0).context("--minutes")?;
    let lab = Lab::up(&lab.options())?;
    let outcome = calm::watch(&lab, time, !idle).and_then(|figures| {
        print!("{}", calm::text(&figures));
        if let Some(file) = &json {
            std::fs::write(file, format!("{:#}\n", calm::json(&figures)))
                .with_context(|| format!("cannot write `{}`", file.display()))?;
        }
        calm::judge(&figures)
    });
    finish(lab, outcome, keep)
}
