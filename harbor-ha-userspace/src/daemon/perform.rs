//! The one place where actions meet adapters. It decides nothing.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use harbor_ha_ebpf::decide::gate::{self, Gate};
use harbor_ha_ebpf::records::Order;
use harbor_ha_ebpf::units::{Nanos, Priority};
use harbor_ha_ebpf::wire::pulse::flag;
use tokio::sync::{Notify, mpsc};

use super::build::Parts;
use super::repeated::Repeated;
use crate::clock;
use crate::config::settings::Settings;
use crate::core::flows::Reset;
use crate::core::witness::{Answer, WitnessCall};
use crate::core::{Action, Done, Input, Promoted, PulseState, Served, StopMode};
use crate::fault;
use crate::kernel::load::LoadError;
use crate::net::reset;
use crate::pg::{self, Pg, RejoinBy, StartAs};
use crate::vrrp::Event;
use crate::witness::{Identity, Witness};

/// PostgreSQL's own limit for `pg_promote`: a standby with a backlog needs its time.
const PROMOTE_LIMIT: Duration = Duration::from_secs(60);
/// A checkpoint before a hand-over; what it does not write then, the shutdown's own writes.
const CHECKPOINT_LIMIT: Duration = Duration::from_secs(30);
/// One question to a server that should answer at once.
const ASK_LIMIT: Duration = Duration::from_secs(2);

/// Performs actions; long ones as tasks that end with an input.
pub(super) struct Performer {
    settings: Settings,
    inputs: mpsc::Sender<Input>,
    look: Arc<Notify>,
    said: PulseState,
    /// Adverts that cannot be sent.
    unsent: Repeated,
    /// Maps that cannot be read or written.
    unread: Repeated,
    /// Where questions for the witness go.
    witness: Option<mpsc::Sender<WitnessCall>>,
    /// Scripts and mail; waits for nobody.
    tell: Box<dyn Fn(&Event) + Send + Sync>,
    /// Ends of short actions, to be handled before anything else.
    pub done: VecDeque<Input>,
    /// The core wants the daemon to end.
    pub exit: bool,
}

impl Performer {
    pub fn new(
        settings: Settings,
        inputs: mpsc::Sender<Input>,
        look: Arc<Notify>,
        tell: Box<dyn Fn(&Event) + Send + Sync>,
    ) -> Self {
        let (unsent, unread) = (Repeated::new(Duration::from_secs(60)), Repeated::new(Duration::from_secs(60)));
        let who = settings.pulse.as_ref().map(|pulse| Identity {
            cluster_id: pulse.cluster_id,
            vrid: settings.vrrp.vrid.as_u8(),
            node: settings.node.address,
        });
        let witness = settings.witness.as_ref().zip(who).map(|(witness, who)| Witness::new(witness, who));
        let witness = witness.map(|witness| super::witness::start(witness, inputs.clone()));
        let (said, done) = (PulseState::default(), VecDeque::new());
        Self { settings, inputs, look, said, unsent, unread, witness, tell, done, exit: false }
    }

