//! I3: one primary per term. I7: acknowledgements never go back to an earlier term. I9: no start behind a later term.

use super::super::world::World;

impl World {
    /// The gate of `i` is open.
    pub fn check_term(&mut self, i: usize) {
        let term = self.nodes[i].kernel.order.serving_term;
        let on_disk = self.nodes[i].terms;
        if term > on_disk.mine.max(on_disk.reserved) {
            self.violate("I3", format!("{i} serves in term {term}, and its disk knows {on_disk:?}"));
        }
        let holder = *self.checkers.served.entry(term).or_insert(i);
        if holder != i {
            self.violate("I3", format!("both nodes served in term {term}"));
        }
    }

    /// An order was written.
    pub fn check_order(&mut self, i: usize) {
        let term = self.nodes[i].kernel.order.serving_term;
        if term != 0 && self.checkers.served.get(&term).is_some_and(|holder| *holder != i) {
            self.violate("I3", format!("{i} orders its gate open in term {term}, in which the other one served"));
        }
    }

    /// PostgreSQL of `i` is started.
    pub fn check_start(&mut self, i: usize, standby: bool) {
        let node = &self.nodes[i];
        if standby != node.server.signal {
            self.violate("I9", format!("{i} is started as a standby: {standby}, its directory says otherwise"));
            return;
        }
        let claim = node.terms.claim();
        let latest = self.checkers.served.last_key_value().map_or(0, |(term, _)| *term);
        if !standby && claim < latest && self.checkers.one_server {
            self.violate("I9", format!("{i} starts as the primary of term {claim}, and term {latest} was served"));
        }
    }

    /// A write, or what a reader saw, left the gate of `i`.
    pub fn check_ack_term(&mut self, i: usize) {
        let term = self.nodes[i].kernel.order.serving_term;
        let latest = self.checkers.acked_term;
        if term < latest && self.checkers.one_server {
            self.violate("I7", format!("{i} acknowledged in term {term} after an acknowledgement in term {latest}"));
        }
        self.checkers.acked_term = latest.max(term);
    }
}
