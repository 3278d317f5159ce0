//! Two real servers on loopback addresses of their own, owned by `nobody`, gone when dropped.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use harbor_ha::config::secret::Secret;
use harbor_ha::config::settings::{Postgres, Sync};
use harbor_ha::core::facts::PgFacts;
use harbor_ha::pg::{Pg, StartAs};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use tokio_postgres::{Client, Config, NoTls};

/// Limit of questions that a healthy server answers at once.
pub const SOON: Duration = Duration::from_secs(10);

/// Neither is 127.0.0.1, so that no fallback of one node reaches the other.
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];
/// Nobody's.
pub const VIP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const NAMES: [&str; 2] = ["a", "b"];
const PASSWORD: &str = "pass:word\\ 'x'";
const REPLICATION_PASSWORD: &str = "rep:lica\\tion";

/// Where PostgreSQL's programs are; `None`, and the reason on the terminal, when these tests cannot run.
///
/// # Panics
/// They cannot run and `CI=true`: there everything is expected to run.
pub fn bin_dir() -> Option<PathBuf> {
    let bin = std::env::var_os("HARBOR_HA_PG_BIN").map(PathBuf::from);
    let why = match (&bin, geteuid().is_root()) {
        (None, _) => "HARBOR_HA_PG_BIN does not name the directory of PostgreSQL's programs (cargo xtask test does)",
        (Some(_), false) => "not root, so no server can be run as another user",
        (Some(_), true) => return bin,
    };
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
    eprintln!("skipped: {why}");
    None
}

/// The same where the servers' user can run them: the checkout may lie in root's home.
fn reachable(bin: &Path, dir: &Path) -> PathBuf {
    let owner = owner();
    let mut program = Command::new(bin.join("postgres"));
    program.arg("--version").uid(owner.uid.as_raw()).gid(owner.gid.as_raw()).current_dir("/");
    if program.output().is_ok_and(|output| output.status.success()) {
        return bin.to_owned();
    }
    let installation = bin.parent().expect("a folder `bin` in one");
    let copy = dir.join("postgresql");
    assert!(Command::new("cp").arg("-a").arg(installation).arg(&copy).status().unwrap().success());
    copy.join("bin")
}

/// A node.
pub struct Node {
    /// Its PostgreSQL.
    pub pg: Pg,
    /// Where its server listens.
    pub address: Ipv4Addr,
    /// The daemon's directory.
    pub state_dir: PathBuf,
}

impl Drop for Node {
    fn drop(&mut self) {
        // Politely first: a killed server leaves its shared memory to the next start, which will never come.
        if let Some(postmaster) = self.pg.running() {
            let _ = kill(Pid::from_raw(postmaster.pid()), Signal::SIGQUIT);
            let begun = Instant::now();
            while self.pg.running().is_some() && begun.elapsed() < Duration::from_secs(2) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let killed = self.pg.kill_all();
        assert!(killed.left.is_empty(), "{killed:?}");
    }
}

impl Node {
    /// A client's connection by TCP, which counts as a client's in every way.
    pub async fn client(&self) -> Client {
        self.try_client().await.unwrap()
    }

    /// As [`Node::client`], where it may be refused.
    pub async fn try_client(&self) -> Result<Client, tokio_postgres::Error> {
        let port = self.pg.settings().port;
        let mut config = Config::new();
        config.host(self.address.to_string()).port(port).user("postgres").dbname("postgres").password(PASSWORD);
        let (client, driver) = config.connect(NoTls).await?;
        tokio::spawn(driver);
        Ok(client)
    }

    /// Starts it, and waits until it takes questions.
    pub async fn start(&self, role: StartAs) {
        self.pg.start(role).await.unwrap();
        self.pg.facts(SOON).await.unwrap();
    }

    /// Data directory, as configured.
    pub fn data_dir(&self) -> &Path {
        self.pg.data_dir()
    }

    /// Fills and leaves so many segments of WAL, and removes what no slot keeps.
    pub async fn lose_wal(&self, segments: usize) {
        let client = self.client().await;
        for _ in 0..segments {
            client.batch_execute("INSERT INTO t VALUES (7)").await.unwrap();
            client.batch_execute("SELECT pg_switch_wal()").await.unwrap();
        }
        for _ in 0..2 {
            client.batch_execute("INSERT INTO t VALUES (7)").await.unwrap();
            self.pg.checkpoint(SOON).await.unwrap();
        }
    }

