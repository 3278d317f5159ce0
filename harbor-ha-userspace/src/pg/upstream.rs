//! What a standby connects to its primary with: `primary_conninfo` and the passfile that it names.
//!
//! Two quotings lie one in the other: libpq's of each value, and PostgreSQL's of the setting (`settings`). The password
//! is in neither, but in a file of the owner's, so that no `SHOW` and no log shows it.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use crate::config::settings::Postgres;

use super::settings::write_owned;
use super::{Pg, RejoinError};

/// Password of `replication_user`, inside the data directory: the one place that its owner can read for certain.
const PASSFILE: &str = "harbor_ha.pgpass";

impl Pg {
    /// What the WAL receiver connects with: the peer's node address.
    ///
    /// # Errors
    /// That is a virtual address: shutting the gate would cut the stream that carries the shutdown checkpoint, and a
    /// standby that takes the address over would follow itself.
    pub(super) fn primary_conninfo(&self) -> Result<String, RejoinError> {
        conninfo(self.settings(), self.data_dir())
    }

    /// Writes the passfile that `primary_conninfo` names, when a password is configured.
    pub(super) fn write_passfile(&self) -> Result<(), RejoinError> {
        let Some(password) = &self.settings().replication_password else { return Ok(()) };
        let path = self.in_data_dir(PASSFILE);
        let line = passfile_line(self.settings(), password.reveal()).map_err(RejoinError::files(&path))?;
        write_owned(&path, line.as_bytes(), 0o600, self.owner()).map_err(RejoinError::files(&path))
    }
}

fn conninfo(settings: &Postgres, data_dir: &Path) -> Result<String, RejoinError> {
    if let Some(vip) = settings.vips.iter().find(|vip| settings.peer == IpAddr::V4(**vip)) {
        return Err(RejoinError::UpstreamIsVip { vip: *vip });
    }
    let mut conninfo = format!(
        "host={} port={} user={} application_name={} connect_timeout=5",
        settings.peer,
        settings.port,
        conninfo_value(&settings.replication_user),
        conninfo_value(&settings.name),
    );
    if settings.replication_password.is_some() {
        let passfile = data_dir.join(PASSFILE);
        conninfo.push_str(&format!(" passfile={}", conninfo_value(&passfile.to_string_lossy())));
    }
    Ok(conninfo)
}

fn passfile_line(settings: &Postgres, password: &str) -> io::Result<String> {
    let lines = [settings.replication_user.as_str(), password];
    if lines.iter().any(|text| text.contains(['\n', '\r', '\0'])) {
        // libpq reads line by line, and would take the rest of a password for another entry.
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a passfile cannot hold a name or password of two lines",
        ));
    }
    let field = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
    let (user, password) = (field(&settings.replication_user), field(password));
    Ok(format!("{}:{}:*:{user}:{password}\n", field(&settings.peer.to_string()), settings.port))
}

/// A value of a libpq connection string.
pub(super) fn conninfo_value(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// The address as a whole word, so that 10.0.0.1 is not found in 10.0.0.12.
pub(super) fn mentions(conninfo: &str, address: Ipv4Addr) -> bool {
    let address = address.to_string();
    conninfo.split(|c: char| !(c.is_ascii_digit() || c == '.')).any(|word| word == address)
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use crate::config::secret::Secret;
    use crate::config::settings::Sync;

    use super::*;

    /// Of nobody.
    pub(in crate::pg) fn settings() -> Postgres {
        Postgres {
            data_dir: "/d".into(),
            bin_dir: "/b".into(),
            port: 5432,
            socket_dir: "/s".into(),
            user: "postgres".to_owned(),
            dbname: "postgres".to_owned(),
            replication_user: r"o'brien \ co".to_owned(),
            password: None,
            replication_password: Some(Secret::new(r"a:b\c'd e".to_owned())),
            peer: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
            vips: vec![Ipv4Addr::new(10, 0, 0, 5)],
            slot: "harbor_ha".to_owned(),
            name: "a".to_owned(),
            peer_name: "b".to_owned(),
            sync: Sync::Required,
            max_lag: 0,
            keep_old: false,
            start_options: String::new(),
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_secs(1),
            probe_fall: 3,
            stop_timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn names_and_paths_may_hold_what_they_like() {
        let conninfo = conninfo(&settings(), Path::new(r"/it's a \ dir")).unwrap();
        assert_eq!(
            conninfo,
            r"host=10.0.0.2 port=5432 user='o\'brien \\ co' application_name=a connect_timeout=5 ".to_owned()
                + r"passfile='/it\'s a \\ dir/harbor_ha.pgpass'"
        );
        // libpq's own rules, in another implementation.
        let without = conninfo.split(" passfile").next().unwrap();
        let parsed: tokio_postgres::Config = without.parse().unwrap();
        assert_eq!(parsed.get_user(), Some(r"o'brien \ co"));
    }

    #[test]
    fn a_passfile_has_one_line_or_is_refused() {
        let settings = settings();
        let line = passfile_line(&settings, r"a:b\c'd e").unwrap();
        assert_eq!(line, "10.0.0.2:5432:*:o'brien \\\\ co:a\\:b\\\\c'd e\n");
        for bad in ["a\nb", "a\rb", "a\0b"] {
            assert!(passfile_line(&settings, bad).is_err());
        }
    }

    #[test]
    fn a_virtual_address_is_no_upstream() {
        let mut settings = settings();
        settings.vips.push(Ipv4Addr::new(10, 0, 0, 2));
        let refused = conninfo(&settings, Path::new("/d"));
        assert!(matches!(refused, Err(RejoinError::UpstreamIsVip { vip }) if vip == Ipv4Addr::new(10, 0, 0, 2)));
    }

    #[test]
    fn an_address_is_found_as_a_whole_word_only() {
        let vip = Ipv4Addr::new(10, 0, 0, 1);
        assert!(mentions("host=10.0.0.1 port=5432", vip) && mentions("host='10.0.0.1'", vip));
        assert!(!mentions("host=10.0.0.12 port=5432", vip) && !mentions("host=110.0.0.1", vip));
    }

    #[test]
    fn a_value_is_quoted_only_when_it_must_be() {
        assert_eq!(conninfo_value("ecs-253.x"), "ecs-253.x");
        assert_eq!(conninfo_value(""), "''");
        assert_eq!(conninfo_value(r"a b'\"), r"'a b\'\\'");
    }
}
