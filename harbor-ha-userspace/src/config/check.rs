//! Judges a document: which keys there are, their defaults, and what must hold between them.
//!
//! Every default has its reason in `packaging/harbor-ha.toml`, which a test compares with this file. A section
//! answers `None` when a problem was noted in it; it is read to its end all the same.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harbor_ha_ebpf::units::{Priority, Vrid};
use toml::de::DeValue;

use super::check_cloud;
use super::check_lease;
use super::check_observe;
use super::check_postgres;
use super::reader::{Document, Section};
use super::router::shared::{self, Known};
use super::secret::Secret;
use super::settings::{Announce, Node, Pulse, Realtime, Settings, Vip, Vrrp, VrrpVersion, XdpMode};
use super::values::{self, Reading, boolean, duration, host_address, integer, show};

/// The tables that only a pair has.
pub(super) const OF_PAIR: [&str; 6] = ["node", "vrrp", "pulse", "lease", "witness", "postgres"];

/// The settings, or `None` with at least one problem noted.
pub(super) fn settings<'a>(document: &'a Document<'a>) -> Option<Settings> {
    let node = node(&document.section("node"));
    let vrrp_section = document.section("vrrp");
    let pulse = pulse(&document.section("pulse"));
    let witness_section = document.section("witness");
    let lease = check_lease::lease(&document.section("lease"), pulse.as_ref(), witness_section.is_present());
    let witness = check_lease::witness(&witness_section, pulse.as_ref(), node.as_ref());
    let announce = announce(&document.section("announce"));
    let postgres_section = document.section("postgres");
    let vrrp = vrrp(&vrrp_section, matches!(pulse, Some(None)), postgres_section.is_present());
    let postgres = check_postgres::postgres(&postgres_section, node.as_ref());
    let realtime = realtime(&document.section("realtime"));
    let observe = check_observe::observe(&document.section("observe"), node.as_ref(), postgres.as_ref());
    let kernel = kernel(&document.section("kernel"));
    let (xdp_mode, cgroup) = kernel.unzip();
    let trackers = shared::trackers(document);
    let mail = shared::mail(&document.section("mail"));
    let known = Known::new(trackers.as_ref(), mail.as_ref());
    let track = shared::track(&document.section("track"), known.as_ref());
    let notify_section = document.section("notify");
    let notify = shared::notify(&notify_section, known.as_ref());
    let notify = notify.and_then(|notify| {
        if notify.priority_changes {
            let text = "is for the FIFO, which only the router form has; remove it, and read `status`";
            return notify_section.problem("priority_changes", text);
        }
        Some(notify)
    });
    let cloud_section = document.section("cloud");
    let cloud = check_cloud::of_pair(&cloud_section, node.as_ref());
    check_cloud::fencing(&cloud_section, cloud.as_ref(), lease.as_ref());
    Some(Settings {
        node: node?,
        vrrp: vrrp?,
        pulse: pulse?,
        lease: lease?,
        witness: witness?,
        announce: announce?,
        postgres: postgres?,
        realtime: realtime?,
        observe: observe?,
        xdp_mode: xdp_mode?,
        cgroup: cgroup?,
        trackers: trackers?,
        track: track?,
        notify: notify?,
        mail: mail?,
        cloud: cloud?,
    })
}

fn node(section: &Section<'_>) -> Option<Node> {
    let instance = section.or("instance", "harbor".to_owned(), instance);
    let interface = section.required("interface", "\"eth0\"", interface);
    let address = section.required("address", "\"10.0.0.1\"", host_address);
    let peer = section.required("peer", "\"10.0.0.2\"", host_address);
    let vips = section.list("vips", "[\"10.0.0.5/32\"]", values::vip);
    let state_dir = section.or("state_dir", "/var/lib/harbor-ha".into(), values::path);
    let runtime_dir = section.or("runtime_dir", "/run/harbor-ha".into(), values::path);
    let bpffs = section.or("bpffs", "/sys/fs/bpf".into(), values::path);

    let both = address.zip(peer);
    if let Some((address, _)) = both.filter(|(address, peer)| address == peer) {
        section.problem::<()>("peer", format!("{address} is this node's own address too; use the other node's"));
    }
    let vips = vips.and_then(|vips| {
        let own = [(address, "this node's own address"), (peer, "the peer's own address, which replication uses")];
        distinct(section, &vips, &own)
    });
    if let (Some(runtime_dir), Some(instance)) = (&runtime_dir, &instance) {
        fits_socket(section, "runtime_dir", &runtime_dir.join(format!("{instance}.sock")));
    }
    Some(Node {
        instance: instance?,
        interface: interface?,
        address: address?,
        peer: peer?,
        vips: vips?,
        state_dir: state_dir?,
        runtime_dir: runtime_dir?,
        bpffs: bpffs?,
    })
}

