//! What a chaos run says: a line per round, a summary, and the same as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::judge::Findings;
use crate::lab::Side;
use crate::lab::observer::Violations;

/// A round, judged.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// From 1.
    pub number: u32,
    /// From its first wait to its judgement, CLOCK_MONOTONIC.
    pub span_ns: (u64, u64),
    /// The configuration allows two servers: `isolated = "serve"` and no witness. They are told and judged by nobody.
    pub may_be_two: bool,
    /// Who served when it began.
    pub primary: Option<Side>,
    /// What was done, with the times for which it lasted.
    pub deeds: Vec<String>,
    /// Acknowledged writes.
    pub acked: usize,
    /// From the first deed to the first acknowledged write that was sent after it, in nanoseconds.
    pub first_write_ns: Option<u64>,
    /// The longest time in which nobody had a write acknowledged, from the first deed to the health after the healing.
    pub dark_ns: u64,
    /// From the healing to one primary with a synchronous standby and to clients that are served, all of them.
    pub healthy_ns: Option<u64>,
    /// What the database lacked.
    pub findings: Findings,
    /// What the observers saw.
    pub violations: Violations,
    /// What did not happen at all.
    pub problems: Vec<String>,
    /// What a service manager did meanwhile, and deeds that met nothing.
    pub notes: Vec<String>,
}

impl Round {
    /// Acknowledged writes that are not there.
    pub fn lost(&self) -> usize {
        self.findings.rows.len() + self.findings.transfers.len()
    }

    /// What makes it a failed one.
    pub fn complaints(&self) -> Vec<String> {
        let mut list = self.problems.clone();
        let judged_two = if self.may_be_two { 0 } else { self.violations.two_servers.len() };
        let counted = [
            (self.lost(), "acknowledged writes are lost"),
            (self.findings.gone, "times an acknowledged row was not seen"),
            (self.findings.wrong_sums, "wrong sums were read"),
            (judged_two, "answers by an old server after a new one's"),
            (self.violations.standby, "answers by a standby"),
        ];
        list.extend(counted.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
        list.extend(self.findings.ledger.iter().cloned());
        list.into_iter().map(|what| format!("round {}: {what}", self.number)).collect()
    }

    /// One line; what went wrong below it.
    pub fn line(&self) -> String {
        let time = |ns: Option<u64>| ns.map_or_else(|| "never".into(), seconds);
        let mut text = format!(
            "round {:<3} {} serves: {}  | first write {}, dark {} | {} acked, {} lost | two servers {} (late {}) | healthy {}",
            self.number,
            self.primary.map_or("nobody", Side::name),
            self.deeds.join(" + "),
            time(self.first_write_ns),
            seconds(self.dark_ns),
            self.acked,
            self.lost(),
            self.violations.two_servers.len(),
            self.violations.late,
            time(self.healthy_ns),
        );
        for note in &self.notes {
            let _ = write!(text, "\n          {note}");
        }
        for complaint in self.complaints() {
            let _ = write!(text, "\n  FAILED  {complaint}");
        }
        text
    }

    fn json(&self) -> Value {
        let ms = |ns: Option<u64>| ns.map(|ns| ns as f64 / 1e6);
        json!({
            "round": self.number, "primary": self.primary, "deeds": self.deeds, "acked": self.acked, "lost": self.lost(),
            "first_write_ms": ms(self.first_write_ns), "dark_ms": ms(Some(self.dark_ns)),
            "healthy_ms": ms(self.healthy_ns), "gone": self.findings.gone, "wrong_sums": self.findings.wrong_sums,
            "two_servers": self.violations.two_servers.len(), "late": self.violations.late,
            "standby_answers": self.violations.standby, "notes": self.notes, "complaints": self.complaints(),
        })
    }
}

/// Milliseconds below a second.
pub fn seconds(ns: u64) -> String {
    match ns as f64 / 1e9 {
        short if short < 1.0 => format!("{:.0} ms", short * 1e3),
        long => format!("{long:.1} s"),
    }
}

/// The end of a run.
pub fn summary(rounds: &[Round]) -> String {
    let sum = |part: fn(&Round) -> usize| rounds.iter().map(part).sum::<usize>();
    let mut dark: Vec<u64> = rounds.iter().map(|round| round.dark_ns).collect();
    dark.sort_unstable();
    let middle = dark.get(dark.len().saturating_sub(1) / 2).copied().unwrap_or_default();
    format!(
        "{} rounds, {} failed: {} writes acknowledged, {} lost, {} not seen later, {} wrong sums; {} answers by two \
         servers at once, {} by a standby, {} late; dark p50 {}, max {}",
        rounds.len(),
        sum(|round| usize::from(!round.complaints().is_empty())),
        sum(|round| round.acked),
        sum(Round::lost),
        sum(|round| round.findings.gone),
        sum(|round| round.findings.wrong_sums),
        sum(|round| round.violations.two_servers.len()),
        sum(|round| round.violations.standby),
        sum(|round| round.violations.late),
        seconds(middle),
        seconds(dark.last().copied().unwrap_or_default()),
    )
}

/// The whole as JSON.
pub fn json(seed: u64, rounds: &[Round]) -> Value {
    json!({"seed": seed, "rounds": rounds.iter().map(Round::json).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_fails_by_a_lost_write_and_by_an_answer_of_two() {
        let mut round = Round { number: 3, ..Round::default() };
        assert!(round.complaints().is_empty() && !round.line().contains("FAILED"));
        round.findings.rows.push(7);
        assert_eq!(round.complaints(), ["round 3: 1 acknowledged writes are lost"]);
        round.violations.late = 4;
        assert_eq!(round.complaints().len(), 1, "a late answer is told, and judged by nobody");
    }
}
