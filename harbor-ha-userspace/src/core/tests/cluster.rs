//! A peer whose PostgreSQL is another cluster: nothing is promoted, started or rejoined across the two.

use super::*;

impl Node {
    /// A pulse of a peer whose PostgreSQL is the cluster 8; ours is 7.
    pub(super) fn pulse_of_another_cluster(&mut self, kind: VerdictKind, flags: u16) {
        let verdict = Verdict {
            at: self.now,
            last_heard: self.now,
            kind,
            source: Source::Pulse,
            priority: 90,
            flags,
            term: 5,
            timeline: 5,
            lsn: 100,
            system_identifier: 8,
        };
        self.feed(Input::Verdict(verdict));
    }

    fn reports(&self) -> usize {
        self.did
            .iter()
            .filter(|action| matches!(action, Action::Report(report) if report.why.contains("another cluster")))
            .count()
    }
}

#[test]
fn a_standby_does_not_take_over_from_another_cluster_and_says_so_once() {
    let mut node = Node::with(standby(1));
    node.pulse_of_another_cluster(VerdictKind::Alive, PRIMARY | flag::SYNC);
    assert!(node.core.snapshot().refusal.is_some_and(|refusal| refusal.contains("another cluster")));
    node.pulse_of_another_cluster(VerdictKind::Dead, PRIMARY | flag::SYNC);
    assert_eq!((node.did(&Action::Promote), node.reports()), (false, 1));
    node.says(standby(1));
    assert_eq!((node.did(&Action::Promote), node.reports()), (false, 0));
}

#[test]
fn a_former_primary_neither_rejoins_nor_starts_beside_another_cluster() {
    let mut node = Node::with(standby(1));
    node.news(Postgres::AtRest(at_rest(1)));
    node.pulse_of_another_cluster(VerdictKind::Alive, PRIMARY);
    node.pass(ms(60_000));
    assert!(!node.did(&REJOIN) && !node.did(&Action::Start { standby: false }));
    assert!(node.core.why.contains("pg_basebackup"), "{}", node.core.why);
}

#[test]
fn whoever_serves_goes_on_beside_another_cluster_whatever_its_term_and_timeline() {
    let mut node = Node::primary();
    node.pulse_of_another_cluster(VerdictKind::Said, PRIMARY);
    assert!(node.core.serving && !node.did(&Action::Stop(StopMode::Fast)));
    assert_eq!(node.reports(), 1);
    assert_eq!(node.core.terms, Terms { seen: 1, mine: 1, reserved: 0, waived: 0 }, "its term is none of ours");
    // Its data directory was made anew, as a standby of ours.
    node.pulse(flag::PG_UP, 1);
    assert_eq!((node.core.terms.seen, node.core.known_term()), (1, 1));
}
