//! `harbor-ha switchover`: the primary hands over, and this command tells how it went.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::Value;

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
            let (role, peer) = (word(&before["role"]), word(&before["peer"]["role"]));
            eprintln!("harbor-ha: this node is {role} and the peer {peer}; run the switchover on the primary");
            return Err(ExitCode::from(UNAVAILABLE));
        }
        ask(&settings, Request::Switchover).await?;
        let begun = Instant::now();
        let mut shown = String::new();
        while begun.elapsed() < PATIENCE {
            let now = ask(&settings, Request::Status).await?;
            let line = match word(&now["operation"]) {
                "none" => format!("{}, peer {}", word(&now["role"]), word(&now["peer"]["role"])),
                operation => format!("{} ({operation}), peer {}", word(&now["role"]), word(&now["peer"]["role"])),
            };
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
                eprintln!("harbor-ha: {}", word(&now["why"]));
                return Err(ExitCode::from(UNAVAILABLE));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        eprintln!("harbor-ha: not finished after {PATIENCE:?}; `harbor-ha status` tells where it is");
        Err(ExitCode::from(UNAVAILABLE))
    })
}

/// A text of the answer, without the quotes of JSON.
fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}
