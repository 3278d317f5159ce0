//! A base backup that takes the place of a data directory: the daemon's own order of moves on a model of three names.
//!
//! What is a data directory here is its log; a crash may come between any two moves.

use harbor_ha::pg::renewal::{Move, Places, Stage, next};

use super::mutants::Mutant;
use super::postgres::{Entry, Process};
use super::replication::failed;
use super::world::World;

/// A data directory that is not in its place.
#[derive(Clone, Debug)]
pub struct Directory {
    log: Vec<Entry>,
    timeline: u32,
    signal: bool,
}

/// The journal's part, and what lies beside the data directory.
#[derive(Clone, Debug)]
pub struct Renewal {
    stage: Stage,
    /// Something is in the data directory's place.
    data: bool,
    fresh: Option<Directory>,
    old: Option<Directory>,
    /// Seen from outside: what is in its place has streamed since it came there.
    streamed: bool,
}

impl Default for Renewal {
    fn default() -> Self {
        Self { stage: Stage::Copy, data: true, fresh: None, old: None, streamed: false }
    }
}

impl Renewal {
    /// The server got something from its primary.
    pub fn streamed(&mut self) {
        self.streamed |= self.stage == Stage::Swapped;
    }

    const fn places(&self) -> Places {
        Places { data: self.data, fresh: self.fresh.is_some(), old: self.old.is_some() }
    }
}

impl World {
    /// The next move; `None`: another one follows.
    pub fn renew(&mut self, i: usize, fails: bool, primary: bool) -> Option<Result<(), String>> {
        let mut renewal = self.nodes[i].server.renewal.take()?;
        let step = next(renewal.stage, renewal.places());
        self.coverage.moves[step as usize] += 1;
        let result = self.move_directories(i, &mut renewal, step, fails, primary);
        let ended = step == Move::Remove && result.is_ok();
        if !ended {
            self.check_directories(i, &renewal);
            self.nodes[i].server.renewal = Some(renewal);
        }
        match result {
            Ok(()) if ended => {
                self.nodes[i].server.pending = false;
                Some(Ok(()))
            }
            Ok(()) => {
                self.go_on_with_rejoin(i);
                None
            }
            Err(why) => Some(Err(why)),
        }
    }

    fn move_directories(
        &mut self,
        i: usize,
        renewal: &mut Renewal,
        step: Move,
        fails: bool,
        primary: bool,
    ) -> Result<(), String> {
        let theirs = self.nodes[1 - i].server.clone();
        let server = &mut self.nodes[i].server;
        let down = server.process == Process::Down;
        match step {
            Move::Copy if fails || !primary => return failed("the base backup broke off"),
            Move::Copy => {
                renewal.fresh = Some(Directory { log: theirs.log, timeline: theirs.timeline, signal: true });
                renewal.stage = Stage::Swap;
            }
            Move::Aside | Move::In if !down => return failed("somebody holds the data directory"),
            Move::Aside => {
                renewal.data = false;
                let log = std::mem::take(&mut server.log);
                renewal.old = Some(Directory { log, timeline: server.timeline, signal: server.signal });
            }
            Move::In => {
                let fresh = renewal.fresh.take().ok_or("no base backup")?;
                (server.log, server.timeline, server.signal) = (fresh.log, fresh.timeline, fresh.signal);
                (server.clean, server.broke_off, renewal.data) = (false, false, true);
            }
            Move::Note => renewal.stage = Stage::Swapped,
            Move::Stream if down && (fails || !primary) => return failed("it did not start"),
            Move::Stream if down => {
                server.process = Process::Up;
                if self.mutant == Some(Mutant::OldRemovedEarly) {
                    renewal.stage = Stage::Streamed;
                }
            }
            Move::Stream if renewal.streamed => renewal.stage = Stage::Streamed,
            Move::Stream if fails || server.process != Process::Up => {
                server.stopped(false);
                return failed("it did not stream");
            }
            Move::Stream => {}
            Move::Remove => {
                let streamed = renewal.streamed;
                if renewal.old.take().is_some() && !streamed {
                    self.violate("I6", format!("{i} removed its old data directory before the new one streamed"));
                }
            }
            Move::Stop => {
                let text = format!("{i}: nothing leads from {:?} with {:?}", renewal.stage, renewal.places());
                self.violate("I6", text);
                return failed("a directory is missing");
            }
        }
        Ok(())
    }

    /// I6: at no time is there less than one whole data directory.
    fn check_directories(&mut self, i: usize, renewal: &Renewal) {
        if !renewal.data && renewal.old.is_none() {
            self.violate("I6", format!("{i} has no data directory left"));
        }
    }
}
