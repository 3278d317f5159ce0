//! A pool of connections that were open before a fault: how long until their client notices, and is served again.
//!
//! Opened through the virtual address from the client host, a third each: idle, waiting for a reply, busy with small
//! queries. Nothing helps the client: no keepalives, no limits of its own. What it learns, it learns from the
//! network: a reset, an end, an error. A dead machine says none of these, and the client that only waits never learns.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls};

use super::state::VIP;
use super::{Lab, clock, netns};

/// Between two queries of a busy connection.
const PACE: Duration = Duration::from_millis(50);
/// Of one attempt to connect anew, with its answer. One that meets a shut gate is lost, and TCP itself would try again
/// after a second: as short as a busy host allows, so that the takeover is measured and not this.
const AGAIN_LIMIT: Duration = Duration::from_millis(250);
/// All connections, in calm.
const OPEN_LIMIT: Duration = Duration::from_secs(30);

/// What a connection was doing when the fault came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Nothing, as most connections of a pool.
    Idle,
    /// Waiting for a reply that takes its time.
    Waiting,
    /// One small query after the other.
    Busy,
}

impl Doing {
    const ALL: [Self; 3] = [Self::Idle, Self::Waiting, Self::Busy];

    const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Waiting => "waiting",
            Self::Busy => "busy",
        }
    }
}

/// What became of one connection; instants are CLOCK_MONOTONIC nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Fate {
    /// What it was doing.
    pub doing: Doing,
    /// Its client learnt that it is gone.
    pub noticed_ns: Option<u64>,
    /// The connection in its place had its first answer.
    pub replaced_ns: Option<u64>,
}

