use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::lookup::SecretFile;
use super::secret::Secret;
use super::settings::{Settings, VrrpVersion};
use super::*;

mod cloud;
pub(super) mod example;
mod lease;
mod limits;
mod observe;
mod secrets;

/// A host that exists only here.
#[derive(Default)]
pub(super) struct Fake {
    files: BTreeMap<PathBuf, (u32, Vec<u8>)>,
    variables: BTreeMap<String, String>,
}

const KEY: &str = "00112233445566778899aabbccddeeff";

impl Fake {
    pub(super) fn new() -> Self {
        Self::default().file("/etc/harbor-ha/pulse.key", 0o600, format!("{KEY}\n"))
    }

    pub(super) fn file(mut self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Self {
        self.files.insert(path.into(), (mode, content.as_ref().to_owned()));
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }
}

impl Lookup for Fake {
    fn file(&self, path: &Path) -> io::Result<SecretFile> {
        let (mode, content) = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(SecretFile { mode: *mode, content: Secret::new(content.clone()) })
    }

    fn env(&self, name: &str) -> Option<OsString> {
        self.variables.get(name).map(OsString::from)
    }
}

/// The shortest configuration that runs, and one line for each key so that a test can point at it.
const BASE: [(&str, &[(&str, &str)]); 5] = [
    (
        "node",
        &[
            ("interface", "\"eth0\""),
            ("address", "\"10.0.0.1\""),
            ("peer", "\"10.0.0.2\""),
            ("vips", "[\"10.0.0.5/32\"]"),
        ],
    ),
    ("vrrp", &[("vrid", "51"), ("priority", "100")]),
    ("pulse", &[("key_file", "\"/etc/harbor-ha/pulse.key\"")]),
    (
        "postgres",
        &[("data_dir", "\"/data\""), ("bin_dir", "\"/bin\""), ("name", "\"node1\""), ("peer_name", "\"node2\"")],
    ),
    ("lease", &[("isolated", "\"hold\"")]),
];

/// [`BASE`] with other values; `""` leaves a key out, a whole table when the key is `""` too.
fn text(changes: &[(&str, &str)]) -> String {
    let mut tables: Vec<(&str, Vec<(&str, &str)>)> = BASE.iter().map(|(name, keys)| (*name, keys.to_vec())).collect();
    for (place, value) in changes {
        let (table, key) = place.split_once('.').unwrap();
        if !tables.iter().any(|(name, _)| *name == table) {
            tables.push((table, Vec::new()));
        }
        let (_, keys) = tables.iter_mut().find(|(name, _)| *name == table).unwrap();
        keys.retain(|(name, _)| !key.is_empty() && *name != key);
        if !value.is_empty() {
            keys.push((key, value));
        }
    }
    tables.retain(|(_, keys)| !keys.is_empty());
    let lines =
        |keys: &[(&str, &str)]| keys.iter().map(|(key, value)| format!("{key} = {value}\n")).collect::<String>();
    tables.iter().map(|(name, keys)| format!("[{name}]\n{}", lines(keys))).collect()
}

#[track_caller]
fn accepted(changes: &[(&str, &str)]) -> Settings {
    match parse(&text(changes), &Fake::new()) {
        Ok(settings) => settings,
        Err(problems) => panic!("{changes:?} should be accepted:\n{problems}"),
    }
}

/// The problems, without the name of the file.
#[track_caller]
fn refused(changes: &[(&str, &str)]) -> Vec<String> {
    refusal(&text(changes), &Fake::new())
}

#[track_caller]
fn refusal(text: &str, host: &Fake) -> Vec<String> {
    match parse(text, host) {
        Ok(_) => panic!("should be refused:\n{text}"),
        Err(problems) => problems.to_string().lines().map(|line| line.replacen("harbor-ha.toml:", "", 1)).collect(),
    }
}

/// One problem, at `place`, that says `words`.
#[track_caller]
fn refused_once(changes: &[(&str, &str)], place: &str, words: &str) {
    let found = refused(changes);
    let [problem] = found.as_slice() else { panic!("one problem expected: {found:#?}") };
    assert!(problem.contains(&format!(" {place}: ")) && problem.contains(words), "{problem}");
}

#[test]
fn the_shortest_configuration_is_accepted_and_its_values_arrive() {
    let settings = accepted(&[]);
    assert_eq!(settings.node.interface, "eth0");
    assert_eq!(settings.node.vips.len(), 1);
    assert_eq!((settings.vrrp.vrid.as_u8(), settings.vrrp.priority.0), (51, 100));
    assert_eq!(settings.vrrp.version, VrrpVersion::V3);
    let pulse = settings.pulse.unwrap();
    assert_eq!(pulse.key.reveal()[..3], [0x00, 0x11, 0x22]);
    assert_eq!(pulse.interval, Duration::from_millis(20));
    let postgres = settings.postgres.unwrap();
    assert_eq!(postgres.peer, std::net::IpAddr::V4(settings.node.peer));
    assert_eq!(postgres.peer_name, "node2");
}

#[test]
fn without_its_table_postgresql_is_left_alone() {
    assert_eq!(accepted(&[("postgres.", "")]).postgres, None);
}

#[test]
fn all_problems_are_reported_at_once_in_the_order_of_their_lines() {
    let found = refused(&[
        ("node.vips", "[\"10.0.0.5\"]"),
        ("vrrp.priority", "300"),
        ("vrrp.treshold", "3"),
        ("pulse.interval", "20"),
        ("postgres.slot", "\"Harbor\""),
        ("realtime.priority", "100"),
        ("pusle.port", "1"),
    ]);
    assert_eq!(
        found,
        [
            "5: node.vips[0]: the prefix length is missing; use \"10.0.0.5/32\" instead of \"10.0.0.5\"",
            "8: vrrp.priority: 300 is outside 1 to 254; use 254 or less",
            "9: vrrp.treshold: is unknown; remove it, or see the commented example for the keys there are",
            "12: pulse.interval: 20 has no unit; use \"20ms\"",
            "18: postgres.slot: \"Harbor\" is no name of a slot, which has a-z, 0-9 and `_`; use \"harbor\"",
            "22: realtime.priority: 100 is outside 0 to 99; use 99 or less",
            "23: pusle: is no table of this file; did you mean [pulse]?",
        ]
    );
}

#[test]
fn a_wrong_value_hides_no_contradiction_between_others() {
    let found = refused(&[
        ("node.peer", "\"10.0.0.1\""),
        ("node.instance", "\"\""),
        ("vrrp.priority", "0"),
        ("vrrp.preempt", "true"),
        ("vrrp.adverts", "false"),
        ("pulse.enabled", "false"),
        ("pulse.port", "0"),
        ("postgres.peer_name", "\"node1\""),
        ("postgres.port", "0"),
    ]);
    let keys: Vec<_> = found.iter().map(|problem| problem.split(": ").nth(1).unwrap()).collect();
    let expected = ["node.peer", "node.instance", "vrrp.priority", "vrrp.preempt", "vrrp.adverts", "pulse.port"];
    assert_eq!(keys, [&expected[..], &["postgres.peer_name", "postgres.port"]].concat());
}

#[test]
fn a_problem_names_its_file_line_and_key() {
    let problems = parse(&text(&[("vrrp.vrid", "0")]), &Fake::new()).unwrap_err();
    let shown = problems.in_file(Path::new("/etc/harbor-ha/a.toml")).to_string();
    assert_eq!(shown, "/etc/harbor-ha/a.toml:8: vrrp.vrid: 0 is outside 1 to 255; use 1 or more");
}

#[test]
fn a_mistake_in_the_toml_is_one_problem_with_its_line() {
    let found = refusal("[node]\ninterface = \"eth0\"\naddress = \n[vrrp]\nvrid = = 3\n", &Fake::new());
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("3: is not TOML: "), "{found:?}");

