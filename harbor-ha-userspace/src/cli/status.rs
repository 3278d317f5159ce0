//! `harbor-ha status`: what the running daemon sees and does.

use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

use super::{UNAVAILABLE, WithConfig};
use crate::config::{Configuration, Settings};
use crate::daemon::{self, Request};
use crate::observe::{router, table};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    with: WithConfig,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, ExitCode> {
    let (configuration, _verdicts) = arguments.with.any()?;
    let (socket, render): (_, fn(&Value, Option<usize>) -> String) = match &configuration {
        Configuration::Pair(settings) => (daemon::socket_path(&settings.node), table::render),
        Configuration::Router(settings) => {
            (daemon::socket_path_of(&settings.router.runtime_dir, &settings.router.name), router::render)
        }
    };
    let status = super::block_on(ask_at(&socket, Request::Status))?;
    if arguments.json {
        println!("{status}");
    } else {
        // What is piped somewhere has its lines whole.
        let width = rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_col));
        print!("{}", render(&status, width.filter(|&width| width > 0)));
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the daemon of these settings.
pub(super) async fn ask(settings: &Settings, request: Request) -> Result<Value, ExitCode> {
    ask_at(&daemon::socket_path(&settings.node), request).await
}

async fn ask_at(socket: &Path, request: Request) -> Result<Value, ExitCode> {
    daemon::ask(socket, request).await.map_err(|error| {
        eprintln!(
            "harbor-ha: no answer from the daemon on {}: {error}; is it running (`systemctl status harbor-ha`), and are \
             you root?",
            socket.display()
        );
        ExitCode::from(UNAVAILABLE)
    })
}
