//! Sources of keys, and keeping them.

use super::super::tests::script::{Manner, Reply, Script};
use super::*;
use crate::config::lookup::SecretFile;
use crate::config::secret::Secret;

/// More than a test takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host with this in its file, with that mode, and nothing in its environment.
struct File(u32, String);

impl Lookup for File {
    fn file(&self, _: &Path) -> io::Result<SecretFile> {
        match self.1.as_str() {
            "" => Err(io::ErrorKind::NotFound.into()),
            text => Ok(SecretFile { mode: self.0, content: Secret::new(text.as_bytes().to_vec()) }),
        }
    }

    fn env(&self, _: &str) -> Option<OsString> {
        None
    }
}

fn read(mode: u32, text: &str) -> Result<Keys, CredentialsError> {
    from_file(&File(mode, text.to_owned()), "/k".as_ref())
}

fn shown(keys: &Keys) -> (String, String, Option<String>) {
    let open = |secret: &SecretString| secret.expose_secret().to_owned();
    (keys.id.clone(), open(&keys.secret), keys.token.as_ref().map(open))
}

#[test]
fn a_file_is_toml_or_ini_and_only_its_default_section_counts() {
    let both = (String::from("id"), String::from("s=1"), None);
    for text in [
        "access_key_id = id\naccess_key_secret = s=1\n",
        "access_key_id = \"id\"\r\naccess_key_secret = 's=1'\r\n",
        "# mine\n[default]\ntype = access_key\naccess_key_id=id\naccess_key_secret=s=1\n[other]\nsecurity_token = x\n",
        "[other]\naccess_key_id = no\n[default]\naccess_key_id = id\naccess_key_secret = s=1\n",
    ] {
        assert_eq!(shown(&read(0o600, text).unwrap()), both, "{text}");
    }
    let temporary = read(0o400, "access_key_id=id\naccess_key_secret=s\nsecurity_token=t\n").unwrap();
    assert_eq!(shown(&temporary).2.as_deref(), Some("t"));
}

#[test]
fn a_file_that_lacks_something_or_is_open_to_others_is_refused_without_repeating_it() {
    for (mode, text, says) in [
        (0o600, "", "does not exist"),
        (0o644, "access_key_id=id\naccess_key_secret=hunter2\n", "chmod 600 /k"),
        (0o600, "access_key_id=id\n", "has no `access_key_secret"),
        (0o600, "access_key_secret=hunter2\n", "has no `access_key_id"),
        (0o600, "access_key_id=id\naccess_key_secret=hunter2 and more\n", "has no `access_key_secret"),
        (0o600, "access_key_id=\naccess_key_secret=hunter2\n", "has no `access_key_id"),
    ] {
        let error = read(mode, text).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(!format!("{error}{error:?}").contains("hunter2"), "{error}");
    }
}

#[test]
fn keys_are_shown_nowhere() {
    let keys = read(0o600, "access_key_id=hunter1\naccess_key_secret=hunter2\nsecurity_token=hunter/3+=\n").unwrap();
    assert_eq!(format!("{keys:?}"), "Keys { expires: None, .. }");
    assert!(!format!("{:?}", keys.signer().secret).contains("hunter"));
    let scrubbed = keys.scrub("a hunter1 b\nhunter2 c hunter/3+= d hunter%2F3%2B%3D e hunter%252F3%252B%253D f");
    assert_eq!(scrubbed, "a <secret> b <secret> c <secret> d <secret> e <secret> f");
}

fn keys(expires: Option<u64>) -> Keys {
    Keys { id: "id".into(), secret: "s".to_owned().into(), token: None, expires }
}

#[test]
fn what_expires_is_due_a_quarter_of_an_hour_before() {
    let mut state = State::default();
    let (fetched, second) = (Instant::now(), Duration::from_secs(1));
    assert!(state.is_due(0, fetched));
    state.succeeded(keys(Some(10_000)), From::Role, fetched);
    assert!(!state.is_due(9_099, fetched) && state.is_due(9_100, fetched) && state.is_due(20_000, fetched));
    state.succeeded(keys(None), From::Environment, fetched);
    assert!(!state.is_due(u64::MAX, fetched + 1_000_000 * second));
    state.succeeded(keys(None), From::File, fetched);
    assert!(!state.is_due(5_000, fetched + 59 * second) && state.is_due(5_000, fetched + 60 * second));
    state.distrusted = true;
    assert!(state.is_due(5_000, fetched));
}

#[test]
fn a_refresh_that_fails_waits_longer_each_time_and_one_that_succeeds_forgets_that() {
    let mut state = State::default();
    let mut waits = Vec::new();
    let now = Instant::now();
    for _ in 0..20 {
        state.failed(now);
        waits.push((state.next.unwrap() - now).as_secs());
    }
    assert_eq!(waits[..6], [2, 4, 8, 16, 32, 60]);
    assert_eq!(waits.last(), Some(&60));
    let minute = Duration::from_secs(60);
    assert!(state.waits(now) && !state.waits(now + minute));
    state.succeeded(keys(None), From::Role, now);
    assert_eq!((state.waits(now), state.failures), (false, 0));
}

#[test]
fn a_clock_that_is_set_back_after_a_failure_makes_no_longer_wait_of_it() {
    let mut state = State::default();
    let (now, minute) = (Instant::now(), Duration::from_secs(60));
    let (end, hours) = (100_000, 5 * 3600);
    state.succeeded(keys(Some(end)), From::Role, now);
    assert!(state.is_due(end, now) && !state.waits(now));
    state.failed(now);
    // Then the service does not accept them, whatever this host's clock says by now.
    state.distrusted = true;
    assert!(state.is_due(end - hours, now + minute) && !state.waits(now + minute));
}

