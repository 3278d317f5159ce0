//! Receivers that hang, lag and vanish; nobody who tells waits for them.

mod mail;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::program::Program;
use crate::program::tests::{Scripts as Folder, program, until};

/// Longer than any test; a stop that needs it has gone wrong.
const LONG: Duration = Duration::from_secs(60);

pub(super) fn event(name: &str, state: State, priority: u8) -> Event {
    Event { kind: Kind::Instance, name: name.into(), state, priority }
}

fn receiver(name: &str, scripts: Scripts) -> Receiver {
    Receiver { kind: Kind::Instance, name: name.to_owned(), scripts, mail: false, priority_changes: true }
}

fn start(receivers: Vec<Receiver>, fifo: Option<Fifo>) -> Notifier {
    let settings = Settings { router_id: "router".to_owned(), receivers, fifo, mail: None };
    Notifier::start(settings).expect("no mail, no mail's errors")
}

/// Appends its arguments and what it is told by its environment.
fn noting(folder: &Folder) -> impl Fn(&str) -> Option<Program> + '_ {
    let log = folder.path("log").display().to_string();
    let variables = "$HARBOR_HA_ROUTER $HARBOR_HA_TYPE $HARBOR_HA_NAME $HARBOR_HA_STATE $HARBOR_HA_PRIORITY";
    let body = format!("echo \"$*; {variables}\" >> {log}");
    move |word| {
        let mut program = folder.sh("note", &body);
        program.command.push(word.to_owned());
        Some(program)
    }
}

fn all(folder: &Folder) -> Scripts {
    let note = noting(folder);
    Scripts {
        master: note("m"),
        backup: note("b"),
        fault: note("f"),
        stop: note("s"),
        all: note("all"),
        lower_priority: note("l"),
    }
}

/// A MASTER script that says `master`, and hangs until there is a file `go`.
fn hanging(folder: &Folder) -> Option<Program> {
    let (log, go) = (folder.path("log"), folder.path("go"));
    let body =
        format!("trap '' TERM; echo master >> {}; until [ -e {} ]; do sleep 0.01; done", log.display(), go.display());
    Some(folder.sh("hang", &body))
}

#[tokio::test]
async fn scripts_are_told_in_order_with_keepaliveds_arguments() {
    let folder = Folder::new();
    let notifier = start(vec![receiver("VI_1", all(&folder))], None);
    let told = [
        (State::Master, 100),
        (State::LowerPriority, 100),
        (State::MasterPriority, 90),
        (State::Backup, 90),
        (State::Fault, 0),
        (State::Stop, 90),
    ];
    // Each when the one before is done, so that none takes the place of another.
    let mut lines = 0;
    for (state, priority) in told {
        notifier.tell(&event("VI_1", state, priority));
        lines += match state {
            State::MasterPriority => 0,
            State::LowerPriority => 1,
            _ => 2,
        };
        until("its line", || folder.read("log").lines().count() == lines).await;
    }
    notifier.tell(&event("VI_2", State::Master, 1));
    notifier.stop(LONG).await;
    let expected = "\
        m; router INSTANCE VI_1 MASTER 100\n\
        all INSTANCE VI_1 MASTER 100; router INSTANCE VI_1 MASTER 100\n\
        l; router INSTANCE VI_1 MASTER_RX_LOWER_PRI 100\n\
        b; router INSTANCE VI_1 BACKUP 90\n\
        all INSTANCE VI_1 BACKUP 90; router INSTANCE VI_1 BACKUP 90\n\
        f; router INSTANCE VI_1 FAULT 0\n\
        all INSTANCE VI_1 FAULT 0; router INSTANCE VI_1 FAULT 0\n\
        s; router INSTANCE VI_1 STOP 90\n\
        all INSTANCE VI_1 STOP 90; router INSTANCE VI_1 STOP 90\n";
    assert_eq!(folder.read("log"), expected);
}

