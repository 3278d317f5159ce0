//! The page for machines, and for people with a browser: `/metrics`, `/status`, and `/` with what `harbor-ha status` shows.
//!
//! Must never be in the way of the daemon. So it runs on a thread of its own that gives way to every other, with limits
//! on clients and on their time; all it asks of the loop is one snapshot, and no more than a few of these a second,
//! however many ask here. It decides nothing and takes no orders: whoever reaches it may read, and nothing else.
//!
//! One request a connection: what a client leaves open is what the next one would have to wait for.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::metrics::{self, Measured};
use super::status::Status;
use super::table;

/// Where the loop finds who wants a snapshot.
pub type Looks<S = Status> = mpsc::Receiver<oneshot::Sender<S>>;

/// What is shown: of a pair, or of a router.
pub trait Shown: Measured + Serialize {
    /// As text, from its JSON.
    fn render(status: &serde_json::Value) -> String;
}

impl Shown for Status {
    fn render(status: &serde_json::Value) -> String {
        table::render(status, None)
    }
}

/// Clients at a time; more wait in the listener's queue. Prometheus is one, and a pair of them two.
const CLIENTS: usize = 16;
/// From the accept to the last byte of the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The loop answers within milliseconds; a client shall read why there is nothing before its own time is over.
const LOOP_PATIENCE: Duration = Duration::from_secs(2);
/// So old may a snapshot be that several clients share.
const FRESH: Duration = Duration::from_millis(200);
/// Between two tries to listen: an address may come later than the daemon, or a port be free again.
const AGAIN: Duration = Duration::from_secs(5);
/// No request of a scraper's is longer.
const REQUEST_MAX: usize = 8192;
/// A small one, as it may be locked in memory.
const STACK: usize = 512 * 1024;
/// As far behind every other thread as `nice` of a shell puts a command.
const NICENESS: i32 = 10;

/// Serves for as long as the process lives; what comes back is for the loop, which is asked there.
///
/// # Errors
/// No thread, or no descriptors. That the address cannot be listened on is no error: it is said, and tried again.
pub fn start<S: Shown>(listen: SocketAddr) -> io::Result<Looks<S>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ask, looks) = mpsc::channel(1);
    thread::Builder::new().name("observe".to_owned()).stack_size(STACK).spawn(move || {
        // On Linux a thread's own; refused by nobody, as it asks for less.
        let _niceness = rustix::process::nice(NICENESS);
        runtime.block_on(async { serve(bound(listen).await, Arc::new(Desk::new(ask)), PATIENCE).await });
    })?;
    Ok(looks)
}

async fn bound(listen: SocketAddr) -> TcpListener {
    let mut said = false;
    loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => {
                tracing::info!(%listen, "metrics and status over HTTP");
                return listener;
            }
            Err(error) if !said => {
                said = true;
                tracing::error!(%error, %listen, "no metrics: cannot listen there (observe.listen); tried again until it works");
            }
            Err(_) => {}
        }
        sleep(AGAIN).await;
    }
}

async fn serve<S: Shown>(listener: TcpListener, desk: Arc<Desk<S>>, patience: Duration) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    // A client that is slow, left or speaks something else is its own affair.
                    let _over = timeout(patience, one(stream, &desk)).await;
                    drop(place);
                });
            }
            // Out of descriptors: the daemon needs them more.
            Err(error) => {
                tracing::debug!(%error, "a client of the metrics");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn one<S: Shown>(stream: TcpStream, desk: &Desk<S>) -> hyper::Result<()> {
    let answer = service_fn(|request: Request<Incoming>| async move {
        let answer = answer(request.method(), request.uri().path(), desk).await;
        Ok::<_, Infallible>(answer)
    });
    http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(REQUEST_MAX)
        .serve_connection(TokioIo::new(stream), answer)
        .await
}

async fn answer<S: Shown>(method: &Method, path: &str, desk: &Desk<S>) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut refused = page(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET: orders go by `harbor-ha`\n");
        refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let made: fn(Arc<S>) -> Option<(&'static str, String)> = match path {
        "/metrics" => |status| Some((metrics::CONTENT_TYPE, metrics::exposition(status).ok()?)),
        "/status" => |status| Some(("application/json", serde_json::to_string(&*status).ok()? + "\n")),
        "/" => |status| Some((PLAIN, S::render(&serde_json::to_value(&*status).ok()?) + FOOT)),
        _ => return page(StatusCode::NOT_FOUND, PLAIN, "there are /, /metrics and /status\n"),
    };
    let Some(status) = desk.status().await else {
        return page(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "the daemon does not answer, or is ending\n");
    };
    match made(status) {
        Some((kind, text)) => page(StatusCode::OK, kind, text),
        None => page(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, "the answer could not be written\n"),
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";
const FOOT: &str = "\nfor programs: /metrics (Prometheus), /status (JSON)\n";

fn page(code: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut page = Response::new(Full::new(text.into()));
    *page.status_mut() = code;
    let fixed = hyper::header::HeaderValue::from_static;
    page.headers_mut().insert(CONTENT_TYPE, fixed(kind));
    page.headers_mut().insert(CACHE_CONTROL, fixed("no-store"));
    page
}

/// Where clients get the snapshot: one for all that come together.
struct Desk<S> {
    ask: mpsc::Sender<oneshot::Sender<S>>,
    last: Mutex<Option<(Instant, Arc<S>)>>,
}

impl<S> Desk<S> {
    fn new(ask: mpsc::Sender<oneshot::Sender<S>>) -> Self {
        Self { ask, last: Mutex::default() }
    }

    /// `None`: the loop is busy with something that takes long, or gone.
    async fn status(&self) -> Option<Arc<S>> {
        // The others wait here for the one that asks.
        let mut last = self.last.lock().await;
        if let Some((_, status)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return Some(Arc::clone(status));
        }
        let (answer, wait) = oneshot::channel();
        let asked = async {
            self.ask.send(answer).await.ok()?;
            wait.await.ok()
        };
        let status = Arc::new(timeout(LOOP_PATIENCE, asked).await.ok()??);
        *last = Some((Instant::now(), Arc::clone(&status)));
        Some(status)
    }
}

#[cfg(test)]
mod tests;
