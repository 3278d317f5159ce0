//! A test's side of the second listener: plain HTTP over a blocking socket, perhaps from inside a network namespace.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::fault::Fault;
use super::journal::Entry;
use crate::lab::netns;

/// From the call to the end of its answer: it has nothing to wait for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the second listener is.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Its address.
    pub admin: SocketAddr,
    /// Of its host, when that is not the machine itself.
    pub netns: Option<String>,
}

impl Remote {
    /// The cloud as it is.
    ///
    /// # Errors
    /// No double answers there.
    pub fn state(&self) -> Result<Value> {
        self.ask("GET", "state", &Value::Null)
    }

    /// What was called.
    ///
    /// # Errors
    /// No double answers there.
    pub fn journal(&self) -> Result<Vec<Entry>> {
        Ok(serde_json::from_value(self.ask("GET", "journal", &Value::Null)?)?)
    }

    /// Who the HaVip's announcements have made its master.
    ///
    /// # Errors
    /// No double answers there.
    pub fn master(&self, havip: &str) -> Result<Option<String>> {
        Ok(self.state()?["havips"][havip]["master"].as_str().map(str::to_owned))
    }

    /// Adds a fault.
    ///
    /// # Errors
    /// No double answers there.
    pub fn fault(&self, fault: &Fault) -> Result<()> {
        self.order("faults", &json!(fault))
    }

    /// Takes all faults and quirks back.
    ///
    /// # Errors
    /// No double answers there.
    pub fn heal(&self) -> Result<()> {
        self.ask("DELETE", "faults", &Value::Null).map(drop)
    }

    /// `POST` of anything else that [`super::admin`] knows.
    ///
    /// # Errors
    /// No double answers there, or it does not know that.
    pub fn order(&self, what: &str, body: &Value) -> Result<()> {
        self.ask("POST", what, body).map(drop)
    }

    fn ask(&self, method: &str, what: &str, body: &Value) -> Result<Value> {
        let talk = || self.talk(method, what, body).with_context(|| format!("the double's {method} {what}"));
        match &self.netns {
            Some(name) => netns::inside(name, talk),
            None => talk(),
        }
    }

    fn talk(&self, method: &str, what: &str, body: &Value) -> Result<Value> {
        let mut stream = TcpStream::connect_timeout(&self.admin, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        // HTTP/1.0: the end of the answer is the end of the connection.
        let head =
            format!("{method} /_double/{what} HTTP/1.0\r\nHost: double\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no whole answer")?;
        ensure!(head.split_whitespace().nth(1) == Some("200"), "{body}");
        serde_json::from_str(body).context("no JSON")
    }
}
