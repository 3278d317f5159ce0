//! The pulse thread's handle on the maps.

use std::path::Path;

use aya::maps::{Array, Map, MapData};
use harbor_ha_ebpf::names::map as name;
use harbor_ha_ebpf::records::{Lease, Own, Signs};

use super::load::{LoadError, pin_folder};
use crate::core::speaks::Speaks;

/// Writes `own` and `signs`, reads `lease`: two system calls that copy a few words, and no lock.
pub struct OwnWriter {
    own: Array<MapData, Own>,
    signs: Array<MapData, Signs>,
    lease: Array<MapData, Lease>,
    said: Signs,
}

impl OwnWriter {
    /// Opens the pinned maps of an instance anew: descriptors of the thread's own.
    ///
    /// # Errors
    ///
    /// They are not pinned, or of another shape.
    pub fn open(bpffs: &Path, instance: &str) -> Result<Self, LoadError> {
        let folder = pin_folder(bpffs, instance);
        let signs: Array<MapData, Signs> = pinned(&folder, name::SIGNS)?;
        let said = signs.get(&0, 0).map_err(|source| LoadError::Map { name: name::SIGNS, source })?;
        Ok(Self { own: pinned(&folder, name::OWN)?, signs, lease: pinned(&folder, name::LEASE)?, said })
    }
}

impl Speaks for OwnWriter {
    fn say(&mut self, own: &Own, signs: &Signs) -> bool {
        let mut taken = self.own.set(signs.sent as u32 & 1, own, 0).is_ok();
        taken &= self.signs.set(0, signs, 0).is_ok();
        self.said = *signs;
        taken
    }

    fn said(&self) -> Signs {
        self.said
    }

    fn echo(&self) -> (u64, u64) {
        self.lease.get(&0, 0).map_or((0, 0), |lease| (lease.echo_stamp_ns, lease.echo_boot))
    }
}

fn pinned<V: aya::Pod>(folder: &Path, name: &'static str) -> Result<Array<MapData, V>, LoadError> {
    let failed = |source| LoadError::Map { name, source };
    let map = MapData::from_pin(folder.join(name)).map_err(failed)?;
    Array::try_from(Map::Array(map)).map_err(failed)
}
