//! The tables that a pair and a router have in common: what is tracked, what is told, and to whom.

use std::time::Duration;

use toml::de::DeValue;

use super::command;
use super::settings::{Account, File, Mail, MailTls, Matching, Notify, Process, Run, Script, Track, Tracked, Trackers};
use crate::config::reader::{Document, Entry, Section};
use crate::config::settings::Login;
use crate::config::suggest;
use crate::config::values::{self, Reading, boolean, duration, integer, line, path, signed};

/// What a list may refer to: known names, as far as they could be read, with the weight and direction each brings.
#[derive(Default)]
pub(in crate::config) struct Known {
    scripts: Vec<(String, i32, bool)>,
    processes: Vec<(String, i32, bool)>,
    files: Vec<(String, i32, bool)>,
    /// What `notify.mail` is where it is not set; `None` without [mail].
    mail: Option<bool>,
}

impl Known {
    pub(in crate::config) fn new(trackers: Option<&Trackers>, mail: Option<&Option<Mail>>) -> Option<Self> {
        let (trackers, mail) = (trackers?, mail?);
        Some(Self {
            scripts: trackers.scripts.iter().map(|it| (it.name.clone(), it.weight, it.reverse)).collect(),
            processes: trackers.processes.iter().map(|it| (it.name.clone(), it.weight, it.reverse)).collect(),
            files: trackers.files.iter().map(|it| (it.name.clone(), it.weight, it.reverse)).collect(),
            mail: mail.as_ref().map(|mail| mail.all),
        })
    }
}

/// `[[script]] [[process]] [[file]]`.
pub(in crate::config) fn trackers<'a>(document: &'a Document<'a>) -> Option<Trackers> {
    let scripts = named(document.sections("script"), script, |it| &it.name);
    let processes = named(document.sections("process"), process, |it| &it.name);
    let files = named(document.sections("file"), file, |it| &it.name);
    Some(Trackers { scripts: scripts?, processes: processes?, files: files? })
}

/// Each table of a list, and no name twice.
pub(super) fn named<'a, T>(
    sections: Vec<Section<'a>>,
    read: impl Fn(&Section<'a>) -> Option<T>,
    name: impl Fn(&T) -> &String,
) -> Option<Vec<T>> {
    let found: Vec<Option<T>> = sections.iter().map(&read).collect();
    let mut all = true;
    for (n, section) in sections.iter().enumerate() {
        let Some(item) = &found[n] else { continue };
        if found[..n].iter().flatten().any(|earlier| name(earlier) == name(item)) {
            let text = format!("{:?} is there twice; use another name, or remove one of the two", name(item));
            all = section.problem::<()>("name", text).is_some();
        }
    }
    let found: Option<Vec<T>> = found.into_iter().collect();
    found.filter(|_| all)
}

/// The longest name of an instance, a group or a tracker: it goes into mails, lines of the FIFO and arguments.
const LONGEST_NAME: usize = 64;

/// A name that scripts get as an argument and that stands between quotes in the FIFO.
pub(in crate::config) fn name(value: &DeValue<'_>) -> Reading<String> {
    let text = line(value)?;
    if text.is_empty() || text.len() > LONGEST_NAME || text.contains('"') {
        return Err(format!("{text:?} would not do as a name; use 1 to {LONGEST_NAME} bytes without quotes"));
    }
    Ok(text)
}

const WEIGHTS: std::ops::RangeInclusive<i32> = -253..=253;
const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

fn script(section: &Section<'_>) -> Option<Script> {
    let name = section.required("name", "\"chk_postgres\"", name);
    let command = section.required("command", "[\"/usr/local/bin/check\"]", words);
    let range = Duration::from_millis(1)..=24 * HOUR;
    let interval = section.or("interval", SECOND, |value| duration(value, range.clone()));
    // As keepalived: a run that is not done when the next one is due has failed.
    let timeout = section.or("timeout", interval.unwrap_or(SECOND), |value| duration(value, range.clone()));
    let rise = section.or("rise", 1, |value| integer(value, 1..=10_000u32));
    let fall = section.or("fall", 1, |value| integer(value, 1..=10_000u32));
    let weight = section.or("weight", 0, |value| signed(value, WEIGHTS));
    let reverse = section.or("reverse", false, boolean);
    let user = section.optional("user", account);
    let init_fail = section.or("init_fail", false, boolean);
    Some(Script {
        name: name?,
        run: Run { words: command?, user: user? },
        interval: interval?,
        timeout: timeout?,
        rise: rise?,
        fall: fall?,
        weight: weight?,
        reverse: reverse?,
        init_fail: init_fail?,
    })
}

