//! Where secrets come from, and where they must not.

use super::*;

const VRRP: (&str, &str) = ("vrrp.version", "2");

#[track_caller]
fn password(content: &str) -> Result<[u8; 8], Vec<String>> {
    let host = Fake::new().file("/p", 0o400, content);
    let text = text(&[VRRP, ("vrrp.password_file", "\"/p\"")]);
    match parse(&text, &host) {
        Ok(settings) => Ok(*settings.vrrp.password.unwrap().reveal()),
        Err(_) => Err(refusal(&text, &host)),
    }
}

#[test]
fn a_secret_in_the_file_itself_is_refused_and_never_repeated() {
    for (place, file_key) in [
        ("vrrp.password", "password_file"),
        ("pulse.key", "key_file"),
        ("postgres.password", "password_file"),
        ("postgres.replication_password", "replication_password_file"),
    ] {
        let found = refused(&[(place, "\"hunter2\"")]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(&format!("{place}: a secret has no place in this file")), "{found:?}");
        assert!(found[0].contains(&format!("use `{file_key} = ")) && !found[0].contains("hunter2"), "{found:?}");
    }
}

#[test]
fn a_secret_file_that_others_have_access_to_is_refused_with_the_chmod_that_repairs_it() {
    for mode in [0o640, 0o604, 0o620, 0o601] {
        let found = refusal(&text(&[]), &Fake::new().file("/etc/harbor-ha/pulse.key", mode, KEY));
        assert_eq!(found.len(), 1);
        assert!(
            found[0].contains(&format!("(mode {mode:04o}); run `chmod 600 /etc/harbor-ha/pulse.key`")),
            "{found:?}"
        );
    }
    for mode in [0o600, 0o400] {
        assert!(parse(&text(&[]), &Fake::new().file("/etc/harbor-ha/pulse.key", mode, KEY)).is_ok());
    }
}

#[test]
fn a_secret_file_that_is_missing_is_named() {
    refused_once(&[("postgres.password_file", "\"/none\"")], "postgres.password_file", "`/none` does not exist");
    refused_once(&[("postgres.password_file", "\"none\"")], "postgres.password_file", "begin it with `/`");
}

#[test]
fn a_secret_comes_from_the_environment_too_but_not_from_both() {
    let changes = [("postgres.password_env", "\"PG_PASSWORD\"")];
    let host = Fake::new().variable("PG_PASSWORD", "s3cret").file("/p", 0o600, "x");
    let settings = parse(&text(&changes), &host).unwrap();
    assert_eq!(settings.postgres.unwrap().password.unwrap().reveal(), "s3cret");

    let both = [changes[0], ("postgres.password_file", "\"/p\"")];
    let found = refusal(&text(&both), &host);
    assert_eq!(found, ["16: postgres.password_env: `password_file` is set too; remove one of the two"]);
}

#[test]
fn a_variable_that_is_not_set_is_not_repeated_as_its_name_may_be_the_secret() {
    for name in ["hunter2", "hunter 2", "2hunter", ""] {
        let found = refused(&[("postgres.password_env", &format!("{name:?}"))]);
        assert_eq!(found.len(), 1);
        assert!(!found[0].contains("hunter"), "{found:?}");
    }
}

#[test]
fn a_password_has_one_to_eight_bytes_and_is_zero_filled() {
    assert_eq!(password("a\n").unwrap(), *b"a\0\0\0\0\0\0\0");
    assert_eq!(password("12345678\r\n").unwrap(), *b"12345678");
    assert!(password("123456789").unwrap_err()[0].contains("has 9 bytes; use its first 8, as keepalived does"));
    assert!(password("\n").unwrap_err()[0].contains("is empty"));
    assert!(password("ab\ncd\n").unwrap_err()[0].contains("more than one line"));
}

#[test]
fn a_password_is_for_version_2_only() {
    let host = Fake::new().file("/p", 0o600, "secret").variable("P", "secret");
    let found = refusal(&text(&[("vrrp.password_file", "\"/p\"")]), &host);
    assert!(found[0].contains("vrrp.password_file: version 3 has no authentication"), "{found:?}");
    let found = refusal(&text(&[("vrrp.password_env", "\"P\"")]), &host);
    assert!(found[0].contains("vrrp.password_env: version 3 has no authentication"), "{found:?}");
}

#[test]
fn a_pulse_key_has_exactly_32_hexadecimal_digits() {
    for (content, words) in [
        (KEY[..31].to_owned(), Some("has 31 hexadecimal digits, not 32")),
        (format!("{KEY}0"), Some("has 33 hexadecimal digits, not 32")),
        (KEY.replace('f', "g"), Some("character 31 is no hexadecimal digit")),
        (format!("+{}", &KEY[1..]), Some("character 1 is no hexadecimal digit")),
        (KEY.to_uppercase(), None),
        (format!(" {KEY} \n"), None),
    ] {
        let result = parse(&text(&[]), &Fake::new().file("/etc/harbor-ha/pulse.key", 0o600, &content));
        match (result, words) {
            (Ok(settings), None) => assert_eq!(settings, accepted(&[])),
            (Err(problems), Some(words)) => assert!(problems.to_string().contains(words), "{problems}"),
            (result, _) => panic!("{content:?}: {result:?}"),
        }
    }
}

#[test]
fn a_secret_that_is_no_text_is_refused() {
    let found = refusal(&text(&[]), &Fake::new().file("/etc/harbor-ha/pulse.key", 0o600, [0xff; 16]));
    assert!(found[0].contains("is not UTF-8 text"), "{found:?}");
}

#[test]
fn without_pulses_no_key_is_asked_for() {
    let changes = [("pulse.enabled", "false"), ("pulse.key_file", "\"/none\"")];
    assert_eq!(accepted(&changes).pulse, None);
}

#[test]
fn settings_do_not_show_their_secrets() {
    let shown = format!("{:?}", accepted(&[]));
    assert!(shown.contains("key: <secret>") && !shown.contains("cc"), "{shown}");
}
