//! HTTP: requests in, answers out, and what is done to answers by faults.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::error::{ApiError, refuse};
use super::fault::{Fault, Faults, Kind};
use super::journal::{Entry, Journal};
use super::metadata::Metadata;
use super::verify::Received;
use super::world::World;
use super::{admin, api};

/// No request of a client's is longer.
const BODY_MAX: usize = 64 * 1024;

/// A body that can break off.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What both listeners work on.
pub struct Shared {
    begun: Instant,
    parts: Mutex<Parts>,
}

/// All state.
pub struct Parts {
    /// The cloud.
    pub world: World,
    /// Its metadata service.
    pub metadata: Metadata,
    /// What goes wrong.
    pub faults: Faults,
    /// What was called.
    pub journal: Journal,
}

impl Shared {
    /// The beginning of its time.
    pub fn new(world: World, metadata: Metadata) -> Self {
        let parts = Parts { world, metadata, faults: Faults::default(), journal: Journal::default() };
        Self { begun: Instant::now(), parts: Mutex::new(parts) }
    }

    /// Since its start.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// # Panics
    /// A holder panicked.
    pub fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().expect("no holder panics")
    }
}

/// Seconds since 1970, UTC.
pub fn date() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Clients of the cloud.
    Public,
    /// The tests.
    Admin,
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>, side: Side) {
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let answer = service_fn(|request: Request<Incoming>| {
                let shared = Arc::clone(&shared);
                async move { one(request, from, &shared, side).await }
            });
            // What a client does with its connection is its own affair.
            let _over = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

async fn one(request: Request<Incoming>, from: SocketAddr, shared: &Shared, side: Side) -> io::Result<Response<Body>> {
    let received = receive(request).await?;
    match side {
        Side::Admin => {
            let (status, body) = admin::answer(shared, &received);
            Ok(json_answer(status, &body))
        }
        Side::Public => public(&received, from.ip(), shared).await,
    }
}

async fn receive(request: Request<Incoming>) -> io::Result<Received> {
    let (head, body) = request.into_parts();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let body = Limited::new(body, BODY_MAX).collect().await.map_err(io::Error::other)?;
    Ok(Received {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers,
        body: body.to_bytes().to_vec(),
    })
}

async fn public(request: &Received, from: IpAddr, shared: &Shared) -> io::Result<Response<Body>> {
    let metadata = request.path.starts_with("/latest/");
    let action = if metadata { None } else { Some(api::action(request)) };
    let (service, name) = match &action {
        None => ("metadata", request.path.clone()),
        Some(Ok(action)) => (action.product, action.name.to_owned()),
        Some(Err(_)) => ("unknown", request.header("x-acs-action").unwrap_or_default().to_owned()),
    };
    let fault = shared.parts().faults.hit(service, &name);
    let works = fault.as_ref().is_none_or(|fault| fault.after || fault.kind.works());
    if let Some(fault) = &fault {
        tokio::time::sleep(fault.kind.delay()).await;
    }
    let number = format!("{:08X}-0000-4000-8000-{:012X}", std::process::id(), shared.parts().journal.all().len() + 1);
    let host = request.header("host").unwrap_or_default();
    let mut who = None;
    let (status, kind, body, mut outcome) = match action {
        _ if !works => (200, "application/json", String::new(), "not done".to_owned()),
        None => {
            let parts = &mut *shared.parts();
            let (status, body) = parts.metadata.answer(&mut parts.world, request, from, date());
            (status, "text/plain", body, if status == 200 { "ok".into() } else { status.to_string() })
        }
        Some(action) => {
            let result = match action {
                Err(error) => Err(error),
                Ok(action) => {
                    let (caller, result) = api::call(&mut shared.parts().world, action, request, shared.now(), date());
                    who = caller.map(|caller| (caller.key_id, caller.user));
                    result
                }
            };
            let outcome = result.as_ref().map_or_else(|error| error.code.clone(), |_| "ok".to_owned());
            let (status, body) = spoken(result, &number, host);
            (status, "application/json", body.to_string(), outcome)
        }
    };
    let answer = match &fault {
        None => Ok(plain_answer(status, kind, body)),
        Some(fault) => {
            let refused = spoiled(fault, &number, host);
            if let Some((_, error)) = &refused {
                outcome.clone_from(&error.code);
            }
            note(shared, request, from, service, &name, who.take(), &outcome, Some(fault));
            return broken(fault, status, kind, body, refused.map(|(answer, _)| answer)).await;
        }
    };
    note(shared, request, from, service, &name, who, &outcome, None);
    answer
}

#[expect(clippy::too_many_arguments, reason = "the fields of one record, in one place")]
fn note(
    shared: &Shared,
    request: &Received,
    from: IpAddr,
    service: &str,
    action: &str,
    who: Option<(String, String)>,
    outcome: &str,
    fault: Option<&Fault>,
) {
    let parameters = request.parameters().unwrap_or_default();
    let entry = Entry {
        number: 0,
        at_ms: shared.now().as_millis() as u64,
        from,
        service: service.to_owned(),
        action: action.to_owned(),
        // The older signature has its token among the parameters.
        parameters: parameters.into_iter().filter(|(name, _)| name != "SecurityToken").collect(),
        nonce: request.header("x-acs-signature-nonce").map(str::to_owned),
        who,
        outcome: outcome.to_owned(),
        fault: fault.map(|fault| fault.kind.name().to_owned()),
    };
    shared.parts().journal.add(entry);
}

fn spoken(result: Result<Value, ApiError>, number: &str, host: &str) -> (u16, Value) {
    match result {
        Ok(mut body) => {
            body["RequestId"] = json!(number);
            (200, body)
        }
        Err(error) => (error.status, error.body(number, host)),
    }
}

/// The answer that a fault puts in place of the right one.
fn spoiled(fault: &Fault, number: &str, host: &str) -> Option<(Response<Body>, ApiError)> {
    let (error, retry_after) = match &fault.kind {
        Kind::Throttle { retry_after_ms } => {
            (refuse(400, "Throttling.User", "Request was denied due to user flow control."), *retry_after_ms)
        }
        Kind::Error { status, code } => (refuse(*status, code, "A fault of the double."), None),
        _ => return None,
    };
    let mut answer = json_answer(error.status, &error.body(number, host));
    if let Some(ms) = retry_after {
        answer.headers_mut().insert("x-acs-retry-after", HeaderValue::from(ms));
    }
    Some((answer, error))
}

async fn broken(
    fault: &Fault,
    status: u16,
    kind: &'static str,
    body: String,
    refused: Option<Response<Body>>,
) -> io::Result<Response<Body>> {
    match &fault.kind {
        Kind::Throttle { .. } | Kind::Error { .. } => refused.ok_or_else(|| io::Error::other("no answer")),
        Kind::WrongStatus { status } => Ok(plain_answer(*status, kind, body)),
        Kind::Slow { .. } => Ok(plain_answer(status, kind, body)),
        Kind::Truncated => {
            // One that was not done has no answer to cut.
            let body = if body.is_empty() { r#"{"RequestId":"00000000-0000","Code":"#.repeat(2) } else { body };
            Ok(half(kind, body))
        }
        Kind::Garbage => Ok(plain_answer(200, "text/html", "<html><body>502 Bad Gateway</body></html>".to_owned())),
        Kind::Reset => Err(io::Error::other("a fault of the double")),
        Kind::BlackHole => std::future::pending().await,
    }
}

/// Says that there is a whole, and sends half of it.
fn half(kind: &'static str, body: String) -> Response<Body> {
    let length = body.len();
    let bytes = Bytes::from(body).slice(..length / 2);
    let first = stream::once(async move { Ok(Frame::data(bytes)) });
    // After a while: what an error follows at once does not leave at all.
    let second = stream::once(async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(io::Error::other("a fault of the double"))
    });
    let mut answer = Response::new(StreamBody::new(first.chain(second)).boxed_unsync());
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

fn json_answer(status: u16, body: &Value) -> Response<Body> {
    plain_answer(status, "application/json", body.to_string())
}

fn plain_answer(status: u16, kind: &'static str, body: String) -> Response<Body> {
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
    let mut answer = Response::new(body);
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}
