//! The addresses of all instances: a task of its own, as the kernel may take its time with them and adverts may not.
//!
//! The engine says what it wants, instance by instance; of two wishes about one instance the later one counts.
//!
//! An address that is there already is somebody else's, and stays. So the interface is looked at first; what is missing
//! is written down, and only that is put up. A run that is killed leaves:
//!
//! | killed after | on the interface | in the record | the next run |
//! | --- | --- | --- | --- |
//! | the look | what others put there | nothing | leaves it |
//! | the record | the same | what is missing | finds nothing to take off |
//! | putting up | also what is ours | what is ours | takes that off, and nothing else |
//! | taking off | what others put there | what was ours | finds nothing to take off |
//!
//! One that is there while its instance is not master, and is not ours, stays too; but it is told, as it is on two nodes
//! then. A daemon that was killed and in whose place we are leaves such addresses.
//!
//! What somebody puts up between the look and our own try, a moment later, the kernel shows us: it is struck off the
//! record. Only a kill in that very moment, or the same address put up by hand after a kill and before the next run,
//! is taken for ours.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::record::Record;
use super::{Message, Teller};
use crate::config::settings::Vip;
use crate::daemon::repeated::Repeated;
use crate::net::netlink::{Interface, NetlinkError, Place};
use crate::vrrp::InstanceId;

/// Between two looks at the addresses, and two tries at what failed.
const LOOK: Duration = Duration::from_secs(1);

/// Where an address goes.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    /// Index of the interface.
    pub interface: usize,
    pub place: Place,
}

