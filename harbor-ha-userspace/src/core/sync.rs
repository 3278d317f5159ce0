//! Whether commits wait for the standby: `synchronous_standby_names`, and the promise that taking it back is.
//!
//! Taking the standby out acknowledges every commit that waits for it. So its right to take over is durably gone first:
//! by its own waiver, or by the witness's revocation (docs/protocol.md).

use harbor_ha_ebpf::units::Nanos;

use super::rules::{Isolated, SyncPolicy};
use super::witness::WitnessCall;
use super::{Action, Actions, Core, Local};

/// How long a named standby may fail to stream before commits stop waiting for it (`sync = "preferred"`).
const PATIENCE: Nanos = Nanos::from_secs(5);

impl Core {
    /// A serving primary names its standby, or, where that is preferred only, ceases to.
    pub(super) fn settle_sync(&mut self, now: Nanos, out: &mut Actions) {
        let Local::Up(facts) = &self.local else { return };
        let (streams, named, synced) = (facts.streaming, !facts.sync_names.is_empty(), facts.peer_is_sync);
        if !named || streams {
            self.unstreamed_since = None;
            self.degrading = false;
        } else {
            self.unstreamed_since.get_or_insert(now);
        }
        if synced && self.witness.revoked != 0 {
            let term = std::mem::take(&mut self.witness.revoked);
            out.push(Action::Witness(WitnessCall::Restore { term }));
        }
        let name = match self.rules.sync {
            SyncPolicy::Off => return,
            SyncPolicy::Required | SyncPolicy::Preferred if !named && streams => true,
            SyncPolicy::Preferred if named && self.is_overdue(now) => {
                self.degrading = true;
                if !self.is_revoked(now, out) {
                    return;
                }
                false
            }
            SyncPolicy::Required | SyncPolicy::Preferred => return,
        };
        if !self.setting_sync && now >= self.sync_retry_at {
            self.setting_sync = true;
            out.push(Action::SetSync { peer: name });
        }
    }

    fn is_overdue(&self, now: Nanos) -> bool {
        self.unstreamed_since.is_some_and(|since| now >= since.after(PATIENCE))
    }

    pub(super) fn sync_deadline(&self) -> Option<Nanos> {
        (self.rules.sync == SyncPolicy::Preferred).then_some(self.unstreamed_since?.after(PATIENCE))
    }

    /// Whether the standby's right is gone for this term; asks for it otherwise.
    fn is_revoked(&mut self, now: Nanos, out: &mut Actions) -> bool {
        let claim = self.terms.claim();
        if self.peer_waived() || self.witness.revoked == claim {
            return true;
        }
        let by_witness = self.lease_rules().is_some_and(|rules| rules.isolated == Isolated::Witness);
        if by_witness && now >= self.witness.revoke_at {
            self.witness.revoke_at = now.after(super::RETRY);
            out.push(Action::Witness(WitnessCall::Revoke { term: claim }));
        }
        false
    }
}