    /// A copy of its data directory where there is no room for another one; the server must not run.
    pub async fn in_a_small_place(&self) -> Small {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=200m,mode=755", "harbor-ha-test"]).arg(dir.path());
        assert!(mount.status().unwrap().success());
        let data = dir.path().join("data");
        assert!(Command::new("cp").arg("-a").arg(self.data_dir()).arg(&data).status().unwrap().success());
        let filled = fs::File::create(dir.path().join("filled")).unwrap();
        nix::fcntl::posix_fallocate(&filled, 0, (space_left(dir.path()) - (16 << 20)) as i64).unwrap();
        let mut settings = self.pg.settings().clone();
        settings.data_dir = data;
        Small { pg: Pg::open(settings, &dir.path().join("state")).unwrap(), dir }
    }

    /// What another process needs to open it: [`opened`].
    pub fn told(&self) -> String {
        let settings = self.pg.settings();
        let dir = self.state_dir.parent().unwrap();
        let index = ADDRESSES.iter().position(|address| *address == self.address).unwrap();
        format!("{}|{}|{}|{index}", dir.display(), settings.bin_dir.display(), settings.port)
    }

    /// How many rows match.
    pub async fn count(&self, filter: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM t WHERE {filter}");
        self.client().await.query_one(&sql, &[]).await.unwrap().get(0)
    }
}

/// A data directory in a file system of its own, which has hardly any room left.
pub struct Small {
    pg: Pg,
    dir: tempfile::TempDir,
}

impl Small {
    /// Its PostgreSQL, at rest.
    pub fn pg(&self) -> &Pg {
        &self.pg
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(self.dir.path()).status();
        assert!(done.is_ok_and(|status| status.success()));
    }
}

/// Two nodes. Dropped before the directory that they live in.
pub struct Pair {
    /// First primary.
    pub a: Node,
    /// First standby.
    pub b: Node,
    _dir: tempfile::TempDir,
}

impl Pair {
    /// A primary that has a table `t`, and a standby that streams.
    pub async fn new(bin: &Path, conf: &str) -> Self {
        Self::made(bin, conf, &["-k"]).await
    }

    /// As [`Pair::new`], and not to be rewound.
    pub async fn without_checksums(bin: &Path, conf: &str) -> Self {
        Self::made(bin, conf, &[]).await
    }

    /// As [`Pair::new`], for many forks one after the other: each leaves a segment of its own, which is copied about.
    pub async fn with_small_segments(bin: &Path, conf: &str) -> Self {
        Self::made(bin, conf, &["-k", "--wal-segsize=1"]).await
    }

