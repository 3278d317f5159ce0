//! Takes from a dead peer what was decided, and gives it back. Each step is in the audit before it is begun: what cannot
//! be written down is not done.

use std::net::Ipv4Addr;
use std::time::Duration;

use harbor_ha_ebpf::units::Nanos;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::News;
use crate::cloud::{Cloud, CloudError};
use crate::core::cloud::Told;
use crate::core::cloud::fence::{Cause, Order, Refusal, Step, Target, Unfit};
use crate::store::fence::{FenceLog, Line, Outcome, What};

/// A forced stop is one of seconds; longer, and a person has to look.
const STOPS: Duration = Duration::from_secs(120);
/// Between two looks whether it is.
const LOOK: Duration = Duration::from_secs(1);

/// One fencing.
#[derive(Clone)]
pub(super) struct Fencing {
    pub cloud: Cloud,
    pub log: FenceLog,
    /// Its instance.
    pub peer: String,
    /// Its address.
    pub address: Ipv4Addr,
}

/// Whether to go on with what was decided.
pub(super) struct Go {
    /// How it stands.
    pub told: watch::Receiver<Told>,
    /// The takeover after which it was decided.
    pub begun: Nanos,
}

impl Go {
    /// Comes back when it is not to be gone on with.
    async fn ends(&mut self) -> Refusal {
        let begun = self.begun;
        let objects = self.told.wait_for(|told| told.objects(begun).is_some()).await;
        // The daemon has ended: it serves no more.
        objects.map_or(Refusal::NotServing, |told| told.objects(begun).unwrap_or(Refusal::NotServing))
    }
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The service accepted it; of a stop: it is stopped.
    Done,
    /// It was so already, or need not be.
    WasSo(&'static str),
    /// It is only told.
    DryRun,
    /// It was not done; `maybe`: it was asked for, and the answer is what failed.
    Failed { why: String, maybe: bool },
}

impl Ended {
    /// Whether the service was asked, and did it.
    pub const fn called(&self) -> Option<bool> {
        match self {
            Self::Done | Self::WasSo(_) => Some(true),
            Self::DryRun => None,
            Self::Failed { .. } => Some(false),
        }
    }

    /// The service did it, or may have; of a binding that is to be: it is.
    pub const fn carried_out(&self) -> bool {
        matches!(self, Self::Done | Self::Failed { maybe: true, .. })
    }

    /// For the status.
    pub fn in_words(&self, step: Step) -> String {
        match self {
            Self::Done => format!("{}: done", name(step)),
            Self::WasSo(what) => format!("{}: {what}", name(step)),
            Self::DryRun => format!("{}: would be done (cloud.fence_dry_run)", name(step)),
            Self::Failed { why, .. } => format!("{}: FAILED: {why}", name(step)),
        }
    }
}

impl From<CloudError> for Ended {
    fn from(error: CloudError) -> Self {
        let maybe = matches!(error, CloudError::Unreachable { .. } | CloudError::Unusable { .. });
        Self::Failed { why: error.to_string(), maybe }
    }
}

impl From<Unfit> for Ended {
    fn from(unfit: Unfit) -> Self {
        Self::Failed { why: unfit.to_string(), maybe: false }
    }
}

/// Of a step, in a word.
pub(super) const fn name(step: Step) -> &'static str {
    match step {
        Step::Unassociate => "unassociate",
        Step::Stop => "stop",
        Step::Associate => "associate",
        Step::BindOwn => "bind-own",
    }
}

impl Fencing {
    /// Carries an order out, beside everything else.
    pub fn start(self, order: Order, cause: Cause, go: Go, tell: mpsc::Sender<News>) {
        tokio::spawn(async move {
            let done = tokio::spawn({
                let tell = tell.clone();
                async move { self.all(order, cause, go, &tell).await }
            });
            let well = done.await.unwrap_or_else(|panic| {
                tracing::error!(%panic, "fencing stopped by its own mistake");
                false
            });
            let _ended = tell.send(News::Fenced { well }).await;
        });
    }

