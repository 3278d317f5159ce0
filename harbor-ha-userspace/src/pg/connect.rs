//! Connections: one to the local server, kept ready, and others of a moment.
//!
//! The keeper task owns the control connection: it connects, publishes the session, drives it, and connects anew when
//! it breaks, so that a takeover pays for no connect. It holds the [`Pg`] weakly and ends with it. A session that lets
//! a deadline pass is thrown away: whatever was asked next would queue behind the unanswered question.
//! All questions are simple queries: one round trip, text answers, nothing prepared.

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, NoTls, SimpleQueryMessage, SimpleQueryRow};

use super::{Inner, Pg};

/// A connect to this host that takes longer than this is a postmaster that does not answer.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Between two tries: short enough that a server that has just started is found at once.
const AGAIN: Duration = Duration::from_millis(50);
/// A server that starts or stops says no at once, and logs it; so less often.
const AGAIN_NOT_NOW: Duration = Duration::from_millis(200);
/// After a refusal that will not go away by itself; each one is a line in PostgreSQL's log.
const AGAIN_REFUSED: Duration = Duration::from_secs(1);

/// For every connection: a local commit never waits for the standby, nothing of the role's or the database's settings
/// cuts a statement short, and no function of a user hides one of PostgreSQL's.
const OPTIONS: &str = "-c synchronous_commit=local -c statement_timeout=0 -c lock_timeout=0 \
                       -c idle_in_transaction_session_timeout=0 -c default_transaction_read_only=off \
                       -c search_path=pg_catalog -c extra_float_digits=0";

/// The place of the control connection.
#[derive(Debug, Default)]
pub(super) struct Control {
    keeper: OnceLock<()>,
    slot: watch::Sender<Slot>,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    session: Option<Arc<Session>>,
    last_error: Option<String>,
}

/// A connection with the task that drives it.
pub(super) struct Session {
    client: Client,
    place: String,
    /// Set off by whoever found the session unusable.
    broken: Arc<Notify>,
    driver: Option<JoinHandle<()>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(driver) = &self.driver {
            driver.abort();
        }
    }
}

impl Session {
    /// One question, one round trip.
    pub(super) async fn ask(
        &self,
        what: &'static str,
        sql: &str,
        within: Duration,
    ) -> Result<Vec<SimpleQueryRow>, SqlError> {
        let place = || self.place.clone();
        match timeout(within, self.client.simple_query(sql)).await {
            Ok(Ok(messages)) => Ok(messages
                .into_iter()
                .filter_map(|message| match message {
                    SimpleQueryMessage::Row(row) => Some(row),
                    _ => None,
                })
                .collect()),
            Ok(Err(error)) => Err(SqlError::refused(what, place(), error)),
            Err(_) => {
                self.broken.notify_one();
                Err(SqlError::NoAnswer { what, place: place(), within })
            }
        }
    }

    /// As [`Session::ask`], for questions with exactly one value as their answer.
    pub(super) async fn ask_one(&self, what: &'static str, sql: &str, within: Duration) -> Result<String, SqlError> {
        let rows = self.ask(what, sql, within).await?;
        let value = rows.first().and_then(|row| row.get(0)).map(str::to_owned);
        value.ok_or_else(|| SqlError::Odd { what, place: self.place.clone() })
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }
}

impl Pg {
    /// Begins to keep the control connection ready; must be called inside a runtime. Every question does it too.
    pub fn keep_connected(&self) {
        let weak = Arc::downgrade(&self.inner);
        self.inner.control.keeper.get_or_init(|| drop(tokio::spawn(keep(weak))));
    }

    /// The ready control connection, or the one that is ready before the limit.
    pub(super) async fn session(&self, within: Duration) -> Result<Arc<Session>, SqlError> {
        self.keep_connected();
        let deadline = Instant::now() + within;
        let mut slot = self.inner.control.slot.subscribe();
        loop {
            let last = {
                let now = slot.borrow_and_update();
                match &now.session {
                    Some(session) if !session.client.is_closed() => return Ok(session.clone()),
                    _ => now.last_error.clone(),
                }
            };
            if !matches!(timeout_at(deadline, slot.changed()).await, Ok(Ok(()))) {
                let place = self.inner.settings.socket_dir.display().to_string();
                let last = last.unwrap_or_else(|| "no connect has ended yet".to_owned());
                return Err(SqlError::NotConnected { place, within, last });
            }
        }
    }

    /// One question on the control connection; the limit covers the wait for the connection as well.
    pub(super) async fn ask(
        &self,
        what: &'static str,
        sql: &str,
        within: Duration,
    ) -> Result<Vec<SimpleQueryRow>, SqlError> {
        let deadline = Instant::now() + within;
        let session = self.session(within).await?;
        session.ask(what, sql, deadline.saturating_duration_since(Instant::now())).await
    }

    /// A new connection to the local server.
    pub(super) async fn connect_local(&self) -> Result<Session, Error> {
        self.inner.connect_local().await.map(|(client, place, driver)| driven(client, place, driver))
    }

    /// A new connection to the peer's server, over TCP.
    pub(super) async fn connect_peer(&self, within: Duration) -> Result<Session, SqlError> {
        let peer = self.inner.settings.peer;
        let place = format!("{peer}:{}", self.inner.settings.port);
        let config = self.inner.tcp(peer);
        match timeout(within, config.connect(NoTls)).await {
            Ok(Ok((client, connection))) => Ok(driven(client, place, connection)),
            Ok(Err(error)) => Err(SqlError::refused("a connection", place, error)),
            Err(_) => Err(SqlError::NoAnswer { what: "a connection", place, within }),
        }
    }
}

