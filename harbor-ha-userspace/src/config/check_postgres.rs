//! Judges `[postgres]`.

use std::net::IpAddr;
use std::time::Duration;

use toml::de::DeValue;

use super::check::fits_socket;
use super::reader::Section;
use super::settings::{Node, Postgres, Sync};
use super::values::{self, Reading, boolean, duration, integer, line, path};

/// `Some(None)` without the table; `node` is `None` when it was found wrong elsewhere.
pub(super) fn postgres(section: &Section<'_>, node: Option<&Node>) -> Option<Option<Postgres>> {
    if !section.is_present() {
        return Some(None);
    }
    let data_dir = section.required("data_dir", "\"/var/lib/pgsql/13/data\"", path);
    let bin_dir = section.required("bin_dir", "\"/usr/pgsql-13/bin\"", path);
    let port = section.or("port", 5432, |value| integer(value, 1..=u16::MAX));
    let socket_dir = section.or("socket_dir", "/var/run/postgresql".into(), path);
    let user = section.or("user", "postgres".to_owned(), identifier);
    let dbname = section.or("dbname", "postgres".to_owned(), identifier);
    let replication_user = section.or("replication_user", "replicator".to_owned(), identifier);
    let password = section.secret("password");
    let replication_password = section.secret("replication_password");
    let slot = section.or("slot", "harbor_ha".to_owned(), slot);
    let name = section.required("name", "\"node1\"", standby_name);
    let peer_name = section.required("peer_name", "\"node2\"", standby_name);
    let policies = [("required", Sync::Required), ("preferred", Sync::Preferred), ("off", Sync::Off)];
    let sync = section.or("sync", Sync::Required, |value| values::word(value, &policies));
    let max_lag = section.or("max_lag", 16 << 20, |value| values::size(value, 0..=1 << 40));
    let keep_old = section.or("keep_old", false, boolean);
    let start_options = section.or("start_options", String::new(), line);
    let (short, minute) = (Duration::from_millis(10), Duration::from_secs(60));
    let probe_interval = section.or("probe_interval", Duration::from_secs(1), |value| duration(value, short..=minute));
    let probe_timeout = section.or("probe_timeout", Duration::from_secs(3), |value| duration(value, short..=minute));
    let probe_fall = section.or("probe_fall", 3, |value| integer(value, 1..=100u32));
    let stop = Duration::from_secs(1)..=60 * minute;
    let stop_timeout = section.or("stop_timeout", Duration::from_secs(10), |value| duration(value, stop.clone()));

    if let (Some(socket_dir), Some(port)) = (&socket_dir, port) {
        fits_socket(section, "socket_dir", &socket_dir.join(format!(".s.PGSQL.{port}")));
    }
    // PostgreSQL compares these names without regard to case (pg_strcasecmp in syncrep.c).
    if let (Some(name), Some(peer_name)) = (&name, &peer_name)
        && name.eq_ignore_ascii_case(peer_name)
    {
        section.problem::<()>("peer_name", format!("{peer_name:?} is this node's own name too; use the other node's"));
    }
    Some(Some(Postgres {
        data_dir: data_dir?,
        bin_dir: bin_dir?,
        port: port?,
        socket_dir: socket_dir?,
        user: user?,
        dbname: dbname?,
        replication_user: replication_user?,
        password: password?,
        replication_password: replication_password?,
        peer: IpAddr::V4(node?.peer),
        vips: node?.vips.iter().map(|vip| vip.address).collect(),
        slot: slot?,
        name: name?,
        peer_name: peer_name?,
        sync: sync?,
        max_lag: max_lag?,
        keep_old: keep_old?,
        start_options: start_options?,
        probe_interval: probe_interval?,
        probe_timeout: probe_timeout?,
        probe_fall: probe_fall?,
        stop_timeout: stop_timeout?,
    }))
}

/// The longest identifier that PostgreSQL does not cut off (`NAMEDATALEN` - 1).
const LONGEST_NAME: usize = 63;

/// A role or a database.
fn identifier(value: &DeValue<'_>) -> Reading<String> {
    let text = line(value)?;
    fits_name(&text)?;
    Ok(text)
}

/// A name that needs no quotes in `synchronous_standby_names`, and is none of the words that mean something there.
fn standby_name(value: &DeValue<'_>) -> Reading<String> {
    let text = values::string(value)?;
    fits_name(text)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !text.chars().all(allowed) {
        let repaired: String = text.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
        return Err(format!("{text:?} needs quotes in synchronous_standby_names; use {repaired:?}"));
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) || ["any", "first"].iter().any(|w| text.eq_ignore_ascii_case(w)) {
        return Err(format!("{text:?} means something else in synchronous_standby_names; use \"node_{text}\""));
    }
    Ok(text.to_owned())
}

/// What `ReplicationSlotValidateName` allows.
fn slot(value: &DeValue<'_>) -> Reading<String> {
    let text = values::string(value)?;
    fits_name(text)?;
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_');
    if text.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    let repaired: String = text.to_lowercase().chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    Err(format!("{text:?} is no name of a slot, which has a-z, 0-9 and `_`; use {repaired:?}"))
}

fn fits_name(text: &str) -> Reading<()> {
    match text.len() {
        0 => Err(format!("is empty; use 1 to {LONGEST_NAME} bytes")),
        1..=LONGEST_NAME => Ok(()),
        length => {
            Err(format!("{text:?} has {length} bytes, and PostgreSQL cuts names at {LONGEST_NAME}; use a shorter one"))
        }
    }
}