    /// Binds the peer, or this node itself, again.
    pub fn give_back(self, step: Step, tell: mpsc::Sender<News>) {
        tokio::spawn(async move {
            let why = match step {
                Step::BindOwn => "this node serves, and is not bound",
                Step::Associate | Step::Unassociate | Step::Stop => "the peer is a standby again",
            };
            let done = tokio::spawn(async move { self.step(step, why, None).await });
            let ended = done.await.unwrap_or_else(|panic| {
                let why = format!("a mistake of harbor-ha: {panic}");
                Ended::Failed { why, maybe: false }
            });
            // What is bound, by whomever, is given back.
            let ended = if matches!(ended, Ended::WasSo(_)) { Ended::Done } else { ended };
            let ended = match ended {
                // To be looked at again, not taken for done.
                Ended::Failed { why, .. } => Ended::Failed { why, maybe: false },
                ended => ended,
            };
            let _ended = tell.send(News::Step { step, ended }).await;
        });
    }

    /// Whether every step ended as it should.
    async fn all(self, order: Order, cause: Cause, mut go: Go, tell: &mpsc::Sender<News>) -> bool {
        let outcome = if order.dry_run { Outcome::DryRun } else { Outcome::Begun };
        let why = format!("the peer's end was {}", cause.name());
        if let Err(error) = self.write(What::Fence, outcome, &self.peer, &why).await {
            tracing::error!(error, "the peer is not fenced: the audit cannot be written");
            return false;
        }
        let mut well = true;
        for step in order.steps {
            let ended =
                if order.dry_run { self.told(step, &why).await } else { self.step(step, &why, Some(&mut go)).await };
            well &= !matches!(ended, Ended::Failed { .. });
            let _ended = tell.send(News::Step { step, ended }).await;
        }
        well
    }

    async fn told(&self, step: Step, why: &str) -> Ended {
        tracing::warn!(step = name(step), peer = self.peer, why, "would be done to the peer (cloud.fence_dry_run)");
        match self.write(step.into(), Outcome::DryRun, &self.peer, why).await {
            Ok(()) => Ended::DryRun,
            Err(why) => Ended::Failed { why, maybe: false },
        }
    }

