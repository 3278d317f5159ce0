//! The ring buffer of verdicts, as inputs of the core.

use std::io;

use aya::maps::{MapData, RingBuf};
use harbor_ha_ebpf::records::{Source, Verdict as Record, VerdictKind};
use harbor_ha_ebpf::units::Nanos;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::core::Verdict;

/// Reads verdicts as the kernel writes them.
pub struct Verdicts {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Verdicts {
    /// Registers the ring with the runtime.
    ///
    /// # Errors
    ///
    /// The runtime refuses the descriptor.
    pub fn new(ring: RingBuf<MapData>) -> io::Result<Self> {
        // SAFETY: the ring owns its descriptor and keeps it until it is dropped, which the `AsyncFd` outlives.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        Ok(Self { ring: ring.map_err(io::Error::from)? })
    }

    /// A verdict that is there already. Asks nobody whether there is one, so that after a pause of this process the
    /// kernel's word is known before anything else is looked at.
    pub fn take(&mut self) -> Option<Verdict> {
        let ring = self.ring.get_mut();
        while let Some(item) = ring.next() {
            let event = read(&item);
            drop(item);
            if event.is_some() {
                return event;
            }
        }
        None
    }

    /// Forgets what an earlier run did not read, and says how much that was: the records know better.
    pub fn forget(&mut self) -> usize {
        std::iter::from_fn(|| self.take()).count()
    }

    /// The next verdict; cancel-safe, as an event leaves the ring only when it is returned.
    ///
    /// # Errors
    ///
    /// The runtime's.
    pub async fn next(&mut self) -> io::Result<Verdict> {
        loop {
            let mut guard = self.ring.readable_mut().await?;
            while let Some(item) = guard.get_inner_mut().next() {
                let event = read(&item);
                drop(item);
                if let Some(verdict) = event {
                    return Ok(verdict);
                }
            }
            guard.clear_ready();
        }
    }
}

/// `None` for a record that another version wrote.
fn read(bytes: &[u8]) -> Option<Verdict> {
    if bytes.len() != size_of::<Record>() {
        return None;
    }
    // SAFETY: as many bytes as a `Record` has, and every bit pattern is one.
    let record = unsafe { bytes.as_ptr().cast::<Record>().read_unaligned() };
    Some(Verdict {
        at: Nanos(record.at_ns),
        last_heard: Nanos(record.last_arrival_ns),
        kind: VerdictKind::from_u32(record.kind)?,
        source: Source::from_u32(record.source)?,
        priority: record.priority as u8,
        flags: record.flags as u16,
        term: record.term,
        timeline: record.timeline,
        lsn: record.lsn,
        system_identifier: record.system_identifier,
    })
}
