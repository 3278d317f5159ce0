//! Who called what, and what came of it. Never a secret: no header and no token is kept.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// One call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// From 1.
    pub number: usize,
    /// Milliseconds since the double's start.
    pub at_ms: u64,
    /// Where it came from.
    pub from: IpAddr,
    /// `vpc`, `ecs`, `metadata`
    pub service: String,
    /// Of the service; of the metadata service the path.
    pub action: String,
    /// The parameters, as they were decoded.
    pub parameters: Vec<(String, String)>,
    /// The nonce, by which a retry that was signed afresh is known.
    pub nonce: Option<String>,
    /// The key's id and its user, once the signature was right.
    pub who: Option<(String, String)>,
    /// `ok`, or the code of the refusal.
    pub outcome: String,
    /// The fault that hit it.
    pub fault: Option<String>,
}

/// All calls, the oldest first.
#[derive(Debug, Default)]
pub struct Journal(Vec<Entry>);

impl Journal {
    /// Adds one, and numbers it.
    pub fn add(&mut self, entry: Entry) {
        let number = self.0.len() + 1;
        self.0.push(Entry { number, ..entry });
    }

    /// All.
    pub fn all(&self) -> &[Entry] {
        &self.0
    }
}