/// keepalived puts at most so many addresses into an advert, and ours must be one it could have sent.
const MOST_VIPS: usize = 20;

/// The virtual addresses, each once and none that a node owns; the items that are wrong in themselves are noted.
fn distinct(
    section: &Section<'_>,
    vips: &[(usize, Option<Vip>)],
    own: &[(Option<Ipv4Addr>, &str)],
) -> Option<Vec<Vip>> {
    if vips.is_empty() {
        return section.problem("vips", "is empty; name at least one, like [\"10.0.0.5/32\"]");
    }
    if let Some((line, _)) = vips.get(MOST_VIPS) {
        let text = format!("{} addresses are more than {MOST_VIPS}; remove {}", vips.len(), vips.len() - MOST_VIPS);
        return section.problem_at(Some(*line), "vips", text);
    }
    let judge = |(n, (line, vip)): (usize, &(usize, Option<Vip>))| {
        let Vip { address, prefix } = (*vip)?;
        let text = if let Some((_, whose)) = own.iter().find(|(own, _)| *own == Some(address)) {
            format!("{address}/{prefix} is {whose}; use an address that neither node has")
        } else if vips[..n].iter().any(|(_, earlier)| earlier.is_some_and(|earlier| earlier.address == address)) {
            format!("{address} is there twice; remove one of them")
        } else {
            return *vip;
        };
        section.problem_at(Some(*line), &format!("vips[{n}]"), text)
    };
    // Collected before any is missed, so that each is judged.
    vips.iter().enumerate().map(judge).collect::<Vec<_>>().into_iter().collect()
}

/// The longest path of a Unix socket, without the closing zero byte (`sockaddr_un.sun_path`).
const LONGEST_SOCKET: usize = 107;

/// Notes a directory that is too deep for the socket in it.
pub(super) fn fits_socket(section: &Section<'_>, key: &str, socket: &Path) {
    let length = socket.as_os_str().len();
    if length > LONGEST_SOCKET {
        let text =
            format!("`{}` has {length} bytes, a socket at most {LONGEST_SOCKET}; use a shorter path", socket.display());
        section.problem::<()>(key, text);
    }
}