    let found = refusal(&text(&[("node.address", "10.0.0.1")]), &Fake::new());
    assert_eq!(found, ["5: is not TOML: invalid float; text needs quotes, like \"10.0.0.1\""]);
}

#[test]
fn an_empty_file_lacks_each_key_that_must_be_set() {
    let found = refusal("", &Fake::new());
    let keys: Vec<_> = found.iter().map(|problem| problem.trim().split(':').next().unwrap()).collect();
    assert_eq!(
        keys,
        [
            "node.interface",
            "node.address",
            "node.peer",
            "node.vips",
            "pulse.key_file",
            "lease.isolated",
            "vrrp.vrid",
            "vrrp.priority"
        ]
    );
    assert!(found[0].ends_with("is missing; add `interface = \"eth0\"` under the header `[node]`"), "{found:?}");
}

#[test]
fn a_key_that_is_missing_is_reported_at_its_table() {
    assert_eq!(refused(&[("vrrp.vrid", "")]), ["6: vrrp.vrid: is missing; add `vrid = 51`"]);
}

#[test]
fn an_unknown_key_comes_with_the_one_that_was_meant() {
    refused_once(&[("pulse.treshold", "3")], "pulse.treshold", "did you mean `threshold`?");
    refused_once(&[("node.priority", "3")], "node.priority", "move it to [vrrp]");
    refused_once(&[("vrrp.advert_int", "1")], "vrrp.advert_int", "keepalived's word; use vrrp.advert_interval");
    refused_once(&[("node.colour", "1")], "node.colour", "is unknown; remove it");
}

#[test]
fn a_key_before_the_first_table_is_sent_home() {
    let found = refusal(&format!("interface = \"eth0\"\n{}", text(&[])), &Fake::new());
    assert_eq!(found, ["1: interface: is out of place; move it to [node]"]);
}

#[test]
fn a_section_that_is_no_table_is_named() {
    let found = refusal(&text(&[("kernel.", "")]).replace("[vrrp]", "[[vrrp]]"), &Fake::new());
    assert!(found.iter().any(|problem| problem.starts_with("6: vrrp: is a list; use one table")), "{found:?}");
}

#[test]
fn a_file_that_is_missing_unreadable_or_binary_is_named_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none.toml");
    assert_eq!(
        load(&missing).unwrap_err().to_string(),
        format!("{}: does not exist; name the configuration with `--config FILE`", missing.display())
    );
    assert!(load(dir.path()).unwrap_err().to_string().ends_with("is a directory; name the file in it"));
    let binary = dir.path().join("binary.toml");
    std::fs::write(&binary, b"[node]\n\n\xff\xfe").unwrap();
    assert!(
        load(&binary).unwrap_err().to_string().ends_with("binary.toml:3: is not UTF-8 text; save the file as UTF-8")
    );
}

#[test]
fn a_file_is_loaded_with_the_secrets_that_it_names() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("pulse.key");
    std::fs::write(&key, KEY).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = dir.path().join("harbor-ha.toml");
    std::fs::write(&file, text(&[("pulse.key_file", &format!("{key:?}"))])).unwrap();
    assert_eq!(load(&file).unwrap(), accepted(&[]));
}
