//! The status as Prometheus reads it: numbers for graphs and alerts, each with a sentence.
//!
//! Everything is made from one status when somebody asks, so nothing is counted twice and a daemon that nobody asks
//! does nothing for it. What never happened is there as 0: an alert on something absent never fires. What this node
//! does not have (a lease without pulses, a PostgreSQL that does not answer) is left out.

mod cloud;
mod families;
mod heartbeats;
mod node;
mod outside;
mod postgres;
mod router;
mod service;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text};
use prometheus_client::registry::Registry;

pub use self::families::Families;
use super::status::Status;

/// What [`exposition`] is, for the header of an answer.
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// First part of every name.
const PREFIX: &str = "harbor_ha";

/// A status that can be told in numbers.
pub trait Measured: fmt::Debug + Send + Sync + 'static {
    /// Writes every family.
    ///
    /// # Errors
    /// None that a string could cause.
    fn measure(&self, families: &mut Families<'_>) -> fmt::Result;
}

impl Measured for Status {
    fn measure(&self, families: &mut Families<'_>) -> fmt::Result {
        node::write(families, self)?;
        service::write(families, self)?;
        heartbeats::write(families, self)?;
        postgres::write(families, self)?;
        outside::of_pair(families, self)?;
        cloud::write(families, self.cloud.as_ref(), self.now_ns)
    }
}

#[derive(Debug)]
struct Page<S>(Arc<S>);

impl<S: Measured> Collector for Page<S> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.measure(&mut Families(encoder))
    }
}

/// The page, in Prometheus's text format.
///
/// # Errors
/// None that a string could cause; whoever formats says so all the same.
pub fn exposition<S: Measured>(status: Arc<S>) -> Result<String, fmt::Error> {
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
