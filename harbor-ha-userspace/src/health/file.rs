//! Files with a number in them (`track_file`), by inotify.
//!
//! Folders are watched, not files, so a file that is replaced by a rename is followed; a link's target is watched as well.
//! As keepalived has it: the number at the beginning counts, decimal, `0x…` or `0…`; a file that is missing, empty or
//! holds no number counts as 0; a number beyond 32 bits is not believed, and what was before stays.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use inotify::{EventStream, Inotify, WatchMask, Watches};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::{Fact, TrackerId, Value, say};

/// A file is looked at no more often: a folder like `/tmp` is busy with others.
const REST: Duration = Duration::from_millis(10);
/// A file that is empty may be in the middle of being written; after this it is empty.
const EMPTY: Duration = Duration::from_millis(100);
/// While a folder is not there, or nothing tells of changes.
const LOOK: Duration = Duration::from_secs(1);
/// A number needs no more.
const READ_BYTES: u64 = 127;

/// A file.
#[derive(Clone, Debug)]
pub struct File {
    /// Whose facts these are.
    pub tracker: TrackerId,
    /// Where it is, or will be.
    pub path: PathBuf,
}

/// Follows one file; ends when nobody listens.
pub(super) async fn watch(file: File, facts: mpsc::Sender<Fact>) {
    let mut said = None;
    let mut doubted: Option<Instant> = None;
    let mut folders = Folders::new(file.path.clone());
    loop {
        // On a server that does not answer this takes for ever, on a thread where nobody waits for it.
        let looked = spawn_blocking(move || {
            // Before the look, so that nothing falls between the two.
            let watched = folders.follow();
            let seen = number(&folders.path);
            (folders, watched, seen)
        });
        let Ok((back, watched, seen)) = looked.await else { return };
        folders = back;
        let value = match seen {
            Ok(Some(value)) => Some(value),
            // Who writes it anew empties it first.
            Ok(None) if said != Some(0) && doubted.is_none_or(|since| since.elapsed() < EMPTY) => None,
            Ok(None) => Some(0),
            Err(error) => {
                tracing::warn!(path = %file.path.display(), %error, "not believed; what was before stays");
                Some(said.unwrap_or(0))
            }
        };
        doubted = value.is_none().then(|| doubted.unwrap_or_else(Instant::now));
        if let Some(value) = value.filter(|value| said != Some(*value)) {
            said = Some(value);
            if say(&facts, file.tracker, Value::Number(value)).await.is_err() {
                return;
            }
        }
        sleep(REST).await;
        let wait = match (doubted.is_some(), watched) {
            (true, _) => EMPTY,
            (false, false) => LOOK,
            (false, true) => Duration::MAX,
        };
        tokio::select! {
            _ = timeout(wait, folders.change()) => {}
            () = facts.closed() => return,
        }
    }
}

/// The folders that are watched for one file.
struct Folders {
    path: PathBuf,
    events: Option<(Watches, EventStream<Vec<u8>>)>,
    /// What could not be watched when that was last said.
    missing: BTreeMap<PathBuf, String>,
}

impl Folders {
    fn new(path: PathBuf) -> Self {
        let events = Inotify::init().and_then(|inotify| {
            let watches = inotify.watches();
            Ok((watches, inotify.into_event_stream(vec![0; 4096])?))
        });
        let events = events.inspect_err(|error| {
            tracing::warn!(%error, "no inotify (fs.inotify.max_user_instances?): the file is looked at once a second");
        });
        Self { path, events: events.ok(), missing: BTreeMap::new() }
    }

    /// Watches whatever the file depends on now; false when something cannot be watched.
    fn follow(&mut self) -> bool {
        let Some((watches, _)) = &mut self.events else { return false };
        // The folder itself may be moved away or removed: then a watch on it says nothing more, and it is looked for anew.
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF;
        let mut missing = BTreeMap::new();
        for path in places(&self.path) {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("/"));
            // A folder that is watched already stays so: the kernel knows it by its inode.
            if let Err(error) = watches.add(folder, mask | WatchMask::ONLYDIR) {
                missing.insert(folder.to_owned(), error.to_string());
            }
        }
        for (folder, why) in &missing {
            if !self.missing.contains_key(folder) {
                tracing::warn!(folder = %folder.display(), why, "cannot be watched; the file is looked at once a second");
            }
        }
        self.missing = missing;
        self.missing.is_empty()
    }

    /// Something changed; what, a look tells. A queue that overflowed is such an event too.
    async fn change(&mut self) {
        let Some((_, events)) = &mut self.events else { return std::future::pending().await };
        if events.next().await.is_none() {
            self.events = None;
            return;
        }
        while let Some(Some(_)) = events.next().now_or_never() {}
    }
}

/// The path, and where it leads over links: each of these names can be given to something else.
fn places(path: &Path) -> Vec<PathBuf> {
    let mut places = vec![path.to_owned()];
    // As many as the kernel follows.
    while let Some(last) = places.last().filter(|_| places.len() <= 40) {
        let Ok(target) = fs::read_link(last) else { break };
        places.push(last.parent().unwrap_or(Path::new("/")).join(target));
    }
    // A link in the middle of the path (`..data/value`).
    if let Ok(real) = fs::canonicalize(path)
        && !places.contains(&real)
    {
        places.push(real);
    }
    places
}

/// `None` when it is empty; 0 when it cannot be read.
fn number(path: &Path) -> io::Result<Option<i64>> {
    // A FIFO must not make us wait for its writer.
    let opened = fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let mut bytes = Vec::new();
    let read = opened.and_then(|file| file.take(READ_BYTES).read_to_end(&mut bytes));
    if read.is_err() {
        return Ok(Some(0));
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    parse(&String::from_utf8_lossy(&bytes)).map(Some)
}

/// As C's `strtol` with base 0 reads it.
fn parse(text: &str) -> io::Result<i64> {
    let text = text.trim_start();
    let (minus, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let (base, digits) = match hexadecimal.filter(|rest| rest.starts_with(|c: char| c.is_ascii_hexdigit())) {
        Some(rest) => (16, rest),
        None if digits.starts_with('0') => (8, digits),
        None => (10, digits),
    };
    let mut value: i64 = 0;
    for digit in digits.chars().map_while(|c| c.to_digit(base)) {
        value = value.saturating_mul(i64::from(base)).saturating_add(i64::from(digit));
    }
    let value = if minus { -value } else { value };
    match i32::try_from(value) {
        Ok(value) => Ok(i64::from(value)),
        Err(_) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{value} is no number of 32 bits"))),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_number_is_read_as_keepalived_reads_it() {
        let read = |text| parse(text).expect("a number of 32 bits");
        assert_eq!(read("42\n"), 42);
        assert_eq!(read("  -7 of them\nsecond line"), -7);
        assert_eq!(read("0x1f"), 31);
        assert_eq!(read("010"), 8);
        assert_eq!(read("+5"), 5);
        assert_eq!(read("0xyz"), 0);
        assert_eq!(read("-2147483648"), i64::from(i32::MIN));
    }

    #[test]
    fn what_is_no_number_counts_as_none() {
        for text in ["", "\n", "up", "-", "\u{fffd}\u{fffd}"] {
            assert_eq!(parse(text).expect("0"), 0, "{text:?}");
        }
    }

    #[test]
    fn a_number_beyond_32_bits_is_not_believed() {
        for text in ["2147483648", "-2147483649", "99999999999999999999999999"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
