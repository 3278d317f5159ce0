//! `harbor-ha run`: the daemon in the foreground.

use std::process::ExitCode;

use tracing_appender::non_blocking::NonBlockingBuilder;
use tracing_subscriber::EnvFilter;

use super::WithConfig;
use crate::config::Configuration;
use crate::daemon;
use crate::net::realtime::runtime_of_raised_workers;

/// One for the loop, one that PostgreSQL's connections need at the same time.
const WORKERS: usize = 2;

/// Lines of log that wait for a slow reader.
const LINES_MAX: usize = 10_000;

pub(super) fn run(with: &WithConfig) -> Result<ExitCode, ExitCode> {
    let (configuration, verdicts) = with.any()?;
    for lost in super::losses(&verdicts) {
        eprintln!("harbor-ha: {}:{}: {}: {}", lost.file.display(), lost.line, lost.keyword, lost.why);
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // A disk or a journal that takes no line for a second would make a hung daemon of this one: a thread of its own
    // writes them, and only what is beyond so many is dropped.
    let (lines, _flushes_at_the_end) =
        NonBlockingBuilder::default().buffered_lines_limit(LINES_MAX).thread_name("log").finish(std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines).with_ansi(colour).init();
    // Of a pair, the workers run the loop; of a router, whose machine has a thread of its own, what moves addresses: a
    // takeover is over when the address is up, and not when it is decided.
    let priority = match &configuration {
        Configuration::Pair(settings) => settings.realtime.priority,
        Configuration::Router(settings) => settings.realtime.priority,
    };
    let runtime = runtime_of_raised_workers(WORKERS, priority).expect("threads and an epoll descriptor");
    let result = runtime.block_on(async {
        // As a task, so that the loop runs on a worker beside the connections it waits for.
        match configuration {
            Configuration::Pair(settings) => tokio::spawn(daemon::run(*settings)).await,
            Configuration::Router(settings) => tokio::spawn(daemon::router::run(*settings)).await,
        }
    });
    // Tasks that still wait on a server must not hold the end up.
    runtime.shutdown_background();
    match result {
        Ok(Ok(())) => Ok(ExitCode::SUCCESS),
        Ok(Err(error)) => {
            eprintln!("harbor-ha: {error}");
            Err(ExitCode::from(error.exit_code()))
        }
        Err(panic) => {
            eprintln!("harbor-ha: the daemon stopped by its own mistake: {panic}");
            Err(ExitCode::from(super::SOFTWARE))
        }
    }
}
