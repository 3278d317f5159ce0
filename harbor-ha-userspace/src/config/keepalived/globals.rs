//! Judges `global_defs`.
// size: one block, and half of it is words

use std::time::Duration;

use super::draft::{self, Table};
use super::judge::{Judge, fits, run};
use super::tree::Node;
use super::verdict::{Kind, Place};
use crate::config::router::shared;
use crate::config::settings::VrrpVersion;
use crate::config::values;

/// What holds for every instance that does not say otherwise.
#[derive(Debug)]
pub(super) struct Globals {
    pub(super) version: VrrpVersion,
    pub(super) announce: Table,
    /// Keys of an instance.
    pub(super) main: Table,
    pub(super) rfc9568: bool,
    pub(super) priority_changes: bool,
    /// `vrrp_min_garp`.
    pub(super) one_announcement: bool,
    /// Where the pipe is that keepalived shares with its other parts: by our key.
    shared_fifo: Vec<(&'static str, Place)>,
    /// Who gets mails.
    recipients: Vec<String>,
    /// `vrrp_strict`.
    pub(super) strict: bool,
    /// Where adverts are sent to another group.
    pub(super) other_group: Option<Place>,
}

impl Default for Globals {
    fn default() -> Self {
        Self {
            version: VrrpVersion::V2,
            announce: Table::default(),
            main: Table::default(),
            rfc9568: false,
            priority_changes: false,
            one_announcement: false,
            shared_fifo: Vec::new(),
            recipients: Vec::new(),
            strict: false,
            other_group: None,
        }
    }
}

pub(super) const HOUR: Duration = Duration::from_secs(3600);
const ONE_PIPE: &str = "there is one pipe, and vrrp_notify_fifo has it; let its reader serve both";
const EACH: &str = "of each instance that does not say otherwise";

/// What is judged below.
const OWN: [&str; 37] = [
    "router_id",
    "notification_email",
    "notification_email_from",
    "smtp_server",
    "smtp_helo_name",
    "smtp_connect_timeout",
    "smtp_alert",
    "smtp_alert_vrrp",
    "no_email_faults",
    "vrrp_version",
    "vrrp_garp_master_delay",
    "vrrp_garp_master_repeat",
    "vrrp_garp_master_refresh",
    "vrrp_garp_master_refresh_repeat",
    "vrrp_garp_lower_prio_delay",
    "vrrp_garp_lower_prio_repeat",
    "vrrp_garp_interval",
    "vrrp_gna_interval",
    "vrrp_min_garp",
    "vrrp_down_timer_adverts",
    "vrrp_lower_prio_no_advert",
    "vrrp_higher_prio_send_advert",
    "v3_checksum_as_v2",
    "vrrp_check_unicast_src",
    "vrrp_skip_check_adv_addr",
    "vrrp_startup_delay",
    "vrrp_delay_after_boot",
    "vrrp_rt_priority",
    "vrrp_no_swap",
    "notify_fifo",
    "vrrp_notify_fifo",
    "notify_fifo_script",
    "vrrp_notify_fifo_script",
    "vrrp_notify_priority_changes",
    "script_user",
    "vrrp_mcast_group4",
    "process_name",
];

/// Of which keepalived keeps the last in a block; it gathers recipients, and of pipes it keeps the first.
pub(super) fn once() -> Vec<&'static str> {
    OWN.into_iter().filter(|word| *word != "notification_email" && !word.contains("fifo")).collect()
}

