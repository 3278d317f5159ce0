//! A folder with a configuration, the binary that is run on it, and what must not have changed afterwards.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;

/// Runs a command on a host of its own: `eth0` (a bridge, which has no native XDP) with the node's address, a BPF file system, nothing else. What is left
/// on it afterwards is told in lines that begin with `LEFT`; then it is gone.
const HOST: &str = "
ip link add eth0 type bridge && ip address add 10.255.77.1/24 dev eth0 && ip link set eth0 up || exit 99
ip link add p0 type veth peer name p1 && ip link set p0 master eth0 up && ip link set p1 up || exit 99
mkdir -p \"$0/bpf\" && mount -t bpf bpf \"$0/bpf\" || exit 99
\"$@\"
code=$?
find \"$0/bpf\" -mindepth 1 ! -name '*.debug' | sed 's/^/LEFT /'
ip -o link show eth0 | grep -q xdp && echo LEFT a program on eth0
ip -o address show | grep -q 10.255.77.9 && echo LEFT the virtual address
exit $code
";

static NUMBER: AtomicU32 = AtomicU32::new(0);

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

pub struct Place {
    folder: tempfile::TempDir,
    instance: String,
}

impl Place {
    /// A configuration of addresses only, on `interface`.
    pub fn new(interface: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("harbor-ha-cli-").tempdir_in("/tmp").unwrap();
        // Others look at it too: the files are the test's, the daemon's would not be.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let place = Self { folder, instance: format!("cli-{}-{number}", std::process::id()) };
        let (home, instance) = (place.folder.path().display(), &place.instance);
        let text = format!(
            "[node]\ninstance = \"{instance}\"\ninterface = \"{interface}\"\naddress = \"10.255.77.1\"\n\
             peer = \"10.255.77.2\"\nvips = [\"10.255.77.9/32\"]\nstate_dir = \"{home}/state\"\n\
             runtime_dir = \"{home}/run\"\nbpffs = \"{home}/bpf\"\n\
             [vrrp]\npriority = 100\nvrid = 51\n[pulse]\nenabled = false\n"
        );
        fs::write(place.config(), text).unwrap();
        place
    }

    /// The same where the test needs root; `None`, with words, where it does not have it.
    pub fn of_root(test: &str, interface: &str) -> Option<Self> {
        if is_root() {
            return Some(Self::new(interface));
        }
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} needs root");
        eprintln!("skipped {test}: it needs root");
        None
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("harbor-ha.toml")
    }

    /// A file that only its owner may read.
    pub fn secret(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    pub fn edit(&self, (from, to): (&str, &str)) {
        let text = fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "{from} in {text}");
        fs::write(self.config(), text.replace(from, to)).unwrap();
    }

    pub fn add(&self, section: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        fs::write(self.config(), text + section).unwrap();
    }

    /// Exit status and everything that was said; as root on a host of its own.
    pub fn run(&self, verb: &str) -> (Option<i32>, String) {
        self.finish(self.command(Path::new(env!("CARGO_BIN_EXE_harbor-ha")), verb, is_root()))
    }

    /// The same with more arguments, on the host of the test itself: for what opens nothing but the status socket.
    pub fn order(&self, verb: &str, more: &[&str]) -> (Option<i32>, String) {
        let mut command = self.command(Path::new(env!("CARGO_BIN_EXE_harbor-ha")), verb, false);
        command.args(more);
        self.finish(command)
    }

    /// Answers on the status socket as a daemon would, `answer` to whatever is asked; what was asked comes back.
    pub fn daemon(&self, answer: &str) -> mpsc::Receiver<String> {
        let run = self.folder.path().join("run");
        fs::create_dir_all(&run).unwrap();
        let listener = UnixListener::bind(run.join(format!("{}.sock", self.instance))).unwrap();
        let (asked, questions) = mpsc::channel();
        let answer = answer.to_owned();
        // Ends with the process of the test.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                let _gone = (&stream).write_all(format!("{answer}\n").as_bytes());
                if asked.send(line).is_err() {
                    return;
                }
            }
        });
        questions
    }

    /// As `nobody`, or as whoever runs the tests when that is not root.
    pub fn run_as_nobody(&self, verb: &str) -> (Option<i32>, String) {
        // The checkout may lie in root's home.
        let program = self.folder.path().join("harbor-ha");
        if !program.exists() {
            fs::copy(env!("CARGO_BIN_EXE_harbor-ha"), &program).unwrap();
        }
        let mut command = self.command(&program, verb, false);
        if is_root() {
            command.uid(65534).gid(65534);
        }
        self.finish(command)
    }

    /// With a filter that answers `errno` to bpf(2).
    pub fn run_without_bpf(&self, verb: &str, errno: i32) -> (Option<i32>, String) {
        let mut command = self.command(Path::new(env!("CARGO_BIN_EXE_harbor-ha")), verb, true);
        let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16; // the number is the first word of seccomp_data
        let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        let answer = (libc::BPF_RET | libc::BPF_K) as u16;
        let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
        let refuse = libc::SECCOMP_RET_ERRNO | errno as u32;
        let mut filter = [
            step(load, 0, 0, 0),
            step(equal, 0, 1, libc::SYS_bpf as u32),
            step(answer, 0, 0, refuse),
            step(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let install = move || {
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
            // SAFETY: the program and its filter outlive the call, which copies them.
            let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
            if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        };
        // SAFETY: one system call on memory of the closure's own.
        unsafe { command.pre_exec(install) };
        self.finish(command)
    }

    /// Whether this build and this host can load the program at all.
    pub fn can_load(&self) -> bool {
        let (_, text) = self.run("check");
        let line = |subject: &str| text.lines().find(|line| line.contains(subject)).unwrap_or_default().to_owned();
        let able = line(" xdp  ").starts_with("ok") && line(" bpffs  ").starts_with("ok");
        let built = !std::env::var("AYA_BUILD_SKIP").is_ok_and(|value| value == "1");
        if !(able && built) {
            eprintln!("skipped: no XDP program, or no BPF: {text}");
            assert!(std::env::var("CI").as_deref() != Ok("true"));
        }
        able && built
    }

    fn command(&self, program: &Path, verb: &str, own_host: bool) -> Command {
        let mut command = Command::new(if own_host { "unshare" } else { "timeout" });
        if own_host {
            command.args(["--net", "--mount", "--propagation", "private", "sh", "-c", HOST]).arg(self.folder.path());
            command.arg("timeout");
        }
        // A daemon that starts by mistake ends, with 124.
        command.args(["--kill-after=1", "20"]).arg(program).arg(verb).arg("--config").arg(self.config());
        command.stdin(Stdio::null()).current_dir("/");
        command
    }

    fn finish(&self, mut command: Command) -> (Option<i32>, String) {
        let output = command.output().unwrap();
        let text = [&output.stdout[..], &output.stderr[..]].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert_ne!(output.status.code(), Some(99), "no host to try it on: {text}");
        assert!(!text.contains("LEFT"), "{text}");
        (output.status.code(), text)
    }

    /// No socket and no state; an empty lock may stay. Pins, programs and addresses are told by [`HOST`].
    pub fn is_untouched(&self) {
        let socket = self.folder.path().join("run").join(format!("{}.sock", self.instance));
        assert!(!socket.exists(), "{} is left", socket.display());
        let state = fs::read_dir(self.folder.path().join("state")).map_or(0, Iterator::count);
        assert_eq!(state, 0, "the state folder holds something");
    }
}
