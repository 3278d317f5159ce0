//! The pure core: `handle(now, input) -> actions`. No clock, no socket, no tokio, no file.
//!
//! Holds the VRRP states and the plans for takeover, demotion and rejoin. Driven by the daemon's loop and, with the
//! same code, by tests. One heavy action on PostgreSQL runs at a time (`Op`); its end comes back as [`Input::Done`].
//!
//! ```text
//!            link, PostgreSQL known           silence, resignation: promote
//!   ┌──────┐ ───────────────────────► ┌────────┐ ─────────────────────────► ┌────────┐
//!   │ Init │                          │ Backup │                            │ Master │
//!   └──────┘        link up           └────────┘ ◄───────────────────────── └────────┘
//!              ┌──────────────────────► │            stopped, resigned, outranked │
//!              │                        ▼ link down                               │ link down
//!           ┌───────┐ ◄─────────────────┴─────────────────────────────────────────┘
//!           │ Fault │
//!           └───────┘
//! ```
//!
//! What it must not do: serve while PostgreSQL is no primary, promote while a peer is alive as a primary, say *resign*
//! before every child of the old postmaster is gone, start a former primary before the peer was asked.

pub mod action;
mod backup;
pub mod cloud;
pub mod facts;
pub mod flows;
mod handover;
pub mod health;
pub mod input;
pub mod lag;
mod lease;
mod master;
mod news;
pub mod peer;
pub mod promotable;
mod right;
pub mod rules;
pub mod snapshot;
pub mod speaks;
mod state;
mod sync;
pub mod tally;
mod term;
#[cfg(test)]
mod tests;
pub mod witness;

use harbor_ha_ebpf::records::Order;
use harbor_ha_ebpf::units::{Nanos, Priority};
use harbor_ha_ebpf::wire::pulse::flag;

pub use action::{Action, Actions, PulseState, Report, StopMode};
use facts::{AtRest, PgFacts};
pub use handover::Handover;
use handover::Step;
use health::Health;
pub use input::{Command, Done, Input, Postgres, Promoted, Served, Verdict};
use lag::Lag;
use lease::Lease;
use peer::Peer;
use promotable::NotPromotable;
use right::Approach;
pub use rules::Rules;
use snapshot::Takeover;
pub use state::VrrpState;
use tally::Tally;
pub use term::Terms;
use witness::Witness;

/// The heavy action that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Promote,
    Serve,
    Checkpoint(Leave),
    Stop(After),
    Start,
    Rejoin {
        /// It is what an operator's `reinit` asked for.
        anew: bool,
    },
}

/// What follows a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct After {
    /// Tell the peer to take over.
    resign: bool,
    /// End the daemon.
    exit: bool,
}

/// Why a primary hands over by its own will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    Switchover,
    Terminate,
    /// Something that this node tracks has failed.
    Tracked,
}

/// This node's PostgreSQL, as last heard.
#[derive(Clone, Debug)]
enum Local {
    /// Nothing heard yet, or it just ended.
    Unknown,
    Up(PgFacts),
    NotReady(String),
    Rest(AtRest),
}

/// How the peer ended, for the stamps of a takeover.
#[derive(Clone, Copy, Debug)]
struct EndOfPeer {
    why: &'static str,
    at: Nanos,
    last_heard: Nanos,
}

/// [`EndOfPeer::why`] of a peer that gave up by itself.
const RESIGNED: &str = "resigned";