    async fn step(&self, step: Step, why: &str, go: Option<&mut Go>) -> Ended {
        if let Some(refusal) = go.as_ref().and_then(|go| go.told.borrow().objects(go.begun)) {
            let why = refusal.to_string();
            tracing::warn!(step = name(step), why, "fencing: not gone on with");
            return Ended::Failed { why, maybe: false };
        }
        let instance = match self.instance_of(step).await {
            Ok(instance) => instance,
            Err(error) => {
                tracing::error!(step = name(step), %error, "not done: which instance this is, is not known");
                return Ended::Failed { why: error.to_string(), maybe: false };
            }
        };
        if let Err(why) = self.write(step.into(), Outcome::Begun, instance, why).await {
            tracing::error!(step = name(step), why, "not done: the audit cannot be written");
            return Ended::Failed { why, maybe: false };
        }
        tracing::warn!(step = name(step), instance, why, "fencing: begun");
        let call = async {
            match step {
                Step::Unassociate => self.unassociate().await,
                Step::Stop => self.stop().await,
                Step::Associate | Step::BindOwn => self.associate(instance).await,
            }
        };
        let objection = async {
            match go {
                Some(go) => go.ends().await,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            ended = call => ended.unwrap_or_else(Ended::from),
            // The call is given up where it is: it may have been heard.
            refusal = objection => Ended::Failed { why: refusal.to_string(), maybe: true },
        };
        let (outcome, why) = match &ended {
            Ended::Done => (Outcome::Done, ""),
            Ended::WasSo(what) => (Outcome::WasSo, *what),
            Ended::DryRun => (Outcome::DryRun, ""),
            Ended::Failed { why, .. } => (Outcome::Failed, why.as_str()),
        };
        match &ended {
            Ended::Failed { why, .. } => tracing::error!(step = name(step), instance, why, "fencing: failed"),
            ended => tracing::warn!(step = name(step), instance, ?ended, "fencing: ended"),
        }
        if let Err(error) = self.write(step.into(), outcome, instance, why).await {
            tracing::error!(error, step = name(step), "its end is not in the audit");
        }
        ended
    }

    /// What a step is about: the peer, or this node.
    async fn instance_of(&self, step: Step) -> Result<&str, CloudError> {
        match step {
            Step::BindOwn => self.cloud.instance().await,
            Step::Unassociate | Step::Stop | Step::Associate => Ok(&self.peer),
        }
    }

    async fn is_own(&self) -> Result<bool, CloudError> {
        Ok(self.cloud.instance().await? == self.peer)
    }

    async fn unassociate(&self) -> Result<Ended, CloudError> {
        // Only what the HaVip names can be taken away, and it can be given back: the instance itself is not asked for,
        // so that this is done also where ECS does not answer.
        let target = Target { own: self.is_own().await?, address: None, local_disks: 0 };
        if let Err(unfit) = target.fit(Step::Unassociate, self.address) {
            return Ok(unfit.into());
        }
        let Some(havip) = self.cloud.our_havip().await? else { return Ok(Ended::WasSo("there is no HaVip")) };
        if !havip.members.contains(&self.peer) {
            return Ok(Ended::WasSo("the peer was not bound"));
        }
        // By force: it may be the master, and that is when it matters.
        self.cloud.havip().unassociate(&havip.id, &self.peer, true).await?;
        Ok(Ended::Done)
    }

    async fn stop(&self) -> Result<Ended, CloudError> {
        let own = self.is_own().await?;
        let Some(peer) = self.cloud.ecs().describe(&[&self.peer]).await?.into_iter().next() else {
            return Ok(Ended::Failed { why: "there is no such instance".to_owned(), maybe: false });
        };
        let target = Target { own, address: peer.address, local_disks: peer.local_disks };
        if let Err(unfit) = target.fit(Step::Stop, self.address) {
            return Ok(unfit.into());
        }
        let before = peer.status.is_one_of(&["Stopped", "Stopping"]);
        if !before {
            self.cloud.ecs().stop(&self.peer, true, false).await?;
        }
        Ok(match self.stopped().await {
            Ok(()) if before => Ended::WasSo("it was stopped"),
            Ok(()) => Ended::Done,
            Err(last) => Ended::Failed { why: format!("accepted, and after {STOPS:?} {last}"), maybe: true },
        })
    }

    /// Waits until it is: the service accepts a stop long before it is one.
    async fn stopped(&self) -> Result<(), String> {
        let until = Instant::now() + STOPS;
        loop {
            let last = match self.cloud.ecs().status(&[&self.peer]).await {
                Ok(found) => match found.first() {
                    Some((_, status)) if status.is("Stopped") => return Ok(()),
                    Some((_, status)) => format!("it is {status}"),
                    None => "it is nowhere".to_owned(),
                },
                Err(error) => error.to_string(),
            };
            if Instant::now() >= until {
                return Err(last);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn associate(&self, instance: &str) -> Result<Ended, CloudError> {
        let Some(havip) = self.cloud.our_havip().await? else { return Ok(Ended::WasSo("there is no HaVip")) };
        if havip.of_interfaces {
            return Ok(Ended::WasSo("network interfaces are bound, not instances"));
        }
        if havip.members.iter().any(|member| member == instance) {
            return Ok(Ended::WasSo("it is bound"));
        }
        self.cloud.havip().associate(&havip.id, instance).await?;
        Ok(Ended::Done)
    }

    /// Beside the runtime: a disk may take its time.
    async fn write(&self, what: What, outcome: Outcome, instance: &str, why: &str) -> Result<(), String> {
        let (log, line) = (self.log.clone(), Line::new(what, outcome, instance, why));
        let written = tokio::task::spawn_blocking(move || log.append(&line)).await;
        let path = self.log.path().display();
        written
            .map_err(|panic| panic.to_string())?
            .map_err(|error| format!("`{path}`: {error}; look at the space and the rights of `node.state_dir`"))
    }
}
