//! What an operator should know before relying on this PostgreSQL. Looks, and changes nothing.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use crate::config::settings::Sync;
use crate::core::facts::PgFacts;

use super::upstream::mentions;
use super::{Pg, SqlError};

/// Settings that are judged, in the units of `pg_settings`.
const SETTINGS: &str = "SELECT name, setting FROM pg_settings WHERE name IN ('archive_mode', 'data_directory', 'fsync',
    'full_page_writes', 'hot_standby', 'listen_addresses', 'max_replication_slots', 'max_slot_wal_keep_size',
    'max_standby_streaming_delay', 'max_wal_senders', 'primary_conninfo', 'recovery_min_apply_delay',
    'restore_command', 'wal_level', 'wal_retrieve_retry_interval')
    UNION ALL SELECT 'superuser', rolsuper::text FROM pg_roles WHERE rolname = current_user";

/// Of clients. `pg_settings` would tell that of our own connection, which waits for nobody; a superuser's view.
const CLIENTS: &str = "SELECT 'synchronous_commit', coalesce((SELECT setting FROM pg_file_settings
    WHERE name = 'synchronous_commit' AND applied ORDER BY seqno DESC LIMIT 1), 'on')";

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Good,
    /// Worth knowing.
    Note,
    /// Works, and costs time or safety in a takeover.
    Warning,
    /// Something will not work.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// What was looked at, in a word or two.
    pub subject: &'static str,
    /// What is the matter and what to do, in a sentence.
    pub text: String,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, level: Level, subject: &'static str, text: impl Into<String>) {
        self.0.push(Finding { level, subject, text: text.into() });
    }

    fn add_if(&mut self, bad: bool, level: Level, subject: &'static str, text: &str) {
        if bad {
            self.add(level, subject, text);
        }
    }
}

impl Pg {
    /// Looks at the data directory, the server and the peer's server; each question has the limit for itself.
    pub async fn findings(&self, vips: &[Ipv4Addr], within: Duration) -> Vec<Finding> {
        let mut found = Findings::default();
        self.of_data_dir(&mut found);
        if let Some(facts) = self.of_server(&mut found, vips, within).await {
            self.of_peer(&mut found, &facts, within).await;
        }
        found.0
    }

    fn of_data_dir(&self, found: &mut Findings) {
        if self.major() != super::MAJOR_MIN {
            found.add(Level::Note, "version", format!("PostgreSQL {}; harbor-ha was written for 13", self.major()));
        }
        if self.rejoin_pending() {
            let text =
                format!("a rejoin is not finished (`{}`); the daemon goes on with it", self.journal_path().display());
            found.add(Level::Warning, "rejoin", text);
        }
        match self.control() {
            Ok(control) if control.can_be_rewound() => {
                found.add(Level::Good, "rewind", "wal_log_hints or data checksums are on: pg_rewind can help");
            }
            Ok(_) => found.add(
                Level::Problem,
                "rewind",
                "neither wal_log_hints nor data checksums are on, so a former primary needs a base backup: \
                 set wal_log_hints = on and restart PostgreSQL on both nodes",
            ),
            Err(error) => found.add(Level::Problem, "pg_control", error.to_string()),
        }
    }

    async fn of_server(&self, found: &mut Findings, vips: &[Ipv4Addr], within: Duration) -> Option<PgFacts> {
        if self.running().is_none() {
            found.add(Level::Problem, "server", format!("no server runs in `{}`", self.data_dir().display()));
            return None;
        }
        let asked: Result<_, SqlError> = async {
            let rows = self.ask("its settings", SETTINGS, within).await?;
            Ok((self.facts(within).await?, rows))
        }
        .await;
        let (facts, rows) = match asked {
            Ok(answers) => answers,
            Err(error) => {
                found.add(Level::Problem, "server", error.to_string());
                return None;
            }
        };
        let role = if facts.in_recovery { "standby" } else { "primary" };
        found.add(Level::Good, "server", format!("answers; {role} on timeline {} at {}", facts.timeline, facts.lsn));
        let text = |row: &tokio_postgres::SimpleQueryRow, at| row.get(at).unwrap_or_default().to_owned();
        // No superuser is a finding already.
        let of_clients = self.ask("the settings of clients", CLIENTS, within).await.unwrap_or_default();
        let settings = rows.iter().chain(&of_clients).map(|row| (text(row, 0), text(row, 1))).collect();
        let (data_dir, sync, no_limit) = (self.data_dir(), self.settings().sync, &self.no_limit());
        judge(found, &Judged { settings: &settings, data_dir, sync, vips, no_limit });
        Some(facts)
    }

    async fn of_peer(&self, found: &mut Findings, ours: &PgFacts, within: Duration) {
        let peer = match self.peer_facts(within).await {
            Ok(facts) => facts,
            Err(error) => {
                let text = format!("{error}: a rejoin needs this connection (pg_hba.conf, listen_addresses)");
                return found.add(Level::Warning, "peer", text);
            }
        };
        if peer.system_identifier != ours.system_identifier {
            let (a, b) = (ours.system_identifier, peer.system_identifier);
            found.add(Level::Problem, "peer", format!("its system identifier is {b} and ours is {a}: another cluster"));
        } else if !peer.in_recovery && !ours.in_recovery {
            found.add(Level::Problem, "peer", "both servers are primaries");
        } else if peer.in_recovery && ours.in_recovery {
            found.add(Level::Problem, "peer", "both servers are standbys");
        } else if !peer.streaming || !ours.streaming {
            found.add(Level::Warning, "peer", "answers, but the standby does not stream from the primary");
        } else {
            found.add(Level::Good, "peer", "answers, and the standby streams");
        }
    }
}

