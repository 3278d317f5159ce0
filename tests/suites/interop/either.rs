//! A node with its daemon, whichever of the two that is: the tests ask both the same.

use std::path::PathBuf;

use anyhow::ensure;
use harbor_ha_tests::lab::dropin::Dropin;
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

/// A node with its daemon, whichever that is.
#[derive(Clone, Copy)]
pub(super) struct Daemon<'a> {
    lab: &'a Lab,
    side: Side,
    pub who: Who,
}

impl<'a> Daemon<'a> {
    /// Both nodes.
    pub fn pair(lab: &'a Lab, [a, b]: [Who; 2]) -> [Self; 2] {
        [Self { lab, side: Side::A, who: a }, Self { lab, side: Side::B, who: b }]
    }

    /// As one of ours.
    pub fn ours(self) -> Dropin<'a> {
        Dropin::on(self.lab.node(self.side))
    }

    /// As one of theirs.
    pub fn theirs(self) -> Keepalived<'a> {
        Keepalived::on(self.lab.node(self.side))
    }

    /// Starts it, on the words that keepalived gets.
    pub fn start(self, setup: &Setup) {
        self.start_on(&self.theirs().config(setup));
    }

    /// Starts it on these words.
    pub fn start_on(self, text: &str) {
        match self.who {
            Ours => self.ours().start(text).unwrap(),
            Theirs => {
                // What it said when it ran before would be taken for what it says now.
                let _absent = std::fs::remove_file(self.theirs().log());
                self.theirs().start_on(text).unwrap();
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
        let waited = self.lab.wait(&format!("{} ({:?}) has ended", self.side, self.who), LIMIT, || match self.who {
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
        let waited = self.lab.wait(&format!("{} refuses for `{reason}`", self.side), LIMIT, || {
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
