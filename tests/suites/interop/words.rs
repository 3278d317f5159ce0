//! Commands and passwords, word for word as a real keepalived reads them: it says itself what it read (`-d`).

use std::collections::BTreeMap;

use harbor_ha::config::router::Settings;
use harbor_ha_tests::lab::{Lab, Options, residue};

use super::dump::{dumped, loaded};
use super::requirements_met;

/// What may follow `notify_master`, and the quoted ones `script`.
const COMMANDS: [&str; 25] = [
    r#""/usr/bin/true a b""#,
    r#"'/usr/bin/true a b'"#,
    r#"/usr/bin/true"#,
    r#""/usr/bin/true 'a b' c""#,
    r#""/usr/bin/true \"a b\" c""#,
    r#"'/usr/bin/true "a b" c'"#,
    r#"'/usr/bin/true \'a b\' c'"#,
    r#""/usr/bin/true a\ b""#,
    r#""/usr/bin/true a\\ b""#,
    r#""/usr/bin/true a\\\\b""#,
    r#""/usr/bin/true x""y z""#,
    r#""/usr/bin/true \x41\\x42 \101""#,
    r#""/usr/bin/true ab"cd"ef""#,
    r#""/usr/bin/true ab\"c d\"ef""#,
    r#""/usr/bin/true a"'b c'"#,
    r#""/usr/bin/true {a}""#,
    r#""/usr/bin/true it's""#,
    r#"/usr/bin/t"ru"e"#,
    r#""/usr/bin/true '' x""#,
    r#""/usr/bin/true \"\" x""#,
    r#""/usr/bin/true a#b !c""#,
    r#""/usr/bin/true \#x \!y" # z"#,
    r#""/usr/bin/true \'it\' x""#,
    r#""/usr/bin/true \\'it x""#,
    r#""   /usr/bin/true   a   ""#,
];

/// What may follow `auth_pass`.
const PASSWORDS: [&str; 20] = [
    r#"secret"#,
    r#"a\b"#,
    r#""a\"b""#,
    r#"a"b"c"#,
    r#"'a b'"#,
    r#"a'b"#,
    r#""a b""#,
    r#""abc"def"#,
    r#"\x41"#,
    r#""a'b""#,
    r#"a#b"#,
    r#"a!b"#,
    r#""a#b""#,
    r#""a{b""#,
    r#"abcdefghijk"#,
    r#"a\"b"#,
    r#"a\\b"#,
    r#""a\\b""#,
    r#"$x"#,
    r#"a$b"#,
];

/// An instance for each, in the order of the lists.
fn config() -> String {
    let instance = |n: usize, more: &str| {
        format!(
            "vrrp_instance V{n} {{\n    state BACKUP\n    interface eth0\n    virtual_router_id {}\n{more}\
             \x20   virtual_ipaddress {{\n        10.77.1.{n}\n    }}\n}}\n",
            n + 1
        )
    };
    let mut text = "global_defs {\n    script_user root\n}\n".to_owned();
    for (n, command) in COMMANDS.iter().enumerate() {
        text += &format!("vrrp_script S{n} {{\n    script {command}\n    interval 60\n}}\n");
    }
    for (n, command) in COMMANDS.iter().enumerate() {
        text += &instance(n, &format!("    track_script {{\n        S{n}\n    }}\n    notify_master {command}\n"));
    }
    for (n, password) in (COMMANDS.len()..).zip(PASSWORDS) {
        let more = format!("    authentication {{\n        auth_type PASS\n        auth_pass {password}\n    }}\n");
        text += &instance(n, &more);
    }
    text
}

/// What was read: of `V3` its script or password, of `S3` its command; each word in quotes.
type Words = BTreeMap<String, String>;

fn theirs(log: &str) -> Words {
    let mut name = String::new();
    let mut words = Words::new();
    for line in log.lines() {
        // Behind the time.
        let Some((_, line)) = line.split_once(": ") else { continue };
        let line = line.trim();
        if let Some((_, found)) = line.split_once("VRRP Instance = ").or_else(|| line.split_once("VRRP Script = ")) {
            name = found.to_owned();
        }
        let command = line
            .strip_prefix("Master state transition script = ")
            .map(|found| found.split_once(", uid:gid").map_or(found, |(found, _)| found))
            .or_else(|| line.strip_prefix("Command = "));
        let password = line.strip_prefix("Password = ").map(|found| format!("'{found}'"));
        words.extend(command.map(str::to_owned).or(password).map(|found| (name.clone(), found)));
    }
    words
}

fn ours(settings: &Settings) -> Words {
    let quoted = |words: &[String]| format!("'{}'", words.join("' '"));
    let scripts = settings.trackers.scripts.iter().map(|it| (it.name.clone(), quoted(&it.run.words)));
    let notify = settings.instances.iter().filter_map(|it| {
        let padded = it.password.as_ref().map(|it| String::from_utf8(it.reveal().to_vec()).unwrap());
        let password = padded.map(|it| it.trim_end_matches('\0').to_owned());
        let words = it.notify.master.as_ref().map(|run| run.words.clone()).or(password.map(|it| vec![it]))?;
        Some((it.name.clone(), quoted(&words)))
    });
    scripts.chain(notify).collect()
}

#[test]
fn commands_and_passwords_are_read_as_keepalived_reads_them() {
    if !requirements_met("commands_and_passwords_are_read_as_keepalived_reads_them", &["keepalived"]) {
        return;
    }
    let lab = Lab::network(&Options { daemon: false, ..Options::default() }).unwrap();
    let run = lab.run().to_owned();
    let last = format!("VRRP Script = S{}", COMMANDS.len() - 1);
    let is_told = |log: &str| log.rsplit_once(&last).is_some_and(|(_, rest)| rest.contains("Command = "));
    let theirs = theirs(&dumped(&lab, &config(), is_told));
    let ours = ours(&loaded(&lab, &config()).unwrap().0);
    // Nothing was read of the one that lacks a quote, by anybody.
    assert_eq!(theirs.len(), 2 * (COMMANDS.len() - 1) + PASSWORDS.len(), "{theirs:#?}");
    for (name, words) in &theirs {
        assert_eq!(ours.get(name), Some(words), "{name}");
    }
    assert_eq!(ours.len(), theirs.len(), "{ours:#?}");
    drop(lab);
    assert_eq!(residue::of(&run), Vec::<String>::new());
}
