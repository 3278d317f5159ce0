//! `harbor-ha hold`: the peer is asked to bear with a daemon that is restarted, so that it does not take over.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::WithConfig;
use super::follow::{Progress, look_again, number, refused, word};
use super::status::ask;
use crate::clock;
use crate::daemon::Request;

/// The peer's agreement comes with its next pulse; this is many of them.
const PATIENCE: Duration = Duration::from_secs(2);
const SECOND: u64 = 1_000_000_000;

pub(super) fn run(with: &WithConfig) -> Result<ExitCode, ExitCode> {
    let settings = with.load()?;
    super::block_on(async {
        let before = ask(&settings, Request::Status).await?;
        if !before["lease"].is_object() {
            return Err(refused("a hold needs pulses and a [postgres]; without them there is nobody to ask"));
        }
        if before["role"] != "primary" {
            println!(
                "this node is {}: its daemon can be restarted at any time, no hold is needed",
                word(&before["role"])
            );
            return Ok(ExitCode::SUCCESS);
        }
        ask(&settings, Request::Hold).await?;
        let progress = Progress::new();
        while progress.elapsed() < PATIENCE {
            let now = look_again(&settings).await?;
            if now["lease"]["hold"] == true && now["lease"]["hold_agreed"] == true {
                print!("{}", agreed(&now, clock::wall_ns() / SECOND));
                return Ok(ExitCode::SUCCESS);
            }
        }
        let now = ask(&settings, Request::Status).await?;
        let peer = if now["peer"]["alive"] == true { "alive and has not answered" } else { "not alive" };
        Err(refused(&format!(
            "the peer has not agreed within {PATIENCE:?} (it is {peer}): to stop the daemon now is a hand-over"
        )))
    })
}

/// Until when, and what that is good for; `wall`: seconds of UTC.
fn agreed(status: &Value, wall: u64) -> String {
    let left = number(&status["lease"]["hold_until_ns"]).saturating_sub(number(&status["now_ns"]));
    let until = (wall + left / SECOND) % 86_400;
    let (hours, minutes, seconds) = (until / 3600, until / 60 % 60, until % 60);
    let mut text = format!(
        "the peer bears with a silent daemon on this node for {} s, until {hours:02}:{minutes:02}:{seconds:02} UTC\n\
         Restart or upgrade it now (`systemctl restart harbor-ha`): PostgreSQL and the address go on meanwhile, and \
         there is no takeover.\n\
         If no daemon runs here by then, the peer takes over. When the daemon is back the hold is over.\n",
        left.div_ceil(SECOND)
    );
    if status["lease"]["right"] != "leased" {
        text += "But this node serves without the peer's lease: its address goes dark `lease.hang` after the daemon \
                 ends, until the new one runs. `harbor-ha status` tells why it is not leased.\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(right: &str) -> Value {
        let lease = serde_json::json!({"right": right, "hold_until_ns": 65 * SECOND});
        serde_json::json!({"now_ns": 5 * SECOND, "lease": lease})
    }

    #[test]
    fn the_end_of_a_hold_is_told_by_the_clock_on_the_wall() {
        let text = agreed(&status("leased"), 86_400 * 3 - 30);
        assert!(text.contains("for 60 s, until 00:00:30 UTC") && !text.contains("dark"), "{text}");
    }

    #[test]
    fn who_serves_alone_is_told_what_a_hold_does_not_give() {
        assert!(agreed(&status("solo"), 0).contains("lease.hang"));
    }
}
