//! Counts processes (`vrrp_track_process`), told by the kernel of each that begins or ends.
//!
//! Where the kernel does not tell (another network namespace than the host's, no `CAP_NET_ADMIN`), `/proc` is looked
//! through once a second, and the end of what was found is known at once all the same, by its pidfd.
// size: two ways to one count

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use super::connector::{Connector, Seen};
use super::{Fact, NobodyListens, TrackerId, Value, say};

/// Between two looks without the kernel's events.
const LOOK: Duration = Duration::from_secs(1);
/// The kernel's name of a process is cut after this.
const NAME: usize = 15;
/// Descriptors for the ends of processes: beyond this the next look tells.
const PIDFDS: usize = 256;

/// How much of a process has to be as it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// All of it.
    Exact,
    /// As [`Match::Partial`], and the last argument that is given may be the beginning of one. Without arguments: the
    /// beginning of the name.
    Initial,
    /// Those that are given; it may have more arguments. Without arguments: any part of the name.
    Partial,
}

/// Processes of one kind.
#[derive(Clone, Debug)]
pub struct Process {
    /// Whose facts these are.
    pub tracker: TrackerId,
    /// The name that `ps -o comm` shows, or with a `/` what it was started as.
    pub process: String,
    /// Its arguments, without the name; `None`: whatever they are.
    pub arguments: Option<Vec<String>>,
    /// How much of it.
    pub matching: Match,
    /// More of them count after this, if they are still there.
    pub fork_delay: Duration,
    /// Fewer of them count after this, if they are not back.
    pub terminate_delay: Duration,
}

impl Process {
    /// What its name alone tells, which the kernel has at hand; `None`: the arguments have to be read.
    fn is_named(&self, pid: i32) -> Option<bool> {
        let Ok(mut name) = fs::read(format!("/proc/{pid}/comm")) else { return Some(false) };
        name.truncate(name.len().saturating_sub(1));
        let base = self.process.rsplit('/').next().unwrap_or_default().as_bytes();
        let base = &base[..base.len().min(NAME)];
        let alike = match (self.matching, &self.arguments) {
            (Match::Exact, _) | (_, Some(_)) => name == base,
            (Match::Initial, None) => name.starts_with(base),
            (Match::Partial, None) => name.windows(base.len().max(1)).any(|part| part == base),
        };
        (!alike || (self.arguments.is_none() && !self.process.contains('/'))).then_some(alike)
    }

    /// Waits for a process that is busy with its memory, when its name alone does not tell.
    fn is_meant(&self, pid: i32) -> bool {
        if let Some(is_meant) = self.is_named(pid) {
            return is_meant;
        }
        let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
        let line = String::from_utf8_lossy(&line);
        let mut words = line.strip_suffix('\0').unwrap_or(&line).split('\0');
        let called = words.next().unwrap_or_default();
        if self.process.contains('/') && called != self.process {
            return false;
        }
        let words: Vec<&str> = words.collect();
        self.arguments.as_ref().is_none_or(|wanted| fits(self.matching, wanted, &words))
    }
}

fn fits(matching: Match, wanted: &[String], words: &[&str]) -> bool {
    match (matching, wanted.split_last()) {
        (Match::Exact, _) => wanted == words,
        (_, None) => true,
        (Match::Partial, _) => words.len() >= wanted.len() && words[..wanted.len()] == *wanted,
        (Match::Initial, Some((last, before))) => {
            words.len() >= wanted.len()
                && words[..before.len()] == *before
                && words[before.len()].starts_with(last.as_str())
        }
    }
}

/// Follows all of them; ends when nobody listens.
pub(super) async fn watch(processes: Vec<Process>, facts: mpsc::Sender<Fact>) {
    let mut counts = Counts::new(processes, facts);
    let connector = match Connector::open().await {
        Ok(connector) => Some(connector),
        Err(error) => {
            tracing::warn!(
                %error,
                "the kernel tells no process events here (they need CAP_NET_ADMIN, and the host's own network namespace): \
                 /proc is looked through once a second instead"
            );
            None
        }
    };
    let _nobody_listens = match connector {
        Some(connector) => by_events(&mut counts, connector).await,
        None => by_looks(&mut counts).await,
    };
}

/// As where the kernel does not tell.
#[cfg(test)]
pub(super) async fn watch_without_events(processes: Vec<Process>, facts: mpsc::Sender<Fact>) {
    let _nobody_listens = by_looks(&mut Counts::new(processes, facts)).await;
}

