//! Whether a request is signed as the published rules of ACS3-HMAC-SHA256 ask for, judged from what came over the wire.
//!
//! Written from the specification, with another library than the daemon's signer: the two shall not share a mistake.
//! Knows neither sockets nor clocks; the caller says what time it is.

use std::collections::{BTreeMap, HashSet};

use ring::{digest, hmac};
use time::PrimitiveDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::error::{ApiError, refuse};
use super::keys::{Caller, Keys};

const ALGORITHM: &str = "ACS3-HMAC-SHA256";
/// `yyyy-MM-ddTHH:mm:ssZ`, and nothing else: no fraction, no other zone.
const DATE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
/// How far a request's date may be from the service's clock.
pub const CLOCK_SECONDS_MAX: i64 = 15 * 60;

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// `POST`
    pub method: String,
    /// Of the request line, without the query, still encoded.
    pub path: String,
    /// Of the request line, still encoded, without `?`.
    pub query: String,
    /// Names as they came; the order is that of the wire.
    pub headers: Vec<(String, String)>,
    /// Whole.
    pub body: Vec<u8>,
}

impl Received {
    /// The one header of a name; `None` too when there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value.trim()),
            _ => None,
        }
    }

    /// The parameters, decoded, in order of their names.
    ///
    /// A `+` is a blank: Alibaba's own SDK for Python writes a blank so, and signs it as `%20`.
    ///
    /// # Errors
    /// An escape that is none, or a text that is not UTF-8.
    pub fn parameters(&self) -> Result<Vec<(String, String)>, ApiError> {
        let mut found = Vec::new();
        for pair in self.query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            found.push((decode(name)?, decode(value)?));
        }
        found.sort();
        Ok(found)
    }
}

/// What a caller claims with the `Authorization` header.
struct Claim<'a> {
    key_id: &'a str,
    signed: Vec<&'a str>,
    signature: &'a str,
}

/// Nonces that were seen; one is never taken twice.
#[derive(Debug, Default)]
pub struct Nonces(HashSet<String>);

/// Who sent a request.
///
/// # Errors
/// The first rule that it breaks, as the service names it.
pub fn authenticate(request: &Received, keys: &Keys, nonces: &mut Nonces, now: i64) -> Result<Caller, ApiError> {
    let claim = claim(request)?;
    let key = keys
        .find(claim.key_id)
        .ok_or_else(|| refuse(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found or invalid."))?;
    if !key.active {
        return Err(refuse(400, "InvalidAccessKeyId.Inactive", "Specified access key is disabled."));
    }
    date(request, now)?;
    complete(request, &claim)?;
    payload(request)?;
    let canonical = canonical_request(request, &claim.signed)?;
    let to_sign = string_to_sign(&canonical);
    if !signature_is(&key.secret, &to_sign, claim.signature) {
        // The service echoes what it signed, the caller's security token in it: whoever logs this text logs the token.
        let words = format!(
            "Specified signature is not matched with our calculation. server StringToSign is [{to_sign}], server \
             CanonicalRequest is [{canonical}]"
        );
        return Err(refuse(400, "SignatureDoesNotMatch", words));
    }
    // Only now: whoever cannot sign shall not be able to use up somebody's nonce.
    let nonce = required(request, "x-acs-signature-nonce", "SignatureNonce")?;
    if !nonces.0.insert(nonce.to_owned()) {
        return Err(refuse(400, "SignatureNonceUsed", "Specified signature nonce was used already."));
    }
    key.token(request.header("x-acs-security-token"), now)?;
    Ok(key.caller(claim.key_id))
}

fn claim(request: &Received) -> Result<Claim<'_>, ApiError> {
    let malformed = || refuse(400, "IncompleteSignature", "The request signature does not conform to standards.");
    let header = request
        .header("authorization")
        .ok_or_else(|| refuse(400, "MissingAuthorization", "The Authorization header is missing."))?;
    let (algorithm, rest) = header.split_once(' ').ok_or_else(malformed)?;
    if algorithm != ALGORITHM {
        return Err(refuse(400, "InvalidSignatureAlgorithm", format!("`{algorithm}` is not supported.")));
    }
    let mut parts = rest.split(',');
    let mut part = |name: &str| {
        let value = parts.next().and_then(|part| part.strip_prefix(name)?.strip_prefix('='));
        value.filter(|value| !value.is_empty()).ok_or_else(malformed)
    };
    let (key_id, signed, signature) = (part("Credential")?, part("SignedHeaders")?, part("Signature")?);
    let signed: Vec<&str> = signed.split(';').collect();
    // Sorted, and each once: whatever else is signed would be another text.
    if parts.next().is_some() || !signed.is_sorted_by(|one, two| one < two) {
        return Err(malformed());
    }
    Ok(Claim { key_id, signed, signature })
}

fn required<'a>(request: &'a Received, header: &str, name: &str) -> Result<&'a str, ApiError> {
    let value = request.header(header).filter(|value| !value.is_empty());
    value.ok_or_else(|| refuse(400, format!("Missing{name}"), format!("{header} is mandatory, and there once.")))
}