fn process(section: &Section<'_>) -> Option<Process> {
    let name = section.required("name", "\"postgres\"", name);
    let process = section.required("process", "\"postgres\"", program);
    let arguments = section.optional("arguments", strings);
    let kinds = [("exact", Matching::Exact), ("initial", Matching::Initial), ("partial", Matching::Partial)];
    let matching = section.or("match", Matching::Exact, |value| values::word(value, &kinds));
    let quorum = section.or("quorum", 1, |value| integer(value, 0..=65_535u32));
    let quorum_max = section.optional("quorum_max", |value| integer(value, 0..=65_535u32));
    let weight = section.or("weight", 0, |value| signed(value, -254..=254));
    let reverse = section.or("reverse", false, boolean);
    let zero = Duration::ZERO..=HOUR;
    let delay = section.or("delay", Duration::ZERO, |value| duration(value, zero.clone()));
    let both = delay.unwrap_or_default();
    let fork_delay = section.or("fork_delay", both, |value| duration(value, zero.clone()));
    let terminate_delay = section.or("terminate_delay", both, |value| duration(value, zero.clone()));
    if matching.is_some_and(|matching| matching != Matching::Exact) && matches!(arguments, Some(None)) {
        section.problem::<()>("match", "there are no arguments to compare; add `arguments`, or remove it");
    }
    if let (Some(least), Some(Some(most))) = (quorum, quorum_max)
        && most < least
    {
        let text = format!("{most} is less than quorum, so no number of processes would do; use {least} or more");
        section.problem::<()>("quorum_max", text);
    }
    delay?;
    Some(Process {
        name: name?,
        process: process?,
        arguments: arguments?,
        matching: matching?,
        quorum: quorum?,
        quorum_max: quorum_max?,
        weight: weight?,
        reverse: reverse?,
        fork_delay: fork_delay?,
        terminate_delay: terminate_delay?,
    })
}

fn file(section: &Section<'_>) -> Option<File> {
    let name = section.required("name", "\"maintenance\"", name);
    let path = section.required("path", "\"/run/maintenance\"", path);
    let weight = section.or("weight", 1, |value| signed(value, -i32::MAX..=i32::MAX));
    let reverse = section.or("reverse", false, boolean);
    let init = section.optional("init", |value| signed(value, -i32::MAX..=i32::MAX));
    let overwrite = section.or("overwrite", false, boolean);
    if overwrite == Some(true) && matches!(init, Some(None)) {
        section.missing::<()>("init", "0");
    }
    Some(File { name: name?, path: path?, weight: weight?, reverse: reverse?, init: init?, overwrite: overwrite? })
}

fn program(value: &DeValue<'_>) -> Reading<String> {
    let text = line(value)?;
    if text.is_empty() { Err("is empty; use the name of a program, like \"postgres\"".into()) } else { Ok(text) }
}

fn strings(value: &DeValue<'_>) -> Reading<Vec<String>> {
    let DeValue::Array(items) = value else { return Err(values::wrong_type(value, "a list of strings, [\"…\"]")) };
    let argument = |item: &toml::Spanned<DeValue<'_>>| {
        let text = values::string(item.get_ref())?;
        if text.contains('\0') { Err(format!("{text:?} holds a zero byte; remove it")) } else { Ok(text.to_owned()) }
    };
    items.iter().map(argument).collect()
}

/// A command: a list of words, or one text that is split as keepalived splits it.
fn words(value: &DeValue<'_>) -> Reading<Vec<String>> {
    let words = match value {
        DeValue::String(text) => command::split(text).map_err(|why| format!("{text:?} {why}"))?,
        other => strings(other)?,
    };
    let Some(program) = words.first() else {
        return Err("is empty; name a program by its absolute path".into());
    };
    if !program.starts_with('/') {
        return Err(format!(
            "{program:?} would be looked for along a PATH; begin it with `/`, as `command -v` shows it"
        ));
    }
    Ok(words)
}

