//! What was seen of the things that are tracked, and what was told to others: counts since the start of the daemon.

use serde::Serialize;

/// The counts.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outside {
    /// By tracker.
    pub facts: Vec<Facts>,
    /// Notify scripts that ended well.
    pub scripts_ok: u64,
    /// Those that did not, were ended at their limit, or could not be started.
    pub scripts_failed: u64,
    /// Events whose scripts had not begun when a newer one came.
    pub scripts_replaced: u64,
    /// Lines that the FIFO's reader was too slow for.
    pub fifo_lines_dropped: u64,
    /// Mails that a server took.
    pub mails_sent: u64,
    /// Mails that were given up, or dropped as too many waited.
    pub mails_lost: u64,
}

/// What was seen of one tracker.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Facts {
    /// Its name.
    pub tracker: String,
    /// Of a script: runs. Else: news.
    pub facts: u64,
    /// Of a script: runs that failed. Of an interface: how often it went down, or was down at the start.
    pub failed: u64,
}
