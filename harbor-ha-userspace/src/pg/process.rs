//! Running PostgreSQL's programs as the data directory's owner, and reading the log they leave.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid, getgrouplist, getpid, getppid, setgid, setgroups, setsid, setuid};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::Pg;

/// What a program gets of our environment; the rest may hold secrets (`HARBOR_HA_…`) or misguide it (`PG…`).
const ENVIRONMENT: [&str; 6] = ["PATH", "LANG", "LC_ALL", "LC_MESSAGES", "TZ", "LD_LIBRARY_PATH"];
/// How much of a log an error carries.
const TAIL_BYTES: u64 = 2000;

/// Where the log stood before something was tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogMark {
    length: u64,
    at: SystemTime,
}

impl Pg {
    /// A command that runs as the owner, in the data directory, in a session of its own, with no descriptor of ours:
    /// signals to the daemon's group and its death do not touch it.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.data_dir()).stdin(Stdio::null());
        command.env_clear();
        for name in ENVIRONMENT {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let owner = self.owner();
        let user = User::from_uid(owner.uid).ok().flatten();
        if let Some(user) = &user {
            command.env("HOME", &user.dir).env("USER", &user.name);
        }
        // All its groups, as a login would give them: a server's key may be readable by a group (`ssl-cert`) only.
        let name = user.and_then(|user| std::ffi::CString::new(user.name).ok());
        let groups = name.and_then(|name| getgrouplist(&name, owner.gid).ok()).unwrap_or_else(|| vec![owner.gid]);
        let change = geteuid().is_root();
        let become_owner = move || {
            setsid()?;
            if change {
                setgroups(&groups)?;
                setgid(owner.gid)?;
                setuid(owner.uid)?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec only system calls are made; what they read was allocated before the fork.
        unsafe { command.pre_exec(become_owner) };
        command
    }

    /// Runs a program to its end, and kills it at the limit, when the future is dropped, and when this process dies:
    /// `pg_rewind` or a recovery must not go on beside the next daemon, which begins that step anew.
    ///
    /// To be called on a thread that lives as long as the runtime (a worker, not `spawn_blocking`).
    pub(super) async fn run(&self, mut command: Command, within: Duration) -> io::Result<Output> {
        dies_with_this_thread(&mut command);
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true);
        match tokio::time::timeout(within, command.output()).await {
            Ok(output) => output,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("not finished after {within:?}"))),
        }
    }

    /// As [`Pg::run`], for a program whose output may be larger than memory: each line is handed over as it comes, and
    /// the output that comes back holds the other words only.
    pub(super) async fn run_lines(
        &self,
        mut command: Command,
        within: Duration,
        mut each: impl FnMut(&str),
    ) -> io::Result<Output> {
        dies_with_this_thread(&mut command);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
        let (out, err) = child.stdout.take().zip(child.stderr.take()).ok_or(io::ErrorKind::BrokenPipe)?;
        let lines = async {
            let mut lines = BufReader::new(out).lines();
            while let Some(line) = lines.next_line().await? {
                each(&line);
            }
            Ok::<_, io::Error>(())
        };
        let words = async {
            let mut words = Vec::new();
            BufReader::new(err).read_to_end(&mut words).await.map(|_| words)
        };
        let all = async {
            let ((), stderr, status) = tokio::try_join!(lines, words, child.wait())?;
            Ok(Output { status, stdout: Vec::new(), stderr })
        };
        match tokio::time::timeout(within, all).await {
            Ok(output) => output,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("not finished after {within:?}"))),
        }
    }

    /// What the server says before, or instead of, its own log: outside the data directory, as `pg_rewind` would
    /// replace it by the peer's.
    pub fn log_path(&self) -> PathBuf {
        self.state_dir().join("postgresql.log")
    }

    /// Opened by us and inherited by the server, so that the owner needs no access to the state directory.
    pub(super) fn open_log(&self) -> io::Result<File> {
        fs::create_dir_all(self.state_dir())?;
        OpenOptions::new().create(true).append(true).mode(0o640).open(self.log_path())
    }

    pub(super) fn mark_log(&self) -> LogMark {
        let length = fs::metadata(self.log_path()).map_or(0, |meta| meta.len());
        LogMark { length, at: SystemTime::now() }
    }

    /// The last words since the mark: of our log, and of the newest file of `PGDATA/log` if the collector writes there.
    pub(super) fn log_since(&self, mark: LogMark) -> String {
        let mut text = tail(&self.log_path(), mark.length).unwrap_or_default();
        let recent = |entry: fs::DirEntry| {
            let changed = entry.metadata().ok()?.modified().ok()?;
            (changed >= mark.at).then(|| (changed, entry.path()))
        };
        let collected = fs::read_dir(self.in_data_dir("log")).ok();
        let newest = collected.and_then(|entries| entries.flatten().filter_map(recent).max());
        if let Some((_, path)) = newest {
            text.push_str(&tail(&path, 0).unwrap_or_default());
        }
        let text = text.trim();
        if text.is_empty() { "its log says nothing".to_owned() } else { text.to_owned() }
    }
}

/// The kernel kills what `command` starts when the thread that starts it ends, however it ends.
///
/// Comes after every change of user in `command`: the kernel forgets the wish at each of them.
fn dies_with_this_thread(command: &mut Command) {
    let parent = getpid();
    let wish = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // It may have died between the fork and the wish.
        if getppid() == parent { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) }
    };
    // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
    unsafe { command.pre_exec(wish) };
}

fn tail(path: &Path, from: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL_BYTES))))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The words of a program that failed.
pub(super) fn words(output: &Output) -> String {
    let text = [&output.stderr[..], &output.stdout[..]].concat();
    let text = String::from_utf8_lossy(&text);
    let keep = text.len().saturating_sub(TAIL_BYTES as usize);
    let start = (keep..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}: {}", output.status, text[start..].trim())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    /// Starts `sleep` on a thread that ends, and says how that one ended.
    fn outlives(prepare: impl FnOnce(&mut Command) + Send + 'static) -> Option<i32> {
        let start = move || {
            let mut command = Command::new("sleep");
            command.arg("60");
            prepare(&mut command);
            dies_with_this_thread(&mut command);
            command.spawn().expect("`sleep` starts")
        };
        let mut child = std::thread::spawn(start).join().expect("no panic");
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            if let Some(status) = child.try_wait().expect("our child") {
                return status.signal();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().and_then(|()| child.wait()).expect("our child");
        panic!("it goes on without the thread that started it");
    }

    #[test]
    fn a_program_dies_with_the_thread_that_started_it() {
        assert_eq!(outlives(|_| ()), Some(libc::SIGKILL));
    }

    #[test]
    fn a_program_of_another_user_dies_with_the_thread_that_started_it() {
        if !geteuid().is_root() {
            crate::skip::skip("not root, so nothing can be run as another user");
            return;
        }
        let change = |command: &mut Command| {
            let nobody = nix::unistd::Uid::from_raw(65534);
            // SAFETY: one system call.
            unsafe { command.pre_exec(move || Ok(setuid(nobody)?)) };
        };
        assert_eq!(outlives(change), Some(libc::SIGKILL));
    }
}
