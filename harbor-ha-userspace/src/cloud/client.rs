//! One call to the service: signed, limited in time and size, repeated where that helps.
//!
//! A repetition is the same request with the same `ClientToken`, so that a change is made once, and with another date and
//! nonce, so signed anew. It ends with the caller's time: what is left of that bounds every wait.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use reqwest::StatusCode;
use rustix::rand::{GetRandomFlags, getrandom};
use serde_json::Value;
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::time::{Instant, sleep, timeout_at};

use super::answer;
use super::credentials::{Keeper, Keys};
use super::error::{Class, CloudError, Refusal, class};
use super::http;
use super::metadata::sensitive;
use super::pace::{Bucket, Pace, Rest, Wrong};
use super::sign::{Once, Unsigned, sign};
use crate::config::settings::Endpoint;

/// The longest of answers, 50 HaVips or 100 instances with all their fields, is a tenth of this.
const ANSWER_BYTES: usize = 4 << 20;
/// A refusal is a few lines.
const REFUSAL_BYTES: usize = 64 * 1024;

/// A service of the cloud, with its own address and version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// HaVips and EIPs.
    Vpc,
    /// Instances and security groups.
    Ecs,
}

impl Service {
    /// As the API is named after its date.
    pub const fn version(self) -> &'static str {
        match self {
            Self::Vpc => "2016-04-28",
            Self::Ecs => "2014-05-26",
        }
    }

    /// The name of the service inside a VPC of that region. Built here and not looked up: the tables of the official SDKs
    /// answer with public names for some regions although the internal one was asked for.
    pub fn internal(self, region: &str) -> Endpoint {
        let name = match self {
            Self::Vpc => "vpc",
            Self::Ecs => "ecs",
        };
        Endpoint { tls: true, host: format!("{name}-vpc.{region}.aliyuncs.com"), port: 443 }
    }
}

/// A call, without what changes from one attempt to the next.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which service.
    pub service: Service,
    /// The API's name.
    pub action: &'static str,
    /// Not encoded, in any order.
    pub params: Vec<(String, String)>,
}

impl Call {
    /// Without parameters yet.
    pub fn new(service: Service, action: &'static str) -> Self {
        Self { service, action, params: Vec::new() }
    }

    /// One more parameter.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.params.push((name.into(), value.into()));
        self
    }

    /// One more where there is a value.
    pub fn with_some(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// A token of its own: repetitions of this very call are one change.
    pub fn once(self) -> Self {
        self.with("ClientToken", format!("harbor-ha-{}", nonce()))
    }
}

/// A service that throttles, and the refusal by which it said so last.
struct Throttling {
    rest: Rest,
    refusal: Refusal,
}

/// Makes calls.
pub struct Client {
    http: reqwest::Client,
    keeper: Keeper,
    pace: Pace,
    bucket: Mutex<Bucket>,
    /// The services that have throttled.
    throttling: Mutex<HashMap<Service, Throttling>>,
    begun: Instant,
}

impl Client {
    /// `connect` and `whole`: limits of one attempt.
    ///
    /// # Errors
    /// The HTTP client could not be made.
    pub fn new(
        keeper: Keeper,
        connect: Duration,
        whole: Duration,
        pace: Pace,
        bucket: Bucket,
    ) -> Result<Self, CloudError> {
        let http = http::client(connect, whole).map_err(CloudError::Client)?;
        Ok(Self { http, keeper, pace, bucket: Mutex::new(bucket), throttling: Mutex::default(), begun: Instant::now() })
    }

