//! The loop.

use std::sync::Arc;
use std::time::Duration;

use harbor_ha_ebpf::records::{Source, State, VerdictKind};
use harbor_ha_ebpf::units::Nanos;
use harbor_ha_ebpf::wire::pulse::flag;
use nix::sys::signal::Signal;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use super::audit::{self, Audit};
use super::build::{self, BuildError, Parts};
use super::cloud::{Beside, Site};
use super::control::{self, Ask, Request};
use super::monitor;
use super::outside::{LAST_SCRIPTS, Outside};
use super::perform::Performer;
use super::repeated::Repeated;
use super::signals;
use crate::clock;
use crate::config::settings::Settings;
use crate::core::facts::Lsn;
use crate::core::{Actions, Adopted, Command, Core, Input, Postgres};
use crate::kernel::load::LoadError;
use crate::kernel::maps::PEER;
use crate::net::netlink::Seen;
use crate::net::realtime::of_this_thread;
use crate::observe::http::{self, Looks};
use crate::observe::outside::Outside as Counts;
use crate::observe::status::{GateView, Heard, SavedWal, Status, rejects};
use crate::observe::words;
use crate::pg::Pg;
use crate::store::fence::FenceLog;

/// Inputs that may wait for the loop: tasks and the monitor send a few a second, and wait when it is full.
const INPUTS: usize = 64;
/// Without a deadline of the core: look at the clock and the kernel's records now and then all the same, and give a sign
/// of life that is a small part of `lease.hang` old at most.
const IDLE: Duration = Duration::from_millis(100);

