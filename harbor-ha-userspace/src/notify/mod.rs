//! Tells others what happened here: scripts, a FIFO, mail.
//!
//! [`Notifier::tell`] takes an event and returns at once, whatever the receivers do: it puts the event into a mailbox of
//! each and wakes it. Every receiver is a task of its own, so none delays another, and does one thing at a time, in the
//! order of the events:
//!
//! ```text
//!              ┌► mailbox (latest) ─► scripts of one instance or group   notify_<state>, then `notify`
//! tell(event) ─┼► mailbox (ring)   ─► FIFO                               every event, one line each
//!              └► mailbox (ring)   ─► mail                               states only
//! ```
//!
//! A script is told what is true now: a newer state takes the place of one whose scripts have not begun, and the log says
//! so. The FIFO is for who wants every step. STOP is waited for, see [`Notifier::stop`].
//!
//! When to say what is not decided here.

mod fifo;
mod mail;
mod mailbox;
mod scripts;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

pub use fifo::Fifo;
pub use mail::{Login, Mail, MailError, Tls};
pub use scripts::Scripts;

use mailbox::{Latest, Mailbox, Ring};

/// Lines that wait for the FIFO's reader beyond the 64 KiB that the kernel keeps.
const FIFO_BACKLOG: usize = 1024;
/// Mails that wait while the server does not answer.
const MAIL_BACKLOG: usize = 64;

/// Who it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A virtual router.
    Instance,
    /// Several that go together.
    Group,
}

/// What happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Serves.
    Master,
    /// Waits.
    Backup,
    /// Cannot serve.
    Fault,
    /// The daemon ends.
    Stop,
    /// A master has heard an advert of lower priority than its own. No change of state.
    LowerPriority,
    /// A master's priority has changed. No change of state; for the FIFO only.
    MasterPriority,
    /// A backup's priority has changed. No change of state; for the FIFO only.
    BackupPriority,
    /// A master whose HaVip did not follow it. No change of state; for mail only.
    HaVipAstray,
    /// It has followed, after that. For mail only.
    HaVipFollowed,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Who it is about.
    pub kind: Kind,
    /// Its name.
    pub name: Arc<str>,
    /// What happened.
    pub state: State,
    /// Of an instance, as its adverts have it; 0 for a group, as keepalived has it.
    pub priority: u8,
}

/// An instance or a group, and whom to tell of it.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// Which of the two.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// What to run.
    pub scripts: Scripts,
    /// Whether mails are sent.
    pub mail: bool,
    /// Whether the FIFO has its changes of priority.
    pub priority_changes: bool,
}

/// Whom to tell.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This host, in mails and in the scripts' environment.
    pub router_id: String,
    /// Everything that events may be about; others are for the FIFO only.
    pub receivers: Vec<Receiver>,
    /// One pipe for everything.
    pub fifo: Option<Fifo>,
    /// Where mails go.
    pub mail: Option<Mail>,
}

/// What was told and what was not, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Scripts that ended well.
    pub scripts_ok: u64,
    /// Scripts that did not, were ended at their limit, or could not be started.
    pub scripts_failed: u64,
    /// Mails that a server took.
    pub mails_sent: u64,
    /// Events whose scripts did not run because a newer one came first.
    pub replaced: u64,
    /// Lines that the FIFO's reader was too slow for.
    pub fifo_lines: u64,
    /// Mails that were not sent.
    pub mails: u64,
}

/// Everyone who is told.
#[derive(Debug)]
pub struct Notifier {
    scripts: HashMap<(Kind, String), Arc<Mailbox<Latest>>>,
    silent_priority: Vec<(Kind, String)>,
    fifo: Option<Arc<Mailbox<Ring>>>,
    mailed: Vec<(Kind, String)>,
    mail: Option<Arc<Mailbox<Ring>>>,
    tasks: Vec<(String, JoinHandle<()>)>,
    done: Arc<Done>,
}

/// What the receivers have done.
#[derive(Debug, Default)]
struct Done {
    scripts_ok: AtomicU64,
    scripts_failed: AtomicU64,
    mails_sent: AtomicU64,
}