/// `user` or `user:group`.
pub(in crate::config) fn account(value: &DeValue<'_>) -> Reading<Account> {
    let text = values::string(value)?;
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let fits = |name: &str| {
        !name.is_empty()
            && name.len() <= 32
            && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':')
    };
    if !fits(user) || group.is_some_and(|group| !fits(group)) {
        return Err(format!("{text:?} names no user; use \"user\" or \"user:group\""));
    }
    Ok(Account { user: user.to_owned(), group: group.map(str::to_owned) })
}

/// `key`: words, a text, or a table with `command` and `user`.
pub(super) fn run(
    section: &Section<'_>,
    key: &str,
    class: &'static str,
    user: Option<&Account>,
) -> Option<Option<Run>> {
    let with = |words| Run { words, user: user.cloned() };
    match section.value_or_table(key, class, words)? {
        None => Some(None),
        Some(Ok(words)) => Some(Some(with(words))),
        Some(Err(table)) => {
            let command = table.required("command", "[\"/usr/local/bin/notify\"]", words);
            let own = table.optional("user", account);
            Some(Some(Run { words: command?, user: own?.or(user.cloned()) }))
        }
    }
}

/// `[….notify]`; `known` is `None` when [mail] was found wrong.
pub(in crate::config) fn notify(section: &Section<'_>, known: Option<&Known>) -> Option<Notify> {
    let user = section.optional("user", account);
    let whose = user.clone().flatten();
    let run = |key| run(section, key, "notify.run", whose.as_ref());
    let (master, backup, fault, stop) = (run("master"), run("backup"), run("fault"), run("stop"));
    let (all, lower_priority) = (run("all"), run("lower_priority"));
    let timeout = section.or("timeout", 30 * SECOND, |value| duration(value, Duration::from_millis(100)..=HOUR));
    let leave_background = section.or("leave_background", false, boolean);
    let mail = section.optional("mail", boolean);
    let priority_changes = section.or("priority_changes", false, boolean);
    if mail == Some(Some(true)) && known.is_some_and(|known| known.mail.is_none()) {
        section.problem::<()>("mail", "there is no [mail] to send it by; add that table, or use false");
    }
    let mail = mail.zip(known).map(|(mail, known)| mail.unwrap_or(known.mail.unwrap_or(false)));
    user?;
    Some(Notify {
        master: master?,
        backup: backup?,
        fault: fault?,
        stop: stop?,
        all: all?,
        lower_priority: lower_priority?,
        timeout: timeout?,
        leave_background: leave_background?,
        mail: mail?,
        priority_changes: priority_changes?,
    })
}

/// `[….track]`; `known` is `None` when the lists of trackers were found wrong.
pub(in crate::config) fn track(section: &Section<'_>, known: Option<&Known>) -> Option<Track> {
    let interfaces =
        tracked(section, "interfaces", WEIGHTS, |_, name| super::instance::interface_name(name).map(|()| (0, false)));
    let of = |kind: &'static str, list: fn(&Known) -> &[(String, i32, bool)]| {
        move |_: &Section<'_>, name: &str| {
            let Some(known) = known else { return Ok((0, false)) };
            let list = list(known);
            if let Some((_, weight, reverse)) = list.iter().find(|(known, ..)| known == name) {
                return Ok((*weight, *reverse));
            }
            Err(match suggest::closest(name, list.iter().map(|(name, ..)| name.as_str())) {
                Some(meant) => format!("there is no [[{kind}]] named {name:?}; did you mean {meant:?}?"),
                None => format!("there is no [[{kind}]] named {name:?}; add one, or remove this"),
            })
        }
    };
    let scripts = tracked(section, "scripts", WEIGHTS, of("script", |known| &known.scripts));
    let processes = tracked(section, "processes", -254..=254, of("process", |known| &known.processes));
    let files = tracked(section, "files", -i32::MAX..=i32::MAX, of("file", |known| &known.files));
    known?;
    Some(Track { interfaces: interfaces?, scripts: scripts?, processes: processes?, files: files? })
}