#[tokio::test]
async fn while_a_script_hangs_states_go_on_and_the_newest_one_wins() {
    let (folder, other) = (Folder::new(), Folder::new());
    let scripts = Scripts { master: hanging(&folder), ..all(&folder) };
    let notifier = start(vec![receiver("VI_1", scripts), receiver("VI_2", all(&other))], None);
    notifier.tell(&event("VI_1", State::Master, 100));
    until("the script hangs", || folder.read("log") == "master\n").await;
    // On this test's single thread nothing else runs meanwhile: not one of these waits for anybody.
    let mut told = 0;
    for priority in 0..=250 {
        for state in [State::Backup, State::Master, State::LowerPriority, State::Fault] {
            notifier.tell(&event("VI_1", state, priority));
            told += 1;
        }
    }
    assert_eq!(told, 1004);
    assert_eq!(notifier.told().replaced, 1003, "all but the last one");
    // Nor does another instance wait.
    notifier.tell(&event("VI_2", State::Master, 7));
    until("the other one's scripts", || other.read("log").lines().count() == 2).await;
    assert_eq!(folder.read("log"), "master\n", "one at a time");
    fs::write(folder.path("go"), "").expect("our folder");
    notifier.stop(LONG).await;
    let log = folder.read("log");
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[..2], ["master", "all INSTANCE VI_1 MASTER 100; router INSTANCE VI_1 MASTER 100"]);
    assert_eq!(
        lines[2..],
        ["f; router INSTANCE VI_1 FAULT 250", "all INSTANCE VI_1 FAULT 250; router INSTANCE VI_1 FAULT 250"]
    );
    assert_eq!(folder.alive(), Vec::<String>::new());
}

#[tokio::test]
async fn stop_has_its_turn_though_an_older_script_hangs() {
    let folder = Folder::new();
    let scripts = Scripts { master: hanging(&folder), ..all(&folder) };
    let notifier = start(vec![receiver("VI_1", scripts)], None);
    notifier.tell(&event("VI_1", State::Master, 100));
    until("the script hangs", || folder.read("log") == "master\n").await;
    notifier.tell(&event("VI_1", State::Backup, 100));
    notifier.tell(&event("VI_1", State::Stop, 100));
    notifier.stop(Duration::from_secs(6)).await;
    let log = folder.read("log");
    assert_eq!(log.lines().filter(|line| line.starts_with("s;")).count(), 1, "{log}");
    assert!(log.ends_with("all INSTANCE VI_1 STOP 100; router INSTANCE VI_1 STOP 100\n"), "{log}");
    assert!(!log.contains("BACKUP"), "STOP is newer: {log}");
    assert_eq!(folder.alive(), Vec::<String>::new());
}

#[tokio::test]
async fn a_stop_script_that_hangs_is_given_up_and_leaves_nothing() {
    let folder = Folder::new();
    let scripts = Scripts { stop: hanging(&folder), ..Scripts::default() };
    let notifier = start(vec![receiver("VI_1", scripts)], None);
    notifier.tell(&event("VI_1", State::Stop, 100));
    until("the script hangs", || folder.read("log") == "master\n").await;
    notifier.stop(Duration::from_millis(10)).await;
    folder.until_gone().await;
}

#[tokio::test]
async fn a_script_that_is_deleted_or_of_no_use_delays_nobody() {
    let folder = Folder::new();
    let scripts = Scripts { master: hanging(&folder), ..all(&folder) };
    fs::remove_file(folder.path("hang")).expect("our file");
    let notifier =
        start(vec![receiver("VI_1", Scripts { master: Some(program(&["/harbor-ha/gone"])), ..scripts })], None);
    notifier.tell(&event("VI_1", State::Master, 1));
    notifier.stop(LONG).await;
    assert_eq!(folder.read("log"), "all INSTANCE VI_1 MASTER 1; router INSTANCE VI_1 MASTER 1\n");
}

fn fifo(path: &Path, program: Option<Program>) -> Option<Fifo> {
    Some(Fifo { path: path.to_owned(), user: None, program })
}

fn numbered(number: u32) -> Event {
    event(&format!("VI_{number}"), State::Master, 100)
}

#[tokio::test]
async fn a_reader_of_the_fifo_may_go_and_come_back_and_misses_nothing() {
    let folder = Folder::new();
    let path = folder.path("fifo");
    let notifier = start(vec![receiver("VI_1", Scripts::default())], fifo(&path, None));
    until("the FIFO", || path.exists()).await;
    notifier.tell(&event("VI_1", State::Master, 100));
    notifier.tell(&Event { kind: Kind::Group, name: "G".into(), state: State::Fault, priority: 0 });
    let read = |count: usize| {
        let path = path.clone();
        tokio::task::spawn_blocking(move || {
            // Byte by byte: a buffer would take lines along that belong to the next reader.
            let file = fs::File::open(path).expect("the FIFO");
            let lines = BufReader::with_capacity(1, file).lines().take(count);
            lines.map(|line| line.expect("a line")).collect::<Vec<_>>()
        })
    };
    assert_eq!(read(2).await.expect("no panic"), ["INSTANCE \"VI_1\" MASTER 100", "GROUP \"G\" FAULT 0"]);
    notifier.tell(&event("VI_1", State::BackupPriority, 50));
    notifier.tell(&event("VI_1", State::LowerPriority, 50));
    let both = ["INSTANCE \"VI_1\" BACKUP_PRIORITY 50", "INSTANCE \"VI_1\" MASTER_RX_LOWER_PRI 50"];
    assert_eq!(read(2).await.expect("no panic"), both);
    notifier.stop(LONG).await;
    assert!(!path.exists(), "made here, removed here");
}

