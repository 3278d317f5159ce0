//! What a run says: a timeline per round, a summary, and the same as JSON. All times from the fault.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::lab::Side;
use crate::lab::fault::Fault;
use crate::lab::pool::Figures;

/// One fault and its takeover; instants are CLOCK_MONOTONIC nanoseconds.
#[derive(Clone, Debug)]
pub struct Round {
    /// From 1.
    pub number: u32,
    /// What was broken.
    pub fault: Fault,
    /// On which node: the primary of that moment.
    pub old: Side,
    /// Just before it was broken.
    pub fault_ns: u64,
    /// The last sign of the old primary that the new one's kernel heard, for a verdict of silence.
    pub last_heard_ns: Option<u64>,
    /// The kernel's verdict, or the resignation's arrival.
    pub verdict_ns: Option<u64>,
    /// PostgreSQL is out of recovery.
    pub promoted_ns: Option<u64>,
    /// The new primary holds the address.
    pub vip_ns: Option<u64>,
    /// The client host received the announcement.
    pub garp_ns: Option<u64>,
    /// The client read the new primary's first acknowledgement.
    pub first_write_ns: Option<u64>,
    /// The old primary streams as a synchronous standby.
    pub rejoined_ns: Option<u64>,
    /// The longest time in which the client read no acknowledgement, from the last one before the fault on.
    pub gap_ns: Option<u64>,
    /// The same for reads, of which no standby can hold up the answer.
    pub read_gap_ns: Option<u64>,
    /// The same for echo requests, one each millisecond: how long the gate of whoever serves was dark.
    pub ping_gap_ns: Option<u64>,
    /// For how long the gate of a primary that stayed was shut in all, by its own count.
    pub gate_dark_ns: Option<u64>,
    /// Who answered the reads after the fault, one after the other.
    pub read_by: Vec<Side>,
    /// The other node took over, or should have.
    pub moves: bool,
    /// What became of the connections that were open before the fault.
    pub pool: Option<Figures>,
    /// Why the new primary took over, in its own word.
    pub why: String,
    /// Rows acknowledged in this round.
    pub acked: usize,
    /// Acknowledged rows that this round's end did not find any more; `None`: they could not be counted.
    pub lost: Option<usize>,
    /// What did not happen in time.
    pub problems: Vec<String>,
}

