//! Judges `[lease]` and `[witness]`: what a primary does that its standby no longer confirms.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use toml::de::DeValue;

use super::reader::Section;
use super::settings::{Endpoint, Isolated, Lease, Login, Node, Pulse, Witness, WitnessKind};
use super::values::{self, Reading, duration, show};

/// After how long a silent peer is dead, in multiples of which the limits below count.
fn detection(pulse: &Pulse) -> Duration {
    pulse.interval * u32::from(pulse.threshold)
}

/// `Some(None)` without pulses. `pulse`: as far as it is known to be right, and then whether there are any.
pub(super) fn lease(section: &Section<'_>, pulse: Option<&Option<Pulse>>, with_witness: bool) -> Option<Option<Lease>> {
    let range = Duration::from_millis(100)..=Duration::from_secs(60);
    let hang = section.or("hang", Duration::from_secs(1), |value| duration(value, range.clone()));
    let words = [("hold", Isolated::Hold), ("serve", Isolated::Serve)];
    let chosen = section.optional("isolated", |value| values::word(value, &words));
    // As with the other keys of pulses that are switched off: judged above, and not used.
    if let Some(None) = pulse {
        return Some(None);
    }
    let isolated = match (chosen, with_witness) {
        (None, _) => None,
        (Some(None), true) => Some(Isolated::Witness),
        (Some(Some(_)), true) => {
            section.problem("isolated", "with [witness] it is the witness that decides; remove it")
        }
        (Some(None), false) => section.missing("isolated", ISOLATED),
        (Some(chosen), false) => chosen,
    };
    // Less would call a daemon hung that is only late: the verdict on a dead node alone takes one detection time.
    let least = pulse.and_then(Option::as_ref).map(|pulse| 3 * detection(pulse));
    if let (Some(least), Some(hang)) = (least, hang)
        && hang < least
    {
        let way_out = match least <= *range.end() {
            true => format!("use {:?} or more", show(least)),
            false => format!("use shorter pulses, as it can be \"{}\" at most", show(*range.end())),
        };
        let text = format!(
            "{} is below three times pulse.interval x pulse.threshold ({}); {way_out}",
            show(hang),
            show(least / 3)
        );
        section.problem::<()>("hang", text);
    }
    pulse?;
    Some(Some(Lease { hang: hang?, isolated: isolated? }))
}

/// Both ways and what each costs: nobody should find that out in a partition.
const ISOLATED: &str = "\"hold\"` or `isolated = \"serve\"`. With \"hold\" a primary that loses its standby stops \
     serving until one of the two hears the other again, so there are never two primaries. With \"serve\" it serves \
     on, so the loss of the standby alone costs nothing, but in a partition both nodes serve. Or configure a \
     [witness], which decides: `kind = \"etcd\"";

/// `Some(None)` without the table.
pub(super) fn witness(
    section: &Section<'_>,
    pulse: Option<&Option<Pulse>>,
    node: Option<&Node>,
) -> Option<Option<Witness>> {
    if !section.is_present() {
        return Some(None);
    }
    let kind = section.required("kind", "\"etcd\"", kind);
    let endpoints = section.list("endpoints", example(kind), |value| endpoint(value, kind, node));
    let user = section.optional("user", values::line);
    let password = section.secret("password");
    let ttl = section.or("ttl", Duration::from_secs(3), |value| duration(value, SECOND..=60 * SECOND));
    let range = Duration::from_millis(50)..=10 * SECOND;
    let timeout = section.or("timeout", Duration::from_millis(500), |value| duration(value, range.clone()));
    let prefix = section.or("prefix", "harbor-ha".to_owned(), prefix);

    if let Some(None) = pulse {
        let text = "a witness is asked about the lease, and without pulses there is none; remove this table, or use \
                    pulse.enabled = true";
        section.problem::<()>("kind", text);
    }
    if let Some(ttl) = ttl {
        reaches(section, ttl, timeout, pulse.and_then(Option::as_ref));
    }
    let endpoints = endpoints.and_then(|found| several(section, kind, found));
    let login = user.zip(password).and_then(|(user, password)| login(section, kind, user, password));
    Some(Some(Witness {
        kind: kind?,
        endpoints: endpoints?,
        login: login?,
        ttl: ttl?,
        timeout: timeout?,
        prefix: prefix?,
    }))
}

const SECOND: Duration = Duration::from_secs(1);

fn kind(value: &DeValue<'_>) -> Reading<WitnessKind> {
    let words = [("etcd", Some(WitnessKind::Etcd)), ("redis", Some(WitnessKind::Redis)), ("havip", None)];
    values::word(value, &words)?.ok_or_else(|| HAVIP.to_owned())
}

/// docs/cloud.md, *As a witness*.
const HAVIP: &str = "\"havip\" is refused: the bindings of a HaVip have no compare-and-set and no time to live, and nobody \
     promises how old an answer about them may be, so a partition could make two primaries (docs/cloud.md, `As a \
     witness`); use \"etcd\" or \"redis\" on a third host, or remove this table and use lease.isolated = \"hold\"";

