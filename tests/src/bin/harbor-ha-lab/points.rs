//! `cargo xtask points`: a death at each single step.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use harbor_ha_tests::points::case::{self, Kind};
use harbor_ha_tests::points::{self, report};

use super::{LabArguments, nothing_left};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    lab: LabArguments,
    /// Only this fault point; may be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// What dies; may be repeated. Without it: each in turn.
    #[arg(long, value_enum)]
    kind: Vec<Kind>,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The sweep.
///
/// # Errors
/// What went wrong, and how to have it again.
pub fn verb(arguments: Arguments) -> Result<()> {
    let Arguments { lab, only, kind, json } = arguments;
    let mut cases = Vec::new();
    for name in &only {
        let of_point = case::cases(Some(name));
        ensure!(!of_point.is_empty(), "`{name}` is no fault point: docs/fault-points.md says where their list is");
        cases.extend(of_point);
    }
    if only.is_empty() {
        cases = case::cases(None);
    }
    let kinds = if kind.is_empty() { Kind::ALL.to_vec() } else { kind };
    let todo: Vec<_> = kinds.iter().flat_map(|kind| cases.iter().map(|case| (*case, *kind))).collect();
    let again = lab.again();
    let done = points::sweep(&lab.options(), &todo, |outcome| println!("{}", outcome.line()))?;
    println!("\n{}", report::summary(&done));
    if let Some(file) = &json {
        std::fs::write(file, format!("{:#}\n", report::json(&done)))
            .with_context(|| format!("cannot write `{}`", file.display()))?;
    }
    nothing_left()?;
    points::judge(&done, &again)
}
