//! Asks the witness: one question at a time, each with its deadline, beside the loop.

use std::time::Duration;

use harbor_ha_ebpf::units::Nanos;
use tokio::sync::mpsc;

use super::repeated::Repeated;
use crate::clock;
use crate::core::witness::{Answer, WitnessCall};
use crate::core::{Done, Input};
use crate::witness::{Refusal, Witness, WitnessError};

/// Questions that may wait: the core asks one at a time of each kind.
const QUESTIONS: usize = 8;

/// Starts the runner; questions go into what comes back.
pub(super) fn start(witness: Witness, inputs: mpsc::Sender<Input>) -> mpsc::Sender<WitnessCall> {
    let (ask, questions) = mpsc::channel(QUESTIONS);
    tokio::spawn(run(witness, questions, inputs));
    ask
}

async fn run(mut witness: Witness, mut questions: mpsc::Receiver<WitnessCall>, inputs: mpsc::Sender<Input>) {
    let mut away = Repeated::new(Duration::from_secs(60));
    while let Some(call) = questions.recv().await {
        let before = clock::now();
        let result = match call {
            WitnessCall::Acquire { term, follows } => {
                witness.acquire(term, follows).await.map(|grant| (grant.asked, grant.ttl))
            }
            WitnessCall::Release { term } => witness.release(term).await.map(|()| (before, Duration::ZERO)),
            WitnessCall::Revoke { term } => witness.revoke(term).await.map(|()| (before, Duration::ZERO)),
            WitnessCall::Restore { term } => witness.restore(term).await.map(|()| (before, Duration::ZERO)),
        };
        let took = clock::now().since(before);
        let (asked, answer) = match result {
            Ok((asked, ttl)) => {
                away.over();
                tracing::debug!(?call, took_us = took.0 / 1000, "the witness granted");
                (asked, Answer::Granted { ttl: Nanos(ttl.as_nanos() as u64) })
            }
            Err(WitnessError::Refused(refusal)) => {
                away.over();
                let why = refusal.to_string();
                tracing::info!(?call, why, "the witness refused");
                let answer = match refusal {
                    Refusal::Stale { highest } => Answer::Outrun { term: highest.term, why },
                    Refusal::Held { .. } | Refusal::Revoked { .. } | Refusal::Lost { .. } => Answer::Refused(why),
                };
                (before, answer)
            }
            Err(error) => {
                if away.is_due() {
                    tracing::warn!(?call, %error, "the witness");
                }
                (before, Answer::Unreachable(error.to_string()))
            }
        };
        if inputs.send(Input::Done(Done::Witness { call, asked, answer })).await.is_err() {
            return;
        }
    }
}