    pub async fn perform(&mut self, parts: &mut Parts, action: Action) {
        match action {
            Action::Advert(priority) => {
                if let Some(adverts) = &parts.adverts {
                    match adverts.send(priority) {
                        Ok(()) => self.unsent.over(),
                        Err(error) if self.unsent.is_due() => tracing::warn!(%error, "advert not sent"),
                        Err(_) => {}
                    }
                }
            }
            Action::Pulse(state) => {
                let now = state.flags != self.said.flags;
                // RFC 9568 §6.1: Skew_Time is of the priority that this node has now, not of the one that is configured.
                if state.priority != self.said.priority
                    && let Err(error) = parts.maps.set_priority(Priority(state.priority))
                {
                    self.kernel_refused(&error);
                }
                self.said = state;
                if let Some(pulses) = &parts.pulses {
                    pulses.say(state, now);
                }
                if let Some(flows) = &parts.flows {
                    flows.serving((state.flags & flag::PRIMARY != 0).then_some(state.term));
                }
            }
            Action::Serve => {
                let result = self.serve(parts).await;
                self.done.push_back(Input::Done(Done::Serve(result)));
                self.look.notify_one();
            }
            Action::Announce(count) => announce(parts, count),
            Action::Tickle => {
                if let Some(flows) = &parts.flows {
                    flows.tickle();
                }
            }
            Action::Reset(which) => self.reset(parts, which),
            Action::Withdraw => self.withdraw(parts).await,
            Action::Promote => self.task(parts, |why| Done::Promote(Err(why)), |pg| async move {
                let result = pg.promote(PROMOTE_LIMIT).await;
                let stamps = result.map(|stamps| Promoted { asked: stamps.asked, promoted: stamps.writable });
                Done::Promote(stamps.map_err(|error| error.to_string()))
            }),
            Action::Checkpoint => self.task(parts, |_| Done::Checkpoint, |pg| async move {
                if let Err(error) = pg.checkpoint_before_stop(CHECKPOINT_LIMIT).await {
                    tracing::warn!(%error, "checkpoint before the hand-over");
                }
                Done::Checkpoint
            }),
            Action::Stop(mode) => {
                self.withdraw(parts).await;
                let failed = |why| Done::Stop(Err(why));
                self.task(parts, failed, move |pg| async move { Done::Stop(stop(&pg, mode).await) });
            }
            Action::Start { standby } => self.task(parts, |why| Done::Start(Err(why)), move |pg| async move {
                let role = if standby { StartAs::Standby } else { StartAs::Primary };
                Done::Start(pg.start(role).await.map(|_| ()).map_err(|error| error.to_string()))
            }),
            Action::Rejoin { anew } => self.task(parts, |why| Done::Rejoin(Err(why)), move |pg| async move {
                // The room logs each step itself.
                let by = if anew { RejoinBy::BaseBackup } else { RejoinBy::Anything };
                let result = pg.rejoin(by, |_step| ()).await;
                match &result {
                    Ok(done) => {
                        let (rewound, base_backup) = (done.rewound, done.base_backup.is_some());
                        tracing::info!(rewound, base_backup, timeline = done.timeline, took = ?done.took, "rejoined");
                    }
                    Err(error) => tracing::error!(%error, "rejoin failed"),
                }
                Done::Rejoin(result.map(|_| ()).map_err(|error| error.to_string()))
            }),
            Action::SetSync { peer } => self.task(parts, |why| Done::SetSync(Err(why)), move |pg| async move {
                let names = if peer { pg.settings().peer_name.clone() } else { String::new() };
                let result = pg.set_sync(&names, ASK_LIMIT).await;
                fault::point("sync.done");
                tracing::info!(names, ok = result.is_ok(), "synchronous_standby_names");
                Done::SetSync(result.map(|()| names).map_err(|error| error.to_string()))
            }),
            Action::Order(order) => self.order(parts, order),
            Action::ReadLease => match parts.maps.lease() {
                Ok(lease) => self.done.push_back(Input::Lease(Nanos(lease.leased_until_ns))),
                Err(error) => self.kernel_refused(&error),
            },
            Action::Prepare => {
                for &vip in &self.settings.node.vips {
                    if let Err(error) = parts.interface.add(vip).await {
                        tracing::warn!(%error, "address not put up ahead of time");
                    }
                }
                fault::point("prepare.done");
            }
            Action::Witness(call) => {
                let full = self.witness.as_ref().is_none_or(|witness| witness.try_send(call).is_err());
                if full {
                    let answer = Answer::Unreachable("it has not answered the questions before".to_owned());
                    let asked = clock::now();
                    self.done.push_back(Input::Done(Done::Witness { call, asked, answer }));
                }
            }
            Action::StorePause(paused) => {
                tracing::warn!(paused, "automatic action");
                if let Err(error) = parts.pause_file.set(paused) {
                    tracing::error!(%error, paused, "that automatic action is paused cannot be kept over restarts");
                }
            }
            Action::StoreTerms(terms) => {
                let (file, inputs) = (parts.term_file.clone(), self.inputs.clone());
                tokio::spawn(async move {
                    // A disk may take its time: not on a thread of the runtime.
                    let stored =
                        tokio::task::spawn_blocking(move || file.save(&terms).map_err(|error| error.to_string()));
                    let result = stored.await.unwrap_or_else(|panic| Err(panic.to_string()));
                    fault::point("terms.done");
                    let _ended = inputs.send(Input::Done(Done::StoreTerms(result.map(|()| terms)))).await;
                });
            }
            Action::AskPeer => {
                if let Some(pg) = parts.pg.clone() {
                    let inputs = self.inputs.clone();
                    let asked = tokio::spawn(async move { pg.peer_facts(ASK_LIMIT).await });
                    tokio::spawn(async move {
                        let facts = match asked.await {
                            Ok(Ok(facts)) => Some(facts),
                            Ok(Err(error)) => {
                                tracing::debug!(%error, "the peer's PostgreSQL does not answer");
                                None
                            }
                            Err(panic) => {
                                tracing::error!(%panic, "asking the peer's PostgreSQL");
                                None
                            }
                        };
                        let _ended = inputs.send(Input::PeerPostgres(facts)).await;
                    });
                }
            }
            Action::Report(report) => {
                if report.from == report.to {
                    tracing::warn!(state = %report.to, why = report.why, "not as it should be");
                } else {
                    tracing::info!(from = %report.from, to = %report.to, why = report.why, "role changed");
                    // `systemctl status` shows it.
                    let line = format!("{}: {}", report.to, report.why);
                    let _nobody_listens = sd_notify::notify(&[sd_notify::NotifyState::Status(&line)]);
                }
            }
            Action::Notify(event) => (self.tell)(&event),
            Action::Exit => self.exit = true,
        }
    }

