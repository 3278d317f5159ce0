//! `harbor-ha run`: the daemon in the foreground.

use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use super::WithConfig;
use crate::config::Configuration;
use crate::daemon;

pub(super) fn run(with: &WithConfig) -> Result<ExitCode, ExitCode> {
    let (configuration, verdicts) = with.any()?;
    for lost in super::losses(&verdicts) {
        eprintln!("harbor-ha: {}:{}: {}: {}", lost.file.display(), lost.line, lost.keyword, lost.why);
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour).init();
    // Two threads: one for the loop, one that PostgreSQL's connections need at the same time.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("threads and an epoll descriptor");
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
