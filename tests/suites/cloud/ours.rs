//! The daemon's own client against the double: every call of it, what it makes of refusals and faults, and that it is
//! refused when somebody has changed what it signed.

use std::fmt::Write as _;
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use harbor_ha::cloud::{Cloud, CloudError};
use harbor_ha::config::settings::Endpoint;
use harbor_ha::config::settings::cloud::{Cloud as Settings, CredentialSource, Fence};
use harbor_ha_tests::cloud::Double;
use harbor_ha_tests::cloud::fault::Fault;
use harbor_ha_tests::cloud::keys::MARK;
use harbor_ha_tests::cloud::scenario::{ids, no_cards, pair};
use harbor_ha_tests::cloud::tamper::{Proxy, Tamper};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{A, B, double, double_of, logs};

/// Of a call that is expected to come to something.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of one that is not.
const SHORT: Duration = Duration::from_secs(2);

/// A client, with its key in a file.
struct Ours {
    cloud: Cloud,
    _folder: TempDir,
}

fn endpoint(at: SocketAddr) -> Endpoint {
    Endpoint { tls: false, host: at.ip().to_string(), port: at.port() }
}

fn settings(service: SocketAddr, metadata: SocketAddr, credentials: CredentialSource, file: PathBuf) -> Settings {
    Settings {
        region: None,
        havip: Some(ids::HAVIP.into()),
        address: [10, 77, 0, 100].into(),
        eip: Some(ids::EIP.into()),
        instance: None,
        peer_instance: B.into(),
        vswitch: None,
        credentials,
        credentials_file: file,
        ram_role: None,
        vpc_endpoint: Some(endpoint(service)),
        ecs_endpoint: Some(endpoint(service)),
        metadata_endpoint: endpoint(metadata),
        connect_timeout: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        follow_deadline: Duration::from_secs(30),
        poll_interval: Duration::from_secs(60),
        fence: Fence { unassociate: false, stop: false, dry_run: false, cooldown: Duration::ZERO, limit: 3 },
    }
}

impl Ours {
    /// With the owner's key, or with this secret in its place.
    fn with_secret(service: SocketAddr, double: &Double, secret: &str, patience: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("alibaba.credentials");
        let text = format!("access_key_id = \"{}\"\naccess_key_secret = \"{secret}\"\n", ids::KEY);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        let settings = settings(service, double.listen()[0], CredentialSource::File, file);
        Self { cloud: Cloud::new(&settings, patience).unwrap(), _folder: folder }
    }

    fn of(double: &Double) -> Self {
        Self::with_secret(double.listen()[0], double, &format!("{MARK}-of-owner"), PATIENCE)
    }

