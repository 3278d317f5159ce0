//! What may happen next.

/// One step of one party. `Option<u8>` is the place in the network that a packet takes; `None`: it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Time passes for everybody; nobody has to have done anything before.
    Tick,
    /// A step of a node.
    At(u8, Step),
}

/// A step of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A packet arrives: term, echo, state, and the first half of an echo of its own.
    Deliver(u8),
    /// The second half; a reflection leaves.
    Reflect(Option<u8>),
    /// The pulse thread sends, and writes `own`.
    Pulse(Option<u8>),
    /// Of the mutants: it begins to say what is not true yet.
    Early,

    /// A takeover begins: the echo is off.
    Withdraw,
    /// The promise is read.
    ReadPromise,
    /// The peer is back.
    Cancel,
    /// The term is stored, PostgreSQL promoted.
    Promote,
    /// The gate is ordered open.
    Open,
    /// An operator's takeover.
    Force,
    /// Of the text: a started primary goes on in its old term.
    Start,

    /// The peer's waiver was heard: no echo is needed any more.
    GoSolo,
    /// The peer shall have the right: from now on its echoes are.
    GoLeased,
    /// A peer that waived shall have the right again: a new term.
    CallBack,
    /// The gate is shut, and said to be.
    Resign,
    /// A later primary was heard.
    Demote,
    /// A former primary follows the later one.
    Rejoin,

    /// A waiver is handed to the disk.
    Waive,
    /// It is there.
    Stored,
    /// Of the same-term return: the primary was heard without `LEASED`, so `WAIVED` is not said any more.
    StopWaiving,
    /// Of the same-term return: the primary was heard with `LEASED` again.
    TakeRightBack,

    /// The daemon crashes or hangs.
    Crash,
    /// It is back.
    Restart,
    /// Power is lost, or the maps are.
    Lose,
    /// The host starts.
    Boot,

    /// The witness is asked for the key.
    Ask,
    /// The witness answers.
    Grant,
    /// The answer arrives.
    Granted,
    /// Echoes flow again: the key goes back.
    TakeBack,
    /// The release reaches the witness.
    Released,
    /// With `isolated = "serve"`.
    ServeIsolated,
}
