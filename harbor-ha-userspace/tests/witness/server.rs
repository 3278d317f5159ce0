//! A real etcd or Redis on loopback, with files of its own, gone when dropped.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harbor_ha::config::secret::Secret;
use harbor_ha::config::settings::{self, Endpoint, Login, WitnessKind};
use harbor_ha::witness::{Identity, Witness, WitnessError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// For a healthy server on a loaded host.
pub const PATIENT: Duration = Duration::from_secs(10);

/// What a Redis must be told to forget nothing.
pub const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// A server.
pub struct Server {
    pub kind: WitnessKind,
    pub port: u16,
    more: Vec<String>,
    folder: tempfile::TempDir,
    child: Child,
}

/// Whether the programs are there; says so when not.
///
/// # Panics
/// They are not and `CI=true`: there everything is expected to run.
pub fn is_there(kind: WitnessKind) -> bool {
    let program = program(kind);
    if Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return true;
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "`{program}` is missing: cargo xtask setup");
    eprintln!("skipped: it needs the program `{program}`");
    false
}

fn program(kind: WitnessKind) -> &'static str {
    match kind {
        WitnessKind::Etcd => "etcd",
        WitnessKind::Redis => "redis-server",
    }
}

/// Free a moment ago; a start that finds it taken tries another.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

impl Server {
    pub async fn start(kind: WitnessKind) -> Self {
        Self::start_with(kind, &[]).await
    }

    pub async fn start_with(kind: WitnessKind, more: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("harbor-ha-witness-").tempdir_in("/tmp").unwrap();
        let more: Vec<String> = more.iter().map(|word| (*word).to_owned()).collect();
        for _ in 0..3 {
            let port = free_port();
            let mut child = spawn(kind, port, &more, &folder);
            if answers(&mut child, &settings(kind, port)).await {
                return Self { kind, port, more, folder, child };
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        panic!("`{}` does not start:\n{log}", program(kind));
    }

    /// Ends it and starts it again on what it left on its disk.
    pub async fn restart(&mut self, with: Signal) {
        self.signal(with);
        self.child.wait().unwrap();
        self.child = spawn(self.kind, self.port, &self.more, &self.folder);
        let settings = self.settings();
        assert!(answers(&mut self.child, &settings).await, "it does not start again");
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    pub fn settings(&self) -> settings::Witness {
        settings(self.kind, self.port)
    }

    /// The witness as node `n` has it.
    pub fn witness(&self, n: u8) -> Witness {
        node(n, &self.settings())
    }

    /// One of etcd's JSON calls, for what the witness itself never does.
    pub fn etcd(&self, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        let length = body.len();
        let head = format!("POST /v3/{path} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\nContent-Length: {length}");
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGKILL ends also what is stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn settings(kind: WitnessKind, port: u16) -> settings::Witness {
    settings::Witness {
        kind,
        endpoints: vec![endpoint(port)],
        login: None,
        ttl: Duration::from_secs(1),
        timeout: PATIENT,
        prefix: "harbor-ha".into(),
    }
}

pub fn endpoint(port: u16) -> Endpoint {
    Endpoint { tls: false, host: "127.0.0.1".into(), port }
}

pub fn address(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, n)
}

pub fn node(n: u8, settings: &settings::Witness) -> Witness {
    Witness::new(settings, Identity { cluster_id: 7, vrid: 51, node: address(n) })
}

pub fn login(user: &str, password: &str) -> Option<Login> {
    Some(Login { user: user.into(), password: Secret::new(password.into()) })
}

fn spawn(kind: WitnessKind, port: u16, more: &[String], folder: &tempfile::TempDir) -> Child {
    let log = File::options().create(true).append(true).open(folder.path().join("log")).unwrap();
    let mut command = Command::new(program(kind));
    match kind {
        WitnessKind::Etcd => {
            let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", free_port()));
            command.args(["--name", "w", "--data-dir", "data", "--logger", "zap"]);
            command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
            command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
            command.args(["--initial-cluster", &format!("w={peer}")]);
        }
        WitnessKind::Redis => {
            command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
        }
    }
    command.args(more).current_dir(folder.path());
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    // SAFETY: `prctl` is safe between fork and exec.
    unsafe {
        // A test that is killed leaves no server.
        command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?));
    }
    command.spawn().unwrap()
}

/// Whether it answers before it ends: an etcd takes connections long before it has a leader.
async fn answers(child: &mut Child, settings: &settings::Witness) -> bool {
    let begun = Instant::now();
    let mut witness = node(99, &settings::Witness { timeout: Duration::from_millis(500), ..settings.clone() });
    while begun.elapsed() < PATIENT && child.try_wait().unwrap().is_none() {
        // A server with accounts denies, and so answers.
        if !matches!(witness.look().await, Err(WitnessError::Unreachable(_))) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}