impl Spot {
    const fn vip(&self) -> Vip {
        Vip { address: self.place.address, prefix: self.place.prefix }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Want {
    up: bool,
    serial: u64,
}

/// What the engine wants.
#[derive(Debug)]
pub(super) struct Desk {
    wants: Mutex<Vec<Want>>,
    bell: Notify,
    closed: std::sync::atomic::AtomicBool,
}

impl Desk {
    pub fn new(instances: usize) -> Arc<Self> {
        let wants = Mutex::new(vec![Want::default(); instances]);
        Arc::new(Self { wants, bell: Notify::new(), closed: false.into() })
    }

    /// Up or down; the number comes back with the news that it is done.
    pub fn want(&self, instance: InstanceId, up: bool) -> u64 {
        let mut wants = self.wants.lock().unwrap_or_else(PoisonError::into_inner);
        let want = &mut wants[usize::from(instance.0)];
        *want = Want { up, serial: want.serial + 1 };
        self.bell.notify_one();
        want.serial
    }

    /// The task ends when all is done.
    pub fn close(&self) {
        self.closed.store(true, std::sync::atomic::Ordering::Release);
        self.bell.notify_one();
    }

    fn is_closed(&self) -> bool {
        self.closed.load(std::sync::atomic::Ordering::Acquire)
    }

    fn wants(&self) -> Vec<Want> {
        self.wants.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Who does it.
pub(super) struct Clerk {
    pub desk: Arc<Desk>,
    pub interfaces: Vec<Interface>,
    /// By instance.
    pub spots: Vec<Vec<Spot>>,
    pub record: Record,
    pub teller: Teller,
}

impl Clerk {
    /// Does what is wanted until the desk is closed and all is done.
    pub async fn serve(mut self) {
        let mut done = vec![Want::default(); self.spots.len()];
        let mut astray = vec![Vec::new(); self.spots.len()];
        let (mut refused, mut unwritten) = (Repeated::new(LOOK * 60), Repeated::new(LOOK * 60));
        loop {
            let wants = self.desk.wants();
            let pending = |up| -> Vec<usize> {
                (0..wants.len()).filter(|&index| wants[index] != done[index] && wants[index].up == up).collect()
            };
            let (down, up) = (pending(false), pending(true));
            if down.is_empty() && up.is_empty() {
                if self.desk.is_closed() {
                    return;
                }
                if tokio::time::timeout(LOOK, self.desk.bell.notified()).await.is_err() {
                    self.look(&done, &mut astray).await;
                    self.save(&mut unwritten);
                }
                continue;
            }
            // Addresses that go first: the network shall not see one on two interfaces.
            let mut failed = self.take_off(&down, &wants, &mut done).await;
            if !up.is_empty() {
                failed = self.put_up(&up, &wants, &mut done, &mut unwritten).await.or(failed);
            }
            self.save(&mut unwritten);
            let Some(error) = failed else {
                refused.over();
                continue;
            };
            if refused.is_due() {
                tracing::error!(error, "addresses; tried again each second");
            }
            if self.desk.is_closed() {
                return;
            }
            let _rang = tokio::time::timeout(LOOK, self.desk.bell.notified()).await;
        }
    }

    /// What is ours and no instance wants any more.
    async fn take_off(&mut self, down: &[usize], wants: &[Want], done: &mut [Want]) -> Option<String> {
        let mut failed = None;
        for &index in down {
            let mut gone = true;
            for spot in &self.spots[index] {
                let interface = &self.interfaces[spot.interface];
                if !self.record.has(interface.name(), spot.vip()) || self.is_wanted(spot, wants) {
                    continue;
                }
                match interface.remove(spot.vip()).await {
                    Ok(()) => self.record.strike(interface.name(), spot.vip()),
                    Err(error) => (gone, failed) = (false, Some(error.to_string())),
                }
            }
            if gone {
                self.is_done(index, wants, done);
            }
        }
        failed
    }

    /// What is missing.
    async fn put_up(
        &mut self,
        up: &[usize],
        wants: &[Want],
        done: &mut [Want],
        unwritten: &mut Repeated,
    ) -> Option<String> {
        let numbers: BTreeSet<usize> = up.iter().flat_map(|&index| &self.spots[index]).map(|it| it.interface).collect();
        // By interface; one that does not answer is told with its instances.
        let mut found: Vec<Result<Vec<Vip>, String>> = vec![Ok(Vec::new()); self.interfaces.len()];
        for number in numbers {
            found[number] = self.found(number).await;
        }
        let is_missing = |spot: &Spot| found[spot.interface].as_ref().is_ok_and(|found| !found.contains(&spot.vip()));
        // Two instances may want the same one.
        let mut missing = BTreeSet::new();
        for spot in up.iter().flat_map(|&index| &self.spots[index]).filter(|spot| is_missing(spot)) {
            missing.insert((spot.interface, spot.place.address, spot.place.prefix));
            self.record.note(self.interfaces[spot.interface].name(), spot.vip());
        }
        self.save(unwritten);
        let mut failed = None;
        for &index in up {
            let mut there = true;
            for spot in &self.spots[index] {
                let interface = &self.interfaces[spot.interface];
                let key = (spot.interface, spot.place.address, spot.place.prefix);
                let put = match &found[spot.interface] {
                    Err(error) => Err(error.clone()),
                    Ok(_) if !missing.contains(&key) => continue,
                    Ok(_) => interface.put(&spot.place).await.map_err(|error| {
                        // One that did not answer may still do it.
                        if matches!(error, NetlinkError::Refused { .. }) {
                            self.record.strike(interface.name(), spot.vip());
                        }
                        error.to_string()
                    }),
                };
                match put {
                    Ok(new) => {
                        missing.remove(&key);
                        if !new {
                            // Somebody was quicker.
                            self.record.strike(interface.name(), spot.vip());
                        }
                    }
                    Err(error) => (there, failed) = (false, Some(error)),
                }
            }
            if there {
                self.is_done(index, wants, done);
            }
        }
        failed
    }

    fn is_done(&self, index: usize, wants: &[Want], done: &mut [Want]) {
        done[index] = wants[index];
        self.teller.tell(Message::Addresses { instance: InstanceId(index as u16), serial: wants[index].serial });
    }

    /// Whether an instance wants this address to be there.
    fn is_wanted(&self, spot: &Spot, wants: &[Want]) -> bool {
        let mut wanted = self.spots.iter().zip(wants).filter(|(_, want)| want.up).flat_map(|(spots, _)| spots);
        wanted.any(|it| it.interface == spot.interface && it.vip() == spot.vip())
    }

    /// The addresses of an interface.
    async fn found(&self, number: usize) -> Result<Vec<Vip>, String> {
        let interface = &self.interfaces[number];
        match tokio::time::timeout(LOOK, interface.addresses()).await {
            Ok(found) => found.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the kernel does not list the addresses of `{}`", interface.name())),
        }
    }

    /// Somebody may have taken addresses away, or put some up. `astray`: what was last told of each instance.
    async fn look(&mut self, done: &[Want], astray: &mut [Vec<String>]) {
        let mut found = Vec::new();
        for number in 0..self.interfaces.len() {
            found.push(self.found(number).await.ok());
        }
        for ((index, spots), told) in self.spots.iter().enumerate().zip(astray) {
            let instance = InstanceId(index as u16);
            // An interface that does not answer tells nothing.
            let answers = spots.iter().filter_map(|spot| Some((spot, found[spot.interface].as_ref()?)));
            let mut others = Vec::new();
            if done[index].up {
                let mut is_gone = false;
                for (spot, found) in answers {
                    if !found.contains(&spot.vip()) {
                        is_gone = true;
                        // Whoever puts it up again has it.
                        self.record.strike(self.interfaces[spot.interface].name(), spot.vip());
                    }
                }
                if is_gone {
                    self.teller.tell(Message::Gone(instance));
                }
            } else if spots.iter().any(|spot| found[spot.interface].is_none()) {
                continue;
            } else {
                for (spot, found) in answers.filter(|(spot, _)| !self.is_wanted(spot, done)) {
                    let name = self.interfaces[spot.interface].name();
                    let is_there = |it: &Vip| it.address == spot.place.address && !self.record.has(name, *it);
                    // As `ip address del` takes it.
                    let shown = |it: &Vip| format!("{}/{} dev {name}", it.address, it.prefix);
                    others.extend(found.iter().filter(|it| is_there(it)).map(shown));
                }
            }
            if *told != others {
                told.clone_from(&others);
                self.teller.tell(Message::NotOurs(instance, others));
            }
        }
    }

    fn save(&mut self, unwritten: &mut Repeated) {
        match self.record.save() {
            Ok(()) => unwritten.over(),
            Err(error) if unwritten.is_due() => {
                tracing::warn!(%error, "what is put up cannot be written down: after a crash it would stay");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
