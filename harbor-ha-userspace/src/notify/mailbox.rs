//! What waits for a receiver. Bounded, and whoever puts something in never waits.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::{Event, State};

/// How events wait.
pub(super) trait Queue {
    /// Takes one in; what gave way to it comes back.
    fn put(&mut self, event: Event) -> Vec<Event>;
    /// The next one.
    fn take(&mut self) -> Option<Event>;
    /// Whether none waits.
    fn is_empty(&self) -> bool;
}

/// What is true now: the last state, and whether a master has heard a lower priority since.
#[derive(Debug, Default)]
pub(super) struct Latest {
    state: Option<Event>,
    lower: Option<Event>,
}

impl Queue for Latest {
    fn put(&mut self, event: Event) -> Vec<Event> {
        if event.state == State::LowerPriority {
            return self.lower.replace(event).into_iter().collect();
        }
        // What a master heard before it changed its state is nobody's business any more.
        let older = [self.state.replace(event), self.lower.take()];
        older.into_iter().flatten().collect()
    }

    fn take(&mut self) -> Option<Event> {
        self.state.take().or_else(|| self.lower.take())
    }

    fn is_empty(&self) -> bool {
        self.state.is_none() && self.lower.is_none()
    }
}

/// Everything in its order, up to a limit; beyond that the oldest goes.
#[derive(Debug)]
pub(super) struct Ring {
    events: VecDeque<Event>,
    limit: usize,
}

impl Ring {
    pub(super) fn new(limit: usize) -> Self {
        Self { events: VecDeque::with_capacity(limit), limit }
    }
}

impl Queue for Ring {
    fn put(&mut self, event: Event) -> Vec<Event> {
        let oldest = if self.events.len() == self.limit { self.events.pop_front() } else { None };
        self.events.push_back(event);
        oldest.into_iter().collect()
    }

    fn take(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

/// An event that was taken out, and its number.
#[derive(Debug)]
pub(super) struct Taken {
    pub event: Event,
    number: u64,
}

#[derive(Debug)]
struct Inner<Q> {
    queue: Q,
    closed: bool,
    taken: u64,
    dropped: u64,
}

/// A queue between any number of senders and one receiver.
#[derive(Debug)]
pub(super) struct Mailbox<Q> {
    inner: Mutex<Inner<Q>>,
    news: Notify,
    /// What was taken up to this number is to be broken off.
    cut: watch::Sender<u64>,
}

impl<Q: Queue> Mailbox<Q> {
    pub(super) fn new(queue: Q) -> Self {
        let inner = Inner { queue, closed: false, taken: 0, dropped: 0 };
        Self { inner: Mutex::new(inner), news: Notify::new(), cut: watch::Sender::new(0) }
    }

    /// Nothing is done under the lock that waits, so nobody waits for it.
    fn lock(&self) -> MutexGuard<'_, Inner<Q>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What gave way comes back.
    #[must_use]
    pub(super) fn put(&self, event: Event) -> Vec<Event> {
        let mut inner = self.lock();
        let gone = inner.queue.put(event);
        inner.dropped += gone.len() as u64;
        drop(inner);
        self.news.notify_one();
        gone
    }

    /// How many gave way so far.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// One that the receiver has taken and given up.
    pub(super) fn give_up(&self) {
        self.lock().dropped += 1;
    }

    /// What is in it is still taken out.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.news.notify_one();
    }

    /// Breaks off what is being done if something waits for its end.
    pub(super) fn cut(&self) {
        let inner = self.lock();
        if !inner.queue.is_empty() {
            self.cut.send_replace(inner.taken);
        }
    }

    /// The next event, in time; `None` once it is closed and empty.
    pub(super) async fn next(&self) -> Option<Taken> {
        loop {
            {
                let mut inner = self.lock();
                if let Some(event) = inner.queue.take() {
                    inner.taken += 1;
                    return Some(Taken { event, number: inner.taken });
                }
                if inner.closed {
                    return None;
                }
            }
            self.news.notified().await;
        }
    }

    /// When what was taken is to be broken off. Cancel-safe.
    pub(super) async fn is_cut(&self, taken: &Taken) {
        let mut cut = self.cut.subscribe();
        let reached = cut.wait_for(|number| *number >= taken.number).await.is_ok();
        if !reached {
            // Its sender lives as long as we do.
            std::future::pending().await
        }
    }
}
