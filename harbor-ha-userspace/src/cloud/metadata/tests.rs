//! Both modes of metadata, and what comes of a wrong guess.

use super::super::tests::PATIENT;
use super::super::tests::script::{Manner, Reply, Script};
use super::*;

async fn metadata(replies: Vec<Reply>, fall_back: bool) -> (Metadata, Script) {
    let script = Script::start(replies).await;
    (Metadata::new(&script.endpoint(), fall_back, PATIENT).unwrap(), script)
}

#[tokio::test]
async fn hardened_mode_shows_one_token_at_each_read() {
    let (metadata, script) = metadata(vec![Reply::ok("tok-1"), Reply::ok("cn-x"), Reply::ok("i-1\n")], true).await;
    assert_eq!(metadata.region().await.unwrap(), "cn-x");
    assert_eq!(metadata.instance().await.unwrap(), "i-1");
    let asked = script.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked[0].line.starts_with("PUT /latest/api/token "));
    assert_eq!(asked[0].header("x-aliyun-ecs-metadata-token-ttl-seconds"), "21600");
    assert!(asked[1].line.starts_with("GET /latest/meta-data/region-id "));
    assert_eq!(asked[2].header("x-aliyun-ecs-metadata-token"), "tok-1");
    assert_eq!(asked[2].header("x-forwarded-for"), "");
}

#[tokio::test]
async fn a_service_without_tokens_is_read_plainly_unless_that_is_forbidden() {
    let replies = vec![Reply::of(404, ""), Reply::ok("cn-x"), Reply::ok("i-1")];
    let (plain, script) = metadata(replies.clone(), true).await;
    assert_eq!((plain.region().await.unwrap(), plain.instance().await.unwrap()), ("cn-x".into(), "i-1".into()));
    assert_eq!((script.asked().len(), script.asked()[1].header("x-aliyun-ecs-metadata-token")), (3, ""));

    let (strict, script) = metadata(replies, false).await;
    let error = strict.region().await.unwrap_err();
    assert!(matches!(&error, MetadataError::Refused { status: 404, .. }), "{error}");
    assert_eq!(script.asked().len(), 1);
}

