use super::*;

const MASTER: &str = include_str!("testdata/keepalived-master.conf");
const BACKUP: &str = include_str!("testdata/keepalived-backup.conf");

fn options(pair: Option<Pair>) -> Options {
    Options { config_id: "node1".into(), secrets_dir: "/etc/harbor-ha".into(), pair }
}

fn pair() -> Pair {
    Pair {
        data_dir: "/var/lib/pgsql/13/data".into(),
        bin_dir: "/usr/pgsql-13/bin".into(),
        pulse_key_file: "/etc/harbor-ha/pulse.key".into(),
        isolated: "hold".into(),
        names: None,
        keep_notify: false,
    }
}

/// HARBOR_HA_REWRITE=1 writes what is found as what is expected, to be looked at in the diff.
#[track_caller]
fn golden(name: &str, text: &str, pair: Option<Pair>) {
    let import = keepalived::import(Path::new("keepalived.conf"), text, &options(pair), &host::Host);
    let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
    assert_eq!(import.verdicts.len(), lines, "every line is accounted for");
    assert!(!import.loses());
    let found = format!("{}\n{}", table(&import.verdicts), import.toml.as_ref().unwrap());
    assert!(!found.contains("111111"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/import/testdata").join(name);
    if std::env::var_os("HARBOR_HA_REWRITE").is_some() {
        fs::write(&path, &found).unwrap();
    }
    assert_eq!(found, fs::read_to_string(&path).unwrap(), "{}", path.display());
}

#[test]
fn both_nodes_of_a_usual_pair_are_imported_line_by_line() {
    golden("master.txt", MASTER, None);
    golden("backup.txt", BACKUP, None);
}

#[test]
fn the_same_node_becomes_one_of_a_pair() {
    golden("master-pair.txt", MASTER, Some(pair()));
}

/// The folder's files, with their modes.
fn files(folder: &Path) -> Vec<(String, u32)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().permissions().mode() & 0o777))
        .collect();
    files.sort();
    files
}

fn arguments(file: &Path, output: &Path, force: bool) -> Arguments {
    Arguments {
        file: file.to_owned(),
        output: Some(output.to_owned()),
        force,
        config_id: None,
        dry_run: false,
        pair: ForPair {
            postgres: None,
            bin_dir: None,
            pulse_key_file: "/k".into(),
            isolated: Isolated::Hold,
            name: None,
            peer_name: None,
            keep_notify: false,
        },
    }
}

#[test]
fn what_is_written_is_closed_to_others_and_can_be_read_by_check() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("keepalived.conf"), folder.path().join("harbor-ha.toml"));
    fs::write(&old, MASTER).unwrap();
    assert_eq!(run(&arguments(&old, &new, false)), Ok(ExitCode::from(0)));
    let names: Vec<_> = files(folder.path()).into_iter().filter(|(name, _)| name != "keepalived.conf").collect();
    assert_eq!(names, [("harbor-ha.toml".to_owned(), 0o600), ("vi-1.password".to_owned(), 0o600)]);
    let crate::config::Configuration::Router(settings) = crate::config::read(&new).unwrap() else { panic!() };
    assert_eq!(settings.instances[0].password.as_ref().unwrap().reveal(), b"111111\0\0");
}

#[test]
fn a_file_that_is_there_is_replaced_by_force_only_and_then_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("keepalived.conf"), folder.path().join("new.toml"));
    fs::write(&old, MASTER).unwrap();
    let password = folder.path().join("vi-1.password");
    fs::write(&password, "kept").unwrap();
    fs::set_permissions(&password, Permissions::from_mode(0o644)).unwrap();
    // The password's file stands in the way of the other one too: nothing is written halfway.
    assert_eq!(run(&arguments(&old, &new, false)), Err(ExitCode::from(CANNOT_CREATE)));
    assert!(!new.exists() && fs::read_to_string(&password).unwrap() == "kept");
    assert_eq!(run(&arguments(&old, &new, true)), Ok(ExitCode::from(0)));
    assert_eq!(fs::read_to_string(&password).unwrap(), "111111\n");
    assert!(files(folder.path()).iter().all(|(name, mode)| name == "keepalived.conf" || *mode == 0o600));
    assert_eq!(files(folder.path()).len(), 3);
}

#[test]
fn the_status_tells_whether_something_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("keepalived.conf"), folder.path().join("new.toml"));
    fs::write(&old, MASTER.replace("nopreempt", "use_vmac")).unwrap();
    assert_eq!(run(&arguments(&old, &new, false)), Ok(ExitCode::from(LOST)));
    fs::write(&old, "virtual_server 10.0.0.1 80 {\n}\n").unwrap();
    assert_eq!(run(&arguments(&old, &new, true)), Err(ExitCode::from(CONFIG)));
    assert_eq!(run(&arguments(&folder.path().join("none"), &new, true)), Err(ExitCode::from(USAGE)));
}

#[test]
fn an_old_file_runs_as_it_is_with_its_password_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("keepalived.conf");
    fs::create_dir(folder.path().join("conf.d")).unwrap();
    fs::write(&old, "include conf.d/*.conf\n").unwrap();
    fs::write(folder.path().join("conf.d/a.conf"), BACKUP).unwrap();
    fs::write(folder.path().join("conf.d/b.txt"), "not this one\n").unwrap();
    let with = super::super::WithConfig { config: old.clone() };
    let (configuration, verdicts) = with.any().unwrap();
    let crate::config::Configuration::Router(settings) = configuration else { panic!() };
    assert_eq!(settings.instances[0].password.as_ref().unwrap().reveal(), b"111111\0\0");
    assert_eq!(verdicts.len(), 1 + BACKUP.lines().filter(|line| !line.trim().is_empty()).count());
    // A name that says nothing: the statements do.
    let other = folder.path().join("config");
    fs::write(&other, BACKUP).unwrap();
    assert!(super::super::WithConfig { config: other }.any().is_ok());
    assert!(!host::is_keepalived(Path::new("x.toml"), || BACKUP.to_owned()));
}
