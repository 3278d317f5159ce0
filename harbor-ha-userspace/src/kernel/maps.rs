//! Typed handles of the maps.

use std::sync::atomic::{Ordering, fence};

use aya::Ebpf;
use aya::maps::{Array, Map, MapData, RingBuf};
use harbor_ha_ebpf::names::map as name;
use harbor_ha_ebpf::records::{
    Config, Detector, GateStats, Lease, Order, PEERS_MAX, PeerConfig, STRANGERS, Secrets, Signs, Source, Stats,
    TimedDetector, accept, slot,
};
use harbor_ha_ebpf::units::Priority;
use harbor_ha_ebpf::wire::siphash::Key;

use super::load::LoadError;
use crate::config::settings::{Settings, VrrpVersion};

/// The pair has one peer, at this index.
pub const PEER: u32 = 0;

/// Every map that userspace touches.
pub struct Maps {
    config: Array<MapData, Config>,
    secrets: Array<MapData, Secrets>,
    peer_config: Array<MapData, PeerConfig>,
    peers: Array<MapData, TimedDetector>,
    stats: Array<MapData, Stats>,
    order: Array<MapData, Order>,
    lease: Array<MapData, Lease>,
    signs: Array<MapData, Signs>,
    gate_stats: Array<MapData, GateStats>,
}

impl Maps {
    /// Takes the maps out of a loaded object.
    ///
    /// # Errors
    ///
    /// A map is missing or of another shape: the object is not ours.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        Ok(Self {
            config: array(ebpf, name::CONFIG)?,
            secrets: array(ebpf, name::SECRETS)?,
            peer_config: array(ebpf, name::PEER_CONFIG)?,
            peers: array(ebpf, name::PEERS)?,
            stats: array(ebpf, name::STATS)?,
            order: array(ebpf, name::ORDER)?,
            lease: array(ebpf, name::LEASE)?,
            signs: array(ebpf, name::SIGNS)?,
            gate_stats: array(ebpf, name::GATE_STATS)?,
        })
    }

    /// Tells the kernel who we are; keys and peers first, so that no packet is judged by half a configuration. `boot` tells this boot of the machine from others.
    ///
    /// # Errors
    ///
    /// The kernel refuses a write.
    pub fn configure(&mut self, settings: &Settings, boot: u64) -> Result<(), LoadError> {
        self.write(&Config { boot, ..config(settings) }, &secrets(settings), &peers(settings))
    }

    /// Writes the records themselves. What was known of a peer that is another one now is forgotten: its sequences
    /// would make replays of the new one's.
    ///
    /// # Errors
    ///
    /// The kernel refuses a write.
    pub fn write(
        &mut self,
        config: &Config,
        secrets: &Secrets,
        peers: &[PeerConfig; PEERS_MAX],
    ) -> Result<(), LoadError> {
        self.secrets.set(0, secrets, 0).map_err(|source| LoadError::Map { name: name::SECRETS, source })?;
        for (index, peer) in peers.iter().enumerate() {
            let failed = |source| LoadError::Map { name: name::PEER_CONFIG, source };
            let before = self.peer_config.get(&(index as u32), 0).map_err(failed)?;
            self.peer_config.set(index as u32, peer, 0).map_err(failed)?;
            if before.address != [0; 4] && before.address != peer.address {
                self.forget(index as u32)?;
            }
        }
        self.config.set(0, config, 0).map_err(|source| LoadError::Map { name: name::CONFIG, source })
    }

    /// Our priority as what is tracked makes it: the skew of the detector of adverts is computed from it. A packet of
    /// the same instant finds the old one or the new one, as nothing else in the record changes.
    ///
    /// # Errors
    ///
    /// The kernel refuses the read or the write.
    pub fn set_priority(&mut self, priority: Priority) -> Result<(), LoadError> {
        let config = Config { priority: priority.0, ..only(&self.config, name::CONFIG)? };
        self.config.set(0, config, 0).map_err(|source| LoadError::Map { name: name::CONFIG, source })
    }

    /// The one case in which userspace writes a detector: that this cancels its timer is wanted.
    fn forget(&mut self, peer: u32) -> Result<(), LoadError> {
        let nothing = TimedDetector { timer: [0; 2], detector: Detector::default() };
        for source in [Source::Advert, Source::Pulse] {
            let failed = |source| LoadError::Map { name: name::PEERS, source };
            self.peers.set(slot(peer, source), nothing, 0).map_err(failed)?;
        }
        Ok(())
    }

    /// What the detector knows of one heartbeat.
    ///
    /// # Errors
    ///
    /// The kernel refuses the read.
    pub fn detector(&self, peer: u32, source: Source) -> Result<Detector, LoadError> {
        let record = self.peers.get(&slot(peer, source), 0);
        record.map(|record| record.detector).map_err(|source| LoadError::Map { name: name::PEERS, source })
    }

    /// Packet counters of a peer.
    ///
    /// # Errors
    ///
    /// The kernel refuses the read.
    pub fn stats(&self, peer: u32) -> Result<Stats, LoadError> {
        self.stats.get(&peer, 0).map_err(|source| LoadError::Map { name: name::STATS, source })
    }

    /// Packet counters of senders that are no peer.
    ///
    /// # Errors
    ///
    /// The kernel refuses the read.
    pub fn strangers(&self) -> Result<Stats, LoadError> {
        self.stats(STRANGERS)
    }

    /// Orders the gate and the echo. What is read of the lease after this was written in view of it: a full barrier on
    /// this side of the promise (docs/protocol.md), the program has the other.
    ///
    /// # Errors
    ///
    /// The kernel refuses the write.
    pub fn order(&mut self, order: &Order) -> Result<(), LoadError> {
        self.order.set(0, order, 0).map_err(|source| LoadError::Map { name: name::ORDER, source })?;
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// The order in force: this run's last one, or that of an earlier run.
    ///
    /// # Errors
    ///
    /// The kernel refuses the read.
    pub fn current_order(&self) -> Result<Order, LoadError> {
        only(&self.order, name::ORDER)
    }

    /// The lease as the kernel has it now.
    ///
    /// # Errors
    ///
    /// The kernel refuses the read.
    pub fn lease(&self) -> Result<Lease, LoadError> {
        only(&self.lease, name::LEASE)
    }

    /// Userspace's own signs of life, as the pulse thread gave them.
    ///
    /// # Errors
    ///
    /// The kernel refuses the read.
    pub fn signs(&self) -> Result<Signs, LoadError> {
        only(&self.signs, name::SIGNS)
    }

    /// Counters of the gate.
    ///
    /// # Errors
    ///
    /// The kernel refuses the read.
    pub fn gate_stats(&self) -> Result<GateStats, LoadError> {
        only(&self.gate_stats, name::GATE_STATS)
    }
}