    /// Where the keys come from.
    pub fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// Calls, and again where that helps, until `within` is over.
    ///
    /// # Errors
    /// That of the last attempt.
    pub async fn call(&self, endpoint: &Endpoint, call: &Call, within: Duration) -> Result<Value, CloudError> {
        let deadline = Instant::now() + within;
        let (mut attempts, mut other_keys, mut last) = (0, false, None);
        loop {
            attempts += 1;
            self.admit(call, deadline).await?;
            // What an earlier attempt met says more than that time is over.
            let late = |last: Option<CloudError>| {
                last.unwrap_or_else(|| CloudError::Unreachable {
                    action: call.action,
                    endpoint: http::authority(endpoint),
                    attempts,
                    why: format!("nothing within {within:?}"),
                })
            };
            let patience = deadline.saturating_duration_since(Instant::now()) / 2;
            let keys = match timeout_at(deadline, self.keeper.current(patience)).await {
                Ok(keys) => keys?.0,
                Err(_) => return Err(late(last)),
            };
            let failed = match timeout_at(deadline, self.attempt(endpoint, call, &keys, attempts)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(failed)) => failed,
                Err(_) => return Err(late(last)),
            };
            if matches!(failed.wrong, Wrong::Refused(Class::Keys, _)) {
                self.keeper.distrust(&keys).await;
                if std::mem::replace(&mut other_keys, true) {
                    return Err(failed.error);
                }
            }
            let pause = self.pace.pause(failed.wrong, attempts + 1, random::<1>()[0]);
            if let (Wrong::Refused(Class::Throttled, _), CloudError::Refused(refusal), Some(pause)) =
                (failed.wrong, &failed.error, pause)
            {
                self.throttled(call.service, pause, refusal);
            }
            let Some(pause) = pause.filter(|pause| Instant::now() + *pause < deadline) else {
                return Err(self.rest(call).map_or(failed.error, |(_, throttled)| throttled));
            };
            tracing::debug!(action = call.action, attempts, error = %failed.error, ?pause, "a cloud call is repeated");
            sleep(pause).await;
            last = Some(failed.error);
        }
    }

    /// Every call to `service` waits so long.
    fn throttled(&self, service: Service, pause: Duration, refusal: &Refusal) {
        let now = self.begun.elapsed();
        let mut services = self.throttling.lock().expect("no panic while it is held");
        let known = services.entry(service);
        let known = known.or_insert_with(|| Throttling { rest: Rest::default(), refusal: refusal.clone() });
        known.rest.wish(now, pause);
        known.refusal.clone_from(refusal);
    }

    /// How long the service of `call` is to be left alone, and what to tell somebody who cannot wait for that.
    fn rest(&self, call: &Call) -> Option<(Duration, CloudError)> {
        let services = self.throttling.lock().expect("no panic while it is held");
        let throttling = services.get(&call.service)?;
        let left = throttling.rest.left(self.begun.elapsed())?;
        // Up to the next whole second, as it is told in seconds.
        let until = utc(OffsetDateTime::now_utc() + left + Duration::from_millis(999));
        let refusal = Box::new(throttling.refusal.clone());
        Some((left, CloudError::Throttled { action: call.action, until, refusal }))
    }

    /// Waits until the service may be asked, and for this process's turn.
    async fn admit(&self, call: &Call, deadline: Instant) -> Result<(), CloudError> {
        loop {
            if let Some((left, throttled)) = self.rest(call) {
                if Instant::now() + left >= deadline {
                    return Err(throttled);
                }
                sleep(left).await;
                continue;
            }
            let now = self.begun.elapsed();
            let turn = self.bucket.lock().expect("no panic while it is held").take(now);
            let Err(wait) = turn else { return Ok(()) };
            if Instant::now() + wait >= deadline {
                return Err(CloudError::Limited { action: call.action });
            }
            sleep(wait).await;
        }
    }

    async fn attempt(&self, endpoint: &Endpoint, call: &Call, keys: &Keys, attempts: u32) -> Result<Value, Failed> {
        let (host, action) = (http::authority(endpoint), call.action);
        let unheard = |error| Failed { wrong: Wrong::Unheard, error };
        let unreachable = |why| unheard(CloudError::Unreachable { action, endpoint: host.clone(), attempts, why });
        let unusable = |why| unheard(CloudError::Unusable { action, endpoint: host.clone(), why });

        let query: Vec<(&str, &str)> =
            call.params.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let request = Unsigned {
            method: "POST",
            host: &host,
            path: "/",
            action,
            version: call.service.version(),
            query: &query,
            content_type: None,
            body: b"",
            extra: &[],
        };
        let signed = sign(&request, &keys.signer(), &Once { date: &utc(OffsetDateTime::now_utc()), nonce: &nonce() });
        let mut sent = self.http.post(format!("{}/?{}", http::base(endpoint), signed.query));
        // Without a length some servers refuse a POST.
        sent = sent.header("accept", "application/json").header("content-length", "0");
        // The library writes `host` itself, from the same text.
        for (name, value) in signed.headers.iter().filter(|(name, _)| name != "host") {
            sent = sent.header(name, sensitive(value));
        }
        let response = sent.send().await.map_err(|error| unreachable(http::words(&error)))?;
        let status = response.status();
        let after = retry_after(response.headers().get("x-acs-retry-after"));
        let most = if status.is_success() { ANSWER_BYTES } else { REFUSAL_BYTES };
        let body = http::body(response, most).await;
        if !status.is_success() {
            // A refusal whose text is lost is a refusal all the same.
            let body = body.unwrap_or_default();
            let refusal = refusal(action, status, &body, keys);
            let wrong = Wrong::Refused(class(action, refusal.status, &refusal.code), after);
            return Err(Failed { wrong, error: CloudError::Refused(Box::new(refusal)) });
        }
        let body = body.map_err(&unusable)?;
        // serde_json's own words are about lines and columns: of no use here.
        match serde_json::from_slice::<Value>(&body) {
            Ok(answer) if answer.is_object() => Ok(answer),
            Ok(_) => Err(unusable("it is JSON, and no object".to_owned())),
            Err(error) if error.is_eof() => Err(unusable("it breaks off".to_owned())),
            Err(_) => Err(unusable("it is no JSON".to_owned())),
        }
    }
}

/// An attempt that came to nothing.
struct Failed {
    wrong: Wrong,
    error: CloudError,
}

/// Milliseconds, as the official SDKs read it.
fn retry_after(header: Option<&reqwest::header::HeaderValue>) -> Option<Duration> {
    header?.to_str().ok()?.trim().parse().ok().map(Duration::from_millis)
}

/// What a refusal says: JSON, or XML in what is older or comes from a gateway before the service.
fn refusal(action: &'static str, status: StatusCode, body: &[u8], keys: &Keys) -> Refusal {
    let text = String::from_utf8_lossy(body);
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let find = |name| answer::text(&json, name).or_else(|| in_xml(&text, name));
    Refusal {
        action,
        status: status.as_u16(),
        code: find("Code").map_or_else(|| format!("HTTP {}", status.as_u16()), |code| keys.scrub(&code)),
        message: keys.scrub(&find("Message").unwrap_or_else(|| "no reason given".to_owned())),
        request: keys.scrub(&find("RequestId").unwrap_or_else(|| "unknown".to_owned())),
    }
}

fn in_xml(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (value, _) = rest.split_once(&format!("</{name}>"))?;
    Some(value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// `2023-10-26T10:22:32Z`.
fn utc(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    at.format(format).expect("every instant has these parts")
}

/// 128 random bits in hexadecimal.
pub(super) fn nonce() -> String {
    super::sign::hex(&random::<16>())
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let filled = getrandom(&mut bytes, GetRandomFlags::empty());
    // Up to 256 bytes come whole once the kernel has been seeded, which the call waits for.
    assert_eq!(filled, Ok(N), "the kernel gives random numbers");
    bytes
}

#[cfg(test)]
pub(super) mod tests;
