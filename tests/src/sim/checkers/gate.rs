//! I1: at no instant are two gates open.

use harbor_ha_ebpf::decide::gate::Gate;

use super::super::world::World;

impl World {
    /// After every event: time alone shuts gates and never opens one, so nothing is missed between two events.
    pub fn observe(&mut self) {
        for i in 0..2 {
            let gate = if self.nodes[i].power { self.gate(i) } else { Gate::NotServing };
            if gate == self.nodes[i].gate {
                continue;
            }
            self.nodes[i].gate = gate;
            self.coverage.gate(gate);
            self.tell_story(|| format!("{i}: gate {}", gate.name()));
            if gate == Gate::Open {
                self.opened(i);
            } else if self.checkers.quiet && gate != Gate::Expired {
                self.violate("I10", format!("the gate of {i} was shut without a fault"));
            }
        }
        if self.checkers.one_server && self.nodes.iter().all(|node| node.gate == Gate::Open) {
            let terms = [0, 1].map(|i| self.nodes[i].kernel.order.serving_term);
            self.violate("I1", format!("two gates are open, in terms {terms:?}"));
        }
    }

    /// An authentic packet of this term got to `i`: from this instant on it serves in no earlier one.
    pub fn heard_term(&mut self, i: usize, term: u64) {
        let heard = self.checkers.heard[i].max(term);
        self.checkers.heard[i] = heard;
        let serving = self.nodes[i].kernel.order.serving_term;
        if self.gate(i) == Gate::Open && serving < heard {
            self.violate("I1", format!("the gate of {i} is open in term {serving}, and it was told of term {heard}"));
        }
    }

    fn opened(&mut self, i: usize) {
        self.heard_term(i, 0);
        self.check_term(i);
        self.check_kept(i);
    }
}
