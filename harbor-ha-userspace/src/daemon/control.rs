//! The Unix socket of the daemon: one JSON object a line, in and out.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::repeated::Repeated;
use crate::config::settings::Node;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// How is it?
    Status,
    /// Hand the service to the peer.
    Switchover,
    /// Take over, whatever the peer does.
    Failover {
        /// Why, for the log.
        reason: String,
    },
    /// No automatic action.
    Pause,
    /// Act again.
    Resume,
    /// This daemon will be silent for a while.
    Hold,
    /// Make this standby anew.
    Reinit,
}

/// A question, and where its answer goes.
pub(super) struct Ask {
    pub request: Request,
    pub answer: oneshot::Sender<Value>,
}

/// Questions that may wait for the loop at a time; more clients wait in the listener's queue.
const ASKS: usize = 16;
/// A client that says nothing for this long is let go; one that does not read its answer, after twice this.
const PATIENCE: Duration = Duration::from_secs(5);
/// Clients at a time: each is a descriptor, and PostgreSQL's watch needs some.
const CLIENTS: usize = 32;
/// No request is longer.
const LINE_MAX: u64 = 4096;

/// Where the socket of an instance is.
pub fn socket_path(node: &Node) -> PathBuf {
    socket_path_of(&node.runtime_dir, &node.instance)
}

/// The same, for any form of configuration.
pub fn socket_path_of(runtime_dir: &Path, name: &str) -> PathBuf {
    runtime_dir.join(format!("{name}.sock"))
}

/// Listens; root only, as its requests move a service.
pub(super) fn listen(path: &Path) -> io::Result<mpsc::Receiver<Ask>> {
    listen_with(path, PATIENCE)
}

fn listen_with(path: &Path, patience: Duration) -> io::Result<mpsc::Receiver<Ask>> {
    match std::fs::remove_file(path) {
        // The lock says that nobody else listens there.
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let (asks, questions) = mpsc::channel(ASKS);
    let places = Arc::new(Semaphore::new(CLIENTS));
    tokio::spawn(async move {
        let mut refused = Repeated::new(Duration::from_secs(60));
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let asks = asks.clone();
                    tokio::spawn(async move {
                        let _late = tokio::time::timeout(patience * 2, serve(stream, asks, patience)).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    if refused.is_due() {
                        tracing::warn!(%error, "status socket");
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(questions)
}

async fn serve(mut stream: UnixStream, asks: mpsc::Sender<Ask>, patience: Duration) {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    let mut reader = BufReader::new(tokio::io::AsyncReadExt::take(read, LINE_MAX));
    let heard = tokio::time::timeout(patience, reader.read_line(&mut line)).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn clients_that_say_nothing_make_room_for_one_that_asks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        let mut questions = listen_with(&path, Duration::from_millis(20)).unwrap();
        let mut idle = Vec::new();
        for _ in 0..CLIENTS * 2 {
            idle.push(UnixStream::connect(&path).await.unwrap());
        }
        let answering = tokio::spawn(async move {
            let ask = questions.recv().await.expect("a question");
            ask.answer.send(serde_json::json!({"well": true})).expect("somebody waits");
        });
        let mut client = UnixStream::connect(&path).await.unwrap();
        client.write_all(b"{\"cmd\":\"status\"}\n").await.unwrap();
        let mut line = String::new();
        BufReader::new(client).read_line(&mut line).await.unwrap();
        assert_eq!(line, "{\"well\":true}\n");
        answering.await.unwrap();
    }
}
