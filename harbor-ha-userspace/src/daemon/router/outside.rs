//! What is watched, and who is told: from settings to the rooms `health` and `notify`, and between their words and the
//! router's.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::build::Trackers;
use super::{Message, Teller};
use crate::config::router::settings::{self, Account, MailTls, Matching, Settings};
use crate::daemon::build::BuildError;
use crate::health::{self, Watchers};
use crate::notify::{self, Kind, Notifier, Receiver, Scripts};
use crate::program::{GRACE, Program, User};
use crate::vrrp::{Event, Subject, TrackValue, TrackerId, What};

/// Facts that may wait for the engine, which takes them at once.
const FACTS: usize = 256;

/// Watchers and receivers; the watchers end with it.
pub(super) struct Outside {
    _watchers: Watchers,
    notifier: Arc<Notifier>,
}

impl Outside {
    /// Starts both.
    ///
    /// # Errors
    ///
    /// A user or a mail address that is none.
    pub fn start(settings: &Settings, trackers: &Trackers, teller: Teller) -> Result<Self, BuildError> {
        let users = Users::of(settings)?;
        let notifier = Notifier::start(receivers(settings, &users)?)
            .map_err(|error| BuildError::Outside { what: "mail".to_owned(), why: error.to_string() })?;
        settings.trackers.files.iter().for_each(initialise);
        let (facts, mut seen) = mpsc::channel(FACTS);
        let watchers = Watchers::start(watched(settings, trackers, &users)?, &facts);
        tokio::spawn(async move {
            while let Some(fact) = seen.recv().await {
                let value = match fact.value {
                    health::Value::Ok => TrackValue::Ok,
                    health::Value::Failed => TrackValue::Failed,
                    health::Value::Number(number) => TrackValue::Number(number),
                };
                teller.tell(Message::Tracked(TrackerId(fact.tracker.0), value));
            }
        });
        Ok(Self { _watchers: watchers, notifier: Arc::new(notifier) })
    }

    /// Hands the router's events on; waits for nobody.
    pub fn tell(&self, settings: &Settings) -> Box<dyn Fn(&Event) + Send> {
        let notifier = Arc::clone(&self.notifier);
        let names = |names: Vec<&String>| names.into_iter().map(|name| Arc::from(name.as_str())).collect();
        let instances: Vec<Arc<str>> = names(settings.instances.iter().map(|it| &it.name).collect());
        let groups: Vec<Arc<str>> = names(settings.groups.iter().map(|it| &it.name).collect());
        Box::new(move |event| {
            let (kind, name) = match event.subject {
                Subject::Instance(id) => (Kind::Instance, &instances[usize::from(id.0)]),
                Subject::Group(id) => (Kind::Group, &groups[usize::from(id.0)]),
            };
            let state = match event.what {
                What::Master => notify::State::Master,
                What::Backup => notify::State::Backup,
                What::Fault => notify::State::Fault,
                What::Stop => notify::State::Stop,
                What::LowerPriority => notify::State::LowerPriority,
                What::Priority { master: true } => notify::State::MasterPriority,
                What::Priority { master: false } => notify::State::BackupPriority,
            };
            // keepalived has no priority for a group.
            let priority = if kind == Kind::Group { 0 } else { event.priority.0 };
            notifier.tell(&notify::Event { kind, name: Arc::clone(name), state, priority });
        })
    }

    /// Waits for what was told last, but no longer than `within`. The engine must have ended.
    pub async fn stop(self, within: Duration) {
        match Arc::try_unwrap(self.notifier) {
            Ok(notifier) => notifier.stop(within).await,
            Err(_) => tracing::error!("somebody still tells; nobody is waited for"),
        }
    }
}

/// Who runs what.
struct Users {
    usual: User,
}

impl Users {
    fn of(settings: &Settings) -> Result<Self, BuildError> {
        let usual = match &settings.router.script_user {
            Some(account) => find(account)?,
            None => User::usual(),
        };
        Ok(Self { usual })
    }

    fn program(&self, run: &settings::Run, deadline: Option<Duration>) -> Result<Program, BuildError> {
        let user = run.user.as_ref().map_or_else(|| Ok(self.usual.clone()), find)?;
        Ok(Program { command: run.words.clone(), user, deadline, grace: GRACE })
    }

    fn optional(&self, run: Option<&settings::Run>, deadline: Duration) -> Result<Option<Program>, BuildError> {
        run.map(|run| self.program(run, Some(deadline))).transpose()
    }
}

