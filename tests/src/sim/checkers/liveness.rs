//! I4, I11: after the faults one serves and the other one follows, or a node names the command that is needed.
//! I5: no takeover without a fault.

use super::super::schedule::MS;
use super::super::world::World;

/// How long a healed world may take. The longest waits of the core's own are half a minute each.
const BOUND: u64 = 120_000 * MS;

impl World {
    /// A standby is about to be promoted.
    pub fn promotes(&mut self, i: usize) {
        self.coverage.takeovers += 1;
        if self.checkers.quiet {
            self.violate("I5", format!("{i} takes over, and nothing is broken"));
        }
    }

    /// All faults are over.
    pub fn check_liveness(&mut self) {
        self.heal();
        self.checkers.quiet = false;
        if self.settle(BOUND) || self.violation.is_some() {
            return;
        }
        let views = self.views();
        let named: Vec<String> =
            self.nodes.iter().filter_map(|node| named_command(&node.daemon.as_ref()?.core)).collect();
        match named.first() {
            Some(command) => *self.coverage.by_hand.entry(command.clone()).or_default() += 1,
            None => self.violate("I11", format!("not well after {} s\n{}", BOUND / MS / 1000, views.join("\n"))),
        }
        for view in views {
            self.tell_story(|| view);
        }
    }
}

/// The command that `status` names, if it does.
fn named_command(core: &harbor_ha::core::Core) -> Option<String> {
    let snapshot = core.snapshot();
    let text = snapshot.refusal.unwrap_or(snapshot.why);
    let commands = ["harbor-ha failover --force", "harbor-ha resume", "pg_ctl", "pg_basebackup", "remove the file"];
    commands.into_iter().find(|command| text.contains(command)).map(str::to_owned)
}
