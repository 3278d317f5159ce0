//! The client: inserts numbered rows through the virtual address and keeps every acknowledgement.
//!
//! In calm one connection writes every few milliseconds. Once no acknowledgement came for `PATIENCE`, new
//! connections are tried every `EVERY`, side by side, as a SYN that went to a dead card is repeated by the
//! kernel only after a second. The first insert that is acknowledged ends the storm, and its connection
//! becomes the calm one. An insert whose fate is unknown is never repeated: a fresh number follows it, so an
//! acknowledged number that is not in the table is a lost row and nothing else.
//!
//! The same client can read instead: with a synchronous standby that is away, writes wait while reads are answered, and
//! only the reads tell for how long nobody served.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Statement};

use super::capture::Capture;
use super::state::VIP;
use super::{Lab, Side, clock, netns};

/// Between two inserts in calm, and between two attempts in a storm.
const EVERY: Duration = Duration::from_millis(3);
/// Without an acknowledgement for so long the storm begins: longer than a commit with two fsyncs mostly takes
/// (up to 16 ms on a busy machine), shorter than any takeover of a silent node.
const PATIENCE: Duration = Duration::from_millis(20);
/// A bound for the storm: a server has 300 connections.
const OUTSTANDING: usize = 60;
/// The same for a read, which waits for no disk.
const READ_PATIENCE: Duration = Duration::from_millis(10);
/// Of one attempt to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// Of one insert. Long: PostgreSQL keeps a server process for each that is given up while it waits for the
/// standby, and a server whose connections are used up is a fault that nobody asked for.
const INSERT_LIMIT: Duration = Duration::from_secs(10);
/// The table says whose disk the row went to first: no other name is sure to differ between the nodes.
const INSERT: &str = "INSERT INTO lab_rows (id, round) VALUES ($1, $2) RETURNING current_setting('data_directory')";

/// A read says the same of its server, and waits for nobody but it.
const READ: &str = "SELECT current_setting('data_directory')";

/// What a client does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Work {
    #[default]
    Insert,
    Read,
}

impl Work {
    const fn statement(self) -> &'static str {
        match self {
            Self::Insert => INSERT,
            Self::Read => READ,
        }
    }

    const fn patience(self) -> Duration {
        match self {
            Self::Insert => PATIENCE,
            Self::Read => READ_PATIENCE,
        }
    }
}

/// An insert that the server acknowledged, or a read that it answered.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    /// The row; of a read, its number.
    pub id: i64,
    /// The round it was sent in.
    pub round: u32,
    /// CLOCK_MONOTONIC, when the acknowledgement was read.
    pub at_ns: u64,
    /// Who acknowledged.
    pub by: Side,
}

/// The writing thread; stops when dropped.
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    work: Work,
    stop: AtomicBool,
    round: AtomicU32,
    next: AtomicU64,
    acks: Mutex<Vec<Ack>>,
    last_error: Mutex<String>,
    moves: Arc<AtomicUsize>,
}

impl Writer {
    /// Begins to write, from inside the client's namespace.
    ///
    /// # Errors
    /// No such namespace.
    pub fn start(lab: &Lab, capture: &Capture) -> Result<Self> {
        Self::at(Work::Insert, lab, capture)
    }

    /// Begins to read, from inside the client's namespace.
    ///
    /// # Errors
    /// No such namespace.
    pub fn start_reading(lab: &Lab, capture: &Capture) -> Result<Self> {
        Self::at(Work::Read, lab, capture)
    }

    fn at(work: Work, lab: &Lab, capture: &Capture) -> Result<Self> {
        let shared = Arc::new(Shared { work, moves: capture.moves(), ..Shared::default() });
        let (for_thread, home) = (Arc::clone(&shared), lab.state().home.join("a").display().to_string());
        let name = lab.state().netns("c");
        netns::inode(&name)?;
        let write = move || {
            let written = netns::enter(&name).and_then(|()| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(write(&for_thread, &home));
                Ok(())
            });
            if let Err(error) = written {
                *for_thread.last_error.lock().expect("no holder panics") = format!("{error:#}");
            }
        };
        let thread = std::thread::Builder::new().name("writer".into()).spawn(write)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Rows from now on belong to this round.
    pub fn begin_round(&self, round: u32) {
        self.shared.round.store(round, Ordering::Relaxed);
    }

    /// All acknowledgements so far.
    ///
    /// # Panics
    /// The writing thread panicked.
    pub fn acks(&self) -> Vec<Ack> {
        self.shared.acks.lock().expect("no holder panics").clone()
    }

    /// How many a node acknowledged in a round.
    ///
    /// # Panics
    /// The writing thread panicked.
    pub fn count(&self, round: u32, by: Side) -> usize {
        let acks = self.shared.acks.lock().expect("no holder panics");
        acks.iter().rev().take_while(|ack| ack.round >= round).filter(|ack| ack.round == round && ack.by == by).count()
    }

    /// When a node first acknowledged something after an instant.
    ///
    /// # Panics
    /// The writing thread panicked.
    pub fn first_after(&self, at_ns: u64, by: Side) -> Option<u64> {
        let acks = self.shared.acks.lock().expect("no holder panics");
        acks[acks.partition_point(|ack| ack.at_ns < at_ns)..].iter().find(|ack| ack.by == by).map(|ack| ack.at_ns)
    }

    /// The longest time without an acknowledgement that ended after an instant, in nanoseconds.
    ///
    /// # Panics
    /// The writing thread panicked.
    pub fn longest_gap(&self, at_ns: u64) -> Option<u64> {
        let acks = self.shared.acks.lock().expect("no holder panics");
        let first = acks.partition_point(|ack| ack.at_ns < at_ns).saturating_sub(1);
        acks[first..].windows(2).map(|pair| pair[1].at_ns - pair[0].at_ns).max()
    }