    /// The kernel's gate does as it is told before the next action begins.
    fn order(&mut self, parts: &mut Parts, order: Order) {
        // The promise after the order: what the kernel echoed until then is in it.
        fault::point("order.begin");
        let dark = dark_until_now(parts);
        let read = parts.maps.order(&order).and_then(|()| parts.maps.lease());
        if let Some(dark) = dark.filter(|_| order.solo_until_ns > clock::now().0) {
            // The kernel counts a darkness that an echo ends; this one ends by our own word.
            parts.dark.0 = parts.dark.0.after(dark);
            parts.dark.1 += 1;
        }
        match read {
            Ok(lease) => {
                fault::point("order.done");
                tracing::debug!(?order, "ordered");
                let promise_until = Nanos(lease.promise_until_ns);
                self.done.push_back(Input::Done(Done::Ordered { order, promise_until }));
            }
            Err(error) => self.kernel_refused(&error),
        }
    }

    fn kernel_refused(&mut self, error: &LoadError) {
        if self.unread.is_due() {
            tracing::error!(%error, "the kernel's maps");
        }
    }

    /// Runs a long action; its end, and fresh facts, come back as inputs.
    fn task<F>(&self, parts: &Parts, failed: impl FnOnce(String) -> Done + Send + 'static, action: impl FnOnce(Pg) -> F)
    where
        F: Future<Output = Done> + Send + 'static,
    {
        let Some(pg) = parts.pg.clone() else {
            return;
        };
        let (inputs, look, action) = (self.inputs.clone(), Arc::clone(&self.look), action(pg));
        tokio::spawn(async move {
            let done = ended(action, failed).await;
            let _ended = inputs.send(Input::Done(done)).await;
            look.notify_one();
        });
    }

    async fn serve(&self, parts: &Parts) -> Result<Served, String> {
        for &vip in &self.settings.node.vips {
            parts.interface.add(vip).await.map_err(|error| error.to_string())?;
        }
        fault::point("serve.addresses");
        let vip = clock::now();
        let first = parts.announcer.send(1);
        let garp = clock::now();
        first.map_err(|error| error.to_string())?;
        announce(parts, self.settings.announce.repeat.saturating_sub(1));
        fault::point("serve.done");
        Ok(Served { vip, garp })
    }

    /// While the addresses are there: without them no reset finds its way.
    fn reset(&self, parts: &Parts, which: Reset) {
        let vips: Vec<_> = self.settings.node.vips.iter().map(|vip| vip.address).collect();
        let spared = match (which, &parts.flows) {
            (Reset::Unshared, Some(flows)) => flows.confirmed(),
            (Reset::Unshared, None) | (Reset::All, _) => BTreeSet::new(),
        };
        match reset::connections(&vips, |flow| spared.contains(flow)) {
            Ok(reset) => tracing::info!(reset, left_to_the_peer = spared.len(), "open connections"),
            Err(error) => tracing::warn!(
                %error,
                "open connections are not reset (CONFIG_INET_DIAG_DESTROY): their clients wait for the peer or their limits"
            ),
        }
    }

    async fn withdraw(&self, parts: &Parts) {
        for &vip in &self.settings.node.vips {
            if let Err(error) = parts.interface.remove(vip).await {
                tracing::error!(%error, "address not removed");
            }
        }
        fault::point("withdraw.done");
    }
}

/// How long the gate of a node that is to serve has been dark, if it is.
fn dark_until_now(parts: &Parts) -> Option<Nanos> {
    let maps = &parts.maps;
    let (order, signs, lease) = (maps.current_order().ok()?, maps.signs().ok()?, maps.lease().ok()?);
    let now = clock::now();
    let lit = lease.leased_until_ns.max(gate::solo_until(&order, &signs));
    (gate::state(now, &order, &signs, &lease) == Gate::Expired && lit != 0).then(|| now.since(Nanos(lit)))
}

/// The end of an action, also of one that panicked: the core waits for it, and would do nothing else for ever.
async fn ended(
    action: impl Future<Output = Done> + Send + 'static,
    failed: impl FnOnce(String) -> Done + Send,
) -> Done {
    match tokio::spawn(action).await {
        Ok(done) => done,
        Err(panic) => {
            tracing::error!(%panic, "an action stopped by its own mistake");
            failed(format!("a mistake of harbor-ha: {panic}"))
        }
    }
}

async fn stop(pg: &Pg, mode: StopMode) -> Result<(), String> {
    let mode = match mode {
        StopMode::Fast => pg::StopMode::Fast,
        StopMode::Kill => pg::StopMode::Kill,
    };
    let stopped = pg.stop(mode).await;
    tracing::info!(by = ?stopped.by, took = ?stopped.took, killed = stopped.killed.processes, "PostgreSQL stopped");
    if stopped.killed.left.is_empty() { Ok(()) } else { Err(format!("processes {:?} do not die", stopped.killed.left)) }
}

fn announce(parts: &Parts, count: u32) {
    if let Err(error) = parts.announcer.send(count) {
        tracing::warn!(%error, "gratuitous ARP not sent");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_action_that_panics_ends_as_a_failure() {
        let action = async { panic!("on purpose") };
        let done = ended(action, |why| Done::Promote(Err(why))).await;
        assert!(matches!(&done, Done::Promote(Err(why)) if why.contains("on purpose")), "{done:?}");
        assert_eq!(ended(async { Done::Checkpoint }, |_| unreachable!()).await, Done::Checkpoint);
    }
}
