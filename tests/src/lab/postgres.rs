//! The PostgreSQL 13 of a node: a real cluster on the disk, with fsync, as an unprivileged user.
//!
//! What differs between the nodes stands on the server's command line, what is alike in `postgresql.conf`:
//! a rewind and a base backup copy that file from the other node.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::node::Node;
use super::{host, netns, state};

/// Slot that each node keeps for the other, the default of the daemon's configuration.
const SLOT: &str = "harbor_ha";

/// Crash recovery of a small cluster takes a second or two.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Small buffers, as two servers share a machine; connections for a client that tries many times at once;
/// shared memory below the data directory, where a killed server's is deleted with it, and
/// quick retries, as a standby that waits 5 s for its primary makes a test wait too. fsync stays on.
const SETTINGS: &str = "\
listen_addresses = '*'
port = 5432
max_connections = 300
superuser_reserved_connections = 20
shared_buffers = 32MB
dynamic_shared_memory_type = mmap
wal_level = replica
wal_log_hints = on
hot_standby = on
max_wal_senders = 10
max_replication_slots = 10
wal_keep_size = 128MB
wal_retrieve_retry_interval = 200ms
wal_receiver_status_interval = 1s
logging_collector = off
log_min_messages = info
log_line_prefix = '%m [%p] '
";

const ACCESS: &str = "\
local all all trust
local replication all trust
host all all 10.77.0.0/24 trust
host replication all 10.77.0.0/24 trust
";

/// PostgreSQL's programs, as the set-up left them.
///
/// # Errors
/// The set-up has not fetched them.
pub fn programs() -> Result<PathBuf> {
    let facts = fs::read(state::root().join("target/setup.json")).context("no set-up yet: cargo xtask setup")?;
    let facts: serde_json::Value = serde_json::from_slice(&facts)?;
    let bin = facts["postgres_bin"].as_str().context("no PostgreSQL 13: cargo xtask setup")?;
    ensure!(Path::new(bin).join("postgres").is_file(), "no PostgreSQL in `{bin}`: cargo xtask setup");
    Ok(bin.into())
}

/// The PostgreSQL of one node.
#[derive(Clone, Copy)]
pub struct Postgres<'a> {
    node: Node<'a>,
}

impl<'a> Postgres<'a> {
    pub(super) fn new(node: Node<'a>) -> Self {
        Self { node }
    }

    /// PGDATA.
    pub fn data(self) -> PathBuf {
        self.node.home().join("data")
    }

    /// Folder of its Unix socket.
    pub fn socket_folder(self) -> PathBuf {
        self.node.home().join("socket")
    }

    /// Its programs, where its user can reach them.
    pub fn bin(self) -> PathBuf {
        let state = self.node.state;
        match state.user.can_enter(&state.postgres_bin) {
            true => state.postgres_bin.clone(),
            false => state.home.join("postgresql-13.4/postgresql/bin"),
        }
    }

    /// What the lab's own start writes, and what the daemon's does.
    pub fn logs(self) -> [PathBuf; 2] {
        ["postgres.log", "state/postgresql.log"].map(|name| self.node.home().join(name))
    }

    fn log(self) -> PathBuf {
        let [log, _] = self.logs();
        log
    }

    /// The words of the command line that differ between the nodes.
    pub fn start_options(self) -> String {
        format!(
            "-c unix_socket_directories={} -c cluster_name=node_{}",
            self.socket_folder().display(),
            self.node.side.name()
        )
    }

    pub(super) fn prepare(self) -> Result<()> {
        let state = self.node.state;
        if self.bin() != state.postgres_bin && !self.bin().exists() {
            let installation = state.postgres_bin.ancestors().nth(2).context("a strange PostgreSQL")?;
            copy(installation, &state.home.join("postgresql-13.4"))?;
        }
        fs::create_dir_all(self.socket_folder())?;
        fs::write(self.log(), "")?;
        // The folder is the user's, as a base backup into a fresh directory beside the old one wants.
        for path in [self.node.home(), self.socket_folder(), self.log()] {
            state.user.give(&path)?;
        }
        Ok(())
    }

    /// A new cluster, running, with the roles and the table of the lab.
    pub(super) fn create_primary(self) -> Result<()> {
        self.clone_template()?;
        // Files that `initdb` made and that stay its user's: only their words are ours.
        for (file, text) in [("postgresql.conf", SETTINGS), ("pg_hba.conf", ACCESS)] {
            fs::write(self.data().join(file), text)?;
        }
        self.start()?;
        self.sql("CREATE ROLE replicator REPLICATION LOGIN")?;
        // Not a superuser: the connections kept for those are the daemon's, whatever a client does.
        self.sql("CREATE ROLE lab_writer LOGIN IN ROLE pg_read_all_settings")?;
        self.sql(
            "CREATE TABLE lab_rows (id bigint PRIMARY KEY, round int NOT NULL, at timestamptz NOT NULL DEFAULT now())",
        )?;
        self.sql("GRANT INSERT, SELECT ON lab_rows TO lab_writer")?;
        Ok(())
    }

    /// The data directory that `initdb` made once for this checkout: it takes seconds, a copy does not.
    fn clone_template(self) -> Result<()> {
        let state = self.node.state;
        let template = state::root().join("target").join(format!("postgresql-template-{}", state.user.name));
        if !template.is_dir() {
            let data = self.data();
            let mut initdb = Command::new(self.bin().join("initdb"));
            initdb.arg("--pgdata").arg(&data).args(["--username", "postgres", "--auth", "trust", "--no-sync"]);
            initdb.args(["--data-checksums", "--encoding", "UTF8", "--no-locale"]);
            self.run(initdb)?;
            // Copied under another name first: another lab may be looking for it.
            let partial = template.with_extension(&state.run);
            copy(&data, &partial)?;
            if fs::rename(&partial, &template).is_err() {
                fs::remove_dir_all(&partial)?;
            }
            return Ok(());
        }
        copy(&template, &self.data())
    }

