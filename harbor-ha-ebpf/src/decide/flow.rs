//! What a client's segment makes of the memory of its connection.
//!
//! Right enough to reset by: a flow too many costs one packet that its client answers with a reset, a flow too few is a
//! client that waits for ever. So in doubt a connection is there.

use crate::records::Flow;
use crate::units::Nanos;
use crate::wire::tcp::flag;

/// A flow that was seen within this time is not written again.
pub const FRESH: Nanos = Nanos::from_secs(1);
/// A flow is given up after this time without a segment of its client: PostgreSQL's and Linux's keepalives ask after two
/// hours, so a client that was silent for longer has been asked and did not answer.
pub const SILENT: Nanos = Nanos::from_secs(3 * 3600);
/// A closed flow is forgotten after this time; until then its client's last acknowledgements do not make it a new one.
pub const CLOSED: Nanos = Nanos::from_secs(60);

/// What to remember after a segment with these flags; `None`: what is known already.
#[inline(always)]
pub const fn next(known: Option<Flow>, flags: u8, now: Nanos) -> Option<Flow> {
    if flags & (flag::FIN | flag::RST) != 0 {
        return match known {
            Some(Flow { closed: 0, .. }) => Some(Flow { last_seen_ns: now.0, closed: 1 }),
            // Nothing to close, or closed already.
            Some(_) | None => None,
        };
    }
    let seen = Some(Flow { last_seen_ns: now.0, closed: 0 });
    match known {
        // Its port was taken anew, or what closed it was forged: a client that has data lives.
        Some(flow) if flow.closed != 0 => {
            if flags & (flag::SYN | flag::PSH) != 0 {
                seen
            } else {
                None
            }
        }
        Some(flow) if now.since(Nanos(flow.last_seen_ns)).0 < FRESH.0 => None,
        // Also without SYN: the connection may be older than this program.
        Some(_) | None => seen,
    }
}

/// Whether a flow is still to be remembered at `now`.
pub const fn is_kept(flow: &Flow, now: Nanos) -> bool {
    let limit = if flow.closed == 0 { SILENT } else { CLOSED };
    now.since(Nanos(flow.last_seen_ns)).0 < limit.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Nanos = Nanos::from_secs(100_000);

    fn seen(at: Nanos) -> Flow {
        Flow { last_seen_ns: at.0, closed: 0 }
    }

    #[test]
    fn a_flow_is_written_when_it_is_new_and_then_once_a_second() {
        for flags in [flag::SYN, flag::ACK, flag::ACK | flag::PSH] {
            assert_eq!(next(None, flags, NOW), Some(seen(NOW)));
        }
        let just = seen(Nanos(NOW.0 - FRESH.0 + 1));
        assert_eq!(next(Some(just), flag::ACK, NOW), None);
        let before = seen(Nanos(NOW.0 - FRESH.0));
        assert_eq!(next(Some(before), flag::ACK, NOW), Some(seen(NOW)));
    }

    #[test]
    fn an_end_closes_a_known_flow_and_makes_none() {
        let closed = Flow { last_seen_ns: NOW.0, closed: 1 };
        for flags in [flag::FIN | flag::ACK, flag::RST] {
            assert_eq!(next(Some(seen(NOW)), flags, NOW), Some(closed));
            assert_eq!(next(Some(closed), flags, NOW), None);
            assert_eq!(next(None, flags, NOW), None);
        }
    }

    #[test]
    fn the_last_acknowledgement_of_a_closed_flow_opens_nothing_and_data_or_a_new_connection_do() {
        let closed = Flow { last_seen_ns: NOW.0 - 10, closed: 1 };
        assert_eq!(next(Some(closed), flag::ACK, NOW), None);
        assert_eq!(next(Some(closed), flag::SYN, NOW), Some(seen(NOW)));
        assert_eq!(next(Some(closed), flag::ACK | flag::PSH, NOW), Some(seen(NOW)));
    }

    #[test]
    fn a_flow_outlives_the_keepalives_and_a_closed_one_a_minute() {
        let at = |limit: Nanos, closed| Flow { last_seen_ns: NOW.0 - limit.0, closed };
        assert!(is_kept(&at(Nanos(SILENT.0 - 1), 0), NOW) && !is_kept(&at(SILENT, 0), NOW));
        assert!(is_kept(&at(Nanos(CLOSED.0 - 1), 1), NOW) && !is_kept(&at(CLOSED, 1), NOW));
    }
}
