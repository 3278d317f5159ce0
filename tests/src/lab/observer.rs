//! Who serves the virtual address, seen from outside: from the client host and, through `lo` where the address is, from
//! both nodes.
//!
//! Each observer is a process on its host. It opens a fresh connection every few hundredths of a second, and keeps one
//! open to each server that it ever met, asking on it all the time: a client that was there before a fault is the
//! one to be deceived after it. A server tells its name and its timeline, which each promotion makes larger, so two
//! answers can be ordered without trusting anybody's clock but the machine's.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::host::Place;
use super::speaker::{Speaker, say};
use super::state::VIP;
use super::{Lab, Side, clock};

/// The hidden verb of `harbor-ha-lab`.
pub const VERB: &str = "observe";
/// Between two questions on a connection that is kept.
const EVERY: Duration = Duration::from_millis(5);
/// Between two fresh connections: each costs the server a process, which two cores feel.
const FRESH: Duration = Duration::from_millis(25);
/// Of a fresh connection with its answer.
const FRESH_LIMIT: Duration = Duration::from_millis(500);
/// Fresh connections under way, while nobody answers.
const OUTSTANDING: usize = 12;
/// Connections that are kept; those to a dead machine never end.
const KEPT: usize = 6;

const QUESTION: &str = "SELECT current_setting('cluster_name'), pg_is_in_recovery(), \
    CASE WHEN pg_is_in_recovery() THEN '0' ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END";

/// Somebody served the virtual address at some instant between `sent_ns` and `received_ns` (CLOCK_MONOTONIC).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whose PostgreSQL.
    pub by: Side,
    /// Its timeline; 0 for a standby.
    pub timeline: u32,
    /// It is in recovery.
    pub standby: bool,
    /// Just before the question was written.
    pub sent_ns: u64,
    /// Just after the answer was read.
    pub received_ns: u64,
    /// On a new connection; else on one that was kept.
    pub fresh: bool,
}

/// What must not be seen.
#[derive(Clone, Debug, Default)]
pub struct Violations {
    /// An older server answered a question that was sent after a newer one's first answer had been received.
    pub two_servers: Vec<Answer>,
    /// The same for questions that were under way at that time: its answer may have been on its way as well.
    pub late: usize,
    /// A server in recovery answered.
    pub standby: usize,
}

/// Judges the answers to questions sent at or after an instant, by each other.
///
/// Not by earlier ones: where a newer timeline was lost once, all that the older one's server says afterwards is older
/// than that, and it was told when it happened.
pub fn violations(answers: &[Answer], since_ns: u64) -> Violations {
    let mut first: HashMap<(u32, Side), u64> = HashMap::new();
    for answer in answers.iter().filter(|answer| !answer.standby && answer.sent_ns >= since_ns) {
        let at = first.entry((answer.timeline, answer.by)).or_insert(u64::MAX);
        *at = answer.received_ns.min(*at);
    }
    let mut found = Violations::default();
    for answer in answers.iter().filter(|answer| answer.sent_ns >= since_ns) {
        if answer.standby {
            found.standby += 1;
            continue;
        }
        let newer = first.iter().filter(|((timeline, by), _)| *by != answer.by && *timeline >= answer.timeline);
        match newer.map(|(_, at)| *at).min() {
            Some(at) if at < answer.sent_ns => found.two_servers.push(*answer),
            Some(at) if at < answer.received_ns => found.late += 1,
            _ => {}
        }
    }
    found
}

/// The observers of a lab: one on the client host, one on each node.
pub struct Observers {
    answers: Arc<Mutex<Vec<Answer>>>,
    /// Those on the client host alone.
    client: Arc<Mutex<Vec<Answer>>>,
    client_netns: String,
    running: Vec<(Place, Option<Speaker>)>,
}

impl Observers {
    /// Starts them.
    ///
    /// # Errors
    /// A host is not there.
    pub fn start(lab: &Lab) -> Result<Self> {
        let client_netns = lab.state().netns("c");
        let client = Place { netns: client_netns.clone(), cgroup: None };
        let places = Side::BOTH.map(|side| lab.node(side).place()).into_iter().chain([client]);
        let running = places.map(|place| (place, None)).collect();
        let mut observers = Self { answers: Arc::default(), client: Arc::default(), client_netns, running };
        observers.revive(|_| true)?;
        Ok(observers)
    }

    /// Starts anew those that died with their node, where a node has power.
    ///
    /// # Errors
    /// A host is not there.
    pub fn revive(&mut self, has_power: impl Fn(&Place) -> bool) -> Result<()> {
        for (place, speaker) in &mut self.running {
            if has_power(place) && !speaker.as_mut().is_some_and(Speaker::runs) {
                let answers = Arc::clone(&self.answers);
                let client = (place.netns == self.client_netns).then(|| Arc::clone(&self.client));
                let hear = move |answer| {
                    answers.lock().expect("no holder panics").push(answer);
                    if let Some(client) = &client {
                        client.lock().expect("no holder panics").push(answer);
                    }
                };
                *speaker = Some(Speaker::start::<Answer>(place, &[VERB.to_owned()], hear)?);
            }
        }
        Ok(())
    }

    /// Everything that was seen, in the order in which it was heard of.
    ///
    /// # Panics
    /// A reading thread panicked.
    pub fn answers(&self) -> Vec<Answer> {
        self.answers.lock().expect("no holder panics").clone()
    }

