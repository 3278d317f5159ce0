//! Runs what [`crate::core::cloud`] decides, beside the loop and never in its way.
//!
//! ```text
//!   loop ──Told (the latest, over a watch)──► runner: Desk ──► looks, fencing: tasks that end with news
//!   loop ◄──announce again (dropped when the loop is full)─────┘
//! ```
//!
//! The loop waits for nothing here: what it tells replaces what was told before, what it shows is read under a lock that
//! nobody holds while he waits, and what comes back is dropped when there is no room, as the next look says it again.
//! The loop is a pair's or, without fencing, the engine of the router form.

mod fencing;

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use harbor_ha_ebpf::units::Nanos;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use self::fencing::{Ended, Fencing, Go};
use crate::clock;
use crate::cloud::Cloud;
use crate::config::settings::cloud::Cloud as CloudSettings;
use crate::core::cloud::Told;
use crate::core::cloud::desk::{Desk, Do};
use crate::core::cloud::fence::{self, Fence, Step};
use crate::core::cloud::follow::{self, Master};
use crate::observe::cloud::Cloud as View;
use crate::store::fence::FenceLog;

/// Between two looks while the HaVip has not followed.
const LOOK: Nanos = Nanos::from_secs(1);
/// A change of the peer's binding waits for what is in transition.
const PATIENCE: Duration = Duration::from_secs(60);
/// News that may wait: a look and a fencing are under way at most.
const NEWS: usize = 8;
/// After a mistake of this file's own.
const AGAIN: Duration = Duration::from_secs(5);

/// Tells of the one alert (`true`), and of its end.
pub(super) type Alarm = Arc<dyn Fn(bool) + Send + Sync>;
/// See [`Site::announce`].
pub(super) type Announce = Arc<dyn Fn() -> bool + Send + Sync>;

/// What it is started with.
pub(super) struct Site {
    pub settings: CloudSettings,
    /// Asks the loop to announce the address again; `false`: there was no room.
    pub announce: Announce,
    pub alarm: Alarm,
    /// The audit and the peer's address; `None`: nobody is fenced.
    pub fences: Option<(FenceLog, Ipv4Addr)>,
}

/// The loop's side.
pub(super) struct Beside {
    told: watch::Sender<Told>,
    view: Arc<Mutex<View>>,
}

impl Beside {
    /// Starts the runner. A cloud that cannot be asked is an error line: the node serves.
    pub fn start(site: Site) -> Self {
        let Site { settings: configured, announce, alarm, fences } = site;
        let view = View { peer_instance: configured.peer_instance.clone(), ..View::default() };
        let view = Arc::new(Mutex::new(view));
        let (told, heard) = watch::channel(Told::default());
        match Cloud::new(&configured, configured.timeout) {
            Ok(cloud) => {
                let shared = Shared { cloud, view: Arc::clone(&view), announce, alarm, fences };
                tokio::spawn(watched(shared, heard));
            }
            Err(error) => {
                tracing::error!(%error, "the HaVip is not looked after");
                seen(&view).trouble = Some(error.to_string());
            }
        }
        Self { told, view }
    }

    /// How it stands now.
    pub fn tell(&self, told: Told) {
        self.told.send_if_modified(|known| {
            let news = *known != told;
            *known = told;
            news
        });
    }

    /// What was seen and done.
    pub fn view(&self) -> View {
        seen(&self.view).clone()
    }
}

fn seen(view: &Mutex<View>) -> MutexGuard<'_, View> {
    // Every change of it is whole.
    view.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a runner needs, and the one after it.
#[derive(Clone)]
struct Shared {
    cloud: Cloud,
    view: Arc<Mutex<View>>,
    announce: Announce,
    alarm: Alarm,
    fences: Option<(FenceLog, Ipv4Addr)>,
}

/// What comes back.
enum News {
    /// Of a look that was begun at `asked`.
    Saw { asked: Nanos, seen: Seen },
    /// A step has ended.
    Step { step: Step, ended: Ended },
    /// All steps of a fencing have; `well`: each as it should.
    Fenced { well: bool },
}

/// What a look has shown.
struct Seen {
    master: Master,
    own: Option<String>,
    havip: Option<String>,
    /// This instance is bound to it; `None`: not seen.
    bound: Option<bool>,
}

impl Seen {
    fn nothing(why: String) -> Self {
        Self { master: Master::Unknown(why), own: None, havip: None, bound: None }
    }
}

/// A runner that panics is replaced: what it fenced is in the log.
async fn watched(shared: Shared, told: watch::Receiver<Told>) {
    while let Err(panic) = tokio::spawn(run(shared.clone(), told.clone())).await {
        tracing::error!(%panic, "the watch on the HaVip stopped by its own mistake");
        tokio::time::sleep(AGAIN).await;
    }
}