/// Runs the daemon until SIGTERM or SIGINT has been obeyed.
///
/// # Errors
///
/// [`BuildError`]: it did not start, and changed nothing; or, [`BuildError::Lost`], it cannot go on.
pub async fn run(settings: Settings) -> Result<(), BuildError> {
    signals::catch();
    let mut parts = build::parts(&settings).await?;
    let (outside, mut facts) = Outside::start(&build::wants(&settings))?;
    let socket = control::socket_path(&settings.node);
    let mut asks = control::listen(&socket).map_err(|source| BuildError::File { path: socket.clone(), source })?;
    let mut looks = looks(&settings);
    parts.fresh.keep();
    let (inputs, mut arrivals) = mpsc::channel(INPUTS);
    let look = Arc::new(Notify::new());
    if let Some(pg) = parts.pg.clone() {
        tokio::spawn(compare_clusters(pg.clone()));
        tokio::spawn(monitor::watch(pg, inputs.clone(), Arc::clone(&look)));
    }
    let (watch, mut seen) = mpsc::channel(INPUTS);
    let vips = settings.node.vips.iter().map(|vip| vip.address).collect();
    tokio::spawn(parts.interface.clone().watch(settings.node.address, vips, watch));
    let mut lost = None;
    let others = outside.others();
    let inputs_of_cloud = inputs.clone();
    let mut performer = Performer::new(settings.clone(), inputs, look, others.tell);
    let counts = others.counts;
    let cloud = settings.cloud.clone().map(|cloud| {
        let log = FenceLog::new(&settings.node.state_dir, &settings.node.instance);
        Beside::start(Site {
            settings: cloud,
            announce: Arc::new(move || inputs_of_cloud.try_send(Input::Unfollowed).is_ok()),
            alarm: others.alarm,
            fences: Some((log, settings.node.peer)),
        })
    });
    let adopted = Adopted { order: parts.adopted_order, paused: parts.pause_file.is_set(), forgotten: parts.forgotten };
    let core = Core::new(build::rules(&settings), parts.terms, adopted, clock::now());
    let mut core = core.tracking(build::tracking(&settings));
    if let Some(lease) = settings.lease.as_ref().filter(|_| settings.postgres.is_some()) {
        let (isolated, resumes) = (words::name(lease.isolated), core.resumes().unwrap_or("nothing"));
        tracing::info!(isolated, resumes, "lease: {}", words::isolated(lease.isolated));
    }
    let mut out = Actions::default();
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be caught");
    let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be caught");
    let watchdog = sd_notify::watchdog_enabled().map(|period| period / 3);
    let mut bark = Instant::now();
    // Before the records are read: what is said between the two is in both.
    let forgotten = parts.verdicts.forget();
    if forgotten > 0 {
        tracing::debug!(forgotten, "verdicts of the time before this start");
    }
    performer.done.extend(known(&parts));
    let mut audit = Audit::default();
    let mut past = Repeated::new(Duration::from_secs(60));
    notify(&[NotifyState::Ready, NotifyState::Status("running")]);
    tracing::info!(instance = settings.node.instance, xdp = parts.attached.name(), "running");

    while !performer.exit {
        // Before the input: a question that is answered begins the next turn at once.
        if watchdog.is_some_and(|period| bark.elapsed() >= period) {
            bark = Instant::now();
            notify(&[NotifyState::Watchdog]);
        }
        if let Some(pulses) = &parts.pulses {
            pulses.alive(clock::now());
        }
        let wake = out.wake_at().map_or(IDLE, |at| Duration::from_nanos(at.since(clock::now()).0)).min(IDLE);
        // Verdicts first: after a pause of this process the kernel's word must precede any timer of ours.
        let waiting = performer.done.pop_front().or_else(|| parts.verdicts.take().map(Input::Verdict));
        if waiting.is_none() && audit.is_due(clock::now()) {
            performer.done.extend(unsaid(&mut audit, &core, &parts));
            let old = parts.maps.stats(PEER).map_or(0, |stats| stats.reject_sequence);
            if audit.hears_only_the_past(old, core.heartbeat(Source::Pulse)) && past.is_due() {
                tracing::error!(
                    dropped = old,
                    "the peer's pulses are older than those heard before, so they are dropped: its clock was set back \
                     and its state directory lost, or somebody replays; if it is the peer, run `harbor-ha detach` here \
                     between a stop and a start"
                );
            }
            if parts.pulses.as_ref().is_some_and(|pulses| !pulses.is_running()) {
                performer.done.push_back(give_up(&mut lost, "the pulse thread ended".to_owned()));
            }
        }
        let input = match waiting.or_else(|| performer.done.pop_front()) {
            Some(input) => input,
            None => tokio::select! {
                biased;
                verdict = parts.verdicts.next() => match verdict {
                    Ok(verdict) => Input::Verdict(verdict),
                    Err(error) => {
                        tracing::error!(%error, "ring buffer");
                        Input::Wake
                    }
                },
                Some(input) = arrivals.recv() => match heard_wal(&input, &parts) {
                    // Before the news that it is compared with.
                    Some(heard) => {
                        performer.done.push_back(input);
                        heard
                    }
                    None => input,
                },
                news = seen.recv() => match news {
                    Some(Seen::Link(up)) => Input::Link(up),
                    Some(Seen::Vips { asked, all, any }) => Input::Addresses { asked, all, any },
                    Some(Seen::Lost(what)) => give_up(&mut lost, what),
                    None => give_up(&mut lost, "the watch on the interface ended".to_owned()),
                },
                Some((tracker, value)) = facts.next() => Input::Tracked { tracker, value },
                _ = terminate.recv() => terminated(Signal::SIGTERM),
                _ = interrupt.recv() => terminated(Signal::SIGINT),
                Some(ask) = asks.recv() => match answer(ask, &core, &parts, &settings, (counts(), &cloud)) {
                    Some(command) => Input::Command(command),
                    // However many ask: what is due is done between two of them.
                    None => Input::Wake,
                },
                Some(look) = looks.recv() => {
                    // Whoever asked may have left.
                    let _gone = look.send(status(&core, &parts, &settings, (counts(), &cloud)));
                    Input::Wake
                }
                () = sleep_until(Instant::now() + wake) => Input::Wake,
            },
        };
        tracing::trace!(?input, "input");
        core.handle(clock::now(), input, &mut out);
        for action in out.drain().collect::<Vec<_>>() {
            tracing::trace!(?action, "action");
            performer.perform(&mut parts, action).await;
        }
        // After the actions: what it leads to is not theirs to wait for.
        if let Some(cloud) = &cloud {
            cloud.tell(core.tells_cloud());
        }
    }
    notify(&[NotifyState::Stopping]);
    // Sends the last word of the pulses.
    drop(parts.pulses.take());
    let _gone = std::fs::remove_file(&socket);
    // The peer serves already: only the scripts of the end are waited for.
    drop((performer, counts, cloud));
    outside.stop(LAST_SCRIPTS).await;
    tracing::info!("ended");
    lost.map_or(Ok(()), |what| Err(BuildError::Lost(what)))
}