async fn by_events(counts: &mut Counts, mut connector: Connector) -> Result<(), NobodyListens> {
    // After the subscription: what happens during the look is told after it.
    counts.look().await;
    loop {
        counts.tell().await?;
        tokio::select! {
            seen = connector.next() => match seen {
                Ok(Seen::Became(pid)) => counts.judge(pid).await,
                Ok(Seen::Forked { parent, child }) => counts.inherit(parent, child),
                Ok(Seen::Ended(pid)) => counts.forget(pid),
                Ok(Seen::Lost) => {
                    tracing::info!("too many process events at once: /proc is looked through");
                    counts.look().await;
                }
                Err(error) => {
                    tracing::error!(%error, "no process events any more: /proc is looked through once a second instead");
                    return by_looks(counts).await;
                }
            },
            () = counts.due() => {}
            () = counts.facts.closed() => return Err(NobodyListens),
        }
    }
}

async fn by_looks(counts: &mut Counts) -> Result<(), NobodyListens> {
    let mut ends = Ends::default();
    loop {
        counts.look().await;
        ends.follow(counts.pids());
        let next = Instant::now() + LOOK;
        loop {
            counts.tell().await?;
            tokio::select! {
                pid = ends.next() => counts.forget(pid),
                () = counts.due() => {}
                () = sleep_until(next) => break,
                () = counts.facts.closed() => return Err(NobodyListens),
            }
        }
    }
}

/// Who is counted.
struct Counts {
    all: Vec<Count>,
    /// For the thread that looks through `/proc`.
    wanted: Arc<Vec<Process>>,
    facts: mpsc::Sender<Fact>,
}

struct Count {
    pids: HashSet<i32>,
    said: Option<i64>,
    /// Another number is said at this time, if it is still another one.
    due: Option<(Instant, Direction)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    More,
    Fewer,
}

impl Counts {
    fn new(processes: Vec<Process>, facts: mpsc::Sender<Fact>) -> Self {
        let all = processes.iter().map(|_| Count { pids: HashSet::new(), said: None, due: None }).collect();
        Self { all, wanted: Arc::new(processes), facts }
    }

    fn pids(&self) -> impl Iterator<Item = i32> + '_ {
        self.all.iter().flat_map(|count| &count.pids).copied()
    }

    async fn judge(&mut self, pid: i32) {
        let named: Vec<_> = self.wanted.iter().map(|process| process.is_named(pid)).collect();
        let meant = match named.iter().copied().collect() {
            Some(meant) => meant,
            None => {
                let wanted = Arc::clone(&self.wanted);
                let all = move || wanted.iter().map(|process| process.is_meant(pid)).collect::<Vec<_>>();
                // Only a runtime that ends runs nothing.
                spawn_blocking(all).await.unwrap_or_default()
            }
        };
        for (count, is_meant) in self.all.iter_mut().zip(meant) {
            if is_meant {
                count.pids.insert(pid);
            } else {
                count.pids.remove(&pid);
            }
        }
    }

    fn inherit(&mut self, parent: i32, child: i32) {
        for count in &mut self.all {
            if count.pids.contains(&parent) {
                count.pids.insert(child);
            }
        }
    }

    fn forget(&mut self, pid: i32) {
        for count in &mut self.all {
            count.pids.remove(&pid);
        }
    }

    /// Looks through `/proc`, on a thread that may take its time.
    async fn look(&mut self) {
        let wanted = Arc::clone(&self.wanted);
        if let Ok(found) = spawn_blocking(move || everyone(&wanted)).await {
            for (count, pids) in self.all.iter_mut().zip(found) {
                count.pids = pids;
            }
        }
    }

    /// Says what is to be said now.
    async fn tell(&mut self) -> Result<(), NobodyListens> {
        let now = Instant::now();
        for (process, count) in self.wanted.iter().zip(&mut self.all) {
            if count.is_due(process, now) {
                let number = count.pids.len() as i64;
                count.said = Some(number);
                count.due = None;
                say(&self.facts, process.tracker, Value::Number(number)).await?;
            }
        }
        Ok(())
    }

    /// Until the next number is due.
    fn due(&self) -> impl Future<Output = ()> + use<> {
        let next = self.all.iter().filter_map(|count| count.due).map(|(due, _)| due).min();
        async move {
            match next {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        }
    }
}

impl Count {
    fn is_due(&mut self, process: &Process, now: Instant) -> bool {
        let number = self.pids.len() as i64;
        // What is there at the start counts at once.
        let Some(said) = self.said else { return true };
        if number == said {
            self.due = None;
            return false;
        }
        let direction = if number > said { Direction::More } else { Direction::Fewer };
        let due = match self.due {
            Some((due, same)) if same == direction => due,
            Some(_) | None => match direction {
                Direction::More => now + process.fork_delay,
                Direction::Fewer => now + process.terminate_delay,
            },
        };
        self.due = Some((due, direction));
        due <= now
    }
}

