//! All clients of a chaos run, and what they were told.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use anyhow::Result;

use super::client::{Kind, Told, VERB, What};
use crate::lab::host::Place;
use crate::lab::speaker::Speaker;
use crate::lab::{Lab, Side};

/// One of each kind on the client host and on each node.
pub struct Crowd {
    told: Arc<Mutex<Vec<Told>>>,
    members: Vec<Member>,
    /// A process that follows a dead one is another client.
    numbers: u32,
}

struct Member {
    host: &'static str,
    place: Place,
    kind: Kind,
    running: Option<(u32, Speaker)>,
}

impl Crowd {
    /// Starts them.
    ///
    /// # Errors
    /// A host is not there.
    pub fn start(lab: &Lab) -> Result<Self> {
        let client = Place { netns: lab.state().netns("c"), cgroup: None };
        let places = Side::BOTH.map(|side| (side.name(), lab.node(side).place())).into_iter().chain([("c", client)]);
        let members = places
            .flat_map(|(host, place)| {
                [Kind::Set, Kind::Bank].map(|kind| Member { host, place: place.clone(), kind, running: None })
            })
            .collect();
        let mut crowd = Self { told: Arc::default(), members, numbers: 0 };
        crowd.revive(|_| true)?;
        Ok(crowd)
    }

    /// Starts clients in the place of those that died with their node, where a node has power.
    ///
    /// # Errors
    /// A host is not there.
    pub fn revive(&mut self, has_power: impl Fn(&Place) -> bool) -> Result<()> {
        for member in &mut self.members {
            let runs = member.running.as_mut().is_some_and(|(_, speaker)| speaker.runs());
            if runs || !has_power(&member.place) {
                continue;
            }
            self.numbers += 1;
            let told = Arc::clone(&self.told);
            let hear = move |what| told.lock().expect("no holder panics").push(what);
            let words = [VERB, "--kind", member.kind.name(), "--number", &self.numbers.to_string()].map(str::to_owned);
            member.running = Some((self.numbers, Speaker::start::<Told>(&member.place, &words, hear)?));
        }
        Ok(())
    }

    /// The clients that had nothing acknowledged that they asked for at or after an instant, by name.
    ///
    /// # Panics
    /// A reading thread panicked.
    pub fn silent_since(&self, at_ns: u64) -> Vec<String> {
        let told = self.told.lock().expect("no holder panics");
        // A client's own lines are in order, those of all nearly: the newest are at the end.
        let heard: HashSet<u32> =
            told.iter().rev().take(5000).filter(|it| it.sent_ns >= at_ns && is_ack(it)).map(|it| it.client).collect();
        let silent =
            self.members.iter().filter(|it| !it.running.as_ref().is_some_and(|(number, _)| heard.contains(number)));
        silent.map(|it| format!("{} on {}", it.kind.name(), it.host)).collect()
    }

    /// Everything that was told, in the order in which it was heard of.
    ///
    /// # Panics
    /// A reading thread panicked.
    pub fn told(&self) -> Vec<Told> {
        self.told.lock().expect("no holder panics").clone()
    }
}

/// An acknowledged write.
pub fn is_ack(told: &Told) -> bool {
    matches!(told.what, What::Row(_) | What::Transfer(_))
}