/// `init_file`: the number that is there before anybody writes one.
fn initialise(file: &settings::File) {
    let Some(number) = file.init.filter(|_| file.overwrite || !file.path.exists()) else { return };
    if let Err(error) = std::fs::write(&file.path, format!("{number}\n")) {
        tracing::warn!(%error, path = %file.path.display(), number, "the first number cannot be written");
    }
}

fn find(account: &Account) -> Result<User, BuildError> {
    let text = account.to_string();
    User::find(&text).map_err(|error| BuildError::Outside { what: format!("user `{text}`"), why: error.to_string() })
}

fn receivers(settings: &Settings, users: &Users) -> Result<notify::Settings, BuildError> {
    let receiver = |kind, name: &str, notify: &settings::Notify| -> Result<Receiver, BuildError> {
        let script = |run: &Option<settings::Run>| users.optional(run.as_ref(), notify.timeout);
        let scripts = Scripts {
            master: script(&notify.master)?,
            backup: script(&notify.backup)?,
            fault: script(&notify.fault)?,
            stop: script(&notify.stop)?,
            all: script(&notify.all)?,
            lower_priority: script(&notify.lower_priority)?,
        };
        let name = name.to_owned();
        Ok(Receiver { kind, name, scripts, mail: notify.mail, priority_changes: notify.priority_changes })
    };
    let mut all = Vec::new();
    for instance in &settings.instances {
        all.push(receiver(Kind::Instance, &instance.name, &instance.notify)?);
    }
    for group in &settings.groups {
        all.push(receiver(Kind::Group, &group.name, &group.notify)?);
    }
    let fifo = match &settings.router.fifo {
        None => None,
        Some(fifo) => Some(notify::Fifo {
            path: fifo.path.clone(),
            user: Some(fifo.user.as_ref().map_or_else(|| Ok(users.usual.clone()), find)?),
            program: fifo.reader.as_ref().map(|run| users.program(run, None)).transpose()?,
        }),
    };
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    Ok(notify::Settings {
        router_id: settings.router.router_id.clone().unwrap_or_else(|| host.unwrap_or_default()),
        receivers: all,
        fifo,
        mail: settings.mail.as_ref().map(mail),
    })
}

fn mail(mail: &settings::Mail) -> notify::Mail {
    notify::Mail {
        server: mail.host.clone(),
        port: mail.port,
        from: mail.from.clone(),
        to: mail.to.clone(),
        helo: mail.helo.clone(),
        timeout: mail.timeout,
        tls: match mail.tls {
            MailTls::None => notify::Tls::None,
            MailTls::Opportunistic => notify::Tls::Opportunistic,
            MailTls::Required => notify::Tls::Required,
        },
        ca_file: None,
        login: mail
            .login
            .as_ref()
            .map(|login| notify::Login { user: login.user.clone(), password: login.password.reveal().clone() }),
        faults: mail.faults,
    }
}

fn watched(settings: &Settings, trackers: &Trackers, users: &Users) -> Result<health::Settings, BuildError> {
    let numbered = |first: u16| (first..).map(health::TrackerId);
    let all = &settings.trackers;
    let mut scripts = Vec::new();
    for (script, tracker) in all.scripts.iter().zip(numbered(trackers.scripts)) {
        scripts.push(health::Script {
            tracker,
            name: script.name.clone(),
            program: users.program(&script.run, Some(script.timeout))?,
            interval: script.interval,
        });
    }
    let processes = all.processes.iter().zip(numbered(trackers.processes)).map(|(process, tracker)| health::Process {
        tracker,
        process: process.process.clone(),
        arguments: process.arguments.clone(),
        matching: match process.matching {
            Matching::Exact => health::Match::Exact,
            Matching::Initial => health::Match::Initial,
            Matching::Partial => health::Match::Partial,
        },
        fork_delay: process.fork_delay,
        terminate_delay: process.terminate_delay,
    });
    let files = all.files.iter().zip(numbered(trackers.files));
    let interfaces = trackers.interfaces.iter();
    Ok(health::Settings {
        scripts,
        processes: processes.collect(),
        files: files.map(|(file, tracker)| health::File { tracker, path: file.path.clone() }).collect(),
        interfaces: interfaces
            .map(|(name, id)| health::Interface { tracker: health::TrackerId(id.0), name: name.clone() })
            .collect(),
    })
}
