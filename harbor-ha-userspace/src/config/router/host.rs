//! What only this host can tell of the router form: interfaces, addresses, and the scripts that would run.
//!
//! Looks and changes nothing. A script that root runs and others may change is as good as a root shell for them, so it is
//! an error here as with keepalived's `enable_script_security`, which need not be asked for.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::settings::{Account, Notify, Run, Settings, Track, Trackers};

/// The user that keepalived runs scripts as when nobody is named and there is one.
pub const SCRIPT_USER: &str = "keepalived_script";

/// One thing that is well or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub level: Level,
    /// What is looked at.
    pub subject: String,
    /// What was found, and the way out.
    pub text: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// It will run, and not as wished.
    Warning,
    /// It will not run.
    Error,
}

/// The host, as far as it is asked.
pub trait Host {
    /// The IPv4 addresses of an interface; `None` when there is no such interface.
    fn addresses(&self, interface: &str) -> Option<Vec<Ipv4Addr>>;
    /// The numeric id of a user; `None` when there is none of that name.
    fn user(&self, name: &str) -> Option<u32>;
    /// Whether there is a group of that name.
    fn has_group(&self, name: &str) -> bool;
    /// The id of the user that asks.
    fn own_user(&self) -> u32;
}

/// The host itself.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Host for System {
    fn addresses(&self, interface: &str) -> Option<Vec<Ipv4Addr>> {
        if !Path::new("/sys/class/net").join(interface).exists() {
            return None;
        }
        let all = nix::ifaddrs::getifaddrs().into_iter().flatten().filter(|it| it.interface_name == interface);
        Some(all.filter_map(|it| Some(it.address?.as_sockaddr_in()?.ip())).collect())
    }

    fn user(&self, name: &str) -> Option<u32> {
        Some(nix::unistd::User::from_name(name).ok()??.uid.as_raw())
    }

    fn has_group(&self, name: &str) -> bool {
        matches!(nix::unistd::Group::from_name(name), Ok(Some(_)))
    }

    fn own_user(&self) -> u32 {
        nix::unistd::geteuid().as_raw()
    }
}

/// Everything worth telling of a router.
pub fn findings(settings: &Settings, host: &dyn Host) -> Vec<Finding> {
    let mut found = Vec::new();
    for instance in &settings.instances {
        let subject = format!("instance {}", instance.name);
        let Some(addresses) = host.addresses(&instance.interface) else {
            found.push(no_interface(&subject, &instance.interface, Level::Error));
            continue;
        };
        found.push(source(&subject, &instance.interface, instance.source, &addresses, instance.priority.0 == 255));
        for vip in instance.vips.iter().chain(&instance.excluded_vips) {
            if vip.interface != instance.interface && host.addresses(&vip.interface).is_none() {
                found.push(no_interface(&subject, &vip.interface, Level::Error));
            }
        }
    }
    let mut tracks: Vec<(String, &Track)> =
        settings.instances.iter().map(|it| (format!("instance {}", it.name), &it.track)).collect();
    tracks.extend(settings.groups.iter().map(|it| (format!("group {}", it.name), &it.track)));
    for (subject, track) in tracks {
        found.extend(tracked_interfaces(&subject, track, host));
    }
    let mut runs = runs_of_trackers(&settings.trackers);
    runs.extend(settings.instances.iter().flat_map(|it| runs_of_notify(&it.name, &it.notify)));
    runs.extend(settings.groups.iter().flat_map(|it| runs_of_notify(&it.name, &it.notify)));
    if let Some(reader) = settings.router.fifo.as_ref().and_then(|fifo| fifo.reader.as_ref()) {
        runs.push(("fifo".to_owned(), reader));
    }
    found.extend(scripts(&runs, settings.router.script_user.as_ref(), host));
    found
}

/// What is tracked and run by a pair, as far as this host can tell.
pub fn findings_of_pair(trackers: &Trackers, track: &Track, notify: &Notify, host: &dyn Host) -> Vec<Finding> {
    let mut found = tracked_interfaces("track", track, host);
    let mut runs = runs_of_trackers(trackers);
    runs.extend(runs_of_notify("notify", notify));
    found.extend(scripts(&runs, None, host));
    found
}

fn finding(level: Level, subject: &str, text: String) -> Finding {
    Finding { level, subject: subject.to_owned(), text }
}

fn no_interface(subject: &str, interface: &str, level: Level) -> Finding {
    finding(level, subject, format!("there is no interface `{interface}`; `ip -br link` lists them"))
}

