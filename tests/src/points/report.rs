//! What became of each case: lines for people, JSON for machines.

use serde_json::{Value, json};

use super::case::{Case, Kind};

/// What became of a case.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its place in the sweep.
    pub number: u32,
    /// Where.
    pub case: Case,
    /// What was to die.
    pub kind: Kind,
    /// Somebody came to the point.
    pub reached: bool,
    /// What died.
    pub victim: String,
    /// From the death to the recovery, outages of the scenario included.
    pub recovered_ns: Option<u64>,
    /// Another node serves than before.
    pub moved: bool,
    /// Rows acknowledged in this case and the one before it.
    pub acked: usize,
    /// Those of them that are gone.
    pub lost: usize,
    /// What went wrong, in sentences.
    pub problems: Vec<String>,
    /// Where the logs are, when something went wrong.
    pub logs: String,
}

impl Outcome {
    /// Nothing has happened yet.
    pub fn new(number: u32, case: Case, kind: Kind) -> Self {
        Self {
            number,
            case,
            kind,
            reached: false,
            victim: String::new(),
            recovered_ns: None,
            moved: false,
            acked: 0,
            lost: 0,
            problems: Vec::new(),
            logs: String::new(),
        }
    }

    /// One line.
    pub fn line(&self) -> String {
        let what = match (self.reached, self.recovered_ns) {
            _ if !self.problems.is_empty() => format!("FAILED: {}", self.problems.join("; ")),
            (true, Some(ns)) => {
                let moved = if self.moved { "moved" } else { "stayed" };
                format!("{:<15} recovered in {:>5.1} s, {moved}, {} lost", self.victim, ns as f64 / 1e9, self.lost)
            }
            _ => self.unreached(),
        };
        format!("{:<9} {} {what}", self.kind.name(), self.case)
    }

    /// What is wrong with it, and how to have it again.
    pub fn complaint(&self, again: &str) -> Option<String> {
        let command = format!("cargo xtask points --only {} --kind {}{again}", self.case.point, self.kind.name());
        if !self.problems.is_empty() {
            return Some(format!("{}\n    logs: {}; again: {command}", self.line(), self.logs));
        }
        // Nothing died there, so nothing was seen.
        let missed = !self.reached && self.case.may_be_missed().is_none();
        missed.then(|| format!("{}\n    again: {command}", self.line()))
    }

    fn unreached(&self) -> String {
        match self.case.may_be_missed() {
            Some(why) => format!("not reached (allowed: {why})"),
            None => "NOT REACHED".to_owned(),
        }
    }
}

/// The whole sweep, in some lines.
pub fn summary(outcomes: &[Outcome]) -> String {
    let mut lines = Vec::new();
    for kind in Kind::ALL {
        let all: Vec<_> = outcomes.iter().filter(|it| it.kind == kind).collect();
        if all.is_empty() {
            continue;
        }
        let reached = all.iter().filter(|it| it.reached).count();
        let failed = all.iter().filter(|it| !it.problems.is_empty()).count();
        let lost: usize = all.iter().map(|it| it.lost).sum();
        let mut took: Vec<u64> = all.iter().filter_map(|it| it.recovered_ns).collect();
        took.sort_unstable();
        let at = |index: usize| took.get(index).map_or(0.0, |ns| *ns as f64 / 1e9);
        lines.push(format!(
            "{:<9} {} cases, {reached} reached, {failed} failed, {lost} rows lost; recovered in {:.1} s median, {:.1} s at most",
            kind.name(),
            all.len(),
            at(took.len() / 2),
            at(took.len().saturating_sub(1)),
        ));
        let missed = all.iter().filter(|it| !it.reached && it.problems.is_empty());
        lines.extend(missed.map(|it| format!("          {}: {}", it.case, it.unreached())));
    }
    lines.join("\n")
}

/// All of it.
pub fn json(outcomes: &[Outcome]) -> Value {
    let one = |it: &Outcome| {
        json!({
            "point": it.case.point, "role": format!("{:?}", it.case.role).to_lowercase(),
            "scenario": it.case.scenario.name(), "kind": it.kind.name(), "reached": it.reached,
            "died": it.victim, "recovered_ns": it.recovered_ns, "moved": it.moved,
            "acked": it.acked, "lost": it.lost, "problems": it.problems, "logs": it.logs,
        })
    };
    outcomes.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::points::case::{Role, Scenario};

    #[test]
    fn a_point_that_nobody_came_to_is_a_complaint_unless_it_has_an_excuse() {
        let of = |scenario| Case { point: "start.begin", role: Role::Primary, scenario };
        let outcome = |scenario, reached| Outcome { reached, ..Outcome::new(1, of(scenario), Kind::Daemon) };
        let excused = outcome(Scenario::Blackout, false);
        assert_eq!(excused.complaint(""), None);
        assert!(excused.line().contains("not reached (allowed: "), "{}", excused.line());
        let missed = outcome(Scenario::Switchover, false);
        assert!(missed.complaint("").is_some_and(|text| text.contains("NOT REACHED")), "{}", missed.line());
        assert_eq!(outcome(Scenario::Switchover, true).complaint(""), None);
    }
}
