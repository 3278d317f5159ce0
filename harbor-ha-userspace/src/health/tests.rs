//! Facts about real scripts, processes, files and interfaces.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::program::tests::{Scripts as Folder, until};
use crate::skip::skip;

/// No test waits longer for a fact.
const PATIENCE: Duration = Duration::from_secs(60);
const TRACKER: TrackerId = TrackerId(7);

type Facts = mpsc::Receiver<Fact>;

fn start(settings: Settings) -> (Watchers, Facts) {
    let (tell, facts) = mpsc::channel(16);
    (Watchers::start(settings, &tell), facts)
}

async fn next(facts: &mut Facts) -> Fact {
    timeout(PATIENCE, facts.recv()).await.expect("a fact in time").expect("watchers that live")
}

async fn value(facts: &mut Facts) -> Value {
    next(facts).await.value
}

fn script(tracker: u16, program: crate::program::Program, interval: Duration) -> Script {
    Script { tracker: TrackerId(tracker), name: format!("chk_{tracker}"), program, interval }
}

#[tokio::test]
async fn a_script_is_well_by_its_exit_status_and_by_nothing_else() {
    let folder = Folder::new();
    let log = folder.path("log");
    let body = format!(
        "echo >> {log}; case $(wc -l < {log}) in 1) exit 0;; 2) exit 1;; 3) kill -KILL $$;; 4) trap '' TERM; sleep 1000 & sleep 1000;; *) exit 0;; esac",
        log = log.display()
    );
    let mut program = folder.sh("check", &body);
    // Only the one that hangs reaches it, also where a shell takes a second to start.
    program.deadline = Some(Duration::from_secs(5));
    let (watchers, mut facts) =
        start(Settings { scripts: vec![script(7, program, Duration::from_millis(1))], ..Settings::default() });
    for expected in [Value::Ok, Value::Failed, Value::Failed, Value::Failed, Value::Ok] {
        let fact = next(&mut facts).await;
        assert_eq!((fact.tracker, fact.value), (TRACKER, expected));
        assert!(fact.at <= crate::clock::now());
    }
    drop(watchers);
    folder.until_gone().await;
}

#[tokio::test]
async fn a_script_that_is_not_there_fails_and_is_tried_again() {
    let folder = Folder::new();
    let mut program = folder.sh("check", "exit 0");
    program.command = vec!["/harbor-ha/gone".to_owned()];
    let scripts = vec![script(7, program, Duration::from_millis(1))];
    let (_watchers, mut facts) = start(Settings { scripts, ..Settings::default() });
    assert_eq!(value(&mut facts).await, Value::Failed);
    assert_eq!(value(&mut facts).await, Value::Failed);
}

#[tokio::test]
async fn a_hundred_scripts_never_run_twice_at_once() {
    let folder = Folder::new();
    let running = |number| folder.path(&format!("running{number}")).display().to_string();
    let scripts = (0..100).map(|number| {
        // Longer than its interval.
        let body =
            format!("mkdir {0} || {{ echo {number} >> $0.overlap; exit 9; }}; sleep 0.05; rmdir {0}", running(number));
        script(number, folder.sh(&format!("check{number}"), &body), Duration::from_millis(10))
    });
    let (watchers, mut facts) = start(Settings { scripts: scripts.collect(), ..Settings::default() });
    let mut runs = [0; 100];
    while runs.iter().any(|&runs| runs < 3) {
        let fact = next(&mut facts).await;
        assert_eq!(fact.value, Value::Ok, "{fact:?}");
        runs[usize::from(fact.tracker.0)] += 1;
    }
    drop(watchers);
    folder.until_gone().await;
}

#[tokio::test]
async fn a_script_that_runs_ends_with_its_watcher() {
    let folder = Folder::new();
    let program = folder.sh("check", "trap '' TERM; echo > $0.up; setsid sleep 1000 & sleep 1000");
    let scripts = vec![script(7, program, Duration::from_secs(1))];
    let (watchers, _facts) = start(Settings { scripts, ..Settings::default() });
    until("it runs", || folder.path("check.up").exists()).await;
    drop(watchers);
    folder.until_gone().await;
}

/// Kills the process whose number the script has written, which no request to end has moved.
async fn kill(folder: &Folder, file: &str) {
    let number = || folder.read(file).trim().parse::<i32>().ok();
    until("its number is there", || number().is_some()).await;
    let pid = nix::unistd::Pid::from_raw(number().expect("just seen"));
    assert_eq!(nix::sys::signal::kill(pid, None), Ok(()), "the fact came while it was there");
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("ours");
}

