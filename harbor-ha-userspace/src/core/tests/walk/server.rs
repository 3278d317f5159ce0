//! The model of PostgreSQL: role, timeline, position, and what the actions of a core do to them.

use super::world::World;
use super::*;

#[derive(Clone, Debug, Default)]
pub struct Server {
    pub running: bool,
    pub hung: bool,
    pub signal: bool,
    pub timeline: u32,
    pub lsn: u64,
    /// Has WAL that the peer's history does not have.
    pub diverged: bool,
    pub pending: bool,
    pub names: bool,
    /// The monitor has not yet told of the last end.
    pub ended: bool,
}

impl Server {
    pub const fn is_primary(&self) -> bool {
        self.running && !self.signal
    }
}

impl World {
    /// An action ends: what it did to the server.
    pub fn finish(&mut self, i: usize, done: Done) -> Done {
        let theirs = self.hosts[1 - i].pg.clone();
        let joined = self.joined();
        let pg = &mut self.hosts[i].pg;
        match done {
            Done::Promote(Ok(_)) if !pg.running || pg.hung => Done::Promote(failed("no server")),
            Done::Promote(Ok(stamps)) => {
                (pg.signal, pg.diverged) = (false, false);
                pg.timeline += 1;
                let lsn = pg.lsn;
                let other = &mut self.hosts[1 - i].pg;
                other.diverged = other.lsn > lsn || !other.signal;
                Done::Promote(Ok(stamps))
            }
            Done::Stop(Ok(())) => {
                (pg.running, pg.hung) = (false, false);
                Done::Stop(Ok(()))
            }
            Done::Start(Ok(())) if pg.pending => Done::Start(failed("a rejoin is pending")),
            Done::Start(Ok(())) => {
                (pg.running, pg.hung) = (true, false);
                Done::Start(Ok(()))
            }
            Done::Rejoin(Ok(())) if !joined || !theirs.is_primary() || pg.running => {
                Done::Rejoin(failed("the peer is no primary"))
            }
            Done::Rejoin(Ok(())) => {
                *pg = Server { running: true, signal: true, timeline: theirs.timeline, lsn: theirs.lsn, ..*pg };
                (pg.pending, pg.diverged) = (false, false);
                Done::Rejoin(Ok(()))
            }
            Done::SetSync(Ok(_)) if !pg.running || pg.hung => Done::SetSync(failed("no server")),
            Done::SetSync(Ok(names)) => {
                pg.names = !names.is_empty();
                Done::SetSync(Ok(names))
            }
            Done::StoreTerms(Ok(terms)) => {
                self.hosts[i].disk = terms;
                Done::StoreTerms(Ok(terms))
            }
            done => done,
        }
    }
}

fn failed<T>(why: &str) -> Result<T, String> {
    Err(why.to_owned())
}
