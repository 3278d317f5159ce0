//! The room against a server that answers by script: what is sent, what is made of the answers, and how it ends.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use super::*;
use crate::config::lookup::SecretFile;
use crate::config::settings::cloud::{CredentialSource, Fence};

pub(super) mod script;

use script::{Reply, Script};

pub(super) const SECRET: &str = "dummy-secret-of-the-tests";
pub(super) const TOKEN: &str = "dummy/token+of=the-tests";

/// A host that has a key pair in its environment.
pub(super) struct Host;

impl Lookup for Host {
    fn file(&self, _: &Path) -> io::Result<SecretFile> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn env(&self, name: &str) -> Option<OsString> {
        match name {
            "ALIBABA_CLOUD_ACCESS_KEY_ID" => Some("dummy-id".into()),
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET" => Some(SECRET.into()),
            "ALIBABA_CLOUD_SECURITY_TOKEN" => Some(TOKEN.into()),
            _ => None,
        }
    }
}

/// So that a repetition costs a test nothing.
pub(super) const QUICK: Pace = Pace {
    first: Duration::from_millis(1),
    most: Duration::from_millis(2),
    step: Duration::from_millis(1),
    longest: Duration::from_millis(5),
};

/// Long enough for any machine; no test waits for its end.
pub(super) const PATIENT: Duration = Duration::from_secs(60);

pub(super) fn settings(endpoint: Endpoint) -> Settings {
    Settings {
        region: Some("cn-test".to_owned()),
        havip: None,
        address: [10, 0, 0, 5].into(),
        eip: None,
        instance: Some("i-a".to_owned()),
        peer_instance: "i-b".to_owned(),
        vswitch: Some("vsw-1".to_owned()),
        credentials: CredentialSource::Env,
        credentials_file: "/nowhere".into(),
        ram_role: None,
        vpc_endpoint: Some(endpoint.clone()),
        ecs_endpoint: Some(endpoint.clone()),
        metadata_endpoint: endpoint,
        connect_timeout: PATIENT,
        timeout: PATIENT,
        follow_deadline: PATIENT,
        poll_interval: PATIENT,
        fence: Fence { unassociate: false, stop: false, dry_run: false, cooldown: PATIENT, limit: 1 },
    }
}

fn cloud(script: &Script) -> Cloud {
    Cloud::with(&settings(script.endpoint()), PATIENT, Arc::new(Host), QUICK).unwrap()
}

const NONE: &str = r#"{"HaVips": {"HaVip": []}}"#;

#[tokio::test]
async fn a_havip_is_looked_for_by_its_address_and_one_that_is_another_is_not_taken_for_it() {
    let others = r#"{"HaVips": {"HaVip": [
        {"HaVipId": "havip-1", "IpAddress": "10.0.0.6", "VSwitchId": "vsw-1", "Status": "InUse"},
        {"HaVipId": "havip-2", "IpAddress": "10.0.0.5", "VSwitchId": "vsw-2", "Status": "InUse"},
        {"HaVipId": "havip-3", "IpAddress": "10.0.0.5", "VSwitchId": "vsw-1", "Status": "InUse"}]}}"#;
    let script = Script::start(vec![Reply::ok(others), Reply::ok(NONE)]).await;
    let cloud = cloud(&script);
    assert_eq!(cloud.our_havip().await.unwrap().unwrap().id, "havip-3");
    assert_eq!(cloud.our_havip().await.unwrap(), None);
    let asked = &script.asked()[0];
    assert_eq!(asked.header("x-acs-action"), "DescribeHaVips");
    for part in ["Filter.1.Key=VSwitchId", "Filter.1.Value.1=vsw-1", "Filter.2.Value.1=10.0.0.5", "RegionId=cn-test"] {
        assert!(asked.line.contains(part), "{part}: {}", asked.line);
    }
}

