//! `harbor-ha status`: what the running daemon sees and does.

use std::process::ExitCode;

use serde_json::Value;

use super::{UNAVAILABLE, WithConfig};
use crate::config::Settings;
use crate::daemon::{self, Request};
use crate::observe::table;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    with: WithConfig,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, ExitCode> {
    let settings = arguments.with.load()?;
    let status = super::block_on(ask(&settings, Request::Status))?;
    if arguments.json {
        println!("{status}");
    } else {
        // What is piped somewhere has its lines whole.
        let width = rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_col));
        print!("{}", table::render(&status, width.filter(|&width| width > 0)));
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the daemon of these settings.
pub(super) async fn ask(settings: &Settings, request: Request) -> Result<Value, ExitCode> {
    let socket = daemon::socket_path(&settings.node);
    daemon::ask(&socket, request).await.map_err(|error| {
        eprintln!(
            "harbor-ha: no answer from the daemon on {}: {error}; is it running (`systemctl status harbor-ha`), and are \
             you root?",
            socket.display()
        );
        ExitCode::from(UNAVAILABLE)
    })
}
