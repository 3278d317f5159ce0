//! The status as Prometheus reads it: numbers for graphs and alerts, each with a sentence.
//!
//! Everything is made from one [`Status`] when somebody asks, so nothing is counted twice and a daemon that nobody asks
//! does nothing for it. What never happened is there as 0: an alert on something absent never fires. What this node
//! does not have (a lease without pulses, a PostgreSQL that does not answer) is left out.

mod families;
mod heartbeats;
mod node;
mod postgres;
mod service;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text};
use prometheus_client::registry::Registry;

use self::families::Families;
use super::status::Status;

/// What [`exposition`] is, for the header of an answer.
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// First part of every name.
const PREFIX: &str = "harbor_ha";

#[derive(Debug)]
struct Page(Arc<Status>);

impl Collector for Page {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (mut families, status) = (Families(encoder), self.0.as_ref());
        node::write(&mut families, status)?;
        service::write(&mut families, status)?;
        heartbeats::write(&mut families, status)?;
        postgres::write(&mut families, status)
    }
}

/// The page, in Prometheus's text format.
///
/// # Errors
/// None that a string could cause; whoever formats says so all the same.
pub fn exposition(status: Arc<Status>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Page(status)));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)?;
    Ok(text)
}

/// In the unit that Prometheus wants.
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
