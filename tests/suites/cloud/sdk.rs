//! Alibaba Cloud's own SDK for Python, as a process that is told what to call.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use harbor_ha_tests::cloud::scenario::ids;
use serde_json::{Value, json};

/// Its interpreter, where the set-up has put the pinned packages.
fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/alibaba-sdk/bin/python3")
}

/// Whether the set-up could install it; says so when not.
///
/// # Panics
/// It is missing and `CI=true`: there everything is expected to run.
pub fn there(test: &str) -> bool {
    let there = python().is_file();
    if !there {
        let sentence = format!("skipped {test}: it needs Alibaba Cloud's SDK for Python: cargo xtask setup");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{sentence}");
        eprintln!("{sentence}");
    }
    there
}

/// The process.
pub struct Sdk {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Where it is told that the service is.
    pub endpoint: SocketAddr,
    /// Which key it signs with; without one: its instance's role.
    pub key: Option<(String, String)>,
    /// Of a temporary key.
    pub token: Option<String>,
}

/// A refusal, as the SDK has understood it.
#[derive(Debug)]
pub struct Refused {
    /// `Code`, or the name of Python's exception.
    pub code: String,
    /// HTTP's.
    pub status: Option<u64>,
    /// All of it.
    pub words: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?}): {}", self.code, self.status, self.words)
    }
}

impl Sdk {
    /// Starts it in the network namespace of the calling thread.
    pub fn start(endpoint: SocketAddr) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/cloud/sdk.py");
        let mut command = Command::new(python());
        // What it would find in its surroundings is not to be found.
        for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        command.arg("-I").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3 of the set-up starts");
        let (orders, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let key = Some((ids::KEY.to_owned(), "dummysecret-of-owner".to_owned()));
        Self { child, orders, answers, endpoint, key, token: None }
    }

    /// An action of the VPC product.
    pub fn vpc(&mut self, action: &str, request: Value) -> Result<Value, Refused> {
        self.call("vpc", action, request)
    }

    /// An action of the ECS product.
    pub fn ecs(&mut self, action: &str, request: Value) -> Result<Value, Refused> {
        self.call("ecs", action, request)
    }

    /// The key of the instance's role, from the metadata service.
    pub fn role(&mut self) -> Result<Value, Refused> {
        self.call("vpc", "credentials", json!({}))
    }

    fn call(&mut self, product: &str, action: &str, request: Value) -> Result<Value, Refused> {
        let mut order = json!({
            "product": product, "action": action, "request": request, "region": ids::REGION,
            "endpoint": self.endpoint.to_string(),
        });
        if let Some(key) = &self.key {
            order["key"] = json!(key);
            order["token"] = json!(self.token);
        }
        writeln!(self.orders, "{order}").expect("it listens");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        let mut answer: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("it says `{line}`"));
        match answer.get_mut("ok") {
            Some(body) => Ok(body.take()),
            None => Err(Refused {
                code: answer["refused"].as_str().unwrap_or_default().to_owned(),
                status: answer["status"].as_u64(),
                words: answer["words"].as_str().unwrap_or_default().to_owned(),
            }),
        }
    }
}

impl Drop for Sdk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
