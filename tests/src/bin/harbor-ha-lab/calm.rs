//! `cargo xtask calm`: a busy machine, no fault.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use harbor_ha_tests::lab::Lab;
use harbor_ha_tests::run::calm::{self, Load};

use super::{LabArguments, finish};

/// Whoever works on the machine meanwhile gets a twentieth of it.
const HOGS_LIMIT: Duration = Duration::from_secs(600);

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    lab: LabArguments,
    /// For so long; a fraction is one.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Without the load, for comparison.
    #[arg(long, conflicts_with = "hogs")]
    idle: bool,
    /// Beside the load, on each core a real-time process of a priority below the daemons' that never sleeps. The whole
    /// machine feels it, so no longer than ten minutes.
    #[arg(long)]
    hogs: bool,
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
    let Arguments { lab, minutes, idle, hogs, json, keep } = arguments;
    let time = Duration::try_from_secs_f64(minutes * 60.0).context("--minutes")?;
    ensure!(!hogs || time <= HOGS_LIMIT, "--hogs: not for longer than {} minutes", HOGS_LIMIT.as_secs() / 60);
    let load = match (idle, hogs) {
        (true, _) => Load::Idle,
        (false, false) => Load::Mixed,
        (false, true) => Load::Hogs,
    };
    let lab = Lab::up(&lab.options())?;
    let outcome = calm::watch(&lab, time, load).and_then(|figures| {
        print!("{}", calm::text(&figures));
        if let Some(file) = &json {
            std::fs::write(file, format!("{:#}\n", calm::json(&figures)))
                .with_context(|| format!("cannot write `{}`", file.display()))?;
        }
        calm::judge(&figures, load)
    });
    finish(lab, outcome, keep)
}
