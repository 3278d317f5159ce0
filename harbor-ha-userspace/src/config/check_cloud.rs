//! Judges `[cloud]`: the HaVip of a pair or of an instance of the router form, and how Alibaba Cloud is asked about it.

use std::net::Ipv4Addr;
use std::time::Duration;

use toml::de::DeValue;

use super::reader::Section;
use super::router::settings::Instance;
use super::settings::cloud::{Cloud, CredentialSource, Fence};
use super::settings::{Endpoint, Isolated, Lease, Node};
use super::values::{self, Reading, boolean, duration, integer, show};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Of a pair; `Some(None)` without the table. `node`: as far as it is known to be right.
pub(super) fn of_pair(section: &Section<'_>, node: Option<&Node>) -> Option<Option<Cloud>> {
    if !section.is_present() {
        return Some(None);
    }
    let address = node.and_then(|node| match node.vips.as_slice() {
        [vip] => Some(vip.address),
        vips => {
            let text = "is one address, and node.vips has {}; each address of a VPC that moves is a HaVip of its own, so \
                        leave one in node.vips";
            section.problem("havip", text.replace("{}", &vips.len().to_string()))
        }
    });
    cloud(section, address).map(Some)
}

/// Of the router form, where one of the virtual addresses is a HaVip; `Some(None)` without the table. `instances`: when
/// all are known to be right.
pub(super) fn of_router(section: &Section<'_>, instances: Option<&[Instance]>) -> Option<Option<Cloud>> {
    if !section.is_present() {
        return Some(None);
    }
    let given = section.optional("address", values::host_address);
    let address = given.zip(instances).and_then(|(given, instances)| of_instance(section, given, instances));
    let cloud = cloud(section, address);
    if cloud.as_ref().is_some_and(|cloud| cloud.fence.is_on()) {
        let text = "needs a lease, which only a pair of nodes ([node]) has: here a node that is silent may be serving. Remove it";
        section.problem::<()>("fence", text);
    }
    cloud.map(Some)
}

/// The address that the HaVip has: the one that is named, or the only one.
fn of_instance(section: &Section<'_>, given: Option<Ipv4Addr>, instances: &[Instance]) -> Option<Ipv4Addr> {
    let of = |it| Instance::addresses(it).map(move |vip| (it, vip.address));
    let vips: Vec<(&Instance, Ipv4Addr)> = instances.iter().flat_map(of).collect();
    let found = match (given, vips.as_slice()) {
        (None, [only]) => Some(only),
        (None, vips) => {
            let text =
                format!("is missing: there are {} virtual addresses; name the one that the HaVip has", vips.len());
            return section.problem("address", text);
        }
        (Some(given), vips) => vips.iter().find(|(_, address)| *address == given),
    };
    match (found, given) {
        (Some((instance, _)), _) if instance.peers.is_empty() => {
            let text = format!(
                "is of {:?}, whose adverts are multicast, and a VPC carries none: each node would be master; name the \
                 other node in instance.peers",
                instance.name
            );
            section.problem("address", text)
        }
        (Some((_, address)), _) => Some(*address),
        (None, given) => {
            let given = given.map(|given| given.to_string()).unwrap_or_default();
            section.problem("address", format!("{given} is no virtual address of this file; use one of instance.vips"))
        }
    }
}