/// Those who want a snapshot over HTTP; nobody without `[observe]`. A daemon without metrics is better than none.
fn looks(settings: &Settings) -> Looks {
    let nobody = || mpsc::channel(1).1;
    settings.observe.map_or_else(nobody, |listen| {
        http::start(listen).unwrap_or_else(|error| {
            tracing::error!(%error, %listen, "no metrics");
            nobody()
        })
    })
}

/// Where the primary's WAL ends by its last pulse, when there are news of this node's own to compare it with.
fn heard_wal(input: &Input, parts: &Parts) -> Option<Input> {
    if !matches!(input, Input::Postgres { news: Postgres::Facts(facts), .. } if facts.in_recovery) {
        return None;
    }
    let record = parts.maps.detector(PEER, Source::Pulse).ok()?;
    let serves = record.flags as u16 & flag::PRIMARY != 0 && State::from_u32(record.state) == State::Alive;
    serves.then_some(Input::PeerWal { timeline: record.timeline, lsn: Lsn(record.lsn) })
}

/// Something that this run is built on is no more: leave the service in order, for the service manager to start anew.
fn give_up(lost: &mut Option<String>, what: String) -> Input {
    if lost.is_some() {
        return Input::Wake;
    }
    tracing::error!(what, "leaving the service to start anew");
    *lost = Some(what);
    Input::Command(Command::Terminate)
}

/// What the pinned detectors know of a peer. A peer that lives tells nothing new, so the kernel would send no verdict of
/// it, and a restarted daemon would take a serving peer for one that was never heard.
fn known(parts: &Parts) -> impl Iterator<Item = Input> {
    [Source::Pulse, Source::Advert].into_iter().filter_map(|source| {
        let known = parts.maps.detector(PEER, source).ok()?;
        let kind = match State::from_u32(known.state) {
            // Said once, by the kernel, to whoever ran then.
            State::Alive if known.hung != 0 => VerdictKind::Hung,
            State::Alive => VerdictKind::Alive,
            // It ended while no daemon ran, and what it said last decides who may be promoted. Only where the program
            // listened all the time: what a detached one did not hear means nothing.
            State::Resigned if parts.adopted => VerdictKind::Resigned,
            State::Dead if parts.adopted => VerdictKind::Dead,
            State::Unknown | State::Resigned | State::Dead => return None,
        };
        Some(Input::Verdict(audit::of_record(&known, source, kind, Nanos(known.last_arrival_ns))))
    })
}

/// Verdicts that never came, from the records.
fn unsaid(audit: &mut Audit, core: &Core, parts: &Parts) -> Vec<Input> {
    let look = |source| {
        let record = parts.maps.detector(PEER, source).ok()?;
        // Nobody who sends pulses: nobody is asked, and silence alone tells.
        let asked = parts.pulses.as_ref().map_or(Some(u64::MAX), |_| Some(parts.maps.signs().ok()?.asked))?;
        let verdict = audit.look(source, &record, core.heartbeat(source), asked, clock::now())?;
        tracing::warn!(?source, kind = ?verdict.kind, "a verdict of the kernel was lost; its record tells");
        Some(Input::Verdict(verdict))
    };
    [Source::Pulse, Source::Advert].into_iter().filter_map(look).collect()
}

