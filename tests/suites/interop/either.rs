//! A node with its daemon, whichever of the two that is: the tests ask both the same.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::ensure;
use harbor_ha_tests::lab::dropin::Dropin;
use harbor_ha_tests::lab::host::Host;
use harbor_ha_tests::lab::keepalived::{Keepalived, Setup, State};
use harbor_ha_tests::lab::{Lab, Side};

use super::keepalived::has_vip;
use super::waits::{Stated, is};
use super::{LIMIT, settled};

/// Which daemon a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Ours,
    Theirs,
}

use Who::{Ours, Theirs};

/// A pair of one of each, with ours on `a` and with ours on `b`.
pub(super) const EITHER_WAY: [[Who; 2]; 2] = [[Ours, Theirs], [Theirs, Ours]];

/// A host with its daemon, whichever that is.
#[derive(Clone, Copy)]
pub(super) struct Daemon<'a> {
    lab: &'a Lab,
    pub host: &'static str,
    pub who: Who,
}

impl<'a> Daemon<'a> {
    /// On both nodes; or on these and the client's host, `c`.
    pub fn each<const ROUTERS: usize>(lab: &'a Lab, who: [Who; ROUTERS]) -> [Self; ROUTERS] {
        let mut hosts = ["a", "b", "c"].into_iter();
        who.map(|who| Self { lab, host: hosts.next().expect("three at most"), who })
    }

    fn place(self) -> Host<'a> {
        Host::named(self.lab.state(), self.host)
    }

    /// As one of ours.
    pub fn ours(self) -> Dropin<'a> {
        Dropin::on(self.place())
    }

    /// As one of theirs.
    pub fn theirs(self) -> Keepalived<'a> {
        Keepalived::on(self.place())
    }

    /// Starts it, on the words that keepalived gets.
    pub fn start(self, setup: &Setup) {
        self.start_on(&self.theirs().config(setup));
    }

    /// Starts it on these words.
    pub fn start_on(self, text: &str) {
        self.start_with(text, &[]);
    }

    /// The same, with `NAME=VALUE` words more in its environment.
    pub fn start_with(self, text: &str, environment: &[OsString]) {
        match self.who {
            Ours => self.ours().start_with(text, environment).unwrap(),
            Theirs => {
                // What it said when it ran before would be taken for what it says now.
                let _absent = std::fs::remove_file(self.theirs().log());
                self.theirs().start_with(text, &[], environment).unwrap();
            }
        }
    }

    /// Waits for it.
    pub fn is(self, state: State) {
        is(self.lab, self, state);
    }

    /// SIGKILL; when.
    pub fn kill(self) -> u64 {
        let at = match self.who {
            Ours => self.ours().kill(),
            Theirs => self.theirs().kill(),
        };
        self.gone();
        at.unwrap()
    }

    /// SIGTERM, and its end; when.
    pub fn terminate(self) -> u64 {
        let at = match self.who {
            Ours => self.ours().terminate(),
            Theirs => self.theirs().terminate(),
        };
        self.gone();
        at.unwrap()
    }

    fn gone(self) {
        let waited = self.lab.wait(&format!("{} ({:?}) has ended", self.host, self.who), LIMIT, || match self.who {
            Ours => self.ours().ended(),
            Theirs => {
                ensure!(self.theirs().processes().is_empty(), "it still runs");
                Ok(())
            }
        });
        settled(self.lab, waited);
    }

    /// It has refused adverts for this reason and no other; of keepalived nothing is asked.
    pub fn refuses(self, reason: &str) {
        if self.who == Theirs {
            return;
        }
        let waited = self.lab.wait(&format!("{} refuses for `{reason}`", self.host), LIMIT, || {
            let status = self.ours().status()?;
            let rejects = status.0["instances"][0]["rejects"].as_array().cloned().unwrap_or_default();
            let strangers = status.number("/interfaces/0/strangers").unwrap_or_default();
            let reasons: Vec<_> = rejects.iter().filter_map(|it| it["reason"].as_str()).collect();
            let found = if strangers > 0 { [&["stranger"], &reasons[..]].concat() } else { reasons };
            ensure!(found == [reason], "{found:?}");
            Ok(())
        });
        settled(self.lab, waited);
    }
}

impl Stated for Daemon<'_> {
    fn state(self) -> State {
        match self.who {
            Ours => self.ours().state(),
            Theirs => self.theirs().state(),
        }
    }

    fn log(self) -> PathBuf {
        match self.who {
            Ours => self.ours().log(),
            Theirs => self.theirs().log(),
        }
    }
}

/// The address is on this node and not on the other one, once both have done what they were told.
pub(super) fn address_is_on(lab: &Lab, side: Side) {
    let waited = lab.wait(&format!("the address is on {side} alone"), LIMIT, || {
        let found = Side::BOTH.map(|side| has_vip(lab, side));
        ensure!(found == [side == Side::A, side == Side::B], "on a: {}, on b: {}", found[0], found[1]);
        Ok(())
    });
    settled(lab, waited);
}