/// The machine.
#[derive(Debug)]
pub struct Core {
    rules: Rules,
    state: VrrpState,
    since: Nanos,
    why: String,
    link: Option<bool>,
    /// On disk.
    terms: Terms,
    /// A write of these is under way.
    storing: Option<Terms>,
    store_at: Nanos,
    local: Local,
    /// When the last action on PostgreSQL ended.
    local_since: Nanos,
    no_answers: u32,
    peer: Peer,
    /// The peer was heard since this node could hear: only then is its silence news.
    heard: bool,
    op: Option<Op>,
    /// A stop failed: when it is tried again.
    stop_again_at: Option<Nanos>,
    serving: bool,
    /// When the addresses were last put up.
    served_at: Nanos,
    resigned: bool,
    /// After a resignation: until when the peer has the first right to serve.
    resigned_until: Nanos,
    peer_synced: bool,
    setting_sync: bool,
    sync_retry_at: Nanos,
    asking: bool,
    /// The peer's PostgreSQL was asked and did not answer.
    unanswered: bool,
    leave: Option<Leave>,
    refusal: Option<NotPromotable>,
    tally: Tally,
    health: Health,
    lag: Option<Lag>,
    cluster_reported: bool,
    pulse: PulseState,
    takeover: Option<Takeover>,
    /// The last time that this node handed over.
    handover: Option<Handover>,
    /// Why and since when the peer serves no more, by the kernel's clock.
    end_of_peer: Option<EndOfPeer>,
    advert_at: Option<Nanos>,
    second_burst_at: Option<Nanos>,
    refresh_at: Option<Nanos>,
    /// Until then a node that heard nobody stays silent.
    silence_until: Nanos,
    /// Since when the peer is alive and nobody serves.
    leaderless_since: Option<Nanos>,
    /// How often in a row PostgreSQL said that it streams: a WAL receiver says so before it was given any WAL.
    streams: u32,
    /// Since when our standby does not stream although the peer serves.
    stalled_since: Option<Nanos>,
    preempt_at: Option<Nanos>,
    retry_at: Nanos,
    ask_at: Nanos,
    /// Verdicts of a past in which this process stood still are being read: nothing is decided until the last one is.
    backlog_until: Nanos,
    lease: Lease,
    witness: Witness,
    /// A takeover has begun and has not promoted.
    approach: Option<Approach>,
    /// This node serves, or is about to: the gate is ordered open when it may be.
    opening: bool,
    /// Since this node waived its right, its primary was heard to do without it.
    solo_heard: bool,
    /// A standby waits for its primary before it ends.
    leaving_since: Option<Nanos>,
    /// Commits shall stop waiting for the standby.
    degrading: bool,
    /// Since when the named standby does not stream.
    unstreamed_since: Option<Nanos>,
    /// An operator forces the takeover.
    forced: bool,
    /// No automatic action.
    paused: bool,
    /// The peer is asked for patience until then.
    hold_until: Nanos,
    /// An operator wants this standby made anew.
    reinit: bool,
    /// [`Action::Exit`] was said: nothing follows it.
    ended: bool,
    /// The daemon ended, and what it serves goes on without it.
    silent: bool,
    /// The instant of the input that is being handled.
    now: Nanos,
}

/// What an earlier run left in force, and an operator's word that outlives runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Adopted {
    /// The kernel's order.
    pub order: Order,
    /// Automatic action is paused.
    pub paused: bool,
    /// The kernel's maps are new: what this node promised before is not in them.
    pub forgotten: bool,
}

/// Between two tries of an action that failed.
const RETRY: Nanos = Nanos::from_secs(2);
/// Between two questions to the peer's PostgreSQL.
const ASK: Nanos = Nanos::from_millis(500);
/// A verdict that is older than this when it is read has probably others behind it.
const BACKLOG: Nanos = Nanos::from_millis(50);
/// A wake after this comes when all of them are read: the daemon reads verdicts before it looks at its clock.
const DRAIN: Nanos = Nanos::from_millis(1);
/// How long a peer that was asked to take over may take before we serve again.
const RESIGN_PATIENCE: Nanos = Nanos::from_secs(30);

impl Core {
    /// A node that knows nothing yet but its terms, and what an earlier run left in force.
    pub fn new(rules: Rules, terms: Terms, adopted: Adopted, now: Nanos) -> Self {
        let floor = if adopted.forgotten { now.after(rules.start_wait) } else { Nanos(0) };
        Self {
            rules,
            state: VrrpState::Init,
            since: now,
            why: "just started".to_owned(),
            link: None,
            terms,
            storing: None,
            store_at: now,
            local: Local::Unknown,
            local_since: Nanos(0),
            no_answers: 0,
            peer: Peer::default(),
            heard: false,
            op: None,
            stop_again_at: None,
            serving: false,
            served_at: Nanos(0),
            resigned: false,
            resigned_until: now,
            peer_synced: false,
            setting_sync: false,
            sync_retry_at: now,
            asking: false,
            unanswered: false,
            leave: None,
            refusal: None,
            tally: Tally::default(),
            health: Health::new(rules.priority, now),
            lag: None,
            cluster_reported: false,
            pulse: PulseState::default(),
            takeover: None,
            handover: None,
            end_of_peer: None,
            advert_at: None,
            second_burst_at: None,
            refresh_at: None,
            silence_until: now,
            leaderless_since: None,
            streams: 0,
            stalled_since: None,
            preempt_at: None,
            retry_at: now,
            ask_at: now,
            backlog_until: now,
            lease: Lease::new(adopted.order, terms.claim(), now).not_before(floor),
            witness: Witness::default(),
            approach: None,
            opening: false,
            solo_heard: false,
            leaving_since: None,
            degrading: false,
            unstreamed_since: None,
            forced: false,
            paused: adopted.paused,
            hold_until: now,
            reinit: false,
            ended: false,
            silent: false,
            now,
        }
    }

