//! Watches the PostgreSQL of this node: its end by pidfd, its health by a probe, its facts by its own words.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use super::repeated::Repeated;
use crate::clock;
use crate::core::facts::AtRest;
use crate::core::{Input, Postgres};
use crate::pg::{ControlError, Pg, Postmaster, Probe, Refusal, apart};

/// Between two lines about one fault that goes on.
const REPEAT: Duration = Duration::from_secs(60);
/// After a mistake of this file's own.
const AGAIN: Duration = Duration::from_millis(500);

/// Runs until the loop is gone. `look` asks for facts at once.
///
/// A watcher that panics is replaced: without one the end of PostgreSQL would go unnoticed.
pub(super) async fn watch(pg: Pg, inputs: mpsc::Sender<Input>, look: Arc<Notify>) {
    while let Err(panic) = tokio::spawn(watch_one(pg.clone(), inputs.clone(), Arc::clone(&look))).await {
        if inputs.is_closed() {
            return;
        }
        tracing::error!(%panic, "the watch on PostgreSQL stopped by its own mistake");
        tokio::time::sleep(AGAIN).await;
    }
}

async fn watch_one(pg: Pg, inputs: mpsc::Sender<Input>, look: Arc<Notify>) {
    let mut unreadable = Repeated::new(REPEAT);
    loop {
        let asked = clock::now();
        let told = match found(&pg).await {
            Found::Running(postmaster) => watch_server(&pg, &postmaster, &inputs, &look).await,
            Found::AtRest(Ok(rest)) => tell(&inputs, asked, Postgres::AtRest(rest)).await,
            Found::AtRest(Err(error)) => {
                if unreadable.is_due() {
                    tracing::error!(%error, "cannot read the data directory");
                }
                !inputs.is_closed()
            }
        };
        if !told {
            return;
        }
        wait(&pg, &look).await;
    }
}

enum Found {
    Running(Postmaster),
    AtRest(Result<AtRest, ControlError>),
}

async fn found(pg: &Pg) -> Found {
    let pg = pg.clone();
    let look = move || match pg.running() {
        Some(postmaster) => Found::Running(postmaster),
        None => Found::AtRest(pg.at_rest()),
    };
    apart(look).await
}

/// One postmaster, until it ends; `false` when nobody listens any more.
async fn watch_server(pg: &Pg, postmaster: &Postmaster, inputs: &mpsc::Sender<Input>, look: &Notify) -> bool {
    let mut quiet = Quiet { silent: Repeated::new(REPEAT), factless: Repeated::new(REPEAT) };
    let ended = postmaster.exited();
    tokio::pin!(ended);
    loop {
        let asked = clock::now();
        let news = tokio::select! {
            biased;
            result = &mut ended => {
                if let Err(error) = result {
                    // Nothing is known of the server: out of descriptors, most likely. It is looked at again.
                    tracing::error!(%error, "cannot watch the postmaster");
                    return !inputs.is_closed();
                }
                return tell(inputs, asked, Postgres::Exited).await;
            }
            news = look_at(pg, &mut quiet) => news,
        };
        if !tell(inputs, asked, news).await {
            return false;
        }
        tokio::select! {
            biased;
            result = &mut ended => return match result {
                Ok(()) => tell(inputs, asked, Postgres::Exited).await,
                Err(_) => !inputs.is_closed(),
            },
            () = wait(pg, look) => {}
        }
    }
}

/// Faults that a server can have for long.
struct Quiet {
    silent: Repeated,
    factless: Repeated,
}

/// A newcomer's view first: a stopped postmaster leaves old sessions alive.
async fn look_at(pg: &Pg, quiet: &mut Quiet) -> Postgres {
    let within = pg.settings().probe_timeout;
    match pg.probe(within).await {
        Probe::Answers { .. } => quiet.silent.over(),
        Probe::NoAnswer { after } => {
            if quiet.silent.is_due() {
                tracing::warn!(?after, "PostgreSQL does not answer a probe");
            }
            return Postgres::NoAnswer;
        }
        Probe::Refused { why: Refusal::TooManyConnections, .. } => {}
        Probe::Refused { text, .. } => {
            tracing::debug!(text, "PostgreSQL is not ready");
            return Postgres::NotReady(text);
        }
        Probe::NotThere { reason } => {
            tracing::debug!(reason, "PostgreSQL does not listen yet");
            return Postgres::NotReady(reason);
        }
    }
    match pg.facts(within).await {
        Ok(facts) => {
            quiet.factless.over();
            Postgres::Facts(facts)
        }
        Err(error) => {
            if quiet.factless.is_due() {
                tracing::warn!(%error, "no facts of PostgreSQL");
            }
            Postgres::NotReady(error.to_string())
        }
    }
}

async fn wait(pg: &Pg, look: &Notify) {
    tokio::select! {
        () = look.notified() => {}
        () = sleep_until(Instant::now() + pg.settings().probe_interval) => {}
    }
}

async fn tell(inputs: &mpsc::Sender<Input>, asked: harbor_ha_ebpf::units::Nanos, news: Postgres) -> bool {
    inputs.send(Input::Postgres { asked, news }).await.is_ok()
}
