//! The clients of a chaos run: each a process on its host that reads and writes through the virtual address.
//!
//! A `set` client inserts numbered rows and looks whether its last acknowledged one is still there. A `bank` client
//! moves money between accounts in transactions and looks at the sum. What is acknowledged is told to the parent at
//! once; what is not is forgotten, as its fate is unknown, and never tried again under its number.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::lab::Side;
use crate::lab::clock;
use crate::lab::speaker::say;
use crate::lab::state::VIP;

/// The hidden verb of `harbor-ha-lab`.
pub const VERB: &str = "client";
/// Between two operations: six clients and two servers share a machine.
const PACE: Duration = Duration::from_millis(10);
/// Of a connection: a SYN that is lost is repeated by the kernel only after a second.
const CONNECT_LIMIT: Duration = Duration::from_millis(500);
/// Of one operation. A commit that waits for the standby keeps its server process for as long as it waits, so giving up
/// often would use up the server's connections: a fault that nobody asked for.
const LIMIT: Duration = Duration::from_secs(2);
/// Accounts of the bank.
pub const ACCOUNTS: i64 = 8;
/// What each begins with.
pub const BALANCE: i64 = 1000;

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Kind {
    /// Rows of a set.
    Set,
    /// Transfers between accounts.
    Bank,
}

impl Kind {
    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Bank => "bank",
        }
    }
}

/// What a client was told by a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    /// Which client: no two processes have the same number.
    pub client: u32,
    /// Whose server.
    pub by: Side,
    /// Just before it was asked, CLOCK_MONOTONIC.
    pub sent_ns: u64,
    /// Just after the answer was read.
    pub received_ns: u64,
    /// The answer.
    pub what: What,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// The row with this number is committed.
    Row(i64),
    /// The transfer with this number is committed.
    Transfer(i64),
    /// A row that had been acknowledged before the question was not there.
    Gone(i64),
    /// The sum of all accounts, when it is not what it must be.
    WrongSum(i64),
}

/// The tables, for a superuser.
pub fn tables() -> Vec<String> {
    let accounts = format!("INSERT INTO accounts SELECT id, {BALANCE} FROM generate_series(1, {ACCOUNTS}) AS id");
    [
        "CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0))",
        "CREATE TABLE transfers (id bigint PRIMARY KEY, payer int NOT NULL, payee int NOT NULL, \
         amount bigint NOT NULL)",
        "GRANT SELECT, INSERT ON transfers TO lab_writer",
        "GRANT SELECT, UPDATE ON accounts TO lab_writer",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([accounts])
    .collect()
}

/// What the hidden verb does: works until it is killed.
///
/// # Errors
/// No runtime.
pub fn work(kind: Kind, number: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut worker = Worker { kind, number, next: 0, last: None };
        loop {
            // Errors are what faults look like from here: the next attempt follows at its pace.
            if let Ok(Ok((client, by))) = timeout(CONNECT_LIMIT, open()).await {
                while let Ok(Ok(())) = timeout(LIMIT, worker.operation(&client, by)).await {
                    sleep(PACE).await;
                }
            }
            sleep(PACE).await;
        }
    })
}

struct Worker {
    kind: Kind,
    number: u32,
    next: i64,
    /// The last row that was acknowledged.
    last: Option<i64>,
}

impl Worker {
    async fn operation(&mut self, client: &Client, by: Side) -> Result<()> {
        self.next += 1;
        let id = i64::from(self.number) << 32 | self.next;
        match self.kind {
            Kind::Set => self.insert(client, by, id).await,
            Kind::Bank => {
                let moved = self.transfer(client, by, id).await;
                // A conflict with another client is no fault: the transaction is undone, the connection stays.
                let conflict = moved.as_ref().err().and_then(|why| why.downcast_ref::<tokio_postgres::Error>());
                match conflict.and_then(|why| why.code()).map(|code| code.code()) {
                    Some("40001" | "40P01") => client.batch_execute("ROLLBACK").await?,
                    _ => moved?,
                }
                self.sum(client, by).await
            }
        }
    }

    async fn insert(&mut self, client: &Client, by: Side, id: i64) -> Result<()> {
        if let Some(last) = self.last {
            let sent_ns = clock::now_ns();
            let there = number(client, &format!("SELECT count(*) FROM lab_rows WHERE id = {last}")).await?;
            if there != 1 {
                self.tell(by, sent_ns, What::Gone(last));
            }
        }
        let sent_ns = clock::now_ns();
        client.batch_execute(&format!("INSERT INTO lab_rows (id, round) VALUES ({id}, 0)")).await?;
        self.tell(by, sent_ns, What::Row(id));
        self.last = Some(id);
        Ok(())
    }

    async fn transfer(&mut self, client: &Client, by: Side, id: i64) -> Result<()> {
        // Any two accounts, in any order: conflicts and deadlocks are part of it.
        let payer = (self.next + i64::from(self.number)) % ACCOUNTS + 1;
        let payee = (payer + self.next / ACCOUNTS % (ACCOUNTS - 1)) % ACCOUNTS + 1;
        let level = if self.next % 2 == 0 { "SERIALIZABLE" } else { "REPEATABLE READ" };
        let sent_ns = clock::now_ns();
        client.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}")).await?;
        let has = number(client, &format!("SELECT balance FROM accounts WHERE id = {payer}")).await?;
        let amount = (self.next % 10 + 1).min(has);
        client
            .batch_execute(&format!(
                "UPDATE accounts SET balance = balance - {amount} WHERE id = {payer};
                 UPDATE accounts SET balance = balance + {amount} WHERE id = {payee};
                 INSERT INTO transfers VALUES ({id}, {payer}, {payee}, {amount})"
            ))
            .await?;
        client.batch_execute("COMMIT").await?;
        self.tell(by, sent_ns, What::Transfer(id));
        Ok(())
    }

    async fn sum(&self, client: &Client, by: Side) -> Result<()> {
        let sent_ns = clock::now_ns();
        let sum = number(client, "SELECT sum(balance) FROM accounts").await?;
        if sum != ACCOUNTS * BALANCE {
            self.tell(by, sent_ns, What::WrongSum(sum));
        }
        Ok(())
    }

    fn tell(&self, by: Side, sent_ns: u64, what: What) {
        say(&Told { client: self.number, by, sent_ns, received_ns: clock::now_ns(), what });
    }
}

/// A connection, and whose server it leads to.
async fn open() -> Result<(Client, Side)> {
    let mut config = tokio_postgres::Config::new();
    config.host(VIP.to_string()).user("lab_writer").dbname("postgres").application_name("lab_client");
    let (client, connection) = config.connect(NoTls).await?;
    // Ends with its client.
    tokio::spawn(connection);
    let name = first(&client, "SELECT current_setting('cluster_name')").await?;
    let by = name.trim_start_matches("node_").parse().map_err(anyhow::Error::msg)?;
    Ok((client, by))
}

async fn first(client: &Client, question: &str) -> Result<String> {
    let said = client.simple_query(question).await?;
    let row = said.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(row.context("no row")?.to_owned())
}

async fn number(client: &Client, question: &str) -> Result<i64> {
    Ok(first(client, question).await?.parse()?)
}
