//! Signals that mean something to keepalived and nothing here. Without a handler each would end the daemon at once, and a
//! master without priority 0.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::repeated::Repeated;

/// An exporter asks for keepalived's files each few seconds.
const SAID: Duration = Duration::from_secs(600);

/// Catches each of them for as long as the process lives; to be called in a runtime, before anything is held that a sudden
/// end would leave behind.
pub(super) fn catch() {
    let list = [
        (
            SignalKind::hangup(),
            "SIGHUP",
            "no reload: after `harbor-ha check` restart the daemon, the node without the address first",
        ),
        (SignalKind::user_defined1(), "SIGUSR1", "no dump: use `harbor-ha status --json`"),
        (SignalKind::user_defined2(), "SIGUSR2", "no file of statistics: use `harbor-ha status --json`, or [observe]"),
        // keepalived --signum=JSON and --signum=STATS_CLEAR, with glibc.
        (SignalKind::from_raw(libc::SIGRTMIN() + 2), "SIGRTMIN+2", "no JSON file: use `harbor-ha status --json`"),
        (SignalKind::from_raw(libc::SIGRTMAX() - 1), "SIGRTMAX-1", "counters are never cleared: compare two answers"),
    ];
    for (kind, name, words) in list {
        let mut arrivals = signal(kind).expect("each can be caught");
        tokio::spawn(async move {
            let mut said = Repeated::new(SAID);
            while arrivals.recv().await.is_some() {
                if said.is_due() {
                    tracing::warn!(signal = name, "nothing is done: {words}");
                }
            }
        });
    }
}