struct Judged<'a> {
    settings: &'a BTreeMap<String, String>,
    data_dir: &'a Path,
    sync: Sync,
    vips: &'a [Ipv4Addr],
    /// What to say of a `max_slot_wal_keep_size` of -1.
    no_limit: &'a str,
}

fn judge(found: &mut Findings, judged: &Judged<'_>) {
    use Level::{Note, Problem, Warning};
    let text = |name: &str| judged.settings.get(name).map_or("", String::as_str);
    let number = |name: &str| text(name).parse::<i64>().unwrap_or_default();
    let is = |name: &str, value: &str| text(name) == value;

    if Path::new(text("data_directory")) != judged.data_dir {
        let (theirs, ours) = (text("data_directory"), judged.data_dir.display());
        found.add(Problem, "server", format!("the server that answers works in `{theirs}`, not in `{ours}`"));
    }
    found.add_if(
        !is("superuser", "true"),
        Problem,
        "user",
        "is no superuser: CHECKPOINT and ALTER SYSTEM need one in 13",
    );
    found.add_if(is("fsync", "off"), Problem, "fsync", "is off: a power cut loses what was acknowledged");
    found.add_if(is("full_page_writes", "off"), Problem, "full_page_writes", "is off: pg_rewind needs it");
    found.add_if(is("wal_level", "minimal"), Problem, "wal_level", "is minimal: a standby needs replica");
    found.add_if(number("max_wal_senders") < 2, Problem, "max_wal_senders", "is below 2: standby and base backup");
    found.add_if(number("max_replication_slots") < 1, Problem, "max_replication_slots", "is 0: the peer needs a slot");
    found.add_if(is("hot_standby", "off"), Problem, "hot_standby", "is off: a standby could not be asked anything");
    let listen = text("listen_addresses");
    found.add_if(matches!(listen, "" | "localhost"), Problem, "listen_addresses", "keeps the peer out");
    let delay = number("recovery_min_apply_delay");
    found.add_if(delay > 0, Problem, "recovery_min_apply_delay", "is set: a takeover would have to replay all of it");
    let restore = !text("restore_command").is_empty();
    found.add_if(restore, Warning, "restore_command", "is set: a promotion calls it, and waits for it, several times");
    let conflict = number("max_standby_streaming_delay");
    found.add_if(
        !(0..=1000).contains(&conflict),
        Warning,
        "max_standby_streaming_delay",
        "is above one second: a query on the standby may hold up a promotion for that long",
    );
    let commit = text("synchronous_commit");
    found.add_if(
        judged.sync != Sync::Off && !matches!(commit, "" | "on" | "remote_apply"),
        Warning,
        "synchronous_commit",
        "is neither on nor remote_apply: commits do not wait until the standby's disk has them",
    );
    found.add_if(number("max_slot_wal_keep_size") < 0, Warning, "max_slot_wal_keep_size", judged.no_limit);
    let retry = number("wal_retrieve_retry_interval");
    found.add_if(
        retry > 1000,
        Note,
        "wal_retrieve_retry_interval",
        "is above one second: a standby whose stream broke waits that long, and so may commits",
    );
    let archive = !matches!(text("archive_mode"), "" | "off");
    found.add_if(archive, Note, "archive_mode", "is on: a fast shutdown waits for archive_command");
    if let Some(vip) = judged.vips.iter().find(|vip| mentions(text("primary_conninfo"), **vip)) {
        let text = format!("names the virtual address {vip}: replication must use the peer's node address");
        found.add(Problem, "primary_conninfo", text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects(changes: &[(&str, &str)]) -> Vec<&'static str> {
        let good = [
            ("archive_mode", "off"),
            ("data_directory", "/d"),
            ("fsync", "on"),
            ("full_page_writes", "on"),
            ("hot_standby", "on"),
            ("listen_addresses", "*"),
            ("max_replication_slots", "1"),
            ("max_slot_wal_keep_size", "1024"),
            ("max_standby_streaming_delay", "1000"),
            ("max_wal_senders", "2"),
            ("primary_conninfo", "host=10.0.0.12"),
            ("recovery_min_apply_delay", "0"),
            ("restore_command", ""),
            ("superuser", "true"),
            ("synchronous_commit", "on"),
            ("wal_level", "replica"),
            ("wal_retrieve_retry_interval", "1000"),
        ];
        let all = good.iter().chain(changes).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = all.collect();
        let mut found = Findings::default();
        let vips = [Ipv4Addr::new(10, 0, 0, 1)];
        judge(
            &mut found,
            &Judged {
                settings: &settings,
                data_dir: Path::new("/d"),
                sync: Sync::Required,
                vips: &vips,
                no_limit: "is -1",
            },
        );
        found.0.into_iter().map(|finding| finding.subject).collect()
    }

    #[test]
    fn good_settings_are_passed_over_in_silence() {
        assert!(subjects(&[]).is_empty());
    }

    #[test]
    fn each_bad_setting_is_found_by_its_name() {
        let bad = [
            ("archive_mode", "on"),
            ("fsync", "off"),
            ("full_page_writes", "off"),
            ("hot_standby", "off"),
            ("listen_addresses", "localhost"),
            ("max_replication_slots", "0"),
            ("max_slot_wal_keep_size", "-1"),
            ("max_standby_streaming_delay", "-1"),
            ("max_wal_senders", "1"),
            ("primary_conninfo", "host=10.0.0.1 port=5432"),
            ("recovery_min_apply_delay", "1"),
            ("restore_command", "cp"),
            ("synchronous_commit", "remote_write"),
            ("wal_level", "minimal"),
            ("wal_retrieve_retry_interval", "1001"),
        ];
        for (name, value) in bad {
            assert_eq!(subjects(&[(name, value)]), [name]);
        }
    }
}