    /// As an instance, with the key of its role.
    fn of_role(service: SocketAddr, double: &Double, patience: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("none");
        let settings = settings(service, double.listen()[0], CredentialSource::RamRole, file);
        Self { cloud: Cloud::new(&settings, patience).unwrap(), _folder: folder }
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn settle(double: &Double) {
    double.remote().order("settle", &Value::Null).unwrap();
}

fn fault(double: &Double, text: Value) {
    double.remote().fault(&serde_json::from_value::<Fault>(text).unwrap()).unwrap();
}

#[test]
fn every_call_of_ours_does_what_it_says() {
    logs::capture();
    let double = double();
    let ours = Ours::of(&double);
    let (havip, eip, ecs) = (ours.cloud.havip(), ours.cloud.eip(), ours.cloud.ecs());
    run(async {
        assert_eq!(ours.cloud.region().await.unwrap(), ids::REGION, "by metadata, hardened");
        assert_eq!(ours.cloud.instance().await.unwrap(), A);
        assert_eq!(ours.cloud.vswitch().await.unwrap(), ids::VSWITCH);

        let found = havip.describe(ids::HAVIP).await.unwrap().unwrap();
        assert_eq!((found.members, found.master), (vec![A.to_owned(), B.to_owned()], None));
        assert_eq!(havip.describe("havip-none").await.unwrap(), None);
        let found = havip.find(ids::VSWITCH, [10, 77, 0, 100].into()).await.unwrap().unwrap();
        assert_eq!(found.id, ids::HAVIP);

        let id = havip.create(ids::VSWITCH, [10, 77, 0, 50].into()).await.unwrap().unwrap();
        settle(&double);
        let second = havip.create(ids::VSWITCH, [10, 77, 0, 50].into()).await.unwrap_err();
        assert_eq!(second.code(), Some("InvalidIPAddress.AlreadyUsed"));
        havip.associate(&id, B).await.unwrap();
        assert!(!havip.describe(&id).await.unwrap().unwrap().is_at_rest());
        settle(&double);
        assert_eq!(havip.describe(&id).await.unwrap().unwrap().members, [B]);
        havip.unassociate(&id, B, false).await.unwrap();
        settle(&double);
        havip.unassociate(&id, B, false).await.unwrap();

        let card = &no_cards()[1];
        double.remote().order("announce", &json!({ "address": "10.77.0.100", "mac": card })).unwrap();
        assert_eq!(havip.describe(ids::HAVIP).await.unwrap().unwrap().master.as_deref(), Some(B));
        let refused = havip.unassociate(ids::HAVIP, B, false).await.unwrap_err();
        assert_eq!(refused.code(), Some("Forbidden.UnassociateMaster"));
        havip.unassociate(ids::HAVIP, B, true).await.unwrap();
        settle(&double);
        assert_eq!(havip.describe(ids::HAVIP).await.unwrap().unwrap().members, [A]);

        assert_eq!(eip.of_havip(ids::HAVIP).await.unwrap()[0].id, ids::EIP);
        eip.unassociate(ids::EIP, ids::HAVIP).await.unwrap();
        settle(&double);
        assert_eq!(eip.describe(ids::EIP).await.unwrap().unwrap().bound_to, None);
        eip.associate(ids::FREE_EIP, ids::HAVIP).await.unwrap();
        settle(&double);
        assert_eq!(eip.of_havip(ids::HAVIP).await.unwrap()[0].id, ids::FREE_EIP);
    });
    // Its own limit of calls is another one's.
    let ours = Ours::of(&double);
    let ecs = {
        let _ = ecs;
        ours.cloud.ecs()
    };
    run(async {
        let statuses = ecs.status(&[A, B]).await.unwrap();
        assert!(statuses.len() == 2 && statuses.iter().all(|(_, status)| status.is("Running")), "{statuses:?}");
        let instance = ecs.describe(&[B]).await.unwrap().remove(0);
        assert_eq!(
            (instance.vswitch.as_deref(), &*instance.groups),
            (Some(ids::VSWITCH), &[ids::GROUP.to_owned()][..])
        );
        assert_eq!(ecs.security_group(ids::GROUP).await.unwrap().rules.len(), 3);
        ecs.stop(B, true, true).await.unwrap();
        assert!(ecs.status(&[B]).await.unwrap()[0].1.is("Running"), "a dry run");
        ecs.stop(B, true, false).await.unwrap();
        settle(&double);
        assert!(ecs.status(&[B]).await.unwrap()[0].1.is("Stopped"));
    });
    let stopped = double.remote().state().unwrap()["instances"][B]["stopped_mode"].clone();
    assert_eq!(stopped, "KeepCharging");
}

#[test]
fn a_request_of_ours_is_refused_when_one_header_or_one_byte_was_changed_or_it_comes_twice() {
    logs::capture();
    let double = double();
    let proxy = Proxy::before(double.listen()[0]).unwrap();
    // A new client each time, as each has a limit of calls. With the key of the role: so the token takes part.
    let through = |how: &Tamper| {
        proxy.tamper(how.clone());
        let ours = Ours::of_role(proxy.address(), &double, SHORT);
        let outcome = run(async {
            ours.cloud.region().await.unwrap();
            ours.cloud.havip().describe(ids::HAVIP).await
        });
        outcome.map(|found| assert!(found.is_some())).map_err(|error| error.code().unwrap_or("unheard").to_owned())
    };
    through(&Tamper::Nothing).unwrap();
    let refused = |code: &str| Err(code.to_owned());
    for name in ["x-acs-date", "x-acs-signature-nonce", "x-acs-security-token", "host", "authorization"] {
        assert_eq!(through(&Tamper::Header(name)), refused("SignatureDoesNotMatch"), "{name}");
    }
    assert_eq!(through(&Tamper::Header("x-acs-content-sha256")), refused("InvalidContentSha256"));
    for name in ["x-acs-action", "x-acs-version"] {
        assert_eq!(through(&Tamper::Header(name)), refused("InvalidApi.NotFound"), "{name}");
    }
    for name in ["x-acs-signature-nonce", "x-acs-security-token", "x-acs-content-sha256"] {
        assert_eq!(through(&Tamper::Without(name)), refused("IncompleteSignature"), "without {name}");
    }
    let query = format!("Filter.1.Key=HaVipId&Filter.1.Value.1={}&PageSize=50&RegionId={}", ids::HAVIP, ids::REGION);
    for at in 0..query.len() {
        assert_eq!(through(&Tamper::QueryByte(at)), refused("SignatureDoesNotMatch"), "byte {at} of `{query}`");
    }
    assert_eq!(through(&Tamper::MoreQuery("&PageNumber=2")), refused("SignatureDoesNotMatch"));
    assert_eq!(through(&Tamper::Replay), refused("SignatureNonceUsed"));
    through(&Tamper::Nothing).unwrap();
    // Whatever was refused was done by nobody.
    let journal = double.remote().journal().unwrap();
    assert!(journal.iter().all(|it| it.service == "metadata" || it.who.is_some() == (it.outcome == "ok")));
}

#[test]
fn ours_calls_again_where_that_helps_signed_afresh_and_with_the_same_token() {
    logs::capture();
    let double = double();
    let ours = Ours::of(&double);
    for kind in [
        json!({ "throttle": { "retry-after-ms": 30 } }),
        json!({ "error": { "status": 503, "code": "ServiceUnavailable" } }),
        json!("truncated"),
        json!("garbage"),
        json!("reset"),
        json!("black-hole"),
        json!({ "slow": { "ms": 3000 } }),
    ] {
        fault(&double, json!({ "action": "DescribeHaVips", "times": 1, "kind": kind }));
        let found = run(ours.cloud.havip().describe(ids::HAVIP)).unwrap_or_else(|error| panic!("{kind}: {error:#}"));
        assert!(found.is_some());
    }
    // The first call is done, and its answer is lost.
    fault(&double, json!({ "action": "CreateHaVip", "times": 1, "after": true, "kind": "truncated" }));
    double.remote().order("transition", &json!({ "ms": 0 })).unwrap();
    run(ours.cloud.havip().create(ids::VSWITCH, [10, 77, 0, 60].into())).unwrap().unwrap();
    let journal = double.remote().journal().unwrap();
    let calls: Vec<_> = journal.iter().filter(|it| it.action == "CreateHaVip").collect();
    let token = |at: usize| calls[at].parameters.iter().find(|(name, _)| name == "ClientToken").unwrap().1.clone();
    assert_eq!((calls.len(), token(0)), (2, token(1)), "one call, repeated");
    assert_ne!(calls[0].nonce, calls[1].nonce, "signed afresh");
    assert_eq!(double.remote().state().unwrap()["havips"].as_object().unwrap().len(), 2, "and made once");
}

#[test]
fn ours_gets_a_new_key_of_the_role_when_the_service_says_that_the_old_one_is_over() {
    logs::capture();
    let double = double();
    let ours = Ours::of_role(double.listen()[0], &double, PATIENCE);
    run(async {
        ours.cloud.havip().describe(ids::HAVIP).await.unwrap();
        double.remote().order("expire-tokens", &Value::Null).unwrap();
        ours.cloud.havip().describe(ids::HAVIP).await.unwrap();
    });
    let journal = double.remote().journal().unwrap();
    let calls: Vec<&str> =
        journal.iter().filter(|it| it.action == "DescribeHaVips").map(|it| it.outcome.as_str()).collect();
    assert_eq!(calls, ["ok", "InvalidSecurityToken.Expired", "ok"]);
    let metadata = journal.iter().filter(|it| it.service == "metadata");
    assert!(metadata.clone().count() > 2 && metadata.clone().all(|it| it.outcome == "ok"), "in hardened mode");
}

#[test]
fn a_service_that_throttles_is_not_asked_by_the_next_looks() {
    logs::capture();
    let double = double();
    let ours = Ours::with_secret(double.listen()[0], &double, &format!("{MARK}-of-owner"), SHORT);
    fault(&double, json!({ "service": "vpc", "kind": { "throttle": { "retry-after-ms": 3_600_000 } } }));
    let called = || double.remote().journal().unwrap().iter().filter(|it| it.action == "DescribeHaVips").count();
    for _look in 0..5 {
        let error = run(ours.cloud.our_havip()).unwrap_err();
        assert!(matches!(error, CloudError::Throttled { .. }), "{error}");
        assert!(error.to_string().contains("not asked before 20"), "until when: {error}");
        assert_eq!(called(), 1);
    }
    // Its instances are another service's.
    run(ours.cloud.ecs().status(&[A])).unwrap();
}

#[test]
fn where_the_wish_for_a_token_is_swallowed_metadata_is_read_without_one_within_the_same_time() {
    logs::capture();
    let double = double_of({
        let mut scenario = pair(no_cards());
        scenario.hardened = false;
        scenario
    });
    fault(&double, json!({ "service": "metadata", "action": "/latest/api/token", "kind": "black-hole" }));
    let ours = Ours::of_role(double.listen()[0], &double, SHORT);
    assert!(run(ours.cloud.our_havip()).unwrap().is_some());
    let journal = double.remote().journal().unwrap();
    let metadata: Vec<_> = journal.iter().filter(|it| it.service == "metadata").collect();
    assert!(metadata.len() > 2, "{metadata:?}");
    let wishes = metadata.iter().filter(|it| it.action == "/latest/api/token").count();
    assert_eq!(wishes, 1, "the other reads do not wait for one: {metadata:?}");
}

#[test]
fn no_secret_is_in_any_log_error_panic_or_debug_output() {
    logs::capture();
    let double = double_of({
        let mut scenario = pair(no_cards());
        scenario.role.as_mut().unwrap().policy =
            Some(serde_json::from_value(json!({ "Version": "1", "Statement": [] })).unwrap());
        scenario
    });
    let proxy = Proxy::before(double.listen()[0]).unwrap();
    let service = double.listen()[0];
    // Panics are heard, not shown.
    let shown = std::panic::take_hook();
    std::panic::set_hook(Box::new(|panic| logs::add(&panic.to_string())));
    let mut said = String::new();
    let mut tell = |error: CloudError, settings: &Settings| {
        let error = anyhow::Error::new(error);
        write!(said, "{error} {error:#} {error:?}").unwrap();
        let panic = std::panic::catch_unwind(|| panic!("{error:?} {settings:?}")).unwrap_err();
        said += panic.downcast_ref::<String>().unwrap();
        said += &format!("{settings:#?}");
    };
    // The echo of what was signed has the token in it; then a secret that is wrong, and rights that lack.
    proxy.tamper(Tamper::Header("x-acs-date"));
    let clients = [
        Ours::of_role(proxy.address(), &double, SHORT),
        Ours::with_secret(service, &double, &format!("{MARK}-wrong"), SHORT),
        Ours::of_role(service, &double, SHORT),
    ];
    for ours in &clients {
        tell(run(ours.cloud.havip().describe(ids::HAVIP)).unwrap_err(), ours.cloud.settings());
    }
    let ours = Ours::of(&double);
    for kind in [json!("truncated"), json!("garbage"), json!("reset"), json!("black-hole")] {
        fault(&double, json!({ "kind": kind, "service": "vpc" }));
        let ours = Ours::with_secret(service, &double, &format!("{MARK}-of-owner"), SHORT);
        run(ours.cloud.region()).unwrap();
        tell(run(ours.cloud.havip().describe(ids::HAVIP)).unwrap_err(), ours.cloud.settings());
        double.remote().heal().unwrap();
    }
    // Metadata that answers no more, in the middle of a key.
    fault(&double, json!({ "service": "metadata", "after": true, "kind": "truncated" }));
    let role = Ours::of_role(service, &double, SHORT);
    tell(run(role.cloud.havip().describe(ids::HAVIP)).unwrap_err(), ours.cloud.settings());
    std::panic::set_hook(shown);
    let journal = format!("{:?} {}", double.remote().journal().unwrap(), double.remote().state().unwrap());
    let logs = logs::all();
    assert!(said.contains("SignatureDoesNotMatch") && said.contains("Forbidden.RAM"), "it was not looked at: {said}");
    assert!(logs.contains("a cloud call is repeated"), "the logs were not captured");
    for (what, text) in [("errors", &said), ("journal", &journal), ("logs", &logs)] {
        for secret in double.secrets().iter().map(String::as_str).chain([MARK]) {
            let lines = text.lines().filter(|line| line.contains(secret)).collect::<Vec<_>>();
            assert!(lines.is_empty(), "a secret is in the {what}: {lines:?}");
        }
    }
}