    /// Takes one input in, at the instant `now` (`CLOCK_MONOTONIC`), and says what to do.
    pub fn handle(&mut self, now: Nanos, input: Input, out: &mut Actions) {
        if self.ended {
            out.set_wake(None);
            return;
        }
        self.now = now;
        match input {
            Input::Verdict(verdict) => self.on_verdict(now, &verdict, out),
            Input::Wake => {}
            Input::Link(up) => self.on_link(up),
            Input::Tracked { tracker, value } => self.on_tracked(now, tracker, value),
            Input::Addresses { asked, all, any } => self.on_addresses(asked, all, any, out),
            // News from before the last change are out of date; the end of a process never is.
            Input::Postgres { asked, news } if asked >= self.local_since || news == Postgres::Exited => {
                self.on_postgres(now, news, out);
            }
            Input::Postgres { .. } => {}
            Input::PeerPostgres(facts) => {
                self.asking = false;
                self.ask_at = now.after(ASK);
                self.unanswered = facts.is_none();
                self.peer.answered(facts);
            }
            Input::PeerWal { timeline, lsn } => self.peer.reached(timeline, lsn),
            Input::Lease(until) => self.lease_read(now, until),
            // Whoever asks may not know yet that this node serves no more.
            Input::Unfollowed if self.serving => out.push(Action::Announce(self.rules.announce_repeat)),
            Input::Unfollowed => {}
            Input::Done(Done::Ordered { order, promise_until }) => self.ordered(order, promise_until),
            Input::Done(Done::Witness { call, asked, answer }) => self.witnessed(now, call, asked, answer, out),
            Input::Done(Done::StoreTerms(result)) => self.stored(now, result),
            Input::Done(done) => self.on_done(now, done, out),
            Input::Command(Command::Terminate) => self.leave = Some(Leave::Terminate),
            // Meant for the primary of this moment; and an end that was asked for is not taken back.
            Input::Command(Command::Switchover) => {
                if self.state == VrrpState::Master && self.leave.is_none() {
                    self.leave = Some(Leave::Switchover);
                }
            }
            Input::Command(command) => self.commanded(now, command, out),
        }
        self.settle(now, out);
        self.settle_rights(now, out);
        self.settle_terms(now, out);
        self.settle_order(out);
        self.tell_peer(out);
        self.tell_others(out);
        self.check_invariants();
        out.set_wake(if self.ended { None } else { self.next_deadline(now) });
    }

    /// Everything that follows from what is known now, whatever input brought it; twice where a state was entered in
    /// which something is due at once (an address owner's start).
    fn settle(&mut self, now: Nanos, out: &mut Actions) {
        if now < self.backlog_until {
            return;
        }
        if self.paused && self.leave != Some(Leave::Terminate) && !self.forced {
            if self.state == VrrpState::Master {
                self.run_timers(now, out);
            }
            return;
        }
        if self.stop_again_at.is_some_and(|at| now >= at) {
            self.stop_again_at = None;
            out.push(Action::Stop(StopMode::Kill));
        }
        for _ in 0..2 {
            let before = self.state;
            match self.state {
                VrrpState::Init => self.settle_init(now, out),
                VrrpState::Backup => self.settle_backup(now, out),
                VrrpState::Master => self.settle_master(now, out),
                VrrpState::Fault => self.settle_fault(now, out),
            }
            if self.ended || self.state == before || self.state == VrrpState::Master {
                return;
            }
        }
    }

    /// Asked to end, and nothing runs that has to be finished: a start goes on alone, a rejoin is resumed.
    fn may_exit(&mut self) -> bool {
        self.leave == Some(Leave::Terminate)
            && matches!(self.op, None | Some(Op::Start | Op::Rejoin { .. }))
            && self.may_leave(self.now)
    }

