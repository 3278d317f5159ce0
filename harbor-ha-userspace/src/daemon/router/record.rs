//! Which addresses of this host are ours, in a file that ends with the boot: what a run that is killed leaves, the next
//! one takes off.
//!
//! It is written before an address is put up, and after one was taken off: it never names less than is there by us.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::config::settings::Vip;
use crate::net::netlink::{Interface, NetlinkError};

/// What is there by us.
#[derive(Debug)]
pub(super) struct Record {
    file: PathBuf,
    ours: BTreeSet<(String, Vip)>,
    /// The file says something else.
    changed: bool,
}

impl Record {
    /// With what a run left that did not end in order.
    pub fn open(runtime_dir: &Path, name: &str) -> Self {
        let file = runtime_dir.join(format!("{name}.addresses"));
        let text = fs::read_to_string(&file).unwrap_or_default();
        let ours = text.lines().filter_map(parse).collect();
        Self { file, ours, changed: false }
    }

    pub fn has(&self, interface: &str, vip: Vip) -> bool {
        self.ours.contains(&(interface.to_owned(), vip))
    }

    /// It is about to be put up.
    pub fn note(&mut self, interface: &str, vip: Vip) {
        self.changed |= self.ours.insert((interface.to_owned(), vip));
    }

    /// It is gone, or somebody else's.
    pub fn strike(&mut self, interface: &str, vip: Vip) {
        self.changed |= self.ours.remove(&(interface.to_owned(), vip));
    }

    /// Writes it down, whole or not at all.
    ///
    /// # Errors
    ///
    /// Of the file; the next call tries again.
    pub fn save(&mut self) -> io::Result<()> {
        if !self.changed {
            return Ok(());
        }
        let lines = self.ours.iter().map(|(interface, vip)| format!("{interface} {}/{}\n", vip.address, vip.prefix));
        let partial = self.file.with_extension("partial");
        fs::write(&partial, lines.collect::<String>())?;
        fs::rename(&partial, &self.file)?;
        self.changed = false;
        Ok(())
    }

    /// Takes off what a run left. What cannot be taken off stays in the record, for the end of this run or the next one.
    pub async fn clean(&mut self) {
        for (name, vip) in self.ours.clone() {
            let removed = match Interface::open(&name).await {
                Ok(interface) => interface.remove(vip).await,
                // It took its addresses with it.
                Err(NetlinkError::NoInterface(_)) => Ok(()),
                Err(error) => Err(error),
            };
            match removed {
                Ok(()) => {
                    self.strike(&name, vip);
                    tracing::warn!(interface = name, address = %vip.address, "left by an earlier run: taken off");
                }
                Err(error) => {
                    tracing::warn!(interface = name, address = %vip.address, %error, "left by an earlier run");
                }
            }
        }
        // Or the run after this one would take off what others have put up since.
        if let Err(error) = self.save() {
            tracing::warn!(%error, "that what was left is taken off cannot be written down");
        }
    }
}

fn parse(line: &str) -> Option<(String, Vip)> {
    let (interface, address) = line.split_once(' ')?;
    let (address, prefix) = address.split_once('/')?;
    Some((interface.to_owned(), Vip { address: address.parse::<Ipv4Addr>().ok()?, prefix: prefix.parse().ok()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_down_is_read_again_and_a_torn_line_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let vip = |last, prefix| Vip { address: Ipv4Addr::new(10, 0, 0, last), prefix };
        let mut record = Record::open(dir.path(), "router");
        assert!(record.ours.is_empty());
        record.note("eth1", vip(2, 32));
        record.note("eth0", vip(1, 24));
        record.note("eth0", vip(3, 24));
        record.strike("eth0", vip(3, 24));
        record.save().unwrap();
        let file = dir.path().join("router.addresses");
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text, "eth0 10.0.0.1/24\neth1 10.0.0.2/32\n");
        fs::write(&file, text + "eth1 10.0").unwrap();
        let again = Record::open(dir.path(), "router");
        assert_eq!(again.ours, record.ours);
        assert!(again.has("eth1", vip(2, 32)) && !again.has("eth0", vip(2, 32)) && !again.has("eth0", vip(1, 32)));
    }
}
