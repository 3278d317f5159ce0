//! `harbor-ha-model`: what `cargo xtask model` becomes after the build.

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use harbor_ha_tests::model::bounds::Deviation;
use harbor_ha_tests::model::check;

#[derive(Parser)]
#[command(
    name = "cargo xtask model",
    bin_name = "cargo xtask model",
    about = "Explore the lease protocol exhaustively"
)]
struct Arguments {
    /// How far.
    #[arg(long, value_enum, default_value = "small")]
    bounds: Size,
    /// Only runs whose name has these words.
    #[arg(long, default_value = "")]
    only: String,
    /// Put this mistake into the protocol instead, and show the shortest way to what it breaks.
    #[arg(long)]
    mistake: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Size {
    /// About a minute.
    Small,
    /// Tens of minutes, some GB.
    Full,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(name) = &arguments.mistake {
        return mistake(name);
    }
    let runs = match arguments.bounds {
        Size::Small => check::small(),
        Size::Full => check::full(),
    };
    let mut good = true;
    for run in runs.iter().filter(|run| run.name.contains(&arguments.only)) {
        println!("{}\n  {:?}", run.name, run.protocol.bounds);
        let outcome = run.explore(2);
        println!(
            "  {} states, {} steps, depth {}, {:.1} s",
            outcome.unique,
            outcome.steps,
            outcome.depth,
            outcome.took.as_secs_f32()
        );
        for (name, always, as_it_must) in &outcome.verdicts {
            let word = match (always, as_it_must) {
                (true, true) => "holds",
                (true, false) => "BROKEN",
                (false, true) => "happens",
                (false, false) => "not within these bounds",
            };
            println!("  {word:>10}: {name}");
        }
        if let Some(trace) = &outcome.trace {
            println!("{trace}");
        }
        good &= outcome.complete;
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn mistake(name: &str) -> ExitCode {
    let Some(deviation) = Deviation::ALL.into_iter().find(|known| format!("{known:?}") == name) else {
        eprintln!("mistakes: {:?}", Deviation::ALL);
        return ExitCode::FAILURE;
    };
    let (run, broken) = check::hunt(deviation);
    println!("{:?}\n{}", run.protocol, run.seek(broken).trace.unwrap_or_else(|| "breaks nothing".to_owned()));
    ExitCode::SUCCESS
}