impl Judge<'_> {
    pub(super) fn global(&mut self, node: &Node) {
        if node.keyword() != "notification_email" && OWN.contains(&node.keyword()) {
            self.no_block(node);
        }
        match node.keyword() {
            "router_id" => match node.word(1).map(|id| fits(id, values::line)) {
                Some(Ok(id)) => {
                    self.draft.router.set("router_id", draft::text(&id));
                    self.carried(node, "router.router_id");
                }
                Some(Err(why)) => self.refused(node, why),
                None => self.refused(node, "names no router"),
            },
            "notification_email"
            | "notification_email_from"
            | "smtp_server"
            | "smtp_helo_name"
            | "smtp_alert"
            | "smtp_connect_timeout"
            | "smtp_alert_vrrp"
            | "no_email_faults" => self.mail(node),
            "vrrp_version" => {
                if let Some(version) = self.number(node, 2, 3) {
                    self.globals.version = if version == 2 { VrrpVersion::V2 } else { VrrpVersion::V3 };
                    self.carried(node, &format!("instance.version {EACH}"));
                }
            }
            keyword if keyword.starts_with("vrrp_garp_master") || keyword.starts_with("vrrp_garp_lower_prio") => {
                let mut announce = std::mem::take(&mut self.globals.announce);
                self.announce(node, &keyword["vrrp_".len()..], &mut announce, EACH);
                self.globals.announce = announce;
            }
            "vrrp_garp_interval" => self.garp_interval(node),
            "vrrp_gna_interval" => match node.word(1).and_then(super::timing::seconds) {
                Some(Duration::ZERO) => {
                    self.trap(node, Kind::NotNeeded, "0 is keepalived's default and paces nothing; and it is for IPv6");
                }
                _ => self.not_needed(node, "is for the neighbour advertisements of IPv6"),
            },
            "vrrp_min_garp" => {
                if let Some(on) = self.switch(node) {
                    self.globals.one_announcement = on;
                    self.carried(node, "instance.announce repeat = 1 and delay = \"0s\"");
                }
            }
            "vrrp_down_timer_adverts" => {
                if let Some(number) = self.number(node, 1, 100) {
                    self.globals.main.set("down_timer_adverts", number.to_string());
                    self.carried(node, &format!("instance.down_timer_adverts {EACH}"));
                }
            }
            "vrrp_lower_prio_no_advert"
            | "vrrp_higher_prio_send_advert"
            | "vrrp_skip_check_adv_addr"
            | "vrrp_check_unicast_src" => self.global_switch(node),
            "v3_checksum_as_v2" => {
                if let Some(on) = self.switch(node) {
                    self.globals.rfc9568 = on;
                    self.carried(node, "instance.checksum = \"rfc9568\" of each instance of version 3");
                }
            }
            "vrrp_startup_delay" | "vrrp_delay_after_boot" => {
                let key = &node.keyword()["vrrp_".len()..];
                if let Some(delay) = self.seconds(node, Duration::ZERO, HOUR) {
                    self.draft.router.set(key, draft::length(delay));
                    self.carried(node, &format!("router.{key}"));
                }
            }
            "vrrp_rt_priority" => {
                if let Some(priority) = self.number(node, 1, 99) {
                    self.draft.realtime.set("priority", priority.to_string());
                    self.carried(node, "realtime.priority");
                }
            }
            "vrrp_no_swap" => {
                self.draft.realtime.set("lock_memory", "true".into());
                self.carried(node, "realtime.lock_memory");
            }
            "notify_fifo" | "vrrp_notify_fifo" | "notify_fifo_script" | "vrrp_notify_fifo_script" => self.fifo(node),
            "vrrp_notify_priority_changes" => {
                if let Some(on) = self.switch(node) {
                    self.globals.priority_changes = on;
                    self.carried(node, &format!("notify.priority_changes {EACH}"));
                }
            }
            "script_user" => match Self::account(node.word(1), node.word(2)) {
                Ok(Some(account)) => {
                    self.draft.router.set("script_user", draft::text(&account));
                    self.carried(node, "router.script_user");
                }
                Ok(None) => self.refused(node, "names no user"),
                Err(why) => self.refused(node, why),
            },
            "vrrp_mcast_group4" => match node.word(1) {
                Some("224.0.0.18") => self.not_needed(node, "is the address of the protocol, and the default"),
                _ => {
                    self.globals.other_group = Some(node.place);
                    self.refused(node, "adverts go to 224.0.0.18, the address of the protocol; use instance.peers");
                }
            },
            "vrrp_strict" => {
                self.globals.strict = true;
                self.listed(node, false, &OWN);
            }
            _ => self.listed(node, false, &OWN),
        }
    }

    fn global_switch(&mut self, node: &Node) {
        let Some(on) = self.switch(node) else { return };
        let (key, default) = match node.keyword() {
            "vrrp_lower_prio_no_advert" => ("lower_prio_no_advert", false),
            "vrrp_higher_prio_send_advert" => ("higher_prio_send_advert", false),
            "vrrp_check_unicast_src" => ("check_source", true),
            _ => ("skip_check_adv_addr", false),
        };
        if on != default {
            self.globals.main.set(key, on.to_string());
        }
        self.carried(node, &format!("instance.{key} {EACH}"));
    }

    fn garp_interval(&mut self, node: &Node) {
        match node.word(1).and_then(super::timing::seconds) {
            Some(Duration::ZERO) => self.trap(
                node,
                Kind::NotNeeded,
                "0 is keepalived's default and paces nothing; if a switch loses bursts, set instance.announce.interval",
            ),
            Some(gap) if gap <= Duration::from_secs(60) => {
                self.globals.announce.set("interval", draft::length(gap));
                self.carried(node, &format!("instance.announce.interval {EACH}"));
            }
            _ => self.refused(node, "takes seconds, 0s to 60s"),
        }
    }

    /// `[vrrp_]garp_…`, of all or of one.
    pub(super) fn announce(&mut self, node: &Node, name: &str, table: &mut Table, of: &str) {
        let (key, least) = match name {
            "garp_master_delay" => ("delay", None),
            "garp_master_refresh" => ("refresh", None),
            "garp_master_repeat" => ("repeat", Some(1)),
            "garp_master_refresh_repeat" => ("refresh_repeat", Some(1)),
            "garp_lower_prio_delay" => ("lower_priority_delay", None),
            "garp_lower_prio_repeat" => ("lower_priority_repeat", Some(0)),
            _ => return self.listed(node, of.is_empty(), &OWN),
        };
        let value = match least {
            Some(least) => {
                let wanted = node.word(1).and_then(|word| word.parse::<u32>().ok());
                let Some(wanted) = wanted else {
                    return self.refused(node, "takes a whole number; the default is used");
                };
                let value = wanted.clamp(least, 100);
                if value != wanted {
                    self.changed(node, format!("{value} instead of {wanted}: {least} to 100 are sensible"));
                }
                value.to_string()
            }
            None => {
                let Some(wanted) = self.seconds(node, Duration::ZERO, HOUR) else { return };
                let shortest = Duration::from_millis(100);
                let value = if key == "refresh" && !wanted.is_zero() { wanted.max(shortest) } else { wanted };
                if value != wanted {
                    self.changed(node, "100ms, as more than ten a second only load the network");
                }
                draft::length(value)
            }
        };
        table.set(key, value);
        self.carried(node, format!("instance.announce.{key} {of}").trim_end());
    }

    fn mail(&mut self, node: &Node) {
        self.mail_lines.push(node.place);
        let word = node.word(1).unwrap_or_default().to_owned();
        let (key, value) = match node.keyword() {
            "notification_email" => {
                self.carried(node, "mail.to");
                return self.recipients(node);
            }
            "notification_email_from" => match fits(&word, shared::mailbox) {
                Ok(from) => ("from", draft::text(&from)),
                Err(why) => return self.refused(node, why),
            },
            "smtp_server" => {
                let server = format!("{word}:{}", node.word(2).unwrap_or("25"));
                match fits(&server, shared::server) {
                    Ok(_) => ("server", draft::text(&server)),
                    Err(why) => return self.refused(node, why),
                }
            }
            "smtp_helo_name" => match fits(&word, values::line) {
                Ok(name) if !name.is_empty() => ("helo", draft::text(&name)),
                _ => return self.refused(node, "names nothing"),
            },
            "smtp_connect_timeout" => {
                let Some(timeout) = self.seconds(node, Duration::from_secs(1), Duration::from_secs(600)) else {
                    return;
                };
                ("timeout", draft::length(timeout))
            }
            "no_email_faults" => ("faults", "false".to_owned()),
            _ => {
                let Some(on) = self.switch(node) else { return };
                self.mail_wanted |= on;
                ("all", on.to_string())
            }
        };
        self.draft.mail.set(key, value);
        self.carried(node, &format!("mail.{key}"));
    }

    fn recipients(&mut self, node: &Node) {
        let mut to = std::mem::take(&mut self.globals.recipients);
        // keepalived takes several on one line.
        for child in node.children() {
            self.mail_lines.push(child.place);
            self.no_block(child);
            for word in &child.words {
                match fits(word, shared::mailbox) {
                    Ok(address) => {
                        to.push(draft::text(&address));
                        self.carried(child, "mail.to");
                    }
                    Err(why) => self.refused(child, why),
                }
            }
        }
        if !to.is_empty() {
            self.draft.mail.set("to", draft::list(to.iter().cloned()));
        }
        self.globals.recipients = to;
    }

    /// What became of the mails is known when all who might want one were heard.
    pub(super) fn end_of_mail(&mut self) {
        let lines = std::mem::take(&mut self.mail_lines);
        let mail = &mut self.draft.mail;
        let complete = mail.get("server").is_some() && mail.get("to").is_some();
        if complete {
            if mail.get("from").is_none() {
                let host = self.around.name().unwrap_or_else(|| "localhost".to_owned());
                let from =
                    fits(&format!("root@{host}"), shared::mailbox).unwrap_or_else(|_| "root@localhost".to_owned());
                mail.set("from", draft::text(&from));
                if let Some(first) = lines.iter().min() {
                    let why = format!("mail.from = \"{from}\", as keepalived has it without notification_email_from");
                    self.ledger.note(*first, "notification_email", Kind::Carried, why);
                }
            }
            // As keepalived sends them; a server that nobody can verify must not lose them.
            mail.set_default("tls", "\"none\"");
            if let Some(first) = lines.iter().min().filter(|_| !self.mail_wanted) {
                let why = "keepalived is never asked to send any, as there is no `smtp_alert`; mail.all = true would";
                self.ledger.warn(*first, why);
            }
            return;
        }
        *mail = Table::default();
        let why = "keepalived sends no mail without smtp_server and notification_email, so there is no [mail]";
        lines.iter().for_each(|place| self.ledger.replace(*place, Kind::NotNeeded, why));
        for instance in &mut self.draft.instances {
            instance.notify.remove("mail");
        }
        for group in &mut self.draft.groups {
            group.notify.remove("mail");
        }
    }

    /// One pipe: VRRP's own before the one that it shares with keepalived's other parts.
    fn fifo(&mut self, node: &Node) {
        let table = &self.draft.fifo;
        let (key, own) = match node.keyword() {
            "notify_fifo" => ("path", false),
            "vrrp_notify_fifo" => ("path", true),
            "notify_fifo_script" => ("command", false),
            _ => ("command", true),
        };
        let shared = self.globals.shared_fifo.iter().any(|(known, _)| *known == key);
        if table.get(key).is_some() && own != shared {
            return self.trap(node, Kind::NotNeeded, "is there already, and keepalived keeps the first one");
        }
        if table.get(key).is_some() && !own {
            return self.refused(node, ONE_PIPE);
        }
        if own {
            for (_, place) in self.globals.shared_fifo.extract_if(.., |(known, _)| *known == key) {
                self.ledger.replace(place, Kind::NotSupported, ONE_PIPE);
            }
        } else {
            self.globals.shared_fifo.push((key, node.place));
        }
        let words = match key {
            "path" => node.words.clone(),
            _ => match node.words_of_command() {
                Ok(words) => words,
                Err(why) => return self.refused(node, why),
            },
        };
        let word = |n: usize| words.get(n).map(String::as_str);
        let account = match Self::account(word(2), word(3)) {
            Ok(account) => account,
            Err(why) => return self.refused(node, why),
        };
        if key == "path" {
            let Some(path) = word(1).filter(|path| fits(path, values::path).is_ok()) else {
                return self.refused(node, "takes an absolute path");
            };
            let path = draft::text(path);
            self.draft.fifo.set("path", path);
            if let Some(account) = account {
                self.draft.fifo.set("user", draft::text(&account));
            }
            return self.carried(node, "router.fifo");
        }
        match self.command(word(1).unwrap_or_default()) {
            Ok((words, note)) => {
                self.draft.fifo.set("command", run(&words, account.as_deref()));
                match note {
                    Some(note) => self.changed(node, format!("router.fifo.command; {note}")),
                    None => self.carried(node, "router.fifo.command"),
                }
            }
            Err(why) => self.refused(node, why),
        }
    }
}
