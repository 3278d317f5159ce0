//! Does the server answer a newcomer?
//!
//! Each probe is a new connection, on purpose: the kernel accepts for a stopped postmaster until its backlog is full,
//! and a backend that exists already goes on answering. A refusal is an answer: a server that starts, stops or is full
//! is not dead. How many silent probes make a hung server is for `core` to say.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::Pg;
use super::connect::{SqlError, describe};

/// How a probe ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It connected and selected.
    Answers {
        /// From the connect on.
        took: Duration,
    },
    /// The server spoke, and said no.
    Refused {
        /// The kind of no.
        why: Refusal,
        /// PostgreSQL's words.
        text: String,
    },
    /// Somebody listens, and nothing came back in time.
    NoAnswer {
        /// The limit.
        after: Duration,
    },
    /// Nobody listens.
    NotThere {
        /// The kernel's words.
        reason: String,
    },
}

/// Kinds of refusal, by SQLSTATE and never by text, which is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 57P03: starting, stopping, or recovering after a crash of a child.
    NotNow,
    /// 57P01, 57P02: this very session was ended by a shutdown or a crash.
    Ended,
    /// 53300: every connection is taken.
    TooManyConnections,
    /// Another class: authentication, a missing database. The server lives; the configuration is wrong.
    Other,
}

impl Refusal {
    fn of(code: &SqlState) -> Self {
        match code {
            code if *code == SqlState::CANNOT_CONNECT_NOW => Self::NotNow,
            code if *code == SqlState::ADMIN_SHUTDOWN || *code == SqlState::CRASH_SHUTDOWN => Self::Ended,
            code if *code == SqlState::TOO_MANY_CONNECTIONS => Self::TooManyConnections,
            _ => Self::Other,
        }
    }
}

impl Pg {
    /// Opens a new connection and selects; never takes longer than the limit.
    pub async fn probe(&self, within: Duration) -> Probe {
        let begun = Instant::now();
        match timeout(within, self.knock(within)).await {
            Ok(Ok(())) => Probe::Answers { took: begun.elapsed() },
            Ok(Err(outcome)) => outcome,
            Err(_) => Probe::NoAnswer { after: within },
        }
    }

    async fn knock(&self, within: Duration) -> Result<(), Probe> {
        let session = self.connect_local().await.map_err(|error| outcome(&error))?;
        match session.ask("`SELECT 1`", "SELECT 1", within).await {
            Ok(_) => Ok(()),
            Err(SqlError::Refused { source, .. }) => Err(outcome(&source)),
            Err(_) => Err(Probe::NoAnswer { after: within }),
        }
    }
}

fn outcome(error: &Error) -> Probe {
    match error.code() {
        Some(code) => Probe::Refused { why: Refusal::of(code), text: describe(error) },
        None => Probe::NotThere { reason: describe(error) },
    }
}
