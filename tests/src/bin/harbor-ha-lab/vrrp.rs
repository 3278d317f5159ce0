//! `cargo xtask vrrp load|torture`: plain VRRP, measured.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use harbor_ha_tests::lab::keepalived::Keepalived;
use harbor_ha_tests::lab::need::{self, Need};
use harbor_ha_tests::vrrp::{hang, load, torture};
use serde_json::{Value, json};

use super::nothing_left;

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Many instances for minutes, harbor-ha beside keepalived: false transitions, processor, memory.
    Load {
        /// Of each of the two pairs.
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u8).range(1..=i64::from(load::INSTANCES_MAX)))]
        instances: u8,
        /// Between adverts, in milliseconds; a multiple of 10.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(10..=40_950))]
        advert_ms: u32,
        /// For so long; a fraction is one.
        #[arg(long, default_value_t = 5.0)]
        minutes: f64,
        /// Write the figures to this file.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Takeovers beside scripts that hang, fork, print megabytes and die of signals, and without them, in turn; and
    /// takeovers because one hangs on the master.
    Torture {
        /// Of each kind.
        #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..))]
        rounds: u16,
        /// Write the figures to this file.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
}

/// Measures.
///
/// # Errors
/// Something did not run, or ours made a false transition, or left a process.
pub fn verb(arguments: Arguments) -> Result<()> {
    for tool in ["keepalived", "unshare"] {
        if let Some(what) = Need::Tool(tool).missing() {
            bail!("this needs {what}: cargo xtask setup");
        }
    }
    need::tools()?;
    match arguments.what {
        What::Load { instances, advert_ms, minutes, json } => {
            ensure!(advert_ms.is_multiple_of(10), "--advert-ms: version 3 counts in steps of 10 ms");
            let time = Duration::try_from_secs_f64(minutes * 60.0).context("--minutes")?;
            let rows = load::measure(instances, Duration::from_millis(advert_ms.into()), time)?;
            println!("{instances} instances, adverts each {advert_ms} ms, {minutes} min; {}", Keepalived::version());
            print!("{}", load::table(&rows));
            save(json.as_deref(), &load::json(&rows))?;
            nothing_left()?;
            let ours: u64 = rows.iter().filter(|row| row.daemon == "harbor-ha").map(|row| row.transitions).sum();
            ensure!(ours == 0, "{ours} false transitions of harbor-ha");
        }
        What::Torture { rounds, json } => {
            let beside = torture::measure(rounds.into())?;
            let because = hang::measure(rounds.into())?;
            print!("{}\n{}", torture::table(&beside), hang::table(&because));
            save(json.as_deref(), &json!({"beside": torture::json(&beside), "because": hang::json(&because)}))?;
            nothing_left()?;
            torture::judge(&beside)?;
            hang::judge(&because)?;
        }
    }
    Ok(())
}

fn save(file: Option<&Path>, figures: &Value) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    std::fs::write(file, format!("{figures:#}\n")).with_context(|| format!("cannot write `{}`", file.display()))
}