#[tokio::test]
async fn a_fifo_without_a_reader_loses_the_oldest_lines_and_counts_them() {
    let folder = Folder::new();
    let path = folder.path("fifo");
    let notifier = start(Vec::new(), fifo(&path, None));
    until("the FIFO", || path.exists()).await;
    const TOLD: u32 = 10_000;
    for number in 0..TOLD {
        notifier.tell(&numbered(number));
        // Now and then the writer has its turn.
        if number % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let dropped = notifier.told().fifo_lines;
    assert!(dropped > 0);
    let reader = tokio::task::spawn_blocking(move || {
        let lines = BufReader::new(fs::File::open(path).expect("the FIFO")).lines();
        let number = |line: String| line["INSTANCE \"VI_".len()..].split('"').next().map(|text| text.parse::<u32>());
        lines.map(|line| number(line.expect("a line")).expect("a name").expect("a number")).collect::<Vec<_>>()
    });
    let missed = notifier.told();
    notifier.stop(LONG).await;
    let read = reader.await.expect("no panic");
    assert!(read.is_sorted_by(|before, after| before < after), "in order, none twice");
    assert_eq!(read.last(), Some(&(TOLD - 1)));
    assert_eq!(read.len() as u64 + missed.fifo_lines, u64::from(TOLD), "each is read or counted");
}

#[tokio::test]
async fn a_fifo_that_is_taken_away_is_made_anew() {
    let folder = Folder::new();
    let path = folder.path("fifo");
    let notifier = start(Vec::new(), fifo(&path, None));
    until("the FIFO", || path.exists()).await;
    fs::remove_file(&path).expect("our folder");
    notifier.tell(&numbered(1));
    until("the FIFO", || path.exists()).await;
    let file = fs::File::open(path).expect("the FIFO");
    let reader = tokio::task::spawn_blocking(move || std::io::read_to_string(file).expect("the FIFO"));
    notifier.stop(LONG).await;
    assert_eq!(reader.await.expect("no panic"), "INSTANCE \"VI_1\" MASTER 100\n");
}

#[tokio::test]
async fn something_else_in_the_place_of_the_fifo_is_left_alone() {
    let folder = Folder::new();
    let (path, target) = (folder.path("fifo"), folder.path("target"));
    fs::write(&target, "precious").expect("our folder");
    std::os::unix::fs::symlink(&target, &path).expect("our folder");
    let notifier = start(Vec::new(), fifo(&path, None));
    notifier.tell(&numbered(1));
    notifier.stop(Duration::from_millis(50)).await;
    assert_eq!(folder.read("target"), "precious");
}

#[tokio::test]
async fn the_fifos_script_is_started_once_and_ends_with_it() {
    let folder = Folder::new();
    let path = folder.path("fifo");
    let log = folder.path("log").display().to_string();
    let body = format!(
        "echo \"start $*\" >> {log}; while read line; do echo \"$line\" >> {log}; done < \"$2\"; echo end >> {log}"
    );
    let mut reader = folder.sh("reader", &body);
    reader.command.push("ARGUMENT".to_owned());
    reader.deadline = None;
    let notifier = start(Vec::new(), fifo(&path, Some(reader)));
    for number in 0..3 {
        notifier.tell(&numbered(number));
    }
    until("the lines", || folder.read("log").contains("VI_2")).await;
    notifier.tell(&event("VI_0", State::Stop, 100));
    notifier.stop(LONG).await;
    let lines = "INSTANCE \"VI_0\" MASTER 100\nINSTANCE \"VI_1\" MASTER 100\nINSTANCE \"VI_2\" MASTER 100\nINSTANCE \"VI_0\" STOP 100";
    assert_eq!(folder.read("log"), format!("start ARGUMENT {}\n{lines}\nend\n", path.display()));
    assert_eq!(folder.alive(), Vec::<String>::new());
}