impl Done {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Notifier {
    /// Starts the receivers; to be called inside a runtime.
    ///
    /// # Errors
    /// An address of the mail settings is none, or its certificate cannot be read.
    pub fn start(settings: Settings) -> Result<Self, MailError> {
        let Settings { router_id, receivers, fifo, mail } = settings;
        let router_id: Arc<str> = router_id.into();
        let mut tasks = Vec::new();
        let done = Arc::new(Done::default());
        let mut scripts = HashMap::new();
        let of = |wanted: fn(&Receiver) -> bool| {
            let chosen = receivers.iter().filter(|receiver| wanted(receiver));
            chosen.map(|receiver| (receiver.kind, receiver.name.clone())).collect::<Vec<_>>()
        };
        let silent_priority = of(|receiver| !receiver.priority_changes);
        let mailed = of(|receiver| receiver.mail);
        let mail = match mail {
            Some(mail) if !mailed.is_empty() => {
                let mailbox = Arc::new(Mailbox::new(Ring::new(MAIL_BACKLOG)));
                let sender = mail::Sender::new(mail, Arc::clone(&router_id))?;
                tasks.push(("mail".to_owned(), tokio::spawn(sender.serve(Arc::clone(&mailbox), Arc::clone(&done)))));
                Some(mailbox)
            }
            Some(_) | None => None,
        };
        let fifo = fifo.map(|fifo| {
            let mailbox = Arc::new(Mailbox::new(Ring::new(FIFO_BACKLOG)));
            tasks.push(("FIFO".to_owned(), tokio::spawn(fifo::serve(fifo, Arc::clone(&mailbox)))));
            mailbox
        });
        for receiver in receivers {
            if receiver.scripts.is_empty() {
                continue;
            }
            let key = (receiver.kind, receiver.name);
            let mailbox = Arc::new(Mailbox::new(Latest::default()));
            let served =
                scripts::serve(receiver.scripts, Arc::clone(&router_id), Arc::clone(&mailbox), Arc::clone(&done));
            tasks.push((format!("scripts of {}", key.1), tokio::spawn(served)));
            scripts.insert(key, mailbox);
        }
        Ok(Self { scripts, silent_priority, fifo, mailed, mail, tasks, done })
    }

    /// Tells everyone; returns at once, whatever they are doing.
    pub fn tell(&self, event: &Event) {
        let key = (event.kind, event.name.to_string());
        // keepalived has no word for it that its scripts and readers of the FIFO would know.
        let mail_only = matches!(event.state, State::HaVipAstray | State::HaVipFollowed);
        let priority = matches!(event.state, State::MasterPriority | State::BackupPriority);
        if let Some(mailbox) = self.scripts.get(&key).filter(|_| !priority && !mail_only) {
            for skipped in mailbox.put(event.clone()) {
                tracing::warn!(
                    instance = %skipped.name, skipped = %skipped.state, newer = %event.state,
                    "its scripts had not begun and are left out: the newer state is what is true",
                );
            }
        }
        if let Some(mailbox) = &self.fifo
            && !mail_only
            && !(priority && self.silent_priority.contains(&key))
            && !mailbox.put(event.clone()).is_empty()
        {
            let dropped = mailbox.dropped();
            // At 1, 2, 4, 8, …: a reader that is gone for good must not fill the log.
            if dropped.is_power_of_two() {
                tracing::warn!(dropped, "the FIFO's reader is too slow: the oldest lines are dropped");
            }
        }
        if let Some(mailbox) = &self.mail
            && !priority
            && event.state != State::LowerPriority
            && self.mailed.contains(&key)
        {
            for skipped in mailbox.put(event.clone()) {
                tracing::warn!(instance = %skipped.name, state = %skipped.state, "mail dropped: too many wait");
            }
        }
    }

    /// What was told so far, and what was not.
    #[must_use]
    pub fn told(&self) -> Told {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Told {
            scripts_ok: read(&self.done.scripts_ok),
            scripts_failed: read(&self.done.scripts_failed),
            mails_sent: read(&self.done.mails_sent),
            replaced: self.scripts.values().map(|mailbox| mailbox.dropped()).sum(),
            fifo_lines: self.fifo.as_ref().map_or(0, |mailbox| mailbox.dropped()),
            mails: self.mail.as_ref().map_or(0, |mailbox| mailbox.dropped()),
        }
    }

    /// Waits until all that was told, STOP last, is done, but no longer than `within`.
    ///
    /// A script of an older event that is not done at half of that is ended, so that STOP has its turn. What is not done
    /// at the end is ended too; that goes on by itself, also after the daemon's end.
    pub async fn stop(mut self, within: Duration) {
        let Self { scripts, fifo, mail, tasks, .. } = &mut self;
        let start = Instant::now();
        let end = start + within;
        for mailbox in scripts.values() {
            mailbox.close();
        }
        let others = fifo.iter().chain(mail.iter());
        others.for_each(|mailbox| mailbox.close());
        let cut = async {
            sleep_until(start + within / 2).await;
            scripts.values().for_each(|mailbox| mailbox.cut());
        };
        let all = async {
            for (name, task) in tasks {
                if timeout_at(end, &mut *task).await.is_err() {
                    tracing::error!(receiver = name, ?within, "not done at the end of the daemon, given up");
                    task.abort();
                }
            }
        };
        // The second half matters only while somebody is waited for.
        tokio::pin!(all);
        tokio::select! {
            () = &mut all => return,
            () = cut => {}
        }
        all.await;
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.tasks.iter().for_each(|(_, task)| task.abort());
    }
}

impl Kind {
    /// As keepalived's scripts have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Instance => "INSTANCE",
            Self::Group => "GROUP",
        }
    }
}

/// As keepalived's scripts and FIFO have it.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "MASTER",
            Self::Backup => "BACKUP",
            Self::Fault => "FAULT",
            Self::Stop => "STOP",
            Self::LowerPriority => "MASTER_RX_LOWER_PRI",
            Self::MasterPriority => "MASTER_PRIORITY",
            Self::BackupPriority => "BACKUP_PRIORITY",
            Self::HaVipAstray => "HAVIP_ASTRAY",
            Self::HaVipFollowed => "HAVIP_FOLLOWED",
        })
    }
}