/// The ring buffer of verdicts.
///
/// # Errors
///
/// It is missing: the object is not ours.
pub fn verdicts(ebpf: &mut Ebpf) -> Result<RingBuf<MapData>, LoadError> {
    take(ebpf, name::VERDICTS)?.try_into().map_err(|source| LoadError::Map { name: name::VERDICTS, source })
}

/// The element of a map that has one.
fn only<V: aya::Pod>(map: &Array<MapData, V>, name: &'static str) -> Result<V, LoadError> {
    map.get(&0, 0).map_err(|source| LoadError::Map { name, source })
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, LoadError> {
    let missing = || aya::maps::MapError::InvalidName { name: name.to_owned() };
    ebpf.take_map(name).ok_or_else(missing).map_err(|source| LoadError::Map { name, source })
}

fn array<V: aya::Pod>(ebpf: &mut Ebpf, name: &'static str) -> Result<Array<MapData, V>, LoadError> {
    take(ebpf, name)?.try_into().map_err(|source| LoadError::Map { name, source })
}

fn config(settings: &Settings) -> Config {
    let vrrp = &settings.vrrp;
    let mut config = Config {
        own_address: settings.node.address.octets(),
        vrid: vrrp.vrid.as_u8(),
        vrrp_version: match vrrp.version {
            VrrpVersion::V2 => 2,
            VrrpVersion::V3 => 3,
        },
        min_ttl: vrrp.min_ttl,
        accept: if vrrp.adverts { accept::ADVERTS } else { 0 },
        priority: vrrp.priority.0,
        auth_type: u8::from(vrrp.password.is_some()),
        advert_interval_ns: vrrp.advert_interval.as_nanos() as u64,
        ..Config::default()
    };
    if let Some(pulse) = &settings.pulse {
        config.accept |= accept::PULSES;
        config.pulse_threshold = pulse.threshold;
        config.pulse_port = pulse.port;
        config.pulse_interval_ns = pulse.interval.as_nanos() as u64;
        config.cluster_id = pulse.cluster_id;
        config.hang_ns = settings.lease.as_ref().map_or(0, |lease| lease.hang.as_nanos() as u64);
        if settings.postgres.is_some() {
            config.accept |= accept::GATE;
        }
        // As many as the configuration allows: `VIPS_MAX` is the limit of an advert too.
        for (place, vip) in config.vips.iter_mut().zip(&settings.node.vips) {
            *place = vip.address.octets();
        }
    }
    config
}

fn secrets(settings: &Settings) -> Secrets {
    let key = settings.pulse.as_ref().map_or([0; 2], |pulse| Key::from_bytes(*pulse.key.reveal()).0);
    let other = settings.pulse.as_ref().and_then(|pulse| pulse.other_key.as_ref());
    let other = other.map_or(key, |other| Key::from_bytes(*other.reveal()).0);
    Secrets {
        pulse_key: key,
        other_key: other,
        password: settings.vrrp.password.as_ref().map_or([0; 8], |password| *password.reveal()),
    }
}

fn peers(settings: &Settings) -> [PeerConfig; PEERS_MAX] {
    let mut peers = [PeerConfig::default(); PEERS_MAX];
    peers[PEER as usize].address = settings.node.peer.octets();
    peers
}