    /// A copy of the primary that follows it through a slot.
    pub(super) fn create_standby(self, primary: &Node<'_>) -> Result<()> {
        let from = format!(
            "host={} port=5432 user=replicator application_name=node_{}",
            self.node.state.address(primary.side),
            self.node.side
        );
        let mut backup = self.node.place().command(self.bin().join("pg_basebackup"))?;
        backup.arg("--pgdata").arg(self.data()).arg("--dbname").arg(from);
        backup.args(["--write-recovery-conf", "--create-slot", "--slot", SLOT]);
        backup.args(["--checkpoint", "fast", "--wal-method", "stream", "--no-sync"]);
        self.run(backup)?;
        self.start()
    }

    /// Starts the server as the lab does before there is a daemon.
    ///
    /// # Errors
    /// It does not take connections within a minute; its log says why.
    pub fn start(self) -> Result<()> {
        let mut arguments: Vec<OsString> = vec!["-D".into(), self.data().into()];
        arguments.extend(self.start_options().split(' ').map(OsString::from));
        let (place, user) = (self.node.place(), &self.node.state.user);
        host::start(&place, Some(user), &self.log(), &self.bin().join("postgres"), &arguments)?;
        let begun = Instant::now();
        while self.sql("SELECT 1").is_err() {
            let log = || fs::read_to_string(self.log()).unwrap_or_default();
            ensure!(begun.elapsed() < START_LIMIT, "PostgreSQL on {} does not start:\n{}", self.node.side, log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Runs a program as PostgreSQL's user and waits for it.
    fn run(self, mut command: Command) -> Result<()> {
        self.node.state.user.apply(&mut command);
        let output = command.current_dir(self.node.home()).stdin(std::process::Stdio::null()).output();
        let Output { status, stderr, .. } =
            output.with_context(|| format!("cannot start {:?}", command.get_program()))?;
        ensure!(status.success(), "{:?}: {status}\n{}", command.get_program(), String::from_utf8_lossy(&stderr));
        Ok(())
    }

    /// The postmaster, when it runs.
    ///
    /// # Errors
    /// It does not.
    pub fn postmaster(self) -> Result<Pid> {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).context("no `postmaster.pid`")?;
        let pid = text.lines().next().and_then(|line| line.parse().ok()).context("no number in `postmaster.pid`")?;
        let pid = Pid::from_raw(pid);
        // The file outlives a killed server, and its number may be somebody else's by now.
        let inode = netns::inode(&self.node.netns())?;
        ensure!(netns::processes(inode).contains(&pid), "no PostgreSQL runs on {}", self.node.side);
        Ok(pid)
    }

    /// One statement through the server's own Unix socket, whatever the network is like; the first column.
    ///
    /// # Errors
    /// The server does not answer within five seconds, or refuses.
    pub fn sql(self, statement: &str) -> Result<Vec<String>> {
        self.sql_within(Duration::from_secs(5), statement)
    }

    /// The same with another limit, for whole tables.
    ///
    /// # Errors
    /// The server does not answer within the limit, or refuses.
    pub fn sql_within(self, limit: Duration, statement: &str) -> Result<Vec<String>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.socket_folder()).port(5432).user("postgres").dbname("postgres");
        let ask = async {
            let (client, connection) = config.connect(NoTls).await?;
            let driver = tokio::spawn(connection);
            let answer = client.simple_query(statement).await;
            driver.abort();
            answer
        };
        let limited = runtime.block_on(async { tokio::time::timeout(limit, ask).await });
        let answer = limited.with_context(|| format!("no answer within {limit:?} to `{statement}`"))??;
        let rows = answer.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// Whether it is a standby.
    ///
    /// # Errors
    /// It does not answer.
    pub fn in_recovery(self) -> Result<bool> {
        Ok(self.sql("SELECT pg_is_in_recovery()")? == ["t"])
    }

    /// The timeline of what it writes or receives; 0 when it does neither, or does not answer.
    pub fn timeline(self) -> u32 {
        let rows = self.sql(
            "SELECT CASE WHEN pg_is_in_recovery() THEN (SELECT received_tli::text FROM pg_stat_wal_receiver) \
             ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int::text END",
        );
        rows.ok().and_then(|rows| rows.first()?.parse().ok()).unwrap_or_default()
    }

    /// As a primary: the other node follows.
    ///
    /// # Errors
    /// It does not, or this is no primary.
    pub fn streams_to_standby(self) -> Result<()> {
        let state = self.sql("SELECT state FROM pg_stat_replication WHERE application_name LIKE 'node\\__'")?;
        ensure!(state == ["streaming"], "walsender: {state:?}");
        Ok(())
    }

    /// All rows of the lab's table.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn rows(self) -> Result<std::collections::HashSet<i64>> {
        self.ids("lab_rows")
    }

    /// The numbers of all rows of a table: millions after hours.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn ids(self, table: &str) -> Result<std::collections::HashSet<i64>> {
        let all = self.sql_within(Duration::from_secs(60), &format!("SELECT id FROM {table}"))?;
        all.iter().map(|id| Ok(id.parse()?)).collect()
    }
}

/// `cp -a`, with the owners.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let Output { status, stderr, .. } = Command::new("cp").arg("-a").arg(from).arg(to).output()?;
    ensure!(status.success(), "cp: {}", String::from_utf8_lossy(&stderr));
    Ok(())
}