#[tokio::test]
async fn a_script_that_does_not_end_has_failed_when_its_time_is_over_and_not_when_it_is_gone() {
    let folder = Folder::new();
    let mut program = folder.sh("check", "trap '' TERM; echo $$ > $0.pid; while :; do sleep 0.1; done");
    // Its time is over only when it surely runs; it would be killed later than the test waits for the fact.
    (program.deadline, program.grace) = (Some(Duration::from_secs(5)), PATIENCE * 10);
    let scripts = vec![script(7, program, Duration::from_secs(1000))];
    let (_watchers, mut facts) = start(Settings { scripts, ..Settings::default() });
    assert_eq!(value(&mut facts).await, Value::Failed);
    kill(&folder, "check.pid").await;
    folder.until_gone().await;
}

#[tokio::test]
async fn a_script_that_ends_well_is_well_while_what_it_left_is_being_ended() {
    let folder = Folder::new();
    let mut program = folder.sh("check", "trap '' TERM; sleep 1000 & echo $! > $0.pid; exit 0");
    program.grace = PATIENCE * 10;
    let scripts = vec![script(7, program, Duration::from_secs(1000))];
    let (_watchers, mut facts) = start(Settings { scripts, ..Settings::default() });
    assert_eq!(value(&mut facts).await, Value::Ok);
    kill(&folder, "check.pid").await;
    folder.until_gone().await;
}

fn watched(path: &std::path::Path) -> Settings {
    let files = vec![File { tracker: TRACKER, path: path.to_owned() }];
    Settings { files, ..Settings::default() }
}

#[tokio::test]
async fn a_file_is_followed_through_everything_that_happens_to_it() {
    let folder = TempDir::new().expect("a folder");
    let (path, other) = (folder.path().join("value"), folder.path().join("other"));
    fs::write(&path, "5\n").expect("our folder");
    let (_watchers, mut facts) = start(watched(&path));
    assert_eq!(value(&mut facts).await, Value::Number(5));
    fs::write(&path, "-6").expect("our folder");
    assert_eq!(value(&mut facts).await, Value::Number(-6), "written");
    fs::write(&other, "7").expect("our folder");
    fs::rename(&other, &path).expect("our folder");
    assert_eq!(value(&mut facts).await, Value::Number(7), "replaced");
    fs::write(&path, "8").expect("our folder");
    assert_eq!(value(&mut facts).await, Value::Number(8), "the new one written");
    fs::remove_file(&path).expect("our folder");
    assert_eq!(value(&mut facts).await, Value::Number(0), "gone");
    fs::write(&path, "9").expect("our folder");
    assert_eq!(value(&mut facts).await, Value::Number(9), "back");
    fs::write(&path, "garbage").expect("our folder");
    assert_eq!(value(&mut facts).await, Value::Number(0), "no number");
    fs::write(&path, "10").expect("our folder");
    assert_eq!(value(&mut facts).await, Value::Number(10));
    fs::write(&path, "").expect("our folder");
    assert_eq!(value(&mut facts).await, Value::Number(0), "empty");
    fs::write(&path, "11").expect("our folder");
    assert_eq!(value(&mut facts).await, Value::Number(11));
    // Not believed, so the next fact is the one after it.
    fs::write(&path, "99999999999").expect("our folder");
    fs::write(&path, "12").expect("our folder");
    assert_eq!(value(&mut facts).await, Value::Number(12));
    fs::remove_file(&path).expect("our folder");
    assert_eq!(value(&mut facts).await, Value::Number(0));
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("our folder");
    fs::remove_file(&path).expect("a FIFO without a writer hangs nobody");
    fs::write(&path, "13").expect("our folder");
    assert_eq!(value(&mut facts).await, Value::Number(13));
}

#[tokio::test]
async fn a_file_behind_links_is_followed() {
    let folder = TempDir::new().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    for (name, number) in [("one", "1"), ("two", "2")] {
        fs::create_dir(at(name)).expect("our folder");
        fs::write(at(name).join("value"), number).expect("our folder");
    }
    // As Kubernetes lays out a volume: value -> ..data/value, ..data -> one.
    symlink("one", at("..data")).expect("our folder");
    symlink("..data/value", at("value")).expect("our folder");
    let (_watchers, mut facts) = start(watched(&at("value")));
    assert_eq!(value(&mut facts).await, Value::Number(1));
    symlink("two", at("..new")).expect("our folder");
    fs::rename(at("..new"), at("..data")).expect("our folder");
    assert_eq!(value(&mut facts).await, Value::Number(2), "another folder");
    fs::write(at("two/value"), "3").expect("our folder");
    assert_eq!(value(&mut facts).await, Value::Number(3), "written where the link leads");
}