fn example(kind: Option<WitnessKind>) -> &'static str {
    match kind {
        Some(WitnessKind::Redis) => "[\"redis://10.0.0.7:6379\"]",
        _ => "[\"http://10.0.0.7:2379\"]",
    }
}

/// A TTL that ends between two requests of a primary which is served well would stop it for nothing.
fn reaches(section: &Section<'_>, ttl: Duration, timeout: Option<Duration>, pulse: Option<&Pulse>) {
    let dead = pulse.map(detection);
    let limits = [(timeout, "witness.timeout"), (dead, "pulse.interval x pulse.threshold")];
    let known = limits.into_iter().filter_map(|(length, name)| Some((length?, name)));
    // The longer one alone: its value to write is the one that satisfies both.
    if let Some((length, name)) = known.max_by_key(|(length, _)| *length)
        && ttl < 3 * length
    {
        let least = show(3 * length);
        section.problem::<()>(
            "ttl",
            format!("{} is below three times {name} ({}); use {least:?} or more", show(ttl), show(length)),
        );
    }
}

/// `http://`, `https://`, `redis://` or `rediss://`, a host and a port, and nothing else.
fn endpoint(value: &DeValue<'_>, kind: Option<WitnessKind>, node: Option<&Node>) -> Reading<Endpoint> {
    let text = values::line(value)?;
    let (plain, sealed, usual) = match kind {
        Some(WitnessKind::Redis) => ("redis", "rediss", 6379),
        _ => ("http", "https", 2379),
    };
    let (scheme, rest) = text.split_once("://").unwrap_or(("", &text));
    // It may be the password: not repeated.
    if rest.contains('@') {
        return Err("a secret has no place in this file; use `user` and `password_file`".into());
    }
    let tls = match scheme {
        // Of an unknown kind the scheme is not judged.
        _ if kind.is_none() => false,
        _ if scheme == plain => false,
        _ if scheme == sealed => true,
        _ => return Err(format!("{text:?} is no address of this kind; use \"{plain}://HOST:{usual}\" or {sealed}://")),
    };
    let Some((host, port)) = rest.trim_end_matches('/').split_once(':') else {
        return Err(format!("{text:?} names no port; use \"{scheme}://{}:{usual}\"", rest.trim_end_matches('/')));
    };
    let port = port.parse::<u16>().ok().filter(|port| *port != 0);
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let (Some(port), false, true) = (port, host.is_empty(), host.chars().all(named)) else {
        return Err(format!("{text:?} is no host and port; use \"{scheme}://HOST:{usual}\", without a path"));
    };
    match node.and_then(|node| is_no_third(host, node)) {
        Some(why) => Err(format!("{host} is {why}, and a witness must be a third party; use another host's")),
        None => Ok(Endpoint { tls, host: host.to_owned(), port }),
    }
}

/// Why `host` falls with one of the nodes, when its address alone says so.
fn is_no_third(host: &str, node: &Node) -> Option<&'static str> {
    let address: Ipv4Addr = if host == "localhost" { Ipv4Addr::LOCALHOST } else { host.parse().ok()? };
    if address == node.address || IpAddr::V4(address).is_loopback() {
        return Some("this node itself");
    }
    if address == node.peer {
        return Some("the other node");
    }
    node.vips.iter().any(|vip| vip.address == address).then_some("the virtual address")
}

/// All are there, and they are one witness.
fn several(
    section: &Section<'_>,
    kind: Option<WitnessKind>,
    found: Vec<(usize, Option<Endpoint>)>,
) -> Option<Vec<Endpoint>> {
    if found.is_empty() {
        return section.problem("endpoints", format!("is empty; name at least one, like {}", example(kind)));
    }
    if kind == Some(WitnessKind::Redis) && found.len() > 1 {
        let text = "several Redis servers know nothing of each other's keys, so both nodes could be granted; use one";
        return section.problem("endpoints", text);
    }
    found.into_iter().map(|(_, endpoint)| endpoint).collect()
}

fn login(
    section: &Section<'_>,
    kind: Option<WitnessKind>,
    user: Option<String>,
    password: Option<super::secret::Secret<String>>,
) -> Option<Option<Login>> {
    match (user.filter(|user| !user.is_empty()), password) {
        (None, None) => Some(None),
        (Some(user), Some(password)) => Some(Some(Login { user, password })),
        (None, Some(password)) if kind != Some(WitnessKind::Etcd) => {
            Some(Some(Login { user: String::new(), password }))
        }
        (None, Some(_)) => section.missing("user", "\"harbor-ha\""),
        (Some(_), None) => section.missing("password_file", "\"/etc/harbor-ha/witness.password\""),
    }
}

fn prefix(value: &DeValue<'_>) -> Reading<String> {
    let text = values::string(value)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !(1..=64).contains(&text.len()) || !text.chars().all(allowed) {
        return Err(format!("{text:?} would not do as part of a key; use 1 to 64 of a-z, 0-9, `-`, `_` and `.`"));
    }
    Ok(text.to_owned())
}
