//! The Unix socket of the daemon: one JSON object a line, in and out.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use crate::config::settings::Node;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// How is it?
    Status,
    /// Hand the service to the peer.
    Switchover,
}

/// A question, and where its answer goes.
pub(super) struct Ask {
    pub request: Request,
    pub answer: oneshot::Sender<Value>,
}

/// Questions that may wait for the loop at a time; more clients wait in the listener's queue.
const ASKS: usize = 16;
/// A client that says nothing for this long is let go.
const PATIENCE: Duration = Duration::from_secs(5);
/// No request is longer.
const LINE_MAX: u64 = 4096;

/// Where the socket of an instance is.
pub fn socket_path(node: &Node) -> PathBuf {
    node.runtime_dir.join(format!("{}.sock", node.instance))
}

/// Listens; root only, as its requests move a service.
pub(super) fn listen(path: &Path) -> io::Result<mpsc::Receiver<Ask>> {
    match std::fs::remove_file(path) {
        // The lock says that nobody else listens there.
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let (asks, questions) = mpsc::channel(ASKS);
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(serve(stream, asks.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "status socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(questions)
}

async fn serve(mut stream: UnixStream, asks: mpsc::Sender<Ask>) {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    let mut reader = BufReader::new(tokio::io::AsyncReadExt::take(read, LINE_MAX));
    let heard = tokio::time::timeout(PATIENCE, reader.read_line(&mut line)).await;
    if !matches!(heard, Ok(Ok(length)) if length > 0) {
        return;
    }
    let answer = match serde_json::from_str(&line) {
        Ok(request) => {
            let (answer, wait) = oneshot::channel();
            if asks.send(Ask { request, answer }).await.is_err() {
                return;
            }
            wait.await.unwrap_or_else(|_| serde_json::json!({"error": "the daemon is ending"}))
        }
        Err(error) => serde_json::json!({"error": format!("not a request: {error}")}),
    };
    // A client that left does not want the answer.
    let _gone = write.write_all(format!("{answer}\n").as_bytes()).await;
}

/// Asks the daemon that listens on `path`.
///
/// # Errors
///
/// Nobody listens, or the answer is no JSON.
pub async fn ask(path: &Path, request: Request) -> io::Result<Value> {
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(format!("{}\n", serde_json::to_string(&request)?).as_bytes()).await?;
    let mut line = String::new();
    let mut reader = BufReader::new(stream);
    let answer = tokio::time::timeout(PATIENCE, reader.read_line(&mut line));
    answer.await.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the daemon does not answer"))??;
    Ok(serde_json::from_str(&line)?)
}
