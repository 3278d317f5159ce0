//! The same `keepalived.conf` for ours and for a real keepalived, at the same time, and everything that happens happens to
//! both: what the third host hears of them, and what their FIFOs are told, must be the same.
//!
//! The two send to that host and do not hear each other, so each serves whenever it may. What is compared is the sequence of
//! the priorities in their adverts; a good-bye is a 0, and a FAULT is that and then nothing.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Child;

use anyhow::ensure;
use harbor_ha_tests::lab::dropin::Dropin;
use harbor_ha_tests::lab::keepalived::Setup;
use harbor_ha_tests::lab::state::VIP;
use harbor_ha_tests::lab::wire::{What, Wire};
use harbor_ha_tests::lab::{Lab, Side, clock, link, need, netns};

use super::either::Daemon;
use super::either::Who::{Ours, Theirs};
use super::keepalived::{Protocol, STRONG, V3};
use super::waits::adverts_of;
use super::{LIMIT, settled, told};

const FAST: Protocol = Protocol { advert_int: "0.1", interval_ms: 100, ..V3 };

/// What happens to both.
#[derive(Debug)]
pub(super) enum Happens {
    /// A file of `/etc/keepalived` has another text.
    Write(&'static str, &'static str),
    /// The same, in one step, by a rename.
    Replace(&'static str, &'static str),
    /// It is no more.
    Remove(&'static str),
    /// The next runs of a script end like this, one letter each: `.` well, `x` with 1, `k` by SIGKILL, `h` not at all. The last
    /// letter stays.
    Runs(&'static str, &'static str),
    /// `ip` does this.
    Ip(&'static str),
    /// One process more of a name.
    Start(&'static str),
    /// One less.
    End(&'static str),
}
use Happens::{End, Ip, Remove, Replace, Runs, Start, Write};

/// And the priorities that follow it; none: it changes nothing.
pub(super) type Step = (Happens, &'static [u8]);

/// What their files say beside the instance itself.
#[derive(Clone, Copy, Default)]
pub(super) struct Words<'a> {
    /// In `global_defs`.
    pub globals: &'a str,
    /// Before the instance.
    pub trackers: &'a str,
    /// In it.
    pub instance: &'a str,
}

pub(super) struct Twins<'a> {
    lab: &'a Lab,
    /// At the third host.
    wire: Wire,
    /// Scripts are told too, but those of keepalived overtake each other.
    fifos: [File; 2],
    /// Lines of the FIFOs before this one are not compared.
    pub(super) from_line: usize,
    pub(super) processes: Processes,
    /// `NAME=VALUE` words more for ours, and for theirs.
    pub(super) environment: [Vec<OsString>; 2],
    /// From here on they are compared.
    from_ns: u64,
    /// The priorities that both must have shown since then; the first is what they began with.
    expected: Vec<u8>,
}

impl<'a> Twins<'a> {
    /// With the scripts of both at hand, and nothing started.
    pub(super) fn on(lab: &'a Lab) -> Self {
        let wire = Wire::on(lab, "c").unwrap();
        let processes = Processes::new(lab);
        let fifos = Side::BOTH.map(|side| {
            let etc = Dropin::on(lab.node(side)).etc().unwrap();
            fs::write(etc.join("check"), CHECK).unwrap();
            fs::set_permissions(etc.join("check"), fs::Permissions::from_mode(0o755)).unwrap();
            told::made(&etc.join("fifo"))
        });
        Self {
            lab,
            wire,
            fifos,
            from_line: 0,
            processes,
            environment: Default::default(),
            from_ns: 0,
            expected: Vec::new(),
        }
    }

    /// Starts both; `settled_at` is what they advertise once they know everything.
    pub(super) fn start(&mut self, words: Words<'_>, settled_at: u8) {
        for (daemon, environment) in Daemon::each(self.lab, [Ours, Theirs]).into_iter().zip(&self.environment) {
            daemon.start_with(&config(daemon, words), environment);
        }
        self.until(&format!("both advertise {settled_at}"), |shown| shown.last() == Some(&settled_at));
        (self.from_ns, self.expected) = (clock::now_ns(), vec![settled_at]);
    }

    fn folders(&self) -> [PathBuf; 2] {
        Side::BOTH.map(|side| Dropin::on(self.lab.node(side)).etc().unwrap())
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        for folder in self.folders() {
            fs::write(folder.join(name), text).unwrap();
        }
    }

    /// The priorities of a node's adverts since the two are compared, each once for as long as it stays.
    fn shown(&self, side: Side) -> Vec<u8> {
        let seen = self.wire.since(self.from_ns).into_iter();
        let adverts = seen.filter_map(|it| match it.what {
            What::Advert(from, priority) if from == side => Some(priority),
            _ => None,
        });
        let mut shown: Vec<u8> = self.expected.first().copied().into_iter().chain(adverts).collect();
        shown.dedup();
        shown
    }

    fn until(&self, what: &str, reached: impl Fn(&[u8]) -> bool) {
        let waited = self.lab.wait(what, LIMIT, || {
            let shown = Side::BOTH.map(|side| self.shown(side));
            ensure!(shown.iter().all(|it| reached(it)), "ours: {:?}, theirs: {:?}", shown[0], shown[1]);
            Ok(())
        });
        settled(self.lab, waited);
    }

    pub(super) fn happens(&mut self, (event, priorities): &Step) {
        match event {
            Write(name, text) => self.write(name, text),
            Replace(name, text) | Runs(name, text) => {
                self.write("new", &format!("{text}\n"));
                self.folders().iter().for_each(|it| fs::rename(it.join("new"), it.join(name)).unwrap());
            }
            Remove(name) => self.folders().iter().for_each(|it| fs::remove_file(it.join(name)).unwrap()),
            Ip(words) => {
                for side in Side::BOTH {
                    link::batch(Some(&self.lab.node(side).netns()), &format!("{words}\n")).unwrap();
                }
            }
            Start(name) => self.processes.start(name),
            End(name) => self.processes.end(name),
        }
        self.show(&format!("{event:?}"), priorities);
    }

    /// Both show these priorities next; none: they go on as they are.
    fn show(&mut self, after: &str, priorities: &[u8]) {
        if priorities.is_empty() {
            Side::BOTH.iter().for_each(|side| _ = adverts_of(self.lab, &self.wire, *side, 5));
            return;
        }
        self.expected.extend(priorities);
        let expected = &self.expected;
        // What came instead is told at the end.
        self.until(&format!("{expected:?} after {after}"), |shown| {
            shown.len() >= expected.len() && shown.last() == expected.last()
        });
    }

    /// All of this happens, and in the end nothing else was shown.
    pub(super) fn live(mut self, words: Words<'_>, settled_at: u8, steps: &[Step]) {
        self.start(words, settled_at);
        steps.iter().for_each(|step| self.happens(step));
        self.end();
    }

    /// Nothing else was shown, and both FIFOs were told the same.
    pub(super) fn end(mut self) {
        let shown = Side::BOTH.map(|side| self.shown(side));
        eprintln!("ours {:?}, theirs {:?}", shown[0], shown[1]);
        assert_eq!((&shown[0], &shown[1]), (&self.expected, &self.expected), "ours, theirs; expected twice");
        let mut told = [const { String::new() }; 2];
        let waited = self.lab.wait("both FIFOs are told the same", LIMIT, || {
            told.iter_mut().zip(&mut self.fifos).for_each(|(told, fifo)| told.push_str(&told::drained(fifo)));
            let [ours, theirs] = told.each_ref().map(|it| it.lines().skip(self.from_line).collect::<Vec<_>>());
            ensure!(ours == theirs && !ours.is_empty(), "ours: {ours:#?}\ntheirs: {theirs:#?}");
            Ok(())
        });
        settled(self.lab, waited);
    }
}

fn config(daemon: Daemon<'_>, words: Words<'_>) -> String {
    let (routers, address): (&[&str], _) = match daemon.host {
        "a" => (&["a", "c"], VIP.to_string()),
        _ => (&["b", "c"], "10.77.0.200".to_owned()),
    };
    let Words { globals, trackers, instance } = words;
    let text = daemon.theirs().config(&Setup { preempt: true, routers, ..FAST.keepalived(STRONG) });
    let fifo = "    script_user root\n    enable_script_security\n    vrrp_notify_fifo /etc/keepalived/fifo\n";
    let globals = format!("global_defs {{\n{fifo}{globals}");
    let instance = format!("    interface eth0\n{instance}");
    text.replacen("global_defs {\n", &globals, 1)
        .replacen("vrrp_instance", &format!("{trackers}vrrp_instance"), 1)
        .replacen("    interface eth0\n", &instance, 1)
        .replace(&VIP.to_string(), &address)
}

/// Each run takes the first letter of its plan and leaves the others.
const CHECK: &str = "#!/bin/sh\nread -r plan < /etc/keepalived/$1\nothers=${plan#?}\n\
    if [ -n \"$others\" ]; then echo \"$others\" > /etc/keepalived/$1.new; mv /etc/keepalived/$1.new /etc/keepalived/$1; fi\n\
    case $plan in\n.*) exit 0 ;;\nx*) exit 1 ;;\nk*) kill -KILL $$ ;;\nh*) exec sleep 1000 ;;\nesac\n";

/// Processes on the third host, which both see, as they count the machine's: their names are this lab's alone.
pub(super) struct Processes {
    netns: String,
    folder: PathBuf,
    run: String,
    living: Vec<(&'static str, Child)>,
}

impl Processes {
    fn new(lab: &Lab) -> Self {
        let state = lab.state();
        Self { netns: state.netns("c"), folder: state.folder(), run: state.run.clone(), living: Vec::new() }
    }

    /// As `ps -o comm` shows it.
    pub(super) fn name(run: &str, name: &str) -> String {
        format!("hh{run}{name}")
    }

    pub(super) fn start(&mut self, name: &'static str) {
        let program = self.folder.join(Self::name(&self.run, name));
        if !program.exists() {
            fs::copy(need::find_program("sleep").unwrap(), &program).unwrap();
        }
        let process = netns::command(&self.netns, program).unwrap().arg("100000").spawn().unwrap();
        self.living.push((name, process));
    }

    fn end(&mut self, name: &str) {
        let at = self.living.iter().position(|(other, _)| *other == name).expect("one lives");
        let (_, mut process) = self.living.remove(at);
        process.kill().and_then(|()| process.wait()).unwrap();
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for (_, process) in &mut self.living {
            let _dead = process.kill().and_then(|()| process.wait());
        }
    }
}
