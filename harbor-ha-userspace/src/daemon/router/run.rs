//! From settings to a running router, and to its end.

use std::net::Ipv4Addr;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use harbor_ha_ebpf::records::Stats;
use harbor_ha_ebpf::units::Nanos;
use nix::net::if_::if_nametoindex;
use nix::sys::signal::Signal;
use sd_notify::NotifyState;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};

use super::build::{self, Interfaces};
use super::desk::{Clerk, Desk};
use super::engine::{Engine, Followed, Place};
use super::record::Record;
use super::{Bell, Message, Teller};
use crate::clock;
use crate::config::router::settings::Settings;
use crate::core::cloud::Told;
use crate::daemon::build::{BuildError, lock};
use crate::daemon::cloud::{Beside, Site};
use crate::daemon::control::{self, Ask, Request};
use crate::daemon::outside::{LAST_SCRIPTS, Outside, Wants};
use crate::daemon::signals;
use crate::kernel::probe::{self, Capability};
use crate::net::garp::Garp;
use crate::net::netlink::Interface;
use crate::net::realtime;
use crate::net::vrrp::Port;
use crate::notify::Kind;
use crate::observe::http::{self, Looks};
use crate::observe::router::{About, Status};
use crate::vrrp::{InstanceId, Router};

/// The addresses are off after this, or the kernel does not answer.
const ADDRESSES_OFF: Duration = Duration::from_secs(5);
/// Between two looks whether the engine turns; it does so once a second at least.
const LOOK: Duration = Duration::from_secs(1);
/// An engine that does not turn for so long hangs, and the service manager shall know.
const HANGS: Nanos = Nanos::from_secs(10);

/// Runs the router until SIGTERM or SIGINT has been obeyed.
///
/// # Errors
///
/// [`BuildError`]: it did not start, and changed nothing; or, [`BuildError::Lost`], it cannot go on.
pub async fn run(settings: Settings) -> Result<(), BuildError> {
    signals::catch();
    let router = &settings.router;
    let missing = capabilities();
    if !missing.is_empty() {
        return Err(BuildError::Capabilities(missing));
    }
    let folder = &router.runtime_dir;
    std::fs::create_dir_all(folder).map_err(|source| BuildError::File { path: folder.clone(), source })?;
    let _lock = lock(&folder.join(format!("{}.lock", router.name)), &router.name)?;
    let mut record = Record::open(folder, &router.name);
    record.clean().await;
    let names = Interfaces::of(&settings);
    let (interfaces, places) = open(&settings, &names).await?;
    let indexes: Vec<_> = interfaces.iter().map(|it| (it.name().to_owned(), it.index)).collect();
    let sources = sources(&settings, &names, &interfaces).await?;
    let path = control::socket_path_of(folder, &router.name);
    let mut asks = control::listen(&path).map_err(|source| BuildError::File { path: path.clone(), source })?;
    let bell = Bell::new(clock::now())
        .map_err(|error| BuildError::Socket { what: "the engine's bell", source: error.into() })?;
    let bell = Arc::new(bell);
    let (messages, inbox) = mpsc::channel();
    let teller = Teller { messages, bell: Arc::clone(&bell) };
    let (outside, mut facts) = Outside::start(&wants(&settings))?;
    let facts_to = teller.clone();
    tokio::spawn(async move {
        while let Some((tracker, value)) = facts.next().await {
            facts_to.tell(Message::Tracked(tracker, value));
        }
    });
    let desk = Desk::new(settings.instances.len());
    let clerk = Clerk {
        desk: Arc::clone(&desk),
        interfaces,
        spots: settings.instances.iter().map(|instance| build::spots(instance, &names)).collect(),
        record,
        teller: teller.clone(),
    };
    let clerk = tokio::spawn(clerk.serve());
    let speakers = settings.instances.iter().zip(&sources);
    let speakers: Vec<_> = speakers.map(|(it, &source)| build::speaker(it, source, &names)).collect();
    let rules = build::rules(&settings, &sources);
    let about = About {
        form: "router",
        instance: router.name.clone(),
        version: env!("CARGO_PKG_VERSION"),
        realtime: String::new(),
        memory: memory(&settings),
    };
    let others = outside.others();
    let followed = followed(&settings, &outside, &teller);
    let (priority, thread_desk) = (settings.realtime.priority, Arc::clone(&desk));
    let make = move |realtime| {
        let router = Router::new(rules, clock::now());
        Engine::new(router, places, speakers, About { realtime, ..about }, thread_desk, others, followed, inbox, bell)
    };
    let bell = Arc::clone(&teller.bell);
    let ended = start(priority, make).map_err(|source| BuildError::Socket { what: "the engine's thread", source })?;
    tracing::info!(router = router.name, instances = settings.instances.len(), "running");
    let mut looks = looks(&settings);
    let lost = serve(&mut asks, &mut looks, &teller, &bell, &indexes, ended).await;
    if lost.is_some() {
        // Nobody advertises them any more.
        for index in 0..settings.instances.len() {
            desk.want(InstanceId(index as u16), false);
        }
    }
    // The engine has resigned, and its addresses are asked to go.
    desk.close();
    end(clerk).await;
    outside.stop(LAST_SCRIPTS).await;
    let _gone = std::fs::remove_file(&path);
    tracing::info!("ended");
    lost.map_or(Ok(()), |what| Err(BuildError::Lost(what)))
}