/// The measured parts, as the JSON names them.
type Part = (&'static str, fn(&Round) -> Option<u64>);
const PARTS: [Part; 4] = [
    ("verdict_ms", |round| round.verdict_ns),
    ("garp_ms", |round| round.garp_ns),
    ("promoted_ms", |round| round.promoted_ns),
    ("first_write_ms", |round| round.first_write_ns),
];

/// Lengths, from the last answer before the fault on.
const GAPS: [Part; 4] = [
    ("gap_ms", |round| round.gap_ns),
    ("read_gap_ms", |round| round.read_gap_ns),
    ("ping_gap_ms", |round| round.ping_gap_ns),
    ("gate_dark_ms", |round| round.gate_dark_ns),
];

impl Round {
    /// A round that has just been broken.
    pub fn new(number: u32, fault: Fault, old: Side, fault_ns: u64) -> Self {
        Self {
            number,
            fault,
            old,
            fault_ns,
            last_heard_ns: None,
            verdict_ns: None,
            promoted_ns: None,
            vip_ns: None,
            garp_ns: None,
            first_write_ns: None,
            rejoined_ns: None,
            gap_ns: None,
            read_gap_ns: None,
            ping_gap_ns: None,
            gate_dark_ns: None,
            read_by: Vec::new(),
            moves: fault.moves_the_service(),
            pool: None,
            why: String::new(),
            acked: 0,
            lost: None,
            problems: Vec::new(),
        }
    }

    fn ms(&self, at_ns: Option<u64>) -> Option<f64> {
        at_ns.map(|at| at.saturating_sub(self.fault_ns) as f64 / 1e6)
    }

    /// From the last sign to the verdict: the deadline itself, without the share of an interval in which the fault fell.
    fn silence_ms(&self) -> Option<f64> {
        Some(self.verdict_ns?.saturating_sub(self.last_heard_ns?) as f64 / 1e6)
    }

    /// What makes this round a failed one.
    pub fn complaints(&self) -> Vec<String> {
        let mut list: Vec<String> =
            self.problems.iter().map(|problem| format!("round {}: {problem}", self.number)).collect();
        if let Some(lost) = self.lost.filter(|lost| *lost > 0) {
            list.push(format!("round {}: {lost} acknowledged rows are lost", self.number));
        }
        list
    }

    /// The timeline, in the order in which it happened.
    pub fn timeline(&self) -> String {
        let (old, new) = (self.old, self.old.other());
        if !self.moves {
            return self.told_as_endured();
        }
        let why = match (self.why.as_str(), self.silence_ms()) {
            ("", _) => String::new(),
            (why, Some(silence)) => format!(" ({why}: {silence:.1} ms after the last sign of {old})"),
            (why, None) => format!(" ({why})"),
        };
        let mut steps = vec![
            (Some(self.fault_ns), format!("fault: {} on {old}", self.fault.sentence())),
            (self.verdict_ns, format!("{new}: verdict{why}")),
            (self.promoted_ns, format!("{new}: PostgreSQL promoted")),
            (self.vip_ns, format!("{new}: address taken")),
            (self.garp_ns, "client host: gratuitous ARP seen".to_owned()),
            (self.first_write_ns, "client: first acknowledged write".to_owned()),
            (self.rejoined_ns, format!("{old}: rejoined, streams, synchronous")),
        ];
        steps.sort_by_key(|(at, _)| at.unwrap_or(u64::MAX));
        let mut text = format!("round {}  {}  primary {old} -> {new}\n", self.number, self.fault);
        for (at, what) in steps {
            let _ = match self.ms(at) {
                Some(ms) => writeln!(text, "  {ms:>10.1} ms  {what}"),
                None => writeln!(text, "  {:>10}     {what}", "-"),
            };
        }
        text + &self.outcome()
    }

    /// Of a fault that moved nothing, or should have moved nothing.
    fn told_as_endured(&self) -> String {
        let (old, other) = (self.old, self.old.other());
        let mut text = format!("round {}  {}  primary {old}\n", self.number, self.fault);
        let _ = writeln!(text, "  {:>10.1} ms  fault: {}", 0.0, self.fault.sentence());
        let _ = match self.ms(self.rejoined_ns) {
            Some(ms) => writeln!(text, "  {ms:>10.1} ms  healed: {old} serves, {other} streams, synchronous"),
            None => writeln!(text, "  {:>10}     healed", "-"),
        };
        text + &self.outcome()
    }

    /// The last lines of a timeline.
    fn outcome(&self) -> String {
        let mut text = String::new();
        let by: Vec<&str> = self.read_by.iter().map(|side| side.name()).collect();
        for (gap, what) in [
            (self.gap_ns, "longest time without an acknowledgement".to_owned()),
            (self.read_gap_ns, format!("longest time without an answer to a read; answered by {}", by.join(", then "))),
            (self.ping_gap_ns, "longest time without an answer to a ping".to_owned()),
            (self.gate_dark_ns, format!("in which the gate of {} was dark, by its own count", self.old)),
        ] {
            if let Some(gap) = gap {
                let _ = writeln!(text, "  {:>10.1} ms  {what}", gap as f64 / 1e6);
            }
        }
        let lost = self.lost.map_or_else(|| "?".to_owned(), |lost| lost.to_string());
        let _ = writeln!(text, "  {:>10}     rows acknowledged, {lost} lost", self.acked);
        if let Some(pool) = &self.pool {
            let _ = write!(text, "{pool}");
        }
        for problem in &self.problems {
            let _ = writeln!(text, "  {:>10}     {problem}", "FAILED");
        }
        text
    }

    fn json(&self) -> Value {
        let mut value = json!({"fault": self.fault.name()});
        for (name, at) in PARTS {
            value[name] = json!(self.ms(at(self)).map(rounded));
        }
        value["silence_ms"] = json!(self.silence_ms().map(rounded));
        for (name, gap) in GAPS {
            value[name] = json!(gap(self).map(|gap| rounded(gap as f64 / 1e6)));
        }
        value["read_by"] = json!(self.read_by);
        value["pool"] = json!(self.pool.as_ref().map(Figures::json));
        value["acked"] = json!(self.acked);
        value["lost"] = json!(self.lost);
        value["rejoined"] = json!(self.rejoined_ns.is_some());
        value
    }
}

/// Microseconds are all that the measuring is good for.
fn rounded(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}

/// p50, p99 and the maximum, by nearest rank: with few rounds p99 is the maximum.
fn spread(rounds: &[Round], part: &Part) -> Option<[f64; 3]> {
    percentiles(rounds.iter().filter_map(|round| round.ms(part.1(round))).collect())
}

/// The same of lengths.
fn spread_gap(rounds: &[Round], part: &Part) -> Option<[f64; 3]> {
    percentiles(rounds.iter().filter_map(part.1).map(|ns| ns as f64 / 1e6).collect())
}

fn percentiles(values: Vec<f64>) -> Option<[f64; 3]> {
    let mut values: Vec<f64> = values.into_iter().map(rounded).collect();
    values.sort_by(f64::total_cmp);
    let rank = |percent: usize| values.get((values.len() * percent).div_ceil(100).max(1) - 1).copied();
    Some([rank(50)?, rank(99)?, *values.last()?])
}

/// Each measured part with its spread.
fn parts(rounds: &[Round]) -> impl Iterator<Item = (&Part, Option<[f64; 3]>)> {
    let instants = PARTS.iter().map(|part| (part, spread(rounds, part)));
    instants.chain(GAPS.iter().map(|part| (part, spread_gap(rounds, part))))
}

/// The summary for a person.
pub fn summary(rounds: &[Round]) -> String {
    let mut text = format!("{:<16}{:>12}{:>12}{:>12}    n\n", "from the fault", "p50", "p99", "max");
    for (part, spread) in parts(rounds) {
        let count = rounds.iter().filter(|round| part.1(round).is_some()).count();
        let name = part.0.trim_end_matches("_ms").replace('_', " ");
        let _ = match spread {
            Some([p50, p99, max]) => writeln!(text, "{name:<16}{p50:>9.1} ms{p99:>9.1} ms{max:>9.1} ms {count:>4}"),
            None => writeln!(text, "{name:<16}{:>12}{:>12}{:>12} {count:>4}", "-", "-", "-"),
        };
    }
    let acked: usize = rounds.iter().map(|it| it.acked).sum();
    let lost: usize = rounds.iter().filter_map(|it| it.lost).sum();
    let _ = writeln!(text, "{acked} rows acknowledged, {lost} lost");
    text
}

/// The whole as JSON.
pub fn json(rounds: &[Round]) -> Value {
    let mut summary = json!({});
    for (part, spread) in parts(rounds) {
        summary[part.0] = match spread {
            Some([p50, p99, max]) => json!({"p50": p50, "p99": p99, "max": max}),
            None => Value::Null,
        };
    }
    json!({"rounds": rounds.iter().map(Round::json).collect::<Vec<_>>(), "summary": summary})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(first_write_ms: u64) -> Round {
        let mut round = Round::new(1, Fault::Node, Side::A, 1_000_000);
        round.first_write_ns = Some((first_write_ms + 1) * 1_000_000);
        round
    }

    #[test]
    fn times_count_from_the_fault_and_what_did_not_happen_is_null() {
        let value = json(&[round(40)]);
        assert_eq!(value["rounds"][0]["first_write_ms"], 40.0);
        assert_eq!(value["rounds"][0]["garp_ms"], Value::Null);
        assert_eq!(value["rounds"][0]["rejoined"], false);
        assert_eq!(value["summary"]["first_write_ms"], json!({"p50": 40.0, "p99": 40.0, "max": 40.0}));
        assert_eq!(value["summary"]["garp_ms"], Value::Null);
    }

    #[test]
    fn a_takeover_of_minutes_still_stands_below_its_heading() {
        let text = summary(&[round(4), round(123_456)]);
        let ends = |line: &str, word: &str| line.find(word).map(|at| at + word.len());
        let lines: Vec<&str> = text.lines().collect();
        let row = lines.iter().find(|line| line.starts_with("first write")).expect("a row");
        assert_eq!(ends(lines[0], "p50"), ends(row, "4.0 ms"), "{text}");
        assert_eq!(ends(lines[0], "p99"), ends(row, " 123456.0 ms"), "{text}");
        assert_eq!(ends(lines[0], "n"), Some(row.len()), "{text}");
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let rounds: Vec<Round> = (1..=200).map(round).collect();
        assert_eq!(spread(&rounds, &PARTS[3]), Some([100.0, 198.0, 200.0]));
    }
}