#[tokio::test]
async fn what_is_not_there_is_no_error_and_what_is_done_already_neither() {
    let absent = Reply::refused(404, "InvalidHaVipId.NotFound");
    let unbound = Reply::refused(400, "ResourceNotAssociated");
    let dry = Reply::refused(400, "DryRunOperation");
    let script = Script::start(vec![absent, unbound, dry, Reply::refused(403, "Forbidden.RAM")]).await;
    let cloud = cloud(&script);
    assert_eq!(cloud.havip().describe("havip-1").await.unwrap(), None);
    cloud.havip().unassociate("havip-1", "i-b", true).await.unwrap();
    cloud.ecs().stop("i-b", true, true).await.unwrap();
    assert!(cloud.ecs().stop("i-b", true, true).await.unwrap_err().is_denial());
    let asked = script.asked();
    assert!(asked[1].line.contains("Force=True") && asked[1].line.contains("ClientToken=harbor-ha-"));
    let stop = &asked[2];
    for part in ["ForceStop=true", "StoppedMode=KeepCharging", "DryRun=true", "InstanceId=i-b"] {
        assert!(stop.line.contains(part), "{part}: {}", stop.line);
    }
    assert!(!stop.line.contains("RegionId") && stop.header("x-acs-version") == "2014-05-26");
}

#[tokio::test]
async fn the_pages_of_a_security_group_are_put_together() {
    let page = |next: &str, port: u16| {
        Reply::ok(&format!(
            r#"{{"InnerAccessPolicy": "Drop", "NextToken": "{next}", "Permissions": {{"Permission": [{{"IpProtocol": "UDP",
                "PortRange": "{port}/{port}", "SourceCidrIp": "10.0.0.0/24", "Policy": "Accept", "Priority": 1}}]}}}}"#
        ))
    };
    let script = Script::start(vec![page("more", 5112), page("", 5113)]).await;
    let group = cloud(&script).ecs().security_group("sg-1").await.unwrap();
    assert_eq!((group.rules.len(), group.members_reach_each_other), (2, Some(false)));
    assert!(script.asked()[1].line.contains("NextToken=more"));
}

#[tokio::test]
async fn what_is_not_configured_is_learnt_from_metadata_once() {
    let text = |text: &str| Reply::ok(text);
    let script = Script::start(vec![text("T"), text("cn-learnt"), text("i-own"), text("vsw-own")]).await;
    let mut settings = settings(script.endpoint());
    (settings.region, settings.instance, settings.vswitch) = (None, None, None);
    let cloud = Cloud::with(&settings, PATIENT, Arc::new(Host), QUICK).unwrap();
    for _ in 0..2 {
        assert_eq!(cloud.region().await.unwrap(), "cn-learnt");
        assert_eq!(cloud.instance().await.unwrap(), "i-own");
        assert_eq!(cloud.vswitch().await.unwrap(), "vsw-own");
    }
    assert_eq!(script.asked().len(), 4);
    assert_eq!(Service::Vpc.internal("cn-hangzhou").host, "vpc-vpc.cn-hangzhou.aliyuncs.com");
    assert_eq!(Service::Ecs.internal("cn-hangzhou").host, "ecs-vpc.cn-hangzhou.aliyuncs.com");
}

/// Plays the daemon in the next test: started by it in a process of its own, and aborted there.
#[tokio::test]
#[ignore = "is a part of another test"]
async fn a_process_to_be_aborted() {
    let Some(with_keys) = std::env::var_os("HARBOR_HA_TEST_KEYS") else { return };
    let script = Script::start(vec![]).await;
    let cloud = (with_keys == "yes").then(|| cloud(&script));
    assert_eq!(nix::sys::prctl::get_dumpable().unwrap(), cloud.is_none());
    std::process::abort();
}

#[test]
fn a_process_that_has_keys_leaves_no_core_file() {
    let folder = tempfile::tempdir().unwrap();
    let dumps = |with_keys| {
        let ended = std::process::Command::new("/bin/sh")
            .args(["-c", "ulimit -c unlimited; exec \"$0\" --exact cloud::tests::a_process_to_be_aborted --ignored"])
            .arg(std::env::current_exe().unwrap())
            .env("HARBOR_HA_TEST_KEYS", with_keys)
            .current_dir(folder.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert_eq!(ended.signal(), Some(nix::libc::SIGABRT), "{ended:?}");
        ended.core_dumped()
    };
    // On a machine that lets nobody have one, what the process says of itself is all there is.
    let others = dumps("no");
    eprintln!("a process without keys leaves one: {others}");
    assert!(!dumps("yes"));
}