/// Methods, in the order of what was asked.
fn methods(script: &Script) -> Vec<String> {
    script.asked().iter().map(|asked| asked.line.split(' ').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_wish_for_a_token_that_is_swallowed_costs_one_wait_and_a_plain_read_follows() {
    let replies = vec![
        Reply::manner(Manner::Silent),
        Reply::ok("cn-x"),
        Reply::ok("i-1"),
        // Hardened mode is tried again, and by then works.
        Reply::ok("tok"),
        Reply::ok("vsw-1"),
    ];
    let (metadata, script) = metadata(replies, true).await;
    assert_eq!((metadata.region().await.unwrap(), metadata.instance().await.unwrap()), ("cn-x".into(), "i-1".into()));
    assert_eq!(methods(&script), ["PUT", "GET", "GET"]);
    match &mut *metadata.mode.lock().await {
        Mode::Plain { until } => *until = Instant::now(),
        Mode::Unknown | Mode::Hardened { .. } => panic!("it is not remembered"),
    }
    assert_eq!(metadata.vswitch().await.unwrap(), "vsw-1");
    assert_eq!(methods(&script)[3..], ["PUT", "GET"]);
    assert_eq!(script.asked()[4].header("x-aliyun-ecs-metadata-token"), "tok");
}

#[tokio::test]
async fn whoever_gives_up_during_the_wish_for_a_token_spares_the_next_one_the_wait() {
    let (metadata, script) = metadata(vec![Reply::manner(Manner::Silent), Reply::ok("cn-x")], true).await;
    let wish = timeout(metadata.share / 2, metadata.region()).await;
    assert!(wish.is_err());
    assert_eq!(metadata.region().await.unwrap(), "cn-x");
    assert_eq!(methods(&script), ["PUT", "GET"]);
}

#[tokio::test]
async fn a_swallowed_wish_is_the_end_where_plain_reads_are_forbidden_or_refused() {
    let (strict, script) = metadata(vec![Reply::manner(Manner::Silent)], false).await;
    let error = strict.region().await.unwrap_err();
    assert!(matches!(error, MetadataError::Unreachable { .. }), "{error}");
    assert_eq!(methods(&script), ["PUT"]);

    let silent = || Reply::manner(Manner::Silent);
    let (refused, script) = metadata(vec![silent(), Reply::of(403, ""), silent()], true).await;
    let error = refused.region().await.unwrap_err();
    assert!(matches!(error, MetadataError::Unreachable { .. }), "{error}");
    assert_eq!(methods(&script), ["PUT", "GET", "PUT"]);
}

#[tokio::test]
async fn a_hardened_service_that_is_slow_once_is_asked_for_a_token_again() {
    let replies = vec![Reply::manner(Manner::Silent), Reply::of(403, ""), Reply::ok("tok"), Reply::ok("cn-x")];
    let (metadata, script) = metadata(replies, true).await;
    assert_eq!(metadata.region().await.unwrap(), "cn-x");
    assert_eq!(methods(&script), ["PUT", "GET", "PUT", "GET"]);
    assert_eq!(script.asked()[3].header("x-aliyun-ecs-metadata-token"), "tok");
}

#[tokio::test]
async fn a_token_that_is_refused_is_fetched_anew_once() {
    let replies = vec![Reply::ok("old"), Reply::of(401, ""), Reply::ok("new"), Reply::ok("cn-x")];
    let (metadata, script) = metadata(replies, true).await;
    assert_eq!(metadata.region().await.unwrap(), "cn-x");
    assert_eq!(script.asked()[3].header("x-aliyun-ecs-metadata-token"), "new");
}

#[tokio::test]
async fn what_metadata_does_not_tell_is_explained() {
    let (metadata, _script) = metadata(
        vec![Reply::ok("t"), Reply::of(404, ""), Reply::ok("two words"), Reply::ok(""), Reply::ok("10.0.0.300")],
        true,
    )
    .await;
    let error = metadata.role_keys(Some("r")).await.unwrap_err().to_string();
    assert!(error.contains("has no RAM role"), "{error}");
    for _ in 0..2 {
        assert!(matches!(metadata.region().await, Err(MetadataError::Unusable { .. })));
    }
    assert!(metadata.address().await.unwrap_err().to_string().contains("no IPv4 address"));
}

#[tokio::test]
async fn the_keys_of_a_role_come_with_its_name_and_are_not_shown() {
    let keys = r#"{"Code": "Success", "AccessKeyId": "STS.dummy", "AccessKeySecret": "hunter2", "SecurityToken": "hunter3",
                   "Expiration": "2026-01-01T00:00:00Z", "LastUpdated": "2025-12-31T18:00:00Z"}"#;
    let (metadata, script) = metadata(vec![Reply::ok("t"), Reply::ok("role-1"), Reply::ok(keys)], true).await;
    let found = metadata.role_keys(None).await.unwrap();
    assert_eq!(found.access_key_id.as_deref(), Some("STS.dummy"));
    assert!(!format!("{found:?}").contains("hunter"), "{found:?}");
    assert!(script.asked()[2].line.contains("/latest/meta-data/ram/security-credentials/role-1 "));
}

#[tokio::test]
async fn keys_that_are_no_success_are_none() {
    for body in [r#"{"Code": "Failed"}"#, "{\"AccessKeySecret\": \"hunter2\"", "[\"hunter2\"]"] {
        let (metadata, _script) = metadata(vec![Reply::ok("t"), Reply::ok(body)], true).await;
        let error = metadata.role_keys(Some("r")).await.unwrap_err();
        assert!(matches!(error, MetadataError::Unusable { .. }) && !error.to_string().contains("hunter"), "{error}");
    }
}
