//! A lab whose service is written to and observed while a test breaks it, and what must hold whatever is broken.

use anyhow::{Result, bail, ensure};
use harbor_ha_tests::lab::capture::Capture;
use harbor_ha_tests::lab::node::Status;
use harbor_ha_tests::lab::observer::Observers;
use harbor_ha_tests::lab::writer::Writer;
use harbor_ha_tests::lab::{Lab, Options, Side, clock, residue};

use super::SOON;

/// Rows that are a calm.
const ROWS: usize = 50;

/// The lab with its client and its observers.
pub struct Watched {
    /// The lab.
    pub lab: Lab,
    /// Who serves, as seen from all hosts.
    pub observers: Observers,
    /// The client.
    pub writer: Writer,
    _capture: Capture,
    begun_ns: u64,
    round: u32,
}

impl Watched {
    /// Builds the lab; a is its primary, and everybody is served.
    pub fn up(options: &Options) -> Self {
        let lab = Lab::up(options).unwrap();
        let capture = Capture::start(&lab).unwrap();
        let writer = Writer::start(&lab, &capture).unwrap();
        let observers = Observers::start(&lab).unwrap();
        let mut watched = Self { lab, observers, writer, _capture: capture, begun_ns: clock::now_ns(), round: 0 };
        watched.calm(Side::A);
        watched
    }

    /// Waits until a node acknowledges rows that were sent from now on, and has answered the observers on all hosts
    /// that reach it, also on connections that they keep: only those can be deceived later.
    pub fn calm(&mut self, by: Side) {
        self.round += 1;
        self.writer.begin_round(self.round);
        let from_ns = clock::now_ns();
        let calm = || {
            let rows = self.writer.count(self.round, by);
            ensure!(rows >= ROWS, "{rows} rows; last error: {}", self.writer.last_error());
            let answers = self.observers.answers();
            let kept =
                answers.iter().rev().take_while(|it| it.received_ns >= from_ns).any(|it| it.by == by && !it.fresh);
            ensure!(kept, "no answer on a connection that is kept");
            Ok(())
        };
        self.lab.wait(&format!("{by} serves the clients"), SOON, calm).unwrap();
    }

    /// What a node says of itself.
    pub fn says(&self, side: Side) -> Status {
        self.lab.node(side).status().unwrap()
    }

    /// Waits for something that a node's status shall say.
    pub fn wait(&self, what: &str, side: Side, is: impl Fn(&Status) -> bool) -> Status {
        let mut last = None;
        let asked = self.lab.wait(what, SOON, || {
            let said = self.lab.node(side).living_status()?;
            let (is, line) = (is(&said), format!("{side}: {}; lease {}", said.summary(), said.0["lease"]));
            last = Some(said);
            if is { Ok(()) } else { bail!("{line}") }
        });
        asked.unwrap();
        last.expect("it was asked")
    }

    /// For a fault that shall move nothing: looks at both for longer than any detection or witness takes.
    pub fn endure(&self, seconds: u64, mut look: impl FnMut() -> Result<()>) {
        let end_ns = clock::now_ns() + seconds * 1_000_000_000;
        while clock::now_ns() < end_ns {
            look().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Whether somebody was answered by this node since an instant.
    pub fn answered_since(&self, by: Side, since_ns: u64) -> bool {
        self.observers.answers().iter().any(|it| it.by == by && it.sent_ns >= since_ns)
    }

    /// Milliseconds in which a primary's own gate was dark, so far, and how often.
    pub fn dark(&self, side: Side) -> (f64, u64) {
        let said = self.says(side);
        let number = |name: &str| said.number(&format!("/gate/{name}")).unwrap_or_default();
        (number("dark_ns") as f64 / 1e6, number("darkenings"))
    }

    /// No two servers were ever seen, and no standby.
    pub fn never_two(&self) {
        let found = self.observers.violations(self.begun_ns);
        let of_two = &found.two_servers;
        assert!(of_two.is_empty(), "{} answers of a second server: {:?}", of_two.len(), &of_two[..of_two.len().min(3)]);
        assert_eq!(found.standby, 0, "answers of a standby");
        eprintln!("  {} answers, {} under way as the server changed", self.observers.answers().len(), found.late);
    }

    /// Every acknowledged row is at the primary.
    pub fn nothing_lost(&self, primary: Side) {
        let acks = self.writer.acks();
        let there = self.lab.node(primary).postgres().rows().unwrap();
        let lost: Vec<i64> = acks.iter().map(|ack| ack.id).filter(|id| !there.contains(id)).collect();
        assert!(lost.is_empty(), "{} of {} rows lost: {:?}", lost.len(), acks.len(), &lost[..lost.len().min(9)]);
    }

    /// Takes the lab down, which leaves nothing.
    pub fn end(self) {
        let run = self.lab.run().to_owned();
        drop(self);
        assert_eq!(residue::of(&run), Vec::<String>::new());
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for side in Side::BOTH {
                let said = self.lab.status(side).map(|said| format!("{}; {}", said.summary(), said.0["lease"]));
                eprintln!("{side}: {said:?}");
            }
            self.lab.keep_logs();
        }
    }
}

/// Nanoseconds for a person.
pub fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}
