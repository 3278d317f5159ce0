//! Judges a document of the router form.

use std::time::Duration;

use super::instance::instance;
use super::settings::{Fifo, Group, Instance, Router, Settings};
use super::shared::{self, Known};
use crate::config::check::{self as pair, fits_socket};
use crate::config::check_cloud;
use crate::config::check_observe;
use crate::config::reader::{Document, Entry, Section};
use crate::config::suggest;
use crate::config::values::{boolean, duration, line, path};

/// The tables that make a file one of the router form.
pub(in crate::config) const OF_ROUTER: [&str; 3] = ["router", "instance", "group"];

/// The settings, or `None` with at least one problem noted.
pub(in crate::config) fn settings<'a>(document: &'a Document<'a>) -> Option<Settings> {
    let router_section = document.section("router");
    let router = router(&router_section);
    let trackers = shared::trackers(document);
    let mail = shared::mail(&document.section("mail"));
    let realtime = pair::realtime(&document.section("realtime"));
    let known = Known::new(trackers.as_ref(), mail.as_ref());
    let sections = document.sections("instance");
    if sections.is_empty() {
        let text = "there is none; add at least one [[instance]], with name, interface, vrid and vips";
        document.note(router_section.line(), "instance".into(), text.into());
    }
    let lines: Vec<_> = sections.iter().map(Section::line).collect();
    let found: Vec<Option<Instance>> = sections.iter().map(|section| instance(section, known.as_ref())).collect();
    for (n, section) in sections.iter().enumerate() {
        for (earlier, line) in found[..n].iter().zip(&lines) {
            if let (Some(one), Some(other)) = (&found[n], earlier) {
                apart(section, one, other, *line);
            }
        }
    }
    let names: Vec<&str> = found.iter().flatten().map(|instance| instance.name.as_str()).collect();
    // A name that could not be read is no reason to call a reference to it wrong.
    let names = Some(names).filter(|_| found.iter().all(Option::is_some));
    let groups = groups(document, names.as_deref(), known.as_ref());
    let instances = found.into_iter().collect::<Option<Vec<_>>>().filter(|instances| !instances.is_empty());
    let vips = instances.iter().flatten().flat_map(|it| it.vips.iter().chain(&it.excluded_vips));
    let vips: Vec<_> = vips.map(|vip| vip.address).collect();
    let observe = check_observe::of_router(&document.section("observe"), &vips);
    let cloud = check_cloud::of_router(&document.section("cloud"), instances.as_deref());
    Some(Settings {
        router: router?,
        instances: instances?,
        groups: groups?,
        trackers: trackers?,
        mail: mail?,
        realtime: realtime?,
        observe: observe?,
        cloud: cloud?,
    })
}

fn router(section: &Section<'_>) -> Option<Router> {
    let name = section.or("name", "router".to_owned(), pair::instance);
    let router_id = section.optional("router_id", line);
    let runtime_dir = section.or("runtime_dir", "/run/harbor-ha".into(), path);
    let hour = Duration::from_secs(3600);
    let startup_delay = section.or("startup_delay", Duration::ZERO, |value| duration(value, Duration::ZERO..=hour));
    let delay_after_boot =
        section.or("delay_after_boot", Duration::ZERO, |value| duration(value, Duration::ZERO..=hour));
    let script_user = section.optional("script_user", shared::account);
    let fifo = fifo(section);
    if let (Some(runtime_dir), Some(name)) = (&runtime_dir, &name) {
        fits_socket(section, "runtime_dir", &runtime_dir.join(format!("{name}.sock")));
    }
    Some(Router {
        name: name?,
        router_id: router_id?,
        runtime_dir: runtime_dir?,
        startup_delay: startup_delay?,
        delay_after_boot: delay_after_boot?,
        script_user: script_user?,
        fifo: fifo?,
    })
}

/// A path, or a table with more.
fn fifo(section: &Section<'_>) -> Option<Option<Fifo>> {
    match section.value_or_table("fifo", "router.fifo", path)? {
        None => Some(None),
        Some(Ok(path)) => Some(Some(Fifo { path, user: None, reader: None })),
        Some(Err(table)) => {
            let path = table.required("path", "\"/run/harbor-ha/events\"", path);
            let user = table.optional("user", shared::account);
            let reader = shared::run(&table, "command", "notify.run", None);
            Some(Some(Fifo { path: path?, user: user?, reader: reader? }))
        }
    }
}

