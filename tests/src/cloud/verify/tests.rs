//! The 29 vectors, on which four official code paths agree, as requests that come over the wire; and each of them spoilt.

use serde::Deserialize;

use super::super::keys::{Key, Token};
use super::*;

#[derive(Deserialize)]
struct File {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    input: Input,
    expected: Expected,
}

#[derive(Deserialize)]
struct Input {
    method: String,
    host: String,
    path: String,
    action: String,
    version: String,
    date: String,
    nonce: String,
    access_key_id: String,
    access_key_secret: String,
    security_token: Option<String>,
    content_type: Option<String>,
    body: String,
    extra_headers: BTreeMap<String, String>,
    query: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Expected {
    hashed_payload: String,
    canonical_request: String,
    string_to_sign: String,
    authorization: String,
}

fn vectors() -> Vec<Vector> {
    let file: File =
        serde_json::from_str(include_str!("../../../../harbor-ha-userspace/src/cloud/testdata/acs3-signing.json"))
            .unwrap();
    assert_eq!(file.vectors.len(), 29);
    file.vectors
}

impl Vector {
    /// As a client sends it, with its parameters in the order in which it thought of them.
    fn request(&self) -> Received {
        let it = &self.input;
        let mut headers = vec![
            ("host", it.host.clone()),
            ("x-acs-action", it.action.clone()),
            ("x-acs-version", it.version.clone()),
            ("x-acs-date", it.date.clone()),
            ("x-acs-signature-nonce", it.nonce.clone()),
            ("x-acs-content-sha256", self.expected.hashed_payload.clone()),
            ("authorization", self.expected.authorization.clone()),
        ];
        headers.extend(it.security_token.iter().map(|token| ("x-acs-security-token", token.clone())));
        headers.extend(it.content_type.iter().map(|kind| ("content-type", kind.clone())));
        let mut headers: Vec<(String, String)> =
            headers.into_iter().map(|(name, value)| (name.into(), value)).collect();
        headers.extend(it.extra_headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        let pairs: Vec<String> =
            it.query.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        Received {
            method: it.method.clone(),
            path: it.path.clone(),
            query: pairs.join("&"),
            headers,
            body: it.body.clone().into_bytes(),
        }
    }

    fn keys(&self) -> Keys {
        let it = &self.input;
        let token = it.security_token.clone().map(|value| Token { value, expires: i64::MAX });
        let key =
            Key { secret: it.access_key_secret.clone(), active: true, user: "somebody".into(), token, policy: None };
        Keys::new([(it.access_key_id.clone(), key)].into())
    }

    fn now(&self) -> i64 {
        PrimitiveDateTime::parse(&self.input.date, DATE).unwrap().assume_utc().unix_timestamp()
    }

    fn judge(&self, request: &Received) -> Result<Caller, ApiError> {
        authenticate(request, &self.keys(), &mut Nonces::default(), self.now())
    }
}

fn code(judgement: Result<Caller, ApiError>) -> String {
    judgement.expect_err("it is refused").code
}

fn header<'a>(request: &'a mut Received, name: &str) -> &'a mut String {
    &mut request.headers.iter_mut().find(|(known, _)| known == name).unwrap().1
}

#[test]
fn every_vector_is_what_the_service_itself_signs_and_is_let_in() {
    for vector in vectors() {
        let request = vector.request();
        let canonical = canonical_request(&request, &claim(&request).unwrap().signed).unwrap();
        assert_eq!(canonical, vector.expected.canonical_request, "{}", vector.name);
        assert_eq!(string_to_sign(&canonical), vector.expected.string_to_sign, "{}", vector.name);
        assert_eq!(vector.judge(&request).expect(&vector.name).key_id, vector.input.access_key_id);
    }
}

#[test]
fn a_vector_with_any_one_header_changed_or_left_out_is_refused() {
    for vector in vectors() {
        for at in 0..vector.request().headers.len() {
            let mut changed = vector.request();
            let (name, value) = &mut changed.headers[at];
            // Of a date the last digit of its seconds, so that it stays one.
            let place = if name == "x-acs-date" { value.len() - 2 } else { value.len() - 1 };
            let other = if value.as_bytes()[place] == b'1' { "2" } else { "1" };
            value.replace_range(place..=place, other);
            let words = format!("{}: {name}: {value}", vector.name);
            assert!(vector.judge(&changed).is_err(), "{words}");
            let mut left_out = vector.request();
            left_out.headers.remove(at);
            assert!(vector.judge(&left_out).is_err(), "without {words}");
        }
    }
}

#[test]
fn a_vector_with_any_one_byte_of_its_query_or_body_changed_is_refused() {
    for vector in vectors() {
        let query = vector.request().query;
        for at in 0..query.len() {
            let mut changed = vector.request();
            let mut bytes = query.clone().into_bytes();
            bytes[at] = if bytes[at] == b'7' { b'8' } else { b'7' };
            changed.query = String::from_utf8(bytes).unwrap();
            assert!(vector.judge(&changed).is_err(), "{}: `{}` for `{query}`", vector.name, changed.query);
        }
        let mut more = vector.request();
        more.query += if query.is_empty() { "DryRun=true" } else { "&DryRun=true" };
        assert_eq!(code(vector.judge(&more)), "SignatureDoesNotMatch");
        let mut body = vector.request();
        body.body.push(b' ');
        assert_eq!(code(vector.judge(&body)), "InvalidContentSha256", "{}", vector.name);
        let mut method = vector.request();
        method.method = if method.method == "GET" { "POST".into() } else { "GET".into() };
        assert_eq!(code(vector.judge(&method)), "SignatureDoesNotMatch");
    }
}

