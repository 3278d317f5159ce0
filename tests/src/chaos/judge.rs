//! What must hold once the faults of a round are healed: a model of its own against the node that serves.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result};

use super::client::{ACCOUNTS, BALANCE, Told, What};
use super::crowd::is_ack;
use crate::lab::postgres::Postgres;

/// What was found wrong in a round.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Acknowledged rows that are not there any more.
    pub rows: Vec<i64>,
    /// Acknowledged transfers that are not there any more.
    pub transfers: Vec<i64>,
    /// Rows that a client had had acknowledged, and did not see later.
    pub gone: usize,
    /// Sums of the accounts that a client saw and that were wrong.
    pub wrong_sums: usize,
    /// Sentences about the ledger as it stands.
    pub ledger: Vec<String>,
}

/// Remembers what was reported, so that a loss counts in its round only.
#[derive(Default)]
pub struct Judge {
    reported: HashSet<i64>,
}

impl Judge {
    /// Compares everything that was ever acknowledged with what is there.
    ///
    /// The clients may go on: what they are told after `told` was taken is not asked for.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn judge(&mut self, told: &[Told], since_ns: u64, server: Postgres<'_>) -> Result<Findings> {
        let mut found = Findings::default();
        let (rows, transfers) = (server.rows()?, server.ids("transfers")?);
        for it in told {
            match it.what {
                // Negative, so that a row and a transfer of one number are two.
                What::Row(id) if !rows.contains(&id) && self.reported.insert(id) => found.rows.push(id),
                What::Transfer(id) if !transfers.contains(&id) && self.reported.insert(-id) => {
                    found.transfers.push(id);
                }
                What::Gone(_) if it.sent_ns >= since_ns => found.gone += 1,
                What::WrongSum(_) if it.sent_ns >= since_ns => found.wrong_sums += 1,
                _ => {}
            }
        }
        found.ledger = ledger(server)?;
        Ok(found)
    }
}

/// The money is all there, and each account is what its transfers made of it.
fn ledger(server: Postgres<'_>) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    // One statement, one snapshot: the clients go on.
    let said = server.sql_within(
        Duration::from_secs(60),
        "SELECT (SELECT sum(balance) FROM accounts) || ' ' || count(*) FROM accounts AS a WHERE balance <> (
             SELECT 1000 + coalesce(sum(CASE WHEN payee = a.id THEN amount ELSE -amount END), 0)
             FROM transfers WHERE payee = a.id OR payer = a.id)"
            .replace("1000", &BALANCE.to_string())
            .as_str(),
    )?;
    let (sum, off) = said.first().and_then(|line| line.split_once(' ')).context("no row")?;
    if sum != (ACCOUNTS * BALANCE).to_string() {
        wrong.push(format!("the accounts hold {sum} instead of {}", ACCOUNTS * BALANCE));
    }
    if off != "0" {
        wrong.push(format!("{off} accounts are not what their transfers make of them"));
    }
    Ok(wrong)
}

/// When the first write that was sent after an instant was acknowledged, and the longest time without an
/// acknowledgement from then to another instant; both in nanoseconds from the first instant, over all clients.
pub fn service(told: &[Told], from_ns: u64, to_ns: u64) -> (Option<u64>, u64) {
    let mut acks: Vec<&Told> = told.iter().filter(|it| is_ack(it) && it.received_ns >= from_ns).collect();
    acks.sort_by_key(|it| it.received_ns);
    let first = acks.iter().filter(|it| it.sent_ns >= from_ns).map(|it| it.received_ns).min();
    let (mut last, mut longest) = (from_ns, 0);
    for at in acks.iter().map(|it| it.received_ns).take_while(|at| *at <= to_ns).chain([to_ns]) {
        longest = longest.max(at.saturating_sub(last));
        last = at;
    }
    (first.map(|at| at - from_ns), longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Side;

    fn row(sent_ns: u64, received_ns: u64) -> Told {
        Told { client: 1, by: Side::A, sent_ns, received_ns, what: What::Row(1) }
    }

    #[test]
    fn an_acknowledgement_of_what_was_sent_before_the_fault_is_not_the_first_write_after_it() {
        let told = [row(1, 2), row(9, 12), row(40, 50), row(51, 55)];
        assert_eq!(service(&told, 10, 60), (Some(40), 38));
    }

    #[test]
    fn a_service_that_never_came_back_was_dark_to_the_end() {
        assert_eq!(service(&[row(1, 2)], 10, 60), (None, 50));
    }
}