fn role(name: &str, end: &str) -> Reply {
    Reply::ok(&format!(
        r#"{{"Code": "Success", "AccessKeyId": "{name}", "AccessKeySecret": "s", "SecurityToken": "t", "Expiration": "{end}"}}"#
    ))
}

async fn keeper(source: CredentialSource, host: File, replies: Vec<Reply>) -> (Keeper, Script) {
    let script = Script::start(replies).await;
    let metadata = Arc::new(Metadata::new(&script.endpoint(), true, PATIENCE).unwrap());
    (Keeper::new(source, "/k".as_ref(), Some("r".to_owned()), metadata, Arc::new(host)), script)
}

fn nothing() -> File {
    File(0o600, String::new())
}

#[tokio::test]
async fn keys_that_end_soon_are_replaced_and_kept_when_there_are_no_new_ones() {
    let soon = "2001-01-01T00:00:00Z";
    let replies = vec![Reply::ok("t"), role("first", soon), role("second", soon), Reply::of(500, "")];
    let (keeper, script) = keeper(CredentialSource::RamRole, nothing(), replies).await;
    for expected in ["first", "second", "second", "second"] {
        let (keys, from) = keeper.current(PATIENCE).await.unwrap();
        assert_eq!((keys.id.as_str(), from), (expected, From::Role));
    }
    assert_eq!(script.asked().len(), 4, "a refresh that failed is not tried again at once");
}

#[tokio::test]
async fn a_metadata_service_that_hangs_takes_no_keys_away_whoever_gives_up_first() {
    let soon = "2001-01-01T00:00:00Z";
    let replies = vec![Reply::ok("t"), role("first", soon), Reply::manner(Manner::Silent)];
    let (keeper, _script) = keeper(CredentialSource::RamRole, nothing(), replies).await;
    keeper.current(PATIENCE).await.unwrap();
    // A caller whose time is over takes the fetch with it.
    assert!(tokio::time::timeout(Duration::from_millis(20), keeper.current(PATIENCE)).await.is_err());
    assert_eq!(keeper.current(PATIENCE).await.unwrap().0.id, "first", "and the next one does not try again at once");

    let replies = vec![Reply::ok("t"), role("first", soon), Reply::manner(Manner::Silent)];
    let (keeper, _script) = super::tests::keeper(CredentialSource::RamRole, nothing(), replies).await;
    keeper.current(PATIENCE).await.unwrap();
    assert_eq!(keeper.current(Duration::from_millis(20)).await.unwrap().0.id, "first");
}

#[tokio::test]
async fn keys_that_last_are_fetched_once_and_again_when_the_service_does_not_accept_them() {
    let late = "2999-01-01T00:00:00Z";
    let (keeper, script) =
        keeper(CredentialSource::RamRole, nothing(), vec![Reply::ok("t"), role("first", late), role("second", late)])
            .await;
    let (first, _) = keeper.current(PATIENCE).await.unwrap();
    assert!(Arc::ptr_eq(&first, &keeper.current(PATIENCE).await.unwrap().0));
    assert_eq!(script.asked().len(), 2);
    keeper.distrust(&first).await;
    let (second, _) = keeper.current(PATIENCE).await.unwrap();
    assert_eq!(second.id, "second");
    // Somebody who still held the old ones.
    keeper.distrust(&first).await;
    assert!(Arc::ptr_eq(&second, &keeper.current(PATIENCE).await.unwrap().0));
}

#[tokio::test]
async fn without_being_told_each_source_is_tried_and_all_are_named_when_none_has_keys() {
    let (keeper_of_file, _script) =
        keeper(CredentialSource::Auto, File(0o600, "access_key_id=id\naccess_key_secret=s".into()), vec![]).await;
    assert_eq!(keeper_of_file.current(PATIENCE).await.unwrap().1, From::File);
    let (keeper_of_role, _script) =
        keeper(CredentialSource::Auto, nothing(), vec![Reply::ok("t"), role("r", "2999-01-01T00:00:00Z")]).await;
    assert_eq!(keeper_of_role.current(PATIENCE).await.unwrap().1, From::Role);
    let (open, script) =
        keeper(CredentialSource::Auto, File(0o644, "access_key_id=id\naccess_key_secret=s".into()), vec![]).await;
    assert!(matches!(open.current(PATIENCE).await, Err(CredentialsError::Open { .. })));
    assert!(script.asked().is_empty(), "a mistake is not passed over");

    let (none, _script) = keeper(CredentialSource::Auto, nothing(), vec![Reply::of(404, "")]).await;
    let error = none.current(PATIENCE).await.unwrap_err().to_string();
    for part in ["ALIBABA_CLOUD_ACCESS_KEY_ID", "`/k`", "RAM role"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[tokio::test]
async fn keys_of_a_role_that_lack_something_are_none() {
    let incomplete =
        Reply::ok(r#"{"Code": "Success", "AccessKeyId": "a", "AccessKeySecret": "s", "SecurityToken": "t"}"#);
    let (keeper, _script) = keeper(CredentialSource::RamRole, nothing(), vec![Reply::ok("t"), incomplete]).await;
    assert_eq!(
        keeper.current(PATIENCE).await.unwrap_err().to_string(),
        "the RAM role: instance metadata gave no Expiration that can be read"
    );
}
