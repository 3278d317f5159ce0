//! Every vector, byte for byte, at each stage; and what must change a signature.

use serde_json::Value;

use super::*;

const VECTORS: &str = include_str!("../testdata/acs3-signing.json");

fn vectors() -> Vec<Value> {
    let file: Value = serde_json::from_str(VECTORS).unwrap();
    file["vectors"].as_array().unwrap().clone()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn pairs(value: &Value) -> Vec<(&str, &str)> {
    match value {
        Value::Array(pairs) => pairs.iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect(),
        Value::Object(map) => map.iter().map(|(name, value)| (name.as_str(), text(value))).collect(),
        other => panic!("{other}"),
    }
}

/// Runs `judge` on a vector's request.
fn with<T>(input: &Value, judge: impl FnOnce(&Unsigned<'_>, &Signer<'_>, &Once<'_>) -> T) -> T {
    let (query, extra) = (pairs(&input["query"]), pairs(&input["extra_headers"]));
    let secret = SecretString::from(text(&input["access_key_secret"]));
    let token = input["security_token"].as_str().map(SecretString::from);
    let request = Unsigned {
        method: text(&input["method"]),
        host: text(&input["host"]),
        path: text(&input["path"]),
        action: text(&input["action"]),
        version: text(&input["version"]),
        query: &query,
        content_type: input["content_type"].as_str(),
        body: text(&input["body"]).as_bytes(),
        extra: &extra,
    };
    let signer = Signer { id: text(&input["access_key_id"]), secret: &secret, token: token.as_ref() };
    judge(&request, &signer, &Once { date: text(&input["date"]), nonce: text(&input["nonce"]) })
}

#[test]
fn every_vector_is_met_byte_for_byte_at_each_stage() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 29);
    for vector in &vectors {
        let (name, expected) = (text(&vector["name"]), &vector["expected"]);
        with(&vector["input"], |request, signer, once| {
            let payload = hex(&Sha256::digest(request.body));
            assert_eq!(payload, text(&expected["hashed_payload"]), "{name}");
            let query = canonical_query(request.query);
            assert_eq!(query, text(&expected["canonical_query"]), "{name}");
            let headers = headers(request, signer, once, &payload);
            let names = signed_names(&headers);
            assert_eq!(names, text(&expected["signed_headers"]), "{name}");
            let canonical = canonical_request(request, &query, &headers, &names, &payload);
            assert_eq!(*canonical, text(&expected["canonical_request"]), "{name}");
            let to_sign = string_to_sign(&canonical);
            assert_eq!(to_sign, text(&expected["string_to_sign"]), "{name}");
            assert_eq!(signature(signer.secret, &to_sign), text(&expected["signature"]), "{name}");

            let signed = sign(request, signer, once);
            assert_eq!(signed.query, text(&expected["canonical_query"]), "{name}");
            let (last, authorization) = signed.headers.last().unwrap();
            assert_eq!((last.as_str(), authorization.as_str()), ("authorization", text(&expected["authorization"])));
        });
    }
}

#[test]
fn whatever_is_signed_changes_the_signature() {
    let vectors = vectors();
    let base = vectors.iter().find(|vector| vector["name"] == "unassociate-havip-force-sts").unwrap();
    let authorization = |input: &Value| {
        with(input, |request, signer, once| sign(request, signer, once).headers.pop().unwrap().1.to_string())
    };
    let untouched = authorization(&base["input"]);
    let changes =
        ["method", "host", "path", "action", "version", "date", "nonce", "access_key_secret", "security_token"];
    for key in changes.into_iter().chain(["body", "access_key_id"]) {
        let mut input = base["input"].clone();
        input[key] = format!("{}x", input[key].as_str().unwrap_or_default()).into();
        assert_ne!(authorization(&input), untouched, "{key}");
    }
    let mut input = base["input"].clone();
    input["query"][0][1] = format!("{}x", text(&input["query"][0][1])).into();
    assert_ne!(authorization(&input), untouched);
}

#[test]
fn the_headers_that_are_sent_are_the_ones_that_are_signed() {
    for vector in &vectors() {
        with(&vector["input"], |request, signer, once| {
            let mut signed = sign(request, signer, once).headers;
            signed.pop();
            assert_eq!(signed_names(&signed), text(&vector["expected"]["signed_headers"]));
            assert!(
                signed.is_sorted_by_key(|(name, _)| name.clone()) && signed.iter().all(|(name, _)| takes_part(name))
            );
        });
    }
}