/// The pool; its connections are closed when it is dropped.
pub struct Pool {
    fates: Arc<Mutex<Vec<Fate>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pool {
    /// Opens so many connections and waits until all are at what they shall be doing.
    ///
    /// # Errors
    /// They are not open within half a minute.
    ///
    /// # Panics
    /// The pool's thread panicked.
    pub fn open(lab: &Lab, size: usize) -> Result<Self> {
        let fates = (0..size).map(|at| Fate { doing: Doing::ALL[at % 3], noticed_ns: None, replaced_ns: None });
        let fates = Arc::new(Mutex::new(fates.collect::<Vec<_>>()));
        let (stop, ready) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new((0, String::new()))));
        let name = lab.state().netns("c");
        netns::inode(&name)?;
        let (ours, ends, opened) = (Arc::clone(&fates), Arc::clone(&stop), Arc::clone(&ready));
        let work = move || {
            let worked = netns::enter(&name).and_then(|()| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(keep(&ours, &ends, &opened));
                Ok(())
            });
            if let Err(why) = worked {
                opened.lock().expect("no holder panics").1 = format!("{why:#}");
            }
        };
        let thread = std::thread::Builder::new().name("pool".into()).spawn(work)?;
        let pool = Self { fates, stop, thread: Some(thread) };
        lab.wait(&format!("{size} connections are open"), OPEN_LIMIT, || {
            let (open, why) = ready.lock().expect("no holder panics").clone();
            ensure!(open == size, "{open} so far; last error: {why}");
            Ok(())
        })?;
        Ok(pool)
    }

    /// What became of them by now.
    ///
    /// # Panics
    /// The pool's thread panicked.
    pub fn fates(&self) -> Vec<Fate> {
        self.fates.lock().expect("no holder panics").clone()
    }

    /// Waits until all are replaced, for so long at most.
    ///
    /// # Errors
    /// Says how many are not.
    pub fn wait(&self, lab: &Lab, limit: Duration) -> Result<()> {
        lab.wait("the pool's connections are replaced", limit, || {
            let fates = self.fates();
            let left = fates.iter().filter(|fate| fate.replaced_ns.is_none()).count();
            ensure!(left == 0, "{left} of {} are not", fates.len());
            Ok(())
        })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How many are open, and what went wrong last.
type Opened = Mutex<(usize, String)>;

async fn keep(fates: &Arc<Mutex<Vec<Fate>>>, stop: &AtomicBool, opened: &Arc<Opened>) {
    let mut members = JoinSet::new();
    let list = fates.lock().expect("no holder panics").clone();
    for (at, Fate { doing, .. }) in list.into_iter().enumerate() {
        let (fates, opened) = (Arc::clone(fates), Arc::clone(opened));
        members.spawn(async move {
            // Before the fault an attempt may fail because the others come at the same time.
            let first = again(&opened).await;
            opened.lock().expect("no holder panics").0 += 1;
            until_gone(doing, first).await;
            fates.lock().expect("no holder panics")[at].noticed_ns = Some(clock::now_ns());
            let _second = again(&opened).await;
            fates.lock().expect("no holder panics")[at].replaced_ns = Some(clock::now_ns());
        });
    }
    while !stop.load(Ordering::Relaxed) {
        sleep(PACE).await;
    }
}

/// A connection with an end to wait for.
struct Open {
    client: Client,
    /// Ends with the connection, however it ends.
    ended: tokio::task::JoinHandle<()>,
}

/// A connection whose first question was answered, tried until it is.
async fn again(opened: &Opened) -> Open {
    loop {
        match timeout(AGAIN_LIMIT, open()).await.context("no answer within its limit") {
            Ok(Ok(open)) => return open,
            Ok(Err(why)) | Err(why) => opened.lock().expect("no holder panics").1 = format!("{why:#}"),
        }
        sleep(PACE / 10).await;
    }
}

async fn open() -> Result<Open> {
    let mut config = tokio_postgres::Config::new();
    config.host(VIP.to_string()).user("lab_writer").dbname("postgres").application_name("lab_pool").keepalives(false);
    let (client, connection) = config.connect(NoTls).await?;
    let ended = tokio::spawn(async move {
        let _ = connection.await;
    });
    client.simple_query("SELECT 1").await?;
    Ok(Open { client, ended })
}

async fn until_gone(doing: Doing, Open { client, ended }: Open) {
    match doing {
        Doing::Idle => {
            let _ = ended.await;
        }
        // A reply that comes after all was no fault: the next one is waited for.
        Doing::Waiting => while client.simple_query("SELECT pg_sleep(60)").await.is_ok() {},
        Doing::Busy => {
            while client.simple_query("SELECT 1").await.is_ok() {
                sleep(PACE).await;
            }
        }
    }
}

/// The figures of a pool after a fault.
#[derive(Clone, Debug)]
pub struct Figures {
    fault_ns: u64,
    fates: Vec<Fate>,
}

impl Figures {
    /// Of a fault at this instant.
    pub fn new(fault_ns: u64, fates: Vec<Fate>) -> Self {
        Self { fault_ns, fates }
    }

    fn kinds(&self) -> impl Iterator<Item = (&'static str, Vec<&Fate>)> {
        let of = |doing: Option<Doing>| {
            self.fates.iter().filter(|fate| doing.is_none_or(|doing| fate.doing == doing)).collect()
        };
        Doing::ALL.map(|doing| (doing.name(), of(Some(doing)))).into_iter().chain([("all", of(None))])
    }

    /// p50 and p99 in milliseconds; `None`: at that rank there is one that never did.
    fn ranks(&self, fates: &[&Fate], at: fn(&Fate) -> Option<u64>) -> [Option<f64>; 2] {
        // Those that never did come last.
        let mut list: Vec<u64> = fates.iter().map(|fate| at(fate).unwrap_or(u64::MAX)).collect();
        list.sort_unstable();
        [50, 99].map(|percent| {
            let at = list.get((list.len() * percent).div_ceil(100).max(1) - 1).filter(|at| **at != u64::MAX)?;
            Some(at.saturating_sub(self.fault_ns) as f64 / 1e6)
        })
    }

    /// The same as JSON.
    pub fn json(&self) -> Value {
        let mut value = json!({});
        for (name, fates) in self.kinds() {
            let pair = |[p50, p99]: [Option<f64>; 2]| json!({"p50": p50, "p99": p99});
            value[name] = json!({
                "n": fates.len(),
                "noticed": fates.iter().filter(|fate| fate.noticed_ns.is_some()).count(),
                "replaced": fates.iter().filter(|fate| fate.replaced_ns.is_some()).count(),
                "noticed_ms": pair(self.ranks(&fates, |fate| fate.noticed_ns)),
                "replaced_ms": pair(self.ranks(&fates, |fate| fate.replaced_ns)),
            });
        }
        value
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {:<10}{:>6}{:>24}{:>24}{:>8}", "open", "n", "noticed p50 / p99", "replaced p50 / p99", "never")?;
        for (name, fates) in self.kinds() {
            let pair = |ranks: [Option<f64>; 2]| {
                let [p50, p99] = ranks.map(|ms| ms.map_or_else(|| "never".into(), |ms| format!("{ms:.1} ms")));
                format!("{p50} / {p99}")
            };
            let never = fates.iter().filter(|fate| fate.replaced_ns.is_none()).count();
            let noticed = pair(self.ranks(&fates, |fate| fate.noticed_ns));
            let replaced = pair(self.ranks(&fates, |fate| fate.replaced_ns));
            writeln!(f, "  {name:<10}{:>6}{noticed:>24}{replaced:>24}{never:>8}", fates.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_never_noticed_count_as_the_slowest() {
        let fate = |noticed_ns| Fate { doing: Doing::Idle, noticed_ns, replaced_ns: None };
        let figures = Figures::new(1_000_000, vec![fate(Some(3_000_000)), fate(Some(2_000_000)), fate(None)]);
        let value = figures.json();
        assert_eq!(value["idle"]["noticed_ms"], json!({"p50": 2.0, "p99": null}));
        assert_eq!((&value["idle"]["n"], &value["idle"]["noticed"]), (&json!(3), &json!(2)));
        assert_eq!(value["busy"]["n"], 0);
    }
}
