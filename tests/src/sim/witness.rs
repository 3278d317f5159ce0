//! The third party, by the rules of docs/protocol.md: the solo key, the highest term granted, revocations.

use harbor_ha::core::witness::{Answer, WitnessCall};
use harbor_ha_ebpf::units::Nanos;

/// How long the key lasts.
pub const TTL: Nanos = Nanos::from_millis(1500);

const OUTRUN: &str = "a later term was granted";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holder {
    node: usize,
    term: u64,
}

/// Its records. The TTL is counted by a clock of its own, which is true time here.
#[derive(Debug, Default)]
pub struct Witness {
    solo: Option<Holder>,
    solo_until: u64,
    revoked: Option<Holder>,
    highest: Option<Holder>,
    /// A mutant: everybody is granted everything.
    grants_all: bool,
}

impl Witness {
    pub fn new(grants_all: bool) -> Self {
        Self { grants_all, ..Self::default() }
    }

    /// Carries out what `node` asks at the true instant `now`.
    pub fn ask(&mut self, now: u64, node: usize, call: WitnessCall) -> Answer {
        if now >= self.solo_until {
            self.solo = None;
        }
        let verdict = self.judge(node, call);
        match verdict {
            Ok(()) => {}
            Err(_) if self.grants_all => {}
            Err(OUTRUN) => {
                return Answer::Outrun { term: self.highest.map_or(0, |it| it.term), why: OUTRUN.to_owned() };
            }
            Err(why) => return Answer::Refused(why.to_owned()),
        }
        match call {
            WitnessCall::Acquire { term, .. } => {
                (self.solo, self.highest) = (Some(Holder { node, term }), Some(Holder { node, term }));
                self.solo_until = now + TTL.0;
                return Answer::Granted { ttl: TTL };
            }
            WitnessCall::Release { .. } => self.solo = None,
            WitnessCall::Revoke { term } => {
                (self.revoked, self.highest) = (Some(Holder { node, term }), Some(Holder { node, term }));
            }
            WitnessCall::Restore { term } => self.revoked = self.revoked.filter(|by| by.term > term),
        }
        Answer::Granted { ttl: Nanos(0) }
    }

    fn judge(&self, node: usize, call: WitnessCall) -> Result<(), &'static str> {
        let newest = |term| match self.highest {
            Some(highest) if term < highest.term || (term == highest.term && node != highest.node) => Err(OUTRUN),
            _ => Ok(()),
        };
        let alone = match self.solo {
            Some(holder) if holder.node != node => Err("the other node serves"),
            _ => Ok(()),
        };
        match call {
            WitnessCall::Acquire { term, follows } => {
                newest(term)?;
                match self.revoked {
                    Some(by) if follows != 0 && by.term >= follows && by.node != node => {
                        return Err("the right to succeed was revoked");
                    }
                    _ => {}
                }
                alone
            }
            WitnessCall::Release { term } if self.solo == Some(Holder { node, term }) => Ok(()),
            WitnessCall::Release { .. } => Err("the key is no longer held"),
            WitnessCall::Revoke { term } | WitnessCall::Restore { term } => newest(term).and(alone),
        }
    }

    /// Whether nobody may succeed the primary of `term`.
    pub fn is_revoked(&self, term: u64) -> bool {
        self.revoked.is_some_and(|by| by.term >= term)
    }
}
