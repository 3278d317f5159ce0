//! A program of the lab that runs on a host, as anybody's client would, and tells what it sees, a line each.
//!
//! A process, not a thread: a client on a node belongs to the node's cgroup and dies with the node. It writes a line in
//! one call, so that a killed one leaves no half of it, and it ends by itself when nobody reads.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::host::Place;
use super::node;

/// Such a process, with the thread that reads it; killed when dropped.
pub struct Speaker {
    child: Child,
    reader: Option<JoinHandle<()>>,
}

impl Speaker {
    /// Starts `harbor-ha-lab` on a host with these arguments; each line that it says goes to `hear`.
    ///
    /// # Errors
    /// No such host.
    pub fn start<T: DeserializeOwned>(
        place: &Place,
        arguments: &[String],
        mut hear: impl FnMut(T) + Send + 'static,
    ) -> Result<Self> {
        let mut command = place.command(node::lab_program()?)?;
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().with_context(|| format!("cannot start {arguments:?}"))?;
        let lines = BufReader::new(child.stdout.take().context("no pipe")?).lines();
        let read = move || {
            for line in lines.map_while(Result::ok) {
                if let Ok(said) = serde_json::from_str(&line) {
                    hear(said);
                }
            }
        };
        let reader = std::thread::Builder::new().name("speaker".into()).spawn(read)?;
        Ok(Self { child, reader: Some(reader) })
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Says a line; ends the process when nobody listens any more.
pub fn say(what: &impl Serialize) {
    let Ok(mut line) = serde_json::to_vec(what) else { return };
    line.push(b'\n');
    if std::io::stdout().lock().write_all(&line).is_err() {
        std::process::exit(0);
    }
}