    async fn made(bin: &Path, conf: &str, options: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("harbor-ha-pg").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let bin = &*reachable(bin, dir.path());
        let port = free_port();
        let a = data_dir(dir.path(), 0);
        run(bin, "initdb", &[options, &["-A", "trust", "-U", "postgres", "--no-sync", "-D", &a]].concat());
        configure(Path::new(&a), 0, conf);
        let a = node(dir.path(), bin, port, 0);
        a.start(StartAs::Primary).await;
        let setup = local_client(&a).await;
        let quote = |text: &str| text.replace('\'', "''");
        for sql in [
            format!("ALTER ROLE postgres PASSWORD '{}'", quote(PASSWORD)),
            format!("CREATE ROLE replicator REPLICATION LOGIN PASSWORD '{REPLICATION_PASSWORD}'"),
            "CREATE TABLE t (id int)".to_owned(),
        ] {
            setup.batch_execute(&sql).await.unwrap();
        }
        let b = data_dir(dir.path(), 1);
        let source = format!("host={} port={port} user=postgres", ADDRESSES[0]);
        run(bin, "pg_basebackup", &["-d", &source, "-D", &b, "--no-sync", "-c", "fast"]);
        configure(Path::new(&b), 1, conf);
        let b = node(dir.path(), bin, port, 1);
        b.pg.follow().await.unwrap();
        b.start(StartAs::Standby).await;
        let pair = Self { a, b, _dir: dir };
        wait_until(&pair.b, |facts| facts.streaming).await;
        pair
    }
}

/// A node's PostgreSQL, in another process than the node's.
pub fn opened(told: &str) -> Pg {
    let [dir, bin, port, index] = told.split('|').collect::<Vec<_>>().try_into().unwrap();
    let (port, index) = (port.parse().unwrap(), index.parse().unwrap());
    pg(Path::new(dir), Path::new(bin), port, index)
}

fn space_left(path: &Path) -> u64 {
    let stat = nix::sys::statvfs::statvfs(path).unwrap();
    stat.blocks_available() * stat.fragment_size()
}

/// Until a server says what is hoped for.
pub async fn wait_until(node: &Node, hoped: impl Fn(&PgFacts) -> bool) {
    let comes = async {
        while !node.pg.facts(SOON).await.is_ok_and(|facts| hoped(&facts)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, comes).await.expect("what is waited for comes");
}

async fn local_client(node: &Node) -> Client {
    let settings = node.pg.settings();
    let mut config = Config::new();
    config.host_path(&settings.socket_dir).port(settings.port).user("postgres").dbname("postgres");
    let (client, driver) = config.connect(NoTls).await.unwrap();
    tokio::spawn(driver);
    client
}

fn node(dir: &Path, bin: &Path, port: u16, index: usize) -> Node {
    Node { pg: pg(dir, bin, port, index), address: ADDRESSES[index], state_dir: state_dir(dir, index) }
}

fn state_dir(dir: &Path, index: usize) -> PathBuf {
    dir.join(format!("state-{}", NAMES[index]))
}

fn pg(dir: &Path, bin: &Path, port: u16, index: usize) -> Pg {
    let settings = Postgres {
        data_dir: data_dir(dir, index).into(),
        bin_dir: bin.to_owned(),
        port,
        socket_dir: dir.join(NAMES[index]),
        user: "postgres".to_owned(),
        dbname: "postgres".to_owned(),
        replication_user: "replicator".to_owned(),
        password: Some(Secret::new(PASSWORD.to_owned())),
        replication_password: Some(Secret::new(REPLICATION_PASSWORD.to_owned())),
        peer: IpAddr::V4(ADDRESSES[1 - index]),
        vips: vec![VIP],
        slot: "harbor_ha".to_owned(),
        name: NAMES[index].to_owned(),
        peer_name: NAMES[1 - index].to_owned(),
        sync: Sync::Required,
        max_lag: 0,
        keep_old: false,
        start_options: String::new(),
        probe_interval: Duration::from_secs(1),
        probe_timeout: Duration::from_secs(3),
        probe_fall: 3,
        stop_timeout: SOON,
    };
    Pg::open(settings, &state_dir(dir, index)).unwrap()
}

/// Its parent is the socket directory, both the owner's.
fn data_dir(dir: &Path, index: usize) -> String {
    let home = dir.join(NAMES[index]);
    if !home.exists() {
        let owner = owner();
        fs::create_dir(&home).unwrap();
        chown(&home, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).unwrap();
    }
    home.join("data").to_str().unwrap().to_owned()
}

fn configure(data_dir: &Path, index: usize, more: &str) {
    let conf = data_dir.join("postgresql.conf");
    let text = format!(
        "listen_addresses = '{}'\nmax_connections = 20\nshared_buffers = 16MB\nwal_retrieve_retry_interval = 100ms\n\
         password_encryption = 'scram-sha-256'\nunix_socket_permissions = 0777\n{more}\n",
        ADDRESSES[index]
    );
    fs::write(&conf, text).unwrap(); // keeps the owner
    // The socket trusts, so that the passwords can be set; TCP does not, so that they are needed.
    let hba = "local all all trust\nhost all postgres 127.0.0.0/8 scram-sha-256\n\
               host replication replicator,postgres 127.0.0.0/8 scram-sha-256\n";
    fs::write(data_dir.join("pg_hba.conf"), hba).unwrap();
}

fn run(bin: &Path, program: &str, arguments: &[&str]) {
    let owner = owner();
    let mut command = Command::new(bin.join(program));
    command.args(arguments).uid(owner.uid.as_raw()).gid(owner.gid.as_raw()).current_dir("/");
    let output = command.env("PGPASSWORD", PASSWORD).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

fn owner() -> User {
    User::from_name("nobody").unwrap().expect("a user `nobody`")
}

fn free_port() -> u16 {
    let ends = ADDRESSES.map(|address| TcpListener::bind((address, 0)).unwrap());
    loop {
        let port = ends[0].local_addr().unwrap().port();
        if TcpListener::bind((ADDRESSES[1], port)).is_ok() {
            return port;
        }
    }
}
