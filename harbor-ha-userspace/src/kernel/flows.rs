//! The kernel's memory of connections.

use std::collections::BTreeMap;
use std::path::Path;

use aya::maps::{HashMap, Map, MapData, MapError};
use harbor_ha_ebpf::decide::flow;
use harbor_ha_ebpf::names::map as name;
use harbor_ha_ebpf::records::{FLOWS_MAX, Flow, FlowKey};
use harbor_ha_ebpf::units::Nanos;

use super::load::{LoadError, pin_folder};
use crate::core::flows::SeesFlows;

/// Reads the map of connections, and forgets what is over.
pub struct FlowMap {
    map: HashMap<MapData, FlowKey, Flow>,
}

impl FlowMap {
    /// Opens the pinned map of an instance: a descriptor of the reader's own.
    ///
    /// # Errors
    ///
    /// It is not pinned, or of another shape.
    pub fn open(bpffs: &Path, instance: &str) -> Result<Self, LoadError> {
        let failed = |source| LoadError::Map { name: name::FLOWS, source };
        let map = MapData::from_pin(pin_folder(bpffs, instance).join(name::FLOWS)).map_err(failed)?;
        Ok(Self { map: HashMap::try_from(Map::LruHashMap(map)).map_err(failed)? })
    }
}

impl SeesFlows for FlowMap {
    fn flows(&mut self, now: Nanos) -> Vec<(FlowKey, Flow)> {
        // The kernel begins anew when the element goes under the reader's hand: no more reads than elements, each once.
        let read: Result<BTreeMap<FlowKey, Flow>, MapError> = self.map.iter().take(FLOWS_MAX).collect();
        let read = read.unwrap_or_else(|error| {
            tracing::debug!(%error, "the map of connections");
            BTreeMap::new()
        });
        let (kept, over): (Vec<_>, Vec<_>) = read.into_iter().partition(|(_, flow)| flow::is_kept(flow, now));
        for (key, _) in over {
            // Evicted meanwhile.
            let _gone = self.map.remove(&key);
        }
        kept
    }
}
