//! Wireshark's dissector of VRRP as an outside judge: it shares no line with us, nor with keepalived.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::need;

/// What the judge is told that a checksum of version 3 over IPv4 covers; it knows both, and guesses neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// The pseudo header too (RFC 5798), as keepalived does.
    #[default]
    PseudoHeader,
    /// The message alone (RFC 9568 §5.2.8), keepalived's `v3_checksum_as_v2`.
    AsV2,
}

/// What the judge said of a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Adverts by source.
    pub adverts: BTreeMap<String, usize>,
    /// Where they went, from IP address to Ethernet address.
    pub destinations: BTreeSet<(String, String)>,
    /// What is wrong, in the order of the frames.
    pub objections: Vec<Objection>,
}

/// Something is wrong with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// Its number in the capture, from 1.
    pub frame: u32,
    /// Who sent it.
    pub source: String,
    /// What, in the judge's words.
    pub what: String,
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame {} of {}: {}", self.frame, self.source, self.what)
    }
}

/// What is asked of each frame, in this order.
const FIELDS: [&str; 10] = [
    "frame.number",
    "ip.src",
    "ip.dst",
    "eth.dst",
    "frame.protocols",
    "ip.checksum.status",
    "vrrp.checksum.status",
    "_ws.malformed",
    "_ws.expert.severity",
    "_ws.expert.message",
];
/// Of a checksum's status: looked at, and right.
const GOOD: &str = "1";
/// `PI_WARN` of its experts; below are notes and chat. Errors are above.
const WARNING: u32 = 0x0060_0000;

/// Has every advert of a capture judged.
///
/// # Errors
/// tshark is not there, or cannot read the file.
pub fn judge(file: &Path, checksum: Checksum) -> Result<Judgement> {
    let program = need::find_program("tshark").context("tshark is not installed")?;
    let as_v2 = if checksum == Checksum::AsV2 { "TRUE" } else { "FALSE" };
    let mut tshark = Command::new(program);
    tshark.args(["-n", "-r"]).arg(file).args(["-Y", "ip.proto == 112"]);
    // Off by itself; that of VRRP is always looked at.
    tshark.args(["-o", "ip.check_checksum:TRUE", "-o", &format!("vrrp.v3_checksum_as_in_v2:{as_v2}")]);
    tshark.args(["-T", "fields", "-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=;"]);
    tshark.args(FIELDS.iter().flat_map(|field| ["-e", field]));
    // Whatever somebody has set for himself.
    let settings = tempfile::tempdir()?;
    tshark.env("WIRESHARK_CONFIG_DIR", settings.path());
    let output = tshark.output().context("cannot start tshark")?;
    ensure!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
    let mut judgement = Judgement::default();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        judgement.add(line)?;
    }
    Ok(judgement)
}

impl Judgement {
    fn add(&mut self, line: &str) -> Result<()> {
        let fields: Vec<&str> = line.split('\t').collect();
        let [number, source, destination, mac, protocols, ip_sum, sum, malformed, severity, message] = fields[..]
        else {
            anyhow::bail!("tshark says `{line}`");
        };
        *self.adverts.entry(source.to_owned()).or_default() += 1;
        self.destinations.insert((destination.to_owned(), mac.to_owned()));
        let mut wrong = Vec::new();
        if !protocols.split(':').any(|it| it == "vrrp") {
            wrong.push("not VRRP".to_owned());
        }
        if ip_sum != GOOD {
            wrong.push("the IP header's checksum is not good".to_owned());
        }
        if sum != GOOD {
            wrong.push("the checksum is not good".to_owned());
        }
        if !malformed.is_empty() {
            wrong.push("malformed".to_owned());
        }
        let worst = severity.split(';').filter_map(|it| it.parse::<u32>().ok()).max();
        if worst.is_some_and(|worst| worst >= WARNING) {
            wrong.push(message.to_owned());
        }
        if !wrong.is_empty() {
            let frame = number.parse().with_context(|| format!("tshark says `{line}`"))?;
            self.objections.push(Objection { frame, source: source.to_owned(), what: wrong.join(", ") });
        }
        Ok(())
    }

    /// # Errors
    /// There was nothing to judge, or something is wrong with it: says what.
    pub fn insist(&self) -> Result<()> {
        ensure!(!self.adverts.is_empty(), "tshark saw no advert");
        let shown: Vec<String> = self.objections.iter().take(10).map(ToString::to_string).collect();
        ensure!(
            shown.is_empty(),
            "tshark objects to {} of {} adverts:\n  {}",
            self.objections.len(),
            self.adverts.values().sum::<usize>(),
            shown.join("\n  ")
        );
        Ok(())
    }
}
