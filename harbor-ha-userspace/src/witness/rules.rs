//! What may be written over what: the whole policy of the witness, for every kind of it.
//!
//! Pure. A request is judged against the records as they were read; the adapters replace them only if they are still
//! that, so what is proved here holds at the witness. Keeps I3 (one primary per term) and the witness's half of I1
//! (one gate) and I8 (no promotion over a revoked right).

use std::fmt;
use std::net::Ipv4Addr;

/// A node and a term of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its own address.
    pub node: Ipv4Addr,
    /// The term that it was granted, or speaks for.
    pub term: u64,
}

impl Holder {
    /// Exactly what [`Holder`] displays; records are compared as text, so another spelling would never match.
    pub fn parse(text: &str) -> Option<Self> {
        let (node, term) = text.split_once(' ')?;
        let holder = Self { node: node.parse().ok()?, term: term.parse().ok()? };
        (holder.to_string() == text).then_some(holder)
    }
}

impl fmt::Display for Holder {
    /// As the witness keeps it: `10.0.0.1 7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.node, self.term)
    }
}

/// What the witness knows of one cluster; nothing at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Who serves alone; forgotten after the TTL.
    pub solo: Option<Holder>,
    /// Whose standby's right is revoked, and in which term; kept until it is restored.
    pub revoked: Option<Holder>,
    /// The highest term that was ever granted; kept for ever.
    pub highest: Option<Holder>,
}

impl Records {
    /// As the witness keeps them.
    pub(super) fn texts(&self) -> [Option<String>; 3] {
        [self.solo, self.revoked, self.highest].map(|holder| holder.map(|holder| holder.to_string()))
    }
}

/// Why the witness says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The other node serves.
    #[error("{} serves in term {}", .holder.node, .holder.term)]
    Held {
        /// By whom, and since which term.
        holder: Holder,
    },
    /// The term is not above one that was granted already.
    #[error("term {} was granted to {}", .highest.term, .highest.node)]
    Stale {
        /// The highest granted.
        highest: Holder,
    },
    /// The primary served on without this standby, which therefore lacks what was acknowledged since.
    #[error("{} revoked the right to succeed it in term {}", .by.node, .by.term)]
    Revoked {
        /// By whom, and in which term.
        by: Holder,
    },
    /// The key is no longer this node's.
    #[error("the key is no longer held for this term{}", .holder.map_or(String::new(), |h| format!(", but by {} for term {}", h.node, h.term)))]
    Lost {
        /// Whose it is; nobody's when the TTL ran out.
        holder: Option<Holder>,
    },
}

/// What a node asks of the witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Acquire { term: u64, follows: u64 },
    Renew { term: u64 },
    Release { term: u64 },
    Revoke { term: u64 },
    Restore { term: u64 },
    Look,
}

/// The records to replace the judged ones with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) after: Records,
    /// Whether the TTL of the solo key begins anew; else it runs on, whatever else changes.
    pub(super) renews: bool,
}

impl Request {
    /// The change that `node` may make of `now`.
    pub(super) fn judge(self, now: &Records, node: Ipv4Addr) -> Result<Change, Refusal> {
        let unless_lost = |term| match now.solo {
            Some(holder) if holder == (Holder { node, term }) => Ok(()),
            holder => Err(Refusal::Lost { holder }),
        };
        let keeps = |after| Ok(Change { after, renews: false });
        match self {
            Self::Acquire { term, follows } => {
                newest(now, node, term)?;
                succeeds(now, node, follows)?;
                alone(now, node)?;
                let me = Some(Holder { node, term });
                Ok(Change { after: Records { solo: me, highest: me, ..*now }, renews: true })
            }
            Self::Renew { term } => {
                unless_lost(term)?;
                Ok(Change { after: *now, renews: true })
            }
            Self::Release { term } => {
                unless_lost(term)?;
                keeps(Records { solo: None, ..*now })
            }
            Self::Revoke { term } => {
                newest(now, node, term)?;
                alone(now, node)?;
                let me = Some(Holder { node, term });
                keeps(Records { revoked: me, highest: me, ..*now })
            }
            Self::Restore { term } => {
                newest(now, node, term)?;
                alone(now, node)?;
                // One of a later term is not this primary's to remove.
                let later = now.revoked.filter(|by| by.term > term);
                keeps(Records { revoked: later, ..*now })
            }
            Self::Look => keeps(*now),
        }
    }
}

/// A term is granted to one node only, and none below it afterwards.
fn newest(now: &Records, node: Ipv4Addr, term: u64) -> Result<(), Refusal> {
    match now.highest {
        Some(highest) if term < highest.term || (term == highest.term && node != highest.node) => {
            Err(Refusal::Stale { highest })
        }
        _ => Ok(()),
    }
}

/// A right that was revoked in a term later than the one to succeed is revoked all the more: the standby lags by more.
fn succeeds(now: &Records, node: Ipv4Addr, follows: u64) -> Result<(), Refusal> {
    match now.revoked {
        Some(by) if follows != 0 && by.term >= follows && by.node != node => Err(Refusal::Revoked { by }),
        _ => Ok(()),
    }
}

fn alone(now: &Records, node: Ipv4Addr) -> Result<(), Refusal> {
    match now.solo {
        Some(holder) if holder.node != node => Err(Refusal::Held { holder }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