pub(super) fn instance(value: &DeValue<'_>) -> Reading<String> {
    let text = values::string(value)?;
    let fits = |text: &str| {
        (1..=32).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    if fits(text) {
        return Ok(text.to_owned());
    }
    let repaired: String =
        text.to_ascii_lowercase().chars().map(|c| if matches!(c, '_' | '.' | ' ') { '-' } else { c }).collect();
    let advice = if fits(&repaired) { format!("use {repaired:?}") } else { "use 1 to 32 of a-z, 0-9 and `-`".into() };
    Err(format!("{text:?} would not do as the name of a directory of pins; {advice}"))
}

/// What the kernel takes for a name (`dev_valid_name`).
pub(super) fn interface(value: &DeValue<'_>) -> Reading<String> {
    let text = values::line(value)?;
    if let Some((device, _)) = text.split_once(':') {
        return Err(format!("{text:?} is an alias, and packets arrive on the interface itself; use {device:?}"));
    }
    if text.len() > 15 {
        return Err(format!("{text:?} has {} bytes, an interface at most 15; `ip -br link` lists them", text.len()));
    }
    if text.is_empty() || text == "." || text == ".." || text.contains(|c: char| c == '/' || c.is_whitespace()) {
        return Err(format!("{text:?} is no name of an interface; `ip -br link` lists them"));
    }
    if text == "lo" {
        return Err("\"lo\" never leaves this host; use the interface that the other node is reached by".into());
    }
    Ok(text)
}

fn vrrp(section: &Section<'_>, without_pulses: bool, with_postgres: bool) -> Option<Vrrp> {
    let version = section.or("version", VrrpVersion::V3, version);
    let vrid = section.required("vrid", "51", |value| integer(value, 1..=255u8));
    let priority = section.required("priority", "100", priority);
    // Without a version to judge by, only the unit is judged.
    let any = Duration::from_millis(10)..=Duration::from_secs(255);
    let interval = |value: &DeValue<'_>| match version {
        Some(VrrpVersion::V2) => interval_v2(value),
        Some(VrrpVersion::V3) => interval_v3(value),
        None => duration(value, any.clone()),
    };
    let advert_interval = section.or("advert_interval", Duration::from_secs(1), interval);
    let adverts = section.or("adverts", true, boolean);
    let preempt = section.or("preempt", false, boolean);
    // keepalived's range.
    let preempt_delay =
        section.or("preempt_delay", Duration::ZERO, |v| duration(v, Duration::ZERO..=Duration::from_secs(1000)));
    let password = section.secret("password");
    let min_ttl = section.or("min_ttl", 255, |value| integer(value, 1..=255u8));

    let password = password.and_then(|password| match (version, password) {
        (_, None) => Some(None),
        (Some(VrrpVersion::V3), Some(_)) => section.problem(
            &section.source("password"),
            "version 3 has no authentication (RFC 9568 §9), and pulses have their own; \
             remove the password, or use version = 2",
        ),
        (_, Some(password)) => pass(section, &password).map(Some),
    });
    if preempt == Some(true) && with_postgres {
        section.problem::<()>(
            "preempt",
            "with [postgres] a returning node would take over from a healthy primary, by priority and whatever its \
             data; use false, and `harbor-ha switchover`, which waits until nothing can be lost",
        );
    }
    if adverts == Some(false) && without_pulses {
        section.problem::<()>(
            "adverts",
            "false, and pulse.enabled = false, leave no heartbeat; use true here, or pulse.enabled = true",
        );
    }
    if preempt == Some(false) && preempt_delay.is_some_and(|delay| !delay.is_zero()) {
        section.problem::<()>("preempt_delay", "does nothing while preempt is false; remove it");
    }
    Some(Vrrp {
        version: version?,
        vrid: Vrid::new(vrid?)?,
        priority: priority?,
        advert_interval: advert_interval?,
        adverts: adverts?,
        preempt: preempt?,
        preempt_delay: preempt_delay?,
        password: password?,
        min_ttl: min_ttl?,
    })
}

pub(super) fn version(value: &DeValue<'_>) -> Reading<VrrpVersion> {
    Ok(if integer(value, 2..=3u8)? == 2 { VrrpVersion::V2 } else { VrrpVersion::V3 })
}

fn priority(value: &DeValue<'_>) -> Reading<Priority> {
    integer(value, 1..=255u8).map(Priority).map_err(|text| match text.split_once("; use 255 or less") {
        Some((number, _)) => format!("{}; use 254 or less", number.replace("1 to 255", "1 to 254")),
        None => text,
    })
}

/// VRRPv2 counts whole seconds in one byte (RFC 3768 §5.3.7).
pub(super) fn interval_v2(value: &DeValue<'_>) -> Reading<Duration> {
    let second = Duration::from_secs(1);
    let length = duration(value, second..=255 * second)?;
    if length.subsec_nanos() == 0 {
        return Ok(length);
    }
    let nearest = Duration::from_secs((length + second / 2).as_secs());
    Err(format!("version 2 knows whole seconds only; use \"{}\" instead of \"{}\"", show(nearest), show(length)))
}

/// VRRPv3 counts hundredths of a second in twelve bits (RFC 9568 §5.2.7).
pub(super) fn interval_v3(value: &DeValue<'_>) -> Reading<Duration> {
    let step = Duration::from_millis(10);
    let length = duration(value, step..=4095 * step)?;
    if length.as_nanos().is_multiple_of(step.as_nanos()) {
        return Ok(length);
    }
    let nearest = Duration::from_millis((length + step / 2).as_millis() as u64 / 10 * 10);
    Err(format!("version 3 counts in steps of 10 ms; use \"{}\" instead of \"{}\"", show(nearest), show(length)))
}

/// PASS authentication: eight bytes, zero-filled (RFC 2338 §5.3.10).
pub(super) fn pass(section: &Section<'_>, password: &Secret<String>) -> Option<Secret<[u8; 8]>> {
    let bytes = password.reveal().as_bytes();
    let mut padded = [0; 8];
    match padded.get_mut(..bytes.len()) {
        Some(start) => start.copy_from_slice(bytes),
        None => {
            let text = format!("the password has {} bytes; use its first 8, as keepalived does", bytes.len());
            return section.problem(&section.source("password"), text);
        }
    }
    Some(Secret::new(padded))
}