/// Says once, at start, that the two data directories can never replicate. Beside the loop: a peer that does not answer
/// must not hold a start up, and a peer that was set up wrongly must not keep the node that serves from serving.
async fn compare_clusters(pg: Pg) {
    let (Ok(ours), Ok(theirs)) = (pg.control(), pg.peer_facts(Duration::from_secs(5)).await) else { return };
    if ours.system_identifier != theirs.system_identifier {
        let (ours, theirs) = (ours.system_identifier, theirs.system_identifier);
        tracing::error!(ours, theirs, "the peer's PostgreSQL is of another cluster: make one of them a standby");
    }
}

fn terminated(signal: Signal) -> Input {
    tracing::info!(signal = signal.as_str(), "asked to end");
    Input::Command(Command::Terminate)
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd does not listen");
    }
}

/// Answers; a request that is a command comes back.
fn answer(ask: Ask, core: &Core, parts: &Parts, settings: &Settings, beside: Besides<'_>) -> Option<Command> {
    let accepted = serde_json::json!({"accepted": true});
    let (answer, command) = match ask.request {
        Request::Status => {
            let status = serde_json::to_value(status(core, parts, settings, beside));
            (status.unwrap_or_else(|error| serde_json::json!({"error": error.to_string()})), None)
        }
        Request::Switchover => (accepted, Some(Command::Switchover)),
        Request::Failover { reason } => {
            tracing::warn!(reason, "an operator forces the takeover");
            (accepted, Some(Command::Failover))
        }
        Request::Pause => (accepted, Some(Command::Pause)),
        Request::Resume => (accepted, Some(Command::Resume)),
        Request::Hold => (accepted, Some(Command::Hold)),
        Request::Reinit => (accepted, Some(Command::Reinit)),
    };
    // A client that left does not want it.
    let _gone = ask.answer.send(answer);
    command
}

/// The gate as the kernel sees it at this instant.
fn gate(parts: &Parts, now: Nanos) -> Option<GateView> {
    let maps = &parts.maps;
    let read = || Ok::<_, LoadError>((maps.current_order()?, maps.signs()?, maps.lease()?, maps.gate_stats()?));
    match read() {
        Ok((order, signs, mut lease, stats)) => {
            lease.dark_ns += parts.dark.0.0;
            lease.darkenings += parts.dark.1;
            Some(GateView::new(now, &order, &signs, &lease, stats))
        }
        Err(error) => {
            tracing::warn!(%error, "status of the gate");
            None
        }
    }
}

fn saved_wal(pg: &Pg) -> Option<SavedWal> {
    let found = pg.saved_wal();
    found.inspect_err(|error| tracing::warn!(%error, "what rejoins have saved of WAL cannot be read")).ok()
}

/// What is not the loop's own.
type Besides<'a> = (Counts, &'a Option<Beside>);

fn status(core: &Core, parts: &Parts, settings: &Settings, (outside, cloud): Besides<'_>) -> Status {
    let now = clock::now();
    let heard = |source| match parts.maps.detector(PEER, source) {
        Ok(detector) => Heard::new(&detector, now.0),
        Err(error) => {
            tracing::warn!(%error, "status");
            Heard::new(&harbor_ha_ebpf::records::Detector::default(), now.0)
        }
    };
    Status {
        instance: settings.node.instance.clone(),
        version: env!("CARGO_PKG_VERSION"),
        now_ns: now.0,
        unix_ns: clock::wall_ns(),
        core: core.snapshot(),
        xdp_mode: parts.attached.name(),
        realtime: parts.pulses.as_ref().map(|pulses| format!("{}; loop {}", pulses.scheduling, of_this_thread())),
        memory: parts.memory.clone(),
        pulses: parts.pulses.as_ref().map(crate::net::pulse::Pulses::counters),
        adverts_heard: heard(Source::Advert),
        pulses_heard: heard(Source::Pulse),
        rejects: rejects(parts.maps.stats(PEER).unwrap_or_default()),
        gate: settings.lease.as_ref().and(settings.postgres.as_ref()).and_then(|_| gate(parts, now)),
        strangers: parts.maps.strangers().map_or(0, |stats| stats.reject_source),
        outside,
        cloud: cloud.as_ref().map(Beside::view),
        saved_wal: parts.pg.as_ref().and_then(saved_wal),
    }
}
