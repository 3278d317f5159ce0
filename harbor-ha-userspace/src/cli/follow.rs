//! What the commands that follow an operation share: asking, showing each change once, reading the answer.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::status::ask;
use super::{UNAVAILABLE, USAGE};
use crate::config::Settings;
use crate::daemon::Request;

/// Between two looks at the status.
const LOOK: Duration = Duration::from_millis(20);

/// A text of the answer, without the quotes of JSON.
pub(super) fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// A number of the answer; 0 when it is not there.
pub(super) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// What goes on, and whom the peer seems to be.
pub(super) fn summary(status: &Value) -> String {
    let (role, peer) = (word(&status["role"]), word(&status["peer"]["role"]));
    match word(&status["operation"]) {
        "none" => format!("{role}, peer {peer}"),
        operation => format!("{role} ({operation}), peer {peer}"),
    }
}

/// Prints each new line once, with the time since the command was given.
pub(super) struct Progress {
    begun: Instant,
    shown: String,
}

impl Progress {
    pub fn new() -> Self {
        Self { begun: Instant::now(), shown: String::new() }
    }

    pub fn show(&mut self, line: String) {
        if line != self.shown {
            println!("{:>8.1} ms  {line}", self.begun.elapsed().as_secs_f64() * 1000.0);
            self.shown = line;
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// The status, a moment later.
pub(super) async fn look_again(settings: &Settings) -> Result<Value, ExitCode> {
    tokio::time::sleep(LOOK).await;
    ask(settings, Request::Status).await
}

/// The command cannot be obeyed: something that it needs is not there.
pub(super) fn refused(why: &str) -> ExitCode {
    eprintln!("harbor-ha: {why}");
    ExitCode::from(UNAVAILABLE)
}

/// The command was not given as it must be.
pub(super) fn not_so(why: &str) -> ExitCode {
    eprintln!("harbor-ha: {why}");
    ExitCode::from(USAGE)
}

/// A paused daemon would do it at some later time, when nobody expects it any more.
///
/// # Errors
///
/// It is paused.
pub(super) fn unless_paused(status: &Value) -> Result<(), ExitCode> {
    match status["paused"] == true {
        true => Err(refused("automatic action is paused on this node; run `harbor-ha resume` first")),
        false => Ok(()),
    }
}