/// Those who want a snapshot over HTTP; nobody without `[observe]`. A router without metrics is better than none.
fn looks(settings: &Settings) -> Looks<Status> {
    let nobody = || tokio::sync::mpsc::channel(1).1;
    settings.observe.map_or_else(nobody, |listen| {
        http::start(listen).unwrap_or_else(|error| {
            tracing::error!(%error, %listen, "no metrics");
            nobody()
        })
    })
}

/// The instance that has the HaVip's address, and who looks whether that follows.
fn followed(settings: &Settings, outside: &Outside, teller: &Teller) -> Option<Followed> {
    let (index, instance, cloud) = settings.of_havip()?;
    let teller = teller.clone();
    let beside = Beside::start(Site {
        settings: cloud.clone(),
        announce: Arc::new(move || {
            teller.tell(Message::Unfollowed);
            true
        }),
        alarm: outside.alarm(index),
        fences: None,
    });
    let (instance, repeat) = (InstanceId(index as u16), instance.announce.repeat.max(1));
    Some(Followed { instance, repeat, beside, told: Told::default() })
}

/// What is watched, and who is told.
fn wants(settings: &Settings) -> Wants<'_> {
    let instances = settings.instances.iter().map(|it| (Kind::Instance, it.name.as_str(), &it.notify));
    let groups = settings.groups.iter().map(|it| (Kind::Group, it.name.as_str(), &it.notify));
    Wants {
        trackers: &settings.trackers,
        numbers: build::numbers(settings),
        receivers: instances.chain(groups).collect(),
        script_user: settings.router.script_user.as_ref(),
        fifo: settings.router.fifo.as_ref(),
        mail: settings.mail.as_ref(),
        router_id: settings.router.router_id.as_deref(),
    }
}

/// Until the engine ends: by a signal, or by its own mistake, which is the answer then.
async fn serve(
    asks: &mut tokio::sync::mpsc::Receiver<Ask>,
    looks: &mut Looks<Status>,
    teller: &Teller,
    bell: &Bell,
    indexes: &[(String, u32)],
    mut ended: oneshot::Receiver<()>,
) -> Option<String> {
    let mut lost = None;
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be caught");
    let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be caught");
    let mut look = interval(sd_notify::watchdog_enabled().map_or(LOOK, |period| (period / 3).min(LOOK)));
    notify(&[NotifyState::Ready, NotifyState::Status("running")]);
    loop {
        let signal = tokio::select! {
            biased;
            end = &mut ended => {
                return lost.or_else(|| end.err().map(|_| "the engine stopped by its own mistake".to_owned()));
            }
            _ = terminate.recv() => Signal::SIGTERM,
            _ = interrupt.recv() => Signal::SIGINT,
            Some(ask) = asks.recv() => {
                answer(ask, teller);
                continue;
            }
            Some(look) = looks.recv() => {
                teller.tell(Message::Status(look));
                continue;
            }
            _ = look.tick() => {
                if clock::now().since(bell.turned()) < HANGS {
                    notify(&[NotifyState::Watchdog]);
                }
                // Sockets are bound to the old one; only a new start helps.
                let anew = |name: &str, old| if_nametoindex(name).is_ok_and(|index| index != old);
                if lost.is_none()
                    && let Some((name, _)) = indexes.iter().find(|(name, index)| anew(name, *index))
                {
                    lost = Some(format!("`{name}` was removed and made anew"));
                    teller.tell(Message::Stop);
                }
                continue;
            }
        };
        tracing::info!(signal = signal.as_str(), "asked to end");
        notify(&[NotifyState::Stopping]);
        teller.tell(Message::Stop);
    }
}