#[test]
fn a_header_that_was_slipped_in_is_refused_unless_it_is_nobodys() {
    let vector = &vectors()[0];
    let with = |name: &str| {
        let mut request = vector.request();
        request.headers.push((name.to_owned(), "x".to_owned()));
        vector.judge(&request)
    };
    assert_eq!(code(with("x-acs-region-id")), "IncompleteSignature");
    assert_eq!(code(with("X-Acs-Security-Token")), "IncompleteSignature");
    assert_eq!(code(with("content-type")), "IncompleteSignature");
    assert_eq!(code(with("x-acs-action")), "IncompleteSignature", "twice");
    with("accept").unwrap();
}

#[test]
fn a_nonce_is_taken_once_and_only_from_who_can_sign() {
    let vector = &vectors()[0];
    let (keys, mut nonces) = (vector.keys(), Nonces::default());
    let mut forged = vector.request();
    *header(&mut forged, "x-acs-action") += "s";
    let judge = |request: &Received, nonces: &mut Nonces| authenticate(request, &keys, nonces, vector.now());
    assert_eq!(code(judge(&forged, &mut nonces)), "SignatureDoesNotMatch");
    judge(&vector.request(), &mut nonces).unwrap();
    assert_eq!(code(judge(&vector.request(), &mut nonces)), "SignatureNonceUsed");
}

#[test]
fn a_date_holds_for_fifteen_minutes_to_both_sides() {
    let vector = &vectors()[0];
    let at = |seconds: i64| {
        authenticate(&vector.request(), &vector.keys(), &mut Nonces::default(), vector.now() + seconds).map(drop)
    };
    assert_eq!((at(900), at(-900)), (Ok(()), Ok(())));
    assert_eq!(at(901).unwrap_err().code, "InvalidTimeStamp.Expired");
    assert_eq!(at(-901).unwrap_err().code, "InvalidTimeStamp.Expired");
    let mut odd = vector.request();
    *header(&mut odd, "x-acs-date") = "2023-10-26T10:22:32+00:00".into();
    assert_eq!(code(vector.judge(&odd)), "InvalidTimeStamp.Format");
}

#[test]
fn a_temporary_key_wants_its_own_token_while_it_lasts() {
    let vectors = vectors();
    let vector = vectors.iter().find(|it| it.input.security_token.is_some()).unwrap();
    let with = |token: Option<Token>| {
        let key = Key {
            secret: vector.input.access_key_secret.clone(),
            active: true,
            user: String::new(),
            token,
            policy: None,
        };
        let keys = Keys::new([(vector.input.access_key_id.clone(), key)].into());
        authenticate(&vector.request(), &keys, &mut Nonces::default(), vector.now())
    };
    let value = vector.input.security_token.clone().unwrap();
    with(Some(Token { value: value.clone(), expires: vector.now() + 1 })).unwrap();
    assert_eq!(code(with(Some(Token { value, expires: vector.now() }))), "InvalidSecurityToken.Expired");
    let other = Token { value: "another".into(), expires: i64::MAX };
    assert_eq!(code(with(Some(other))), "InvalidSecurityToken.MismatchWithAccessKey");
    assert_eq!(code(with(None)), "InvalidSecurityToken.MismatchWithAccessKey");
}

#[test]
fn a_key_that_is_unknown_or_disabled_and_an_odd_authorization_are_refused_by_name() {
    let vector = &vectors()[0];
    let judge = |change: &dyn Fn(&mut String)| {
        let mut request = vector.request();
        change(header(&mut request, "authorization"));
        code(vector.judge(&request))
    };
    assert_eq!(judge(&|it| *it = it.replace("YourAccessKeyId", "Another")), "InvalidAccessKeyId.NotFound");
    assert_eq!(judge(&|it| *it = it.replace("ACS3-HMAC-SHA256", "ACS3-HMAC-SM3")), "InvalidSignatureAlgorithm");
    assert_eq!(judge(&|it| *it = it.replace(",", ", ")), "IncompleteSignature");
    assert_eq!(judge(&|it| *it = it.replace("host;x-acs-action;", "x-acs-action;host;")), "IncompleteSignature");
    assert_eq!(judge(&|it| *it = it.replace("host;", "")), "IncompleteSignature");
    assert_eq!(judge(&|it| it.truncate(it.len() - 2)), "SignatureDoesNotMatch");
    assert_eq!(
        judge(&|it| *it = it.to_uppercase().replace("YOURACCESSKEYID", "YourAccessKeyId")),
        "IncompleteSignature"
    );
    let mut keys = vector.keys();
    let disabled = Key { active: false, ..keys.find("YourAccessKeyId").unwrap().clone() };
    keys = Keys::new([("YourAccessKeyId".into(), disabled)].into());
    let judged = authenticate(&vector.request(), &keys, &mut Nonces::default(), vector.now());
    assert_eq!(code(judged), "InvalidAccessKeyId.Inactive");
}

#[test]
fn a_blank_may_come_as_a_plus_and_is_signed_as_a_blank() {
    let vectors = vectors();
    let mut tried = 0;
    for vector in vectors.iter().filter(|it| it.request().query.contains("%20")) {
        let mut request = vector.request();
        request.query = request.query.replace("%20", "+");
        vector.judge(&request).expect(&vector.name);
        tried += 1;
    }
    assert!(tried > 0, "no vector has a blank");
}

#[test]
fn a_query_that_is_badly_encoded_is_refused() {
    for query in ["a=%", "a=%4", "a=%zz", "a=%+1", "a=%ff"] {
        let request = Received { query: query.into(), ..Received::default() };
        assert!(request.parameters().is_err(), "{query}");
    }
}
