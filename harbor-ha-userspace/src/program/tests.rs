//! What programs can do to us, done.
// size: one list of misdeeds

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use tempfile::TempDir;

use super::*;
use crate::skip::skip;

/// No test waits longer for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of scripts; each process of theirs can be found by the folder's name, whatever it has become.
pub(crate) struct Scripts {
    folder: TempDir,
}

impl Scripts {
    pub(crate) fn new() -> Self {
        let folder = TempDir::with_prefix("harbor-ha-scripts-").expect("a folder in /tmp");
        // Other users run what is in it.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("our folder");
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Run by `/bin/sh FILE`: a file that has just been written cannot always be executed itself, as a process that was
    /// forked meanwhile may still hold it open (`ETXTBSY`).
    pub(crate) fn sh(&self, name: &str, body: &str) -> Program {
        let path = self.path(name);
        let text = format!("export HARBOR_HA_TEST={}\n{body}\n", self.folder.path().display());
        fs::write(&path, text).expect("our folder");
        program(&["/bin/sh", &path.display().to_string()])
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Processes that came from here: by their arguments, and what they started by its environment.
    pub(crate) fn alive(&self) -> Vec<String> {
        let marker = self.folder.path().display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let path = entry.path();
            let holds = |file: &str| {
                let bytes = fs::read(path.join(file)).unwrap_or_default();
                String::from_utf8_lossy(&bytes).contains(&marker)
            };
            if path.join("cmdline").exists() && (holds("cmdline") || holds("environ")) {
                found.push(format!(
                    "{}: {}",
                    path.display(),
                    fs::read_to_string(path.join("comm")).unwrap_or_default()
                ));
            }
        }
        found
    }

    pub(crate) async fn until_gone(&self) {
        until("nothing of it is left", || self.alive().is_empty()).await;
    }
}

impl Drop for Scripts {
    /// After a failure too nothing stays: the keepers go with what held them. One that was forked as its watcher ended may
    /// write here for a moment still; without its script it cannot begin again.
    fn drop(&mut self) {
        let begun = Instant::now();
        let gone = || self.alive().is_empty() && fs::remove_dir_all(self.folder.path()).is_ok();
        while !gone() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

pub(crate) fn program(command: &[&str]) -> Program {
    Program {
        command: command.iter().map(|&word| word.to_owned()).collect(),
        user: User::own(),
        deadline: Some(PATIENCE),
        grace: Duration::from_millis(100),
        leaves: false,
    }
}

/// Looks again and again, without an end only where there is none.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "never seen: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) fn no_root() -> bool {
    let no_root = !geteuid().is_root();
    if no_root {
        skip("not root, so nothing can be run as another user");
    }
    no_root
}

fn short(mut program: Program) -> Program {
    program.deadline = Some(Duration::from_millis(300));
    program
}

#[tokio::test]
async fn a_program_has_its_own_world_and_nothing_of_the_daemons() {
    let scripts = Scripts::new();
    let body = r#"
        echo "arguments $*"; echo "place $(pwd)"; cat; echo "open" $(ls /proc/self/fd)
        grep -E 'Sig(Blk|Ign)' /proc/self/status
        set -- $(cat /proc/$$/stat); echo "group $5 session $6 me $$"
        tr '\0' '\n' < /proc/$$/environ | sort
    "#;
    let program = scripts.sh("world", body);
    let ended = program.run(&["one".to_owned(), "two words".to_owned()], &[("MORE", "yes".to_owned())]).await;
    assert_eq!(ended.how, How::Exited(0), "{ended}");
    let said = |line: &str| assert!(ended.said.lines().any(|one| one == line), "no `{line}` in:\n{}", ended.said);
    said("arguments one two words");
    said("place /");
    said("open 0 1 2 3"); // 3 is the folder that `ls` reads
    said("SigBlk:\t0000000000000000");
    said("SigIgn:\t0000000000000000");
    said("MORE=yes");
    said("SHELL=/bin/sh");
    let numbers = ended.said.lines().find(|line| line.starts_with("group")).expect("its numbers");
    let numbers: Vec<&str> = numbers.split(' ').collect();
    assert_eq!((numbers[1], numbers[3]), (numbers[5], numbers[5]), "a group and a session of its own");
    let known = ["PATH=", "HOME=", "USER=", "LOGNAME=", "SHELL=", "LANG=", "LC_ALL=", "TZ=", "MORE="];
    let from = ended.said.lines().skip_while(|line| !line.starts_with("group")).skip(1);
    for line in from {
        assert!(known.iter().any(|name| line.starts_with(name)), "`{line}` is not from us");
    }
}

#[tokio::test]
async fn a_program_of_another_user_has_that_users_rights() {
    if no_root() {
        return;
    }
    let scripts = Scripts::new();
    let mut program = scripts.sh("who", "echo $(id -u):$(id -g):$(id -G) $HOME $USER; grep CapEff /proc/self/status");
    program.user = User::find("nobody").expect("every host has `nobody`");
    let ended = program.run(&[], &[]).await;
    let (uid, gid) = program.user.ids();
    assert!(ended.said.starts_with(&format!("{uid}:{gid}:{gid} ")), "{ended}");
    assert!(ended.said.contains(" nobody\n"), "{ended}");
    assert!(ended.said.contains("CapEff:\t0000000000000000"), "{ended}");
    program.user = User::find("nobody:daemon").expect("every host has them");
    let daemon = nix::unistd::Group::from_name("daemon").expect("readable").expect("every host has it").gid;
    let ended = program.run(&[], &[]).await;
    assert!(ended.said.starts_with(&format!("{uid}:{daemon}:{daemon} ")), "{ended}");
}

#[test]
fn a_program_of_a_real_time_daemon_is_scheduled_as_any_other() {
    if no_root() {
        return;
    }
    let scripts = Scripts::new();
    // Field 19 is the niceness, 41 the policy; no blank is in the name of `cat`.
    let program = scripts.sh("nice", "set -- $(cat /proc/self/stat); shift 18; echo nice $1; shift 22; echo policy $1");
    let hasty = || {
        // SAFETY: plain numbers; the calling thread alone is meant.
        unsafe {
            libc::setpriority(libc::PRIO_PROCESS, 0, -3);
            let parameters = libc::sched_param { sched_priority: 1 };
            libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters);
        }
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().on_thread_start(hasty).build();
    let runtime = runtime.expect("a runtime");
    let ended = runtime.block_on(async { tokio::spawn(async move { program.run(&[], &[]).await }).await });
    assert_eq!(ended.expect("no panic").said, "nice 0\npolicy 0\n");
}

#[tokio::test]
async fn how_a_program_ended_is_told() {
    let scripts = Scripts::new();
    assert_eq!(scripts.sh("seven", "exit 7").run(&[], &[]).await.how, How::Exited(7));
    assert_eq!(scripts.sh("segv", "ulimit -c 0; kill -SEGV $$").run(&[], &[]).await.how, How::Killed(libc::SIGSEGV));
    assert_eq!(scripts.sh("term", "kill -TERM $$").run(&[], &[]).await.how, How::Killed(libc::SIGTERM));
    assert!(program(&["true"]).run(&[], &[]).await.is_success(), "found in the path");
}

#[tokio::test]
async fn a_program_that_hangs_is_ended_with_all_it_started() {
    let scripts = Scripts::new();
    let ended = short(scripts.sh("hangs", "sleep 1000 & sleep 1000 | sleep 1000")).run(&[], &[]).await;
    assert_eq!(ended.how, How::TimedOut);
    assert_eq!(scripts.alive(), Vec::<String>::new());
}

#[tokio::test]
async fn a_program_that_does_not_heed_sigterm_is_killed() {
    let scripts = Scripts::new();
    let deaf = "trap '' TERM HUP INT; echo deaf; while :; do sleep 1000; done";
    let ended = short(scripts.sh("deaf", deaf)).run(&[], &[]).await;
    assert_eq!((ended.how, ended.said.as_str()), (How::TimedOut, "deaf\n"));
    assert_eq!(scripts.alive(), Vec::<String>::new());
}

#[tokio::test]
async fn a_program_that_heeds_sigterm_has_time_to_put_things_in_order() {
    let scripts = Scripts::new();
    let mut program = short(scripts.sh("heeds", "trap 'echo in order; exit 3' TERM; while :; do sleep 0.01; done"));
    program.grace = PATIENCE;
    let ended = program.run(&[], &[]).await;
    assert_eq!(ended.how, How::TimedOut);
    assert!(ended.said.ends_with("in order\n"), "{ended}");
}

#[tokio::test]
async fn a_program_that_makes_itself_a_daemon_leaves_none() {
    let scripts = Scripts::new();
    let deaf = scripts.path("daemon").display().to_string();
    fs::write(&deaf, "trap '' TERM; echo $$ >> \"$1\"; while :; do sleep 1000; done").expect("our folder");
    let pids = scripts.path("pids").display().to_string();
    // Twice forked, a session of its own, no parent, no descriptor of the script's.
    let body = format!(
        "( setsid /bin/sh {deaf} {pids} </dev/null >/dev/null 2>&1 & )\nuntil [ -s {pids} ]; do sleep 0.01; done\nexit 5"
    );
    let ended = scripts.sh("forks", &body).run(&[], &[]).await;
    assert_eq!(ended.how, How::Exited(5));
    assert!(ended.left >= 1, "{ended}");
    assert_ne!(scripts.read("pids"), "", "there was a daemon");
    assert_eq!(scripts.alive(), Vec::<String>::new());
}

/// Starts `sleep` twice, once as a part of itself and once as a daemon, and then does what `end` says.
fn starting_two(scripts: &Scripts, end: &str) -> Program {
    let mut program = scripts.sh("two", &format!("sleep 1000 &\nsetsid sleep 1001 &\necho up\n{end}"));
    program.leaves = true;
    program
}

fn end_what_was_left(scripts: &Scripts) {
    for line in scripts.alive() {
        let pid = line.split(['/', ':']).nth(2).and_then(|pid| pid.parse().ok()).expect("`/proc/PID: NAME`");
        let _gone = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
}

/// How many processes of this name came from here.
fn count(scripts: &Scripts, name: &str) -> usize {
    scripts.alive().iter().filter(|line| line.trim_end().ends_with(&format!(": {name}"))).count()
}

#[tokio::test]
async fn what_may_be_left_in_the_background_lives_on_and_nothing_waits_for_it() {
    let scripts = Scripts::new();
    let ended = starting_two(&scripts, "exit 0").run(&[], &[]).await;
    assert_eq!((ended.is_success(), ended.left, ended.said.as_str()), (true, 0, "up\n"), "{ended}");
    until("both are there", || count(&scripts, "sleep") == 2).await;
    end_what_was_left(&scripts);
    scripts.until_gone().await;
}

#[tokio::test]
async fn what_was_left_may_write_for_ever() {
    let scripts = Scripts::new();
    // More than a pipe holds, and only once the script is over and its words were read.
    let (go, done) = (scripts.path("go").display().to_string(), scripts.path("done").display().to_string());
    let body = format!(
        "( until [ -e {go} ]; do sleep 0.01; done; head -c 1000000 /dev/zero && echo well > {done} ) &\necho started"
    );
    let mut program = scripts.sh("writes", &body);
    program.leaves = true;
    let mut running = program.start(&[], &[]).await.expect("it starts");
    let ended = running.wait().await;
    assert_eq!((ended.how.clone(), ended.said.as_str()), (How::Exited(0), "started\n"));
    assert!(!running.keeper.is_finished(), "it reads");
    running.end();
    fs::write(&go, "").expect("our folder");
    until("all is written", || scripts.read("done") == "well\n").await;
    until("its keeper is gone", || running.keeper.is_finished()).await;
    scripts.until_gone().await;
}

#[tokio::test]
async fn a_program_that_may_leave_something_is_ended_with_its_group_alone() {
    let scripts = Scripts::new();
    let mut running = starting_two(&scripts, "sleep 1002").start(&[], &[]).await.expect("it starts");
    until("all three are there", || count(&scripts, "sleep") == 3).await;
    running.end();
    assert_eq!(running.wait().await.how, How::Ended);
    until("its group is gone", || scripts.alive().len() == 1 && count(&scripts, "sleep") == 1).await;
    end_what_was_left(&scripts);
    scripts.until_gone().await;
}

#[tokio::test]
async fn a_program_that_runs_from_itself_is_caught() {
    let scripts = Scripts::new();
    // Each generation starts the next one in a session of its own and dies; the first one stays until there are some.
    let body = r#"
        trap '' TERM; echo x >> "$0.count"
        if [ "$1" ]; then setsid /bin/sh "$0" on & exit 0; fi
        setsid /bin/sh "$0" on &
        until [ $(wc -l < "$0.count") -gt 3 ]; do sleep 0.01; done
    "#;
    let mut program = scripts.sh("flees", body);
    program.grace = Duration::from_millis(20);
    let ended = program.run(&[], &[]).await;
    assert_eq!(ended.how, How::Exited(0));
    assert_eq!(scripts.alive(), Vec::<String>::new());
}

#[tokio::test]
async fn a_program_that_prints_megabytes_is_read_to_its_end() {
    let scripts = Scripts::new();
    let ended =
        scripts.sh("prints", "head -c 5000000 /dev/zero | tr '\\0' x; echo done >&2; exit 4").run(&[], &[]).await;
    assert_eq!(ended.how, How::Exited(4));
    assert_eq!(ended.said.len(), KEPT_BYTES);
    assert_eq!(ended.unsaid, 5_000_000 + 5 - KEPT_BYTES as u64);
}

#[tokio::test]
async fn a_program_that_is_no_longer_wanted_is_ended() {
    let scripts = Scripts::new();
    let program = scripts.sh("unwanted", "echo up; sleep 1000");
    let mut running = program.start(&[], &[]).await.expect("it starts");
    until("it runs", || !scripts.alive().is_empty()).await;
    running.end();
    assert_eq!(running.wait().await.how, How::Ended);
    assert_eq!(scripts.alive(), Vec::<String>::new());
    drop(program.start(&[], &[]).await.expect("it starts"));
    scripts.until_gone().await;
}

/// A part of the next test, in a process of its own: a runtime that ends leaves its zombies to the process.
#[tokio::test]
#[ignore = "is a part of another test"]
async fn zombies_here() {
    for _ in 0..20 {
        assert!(program(&["/bin/true"]).run(&[], &[]).await.is_success());
    }
    drop(program(&["/bin/true"]).start(&[], &[]).await);
    let mine = std::process::id().to_string();
    let zombie = || {
        fs::read_dir("/proc").expect("/proc").flatten().any(|entry| {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(&format!(" Z {mine} ")))
        })
    };
    until("no zombie", || !zombie()).await;
}

#[tokio::test]
async fn no_zombie_is_left() {
    let part = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    let ended = std::process::Command::new(std::env::current_exe().expect("our own name"))
        .args(["--exact", "program::tests::zombies_here", "--ignored"])
        .output()
        .expect("this test's own program");
    assert!(ended.status.success() && part(&ended.stdout).contains("1 passed"), "{}", part(&ended.stdout));
}

#[tokio::test]
async fn what_cannot_be_run_is_told_with_its_reason() {
    let scripts = Scripts::new();
    let path = scripts.path("file").display().to_string();
    let why = |ended: Ended| match ended.how {
        How::NotStarted(why) => why,
        other => panic!("it ran: {other:?}"),
    };
    let run = |command: Vec<&str>| {
        let program = program(&command);
        async move { why(program.run(&[], &[]).await) }
    };
    assert!(run(vec![&path]).await.contains("No such file"), "deleted");
    fs::write(&path, "#!/bin/sh\n").expect("our folder");
    assert!(run(vec![&path]).await.contains("is not executable; chmod +x"));
    let folder = scripts.path("").display().to_string();
    assert!(run(vec![&folder]).await.contains("is no file"));
    assert!(run(vec!["harbor-ha-no-such-program"]).await.contains("there is no program"));
    assert!(run(vec![]).await.contains("the command is empty"));
    assert!(run(vec!["/bin/true", "a\0b"]).await.contains("zero byte"));
    let unknown = User::find("harbor-ha-nobody").expect_err("no such user");
    assert_eq!(unknown, UserError::NoUser("harbor-ha-nobody".to_owned()));
    let unknown = User::find("root:harbor-ha-nobody").expect_err("no such group");
    assert_eq!(unknown, UserError::NoGroup("harbor-ha-nobody".to_owned()));
}

#[tokio::test]
async fn what_the_kernel_does_not_execute_is_told_with_its_reason() {
    let scripts = Scripts::new();
    for (name, text, word) in [
        ("bare", "echo no first line\n", "it has no `#!` line"),
        ("strange", "#!/harbor-ha/no-shell\n", "the interpreter in its `#!` line is not there"),
    ] {
        let path = scripts.path(name);
        fs::write(&path, text).expect("our folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our file");
        let program = program(&[&path.display().to_string()]);
        // A process that another test forked while the file was written may hold it for a moment.
        let ended = loop {
            let ended = program.run(&[], &[]).await;
            if !matches!(&ended.how, How::NotStarted(why) if why.contains("Text file busy")) {
                break ended;
            }
        };
        assert!(matches!(&ended.how, How::NotStarted(why) if why.contains(word)), "{ended}");
    }
}

#[tokio::test]
async fn root_runs_nothing_that_others_can_change() {
    if no_root() {
        return;
    }
    let scripts = Scripts::new();
    let folder = scripts.path("folder");
    let file = folder.join("file");
    fs::create_dir(&folder).expect("our folder");
    fs::write(&file, "#!/bin/sh\n").expect("our folder");
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
    let refused = |path: &Path| match program(&[&path.display().to_string()]).check() {
        Ok(()) => None,
        Err(CommandError::Insecure { part, .. }) => Some(part),
        Err(other) => panic!("{other}"),
    };
    mode(&folder, 0o755);
    mode(&file, 0o755);
    assert_eq!(refused(&file), None);
    mode(&file, 0o757);
    assert_eq!(refused(&file), Some(file.clone()), "everybody writes to it");
    mode(&file, 0o775);
    assert_eq!(refused(&file), None, "root's group");
    chown(&file, None, Some(1)).expect("root may");
    assert_eq!(refused(&file), Some(file.clone()), "another group writes to it");
    chown(&file, Some(1), Some(0)).expect("root may");
    mode(&file, 0o755);
    assert_eq!(refused(&file), Some(file.clone()), "its owner can make it writable");
    chown(&file, Some(0), None).expect("root may");
    mode(&folder, 0o777);
    assert_eq!(refused(&file), Some(folder.clone()), "everybody can put another one in its place");
    let link = scripts.path("link");
    symlink(&file, &link).expect("our folder");
    assert_eq!(refused(&link), Some(folder.clone()), "also over a link");
    let inner = folder.join("link");
    symlink("/bin/true", &inner).expect("our folder");
    assert_eq!(refused(&inner), Some(folder.clone()), "also a link that everybody can replace");
    mode(&folder, 0o1777);
    assert_eq!(refused(&file), None, "nobody can replace what is root's in a sticky folder");
    let mut as_nobody = program(&[&inner.display().to_string()]);
    mode(&folder, 0o777);
    as_nobody.user = User::find("nobody").expect("every host has `nobody`");
    assert_eq!(as_nobody.check(), Ok(()), "who is not root may run it");
}

/// Plays the daemon in the next test: started by it in a process of its own, and killed.
#[tokio::test]
#[ignore = "is a part of another test"]
async fn a_daemon_to_be_killed() {
    let Some(script) = std::env::var_os("HARBOR_HA_TEST_SCRIPT") else { return };
    program(&["/bin/sh", &script.to_string_lossy()]).run(&[], &[]).await;
}

#[tokio::test]
async fn a_program_does_not_outlive_a_daemon_that_is_killed() {
    let scripts = Scripts::new();
    let ready = scripts.path("ready").display().to_string();
    scripts
        .sh("script", &format!("trap '' TERM HUP; setsid sleep 1000 & echo > {ready}; while :; do sleep 1000; done"));
    let mut daemon = std::process::Command::new(std::env::current_exe().expect("our own name"))
        .args(["--exact", "program::tests::a_daemon_to_be_killed", "--ignored"])
        .env("HARBOR_HA_TEST_SCRIPT", scripts.path("script"))
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("this test's own program");
    until("the script runs", || scripts.path("ready").exists()).await;
    daemon.kill().and_then(|()| daemon.wait()).expect("our child");
    scripts.until_gone().await;
}
