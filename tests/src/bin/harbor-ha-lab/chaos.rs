//! `cargo xtask chaos`: random faults together.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use harbor_ha_tests::chaos::{self, report};
use harbor_ha_tests::lab::{Lab, clock};

use super::{LabArguments, finish};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    lab: LabArguments,
    /// How many rounds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Makes the rounds; without it: another one each time, printed.
    #[arg(long)]
    seed: Option<u64>,
    /// The first round: with the seed of a failed run, the one to run again.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    first: u32,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Leave the lab up for a look.
    #[arg(long)]
    keep: bool,
}

/// Rounds in a lab.
///
/// # Errors
/// What went wrong, and how to run it again.
pub fn verb(arguments: Arguments) -> Result<()> {
    let Arguments { lab, rounds, seed, first, json, keep } = arguments;
    let seed = seed.unwrap_or_else(|| clock::now_ns() % 1_000_000);
    println!("seed {seed}");
    let again = lab.again();
    let lab = Lab::up(&lab.options())?;
    let outcome = chaos::rounds(&lab, seed, first, rounds, |round| println!("{}", round.line())).and_then(|done| {
        println!("\n{}", report::summary(&done));
        if let Some(file) = &json {
            std::fs::write(file, format!("{:#}\n", report::json(seed, &done)))
                .with_context(|| format!("cannot write `{}`", file.display()))?;
        }
        let failed = done.iter().find(|round| !round.complaints().is_empty()).map(|round| round.number);
        let replay = failed.unwrap_or(first);
        chaos::judge(&done)
            .with_context(|| format!("again: cargo xtask chaos --seed {seed} --first {replay} --rounds 1{again}"))
    });
    if outcome.is_err() {
        eprintln!("lab {}: what clients and observers saw: target/lab-logs/{}/chaos.json", lab.run(), lab.run());
    }
    finish(lab, outcome, keep)
}
