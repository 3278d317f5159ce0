//! Which tracker has which number: rules, watchers and facts use the same ones. Shared by both forms.

use std::collections::BTreeMap;

use crate::config::router::settings::{Track as Tracks, Tracked, Trackers};
use crate::vrrp::TrackerId;
use crate::vrrp::track::{Track, TrackerKind, TrackerRules};

/// The numbers: interfaces first, then scripts, processes and files in the order of the configuration.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// Interfaces that are tracked, by name.
    pub interfaces: BTreeMap<String, TrackerId>,
    /// The first of `[[script]]`.
    pub scripts: u16,
    /// The first of `[[process]]`.
    pub processes: u16,
    /// The first of `[[file]]`.
    pub files: u16,
}

impl Numbers {
    /// Of everything in `trackers`, and of `interfaces`, which may be named more than once.
    pub fn new<'a>(trackers: &Trackers, names: impl IntoIterator<Item = &'a String>) -> Self {
        let mut interfaces = BTreeMap::new();
        for name in names {
            let next = TrackerId(interfaces.len() as u16);
            interfaces.entry(name.clone()).or_insert(next);
        }
        let scripts = interfaces.len() as u16;
        let processes = scripts + trackers.scripts.len() as u16;
        let files = processes + trackers.processes.len() as u16;
        Self { interfaces, scripts, processes, files }
    }

    /// How the facts of each are counted, by number.
    pub fn rules(&self, trackers: &Trackers) -> Vec<TrackerRules> {
        let mut interfaces: Vec<_> = self.interfaces.iter().collect();
        interfaces.sort_by_key(|(_, id)| **id);
        let interfaces = interfaces.into_iter().map(|(name, _)| (name, TrackerKind::Interface));
        let scripts = trackers
            .scripts
            .iter()
            .map(|it| (&it.name, TrackerKind::Script { rise: it.rise, fall: it.fall, init_fail: it.init_fail }));
        let processes = trackers
            .processes
            .iter()
            .map(|it| (&it.name, TrackerKind::Process { quorum: it.quorum, quorum_max: it.quorum_max }));
        let files = trackers.files.iter().map(|it| (&it.name, TrackerKind::File { init: it.init.map(i64::from) }));
        let all = interfaces.chain(scripts).chain(processes).chain(files);
        all.map(|(name, kind)| TrackerRules { name: name.clone(), kind }).collect()
    }

    /// The uses that an instance, a group or a pair makes of them.
    pub fn tracks(&self, trackers: &Trackers, track: &Tracks) -> Vec<Track> {
        let use_of = |tracker: TrackerId, tracked: &Tracked| Track {
            tracker,
            // A file's may be any 32 bits; beyond 254 it decides as 254 does, as priorities end there.
            weight: tracked.weight.clamp(-254, 254) as i16,
            reverse: tracked.reverse,
        };
        let from = |first: u16, list: &[Tracked], names: Vec<&String>| -> Vec<Track> {
            let of = |tracked: &Tracked| {
                let place = names.iter().position(|name| **name == tracked.name)?;
                Some(use_of(TrackerId(first + place as u16), tracked))
            };
            list.iter().filter_map(of).collect()
        };
        let interfaces = track.interfaces.iter();
        let mut tracks: Vec<Track> =
            interfaces.filter_map(|tracked| Some(use_of(*self.interfaces.get(&tracked.name)?, tracked))).collect();
        tracks.extend(from(self.scripts, &track.scripts, trackers.scripts.iter().map(|it| &it.name).collect()));
        tracks.extend(from(self.processes, &track.processes, trackers.processes.iter().map(|it| &it.name).collect()));
        tracks.extend(from(self.files, &track.files, trackers.files.iter().map(|it| &it.name).collect()));
        tracks
    }
}
