//! Scripts that are run at an interval (`vrrp_script`).

use std::fmt::Display;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::{Fact, TrackerId, Value, say};
use crate::program::{Ended, How, Program, Running, StartError};

/// Scripts of one interval are spread over it, so that a hundred do not start in the same millisecond; but over no more
/// than this, as the first word of each is waited for.
const SPREAD: Duration = Duration::from_secs(1);
/// After the deadline: then something hangs in the kernel, and counts as failed already.
const STUCK: Duration = Duration::from_secs(1);

/// A script: exit status 0 is well; anything else, a signal, or no end within the deadline of `program` is not.
#[derive(Clone, Debug)]
pub struct Script {
    /// Whose facts these are.
    pub tracker: TrackerId,
    /// Its name, for the log.
    pub name: String,
    /// What to run; its deadline is the script's timeout.
    pub program: Program,
    /// From start to start. A run that takes longer makes the next one later: there are never two at once.
    pub interval: Duration,
}

impl Script {
    pub(super) async fn watch(self, index: usize, of: usize, facts: mpsc::Sender<Fact>) {
        let interval = self.interval.max(Duration::from_millis(1));
        let spread = interval.min(SPREAD).mul_f64(index as f64 / of.max(1) as f64);
        let mut turns = interval_at(Instant::now() + spread, interval);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = None;
        loop {
            turns.tick().await;
            let mut running = None;
            let mut late = false;
            {
                let mut outcome = pin!(self.outcome(&mut running));
                let limit = self.program.deadline.map_or(Duration::MAX, |deadline| deadline + STUCK);
                // Told at once: what ends a script may take the whole grace, and is no news.
                let told = match timeout(limit, &mut outcome).await {
                    Ok(how) => say(&facts, self.tracker, worth(&how)).await,
                    Err(_) => {
                        late = true;
                        say(&facts, self.tracker, Value::Failed).await
                    }
                };
                if told.is_err() {
                    return;
                }
                if late {
                    self.news(&mut last, How::TimedOut, &"it neither starts nor ends: its file system may hang");
                    outcome.await;
                }
            }
            // Until then its turn is not over.
            let ended = match running {
                Some(Ok(mut running)) => self.end(&mut running, &mut last).await,
                Some(Err(why)) => Ended::not_started(why),
                None => continue,
            };
            if !late {
                self.news(&mut last, ended.how.clone(), &ended);
            }
        }
    }

    /// How a run ends, as soon as that is known.
    async fn outcome(&self, running: &mut Option<Result<Running, StartError>>) -> How {
        match running.insert(self.program.start(&[], &[]).await) {
            Ok(running) => running.outcome().await,
            Err(why) => How::NotStarted(why.to_string()),
        }
    }

    /// The end of a run of which the outcome is known.
    async fn end(&self, running: &mut Running, last: &mut Option<How>) -> Ended {
        match timeout(self.program.grace + STUCK, running.wait()).await {
            Ok(ended) => ended,
            Err(_) => {
                self.news(last, How::Lost, &"it does not end, not even by SIGKILL");
                running.wait().await
            }
        }
    }

    /// The same again is not news; a script that fails each second would fill the log.
    fn news(&self, last: &mut Option<How>, how: How, words: &dyn Display) {
        if last.as_ref() == Some(&how) {
            return;
        }
        match how {
            How::Exited(0) => tracing::info!(script = self.name, "{words}"),
            How::NotStarted(_) => tracing::error!(script = self.name, "counts as failed: {words}"),
            _ => tracing::warn!(script = self.name, "counts as failed: {words}"),
        }
        *last = Some(how);
    }
}

fn worth(how: &How) -> Value {
    if *how == How::Exited(0) { Value::Ok } else { Value::Failed }
}
