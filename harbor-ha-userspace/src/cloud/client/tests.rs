//! Calls against a server that refuses, throttles, breaks off, is slow, or not there.

use std::sync::Arc;

use super::super::metadata::Metadata;
use super::super::sign::Signer;
use super::super::tests::script::{Manner, Reply, Script};
use super::super::tests::{Host, PATIENT, QUICK, SECRET, TOKEN};
use super::*;
use crate::config::settings::cloud::CredentialSource;

fn client_with(endpoint: &Endpoint, limit: Duration, bucket: Bucket) -> Client {
    let metadata = Arc::new(Metadata::new(endpoint, true, PATIENT).unwrap());
    let keeper = Keeper::new(CredentialSource::Env, "/nowhere".as_ref(), None, metadata, Arc::new(Host));
    Client::new(keeper, limit, limit, QUICK, bucket).unwrap()
}

fn client(endpoint: &Endpoint) -> Client {
    client_with(endpoint, PATIENT, Bucket::new(1000, PATIENT))
}

fn change() -> Call {
    Call::new(Service::Vpc, "AssociateHaVip").with("Description", "a b*c~d+é").with("HaVipId", "havip-1").once()
}

async fn outcome(replies: Vec<Reply>) -> (Result<Value, CloudError>, Script) {
    let script = Script::start(replies).await;
    let answer = client(&script.endpoint()).call(&script.endpoint(), &change(), PATIENT).await;
    (answer, script)
}