/// `Some(None)`: switched off.
fn pulse(section: &Section<'_>) -> Option<Option<Pulse>> {
    let enabled = section.or("enabled", true, boolean);
    let interval = section
        .or("interval", Duration::from_millis(20), |v| duration(v, Duration::from_millis(1)..=Duration::from_secs(1)));
    let threshold = section.or("threshold", 5, |value| integer(value, 2..=255u8));
    let port = section.or("port", 5112, |value| integer(value, 1..=u16::MAX));
    let after = port.map_or(5113, |port| port.checked_add(1).unwrap_or(port - 1));
    let flows_port = section.or("flows_port", after, |value| integer(value, 1..=u16::MAX));
    if port.is_some() && port == flows_port {
        section.problem::<()>("flows_port", format!("the pulses have this port; use {after}"));
    }
    let cluster_id = section.or("cluster_id", 1, |value| integer(value, 1..=u64::MAX));
    if enabled == Some(false) {
        section.unread_secret("key");
        section.unread_secret("other_key");
        return Some(None);
    }
    let key = section.secret("key").and_then(|key| match key {
        Some(key) => pulse_key(section, "key", &key),
        None => section.missing("key_file", "\"/etc/harbor-ha/pulse.key\""),
    });
    let other_key = section.secret("other_key").and_then(|key| match key {
        Some(key) => pulse_key(section, "other_key", &key).map(Some),
        None => Some(None),
    });
    Some(Some(Pulse {
        interval: interval?,
        threshold: threshold?,
        port: port?,
        flows_port: flows_port?,
        key: key?,
        other_key: other_key?,
        cluster_id: cluster_id?,
    }))
}

fn pulse_key(section: &Section<'_>, stem: &str, key: &Secret<String>) -> Option<Secret<[u8; 16]>> {
    let digits = key.reveal().trim();
    if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let what = match digits.bytes().position(|byte| !byte.is_ascii_hexdigit()) {
            Some(at) => format!("the key's character {} is no hexadecimal digit", at + 1),
            None => format!("the key has {} hexadecimal digits, not 32", digits.len()),
        };
        return section
            .problem(&section.source(stem), format!("{what}; `openssl rand -hex 16` makes one, for both nodes"));
    }
    let number = u128::from_str_radix(digits, 16).expect("32 hexadecimal digits are a u128");
    Some(Secret::new(number.to_be_bytes()))
}

fn announce(section: &Section<'_>) -> Option<Announce> {
    let hour = Duration::from_secs(3600);
    // Zero at once would never move a HaVip; a hundred fill no queue.
    let repeat = section.or("repeat", 5, |value| integer(value, 1..=100u32));
    let delay = section.or("delay", Duration::from_secs(1), |value| duration(value, Duration::ZERO..=hour));
    let refresh = section.or("refresh", Duration::from_secs(5), |value| duration(value, Duration::ZERO..=hour));
    let refresh_repeat = section.or("refresh_repeat", 1, |value| integer(value, 1..=100u32));
    if refresh.is_some_and(|refresh| !refresh.is_zero() && refresh < Duration::from_millis(100)) {
        section
            .problem::<()>("refresh", "more than ten a second only load the network; use \"100ms\" or more, or \"0s\"");
    }
    Some(Announce { repeat: repeat?, delay: delay?, refresh: refresh?, refresh_repeat: refresh_repeat? })
}

pub(super) fn realtime(section: &Section<'_>) -> Option<Realtime> {
    let priority = section.or("priority", 50, |value| integer(value, 0..=99u8));
    let lock_memory = section.or("lock_memory", true, boolean);
    Some(Realtime { priority: priority?, lock_memory: lock_memory? })
}

fn kernel(section: &Section<'_>) -> Option<(XdpMode, Option<PathBuf>)> {
    let modes = [("auto", XdpMode::Auto), ("native", XdpMode::Native), ("generic", XdpMode::Generic)];
    let xdp_mode = section.or("xdp_mode", XdpMode::Auto, |value| values::word(value, &modes));
    let cgroup = section.or("cgroup", None, |value| match values::string(value)? {
        "auto" => Ok(None),
        _ => values::path(value).map(Some),
    });
    Some((xdp_mode?, cgroup?))
}
