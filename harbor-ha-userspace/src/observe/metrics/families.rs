//! How one family of metrics is written.

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet,
};
use prometheus_client::metrics::MetricType;

/// For what has no labels.
pub(super) const ALONE: [(&str, &str); 0] = [];

/// Writes families, one after the other.
#[derive(Debug)]
pub struct Families<'a>(pub(super) DescriptorEncoder<'a>);

impl Families<'_> {
    /// What goes up and down; `help` is a sentence.
    pub(super) fn gauge<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        samples.try_for_each(|(labels, value)| family.encode_family(&labels)?.encode_gauge(&value))
    }

    /// What only grows while the daemon runs; `_total` is added to the name.
    pub(super) fn counter<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        samples.try_for_each(|(labels, value)| {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, V, f64>(&value, None)
        })
    }

    /// A gauge without labels; left out when there is no value.
    pub(super) fn single<V: EncodeGaugeValue>(&mut self, name: &str, help: &str, value: Option<V>) -> fmt::Result {
        self.gauge(name, help, value.map(|value| (ALONE, value)))
    }

    /// A counter without labels; left out when there is no value.
    pub(super) fn count<V: EncodeCounterValue>(&mut self, name: &str, help: &str, value: Option<V>) -> fmt::Result {
        self.counter(name, help, value.map(|value| (ALONE, value)))
    }

    /// Whether something is so: 1 or 0.
    pub(super) fn flag(&mut self, name: &str, help: &str, value: bool) -> fmt::Result {
        self.single(name, help, Some(u32::from(value)))
    }

    /// One of several states: a series for each, 1 for the one that is.
    pub(super) fn states(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        all: &[&str],
        is: impl Fn(&str) -> bool,
    ) -> fmt::Result {
        self.gauge(name, help, all.iter().map(|&state| ([(label, word(state))], u32::from(is(state)))))
    }

    /// A fact in words: 1, with the words as labels.
    pub(super) fn info(&mut self, name: &str, help: &str, labels: &impl EncodeLabelSet) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(labels)
    }
}

/// A value of a label that needs no quoting in a query by hand.
pub(super) fn word(text: &str) -> String {
    text.replace(' ', "_")
}
