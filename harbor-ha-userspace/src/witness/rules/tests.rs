use super::*;

const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

fn by(node: Ipv4Addr, term: u64) -> Holder {
    Holder { node, term }
}

/// Puts a request through; the refusal, when there is one, leaves the records as they were.
fn ask(records: &mut Records, node: Ipv4Addr, request: Request) -> Result<bool, Refusal> {
    let change = request.judge(records, node)?;
    *records = change.after;
    Ok(change.renews)
}

fn acquire(term: u64, follows: u64) -> Request {
    Request::Acquire { term, follows }
}

#[test]
fn a_record_is_read_as_it_is_shown_and_in_no_other_spelling() {
    assert_eq!(by(A, 7).to_string(), "10.0.0.1 7");
    assert_eq!(Holder::parse("10.0.0.1 18446744073709551615"), Some(by(A, u64::MAX)));
    for text in ["", "10.0.0.1", "10.0.0.1 07", "10.0.0.1 +7", "10.0.0.1  7", "10.0.0.1 7\n", "10.0.0.1 -1", "a 7"] {
        assert_eq!(Holder::parse(text), None, "{text:?}");
    }
}

#[test]
fn of_two_nodes_the_first_is_granted_and_the_other_learns_by_whom_it_is_held() {
    let mut records = Records::default();
    assert_eq!(ask(&mut records, A, acquire(5, 0)), Ok(true));
    assert_eq!(ask(&mut records, B, acquire(6, 5)), Err(Refusal::Held { holder: by(A, 5) }));
    assert_eq!(ask(&mut records, A, acquire(5, 0)), Ok(true));
    assert_eq!(records, Records { solo: Some(by(A, 5)), revoked: None, highest: Some(by(A, 5)) });
}

#[test]
fn a_term_is_granted_to_one_node_and_never_goes_back() {
    let mut records = Records { highest: Some(by(B, 6)), ..Records::default() };
    for term in [0, 5, 6] {
        let stale = Err(Refusal::Stale { highest: by(B, 6) });
        for request in [acquire(term, 0), Request::Revoke { term }, Request::Restore { term }] {
            assert_eq!(ask(&mut records, A, request), stale, "{request:?}");
        }
    }
    assert_eq!(ask(&mut records, B, acquire(6, 0)), Ok(true));
    assert_eq!(ask(&mut records, B, acquire(5, 0)), Err(Refusal::Stale { highest: by(B, 6) }));
    records.solo = None;
    assert_eq!(ask(&mut records, A, acquire(7, 6)), Ok(true));
    assert_eq!(records.highest, Some(by(A, 7)));
}

#[test]
fn a_key_that_is_not_held_for_this_term_is_neither_renewed_nor_released() {
    for solo in [None, Some(by(B, 5)), Some(by(A, 4)), Some(by(A, 6))] {
        let mut records = Records { solo, ..Records::default() };
        let lost = Err(Refusal::Lost { holder: solo });
        assert_eq!(ask(&mut records, A, Request::Renew { term: 5 }), lost);
        assert_eq!(ask(&mut records, A, Request::Release { term: 5 }), lost);
        assert_eq!(records.solo, solo);
    }
    let mut records = Records { solo: Some(by(A, 5)), highest: Some(by(A, 5)), revoked: Some(by(A, 5)) };
    let before = records;
    assert_eq!(ask(&mut records, A, Request::Renew { term: 5 }), Ok(true));
    assert_eq!(records, before);
    assert_eq!(ask(&mut records, A, Request::Release { term: 5 }), Ok(false));
    assert_eq!(records, Records { solo: None, ..before });
}

#[test]
fn a_revoked_right_keeps_the_standby_of_that_term_and_of_those_before_from_succeeding() {
    let mut records = Records::default();
    assert_eq!(ask(&mut records, A, Request::Revoke { term: 5 }), Ok(false));
    assert_eq!(records, Records { solo: None, revoked: Some(by(A, 5)), highest: Some(by(A, 5)) });
    for follows in [1, 4, 5] {
        assert_eq!(ask(&mut records, B, acquire(6, follows)), Err(Refusal::Revoked { by: by(A, 5) }));
    }
    // The revoker itself comes back, also in a later term; a standby of a later term has what it needs.
    let revoked = records;
    assert_eq!(ask(&mut records, A, acquire(6, 5)), Ok(true));
    records = revoked;
    assert_eq!(ask(&mut records, B, acquire(7, 6)), Ok(true));
}

#[test]
fn a_restored_right_lets_the_standby_succeed() {
    let mut records = Records { revoked: Some(by(A, 5)), highest: Some(by(A, 5)), solo: None };
    assert_eq!(ask(&mut records, B, Request::Restore { term: 5 }), Err(Refusal::Stale { highest: by(A, 5) }));
    assert_eq!(ask(&mut records, A, Request::Restore { term: 5 }), Ok(false));
    assert_eq!(ask(&mut records, A, Request::Restore { term: 5 }), Ok(false));
    assert_eq!(ask(&mut records, B, acquire(6, 5)), Ok(true));
}

#[test]
fn a_right_is_not_revoked_once_the_standby_has_used_it() {
    let mut records = Records { highest: Some(by(A, 5)), ..Records::default() };
    assert_eq!(ask(&mut records, B, acquire(6, 5)), Ok(true));
    assert_eq!(ask(&mut records, A, Request::Revoke { term: 5 }), Err(Refusal::Stale { highest: by(B, 6) }));
    assert_eq!(ask(&mut records, A, Request::Revoke { term: 7 }), Err(Refusal::Held { holder: by(B, 6) }));
}

/// Every history of four requests by two nodes over three terms: what must hold after each step.
#[test]
fn in_no_history_is_a_term_granted_twice_or_a_revoked_right_used() {
    let mut requests = vec![];
    for node in [A, B] {
        for term in 1..=3 {
            requests.extend((0..=2).map(|follows| (node, acquire(term, follows))));
            for request in [
                Request::Renew { term },
                Request::Release { term },
                Request::Revoke { term },
                Request::Restore { term },
            ] {
                requests.push((node, request));
            }
        }
    }
    fn go(requests: &[(Ipv4Addr, Request)], before: &Records, granted: [Option<Ipv4Addr>; 4], left: usize) {
        // The TTL may run out before any step.
        for before in [*before, Records { solo: None, ..*before }] {
            for (node, request) in requests {
                let mut granted = granted;
                let mut records = before;
                if ask(&mut records, *node, *request).is_err() {
                    assert_eq!(records, before);
                    continue;
                }
                assert!(records.highest.map_or(0, |h| h.term) >= before.highest.map_or(0, |h| h.term));
                if let Request::Acquire { term, follows } = request {
                    let owner = &mut granted[*term as usize];
                    assert_eq!(*owner.get_or_insert(*node), *node, "{request:?} on {before:?}");
                    assert!(before.solo.is_none_or(|holder| holder.node == *node));
                    let barred = |by: Holder| by.node != *node && *follows != 0 && by.term >= *follows;
                    assert!(!before.revoked.is_some_and(barred), "{request:?} on {before:?}");
                }
                if left > 1 {
                    go(requests, &records, granted, left - 1);
                }
            }
        }
    }
    go(&requests, &Records::default(), [None; 4], 4);
}
