//! The scripts of one instance or group.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::mailbox::{Latest, Mailbox, Taken};
use super::{Done, Event, State};
use crate::program::{Ended, Program};

/// A script that got SIGKILL and is not gone after this hangs in the kernel (NFS); the next one does not wait for it.
const STUCK: Duration = Duration::from_secs(3);

/// What to run when. Each gets the environment of [`crate::program`] and the variables below.
///
/// ```text
/// HARBOR_HA_ROUTER    router_id
/// HARBOR_HA_TYPE      INSTANCE or GROUP
/// HARBOR_HA_NAME      its name
/// HARBOR_HA_STATE     MASTER, BACKUP, FAULT, STOP or MASTER_RX_LOWER_PRI
/// HARBOR_HA_PRIORITY  0 to 255
/// ```
#[derive(Clone, Debug, Default)]
pub struct Scripts {
    /// `notify_master`.
    pub master: Option<Program>,
    /// `notify_backup`.
    pub backup: Option<Program>,
    /// `notify_fault`.
    pub fault: Option<Program>,
    /// `notify_stop`.
    pub stop: Option<Program>,
    /// `notify`: after each of the four, with type, name, state and priority as its last four arguments.
    pub all: Option<Program>,
    /// `notify_master_rx_lower_pri`.
    pub lower_priority: Option<Program>,
}

impl Scripts {
    /// Whether there is nothing to run.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { master, backup, fault, stop, all, lower_priority } = self;
        [master, backup, fault, stop, all, lower_priority].into_iter().all(Option::is_none)
    }

    /// Everything that an event asks for, in its order, with the arguments that follow the program's own.
    fn for_event(&self, event: &Event) -> impl Iterator<Item = (&Program, Vec<String>)> {
        let (own, all) = match event.state {
            State::Master => (&self.master, &self.all),
            State::Backup => (&self.backup, &self.all),
            State::Fault => (&self.fault, &self.all),
            State::Stop => (&self.stop, &self.all),
            State::LowerPriority => (&self.lower_priority, &None),
            State::MasterPriority | State::BackupPriority | State::HaVipAstray | State::HaVipFollowed => (&None, &None),
        };
        let four = || {
            let Event { kind, name, state, priority } = event;
            vec![kind.word().to_owned(), name.to_string(), state.to_string(), priority.to_string()]
        };
        own.iter().map(|program| (program, Vec::new())).chain(all.iter().map(move |program| (program, four())))
    }
}

/// One event after the other.
pub(super) async fn serve(scripts: Scripts, router_id: Arc<str>, mailbox: Arc<Mailbox<Latest>>, done: Arc<Done>) {
    while let Some(taken) = mailbox.next().await {
        let event = &taken.event;
        let environment = [
            ("HARBOR_HA_ROUTER", router_id.to_string()),
            ("HARBOR_HA_TYPE", event.kind.word().to_owned()),
            ("HARBOR_HA_NAME", event.name.to_string()),
            ("HARBOR_HA_STATE", event.state.to_string()),
            ("HARBOR_HA_PRIORITY", event.priority.to_string()),
        ];
        for (program, arguments) in scripts.for_event(event) {
            let ended = run(program, &arguments, &environment, &mailbox, &taken).await;
            let (instance, state) = (&event.name, event.state);
            let well = ended.as_ref().is_some_and(|ended| ended.is_success() && ended.left == 0);
            Done::add(if well { &done.scripts_ok } else { &done.scripts_failed });
            match ended {
                Some(ended) if well => {
                    tracing::info!(%instance, %state, script = %program, "{ended}");
                }
                Some(ended) => tracing::warn!(%instance, %state, script = %program, "{ended}"),
                None => tracing::error!(
                    %instance, %state, script = %program,
                    "it does not end, not even by SIGKILL (a file system that does not answer?); the next one does not wait for it"
                ),
            }
        }
    }
}

/// `None`: it cannot be ended.
async fn run(
    program: &Program,
    arguments: &[String],
    environment: &[(&str, String)],
    mailbox: &Mailbox<Latest>,
    taken: &Taken,
) -> Option<Ended> {
    let one = async {
        let mut running = match program.start(arguments, environment).await {
            Ok(running) => running,
            Err(why) => return Ended::not_started(why),
        };
        tokio::select! {
            ended = running.wait() => return ended,
            () = mailbox.is_cut(taken) => running.end(),
        }
        running.wait().await
    };
    match program.deadline {
        Some(deadline) => timeout(deadline + program.grace + STUCK, one).await.ok(),
        None => Some(one.await),
    }
}
