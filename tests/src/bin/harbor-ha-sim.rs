//! `cargo xtask sim`: sweeps of the simulator, a replay of one seed, the mutants.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use harbor_ha_tests::sim::{self, Mutant, Schedule};

#[derive(Parser)]
#[command(name = "cargo xtask sim", about = "Random schedules of faults against the core, on virtual time")]
struct Arguments {
    /// How many schedules.
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Tell the story of this one.
    #[arg(long)]
    replay: Option<u64>,
    /// Run a broken variant of the code.
    #[arg(long)]
    mutant: Option<String>,
    /// Every broken variant must be caught.
    #[arg(long)]
    mutants: bool,
    /// Stop after so many violations.
    #[arg(long, default_value_t = 5)]
    enough: usize,
    /// The witness is a HaVip, by the best rules that there are (docs/cloud.md).
    #[arg(long)]
    havip: bool,
    /// Leave the schedule of a replay as the seed made it.
    #[arg(long)]
    whole: bool,
}

fn main() -> ExitCode {
    // A panic of the core is caught and told with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let arguments = Arguments::parse();
    let mutant = arguments.mutant.as_deref().and_then(Mutant::named);
    if arguments.mutant.is_some() && mutant.is_none() {
        eprintln!("no such mutant; known: {}", Mutant::ALL.map(|(_, name)| name).join(" "));
        return ExitCode::FAILURE;
    }
    let good = if let Some(seed) = arguments.replay {
        replay(seed, mutant, &arguments)
    } else if arguments.mutants {
        mutants(arguments.from, arguments.seeds)
    } else {
        sweep(&arguments, mutant)
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the seed becomes.
fn schedule(seed: u64, mutant: Option<Mutant>, havip: bool) -> Schedule {
    let schedule = Schedule::of(seed, mutant);
    if havip { schedule.with_havip() } else { schedule }
}

fn replay(seed: u64, mutant: Option<Mutant>, arguments: &Arguments) -> bool {
    let schedule = schedule(seed, mutant, arguments.havip);
    let short = if arguments.whole { schedule } else { sim::shrink(&schedule, mutant) };
    let outcome = sim::run(&short, mutant, true);
    println!("{short}");
    for line in &outcome.story {
        println!("{line}");
    }
    match outcome.violation {
        Some(violation) => {
            println!("seed {seed} breaks {}: {}", violation.promise, violation.what);
            false
        }
        None => {
            println!("seed {seed}: every promise was kept");
            true
        }
    }
}

fn sweep(arguments: &Arguments, mutant: Option<Mutant>) -> bool {
    let begun = Instant::now();
    let found = sim::sweep_of(
        |seed| schedule(seed, mutant, arguments.havip),
        arguments.from,
        arguments.seeds,
        mutant,
        arguments.enough,
    );
    let secs = begun.elapsed().as_secs_f64();
    for (name, count) in found.coverage.rows() {
        println!("{count:>12} {name}");
    }
    for (command, count) in &found.coverage.by_hand {
        println!("{count:>12} ended with a word for the operator: {command}");
    }
    let (runs, failed) = (found.runs, found.failed.len());
    let each = found.took as f64 / 1e9 / runs.max(1) as f64;
    println!("{runs} schedules of {each:.1} s each in {secs:.1} s ({:.0}/s), {failed} violations", runs as f64 / secs);
    for (seed, violation) in &found.failed {
        println!("seed {seed} breaks {}: {}", violation.promise, violation.what);
    }
    if let Some((seed, _)) = found.failed.first() {
        replay(*seed, mutant, arguments);
        println!("again: cargo xtask sim --replay {seed}{}", if arguments.havip { " --havip" } else { "" });
        return false;
    }
    let missing = found.coverage.missing();
    if !missing.is_empty() {
        println!("never occurred: {}", missing.join(", "));
    }
    // A short sweep cannot see everything.
    missing.is_empty() || runs < 2_000
}

fn mutants(from: u64, seeds: u64) -> bool {
    let mut all = true;
    for (mutant, name) in Mutant::ALL {
        let found = sim::sweep(from, seeds, Some(mutant), 1);
        match found.failed.first() {
            Some((seed, violation)) => {
                println!("{name}: caught by {} at seed {seed} after {} runs", violation.promise, found.runs)
            }
            None => {
                println!("{name}: NOT caught in {} runs", found.runs);
                all = false;
            }
        }
    }
    all
}