/// `address`: the virtual one, as far as it is known to be right.
fn cloud(section: &Section<'_>, address: Option<Ipv4Addr>) -> Option<Cloud> {
    let region = section.or("region", None, |value| auto(value, region));
    let havip = section.required("havip", "\"auto\"", |value| auto(value, |text| id(text, "havip-")));
    let eip = section.optional("eip", |value| id(&values::line(value)?, "eip-"));
    let instance = section.or("instance", None, |value| auto(value, |text| id(text, "i-")));
    let peer_instance =
        section.required("peer_instance", "\"i-bp67acfmxazb4p****\"", |value| id(&values::line(value)?, "i-"));
    let vswitch = section.or("vswitch", None, |value| auto(value, |text| id(text, "vsw-")));
    let (credentials, credentials_file, ram_role) = credentials(section);
    let vpc_endpoint = section.or("vpc_endpoint", None, |value| auto(value, endpoint));
    let ecs_endpoint = section.or("ecs_endpoint", None, |value| auto(value, endpoint));
    let metadata_endpoint = section.or("metadata_endpoint", None, |value| auto(value, endpoint));
    let range = Duration::from_millis(100)..=10 * SECOND;
    let connect_timeout = section.or("connect_timeout", SECOND, |value| duration(value, range.clone()));
    let range = Duration::from_millis(500)..=MINUTE;
    let timeout = section.or("timeout", 5 * SECOND, |value| duration(value, range.clone()));
    let follow_deadline = section.or("follow_deadline", 30 * SECOND, |value| duration(value, SECOND..=10 * MINUTE));
    let poll_interval = section.or("poll_interval", MINUTE, |value| duration(value, 5 * SECOND..=HOUR));
    let fence = fence(section);

    if let (Some(connect), Some(whole)) = (connect_timeout, timeout)
        && connect > whole
    {
        let text = format!("{} is more than cloud.timeout ({}), which it is part of", show(connect), show(whole));
        section.problem::<()>("connect_timeout", format!("{text}; use {:?} or less", show(whole)));
    }
    if let (Some(Some(own)), Some(peer)) = (&instance, &peer_instance)
        && own == peer
    {
        section.problem::<()>("peer_instance", format!("{peer} is this node's own (cloud.instance); use the other's"));
    }
    Some(Cloud {
        region: region?,
        havip: havip?,
        address: address?,
        eip: eip?,
        instance: instance?,
        peer_instance: peer_instance?,
        vswitch: vswitch?,
        credentials: credentials?,
        credentials_file: credentials_file?,
        ram_role: ram_role?,
        vpc_endpoint: vpc_endpoint?,
        ecs_endpoint: ecs_endpoint?,
        metadata_endpoint: metadata_endpoint?.unwrap_or_else(metadata),
        connect_timeout: connect_timeout?,
        timeout: timeout?,
        follow_deadline: follow_deadline?,
        poll_interval: poll_interval?,
        fence: fence?,
    })
}

type Found<T> = Option<T>;

fn credentials(section: &Section<'_>) -> (Found<CredentialSource>, Found<std::path::PathBuf>, Found<Option<String>>) {
    for key in ["access_key_id", "access_key_secret", "security_token"] {
        // Not repeated: it is the secret.
        let _noted = section.optional::<()>(key, |_| {
            Err("has no place in this file; put it into cloud.credentials_file, with mode 0600".to_owned())
        });
    }
    let words = [
        ("auto", CredentialSource::Auto),
        ("env", CredentialSource::Env),
        ("file", CredentialSource::File),
        ("ram-role", CredentialSource::RamRole),
    ];
    let source = section.or("credentials", CredentialSource::Auto, |value| values::word(value, &words));
    let file = section.or("credentials_file", "/etc/harbor-ha/alibaba.credentials".into(), values::path);
    let role = section.or("ram_role", None, |value| auto(value, role));
    (source, file, role)
}

fn fence(section: &Section<'_>) -> Option<Fence> {
    let words = [("havip-unassociate", true), ("ecs-stop", false)];
    let steps = match section.has("fence") {
        true => section.list("fence", "[\"havip-unassociate\"]", |value| values::word(value, &words)),
        false => section.optional::<()>("fence", |_| Ok(())).map(|_| Vec::new()),
    };
    let dry_run = section.or("fence_dry_run", false, boolean);
    let cooldown = section.or("fence_cooldown", 10 * MINUTE, |value| duration(value, MINUTE..=24 * HOUR));
    let limit = section.or("fence_limit", 3, |value| integer(value, 1..=100_u32));
    let steps: Vec<bool> = steps?.into_iter().map(|(_, step)| step).collect::<Option<_>>()?;
    let has = |wanted| steps.contains(&wanted);
    Some(Fence { unassociate: has(true), stop: has(false), dry_run: dry_run?, cooldown: cooldown?, limit: limit? })
}

