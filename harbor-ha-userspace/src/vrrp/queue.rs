//! Deadlines of many instances. A packet that puts a deadline off touches nothing here: the old entry brings an early
//! wake, finds the deadline later, and is put in again. So each instance has one entry that counts.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use harbor_ha_ebpf::units::Nanos;

use super::rules::InstanceId;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<(Nanos, InstanceId)>>,
    /// The entry of each instance that counts; any other of it in the heap is void.
    counts: Vec<Option<Nanos>>,
}

impl Queue {
    pub fn new(instances: usize) -> Self {
        Self { heap: BinaryHeap::with_capacity(instances * 2), counts: vec![None; instances] }
    }

    /// The instance is to be looked at by this instant; nothing is done if it will be anyway.
    pub fn by(&mut self, instance: InstanceId, at: Option<Nanos>) {
        let (Some(at), Some(counts)) = (at, self.counts.get_mut(usize::from(instance.0))) else { return };
        if counts.is_none_or(|old| at < old) {
            *counts = Some(at);
            self.heap.push(Reverse((at, instance)));
        }
    }

    /// The next instance that is due; it is out of the queue then.
    pub fn due(&mut self, now: Nanos) -> Option<InstanceId> {
        let at = self.next()?;
        if at > now {
            return None;
        }
        let Reverse((_, instance)) = self.heap.pop()?;
        self.counts[usize::from(instance.0)] = None;
        Some(instance)
    }

    /// The first instant at which one is due.
    pub fn next(&mut self) -> Option<Nanos> {
        while let Some(&Reverse((at, instance))) = self.heap.peek() {
            if self.counts[usize::from(instance.0)] == Some(at) {
                return Some(at);
            }
            self.heap.pop();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: InstanceId = InstanceId(0);
    const B: InstanceId = InstanceId(1);

    #[test]
    fn an_instance_is_due_once_and_at_its_earliest_deadline() {
        let mut queue = Queue::new(2);
        queue.by(A, Some(Nanos(50)));
        queue.by(B, Some(Nanos(40)));
        queue.by(A, Some(Nanos(30)));
        queue.by(A, Some(Nanos(60)));
        assert_eq!(queue.next(), Some(Nanos(30)));
        assert_eq!(queue.due(Nanos(29)), None);
        assert_eq!(queue.due(Nanos(100)), Some(A));
        assert_eq!(queue.due(Nanos(100)), Some(B));
        assert_eq!((queue.due(Nanos(100)), queue.next()), (None, None));
    }

    #[test]
    fn a_deadline_that_is_put_off_with_every_packet_does_not_fill_the_queue() {
        let mut queue = Queue::new(1);
        for at in 100..100_000 {
            queue.by(A, Some(Nanos(at)));
        }
        assert_eq!(queue.heap.len(), 1);
    }
}