#[tokio::test]
async fn a_file_in_a_folder_that_is_not_there_yet_counts_as_0_until_it_is() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("later/value");
    let (_watchers, mut facts) = start(watched(&path));
    assert_eq!(value(&mut facts).await, Value::Number(0));
    fs::create_dir(folder.path().join("later")).expect("our folder");
    fs::write(&path, "4").expect("our folder");
    assert_eq!(value(&mut facts).await, Value::Number(4));
    fs::remove_dir_all(folder.path().join("later")).expect("our folder");
    assert_eq!(value(&mut facts).await, Value::Number(0));
    fs::create_dir(folder.path().join("later")).expect("our folder");
    fs::write(&path, "5").expect("our folder");
    assert_eq!(value(&mut facts).await, Value::Number(5), "the folder was made anew");
}

/// `sleep` under a name of this test's own.
struct Sleepers {
    folder: TempDir,
    name: String,
    children: Vec<Child>,
}

impl Sleepers {
    fn new(name: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let name = format!("{name}{:06}", std::process::id() % 1_000_000);
        symlink("/bin/sleep", folder.path().join(&name)).expect("our folder");
        Self { folder, name, children: Vec::new() }
    }

    fn start(&mut self, arguments: &[&str]) {
        let mut command = Command::new(self.folder.path().join(&self.name));
        command.args(arguments).stdin(Stdio::null());
        self.children.push(command.spawn().expect("`sleep` starts"));
    }

    fn end(&mut self) {
        let mut child = self.children.pop().expect("one that runs");
        child.kill().and_then(|()| child.wait()).expect("our child");
    }

    fn process(&self) -> Process {
        Process {
            tracker: TRACKER,
            process: self.name.clone(),
            arguments: None,
            matching: Match::Exact,
            fork_delay: Duration::ZERO,
            terminate_delay: Duration::ZERO,
        }
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ended = child.kill().and_then(|()| child.wait());
        }
    }
}

async fn counts_them(sleepers: &mut Sleepers, facts: &mut Facts) {
    assert_eq!(value(facts).await, Value::Number(1), "it was there before");
    sleepers.start(&["1000"]);
    assert_eq!(value(facts).await, Value::Number(2));
    sleepers.start(&["1000"]);
    assert_eq!(value(facts).await, Value::Number(3));
    for left in (0..3).rev() {
        sleepers.end();
        assert_eq!(value(facts).await, Value::Number(left));
    }
}

async fn no_events() -> bool {
    let refused = connector::Connector::open().await.err();
    if let Some(error) = &refused {
        skip(&format!("the kernel tells no process events here: {error}"));
    }
    refused.is_some()
}

#[tokio::test]
async fn processes_are_counted_as_the_kernel_tells() {
    if no_events().await {
        return;
    }
    let mut sleepers = Sleepers::new("counted");
    sleepers.start(&["1000"]);
    let (_watchers, mut facts) = start(Settings { processes: vec![sleepers.process()], ..Settings::default() });
    counts_them(&mut sleepers, &mut facts).await;
}

#[tokio::test]
async fn processes_are_counted_without_the_kernels_word() {
    let mut sleepers = Sleepers::new("looked");
    sleepers.start(&["1000"]);
    let (tell, mut facts) = mpsc::channel(16);
    let looks = tokio::spawn(process::watch_without_events(vec![sleepers.process()], tell));
    counts_them(&mut sleepers, &mut facts).await;
    looks.abort();
}

