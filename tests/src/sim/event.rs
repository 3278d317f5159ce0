//! The queue of virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What happens at an instant. Whatever is larger than a word or two lies elsewhere, under a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// The pulse thread's timer.
    Pulse(u8),
    /// A packet gets to a node.
    Arrive(u8, u32),
    /// The kernel's timer of a node.
    Timer(u8),
    /// The daemon's loop runs.
    Turn(u8),
    /// Something that an action began has ended.
    Ended(u8, u32),
    /// PostgreSQL is looked at.
    Probe(u8),
    /// Replication and clients go on.
    Tick,
    /// A fault of the schedule begins.
    Fault(u32),
    /// Something that was broken may be whole again.
    Restore(u8),
    /// A call gets to the service of the HaVip.
    Api(u32),
}

/// Events in the order of their instants; of one instant, in the order in which they were put in.
#[derive(Debug, Default)]
pub struct Queue {
    heap: BinaryHeap<Reverse<(u64, u64, Event)>>,
    count: u64,
}

impl Queue {
    pub fn push(&mut self, at: u64, event: Event) {
        self.count += 1;
        self.heap.push(Reverse((at, self.count, event)));
    }

    pub fn pop(&mut self) -> Option<(u64, Event)> {
        self.heap.pop().map(|Reverse((at, _, event))| (at, event))
    }
}

/// Things under numbers that are used again.
#[derive(Debug)]
pub struct Slab<T> {
    items: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { items: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub fn put(&mut self, item: T) -> u32 {
        if let Some(at) = self.free.pop() {
            self.items[at as usize] = Some(item);
            return at;
        }
        self.items.push(Some(item));
        (self.items.len() - 1) as u32
    }

    pub fn take(&mut self, at: u32) -> Option<T> {
        let item = self.items.get_mut(at as usize)?.take();
        if item.is_some() {
            self.free.push(at);
        }
        item
    }
}
