//! `[observe]`.

use super::*;

#[test]
fn nothing_listens_unless_it_is_asked_for() {
    assert_eq!(accepted(&[]).observe, None);
    assert_eq!(accepted(&[("observe.listen", "\"off\"")]).observe, None);
    for place in ["127.0.0.1:9112", "10.0.0.1:1", "0.0.0.0:65535", "[::1]:9112"] {
        assert_eq!(accepted(&[("observe.listen", &format!("{place:?}"))]).observe, Some(place.parse().unwrap()));
    }
}

#[test]
fn a_place_where_this_node_cannot_always_be_met_is_refused_with_one_where_it_can() {
    for (value, text) in [
        ("\"10.0.0.5:9112\"", "use this node's own, \"10.0.0.1:9112\""),
        ("\"10.0.0.2:9112\"", "the other node's address; use this node's own, \"10.0.0.1:9112\""),
        ("\"10.0.0.1\"", "names no port; use \"127.0.0.1:9112\""),
        ("\"10.0.0.1:0\"", "has no port that a scraper could be told"),
        ("\"localhost:9112\"", "is no address with a port; use \"127.0.0.1:9112\", or \"off\""),
        ("\"127.0.0.1:5432\"", "PostgreSQL has port 5432"),
        ("9112", "9112 is an integer"),
    ] {
        refused_once(&[("observe.listen", value)], "observe.listen", text);
    }
}
