//! What was taken from a peer and given back: `<state_dir>/<instance>.fence.jsonl`, an audit and a memory at once.
//!
//! One line of JSON for each thing, synced before it is done and after it has ended, never rewritten. The limits of
//! fencing are counted from these very lines, so none is forgotten by a restart. Rotate it by hand, keeping a day.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::core::cloud::fence::Step;

/// The file of one instance.
#[derive(Clone, Debug)]
pub struct FenceLog(PathBuf);

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The peer is to be fenced: counted.
    Fence,
    /// Its binding is taken away.
    Unassociate,
    /// It is stopped.
    Stop,
    /// Its binding is given back.
    Associate,
    /// The own instance is bound, of which the peer took the binding away.
    BindOwn,
}

impl From<Step> for What {
    fn from(step: Step) -> Self {
        match step {
            Step::Unassociate => Self::Unassociate,
            Step::Stop => Self::Stop,
            Step::Associate => Self::Associate,
            Step::BindOwn => Self::BindOwn,
        }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is begun; a line of its end follows, unless the daemon died.
    Begun,
    /// The service accepted it; of a stop: the instance is stopped.
    Done,
    /// It was so already.
    WasSo,
    /// It would have been done: `cloud.fence_dry_run`.
    DryRun,
    /// It was not done, as far as is known.
    Failed,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When, for people.
    pub at: String,
    /// When, milliseconds since 1970.
    pub unix_ms: u64,
    /// What.
    pub what: What,
    /// What came of it.
    pub outcome: Outcome,
    /// The peer's instance; of [`What::BindOwn`], this node's.
    pub instance: String,
    /// Why, in words.
    pub why: String,
}

impl Line {
    /// Of now.
    pub fn new(what: What, outcome: Outcome, instance: &str, why: &str) -> Self {
        let now = OffsetDateTime::now_utc();
        let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
        Self {
            at: now.format(format).expect("every instant has these parts"),
            unix_ms: u64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(0),
            what,
            outcome,
            instance: instance.to_owned(),
            why: why.to_owned(),
        }
    }
}

/// What earlier runs have left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// When the peer was fenced, milliseconds since 1970.
    pub fenced_ms: Vec<u64>,
    /// Its binding was taken away, or may have been, and not given back.
    pub unbound: bool,
}

impl FenceLog {
    /// Names the file; touches nothing.
    pub fn new(state_dir: &Path, instance: &str) -> Self {
        Self(state_dir.join(format!("{instance}.fence.jsonl")))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What earlier runs have left; nothing when there is no file. A line that broke off was synced by nobody, so nothing
    /// was done for it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn past(&self) -> io::Result<Past> {
        let bytes = match fs::read(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Past::default()),
            read => read?,
        };
        let mut past = Past::default();
        let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Line>(line).ok());
        for line in lines {
            match (line.what, line.outcome) {
                (What::Fence, Outcome::Begun | Outcome::DryRun) => past.fenced_ms.push(line.unix_ms),
                (What::Unassociate, Outcome::Begun | Outcome::Done) => past.unbound = true,
                (What::Unassociate, Outcome::WasSo) | (What::Associate, Outcome::Done | Outcome::WasSo) => {
                    past.unbound = false;
                }
                // A failure may have been the answer's alone.
                (What::Fence | What::Unassociate | What::Stop | What::Associate | What::BindOwn, _) => {}
            }
        }
        Ok(past)
    }

    /// Adds a line; comes back when it would survive a power loss.
    ///
    /// # Errors
    /// The file system's.
    pub fn append(&self, line: &Line) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(&self.0)?;
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        if file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                // What broke off must not swallow this one.
                text.insert(0, '\n');
            }
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        self.0.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(what: What, outcome: Outcome) -> Line {
        Line::new(what, outcome, "i-1", "silence")
    }

    #[test]
    fn what_was_written_is_known_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let log = FenceLog::new(folder.path(), "x");
        assert_eq!(log.past().unwrap(), Past::default());
        let first = line(What::Fence, Outcome::Begun);
        log.append(&first).unwrap();
        log.append(&line(What::Unassociate, Outcome::Begun)).unwrap();
        let past = FenceLog::new(folder.path(), "x").past().unwrap();
        assert_eq!(past, Past { fenced_ms: vec![first.unix_ms], unbound: true }, "killed before it was done");
        log.append(&line(What::Unassociate, Outcome::Failed)).unwrap();
        assert!(log.past().unwrap().unbound, "the answer may have been lost");
        log.append(&line(What::Associate, Outcome::Failed)).unwrap();
        assert!(log.past().unwrap().unbound);
        log.append(&line(What::Associate, Outcome::WasSo)).unwrap();
        log.append(&line(What::Fence, Outcome::DryRun)).unwrap();
        log.append(&line(What::Unassociate, Outcome::DryRun)).unwrap();
        let past = log.past().unwrap();
        assert_eq!((past.fenced_ms.len(), past.unbound), (2, false));
    }

    #[test]
    fn a_line_that_broke_off_swallows_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let log = FenceLog::new(folder.path(), "x");
        log.append(&line(What::Fence, Outcome::Begun)).unwrap();
        let whole = fs::read(log.path()).unwrap();
        fs::write(log.path(), [&whole[..], b"{\"at\":\"20"].concat()).unwrap();
        assert_eq!(log.past().unwrap().fenced_ms.len(), 1);
        log.append(&line(What::Fence, Outcome::Begun)).unwrap();
        assert_eq!(log.past().unwrap().fenced_ms.len(), 2);
    }

    #[test]
    fn a_folder_that_is_gone_is_an_error() {
        assert!(FenceLog::new(Path::new("/nonexistent"), "x").append(&line(What::Fence, Outcome::Begun)).is_err());
    }
}