    /// Who acknowledged from an instant on: each node once for each time that it followed the other one.
    ///
    /// # Panics
    /// The writing thread panicked.
    pub fn served_by(&self, since_ns: u64) -> Vec<Side> {
        let acks = self.shared.acks.lock().expect("no holder panics");
        let mut sides: Vec<Side> =
            acks[acks.partition_point(|ack| ack.at_ns < since_ns)..].iter().map(|ack| ack.by).collect();
        sides.dedup();
        sides
    }

    /// What went wrong last, for a report.
    ///
    /// # Panics
    /// The writing thread panicked.
    pub fn last_error(&self) -> String {
        self.shared.last_error.lock().expect("no holder panics").clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A connection that has written.
struct Link {
    client: Client,
    statement: Statement,
    _driver: Driver,
}

/// Ends the connection with its owner.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn write(shared: &Arc<Shared>, home_of_a: &str) {
    let home: Arc<str> = home_of_a.into();
    let mut calm: Option<Link> = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let mut tries = Tries::default();
        if let Some(link) = calm.take() {
            let moves = shared.moves.load(Ordering::Relaxed);
            tries.add(ask(link, Arc::clone(shared), Arc::clone(&home)), Arc::new(AtomicBool::new(true)), moves);
        }
        calm = first_success(shared, &home, &mut tries).await;
        // Dropping `tries` closes the connections that lost the race.
        drop(tries);
        sleep(EVERY).await;
    }
}

/// Waits for the insert that is under way, and begins more when it takes too long or fails.
async fn first_success(shared: &Arc<Shared>, home: &Arc<str>, tries: &mut Tries) -> Option<Link> {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    if !tries.set.is_empty() {
        ticks.reset_after(shared.work.patience());
    }
    while !shared.stop.load(Ordering::Relaxed) {
        tokio::select! {
            biased;
            Some(ended) = tries.set.join_next() => match ended {
                Ok(Ok((link, ack))) => {
                    shared.acks.lock().expect("no holder panics").push(ack);
                    return Some(link);
                }
                Ok(Err(error)) => {
                    *shared.last_error.lock().expect("no holder panics") = format!("{error:#}");
                    // The calm connection broke: there is nothing to be patient about.
                    if tries.set.is_empty() {
                        ticks.reset_after(EVERY / 3);
                    }
                }
                // An attempt that was given up.
                Err(_) => {}
            },
            _ = ticks.tick() => {
                let moves = shared.moves.load(Ordering::Relaxed);
                if tries.make_room(moves) {
                    let connected = Arc::new(AtomicBool::new(false));
                    tries.add(open(Arc::clone(shared), Arc::clone(home), Arc::clone(&connected)), connected, moves);
                }
            }
        }
    }
    None
}

/// The attempts under way, the oldest first.
#[derive(Default)]
struct Tries {
    set: JoinSet<Result<(Link, Ack)>>,
    list: VecDeque<Try>,
}

struct Try {
    handle: AbortHandle,
    connected: Arc<AtomicBool>,
    /// Of the address, when the attempt began.
    moves: usize,
}

impl Tries {
    fn add(
        &mut self,
        attempt: impl Future<Output = Result<(Link, Ack)>> + Send + 'static,
        connected: Arc<AtomicBool>,
        moves: usize,
    ) {
        let handle = self.set.spawn(attempt);
        self.list.push_back(Try { handle, connected, moves });
    }

    /// At the bound an attempt makes way that a newer one may do better than: the oldest whose SYN is lost, or
    /// that waits for a host which the address has left since. One that waits for the right host stays.
    fn make_room(&mut self, moves: usize) -> bool {
        self.list.retain(|it| !it.handle.is_finished());
        if self.list.len() < OUTSTANDING {
            return true;
        }
        let hopeless = |it: &Try| it.moves != moves || !it.connected.load(Ordering::Relaxed);
        let oldest = self.list.iter().position(hopeless).and_then(|at| self.list.remove(at));
        oldest.is_some_and(|it| {
            it.handle.abort();
            true
        })
    }
}

async fn open(shared: Arc<Shared>, home: Arc<str>, connected: Arc<AtomicBool>) -> Result<(Link, Ack)> {
    let mut config = tokio_postgres::Config::new();
    config.host(VIP.to_string()).user("lab_writer").dbname("postgres").application_name("lab_writer");
    let connecting = timeout(CONNECT_LIMIT, config.connect(NoTls));
    let (client, connection) = connecting.await.context("no connection within its limit")??;
    connected.store(true, Ordering::Relaxed);
    let driver = Driver(tokio::spawn(connection).abort_handle());
    let statement = client.prepare(shared.work.statement()).await?;
    ask(Link { client, statement, _driver: driver }, shared, home).await
}

async fn ask(link: Link, shared: Arc<Shared>, home_of_a: Arc<str>) -> Result<(Link, Ack)> {
    let id = shared.next.fetch_add(1, Ordering::Relaxed) as i64;
    let round = shared.round.load(Ordering::Relaxed);
    let row: [&(dyn ToSql + Sync); 2] = [&id, &(round as i32)];
    let parameters = if shared.work == Work::Insert { &row[..] } else { &[] };
    let asking = timeout(INSERT_LIMIT, link.client.query_one(&link.statement, parameters));
    let row = asking.await.context("a question was given up")??;
    let at_ns = clock::now_ns();
    let folder: &str = row.try_get(0)?;
    let by = if folder.starts_with(&*home_of_a) { Side::A } else { Side::B };
    Ok((link, Ack { id, round, at_ns, by }))
}
