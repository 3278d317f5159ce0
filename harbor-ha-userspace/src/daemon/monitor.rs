//! Watches the PostgreSQL of this node: its end by pidfd, its health by a probe, its facts by its own words.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use crate::core::{Input, Postgres};
use crate::net::clock;
use crate::pg::{Pg, Postmaster, Probe, Refusal};

/// Runs until the loop is gone. `look` asks for facts at once.
pub(super) async fn watch(pg: Pg, inputs: mpsc::Sender<Input>, look: Arc<Notify>) {
    loop {
        let asked = clock::now();
        let told = match pg.running() {
            Some(postmaster) => watch_server(&pg, &postmaster, &inputs, &look).await,
            None => match pg.at_rest() {
                Ok(rest) => tell(&inputs, asked, Postgres::AtRest(rest)).await,
                Err(error) => {
                    tracing::error!(%error, "cannot read the data directory");
                    true
                }
            },
        };
        if !told {
            return;
        }
        wait(&pg, &look).await;
    }
}

/// One postmaster, until it ends; `false` when nobody listens any more.
async fn watch_server(pg: &Pg, postmaster: &Postmaster, inputs: &mpsc::Sender<Input>, look: &Notify) -> bool {
    let ended = postmaster.exited();
    tokio::pin!(ended);
    loop {
        let asked = clock::now();
        let news = tokio::select! {
            biased;
            result = &mut ended => {
                if let Err(error) = result {
                    tracing::error!(%error, "cannot watch the postmaster");
                }
                return tell(inputs, asked, Postgres::Exited).await;
            }
            news = look_at(pg) => news,
        };
        if !tell(inputs, asked, news).await {
            return false;
        }
        tokio::select! {
            biased;
            _ = &mut ended => return tell(inputs, asked, Postgres::Exited).await,
            () = wait(pg, look) => {}
        }
    }
}

/// A newcomer's view first: a stopped postmaster leaves old sessions alive.
async fn look_at(pg: &Pg) -> Postgres {
    let within = pg.settings().probe_timeout;
    match pg.probe(within).await {
        Probe::Answers { .. } => {}
        Probe::NoAnswer { after } => {
            tracing::warn!(?after, "PostgreSQL does not answer a probe");
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
        Ok(facts) => Postgres::Facts(facts),
        Err(error) => {
            tracing::warn!(%error, "no facts of PostgreSQL");
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