    /// The last word of the pulses, then the end. Without a daemon nobody would take the addresses off later.
    fn exit(&mut self, out: &mut Actions) {
        out.push(Action::Withdraw);
        self.tell_peer(out);
        self.ended = true;
        // Before the end: who is told is waited for.
        self.tell_others(out);
        out.push(Action::Exit);
    }

    /// Another node serves rightly, or may: nothing more is written here.
    fn stand_down(&mut self, why: &str, out: &mut Actions) {
        self.why = why.to_owned();
        self.stop(StopMode::Fast, After { resign: false, exit: false }, out);
    }

    /// What an operator wants, besides a hand-over.
    fn commanded(&mut self, now: Nanos, command: Command, out: &mut Actions) {
        match command {
            Command::Failover if self.state == VrrpState::Backup => self.forced = true,
            Command::Pause | Command::Resume => {
                self.paused = command == Command::Pause;
                out.push(Action::StorePause(self.paused));
            }
            // Not renewed while it lasts: the peer counts from the first time it heard of it.
            Command::Hold if now >= self.hold_until => {
                self.hold_until = now.after(self.rules.lease.map_or(Nanos(0), |rules| rules.hold));
            }
            Command::Reinit if self.state == VrrpState::Backup => self.reinit = true,
            Command::Failover | Command::Hold | Command::Reinit | Command::Switchover | Command::Terminate => {}
        }
    }

    fn settle_init(&mut self, now: Nanos, out: &mut Actions) {
        if self.may_exit() {
            self.exit(out);
            return;
        }
        let Some(link) = self.link else {
            return;
        };
        if self.rules.postgres && matches!(self.local, Local::Unknown) {
            return;
        }
        if !self.rules.postgres && self.health.is_unknown() {
            self.why = self.health.complaint().unwrap_or_default();
            return;
        }
        // A running primary keeps its addresses until it is known whether another one serves. Without a link the other
        // one is likely, and clients on this very host would go on writing.
        if !link || !matches!(&self.local, Local::Up(facts) if !facts.in_recovery) {
            self.shut(out);
            out.push(Action::Withdraw);
        }
        match self.fault() {
            None => self.enter_backup(now, "link and PostgreSQL are known", out),
            Some(why) => self.enter(now, VrrpState::Fault, &why, out),
        }
    }

    fn enter_backup(&mut self, now: Nanos, why: &str, out: &mut Actions) {
        self.silence_until = now.after(self.rules.start_wait);
        self.leaderless_since = None;
        self.preempt_at = None;
        self.unanswered = false;
        self.enter(now, VrrpState::Backup, why, out);
    }

    fn enter(&mut self, now: Nanos, state: VrrpState, why: &str, out: &mut Actions) {
        if state != VrrpState::Master {
            self.opening = false;
            self.serving = false;
            self.advert_at = None;
            self.second_burst_at = None;
            self.refresh_at = None;
        }
        out.push(Action::Report(Report { from: self.state, to: state, why: why.to_owned() }));
        self.state = state;
        self.since = now;
        self.why = why.to_owned();
    }

    /// Begins to stop serving; the state changes when every process is gone.
    fn stop(&mut self, mode: StopMode, after: After, out: &mut Actions) {
        // Before anything else: the gate needs nobody's consent to be shut.
        self.shut(out);
        self.handover_reached(Step::Shut, self.now);
        self.reset_flows(after, out);
        self.serving = false;
        self.second_burst_at = None;
        self.refresh_at = None;
        if !after.resign {
            // Another primary is right: not one more advert. With a resignation adverts go on until every process is
            // gone, so that the peer does not begin before.
            self.advert_at = None;
        }
        self.op = Some(Op::Stop(after));
        out.push(Action::Stop(mode));
    }