/// One list of `[….track]`; `find` answers with the weight and the direction that the name brings.
fn tracked<'a>(
    section: &Section<'a>,
    key: &str,
    weights: std::ops::RangeInclusive<i32>,
    find: impl Fn(&Section<'a>, &str) -> Reading<(i32, bool)>,
) -> Option<Vec<Tracked>> {
    let entries = section.entries(key, "track.item")?;
    let mut seen: Vec<String> = Vec::new();
    let mut read = |(n, (at, entry)): (usize, (usize, Option<Entry<'a>>))| {
        let place = format!("{key}[{n}]");
        let (name, weight, reverse) = match entry? {
            Entry::Name(name) => (Some(name), Some(None), Some(None)),
            Entry::Table(table) => {
                let name = table.required("name", "\"…\"", line);
                let weight = table.optional("weight", |value| signed(value, weights.clone()));
                (name, weight, table.optional("reverse", boolean))
            }
        };
        let name = name?;
        if seen.contains(&name) {
            return section.problem_at(Some(at), &place, format!("{name:?} is there twice; remove one of them"));
        }
        seen.push(name.clone());
        match find(section, &name) {
            Err(why) => section.problem_at(Some(at), &place, why),
            Ok((own, direction)) => {
                Some(Tracked { name, weight: weight?.unwrap_or(own), reverse: reverse?.unwrap_or(direction) })
            }
        }
    };
    // Collected before any is missed, so that each is judged.
    entries.into_iter().enumerate().map(&mut read).collect::<Vec<_>>().into_iter().collect()
}

/// `Some(None)` without the table.
pub(in crate::config) fn mail(section: &Section<'_>) -> Option<Option<Mail>> {
    if !section.is_present() {
        return Some(None);
    }
    let server = section.required("server", "\"192.168.200.1:25\"", server);
    let from = section.required("from", "\"harbor-ha@example.org\"", mailbox);
    let to = section.list("to", "[\"admin@example.org\"]", mailbox);
    let helo = section.optional("helo", line);
    let timeout = section.or("timeout", 30 * SECOND, |value| duration(value, SECOND..=10 * Duration::from_secs(60)));
    let kinds = [("none", MailTls::None), ("opportunistic", MailTls::Opportunistic), ("required", MailTls::Required)];
    let tls = section.or("tls", MailTls::Opportunistic, |value| values::word(value, &kinds));
    let user = section.optional("user", line);
    let password = section.secret("password");
    let faults = section.or("faults", true, boolean);
    let all = section.or("all", false, boolean);

    let to = to.and_then(|to| match to.is_empty() {
        true => section.problem("to", "is empty; name at least one, like [\"admin@example.org\"]"),
        false => to.into_iter().map(|(_, to)| to).collect::<Option<Vec<_>>>(),
    });
    let login = user.zip(password).and_then(|pair| match pair {
        (None, None) => Some(None),
        (Some(user), Some(password)) => Some(Some(Login { user, password })),
        (Some(_), None) => section.missing("password_file", "\"/etc/harbor-ha/mail.password\""),
        (None, Some(_)) => section.missing("user", "\"harbor-ha\""),
    });
    if let (Some(Some(_)), Some(MailTls::None | MailTls::Opportunistic)) = (&login, tls) {
        section.problem::<()>("tls", "the password could go over the network in clear; use \"required\"");
    }
    let (host, port) = server?;
    Some(Some(Mail {
        host,
        port,
        from: from?,
        to: to?,
        helo: helo?,
        timeout: timeout?,
        tls: tls?,
        login: login?,
        faults: faults?,
        all: all?,
    }))
}

/// `host` or `host:port`; 25 is SMTP's.
pub(in crate::config) fn server(value: &DeValue<'_>) -> Reading<(String, u16)> {
    let text = line(value)?;
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().ok().filter(|port| *port != 0)),
        None => (text.as_str(), Some(25)),
    };
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    match port {
        Some(port) if !host.is_empty() && host.chars().all(named) => Ok((host.to_owned(), port)),
        _ => Err(format!("{text:?} is no server; use \"HOST\" or \"HOST:25\"")),
    }
}

/// `name@host`, or `A Name <name@host>`.
pub(in crate::config) fn mailbox(value: &DeValue<'_>) -> Reading<String> {
    let text = line(value)?;
    let bare = match text.split_once('<') {
        Some((_, rest)) => rest.strip_suffix('>').unwrap_or_default(),
        None => &text,
    };
    match bare.split_once('@') {
        Some((user, host))
            if !user.is_empty()
                && !host.is_empty()
                && !bare.contains(|c: char| c.is_whitespace() || "<>@".contains(c) && c != '@')
                && !host.contains('@') =>
        {
            Ok(text)
        }
        _ => Err(format!("{text:?} is no mail address; use \"name@example.org\"")),
    }
}
