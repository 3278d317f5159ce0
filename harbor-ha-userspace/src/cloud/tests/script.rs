//! A server that answers by script, one connection each, and keeps what it was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::config::settings::Endpoint;

/// What one request is answered with.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    /// What `content-length` says, where that is not the truth.
    pub declared: Option<usize>,
    pub manner: Manner,
}

/// How it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// At once.
    Whole,
    /// Nothing at all, and the connection stays.
    Silent,
    /// The head, and then a byte now and again for ever.
    Dripping,
}

impl Reply {
    pub fn of(status: u16, body: &str) -> Self {
        Self { status, headers: Vec::new(), body: body.to_owned(), declared: None, manner: Manner::Whole }
    }

    pub fn ok(body: &str) -> Self {
        Self::of(200, body)
    }

    pub fn refused(status: u16, code: &str) -> Self {
        Self::of(status, &format!(r#"{{"Code": "{code}", "Message": "no", "RequestId": "R-1"}}"#))
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub fn manner(manner: Manner) -> Self {
        Self { manner, ..Self::ok("{}") }
    }
}

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `POST /?… HTTP/1.1`.
    pub line: String,
    headers: BTreeMap<String, String>,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn query(&self) -> &str {
        let (_, rest) = self.line.split_once("/?").expect("a query");
        rest.split(' ').next().unwrap()
    }

    pub fn parameter(&self, wanted: &str) -> &str {
        let pair = self.query().split('&').find_map(|pair| pair.strip_prefix(wanted)?.strip_prefix('='));
        pair.unwrap_or_else(|| panic!("no {wanted} in {}", self.line))
    }
}

pub struct Script {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Drop for Script {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Script {
    /// Answers with `replies` in turn, and with the last one from then on.
    pub async fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let kept = asked.clone();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(request) = read(&mut stream).await else { continue };
                let number = {
                    let mut asked = kept.lock().unwrap();
                    asked.push(request);
                    asked.len() - 1
                };
                let reply = replies.get(number).or(replies.last()).cloned();
                // A task each: one that drips must not keep the next waiting.
                tokio::spawn(answer(stream, reply.unwrap_or_else(|| Reply::of(500, ""))));
            }
        });
        Self { port, asked, task }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint { tls: false, host: "127.0.0.1".to_owned(), port: self.port }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        // Bodies are empty.
        bytes.push(stream.read_u8().await.ok()?);
    }
    let text = String::from_utf8(bytes).unwrap();
    let mut lines = text.lines();
    let line = lines.next()?.to_owned();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Some(Asked { line, headers })
}

async fn answer(mut stream: TcpStream, reply: Reply) {
    let length = reply.declared.unwrap_or(if reply.manner == Manner::Dripping { 1 << 20 } else { reply.body.len() });
    let mut head = format!("HTTP/1.1 {} X\r\ncontent-length: {length}\r\nconnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    // A client that has left is the end of the answer, in each case.
    match reply.manner {
        Manner::Whole => {
            let _gone = stream.write_all(format!("{head}\r\n{}", reply.body).as_bytes()).await;
        }
        Manner::Silent => {
            let _gone = stream.read_u8().await;
        }
        Manner::Dripping => {
            let mut sent = stream.write_all(format!("{head}\r\n").as_bytes()).await;
            while sent.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
                sent = stream.write_all(b" ").await;
            }
        }
    }
}
