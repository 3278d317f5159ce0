//! `harbor-ha pause` and `harbor-ha resume`: this node acts by itself no more, or again.

use std::process::ExitCode;
use std::time::Duration;

use super::WithConfig;
use super::follow::{Progress, look_again, refused, word};
use super::status::ask;
use crate::daemon::Request;

/// The daemon obeys between two of its turns.
const PATIENCE: Duration = Duration::from_secs(5);

const PAUSED: &str = "Automatic action is paused on this node, also over restarts of the daemon: until `harbor-ha resume` \
     it neither takes over nor hands over, and does not start, stop or rejoin PostgreSQL.\n\
     The other node acts on, unless it is paused too. The gate goes on, in the kernel: a primary still serves only while \
     its right lasts.";

pub(super) fn run(with: &WithConfig, pause: bool) -> Result<ExitCode, ExitCode> {
    let settings = with.load()?;
    super::block_on(async {
        let before = ask(&settings, Request::Status).await?;
        if before["paused"] == pause {
            println!("automatic action {}", if pause { "is paused already" } else { "is not paused" });
            return Ok(ExitCode::SUCCESS);
        }
        ask(&settings, if pause { Request::Pause } else { Request::Resume }).await?;
        let progress = Progress::new();
        while progress.elapsed() < PATIENCE {
            let now = look_again(&settings).await?;
            if now["paused"] == pause {
                match pause {
                    true => println!("{PAUSED}"),
                    false => println!("this node acts by itself again; it is {}", word(&now["role"])),
                }
                return Ok(ExitCode::SUCCESS);
            }
        }
        Err(refused(&format!("the daemon has not obeyed within {PATIENCE:?}; `harbor-ha status` tells what it does")))
    })
}
