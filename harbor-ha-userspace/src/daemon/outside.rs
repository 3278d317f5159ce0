//! What is watched, and who is told: from settings to the rooms `health` and `notify`, and between their words and those
//! of the machines. Shared by both forms.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use super::build::BuildError;
use super::tracking::Numbers;
use crate::config::router::settings::{self, Account, MailTls, Matching};
use crate::health::{self, Watchers};
use crate::notify::{self, Kind, Notifier, Receiver, Scripts};
use crate::observe::outside::{Facts as FactCounts, Outside as Counts};
use crate::program::{GRACE, Program, User};
use crate::vrrp::{Event, Subject, TrackValue, TrackerId, What};

/// What scripts of the end may take; keepalived gives them one second.
pub(super) const LAST_SCRIPTS: Duration = Duration::from_secs(5);
/// Facts that may wait for whoever decides, who takes them at once.
const FACTS: usize = 256;

/// Everything that either form wants of the world outside.
pub(super) struct Wants<'a> {
    pub trackers: &'a settings::Trackers,
    pub numbers: Numbers,
    /// Instances and groups in the order of their ids, and what is told of each.
    pub receivers: Vec<(Kind, &'a str, &'a settings::Notify)>,
    pub script_user: Option<&'a Account>,
    pub fifo: Option<&'a settings::Fifo>,
    pub mail: Option<&'a settings::Mail>,
    /// `None`: the host's name.
    pub router_id: Option<&'a str>,
}

/// Watchers and receivers; the watchers end with it.
pub(super) struct Outside {
    _watchers: Watchers,
    notifier: Arc<Notifier>,
    instances: Vec<Arc<str>>,
    groups: Vec<Arc<str>>,
    tally: Arc<Tally>,
}

/// Whoever decides has these: to tell others, and to know what was told.
pub(super) struct Others {
    /// Hands an event on; waits for nobody.
    pub tell: Box<dyn Fn(&Event) + Send + Sync>,
    /// What was seen and told so far.
    pub counts: Box<dyn Fn() -> Counts + Send + Sync>,
    /// Mails of a HaVip that did not follow (`true`), or did after all.
    pub alarm: Arc<dyn Fn(bool) + Send + Sync>,
}

/// What the watchers see.
pub(super) struct Facts {
    seen: mpsc::Receiver<health::Fact>,
    tally: Arc<Tally>,
}

/// Facts by tracker: a script's are its runs.
#[derive(Debug)]
struct Tally(Vec<(String, Numbered)>);

#[derive(Debug, Default)]
struct Numbered {
    facts: AtomicU64,
    failed: AtomicU64,
}

impl Facts {
    /// The next one; `None` once nothing is watched. Cancel-safe.
    pub async fn next(&mut self) -> Option<(TrackerId, TrackValue)> {
        let fact = self.seen.recv().await?;
        let value = match fact.value {
            health::Value::Ok => TrackValue::Ok,
            health::Value::Failed => TrackValue::Failed,
            health::Value::Number(number) => TrackValue::Number(number),
        };
        if let Some((_, counts)) = self.tally.0.get(usize::from(fact.tracker.0)) {
            counts.facts.fetch_add(1, Ordering::Relaxed);
            counts.failed.fetch_add(u64::from(value == TrackValue::Failed), Ordering::Relaxed);
        }
        Some((TrackerId(fact.tracker.0), value))
    }
}

impl Outside {
    /// Starts both.
    ///
    /// # Errors
    ///
    /// A user or a mail address that is none.
    pub fn start(wants: &Wants<'_>) -> Result<(Self, Facts), BuildError> {
        let users = Users::of(wants)?;
        let notifier = Notifier::start(receivers(wants, &users)?)
            .map_err(|error| BuildError::Outside { what: "mail".to_owned(), why: error.to_string() })?;
        wants.trackers.files.iter().for_each(initialise);
        let (facts, seen) = mpsc::channel(FACTS);
        let watchers = Watchers::start(watched(wants, &users)?, &facts);
        let names = wants.numbers.rules(wants.trackers).into_iter();
        let tally = Arc::new(Tally(names.map(|tracker| (tracker.name, Numbered::default())).collect()));
        let names = |kind: Kind| {
            let of_kind = wants.receivers.iter().filter(|(known, ..)| *known == kind);
            of_kind.map(|(_, name, _)| Arc::from(*name)).collect()
        };
        let (instances, groups) = (names(Kind::Instance), names(Kind::Group));
        let ours =
            Self { _watchers: watchers, notifier: Arc::new(notifier), instances, groups, tally: Arc::clone(&tally) };
        Ok((ours, Facts { seen, tally }))
    }

    /// To tell others by, and to count.
    pub fn others(&self) -> Others {
        Others { tell: self.teller(), counts: self.counter(), alarm: self.alarm(0) }
    }

