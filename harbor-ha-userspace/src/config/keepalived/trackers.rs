//! Judges `vrrp_script`, `vrrp_track_process` and `track_file`, and the lists that name them.

use std::time::Duration;

use super::draft::{self, Table, Tracked, Tracks};
use super::globals::HOUR;
use super::judge::{Judge, fits, run, set};
use super::safety::Culprit;
use super::tree::Node;
use super::verdict::Kind;
use crate::config::router::{instance, shared};
use crate::config::values;

const SHORTEST: Duration = Duration::from_millis(1);
const OF_SCRIPT: [&str; 8] = ["script", "interval", "timeout", "rise", "fall", "weight", "user", "init_fail"];
const OF_PROCESS: [&str; 9] = [
    "process",
    "param_match",
    "weight",
    "quorum",
    "quorum_max",
    "delay",
    "fork_delay",
    "terminate_delay",
    "full_command",
];
const OF_FILE: [&str; 3] = ["file", "weight", "init_file"];
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Judge<'_> {
    pub(super) fn tracker(&mut self, node: &Node) {
        let name = match node.word(1).map(|name| fits(name, shared::name)) {
            Some(Ok(name)) => name,
            Some(Err(why)) => return self.refused(node, why),
            None => return self.refused(node, "has no name"),
        };
        let known = match node.keyword() {
            "vrrp_script" => &self.draft.scripts,
            "vrrp_track_process" => &self.draft.processes,
            _ => &self.draft.files,
        };
        if known.iter().any(|(known, _)| *known == name) {
            return self.refused(node, "has a name that is there already; keepalived takes the first one");
        }
        let index = match node.keyword() {
            "vrrp_script" => 1,
            "vrrp_track_process" => 2,
            _ => 3,
        };
        let mut table = Table::default();
        table.set("name", draft::text(&name));
        let (kind, complete) = match node.keyword() {
            "vrrp_script" => ("script", self.script(node, &mut table)),
            "vrrp_track_process" => ("process", self.process(node, &mut table)),
            _ => ("file", self.file(node, &mut table)),
        };
        if let Err(why) = complete {
            self.ledger.note(node.place, node.keyword(), Kind::NotSupported, why.clone());
            return self.ledger.lose(self.scope(), &why);
        }
        if let Some(hole) = self.ledger.hole_in(node.place) {
            self.unread.insert((index, name));
            let why = format!("is not carried over: its line {} could not be read", hole.line);
            self.carried(node, "");
            return self.ledger.lose(self.scope(), &why);
        }
        self.carried(node, &format!("[[{kind}]]"));
        self.defined.push((index, name.clone(), self.at));
        match kind {
            "script" => self.draft.scripts.push((name, table)),
            "process" => self.draft.processes.push((name, table)),
            _ => self.draft.files.push((name, table)),
        }
    }

    fn script(&mut self, node: &Node, table: &mut Table) -> Result<(), String> {
        let mut account = None;
        for child in node.children() {
            self.no_block(child);
            if self.superseded(node, child, &OF_SCRIPT, &[]) {
                continue;
            }
            match child.keyword() {
                "script" => self.script_command(child, table),
                "interval" | "timeout" => {
                    if let Some(length) = self.seconds(child, SHORTEST, DAY) {
                        table.set(child.keyword(), draft::length(length));
                        self.carried(child, &format!("script.{}", child.keyword()));
                    }
                }
                "rise" | "fall" => {
                    if let Some(number) = self.number(child, 1, 10_000) {
                        set(table, child.keyword(), number);
                        self.carried(child, &format!("script.{}", child.keyword()));
                    }
                }
                "weight" => self.weight(child, table, 253),
                "user" => match Self::account(child.word(1), child.word(2)) {
                    Ok(Some(user)) => {
                        account = Some(user);
                        self.carried(child, "script.user");
                    }
                    Ok(None) => self.refused(child, "names no user"),
                    Err(why) => self.refused(child, why),
                },
                "init_fail" => {
                    table.set("init_fail", "true".into());
                    self.carried(child, "script.init_fail");
                }
                _ => self.unknown(child, &OF_SCRIPT),
            }
        }
        if let Some(account) = account {
            table.set("user", draft::text(&account));
        }
        match table.get("command") {
            Some(_) => Ok(()),
            None => Err("names no script that could be run; keepalived would run none either".into()),
        }
    }

    fn script_command(&mut self, node: &Node, table: &mut Table) {
        let line = match node.words_of_command() {
            Ok(line) => line,
            Err(why) => return self.refused(node, why),
        };
        let text = line.get(1).map(String::as_str).unwrap_or_default();
        match self.command(text) {
            Err(why) => self.refused(node, why),
            Ok((words, _)) if line.len() > 2 => {
                table.set("command", run(&words, None));
                let why = format!(
                    "script.command; as in keepalived, `{text}` runs without what follows it: put quotes around the \
                     whole command if that was meant"
                );
                self.trap(node, Kind::Changed, why);
            }
            Ok((words, note)) => {
                table.set("command", run(&words, None));
                let mut why = vec!["script.command".to_owned()];
                why.extend(note.clone());
                let program = words[0].rsplit('/').next().unwrap_or_default();
                if ["killall", "pidof", "pgrep"].contains(&program) {
                    why.push("a [[process]] would see the same without a program each time".into());
                }
                match note {
                    Some(_) => self.changed(node, why.join("; ")),
                    None => self.carried(node, &why.join("; ")),
                }
            }
        }
    }

    /// `weight N [reverse]`.
    fn weight(&mut self, node: &Node, table: &mut Table, most: i64) {
        let Some(weight) = self.number(node, -most, most) else { return };
        match node.word(2) {
            None => {}
            Some("reverse") => table.set("reverse", "true".into()),
            Some(_) => return self.refused(node, "takes a number and `reverse`"),
        }
        set(table, "weight", weight);
        self.carried(node, "weight");
    }

    fn process(&mut self, node: &Node, table: &mut Table) -> Result<(), String> {
        // Without a weight it is a fault that there are too few: keepalived's manual says 1, and keepalived does as we do.
        for child in node.children() {
            self.no_block(child);
            if self.superseded(node, child, &OF_PROCESS, &["process", "weight"]) {
                continue;
            }
            match child.keyword() {
                "process" => {
                    let words: Vec<&str> = child.words.iter().skip(1).map(String::as_str).collect();
                    let [program, arguments @ ..] = words.as_slice() else {
                        self.refused(child, "names no process");
                        continue;
                    };
                    if fits(program, values::line).is_err()
                        || program.is_empty()
                        || words.iter().any(|word| word.contains('\0'))
                    {
                        self.refused(child, "names no process that there could be");
                        continue;
                    }
                    table.set("process", draft::text(program));
                    if !arguments.is_empty() {
                        table.set("arguments", draft::list(arguments.iter().map(|word| draft::text(word))));
                    }
                    self.carried(child, "process.process");
                }
                "param_match" => match child.word(1) {
                    Some(kind @ ("initial" | "partial")) => {
                        table.set("match", draft::text(kind));
                        self.carried(child, "process.match");
                    }
                    // Without arguments it says that there must be none.
                    None => {
                        table.set("match", "\"exact\"".into());
                        self.carried(child, "process.match");
                    }
                    Some(_) => self.refused(child, "takes initial or partial"),
                },
                "weight" => self.weight(child, table, 254),
                "quorum" | "quorum_max" => {
                    if let Some(number) = self.number(child, 0, 65_535) {
                        set(table, child.keyword(), number);
                        self.carried(child, &format!("process.{}", child.keyword()));
                    }
                }
                "delay" | "fork_delay" | "terminate_delay" => {
                    if let Some(length) = self.seconds(child, Duration::ZERO, HOUR) {
                        table.set(child.keyword(), draft::length(length));
                        self.carried(child, &format!("process.{}", child.keyword()));
                    }
                }
                "full_command" => {
                    self.refused(child, "the whole command line is compared where process.arguments is set")
                }
                _ => self.unknown(child, &OF_PROCESS),
            }
        }
        if table.get("process").is_none() {
            return Err("names no process; keepalived ignores it".into());
        }
        if table.get("match").is_some() && table.get("arguments").is_none() {
            table.set("arguments", "[]".into());
        }
        let number = |key| table.get(key).and_then(|value| value.parse::<u32>().ok());
        match (number("quorum").unwrap_or(1), number("quorum_max")) {
            // `quorum_max 0`: there must be none of them.
            (1, Some(0)) if table.get("quorum").is_none() => table.set("quorum", "0".into()),
            (least, Some(most)) if most < least => {
                table.remove("quorum_max");
                if let Some(child) = node.last("quorum_max") {
                    let why = "is less than quorum, and keepalived ignores it";
                    self.ledger.replace(child.place, Kind::NotNeeded, why);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn file(&mut self, node: &Node, table: &mut Table) -> Result<(), String> {
        for child in node.children() {
            self.no_block(child);
            if self.superseded(node, child, &OF_FILE, &["file", "weight"]) {
                continue;
            }
            match child.keyword() {
                "file" => match child.word(1).map(|path| fits(path, values::path)) {
                    Some(Ok(path)) => {
                        table.set("path", draft::text(&path.to_string_lossy()));
                        self.carried(child, "file.path");
                    }
                    Some(Err(why)) => self.refused(child, why),
                    None => self.refused(child, "names no file"),
                },
                "weight" => self.weight(child, table, i64::from(i32::MAX)),
                "init_file" => {
                    let words: Vec<&str> = child.words.iter().skip(1).map(String::as_str).collect();
                    let (value, overwrite) = match words.as_slice() {
                        [] => (Some(0), false),
                        ["overwrite"] => (Some(0), true),
                        [value] => (value.parse::<i32>().ok(), false),
                        [value, "overwrite"] => (value.parse::<i32>().ok(), true),
                        _ => (None, false),
                    };
                    let Some(value) = value.filter(|value| *value != i32::MIN) else {
                        self.refused(child, "takes a number and `overwrite`");
                        continue;
                    };
                    set(table, "init", value);
                    set(table, "overwrite", overwrite);
                    self.carried(child, "file.init");
                }
                _ => self.unknown(child, &OF_FILE),
            }
        }
        match table.get("path") {
            Some(_) => Ok(()),
            None => Err("names no file; keepalived ignores it".into()),
        }
    }

    /// `track_interface`, `track_script`, `track_process` and `track_file`. `own`: the interface that is tracked anyway.
    pub(super) fn track(&mut self, node: &Node, own: Option<&str>, tracks: &mut Tracks) {
        let (index, most) = match node.keyword() {
            "track_interface" => (0, 253),
            "track_script" => (1, 253),
            "track_process" => (2, 254),
            _ => (3, i64::from(i32::MAX)),
        };
        self.carried(node, &format!("track.{}", draft::TRACKS[index]));
        for child in node.children() {
            self.no_block(child);
            if let Some(tracked) = self.tracked(child, index, most, own, &tracks.0[index]) {
                tracks.0[index].push(tracked);
            }
        }
    }

    fn tracked(
        &mut self,
        node: &Node,
        index: usize,
        most: i64,
        own: Option<&str>,
        known: &[Tracked],
    ) -> Option<Tracked> {
        let name = node.keyword().to_owned();
        let (mut weight, mut reverse) = (None, None);
        let mut words = node.words.iter().skip(1).map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "weight" => match words.next().and_then(|n| n.parse::<i64>().ok()).filter(|n| n.abs() <= most) {
                    Some(number) => weight = i32::try_from(number).ok(),
                    None => {
                        self.refused(node, format!("takes a weight from -{most} to {most}"));
                        return None;
                    }
                },
                "reverse" => reverse = Some(true),
                "noreverse" | "no_reverse" => reverse = Some(false),
                _ => {
                    self.refused(node, "takes `weight NUMBER` and `reverse`");
                    return None;
                }
            }
        }
        let trackers = match index {
            1 => Some((&self.draft.scripts, "vrrp_script")),
            2 => Some((&self.draft.processes, "vrrp_track_process")),
            3 => Some((&self.draft.files, "track_file")),
            _ => None,
        };
        let why = match trackers {
            None => instance::interface_name(&name).err(),
            Some((list, kind)) => {
                let known = list.iter().any(|(known, _)| *known == name);
                (!known).then(|| {
                    format!("there is no `{kind} {name}` that was carried over; keepalived tracks it not either")
                })
            }
        };
        if self.unread.contains(&(index, name.clone())) {
            let why = "is not carried over, as a line of it could not be read";
            self.refused(node, why);
            self.culprit.get_or_insert_with(|| Culprit::new(node, format!("`{name}`, which it tracks, {why}")));
            return None;
        }
        if let Some(why) = why {
            self.refused(node, why);
            return None;
        }
        if known.iter().any(|known| known.name == name) {
            self.refused(node, "is tracked already");
            return None;
        }
        if own == Some(name.as_str()) && weight.unwrap_or(0) == 0 && reverse != Some(true) {
            self.not_needed(node, "the instance's own interface is tracked anyway");
            return None;
        }
        let key = format!("track.{}", draft::TRACKS[index]);
        let below = self.defined.iter().any(|(of, known, at)| *of == index && *known == name && *at > self.at);
        if below {
            let why =
                "is defined below this block, so keepalived does not find it and tracks nothing; here it is tracked";
            self.trap(node, Kind::Changed, format!("{key}; {why}"));
        } else {
            self.carried(node, &key);
        }
        Some(Tracked { name, weight, reverse })
    }
}