fn date(request: &Received, now: i64) -> Result<(), ApiError> {
    let text = required(request, "x-acs-date", "Timestamp")?;
    let at = PrimitiveDateTime::parse(text, DATE).map_err(|_| {
        refuse(400, "InvalidTimeStamp.Format", "Specified time stamp or date value is not well formatted.")
    })?;
    if (at.assume_utc().unix_timestamp() - now).abs() > CLOCK_SECONDS_MAX {
        return Err(refuse(400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired."));
    }
    Ok(())
}

/// Everything that must be signed is: the host, the type of the body, and each `x-acs-*`.
fn complete(request: &Received, claim: &Claim<'_>) -> Result<(), ApiError> {
    let must = |name: &str| name == "host" || name == "content-type" || name.starts_with("x-acs-");
    let mut present: Vec<String> = request.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    present.sort();
    let twice = present.windows(2).any(|pair| pair[0] == pair[1] && must(&pair[0]));
    let unsigned = present.iter().find(|name| must(name) && !claim.signed.contains(&name.as_str()));
    let absent = claim.signed.iter().find(|name| present.iter().all(|known| known != *name));
    let wanted =
        ["host", "x-acs-action", "x-acs-content-sha256", "x-acs-date", "x-acs-signature-nonce", "x-acs-version"];
    let missing = wanted.into_iter().find(|name| !claim.signed.contains(name));
    let words = match (twice, unsigned, absent, missing) {
        (false, None, None, None) => return Ok(()),
        (true, ..) => "a header that is signed is there twice".to_owned(),
        (_, Some(name), ..) => format!("the header {name} is not signed"),
        (_, _, Some(name), _) => format!("the header {name} is signed, and not there"),
        (_, _, _, Some(name)) => format!("the header {name} is mandatory"),
    };
    Err(refuse(400, "IncompleteSignature", format!("The request signature does not conform to standards: {words}.")))
}

fn payload(request: &Received) -> Result<(), ApiError> {
    let claimed = required(request, "x-acs-content-sha256", "ContentSha256")?;
    if claimed != sha256_hex(&request.body) {
        return Err(refuse(400, "InvalidContentSha256", "x-acs-content-sha256 is not that of the body."));
    }
    Ok(())
}

/// `METHOD \n URI \n query \n headers \n signed headers \n payload`, of what was received.
fn canonical_request(request: &Received, signed: &[&str]) -> Result<String, ApiError> {
    let mut values: BTreeMap<String, &str> = BTreeMap::new();
    for (name, value) in &request.headers {
        values.insert(name.to_ascii_lowercase(), value.trim());
    }
    let headers: String =
        signed.iter().map(|name| format!("{name}:{}\n", values.get(*name).copied().unwrap_or_default())).collect();
    let payload = request.header("x-acs-content-sha256").unwrap_or_default();
    let path = if request.path.is_empty() { "/" } else { &request.path };
    Ok(format!("{}\n{path}\n{}\n{headers}\n{}\n{payload}", request.method, canonical_query(request)?, signed.join(";")))
}

/// Decoded and encoded again: what a client leaves unescaped on the wire (JavaScript's does with `!'()*`) is signed escaped.
fn canonical_query(request: &Received) -> Result<String, ApiError> {
    let pairs = request.parameters()?;
    Ok(pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect::<Vec<_>>().join("&"))
}

fn string_to_sign(canonical: &str) -> String {
    format!("{ALGORITHM}\n{}", sha256_hex(canonical.as_bytes()))
}

/// In constant time, as a service should.
fn signature_is(secret: &str, to_sign: &str, claimed: &str) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let lower_case = claimed.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    lower_case && unhex(claimed).is_some_and(|bytes| hmac::verify(&key, to_sign.as_bytes(), &bytes).is_ok())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

fn sha256_hex(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Only `A–Z a–z 0–9 - _ . ~` stay.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

fn decode(text: &str) -> Result<String, ApiError> {
    let malformed = || refuse(400, "InvalidParameter", "The query is not well encoded.");
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = rest.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
                let digits = std::str::from_utf8(digits.ok_or_else(malformed)?).map_err(|_| malformed())?;
                out.push(u8::from_str_radix(digits, 16).map_err(|_| malformed())?);
                rest = &rest[2..];
            }
            other => out.push(*other),
        }
    }
    String::from_utf8(out).map_err(|_| malformed())
}

#[cfg(test)]
mod tests;