#[tokio::test]
async fn what_is_sent_is_what_was_signed() {
    let (answer, script) = outcome(vec![Reply::ok(r#"{"RequestId": "R"}"#)]).await;
    assert_eq!(answer.unwrap()["RequestId"], "R");
    let asked = script.asked();
    let [asked] = asked.as_slice() else { panic!("{asked:?}") };
    assert!(asked.line.starts_with("POST /?") && asked.line.contains("Description=a%20b%2Ac~d%2B%C3%A9&"));
    assert_eq!(asked.header("accept"), "application/json");
    assert_eq!((asked.header("x-acs-action"), asked.header("x-acs-version")), ("AssociateHaVip", "2016-04-28"));
    assert_eq!((asked.header("x-acs-security-token"), asked.header("content-length")), (TOKEN, "0"));

    // Signed again from what arrived.
    let (secret, token) = (SECRET.to_owned().into(), TOKEN.to_owned().into());
    let endpoint = script.endpoint();
    let host = format!("127.0.0.1:{}", endpoint.port);
    assert_eq!(asked.header("host"), host);
    let query = [("Description", "a b*c~d+é"), ("HaVipId", "havip-1"), ("ClientToken", asked.parameter("ClientToken"))];
    let request = Unsigned {
        method: "POST",
        host: &host,
        path: "/",
        action: "AssociateHaVip",
        version: "2016-04-28",
        query: &query,
        content_type: None,
        body: b"",
        extra: &[],
    };
    let once = Once { date: asked.header("x-acs-date"), nonce: asked.header("x-acs-signature-nonce") };
    let signed = sign(&request, &Signer { id: "dummy-id", secret: &secret, token: Some(&token) }, &once);
    assert_eq!(asked.query(), signed.query);
    assert_eq!(asked.header("authorization"), signed.headers.last().unwrap().1.as_str());
}

#[tokio::test]
async fn a_repetition_is_the_same_change_and_signed_anew() {
    let throttled = Reply::refused(400, "Throttling.User").with("x-acs-retry-after", "1");
    let replies = vec![
        throttled,
        Reply::refused(400, "IncorrectHaVipStatus"),
        Reply::refused(503, "ServiceUnavailable"),
        Reply::refused(400, "SignatureNonceUsed"),
        Reply::ok("{}"),
    ];
    let (answer, script) = outcome(replies).await;
    answer.unwrap();
    let asked = script.asked();
    assert_eq!(asked.len(), 5);
    let different = |of: &dyn Fn(usize) -> String| (0..5).map(of).collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!(different(&|n| asked[n].query().to_owned()), 1);
    assert_eq!(different(&|n| asked[n].header("x-acs-signature-nonce").to_owned()), 5);
    assert_eq!(different(&|n| asked[n].header("authorization").to_owned()), 5);
    assert!(asked[0].parameter("ClientToken").len() <= 64);
}

#[tokio::test]
async fn a_service_that_throttles_is_left_alone_by_every_call_to_it_and_by_none_to_another() {
    let throttled = Reply::refused(400, "Throttling.User").with("x-acs-retry-after", "3600000");
    let script = Script::start(vec![throttled, Reply::ok("{}")]).await;
    let endpoint = script.endpoint();
    let metadata = Arc::new(Metadata::new(&endpoint, true, PATIENT).unwrap());
    let keeper = Keeper::new(CredentialSource::Env, "/nowhere".as_ref(), None, metadata, Arc::new(Host));
    let pace = Pace { longest: 10 * PATIENT, ..QUICK };
    let client = Client::new(keeper, PATIENT, PATIENT, pace, Bucket::new(1000, PATIENT)).unwrap();
    let look = Call::new(Service::Vpc, "DescribeHaVips");
    for call in [&change(), &look, &look] {
        let error = client.call(&endpoint, call, PATIENT).await.unwrap_err();
        assert!(matches!(&error, CloudError::Throttled { action, .. } if *action == call.action), "{error}");
        assert_eq!(error.code(), Some("Throttling.User"));
        assert!(error.to_string().contains("Z (AssociateHaVip was refused with"), "{error}");
    }
    assert_eq!(script.asked().len(), 1);
    let other = Call::new(Service::Ecs, "DescribeInstances");
    client.call(&endpoint, &other, PATIENT).await.unwrap();
}

#[tokio::test]
async fn whoever_has_the_time_waits_for_the_end_of_a_pause_that_another_call_was_told() {
    let script = Script::start(vec![Reply::ok("{}")]).await;
    let client = client(&script.endpoint());
    let refusal = Refusal {
        action: "DescribeHaVips",
        status: 400,
        code: "Throttling".to_owned(),
        message: "no".to_owned(),
        request: "R".to_owned(),
    };
    client.throttled(Service::Vpc, Duration::from_millis(20), &refusal);
    assert!(client.rest(&change()).is_some());
    client.call(&script.endpoint(), &change(), PATIENT).await.unwrap();
    assert!(client.rest(&change()).is_none());
}

#[tokio::test]
async fn what_no_repetition_helps_is_asked_once() {
    for code in ["InvalidHaVipId.NotFound", "Forbidden.RAM", "InvalidTimeStamp.Expired", "Forbidden.UnassociateMaster"]
    {
        let (answer, script) = outcome(vec![Reply::refused(400, code)]).await;
        let error = answer.unwrap_err();
        assert_eq!((error.code(), script.asked().len()), (Some(code), 1), "{error}");
        assert!(error.to_string().contains("R-1"), "{error}");
    }
}

#[tokio::test]
async fn keys_that_are_not_accepted_are_fetched_anew_once() {
    let (answer, script) = outcome(vec![Reply::refused(400, "InvalidSecurityToken.Expired")]).await;
    assert_eq!(answer.unwrap_err().code(), Some("InvalidSecurityToken.Expired"));
    assert_eq!(script.asked().len(), 2);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_asked_for_again() {
    let mut cut = Reply::ok(r#"{"RequestId": "#);
    cut.declared = Some(1000);
    let half = Reply::ok(r#"{"RequestId": "#);
    let (answer, script) = outcome(vec![cut, half, Reply::ok("no JSON"), Reply::ok("[]"), Reply::ok("{}")]).await;
    answer.unwrap();
    assert_eq!(script.asked().len(), 5);
}

#[tokio::test]
async fn what_is_too_long_is_not_read_to_its_end() {
    let endless = Reply::ok(&format!("{{\"a\": \"{}\"}}", "x".repeat(ANSWER_BYTES)));
    let (answer, script) = outcome(vec![endless, Reply::ok("{}")]).await;
    answer.unwrap();
    assert_eq!(script.asked().len(), 2);
}

#[tokio::test]
async fn a_refusal_is_understood_in_each_of_its_forms() {
    let xml = "<Error><RequestId>R-9</RequestId><Code>Forbidden.RAM</Code><Message>no right</Message></Error>";
    let lower = r#"{"code": "Forbidden.RAM", "message": "no right", "requestId": "R-9"}"#;
    for body in [xml, lower] {
        let error = outcome(vec![Reply::of(403, body)]).await.0.unwrap_err().to_string();
        for part in ["AssociateHaVip", "Forbidden.RAM", "no right", "R-9"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
    let error = outcome(vec![Reply::of(404, "<html>nginx</html>")]).await.0.unwrap_err();
    assert_eq!(error.code(), Some("HTTP 404"));
    let mut cut = Reply::of(404, "{");
    cut.declared = Some(100);
    assert_eq!(outcome(vec![cut]).await.0.unwrap_err().code(), Some("HTTP 404"));
    let moved = Reply::of(302, "").with("location", "http://127.0.0.1:1/");
    assert_eq!(outcome(vec![moved]).await.0.unwrap_err().code(), Some("HTTP 302"), "the signature is for this host");
}

#[tokio::test]
async fn no_key_comes_back_in_an_error() {
    let encoded = super::super::sign::pct(TOKEN);
    let twice = super::super::sign::pct(&encoded);
    let message =
        format!("server string to sign is: dummy-id {SECRET} {TOKEN} {encoded} {twice}\\n\\u0007 {}", "x".repeat(999));
    let body = format!(r#"{{"Code": "SignatureDoesNotMatch", "Message": "{message}", "RequestId": "{SECRET}"}}"#);
    let error = outcome(vec![Reply::of(400, &body)]).await.0.unwrap_err();
    let shown = format!("{error} {error:?}");
    for secret in ["dummy-id", SECRET, TOKEN, encoded.as_str(), twice.as_str()] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
    assert!(shown.contains("<secret>") && !shown.contains('\u{7}') && shown.len() < 2000, "{shown}");
}

#[tokio::test]
async fn whoever_is_silent_or_drips_is_given_up() {
    for manner in [Manner::Silent, Manner::Dripping] {
        let script = Script::start(vec![Reply::manner(manner), Reply::manner(manner), Reply::ok("{}")]).await;
        let client = client_with(&script.endpoint(), Duration::from_millis(50), Bucket::new(1000, PATIENT));
        client.call(&script.endpoint(), &change(), PATIENT).await.unwrap();
        assert_eq!(script.asked().len(), 3, "{manner:?}");

        let script = Script::start(vec![Reply::manner(manner)]).await;
        let client = client_with(&script.endpoint(), PATIENT, Bucket::new(1000, PATIENT));
        let error = client.call(&script.endpoint(), &change(), Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(error, CloudError::Unreachable { attempts: 1, .. }), "{error}");
    }
}

#[tokio::test]
async fn where_nobody_listens_the_error_says_where() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let endpoint = Endpoint { tls: false, host: "127.0.0.1".to_owned(), port };
    let error = client(&endpoint).call(&endpoint, &change(), Duration::from_millis(50)).await.unwrap_err().to_string();
    assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("no connection"), "{error}");
}

#[tokio::test]
async fn this_process_keeps_to_its_own_limit() {
    let script = Script::start(vec![Reply::ok("{}")]).await;
    let client = client_with(&script.endpoint(), PATIENT, Bucket::new(1, 2 * PATIENT));
    client.call(&script.endpoint(), &change(), PATIENT).await.unwrap();
    let error = client.call(&script.endpoint(), &change(), PATIENT).await.unwrap_err();
    assert!(matches!(error, CloudError::Limited { .. }), "{error}");
    assert_eq!(script.asked().len(), 1);
}