#[tokio::test]
async fn a_child_counts_until_it_becomes_another_program() {
    if no_events().await {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let name = format!("forks{:06}", std::process::id() % 1_000_000);
    let path = folder.path().join(&name);
    symlink("/bin/sh", &path).expect("our folder");
    let process = Process { process: name, ..Sleepers::new("unused").process() };
    let (_watchers, mut facts) = start(Settings { processes: vec![process], ..Settings::default() });
    assert_eq!(value(&mut facts).await, Value::Number(0));
    // Each FIFO makes it go on; no step of it forks but the one in question.
    let fifo = |name: &str| folder.path().join(name);
    for name in ["a", "b", "c"] {
        nix::unistd::mkfifo(&fifo(name), nix::sys::stat::Mode::S_IRWXU).expect("our folder");
    }
    let mut child = Command::new(&path)
        .args(["-c", "read go < a; (read go < b; exec sleep 1000) & read go < c; kill $!; wait"])
        .current_dir(folder.path())
        .spawn()
        .expect("a shell");
    let go = |name: &str| fs::write(fifo(name), "go\n").expect("it reads");
    assert_eq!(value(&mut facts).await, Value::Number(1));
    go("a");
    assert_eq!(value(&mut facts).await, Value::Number(2), "its child is as it is");
    go("b");
    assert_eq!(value(&mut facts).await, Value::Number(1), "it has become another program");
    go("c");
    assert_eq!(value(&mut facts).await, Value::Number(0));
    child.wait().expect("our child");
}

#[tokio::test]
async fn arguments_and_parts_of_names_tell_processes_apart() {
    let mut sleepers = Sleepers::new("apart");
    sleepers.start(&["1000", "1"]);
    sleepers.start(&["2000"]);
    let word = |text: &str| Some(vec![text.to_owned()]);
    let with = |tracker, matching, arguments, process: &str| Process {
        tracker: TrackerId(tracker),
        process: process.to_owned(),
        arguments,
        matching,
        ..sleepers.process()
    };
    let (name, start_of) = (sleepers.name.as_str(), &sleepers.name[..9]);
    let called = sleepers.folder.path().join(name).display().to_string();
    let processes = vec![
        with(0, Match::Exact, word("1000"), name),
        with(1, Match::Partial, word("1000"), name),
        with(2, Match::Initial, word("2"), name),
        with(3, Match::Initial, None, start_of),
        with(4, Match::Exact, None, start_of),
        with(5, Match::Partial, None, &name[1..]),
        with(6, Match::Exact, None, &called),
        with(7, Match::Exact, None, "/harbor-ha/sleep"),
        // Part of an argument is none of it.
        with(8, Match::Partial, word("100"), name),
        // The longer last argument may be followed by more.
        with(9, Match::Initial, word("100"), name),
    ];
    let (_watchers, mut facts) = start(Settings { processes, ..Settings::default() });
    let mut seen = Vec::new();
    for _ in 0..10 {
        let fact = next(&mut facts).await;
        seen.push((fact.tracker.0, fact.value));
    }
    let expected = [0, 1, 1, 2, 0, 2, 2, 0, 0, 1];
    let expected = (0..).zip(expected).map(|(tracker, count)| (tracker, Value::Number(count)));
    assert_eq!(seen, expected.collect::<Vec<_>>());
}

/// In a network namespace of its own, which goes with its thread.
#[test]
fn an_interface_is_followed_by_its_name() {
    let ip = |arguments: &str| {
        let done = Command::new("ip").args(arguments.split(' ')).status().expect("`ip` is there");
        assert!(done.success(), "ip {arguments}");
    };
    let test = move || {
        if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
            skip(&format!("no network namespace can be made: {error}"));
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let interfaces =
                ["hht0", "lo"].map(|name| Interface { tracker: TrackerId(name.len() as u16), name: name.to_owned() });
            let (_watchers, mut facts) = start(Settings { interfaces: interfaces.into(), ..Settings::default() });
            let mut both = [next(&mut facts).await, next(&mut facts).await].map(|fact| (fact.tracker.0, fact.value));
            both.sort_by_key(|(tracker, _)| *tracker);
            assert_eq!(both, [(2, Value::Failed), (4, Value::Failed)], "one down, one not there");
            ip("link add hht0 type veth peer name hht1");
            ip("link set hht0 up");
            // Up without carrier; only the other end brings it.
            ip("link set lo up");
            assert_eq!((next(&mut facts).await.tracker.0, facts.try_recv().ok()), (2, None), "lo alone");
            ip("link set hht1 up");
            assert_eq!(value(&mut facts).await, Value::Ok);
            ip("link set hht1 down");
            assert_eq!(value(&mut facts).await, Value::Failed, "carrier lost");
            ip("link set hht1 up");
            assert_eq!(value(&mut facts).await, Value::Ok);
            ip("link del hht0");
            assert_eq!(value(&mut facts).await, Value::Failed, "gone");
            ip("link add hht0 type veth peer name hht1");
            ip("link set hht1 up");
            ip("link set hht0 up");
            assert_eq!(value(&mut facts).await, Value::Ok, "another one of its name");
            ip("link set hht0 down");
            ip("link set hht0 name hht9");
            assert_eq!(value(&mut facts).await, Value::Failed);
            ip("link set hht9 up");
            ip("link set hht9 name hht0");
            assert_eq!(value(&mut facts).await, Value::Ok, "renamed to it");
        });
    };
    std::thread::spawn(test).join().expect("no panic");
}
