//! The addresses of all instances: a task of its own, as the kernel may take its time with them and adverts may not.
//!
//! The engine says what it wants, instance by instance; of two wishes about one instance the later one counts. What is
//! put up is written down before, so that the next run can take off what a crash leaves. An address that was there
//! already is somebody else's, and stays.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Message;
use super::Teller;
use crate::config::settings::Vip;
use crate::daemon::repeated::Repeated;
use crate::net::netlink::{Interface, Place};
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
    pub async fn serve(self) {
        let mut done = vec![Want::default(); self.spots.len()];
        // Put up by us.
        let mut ours: Vec<Vec<bool>> = self.spots.iter().map(|spots| vec![false; spots.len()]).collect();
        let (mut refused, mut unwritten) = (Repeated::new(LOOK * 60), Repeated::new(LOOK * 60));
        loop {
            let wants = self.desk.wants();
            let changed: Vec<usize> = (0..wants.len()).filter(|&index| wants[index] != done[index]).collect();
            if changed.is_empty() {
                if self.desk.is_closed() {
                    return;
                }
                if tokio::time::timeout(LOOK, self.desk.bell.notified()).await.is_err() {
                    self.look(&done, &mut ours).await;
                }
                continue;
            }
            let mut before = ours.clone();
            for &index in changed.iter().filter(|&&index| wants[index].up) {
                before[index].fill(true);
            }
            self.write(&before, &mut unwritten);
            let mut failed = false;
            // Addresses that go first: another instance may want the same one.
            for up in [false, true] {
                for &index in changed.iter().filter(|&&index| wants[index].up == up) {
                    match self.serve_one(index, up, &mut ours[index]).await {
                        Ok(()) => {
                            refused.over();
                            done[index] = wants[index];
                            let (instance, serial) = (InstanceId(index as u16), wants[index].serial);
                            self.teller.tell(Message::Addresses { instance, serial });
                        }
                        Err(error) => {
                            failed = true;
                            if refused.is_due() {
                                tracing::error!(%error, "addresses; tried again each second");
                            }
                        }
                    }
                }
            }
            self.write(&ours, &mut unwritten);
            if failed {
                if self.desk.is_closed() {
                    return;
                }
                let _rang = tokio::time::timeout(LOOK, self.desk.bell.notified()).await;
            }
        }
    }

    async fn serve_one(&self, index: usize, up: bool, ours: &mut [bool]) -> Result<(), String> {
        let mut result = Ok(());
        for (spot, ours) in self.spots[index].iter().zip(ours) {
            let interface = &self.interfaces[spot.interface];
            if up {
                match interface.put(&spot.place).await {
                    Ok(new) => *ours |= new,
                    Err(error) => result = Err(error.to_string()),
                }
            } else if *ours {
                match interface.remove(Vip { address: spot.place.address, prefix: spot.place.prefix }).await {
                    Ok(()) => *ours = false,
                    Err(error) => result = Err(error.to_string()),
                }
            }
        }
        result
    }

    /// Somebody may have taken addresses away.
    async fn look(&self, done: &[Want], ours: &mut [Vec<bool>]) {
        for (number, interface) in self.interfaces.iter().enumerate() {
            let here = |index: usize| self.spots[index].iter().any(|spot| spot.interface == number);
            let up: Vec<usize> = (0..done.len()).filter(|&index| done[index].up && here(index)).collect();
            if up.is_empty() {
                continue;
            }
            let Ok(Ok(found)) = tokio::time::timeout(LOOK, interface.addresses()).await else { continue };
            for index in up {
                let mut gone = false;
                for (spot, ours) in self.spots[index].iter().zip(&mut ours[index]) {
                    if spot.interface == number && !found.contains(&spot.place.address) {
                        (*ours, gone) = (false, true);
                    }
                }
                if gone {
                    self.teller.tell(Message::Gone(InstanceId(index as u16)));
                }
            }
        }
    }

    fn write(&self, ours: &[Vec<bool>], unwritten: &mut Repeated) {
        let spots = self.spots.iter().flatten().zip(ours.iter().flatten());
        let lines = spots.filter(|(_, ours)| **ours).map(|(spot, _)| {
            let place = &spot.place;
            format!("{} {}/{}\n", self.interfaces[spot.interface].name(), place.address, place.prefix)
        });
        match self.record.write(&lines.collect::<String>()) {
            Ok(()) => unwritten.over(),
            Err(error) if unwritten.is_due() => {
                tracing::warn!(%error, "what is put up cannot be written down: after a crash it would stay");
            }
            Err(_) => {}
        }
    }
}

/// What this host has by us, in a file that ends with the boot.
#[derive(Debug)]
pub(super) struct Record(PathBuf);

impl Record {
    pub fn new(runtime_dir: &Path, name: &str) -> Self {
        Self(runtime_dir.join(format!("{name}.addresses")))
    }

    fn write(&self, lines: &str) -> io::Result<()> {
        let partial = self.0.with_extension("partial");
        fs::write(&partial, lines)?;
        fs::rename(&partial, &self.0)
    }

    /// What a run put up that did not end in order.
    pub fn left_over(&self) -> Vec<(String, Vip)> {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        text.lines().filter_map(parse).collect()
    }
}

fn parse(line: &str) -> Option<(String, Vip)> {
    let (interface, address) = line.split_once(' ')?;
    let (address, prefix) = address.split_once('/')?;
    Some((interface.to_owned(), Vip { address: address.parse::<Ipv4Addr>().ok()?, prefix: prefix.parse().ok()? }))
}

/// Takes off what a crashed run left.
pub(super) async fn clean(record: &Record) {
    for (name, vip) in record.left_over() {
        let removed = match Interface::open(&name).await {
            Ok(interface) => interface.remove(vip).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match removed {
            Ok(()) => tracing::warn!(interface = name, address = %vip.address, "left by an earlier run: taken off"),
            Err(error) => tracing::warn!(interface = name, address = %vip.address, error, "left by an earlier run"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_down_is_read_again_and_a_torn_line_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::new(dir.path(), "router");
        assert!(record.left_over().is_empty());
        record.write("eth0 10.0.0.1/24\neth1 10.0.0.2/32\neth1 10.0").unwrap();
        let vip = |last, prefix| Vip { address: Ipv4Addr::new(10, 0, 0, last), prefix };
        assert_eq!(record.left_over(), [("eth0".to_owned(), vip(1, 24)), ("eth1".to_owned(), vip(2, 32))]);
    }

    #[test]
    fn of_two_wishes_the_later_one_counts() {
        let desk = Desk::new(2);
        let first = desk.want(InstanceId(1), true);
        assert!(desk.want(InstanceId(1), false) > first);
        assert_eq!(desk.wants()[0], Want::default());
        assert!(!desk.wants()[1].up);
    }
}
