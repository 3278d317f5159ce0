//! `harbor-ha switchover`: the primary hands over, and this command tells how it went.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::status::ask;
use super::{UNAVAILABLE, WithConfig};
use crate::daemon::Request;

/// A checkpoint, a shutdown, a promotion and a rejoin.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn run(with: &WithConfig) -> Result<ExitCode, ExitCode> {
    let settings = with.load()?;
    super::block_on(async {
        let before = ask(&settings, Request::Status).await?;
        if before["role"] != "primary" {
            eprintln!("harbor-ha: this node is {}; run the switchover on the primary", before["role"]);
            return Err(ExitCode::from(UNAVAILABLE));
        }
        ask(&settings, Request::Switchover).await?;
        let begun = Instant::now();
        let mut shown = String::new();
        while begun.elapsed() < PATIENCE {
            let now = ask(&settings, Request::Status).await?;
            let line = format!("{} ({}), peer {}", now["role"], now["operation"], now["peer"]["role"]);
            if line != shown {
                println!("{:>8.1} ms  {line}", begun.elapsed().as_secs_f64() * 1000.0);
                shown = line;
            }
            if now["role"] == "standby" && now["peer"]["role"] == "primary" && now["operation"] == "none" {
                println!("the peer serves; this node is its standby");
                return Ok(ExitCode::SUCCESS);
            }
            let refused = now["role"] == "primary" && now["operation"] == "none";
            if refused && begun.elapsed() > Duration::from_secs(1) {
                eprintln!("harbor-ha: {}", now["why"]);
                return Err(ExitCode::from(UNAVAILABLE));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        eprintln!("harbor-ha: not finished after {PATIENCE:?}; `harbor-ha status` tells where it is");
        Err(ExitCode::from(UNAVAILABLE))
    })
}