/// What fencing rests on: a peer that fell silent has shut its own gate before this node serves. Where it has none, or
/// may serve on alone, a silence is no death, and a living primary would lose its address or its power.
pub(super) fn fencing(section: &Section<'_>, cloud: Option<&Option<Cloud>>, lease: Option<&Option<Lease>>) {
    let (Some(Some(cloud)), Some(lease)) = (cloud, lease) else { return };
    let why = match lease {
        _ if !cloud.fence.is_on() => return,
        None => {
            "without pulses nothing fences a node that is cut off: it may be serving still. Switch them on (pulse.enabled)"
        }
        Some(Lease { isolated: Isolated::Serve, .. }) => {
            "with lease.isolated = \"serve\" a primary that is cut off serves on, and each node would fence the other. Use \
             \"hold\" or a [witness]"
        }
        Some(Lease { isolated: Isolated::Hold | Isolated::Witness, .. }) => return,
    };
    section.problem::<()>("fence", format!("fences a living primary: {why}, or remove it"));
}

/// `"auto"`, or what `read` makes of it.
fn auto<T>(value: &DeValue<'_>, read: impl Fn(&str) -> Reading<T>) -> Reading<Option<T>> {
    match values::line(value)?.as_str() {
        "auto" => Ok(None),
        text => read(text).map(Some),
    }
}

/// An id of the service: the kind, then letters and digits.
fn id(text: &str, kind: &str) -> Reading<String> {
    let rest = text.strip_prefix(kind).unwrap_or_default();
    if rest.is_empty() || text.len() > 64 || !rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return Err(format!(
            "{text:?} is no id of this kind; use one that begins with \"{kind}\", as the console shows it"
        ));
    }
    Ok(text.to_owned())
}

/// It becomes part of a host name.
fn region(text: &str) -> Reading<String> {
    let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !text.contains('-') || text.len() > 32 || !text.chars().all(named) {
        return Err(format!("{text:?} is no region; use its id, like \"cn-hangzhou\", or \"auto\""));
    }
    Ok(text.to_owned())
}

/// It becomes part of a path.
fn role(text: &str) -> Reading<String> {
    if text.is_empty() || text.len() > 64 || !text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        return Err(format!(
            "{text:?} is no name of a RAM role; use 1 to 64 letters, digits, `-`, `_`, `.`, or \"auto\""
        ));
    }
    Ok(text.to_owned())
}

fn metadata() -> Endpoint {
    Endpoint { tls: false, host: "100.100.100.200".to_owned(), port: 80 }
}

/// `https://HOST[:PORT]`, or plain HTTP to an address that no stranger is on the way to.
fn endpoint(text: &str) -> Reading<Endpoint> {
    let usual = "use \"https://HOST\" or \"https://HOST:PORT\", without a path, or \"auto\"";
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    // It may be a password: not repeated.
    if rest.contains('@') {
        return Err(format!("a secret has no place in this file; {usual}"));
    }
    let (tls, port) = match scheme {
        "https" => (true, 443),
        "http" => (false, 80),
        _ => return Err(format!("{text:?} is no address of a web service; {usual}")),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.split_once(':') {
        None => (rest, Some(port)),
        Some((host, port)) => (host, port.parse::<u16>().ok().filter(|port| *port != 0)),
    };
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let (Some(port), false, true) = (port, host.is_empty(), host.chars().all(named)) else {
        return Err(format!("{text:?} is no host and port; {usual}"));
    };
    if !tls && !is_near(host) {
        return Err(format!(
            "{text:?} would send signed requests in clear to an address that is not private; use \"https://{host}\""
        ));
    }
    Ok(Endpoint { tls, host: host.to_owned(), port })
}

/// This host, its network, or the provider's own (100.64.0.0/10, where instance metadata is).
fn is_near(host: &str) -> bool {
    let Ok(address) = host.parse::<Ipv4Addr>() else { return host == "localhost" };
    let shared = u32::from(address) >> 22 == u32::from(Ipv4Addr::new(100, 64, 0, 0)) >> 22;
    address.is_loopback() || address.is_private() || address.is_link_local() || shared
}