fn driven(client: Client, place: String, driver: impl Future<Output = Result<(), Error>> + Send + 'static) -> Session {
    let broken = Arc::new(Notify::new());
    Session { client, place, broken, driver: Some(tokio::spawn(async { drop(driver.await) })) }
}

type Driver = tokio_postgres::Connection<tokio_postgres::Socket, tokio_postgres::tls::NoTlsStream>;

impl Inner {
    /// The Unix socket first; TCP only when nothing answers there (a socket file can be swept away by a cleaner).
    async fn connect_local(&self) -> Result<(Client, String, Driver), Error> {
        let mut unix = self.base();
        unix.host_path(&self.settings.socket_dir);
        let first = match unix.connect(NoTls).await {
            Ok((client, driver)) => {
                return Ok((client, self.settings.socket_dir.display().to_string(), driver));
            }
            Err(error) if error.as_db_error().is_some() => return Err(error),
            Err(error) => error,
        };
        let local = Ipv4Addr::LOCALHOST;
        match self.tcp(IpAddr::V4(local)).connect(NoTls).await {
            Ok((client, driver)) => Ok((client, format!("{local}:{}", self.settings.port), driver)),
            Err(error) if error.as_db_error().is_some() => Err(error),
            Err(_) => Err(first),
        }
    }

    fn base(&self) -> Config {
        let mut config = Config::new();
        let settings = &self.settings;
        config.port(settings.port).user(&settings.user).dbname(&settings.dbname);
        config.application_name("harbor-ha").options(OPTIONS).connect_timeout(CONNECT_LIMIT);
        if let Some(password) = &settings.password {
            config.password(password.reveal());
        }
        config
    }

    fn tcp(&self, address: IpAddr) -> Config {
        let mut config = self.base();
        config.host(address.to_string());
        config
    }
}

/// The keeper of the control connection.
async fn keep(pg: Weak<Inner>) {
    loop {
        let Some(inner) = pg.upgrade() else { return };
        let wait = match timeout(CONNECT_LIMIT, inner.connect_local()).await {
            Ok(Ok((client, place, driver))) => {
                let broken = Arc::new(Notify::new());
                let session = Session { client, place, broken: broken.clone(), driver: None };
                inner.control.slot.send_replace(Slot { session: Some(Arc::new(session)), last_error: None });
                drop(inner); // a strong one held here would keep the connection open for ever
                let why = tokio::select! {
                    ended = driver => ended.err().map_or_else(|| "closed".to_owned(), |error| describe(&error)),
                    () = broken.notified() => "a question was not answered in time".to_owned(),
                };
                let Some(inner) = pg.upgrade() else { return };
                tracing::debug!(why, "the control connection ended");
                inner.control.slot.send_replace(Slot { session: None, last_error: Some(why) });
                AGAIN
            }
            Ok(Err(error)) => {
                inner.control.slot.send_replace(Slot { session: None, last_error: Some(describe(&error)) });
                match error.code() {
                    None => AGAIN,
                    Some(code) if *code == SqlState::CANNOT_CONNECT_NOW => AGAIN_NOT_NOW,
                    Some(_) => AGAIN_REFUSED,
                }
            }
            Err(_) => {
                let last_error = Some(format!("no answer within {CONNECT_LIMIT:?}"));
                inner.control.slot.send_replace(Slot { session: None, last_error });
                AGAIN
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// PostgreSQL's own words where there are any; else the chain of causes.
pub(super) fn describe(error: &Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{}: {} (SQLSTATE {})", db.severity(), db.message(), db.code().code());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        let more = deeper.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = deeper.source();
    }
    text
}

/// Why a question has no answer. Worth another try, except for [`SqlError::Refused`].
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// There was no connection to ask on.
    #[error("no connection to PostgreSQL at `{place}` within {within:?}: {last}")]
    NotConnected {
        /// Socket directory.
        place: String,
        /// The limit.
        within: Duration,
        /// How the last connect ended.
        last: String,
    },
    /// Asked, and heard nothing.
    #[error("PostgreSQL at `{place}` did not answer within {within:?} when asked for {what}")]
    NoAnswer {
        /// What was asked.
        what: &'static str,
        /// Socket directory, or address and port.
        place: String,
        /// The limit.
        within: Duration,
    },
    /// Asked, and refused, or the connection broke.
    #[error("PostgreSQL at `{place}` refused {what}: {reason}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Socket directory, or address and port.
        place: String,
        /// PostgreSQL's words.
        reason: String,
        /// Five characters, when PostgreSQL said anything at all.
        sqlstate: Option<String>,
        /// The error itself.
        #[source]
        source: Box<Error>,
    },
    /// The answer is none that PostgreSQL should give.
    #[error("PostgreSQL at `{place}` gave an odd answer when asked for {what}")]
    Odd {
        /// What was asked.
        what: &'static str,
        /// Socket directory, or address and port.
        place: String,
    },
}

impl SqlError {
    pub(super) fn refused(what: &'static str, place: String, error: Error) -> Self {
        let sqlstate = error.code().map(|code| code.code().to_owned());
        Self::Refused { what, place, reason: describe(&error), sqlstate, source: Box::new(error) }
    }

    pub(super) fn is(&self, state: &SqlState) -> bool {
        matches!(self, Self::Refused { sqlstate: Some(code), .. } if code == state.code())
    }
}