    /// Tells of the one alert, and of its end, in the name of that instance.
    pub fn alarm(&self, instance: usize) -> Arc<dyn Fn(bool) + Send + Sync> {
        let (instances, notifier) = (self.instances.clone(), Arc::downgrade(&self.notifier));
        Arc::new(move |astray| {
            let state = if astray { notify::State::HaVipAstray } else { notify::State::HaVipFollowed };
            // Tasks have this, and end some time after the loop: it must not keep the notifier.
            if let Some((notifier, name)) = notifier.upgrade().zip(instances.get(instance)) {
                notifier.tell(&notify::Event { kind: Kind::Instance, name: Arc::clone(name), state, priority: 0 });
            }
        })
    }

    fn teller(&self) -> Box<dyn Fn(&Event) + Send + Sync> {
        let (instances, groups) = (self.instances.clone(), self.groups.clone());
        let notifier = Arc::clone(&self.notifier);
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

    fn counter(&self) -> Box<dyn Fn() -> Counts + Send + Sync> {
        let (notifier, tally) = (Arc::clone(&self.notifier), Arc::clone(&self.tally));
        Box::new(move || {
            let facts = tally.0.iter().map(|(name, counts)| FactCounts {
                tracker: name.clone(),
                facts: counts.facts.load(Ordering::Relaxed),
                failed: counts.failed.load(Ordering::Relaxed),
            });
            let told = notifier.told();
            Counts {
                facts: facts.collect(),
                scripts_ok: told.scripts_ok,
                scripts_failed: told.scripts_failed,
                scripts_replaced: told.replaced,
                fifo_lines_dropped: told.fifo_lines,
                mails_sent: told.mails_sent,
                mails_lost: told.mails,
            }
        })
    }

    /// Waits for what was told last, but no longer than `within`. Whoever tells or counts must have ended.
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
    fn of(wants: &Wants<'_>) -> Result<Self, BuildError> {
        let usual = match wants.script_user {
            Some(account) => find(account)?,
            None => User::usual(),
        };
        Ok(Self { usual })
    }

    fn program(&self, run: &settings::Run, deadline: Option<Duration>) -> Result<Program, BuildError> {
        let user = run.user.as_ref().map_or_else(|| Ok(self.usual.clone()), find)?;
        Ok(Program { command: run.words.clone(), user, deadline, grace: GRACE, leaves: false })
    }

    fn notify(&self, run: Option<&settings::Run>, of: &settings::Notify) -> Result<Option<Program>, BuildError> {
        let Some(run) = run else { return Ok(None) };
        let program = self.program(run, Some(of.timeout))?;
        Ok(Some(Program { leaves: of.leave_background, ..program }))
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

fn receivers(wants: &Wants<'_>, users: &Users) -> Result<notify::Settings, BuildError> {
    let receiver = |&(kind, name, notify): &(Kind, &str, &settings::Notify)| -> Result<Receiver, BuildError> {
        let script = |run: &Option<settings::Run>| users.notify(run.as_ref(), notify);
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
    let fifo = match wants.fifo {
        None => None,
        Some(fifo) => Some(notify::Fifo {
            path: fifo.path.clone(),
            user: Some(fifo.user.as_ref().map_or_else(|| Ok(users.usual.clone()), find)?),
            program: fifo.reader.as_ref().map(|run| users.program(run, None)).transpose()?,
        }),
    };
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    Ok(notify::Settings {
        router_id: wants.router_id.map_or_else(|| host.unwrap_or_default(), str::to_owned),
        receivers: wants.receivers.iter().map(receiver).collect::<Result<_, _>>()?,
        fifo,
        mail: wants.mail.map(mail),
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

fn watched(wants: &Wants<'_>, users: &Users) -> Result<health::Settings, BuildError> {
    let numbered = |first: u16| (first..).map(health::TrackerId);
    let (all, numbers) = (wants.trackers, &wants.numbers);
    let mut scripts = Vec::new();
    for (script, tracker) in all.scripts.iter().zip(numbered(numbers.scripts)) {
        scripts.push(health::Script {
            tracker,
            name: script.name.clone(),
            program: users.program(&script.run, Some(script.timeout))?,
            interval: script.interval,
        });
    }
    let processes = all.processes.iter().zip(numbered(numbers.processes)).map(|(process, tracker)| health::Process {
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
    let files = all.files.iter().zip(numbered(numbers.files));
    let interfaces = numbers.interfaces.iter();
    Ok(health::Settings {
        scripts,
        processes: processes.collect(),
        files: files.map(|(file, tracker)| health::File { tracker, path: file.path.clone() }).collect(),
        interfaces: interfaces
            .map(|(name, id)| health::Interface { tracker: health::TrackerId(id.0), name: name.clone() })
            .collect(),
    })
}
