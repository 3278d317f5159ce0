//! I2: what was acknowledged, or shown to a reader, is on every later primary. I8: nobody is named only after the
//! standby's right is gone.

use super::super::world::World;

impl World {
    /// The log of `i` below `at` was acknowledged to a client, or shown to one.
    pub fn check_ack(&mut self, i: usize, at: usize) {
        self.check_ack_term(i);
        let log = &self.nodes[i].server.log;
        let Some(entry) = at.checked_sub(1).and_then(|last| log.get(last)) else { return };
        let end = (at, entry.id);
        let holds = |(place, id): (usize, u64)| log.get(place - 1).is_some_and(|entry| entry.id == id);
        match self.checkers.kept.last_mut() {
            // The same log, grown: its end stands for all of it.
            Some(last) if holds(*last) => *last = (*last).max(end),
            _ => self.checkers.kept.push(end),
        }
    }

    /// `i` serves: it has everything that was ever acknowledged.
    pub fn check_kept(&mut self, i: usize) {
        if !self.checkers.keeps_writes {
            return;
        }
        let log = &self.nodes[i].server.log;
        let has = |(place, id): &(usize, u64)| log.get(place - 1).is_some_and(|entry| entry.id == *id);
        if let Some((place, id)) = self.checkers.kept.iter().find(|end| !has(end)) {
            let text = format!("{i} serves without write {id}, acknowledged at {place}; its log has {}", log.len());
            self.violate("I2", text);
        }
    }

    /// Commits of `i` cease to wait for its standby.
    pub fn check_release(&mut self, i: usize) {
        let (ours, theirs) = (&self.nodes[i], &self.nodes[1 - i]);
        let term = ours.kernel.order.serving_term;
        // One that does not serve yet has acknowledged nothing, and a standby waits for nobody.
        if !self.checkers.keeps_writes || ours.server.signal || term == 0 {
            return;
        }
        let waived = theirs.terms.waived == term;
        // A right begins with the word of the primary.
        let right = self.checkers.counted_term >= term;
        if right && !waived && !self.witness.is_revoked(term) {
            self.violate("I8", format!("{i} names nobody in term {term}, whose standby keeps its right"));
        }
    }
}