fn source(subject: &str, interface: &str, source: Option<Ipv4Addr>, addresses: &[Ipv4Addr], owner: bool) -> Finding {
    let list = || addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (source, addresses) {
        (_, []) => finding(
            Level::Error,
            subject,
            format!("`{interface}` has no IPv4 address, and adverts need one to come from; add it to the interface"),
        ),
        (Some(source), _) if !addresses.contains(&source) => finding(
            Level::Error,
            subject,
            format!("`{interface}` does not have source = \"{source}\"; it has {}", list()),
        ),
        (Some(source), _) => finding(Level::Ok, subject, format!("`{interface}` has {source}")),
        (None, [first, ..]) if owner => {
            finding(Level::Warning, subject, format!("adverts come from {first}; the owner should name its `source`"))
        }
        (None, [first]) => finding(Level::Ok, subject, format!("`{interface}` has {first}")),
        (None, [first, ..]) => finding(
            Level::Warning,
            subject,
            format!(
                "`{interface}` has {}, and adverts come from the first; name one as `source = \"{first}\"`",
                list()
            ),
        ),
    }
}

fn tracked_interfaces(subject: &str, track: &Track, host: &dyn Host) -> Vec<Finding> {
    // It may appear later; until then it counts as down.
    let missing = track.interfaces.iter().filter(|it| host.addresses(&it.name).is_none());
    missing.map(|it| no_interface(subject, &it.name, Level::Warning)).collect()
}

fn runs_of_trackers(trackers: &Trackers) -> Vec<(String, &Run)> {
    trackers.scripts.iter().map(|script| (format!("script {}", script.name), &script.run)).collect()
}

fn runs_of_notify<'a>(name: &str, notify: &'a Notify) -> Vec<(String, &'a Run)> {
    let all = [&notify.master, &notify.backup, &notify.fault, &notify.stop, &notify.all, &notify.lower_priority];
    all.into_iter().flatten().map(|run| (format!("notify {name}"), run)).collect()
}

/// Each program once for each user that runs it.
fn scripts(runs: &[(String, &Run)], default: Option<&Account>, host: &dyn Host) -> Vec<Finding> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (subject, run) in runs {
        let Some(program) = run.words.first() else { continue };
        let account = run.user.as_ref().or(default);
        let uid = match account {
            Some(account) => {
                if let Some(group) = account.group.as_ref().filter(|group| !host.has_group(group)) {
                    found.push(finding(Level::Error, subject, format!("there is no group `{group}` on this host")));
                    continue;
                }
                let Some(uid) = host.user(&account.user) else {
                    let text = format!("there is no user `{}` on this host to run `{program}`", account.user);
                    found.push(finding(Level::Error, subject, text));
                    continue;
                };
                uid
            }
            None => host.user(SCRIPT_USER).unwrap_or_else(|| host.own_user()),
        };
        if seen.insert((program.clone(), uid)) {
            found.push(script(subject, Path::new(program), uid));
        }
    }
    found
}

/// Whether a program is there, can be run, and is safe from others when root runs it.
fn script(subject: &str, path: &Path, uid: u32) -> Finding {
    let shown = path.display();
    let wrong = |text: String| finding(Level::Error, subject, text);
    let resolved = match fs::canonicalize(path) {
        Ok(resolved) => resolved,
        Err(error) => return wrong(format!("`{shown}` cannot be found: {error}")),
    };
    match fs::metadata(&resolved) {
        Err(error) => return wrong(format!("`{shown}` cannot be looked at: {error}")),
        Ok(meta) if !meta.is_file() => return wrong(format!("`{shown}` is no file; name a program")),
        Ok(meta) if meta.permissions().mode() & 0o111 == 0 => {
            return wrong(format!("`{shown}` is not executable; run `chmod +x {shown}`"));
        }
        Ok(_) => {}
    }
    if uid == 0 {
        // Who may write to a folder on the way may put another program there.
        for part in resolved.ancestors() {
            if let Some(why) = open_to_others(part) {
                let text = format!(
                    "`{shown}` is run by root, and {why}; run `chmod go-w {}` and make root its owner, or let another \
                     user run it",
                    part.display()
                );
                return wrong(text);
            }
        }
    }
    finding(Level::Ok, subject, format!("`{shown}` can be run"))
}

fn open_to_others(path: &Path) -> Option<String> {
    let meta = fs::symlink_metadata(path).ok()?;
    let shown = path.display();
    if meta.uid() != 0 {
        return Some(format!("user {} owns `{shown}`", meta.uid()));
    }
    // In a folder with the sticky bit others can add, and neither change nor replace what is root's.
    let mode = meta.permissions().mode();
    let sticky = meta.is_dir() && mode & 0o1000 != 0;
    // Of root's group nobody else should be.
    let group = mode & 0o020 != 0 && meta.gid() != 0;
    (!sticky && (mode & 0o002 != 0 || group)).then(|| format!("others may write to `{shown}`"))
}

#[cfg(test)]
mod tests;
