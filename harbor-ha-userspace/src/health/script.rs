//! Scripts that are run at an interval (`vrrp_script`).

use std::pin::pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::{Fact, TrackerId, Value, say};
use crate::program::{How, Program};

/// Scripts of one interval are spread over it, so that a hundred do not start in the same millisecond; but over no more
/// than this, as the first word of each is waited for.
const SPREAD: Duration = Duration::from_secs(1);
/// After the deadline and the grace: then it hangs in the kernel, and counts as failed already.
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
            let mut run = pin!(self.program.run(&[], &[]));
            let limit = self.program.deadline.map_or(Duration::MAX, |deadline| deadline + self.program.grace + STUCK);
            let ended = timeout(limit, &mut run).await.ok();
            let well = ended.as_ref().is_some_and(|ended| ended.is_success());
            // The same again is not news; a script that fails each second would fill the log.
            let how = ended.as_ref().map(|ended| ended.how.clone());
            if last.as_ref() != Some(&how) {
                self.log(
                    ended.as_ref().map_or(&"it does not end, not even by SIGKILL" as _, |ended| ended as _),
                    well,
                    &how,
                );
                last = Some(how);
            }
            if say(&facts, self.tracker, if well { Value::Ok } else { Value::Failed }).await.is_err() {
                return;
            }
            if ended.is_none() {
                run.await;
            }
        }
    }

    fn log(&self, words: &(dyn std::fmt::Display + Sync), well: bool, how: &Option<How>) {
        match how {
            _ if well => tracing::info!(script = self.name, "{words}"),
            Some(How::NotStarted(_)) => tracing::error!(script = self.name, "counts as failed: {words}"),
            _ => tracing::warn!(script = self.name, "counts as failed: {words}"),
        }
    }
}