fn answer(ask: Ask, teller: &Teller) {
    match ask.request {
        Request::Status => {
            let (answer, wait) = oneshot::channel();
            teller.tell(Message::Status(answer));
            tokio::spawn(async move {
                let status = wait.await.map_err(|_| "the daemon is ending".to_owned());
                let json = status.and_then(|status| serde_json::to_value(&status).map_err(|error| error.to_string()));
                let _gone = ask.answer.send(json.unwrap_or_else(|error| json!({ "error": error })));
            });
        }
        other => {
            let text = format!("{other:?} is for a pair of nodes; this is a router of plain VRRP");
            // A client that left does not want it.
            let _gone = ask.answer.send(json!({ "error": text }));
        }
    }
}

/// The engine in a thread of its own, which is asked to be real-time.
fn start(priority: u8, make: impl FnOnce(String) -> Engine + Send + 'static) -> std::io::Result<oneshot::Receiver<()>> {
    let (tell, ended) = oneshot::channel();
    std::thread::Builder::new().name("vrrp".to_owned()).spawn(move || {
        make(realtime::raise_this_thread(priority)).run();
        let _nobody_waits = tell.send(());
    })?;
    Ok(ended)
}

async fn end(clerk: JoinHandle<()>) {
    match timeout(ADDRESSES_OFF, clerk).await {
        Ok(Ok(())) => {}
        Ok(Err(panic)) => tracing::error!(%panic, "addresses"),
        Err(_) => tracing::error!("addresses may be left: the kernel does not answer"),
    }
}

/// Interfaces, with their sockets.
async fn open(settings: &Settings, names: &Interfaces) -> Result<(Vec<Interface>, Vec<Place>), BuildError> {
    let mut interfaces = Vec::new();
    let mut places = Vec::new();
    let gap = |name: &str| {
        let here = settings.instances.iter().filter(|it| it.interface == name);
        Nanos(here.map(|it| it.announce.interval.as_nanos() as u64).max().unwrap_or(0))
    };
    for name in names.names() {
        let interface = Interface::open(name).await?;
        let socket = |what| move |source| BuildError::Socket { what, source };
        let speaks: Vec<_> = settings.instances.iter().filter(|it| it.interface == *name).collect();
        let multicast = speaks.iter().any(|it| it.peers.is_empty());
        let port = if speaks.is_empty() {
            None
        } else {
            Some(Port::open(name, interface.index, multicast).map_err(socket("adverts"))?)
        };
        let garp = Garp::open(interface.index, interface.mac, gap(name)).map_err(socket("gratuitous ARP"))?;
        places.push(Place { name: name.clone(), port, garp, strangers: 0, rejects: Stats::default() });
        interfaces.push(interface);
    }
    Ok((interfaces, places))
}

/// Where the adverts of each instance come from.
async fn sources(
    settings: &Settings,
    names: &Interfaces,
    interfaces: &[Interface],
) -> Result<Vec<Ipv4Addr>, BuildError> {
    let mut found = Vec::new();
    for interface in interfaces {
        found.push(interface.addresses().await?);
    }
    let all_vips = || settings.instances.iter().flat_map(|it| it.vips.iter().chain(&it.excluded_vips));
    let mut sources = Vec::new();
    for instance in &settings.instances {
        let here = names.names().iter().position(|name| *name == instance.interface).map(|index| &found[index]);
        let here = here.map(Vec::as_slice).unwrap_or_default();
        let source = match instance.source {
            Some(source) => {
                if here.iter().all(|it| it.address != source) {
                    // As keepalived: it may come later.
                    let (name, interface) = (&instance.name, &instance.interface);
                    tracing::warn!(instance = name, interface, %source, "the source of the adverts is not there (yet)");
                }
                source
            }
            // A virtual address moves.
            None => {
                let mut own = here.iter().map(|it| it.address);
                let first = own.find(|address| all_vips().all(|vip| vip.address != *address));
                first.ok_or_else(|| BuildError::NoAddress {
                    interface: instance.interface.clone(),
                    instance: instance.name.clone(),
                })?
            }
        };
        sources.push(source);
    }
    Ok(sources)
}

/// What the router cannot work without.
fn capabilities() -> Vec<(Capability, &'static str)> {
    let needed = [(Capability::NetAdmin, "moves addresses"), (Capability::NetRaw, "sends adverts and gratuitous ARP")];
    let Ok(found) = probe::capabilities() else { return Vec::new() };
    needed.into_iter().filter(|(capability, _)| !found.has(*capability)).collect()
}

fn memory(settings: &Settings) -> String {
    if settings.realtime.lock_memory {
        realtime::lock_memory(probe::capabilities().is_ok_and(|found| found.has(Capability::IpcLock)))
    } else {
        "memory not locked by choice".to_owned()
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd does not listen");
    }
}
