//! Signs a request for Alibaba Cloud: ACS3-HMAC-SHA256 ("V3"), RPC style.
//!
//! Pure: date and nonce are arguments, so the same request has the same signature. A retry must bring new ones: the
//! service refuses a nonce that it has seen, and a date more than 15 minutes from its own.
//!
//! What is signed is what must be sent, byte for byte: [`Signed::query`] goes into the address as it is (form encoding
//! would write a blank as `+`), and [`Signed::headers`] are all that must be there. Rules: Alibaba Cloud, "Request
//! syntax and signature method V3"; the cases are `testdata/acs3-signing.json`, where four code paths of the official
//! SDKs agree.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

const ALGORITHM: &str = "ACS3-HMAC-SHA256";

/// Whose signature: the key pair, and with temporary credentials the token that goes with it.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    /// AccessKey ID.
    pub id: &'a str,
    /// AccessKey secret.
    pub secret: &'a SecretString,
    /// STS token.
    pub token: Option<&'a SecretString>,
}

/// What is to be signed.
#[derive(Clone, Copy, Debug)]
pub struct Unsigned<'a> {
    /// `POST` or `GET`.
    pub method: &'a str,
    /// As the `host` header has it: with a port only where it is not the scheme's own.
    pub host: &'a str,
    /// `/` in RPC style.
    pub path: &'a str,
    /// `x-acs-action`.
    pub action: &'a str,
    /// `x-acs-version`, the date of the API.
    pub version: &'a str,
    /// Parameters, not encoded, in any order. Lists are flattened by the caller: `InstanceId.1`.
    pub query: &'a [(&'a str, &'a str)],
    /// Of the body, where there is one.
    pub content_type: Option<&'a str>,
    /// Empty in RPC style.
    pub body: &'a [u8],
    /// More headers; those that begin with `x-acs-` are signed.
    pub extra: &'a [(&'a str, &'a str)],
}

/// When, and the number that is used once.
#[derive(Clone, Copy, Debug)]
pub struct Once<'a> {
    /// UTC, `2023-10-26T10:22:32Z`.
    pub date: &'a str,
    /// Never used before with this key.
    pub nonce: &'a str,
}

/// A request that can be sent. No `Debug`: the headers hold the token.
pub struct Signed {
    /// Encoded and sorted, without `?`.
    pub query: String,
    /// Lower-case names, sorted, `authorization` last; `host` is among them.
    pub headers: Vec<(String, Zeroizing<String>)>,
}

/// Signs `request`.
pub fn sign(request: &Unsigned<'_>, signer: &Signer<'_>, once: &Once<'_>) -> Signed {
    let query = canonical_query(request.query);
    let payload = hex(&Sha256::digest(request.body));
    let mut headers = headers(request, signer, once, &payload);
    let signed = signed_names(&headers);
    let canonical = canonical_request(request, &query, &headers, &signed, &payload);
    let signature = signature(signer.secret, &string_to_sign(&canonical));
    let authorization =
        Zeroizing::new(format!("{ALGORITHM} Credential={},SignedHeaders={signed},Signature={signature}", signer.id));
    headers.push(("authorization".to_owned(), authorization));
    Signed { query, headers }
}

/// All that is sent besides `authorization`: lower case, trimmed, sorted by name.
fn headers(
    request: &Unsigned<'_>,
    signer: &Signer<'_>,
    once: &Once<'_>,
    payload: &str,
) -> Vec<(String, Zeroizing<String>)> {
    let mut headers = Vec::new();
    let mut add = |name: &str, value: &str| {
        headers.push((name.to_ascii_lowercase(), Zeroizing::new(value.trim().to_owned())));
    };
    add("host", request.host);
    add("x-acs-action", request.action);
    add("x-acs-content-sha256", payload);
    add("x-acs-date", once.date);
    add("x-acs-signature-nonce", once.nonce);
    add("x-acs-version", request.version);
    if let Some(token) = signer.token {
        add("x-acs-security-token", token.expose_secret());
    }
    if let Some(content_type) = request.content_type {
        add("content-type", content_type);
    }
    for (name, value) in request.extra {
        add(name, value);
    }
    headers.sort_by(|(one, _), (other, _)| one.cmp(other));
    headers
}

/// The headers that take part, as `SignedHeaders` lists them.
fn signed_names(headers: &[(String, Zeroizing<String>)]) -> String {
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).filter(|name| takes_part(name)).collect();
    names.join(";")
}

fn takes_part(name: &str) -> bool {
    matches!(name, "host" | "content-type") || name.starts_with("x-acs-")
}

/// Sorted by name in the order of bytes, so `InstanceId.10` is before `InstanceId.2`; an empty value keeps its `=`.
fn canonical_query(query: &[(&str, &str)]) -> String {
    let mut pairs: Vec<&(&str, &str)> = query.iter().collect();
    pairs.sort();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{}={}", pct(name), pct(value))).collect();
    pairs.join("&")
}

/// Percent encoding of RFC 3986: all but the unreserved characters, once, with upper-case digits.
pub(super) fn pct(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            _ => write!(out, "%{byte:02X}").expect("a String takes everything"),
        }
    }
    out
}

fn canonical_request(
    request: &Unsigned<'_>,
    query: &str,
    headers: &[(String, Zeroizing<String>)],
    signed: &str,
    payload: &str,
) -> Zeroizing<String> {
    let mut text = Zeroizing::new(format!("{}\n{}\n{query}\n", request.method, request.path));
    for (name, value) in headers.iter().filter(|(name, _)| takes_part(name)) {
        *text += name;
        *text += ":";
        *text += value;
        *text += "\n";
    }
    // Each header ends its line, so an empty one is before the list of names.
    *text += "\n";
    *text += signed;
    *text += "\n";
    *text += payload;
    text
}

fn string_to_sign(canonical: &str) -> String {
    format!("{ALGORITHM}\n{}", hex(&Sha256::digest(canonical)))
}

/// The secret is the key as it is: no derivation by date or region, as other clouds have it.
fn signature(secret: &SecretString, text: &str) -> String {
    let key = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes());
    let mut mac = key.expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    hex(&mac.finalize().into_bytes())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(out, "{byte:02x}").expect("a String takes everything");
    }
    out
}

#[cfg(test)]
mod tests;
