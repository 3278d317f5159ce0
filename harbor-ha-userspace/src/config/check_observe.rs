//! Judges `[observe]`: where metrics and the status are served over HTTP.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use toml::de::DeValue;

use super::reader::Section;
use super::settings::{Node, Postgres};
use super::values::{self, Reading};

/// The same for a router, whose virtual addresses are these.
pub(super) fn of_router(section: &Section<'_>, vips: &[Ipv4Addr]) -> Option<Option<SocketAddr>> {
    let listen = section.or("listen", None, listen)?;
    if let Some(place) = listen.filter(|place| vips.iter().any(|vip| place.ip() == IpAddr::V4(*vip))) {
        let text = format!(
            "{} is a virtual address: behind it answers one node only; use this node's own, or {USUAL}",
            place.ip()
        );
        return section.problem("listen", text);
    }
    Some(listen)
}

/// `Some(None)`: nothing listens. `node` and `postgres`: as far as they are known to be right.
pub(super) fn observe(
    section: &Section<'_>,
    node: Option<&Node>,
    postgres: Option<&Option<Postgres>>,
) -> Option<Option<SocketAddr>> {
    let listen = section.or("listen", None, listen)?;
    let Some(place) = listen else { return Some(None) };
    if let Some(text) = node.and_then(|node| elsewhere(place, node)) {
        return section.problem("listen", text);
    }
    let postgres = postgres.and_then(Option::as_ref);
    if postgres.is_some_and(|postgres| postgres.port == place.port()) {
        let port = place.port();
        return section
            .problem("listen", format!("PostgreSQL has port {port} (postgres.port); use another one, {USUAL}"));
    }
    Some(Some(place))
}

/// One that no exporter in Prometheus's list has.
const USUAL: &str = "\"127.0.0.1:9112\"";

fn listen(value: &DeValue<'_>) -> Reading<Option<SocketAddr>> {
    let text = values::string(value)?;
    if text == "off" {
        return Ok(None);
    }
    match text.parse::<SocketAddr>() {
        Ok(place) if place.port() != 0 => Ok(Some(place)),
        Ok(_) => Err(format!("{text:?} has no port that a scraper could be told; use {USUAL}")),
        Err(_) if text.parse::<IpAddr>().is_ok() => Err(format!("{text:?} names no port; use {USUAL}")),
        Err(_) => Err(format!("{text:?} is no address with a port; use {USUAL}, or \"off\"")),
    }
}

/// Why this node does not have the address at all times.
fn elsewhere(place: SocketAddr, node: &Node) -> Option<String> {
    let is = |address| place.ip() == IpAddr::V4(address);
    let (own, port) = (node.address, place.port());
    if node.vips.iter().any(|vip| is(vip.address)) {
        return Some(format!(
            "{} is a virtual address: behind it answers one node only, and the gate is in the way; use this node's own, \
             \"{own}:{port}\"",
            place.ip()
        ));
    }
    is(node.peer).then(|| format!("{} is the other node's address; use this node's own, \"{own}:{port}\"", place.ip()))
}