    /// Changes of what the pulses say.
    fn tell_peer(&mut self, out: &mut Actions) {
        let mut pulse = PulseState::default();
        let mut set = |bit: u16, on: bool| pulse.flags |= if on { bit } else { 0 };
        set(flag::PRIMARY, self.state == VrrpState::Master);
        // Also in the last word: whoever takes over must know whether it has everything.
        set(flag::SYNC, (self.state == VrrpState::Master || self.resigned) && self.peer_synced);
        set(flag::FAULT, self.state == VrrpState::Fault);
        set(flag::RESIGN, self.resigned);
        let leased = self.rules.lease.is_some() && self.state == VrrpState::Master && !self.lease.solo;
        set(flag::LEASED, leased);
        set(flag::WAIVED, self.says_waived());
        set(flag::ASKS_WAIVER, leased && (self.degrading || self.is_outrun()));
        set(flag::UNFIT, self.refusal.is_some_and(NotPromotable::is_lasting));
        set(flag::UNWELL, self.state != VrrpState::Master && !self.health.is_well());
        set(flag::HOLD, self.now < self.hold_until);
        set(flag::HOLDS, self.now < self.peer.hold_until);
        match &self.local {
            Local::Up(facts) => {
                set(flag::PG_UP, true);
                // A promotion that has begun counts: a former primary must not start meanwhile.
                set(flag::PG_PRIMARY, !facts.in_recovery || self.op == Some(Op::Promote));
                pulse.timeline = facts.timeline;
                pulse.lsn = facts.lsn.0;
                pulse.system_identifier = facts.system_identifier;
            }
            Local::Rest(rest) => {
                // Where the log of a primary ended must not look like its beginning.
                pulse.lsn = self.pulse.lsn;
                let rejoins = rest.rejoin_pending || matches!(self.op, Some(Op::Rejoin { .. }));
                set(flag::REJOIN, rejoins);
                set(flag::FORMER, !rejoins && !rest.standby_signal);
                pulse.timeline = rest.timeline;
                pulse.system_identifier = rest.system_identifier;
            }
            Local::Unknown | Local::NotReady(_) => {
                // It was started by the rejoin, and gets ready only by what the peer sends.
                set(flag::REJOIN, matches!(self.op, Some(Op::Rejoin { .. })));
                pulse.timeline = self.pulse.timeline;
                pulse.lsn = self.pulse.lsn;
                pulse.system_identifier = self.pulse.system_identifier;
            }
        }
        pulse.term = self.pulse_term();
        pulse.priority = self.priority().0;
        if pulse != self.pulse {
            self.pulse = pulse;
            out.push(Action::Pulse(pulse));
        }
    }

    fn ask(&mut self, now: Nanos, out: &mut Actions) {
        if !self.asking && now >= self.ask_at {
            self.asking = true;
            // What it said before is old from now on.
            self.peer.postgres = None;
            out.push(Action::AskPeer);
        }
    }

    fn next_deadline(&self, now: Nanos) -> Option<Nanos> {
        let future = |at: Nanos| (at > now).then_some(at);
        let leaderless = self.leaderless_since.map(|since| since.after(self.rules.start_wait));
        let unheard = self.leaderless_since.map(|since| since.after(backup::PEER_START_LIMIT));
        let stalled = self.stalled_since.map(|since| since.after(backup::STREAM_PATIENCE));
        let resigned = if self.resigned { future(self.resigned_until) } else { None };
        [
            self.advert_at.and_then(future),
            self.second_burst_at.and_then(future),
            self.refresh_at.and_then(future),
            self.preempt_at.and_then(future),
            self.stop_again_at.and_then(future),
            self.waiver_deadline().and_then(future),
            self.lease_deadline().and_then(future),
            self.sync_deadline().and_then(future),
            self.tracked_deadline().and_then(future),
            future(self.hold_until),
            future(self.peer.hold_until),
            leaderless.and_then(future),
            unheard.and_then(future),
            stalled.and_then(future),
            resigned,
            if self.state == VrrpState::Backup { future(self.silence_until) } else { None },
            future(self.backlog_until),
            future(self.retry_at),
            future(self.sync_retry_at),
            future(self.store_at),
            future(self.ask_at),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What must hold after every input; dying is safe, serving wrongly is not.
    fn check_invariants(&self) {
        assert!(!self.serving || self.state == VrrpState::Master, "serving in state {}", self.state);
        assert!(!(self.resigned && self.serving), "serving after a resignation");
        assert!(!(self.ended && self.serving) || self.silent, "serving after the end");
        debug_assert!(self.advert_at.is_none() || self.state == VrrpState::Master, "adverts in state {}", self.state);
    }

    /// The priority on the wire: as configured, moved by what is tracked.
    const fn priority(&self) -> Priority {
        self.health.priority
    }
}