async fn run(shared: Shared, mut told: watch::Receiver<Told>) {
    let Some(mut runner) = Runner::new(shared, told.clone()).await else { return };
    let (tell, mut news) = mpsc::channel(NEWS);
    told.mark_changed();
    loop {
        let now = clock::now();
        for todo in runner.desk.wake(now) {
            runner.carry_out(todo, &tell);
        }
        let wait = runner.desk.next().map_or(Duration::MAX, |at| Duration::from_nanos(at.since(clock::now()).0));
        tokio::select! {
            changed = told.changed() => {
                if changed.is_err() {
                    return;
                }
                let now_told = *told.borrow_and_update();
                runner.told(now_told);
            }
            Some(news) = news.recv() => runner.heard(news, &tell),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

struct Runner {
    shared: Shared,
    settings: CloudSettings,
    desk: Desk,
    told: Told,
    /// For what takes its time: what is told meanwhile.
    heard_of: watch::Receiver<Told>,
}

impl Runner {
    /// `None`: the daemon has ended meanwhile.
    async fn new(shared: Shared, heard_of: watch::Receiver<Told>) -> Option<Self> {
        let settings = shared.cloud.settings().clone();
        let mut rules = fence_rules(&settings);
        let past = match shared.fences.clone() {
            None => Err(None),
            Some((log, _)) => {
                tokio::task::spawn_blocking(move || log.past().map_err(|error| Some((error, log)))).await.ok()?
            }
        };
        let past = past.unwrap_or_else(|unknown| {
            // A limit that is not known is taken for reached.
            if let Some((error, log)) = unknown {
                tracing::error!(%error, path = %log.path().display(), "what was fenced is not known: nothing will be");
            }
            (rules.unassociate, rules.stop) = (false, false);
            Default::default()
        });
        let (now, wall) = (clock::now(), clock::wall_ns());
        // A time that is ahead of this clock counts as now: the cool-down begins anew.
        let ago = |ms: u64| now.0.saturating_sub(wall.saturating_sub(ms.saturating_mul(1_000_000)));
        let fence = Fence::new(rules, past.fenced_ms.into_iter().map(|ms| Nanos(ago(ms))), past.unbound);
        let nanos = |duration: Duration| Nanos(duration.as_nanos() as u64);
        let follow = follow::Rules {
            deadline: nanos(settings.follow_deadline),
            look: LOOK,
            poll: nanos(settings.poll_interval),
        };
        Some(Self { desk: Desk::new(follow, fence), settings, shared, told: Told::default(), heard_of })
    }

    fn told(&mut self, told: Told) {
        self.told = told;
        self.desk.tell(clock::now(), told);
        let mut view = seen(&self.shared.view);
        if !told.serves {
            // The other one's affair now.
            view.alert = None;
        }
        view.agrees = agrees(told, view.seen_ns, view.master_is_us, view.master.as_deref(), &self.settings);
    }

    fn carry_out(&mut self, todo: Do, tell: &mpsc::Sender<News>) {
        match todo {
            Do::Follow(follow::Do::Look) => {
                let (cloud, tell, asked) = (self.shared.cloud.clone(), tell.clone(), clock::now());
                // Metadata has limits of its own, which come on top.
                let within = self.settings.timeout * 2;
                tokio::spawn(async move {
                    let look = tokio::spawn(async move { timeout(within, look(&cloud)).await });
                    let seen = match look.await {
                        Ok(Ok(seen)) => seen,
                        Ok(Err(_)) => Seen::nothing(format!("no answer within {within:?}")),
                        Err(panic) => Seen::nothing(format!("a mistake of harbor-ha: {panic}")),
                    };
                    let _ended = tell.send(News::Saw { asked, seen }).await;
                });
            }
            Do::Follow(follow::Do::Announce) => {
                // Without room it is said by the next look.
                if (self.shared.announce)() {
                    seen(&self.shared.view).repeated += 1;
                }
            }
            Do::Follow(follow::Do::Alert(master)) => self.alert(&master),
            Do::Follow(follow::Do::Followed { took, alerted }) => {
                let took_ms = took.0 / 1_000_000;
                tracing::info!(took_ms, "the HaVip is with this node");
                let mut view = seen(&self.shared.view);
                (view.followed_ns, view.alert) = (Some(took.0), None);
                drop(view);
                if alerted {
                    (self.shared.alarm)(false);
                }
            }
            Do::Fence { order, cause, begun } => {
                let Some(fencing) = self.fencing() else { return };
                let mut view = seen(&self.shared.view);
                view.fenced += 1;
                view.fence = Some(format!("under way: the peer's end was {}", cause.name()));
                drop(view);
                let go = Go { told: self.heard_of.clone(), begun };
                fencing.start(order, cause, go, tell.clone());
            }
            Do::Withheld(refusal) => {
                let refusal = refusal.to_string();
                tracing::warn!(refusal, peer = self.settings.peer_instance, "the peer is not fenced");
                seen(&self.shared.view).fence = Some(format!("not done: {refusal}"));
            }
            Do::Associate => self.give_back(Step::Associate, tell),
            Do::BindOwn => self.give_back(Step::BindOwn, tell),
        }
    }

    fn give_back(&self, step: Step, tell: &mpsc::Sender<News>) {
        if let Some(fencing) = self.fencing() {
            fencing.give_back(step, tell.clone());
        }
    }

    /// `None`: nobody is fenced, and the desk asks for it in vain.
    fn fencing(&self) -> Option<Fencing> {
        let (log, address) = self.shared.fences.clone()?;
        let peer = self.settings.peer_instance.clone();
        Some(Fencing { cloud: self.shared.cloud.with_patience(PATIENCE), log, peer, address })
    }

    fn alert(&self, master: &Master) {
        let after = self.settings.follow_deadline;
        let mut view = seen(&self.shared.view);
        let who = match master {
            Master::Own => "with this node".to_owned(),
            Master::Other(id) => format!("with {id}"),
            Master::Nobody => "with nobody".to_owned(),
            Master::Unknown(why) => format!("where nobody can see it ({why})"),
        };
        let text = format!("this node serves, and the HaVip is {who}, {after:?} after it was announced");
        view.alert = Some(text.clone());
        view.alerts += 1;
        drop(view);
        tracing::error!("{text}; clients may not reach it. It is announced on. Look at `harbor-ha havip verify`");
        (self.shared.alarm)(true);
    }

    fn heard(&mut self, news: News, tell: &mpsc::Sender<News>) {
        let now = clock::now();
        match news {
            News::Saw { asked, seen: found } => {
                self.note(asked, &found);
                if let Some(bound) = found.bound {
                    self.desk.saw_binding(now, bound);
                }
                for todo in self.desk.saw(now, asked, found.master) {
                    self.carry_out(todo, tell);
                }
            }
            News::Step { step, ended } => {
                let mut view = seen(&self.shared.view);
                if let Some(ok) = ended.called() {
                    view.called(fencing::name(step), ok);
                }
                view.fence = Some(ended.in_words(step));
                drop(view);
                self.desk.step_ended(now, step, ended.carried_out());
            }
            News::Fenced { well } => self.desk.fenced(now, well),
        }
    }

    fn note(&self, asked: Nanos, found: &Seen) {
        let mut view = seen(&self.shared.view);
        let answered = !matches!(found.master, Master::Unknown(_));
        view.called("look", answered);
        let before = view.trouble.take();
        if let Master::Unknown(why) = &found.master {
            if before.is_none() {
                tracing::warn!(why, "the HaVip cannot be looked at");
            }
            view.trouble = Some(why.clone());
            return;
        }
        if before.is_some() {
            tracing::info!("the HaVip can be looked at again");
        }
        if found.bound != view.bound {
            match found.bound {
                Some(false) => {
                    tracing::warn!("this instance is not bound to the HaVip: as the primary nobody would reach it")
                }
                Some(true) if view.bound == Some(false) => tracing::info!("this instance is bound to the HaVip again"),
                Some(true) | None => {}
            }
            view.bound = found.bound;
        }
        view.seen_ns = asked.0;
        view.havip.clone_from(&found.havip);
        view.instance.clone_from(&found.own);
        view.master_is_us = Some(found.master == Master::Own);
        view.master = match &found.master {
            Master::Own => found.own.clone(),
            Master::Other(id) => Some(id.clone()),
            Master::Nobody | Master::Unknown(_) => None,
        };
        let agrees = agrees(self.told, asked.0, view.master_is_us, view.master.as_deref(), &self.settings);
        view.agrees = agrees;
    }
}

fn fence_rules(settings: &CloudSettings) -> fence::Rules {
    let fence = settings.fence;
    fence::Rules {
        unassociate: fence.unassociate,
        stop: fence.stop,
        dry_run: fence.dry_run,
        cooldown: Nanos(fence.cooldown.as_nanos() as u64),
        limit: fence.limit,
    }
}

/// Whether the HaVip is with the node that serves, as far as either is known.
fn agrees(told: Told, seen_ns: u64, own: Option<bool>, master: Option<&str>, settings: &CloudSettings) -> Option<bool> {
    match (seen_ns, told.serves, told.peer_serves) {
        (0, ..) | (_, false, false) => None,
        (_, true, _) => own,
        (_, false, true) => Some(master == Some(settings.peer_instance.as_str())),
    }
}

async fn look(cloud: &Cloud) -> Seen {
    let asked = async {
        let own = cloud.instance().await?.to_owned();
        Ok::<_, crate::cloud::CloudError>((own, cloud.our_havip().await?))
    };
    match asked.await {
        Err(error) => Seen::nothing(error.to_string()),
        Ok((_, None)) => Seen::nothing("there is none with this address; run `harbor-ha havip provision`".to_owned()),
        Ok((own, Some(havip))) => Seen {
            master: match havip.master {
                Some(master) if master == own => Master::Own,
                Some(master) if havip.of_interfaces => Master::Unknown(format!(
                    "it is with {master}, and bound to network interfaces, which say nothing of instances; bind the \
                     instances"
                )),
                Some(master) => Master::Other(master),
                None => Master::Nobody,
            },
            bound: (!havip.of_interfaces).then(|| havip.members.contains(&own)),
            havip: Some(havip.id),
            own: Some(own),
        },
    }
}
