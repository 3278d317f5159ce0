//! A proxy that spoils what a client has signed: one header, one byte of the query, or a request sent twice.
//!
//! It knows no client, so whoever signs can be put before it: the daemon's client, or Alibaba's own SDK.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// What is done to each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tamper {
    /// Nothing: it goes on as it came.
    Nothing,
    /// The last character of this header's value becomes another one.
    Header(&'static str),
    /// This byte of the query becomes another one.
    QueryByte(usize),
    /// This much is added to the query.
    MoreQuery(&'static str),
    /// This header is left out.
    Without(&'static str),
    /// It is sent twice, and the second answer counts: somebody has recorded it.
    Replay,
}

/// The proxy, until it is dropped.
pub struct Proxy {
    address: SocketAddr,
    tamper: Arc<Mutex<Tamper>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Begins to stand before `upstream`.
    ///
    /// # Errors
    /// No port.
    pub fn before(upstream: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let (tamper, stop) = (Arc::new(Mutex::new(Tamper::Nothing)), Arc::new(AtomicBool::new(false)));
        let (how, end) = (Arc::clone(&tamper), Arc::clone(&stop));
        let serve = move || {
            for client in listener.incoming() {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let how = how.lock().expect("no holder panics").clone();
                // One after the other: no client of these tests asks two things at once.
                if let Err(error) = client.map_err(Into::into).and_then(|client| pass(client, upstream, &how)) {
                    eprintln!("tampering proxy: {error:#}");
                }
            }
        };
        let thread = std::thread::Builder::new().name("tamper".into()).spawn(serve)?;
        Ok(Self { address, tamper, stop, thread: Some(thread) })
    }

    /// Where clients shall go.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is done from now on.
    ///
    /// # Panics
    /// The proxy's thread panicked.
    pub fn tamper(&self, how: Tamper) {
        *self.tamper.lock().expect("no holder panics") = how;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It waits for a client: here is one.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn pass(client: TcpStream, upstream: SocketAddr, how: &Tamper) -> Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(client);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            // Somebody who connects to see whether there is anybody.
            ensure!(lines.is_empty(), "half a request");
            return Ok(());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let length = lines.iter().find_map(|line| named(line, "content-length")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    spoil(&mut lines, how)?;
    // One request a connection, so that the end of an answer is known.
    lines.retain(|line| named(line, "connection").is_none());
    let head = lines.join("\r\n") + "\r\nConnection: close\r\n\r\n";
    let mut client = reader.into_inner();
    let times = if *how == Tamper::Replay { 2 } else { 1 };
    let mut answer = Vec::new();
    for _ in 0..times {
        let mut server = TcpStream::connect(upstream)?;
        server.set_read_timeout(Some(Duration::from_secs(10)))?;
        server.write_all(head.as_bytes())?;
        server.write_all(&body)?;
        answer.clear();
        server.read_to_end(&mut answer)?;
    }
    client.write_all(&answer)?;
    client.shutdown(Shutdown::Both).or(Ok(()))
}

fn named<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (known, value) = line.split_once(':')?;
    known.eq_ignore_ascii_case(name).then(|| value.trim())
}

fn spoil(lines: &mut Vec<String>, how: &Tamper) -> Result<()> {
    let at = |lines: &[String], name: &str| {
        lines.iter().position(|line| named(line, name).is_some()).with_context(|| format!("no header {name}"))
    };
    match how {
        Tamper::Nothing | Tamper::Replay => {}
        Tamper::Header(name) => {
            let line = at(lines, name)?;
            // Of a date the last digit, so that it stays one.
            let place = lines[line].len() - if *name == "x-acs-date" { 2 } else { 1 };
            change(&mut lines[line], place);
        }
        Tamper::Without(name) => drop(lines.remove(at(lines, name)?)),
        Tamper::MoreQuery(more) => {
            let end = lines[0].rfind(' ').context("no request line")?;
            lines[0].insert_str(end, more);
        }
        Tamper::QueryByte(number) => {
            let place = lines[0].find('?').context("no query")? + 1 + number;
            ensure!(place < lines[0].rfind(' ').unwrap_or(0), "the query is shorter");
            change(&mut lines[0], place);
        }
    }
    Ok(())
}

fn change(line: &mut String, place: usize) {
    let other = if line.as_bytes()[place] == b'1' { "2" } else { "1" };
    line.replace_range(place..=place, other);
}
