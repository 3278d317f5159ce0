//! Judges what runs on a change of state, and `vrrp_sync_group`.

use super::draft::{Group, Table, Tracks};
use super::judge::{Judge, fits, run, set};
use super::tree::Node;
use super::verdict::Kind;
use crate::config::router::shared;

/// What is judged here.
pub(super) const OWN: [&str; 8] = [
    "notify_master",
    "notify_backup",
    "notify_fault",
    "notify_stop",
    "notify",
    "notify_master_rx_lower_pri",
    "notify_priority_changes",
    "smtp_alert",
];

/// Of [`OWN`], the scripts: of two in a block keepalived keeps the first.
pub(super) const SCRIPTS: [&str; 6] =
    ["notify_master", "notify_backup", "notify_fault", "notify_stop", "notify", "notify_master_rx_lower_pri"];

/// What becomes of a script of keepalived's, which runs each at once and looks after none.
const QUEUE: &str = "one at a time: a state that a newer one overtakes is skipped; ended after 1 h (notify.timeout) and at the \
                     daemon's end; what it left in the background lives on (notify.leave_background)";
const STOP: &str = "one at a time; ended 5 s after the daemon was asked to end; what it left in the background lives on \
                    (notify.leave_background)";

impl Judge<'_> {
    /// One statement of [`OWN`].
    pub(super) fn notify(&mut self, node: &Node, table: &mut Table) {
        self.no_block(node);
        let key = match node.keyword() {
            "notify_master" => "master",
            "notify_backup" => "backup",
            "notify_fault" => "fault",
            "notify_stop" => "stop",
            "notify" => "all",
            "notify_master_rx_lower_pri" => "lower_priority",
            "notify_priority_changes" => {
                if let Some(on) = self.switch(node) {
                    set(table, "priority_changes", on);
                    self.carried(node, "notify.priority_changes");
                }
                return;
            }
            _ => {
                let Some(on) = self.switch(node) else { return };
                self.mail_lines.push(node.place);
                self.mail_wanted |= on;
                set(table, "mail", on);
                return self.carried(node, "notify.mail");
            }
        };
        let words = match node.words_of_command() {
            Ok(words) => words,
            Err(why) => return self.refused(node, format!("{why}; keepalived runs nothing here either")),
        };
        let word = |n: usize| words.get(n).map(String::as_str);
        let Some(text) = word(1) else {
            return self.refused(node, "names no script");
        };
        let account = match Self::account(word(2), word(3)) {
            Ok(account) => account,
            Err(why) => return self.refused(node, why),
        };
        let (words, note) = match self.command(text) {
            Ok(found) => found,
            Err(why) => return self.refused(node, why),
        };
        let rendered = run(&words, account.as_deref());
        if self.options.pair.as_ref().is_some_and(|pair| !pair.keep_notify) {
            self.draft.left_out.push((key.to_owned(), rendered));
            return self.not_needed(
                node,
                "harbor-ha itself promotes, demotes and rejoins PostgreSQL; if the script does more than that, import with \
                 --keep-notify",
            );
        }
        table.set(key, rendered);
        // As near to keepalived as there is: it has no limit, and ends nothing that a script leaves.
        for (key, value) in [("timeout", "\"1h\""), ("leave_background", "true")] {
            // Below the scripts.
            table.remove(key);
            table.set(key, value.to_owned());
        }
        let note = note.map_or_else(String::new, |note| format!("; {note}"));
        let truths = if key == "stop" { STOP } else { QUEUE };
        self.changed(node, format!("notify.{key}{note}; {truths}"));
    }

    pub(super) fn group(&mut self, node: &Node) {
        let name = match node.word(1).map(|name| fits(name, shared::name)) {
            Some(Ok(name)) => name,
            Some(Err(why)) => return self.refused(node, why),
            None => return self.refused(node, "has no name"),
        };
        if self.options.pair.is_some() {
            return self.refused(node, "a pair has one instance, so no group; import without --postgres");
        }
        if self.draft.groups.iter().any(|group| group.name == name) {
            return self.refused(node, "has the name of a group that is there already");
        }
        let mut group = Group {
            name,
            members: Vec::new(),
            main: Table::default(),
            track: Tracks::default(),
            notify: Table::default(),
        };
        self.carried(node, "[[group]]");
        for child in node.children() {
            if self.superseded(node, child, &["smtp_alert", "notify_priority_changes"], &SCRIPTS) {
                continue;
            }
            match child.keyword() {
                "group" => {
                    self.carried(child, "group.instances");
                    child.children().iter().for_each(|member| self.member(member, &mut group.members));
                }
                "track_interface" | "track_script" | "track_process" | "track_file" => {
                    self.track(child, None, &mut group.track);
                }
                keyword if OWN.contains(&keyword) && keyword != "notify_master_rx_lower_pri" => {
                    self.notify(child, &mut group.notify);
                }
                "sync_group_tracking_weight" => {
                    group.main.set("tracking_weight", "true".into());
                    self.carried(child, "group.tracking_weight");
                }
                "global_tracking" => {
                    group.main.set("tracking_weight", "true".into());
                    self.changed(child, "group.tracking_weight, which took the place of this old word");
                }
                "track_bfd" => self.refused(child, "there is no BFD; use track.interfaces or a [[script]]"),
                "notify_deleted" => {
                    self.refused(child, "no group is ever deleted while the daemon runs; use notify.stop")
                }
                _ => self.unknown(
                    child,
                    &["group", "track_interface", "track_script", "notify_master", "notify_backup", "notify_fault"],
                ),
            }
        }
        if let Some(hole) = self.ledger.hole_in(node.place) {
            let why = format!("its group is not carried over: its line {} could not be read", hole.line);
            return self.ledger.lose(self.scope(), &why);
        }
        if group.members.is_empty() {
            self.ledger.lose(self.scope(), "its group has no instance that was carried over");
            return;
        }
        if self.globals.priority_changes {
            group.notify.set_default("priority_changes", "true");
        }
        self.draft.groups.push(group);
    }

    fn member(&mut self, node: &Node, members: &mut Vec<String>) {
        self.no_block(node);
        for word in &node.words {
            let name = word.clone();
            let elsewhere = self.draft.groups.iter().find(|group| group.members.contains(&name));
            if !self.draft.instances.iter().any(|instance| instance.name == name) {
                self.refused(node, "names no instance that was carried over");
            } else if members.contains(&name) {
                self.not_needed(node, "is a member already");
            } else if let Some(group) = elsewhere {
                let why = format!("is in group `{}` too, and an instance can follow one group", group.name);
                self.refused(node, why);
            } else {
                members.push(name);
                self.ledger.note(node.place, node.keyword(), Kind::Carried, "group.instances");
            }
        }
    }
}