/// Notes what two instances must not share.
fn apart(section: &Section<'_>, one: &Instance, other: &Instance, line: Option<usize>) {
    let at = line.map_or_else(String::new, |line| format!(" (line {line})"));
    if one.name == other.name {
        let text = format!("{:?} is there twice{at}; use another name", one.name);
        section.problem::<()>("name", text);
    }
    // One socket each for unicast and multicast: keepalived's rule, as an advert names no more than its vrid.
    let overlap = match (one.peers.is_empty(), other.peers.is_empty()) {
        (true, true) => true,
        (false, false) => one.peers.iter().any(|peer| other.peers.contains(peer)),
        _ => false,
    };
    if one.interface == other.interface && one.vrid == other.vrid && overlap {
        let text = format!(
            "{} is that of {:?} on {} too{at}, and adverts of the same peers could not be told apart; use another number",
            one.vrid.as_u8(),
            other.name,
            one.interface
        );
        section.problem::<()>("vrid", text);
    }
    let (one_has, other_has) =
        (one.vips.iter().chain(&one.excluded_vips), || other.vips.iter().chain(&other.excluded_vips));
    for vip in one_has {
        if other_has().any(|known| known.address == vip.address && known.interface == vip.interface) {
            let text = format!("{} is an address of {:?} too{at}; leave it to one of them", vip.address, other.name);
            section.problem::<()>("vips", text);
        }
    }
}

/// `names`: of the instances, when all could be read.
fn groups<'a>(document: &'a Document<'a>, names: Option<&[&str]>, known: Option<&Known>) -> Option<Vec<Group>> {
    let read = |section: &Section<'a>| {
        let name = section.required("name", "\"G1\"", shared::name);
        let members = members(section, names);
        let tracking_weight = section.or("tracking_weight", false, boolean);
        let track = shared::track(&section.table("track", "group.track"), known);
        let notify = shared::notify(&section.table("notify", "group.notify"), known);
        Some(Group {
            name: name?,
            instances: members?,
            tracking_weight: tracking_weight?,
            track: track?,
            notify: notify?,
        })
    };
    let groups = shared::named(document.sections("group"), read, |group| &group.name)?;
    for (n, group) in groups.iter().enumerate() {
        for earlier in &groups[..n] {
            if let Some(name) = group.instances.iter().find(|name| earlier.instances.contains(name)) {
                let text = format!(
                    "{name:?} is in group {:?} and in {:?}; an instance can follow one group",
                    earlier.name, group.name
                );
                document.note(None, format!("group[{n}].instances"), text);
                return None;
            }
        }
    }
    Some(groups)
}

fn members(section: &Section<'_>, names: Option<&[&str]>) -> Option<Vec<String>> {
    if !section.has("instances") {
        return section.missing("instances", "[\"VI_1\", \"VI_2\"]");
    }
    let entries = section.entries("instances", "group.member")?;
    if entries.is_empty() {
        return section.problem("instances", "is empty; name at least one instance");
    }
    let mut members: Vec<String> = Vec::new();
    let mut well = true;
    for (n, (at, entry)) in entries.into_iter().enumerate() {
        let place = format!("instances[{n}]");
        let text = match entry {
            None => {
                well = false;
                continue;
            }
            Some(Entry::Table(_)) => "is a table; use the name of an instance".to_owned(),
            Some(Entry::Name(name)) if members.contains(&name) => {
                format!("{name:?} is there twice; remove one of them")
            }
            Some(Entry::Name(name)) => match names {
                Some(names) if !names.contains(&name.as_str()) => {
                    match suggest::closest(&name, names.iter().copied()) {
                        Some(meant) => format!("there is no instance named {name:?}; did you mean {meant:?}?"),
                        None => format!("there is no instance named {name:?}; add one, or remove this"),
                    }
                }
                _ => {
                    members.push(name);
                    continue;
                }
            },
        };
        section.problem_at::<()>(Some(at), &place, text);
        well = false;
    }
    Some(members).filter(|_| well)
}
