//! Places where a test makes the process die, to see that what comes after can go on from there.
//!
//! Inert unless `HARBOR_HA_FAULT_POINT` names one of [`POINTS`] or [`OF_PROVISION`]; the process then kills itself there
//! by SIGKILL, as a power cut or the kernel's memory killer would, without a destructor or a flush. With
//! `HARBOR_HA_FAULT_POINT_ONCE=FILE` it does so only if it can create that file, where it leaves its process id, so that
//! the next one lives. With
//! `HARBOR_HA_FAULT_POINT_RUNS=PROGRAM` it runs that program instead, waits for its end and goes on: something else dies.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;

/// Names a point; hidden from operators, as nobody should set it on a host that serves.
const VARIABLE: &str = "HARBOR_HA_FAULT_POINT";
/// Names a file that exists once the process has died.
const ONCE: &str = "HARBOR_HA_FAULT_POINT_ONCE";
/// Names a program that breaks something else.
const RUNS: &str = "HARBOR_HA_FAULT_POINT_RUNS";

/// Those of `harbor-ha havip provision`, in the order in which it reaches them: before each step, and once it was accepted.
pub const OF_PROVISION: [&str; 8] = [
    "provision.create",
    "provision.create.done",
    "provision.own",
    "provision.own.done",
    "provision.peer",
    "provision.peer.done",
    "provision.eip",
    "provision.eip.done",
];

/// Every point of the daemon, in the order in which a process can reach them.
pub const POINTS: [&str; 49] = [
    "order.begin",
    "order.done",
    "prepare.done",
    "serve.addresses",
    "serve.done",
    "withdraw.done",
    "sync.done",
    "terms.done",
    "stop.begin",
    "stop.signalled",
    "stop.done",
    "start.begin",
    "start.signal",
    "start.done",
    "promote.begin",
    "promote.signalled",
    "promote.done",
    "rejoin.begin",
    "rejoin.compare",
    "rejoin.loss.copied",
    "rejoin.loss.saved",
    "rejoin.loss.reported",
    "rejoin.wal.saved",
    "rejoin.recover",
    "rejoin.recover.done",
    "rejoin.slot",
    "rejoin.checkpoint",
    "rejoin.save",
    "rejoin.save.done",
    "rejoin.rewind",
    "rejoin.rewind.done",
    "rejoin.wal.restored",
    "basebackup.begin",
    "basebackup.made",
    "basebackup.copied",
    "basebackup.swap",
    "basebackup.aside",
    "basebackup.swapped",
    "rejoin.configure",
    "untaken.begin",
    "untaken.saved",
    "untaken.removed",
    "untaken.done",
    "rejoin.configure.signal",
    "rejoin.start",
    "rejoin.stream",
    "rejoin.stream.done",
    "basebackup.removed",
    "rejoin.done",
];

#[derive(Debug)]
struct Armed {
    point: String,
    once: Option<PathBuf>,
    runs: Option<PathBuf>,
}

/// Dies here if this point is the one that is named.
pub fn point(name: &'static str) {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    debug_assert!(is_known(name), "`{name}` is not in the list of fault points");
    let Some(armed) = ARMED.get_or_init(armed) else { return };
    if armed.point == name && armed.once.as_ref().is_none_or(first) {
        if let Some(program) = &armed.runs {
            let ended = std::process::Command::new(program).arg(name).status();
            tracing::warn!(point = name, ?ended, "a fault was made here");
            return;
        }
        let _dead = kill(getpid(), Signal::SIGKILL);
        loop {
            std::thread::park(); // the signal is on its way
        }
    }
}

fn is_known(name: &str) -> bool {
    POINTS.contains(&name) || OF_PROVISION.contains(&name)
}

fn armed() -> Option<Armed> {
    let point = std::env::var(VARIABLE).ok().filter(|point| !point.is_empty())?;
    if !is_known(&point) {
        let (daemon, provision) = (POINTS.join(", "), OF_PROVISION.join(", "));
        tracing::error!(point, "`{VARIABLE}` names no fault point; known are {daemon}, {provision}");
        return None;
    }
    tracing::warn!(point, "`{VARIABLE}` is set: this process will kill itself there");
    Some(Armed {
        point,
        once: std::env::var_os(ONCE).map(PathBuf::from),
        runs: std::env::var_os(RUNS).map(PathBuf::from),
    })
}

/// Creates the file, which nobody can do twice, and says there whose it is. One that cannot be created at all is no
/// reason to die again and again.
fn first(once: &PathBuf) -> bool {
    let file = OpenOptions::new().write(true).create_new(true).open(once);
    file.is_ok_and(|mut file| file.write_all(format!("{}\n", getpid()).as_bytes()).is_ok())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    fn sources(dir: &Path, text: &mut String) {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                sources(&path, text);
            } else if path.extension().is_some_and(|it| it == "rs") && path.file_name() != Some("fault.rs".as_ref()) {
                text.push_str(&fs::read_to_string(&path).unwrap());
            }
        }
    }

    #[test]
    fn every_point_is_somewhere_and_every_one_that_is_somewhere_is_listed() {
        let mut text = String::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
        let calls = text.split("point(\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(name, _)| name);
        let called: BTreeSet<&str> = calls.collect();
        assert!(called.iter().all(|name| is_known(name)), "{called:?}");
        // Some are the values of a function, so the name alone is looked for.
        let all = POINTS.into_iter().chain(OF_PROVISION);
        let nowhere: Vec<&str> = all.filter(|name| !text.contains(&format!("\"{name}\""))).collect();
        assert!(nowhere.is_empty(), "{nowhere:?}");
    }

    #[test]
    fn a_point_that_nobody_named_does_nothing() {
        point("rejoin.begin");
    }

    #[test]
    fn a_file_can_be_the_first_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("died");
        assert!(first(&file) && !first(&file));
        assert_eq!(fs::read_to_string(file).unwrap(), format!("{}\n", std::process::id()));
    }
}