fn everyone(wanted: &[Process]) -> Vec<HashSet<i32>> {
    let mut found = vec![HashSet::new(); wanted.len()];
    let entries = fs::read_dir("/proc").inspect_err(|error| tracing::error!(%error, "cannot look through /proc"));
    for entry in entries.into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        for (process, pids) in wanted.iter().zip(&mut found) {
            if process.is_meant(pid) && !is_dead(pid) {
                pids.insert(pid);
            }
        }
    }
    found
}

/// A process that has ended, and that its parent has not noticed yet, still has its name.
fn is_dead(pid: i32) -> bool {
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    let state = text.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    matches!(state, None | Some('Z' | 'X'))
}

/// Tells the ends of processes without the kernel's events.
#[derive(Default)]
struct Ends {
    watched: HashMap<i32, tokio::task::AbortHandle>,
    ends: JoinSet<i32>,
}

impl Ends {
    fn follow(&mut self, pids: impl Iterator<Item = i32>) {
        let pids: HashSet<i32> = pids.collect();
        self.watched.retain(|pid, task| {
            let stays = pids.contains(pid);
            if !stays {
                task.abort();
            }
            stays
        });
        for pid in pids {
            if self.watched.len() >= PIDFDS {
                return;
            }
            if self.watched.contains_key(&pid) {
                continue;
            }
            // One that has ended since has no end to wait for; the next look leaves it out.
            if let Some(process) = pidfd(pid) {
                let task = self.ends.spawn(async move {
                    match process.readable().await {
                        Ok(mut dead) => dead.retain_ready(),
                        Err(_) => std::future::pending().await,
                    }
                    pid
                });
                self.watched.insert(pid, task);
            }
        }
    }

    async fn next(&mut self) -> i32 {
        loop {
            match self.ends.join_next().await {
                Some(Ok(pid)) => {
                    self.watched.remove(&pid);
                    return pid;
                }
                Some(Err(_aborted)) => {}
                None => std::future::pending().await,
            }
        }
    }
}

fn pidfd(pid: i32) -> Option<AsyncFd<OwnedFd>> {
    // SAFETY: pidfd_open(2) takes two integers and touches no memory of this process.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return None;
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it; what is registered owns it.
    unsafe { AsyncFd::register_with_interest(OwnedFd::from_raw_fd(fd as RawFd), Interest::READABLE) }.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(matching: Match, wanted: &[&str], words: &[&str]) -> bool {
        let wanted: Vec<String> = wanted.iter().map(|&word| word.to_owned()).collect();
        fits(matching, &wanted, words)
    }

    #[test]
    fn arguments_are_compared_as_far_as_was_asked() {
        assert!(fit(Match::Exact, &["-D", "/data"], &["-D", "/data"]));
        assert!(!fit(Match::Exact, &["-D", "/data"], &["-D", "/data", "-p", "5432"]));
        assert!(fit(Match::Partial, &["-D", "/data"], &["-D", "/data", "-p", "5432"]));
        assert!(!fit(Match::Partial, &["-D", "/da"], &["-D", "/data"]));
        assert!(fit(Match::Initial, &["-D", "/da"], &["-D", "/data", "-p", "5432"]));
        assert!(!fit(Match::Initial, &["-D", "/da"], &["-D"]));
        assert!(!fit(Match::Exact, &[], &["-D"]), "an empty list says: no arguments");
    }

    fn count(said: i64, pids: usize) -> Count {
        Count { pids: (1..=pids as i32).collect(), said: Some(said), due: None }
    }

    #[test]
    fn a_number_that_comes_back_in_time_is_not_said() {
        let process = Process {
            tracker: TrackerId(0),
            process: "x".to_owned(),
            arguments: None,
            matching: Match::Exact,
            fork_delay: Duration::from_secs(1),
            terminate_delay: Duration::from_secs(5),
        };
        let start = Instant::now();
        let mut count = count(3, 2);
        assert!(!count.is_due(&process, start));
        count.pids.remove(&1);
        assert!(!count.is_due(&process, start + Duration::from_secs(4)), "one more that ends begins no new wait");
        assert!(count.is_due(&process, start + Duration::from_secs(5)));
        count.pids.extend([1, 7]);
        assert!(!count.is_due(&process, start + Duration::from_secs(5)), "as many as were said");
        assert_eq!(count.due.map(|_| ()), None);
        count.pids.insert(9);
        assert!(!count.is_due(&process, start + Duration::from_secs(6)));
        assert!(count.is_due(&process, start + Duration::from_secs(7)));
    }
}