    /// The longest time in which the client host was answered nothing, from an instant on until now, in nanoseconds.
    ///
    /// # Panics
    /// A reading thread panicked.
    pub fn dark_for_clients(&self, since_ns: u64) -> u64 {
        let mut at: Vec<u64> = self.client.lock().expect("no holder panics").iter().map(|it| it.received_ns).collect();
        at.extend([since_ns, clock::now_ns()]);
        at.retain(|at| *at >= since_ns);
        at.sort_unstable();
        at.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// What must not have been seen since an instant.
    ///
    /// # Panics
    /// A reading thread panicked.
    pub fn violations(&self, since_ns: u64) -> Violations {
        violations(&self.answers.lock().expect("no holder panics"), since_ns)
    }
}

/// What the hidden verb does: observes until it is killed.
///
/// # Errors
/// No runtime.
pub fn observe() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let seen: Rc<Kept> = Rc::default();
        let mut ticks = interval(FRESH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let outstanding = Arc::new(tokio::sync::Semaphore::new(OUTSTANDING));
        loop {
            ticks.tick().await;
            let Ok(permit) = Arc::clone(&outstanding).try_acquire_owned() else { continue };
            let seen = Rc::clone(&seen);
            spawn_local(async move {
                let asked = timeout(FRESH_LIMIT, async {
                    let client = open().await?;
                    Ok::<_, anyhow::Error>((ask(&client, true).await?, client))
                });
                if let Ok(Ok((answer, client))) = asked.await {
                    say(&answer);
                    seen.keep(answer, client);
                }
                drop(permit);
            });
        }
    })
}

/// The connections that are kept, the oldest first: one for each server that was met since the last one broke.
#[derive(Default)]
struct Kept(RefCell<VecDeque<(Side, u32, AbortHandle)>>);

impl Kept {
    fn keep(&self, met: Answer, client: Client) {
        let mut list = self.0.borrow_mut();
        list.retain(|(_, _, task)| !task.is_finished());
        if list.iter().any(|(by, timeline, _)| (*by, *timeline) == (met.by, met.timeline)) {
            return;
        }
        if list.len() == KEPT
            && let Some((_, _, oldest)) = list.pop_front()
        {
            oldest.abort();
        }
        let task = spawn_local(async move {
            let mut ticks = interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                // No limit: a server that was stopped for a while may still answer, and must not.
                match ask(&client, false).await {
                    Ok(answer) => say(&answer),
                    Err(_) if client.is_closed() => return,
                    Err(_) => {}
                }
            }
        });
        list.push_back((met.by, met.timeline, task.abort_handle()));
    }
}

async fn open() -> Result<Client> {
    let mut config = tokio_postgres::Config::new();
    config.host(VIP.to_string()).user("lab_writer").dbname("postgres").application_name("lab_observer");
    let (client, connection) = config.connect(NoTls).await?;
    // Ends with its client.
    spawn_local(connection);
    Ok(client)
}

async fn ask(client: &Client, fresh: bool) -> Result<Answer> {
    let sent_ns = clock::now_ns();
    let said = client.simple_query(QUESTION).await?;
    let received_ns = clock::now_ns();
    let row = said.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let word = |at: usize| row.and_then(|row| row.get(at)).context("no row");
    let by = word(0)?.trim_start_matches("node_").parse().map_err(anyhow::Error::msg)?;
    let timeline = u32::from_str_radix(word(2)?, 16)?;
    Ok(Answer { by, timeline, standby: word(1)? == "t", sent_ns, received_ns, fresh })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(by: Side, timeline: u32, sent_ns: u64, received_ns: u64) -> Answer {
        Answer { by, timeline, standby: false, sent_ns, received_ns, fresh: true }
    }

    #[test]
    fn one_after_the_other_is_no_violation_also_when_the_service_goes_back() {
        let list = [answer(Side::A, 1, 0, 10), answer(Side::B, 2, 20, 30), answer(Side::A, 3, 40, 50)];
        let found = violations(&list, 0);
        assert_eq!((found.two_servers.len(), found.late, found.standby), (0, 0, 0));
    }

    #[test]
    fn an_old_server_that_is_asked_after_the_new_one_answered_is_two() {
        let old = answer(Side::A, 1, 31, 32);
        let list = [answer(Side::A, 1, 0, 10), answer(Side::B, 2, 20, 30), old];
        assert_eq!(violations(&list, 0).two_servers, [old]);
        assert_eq!(violations(&list, 20).two_servers, [old]);
        assert!(violations(&list, 21).two_servers.is_empty(), "the newer one is of an earlier round");
        // Asked a moment earlier, it may have answered before the new one did.
        let found = violations(&[answer(Side::B, 2, 20, 30), answer(Side::A, 1, 29, 32)], 0);
        assert_eq!((found.two_servers.len(), found.late), (0, 1));
        assert_eq!(violations(&[answer(Side::B, 2, 20, 30), answer(Side::A, 1, 25, 29)], 0).late, 0);
    }

    #[test]
    fn the_same_timeline_on_two_nodes_and_a_standby_are_seen() {
        let twin = violations(&[answer(Side::A, 2, 0, 10), answer(Side::B, 2, 20, 30)], 0);
        assert_eq!(twin.two_servers.len(), 1);
        let mut standby = answer(Side::B, 0, 20, 30);
        standby.standby = true;
        let found = violations(&[answer(Side::A, 2, 0, 10), standby], 0);
        assert_eq!((found.two_servers.len(), found.standby), (0, 1));
    }
}
