//! What is wished, and what stands on a real interface: the loopback of a network namespace that goes with its thread.

use std::net::Ipv4Addr;
use std::path::Path;
use std::pin::pin;
use std::process::Command;
use std::sync::mpsc;
use std::task::Poll;

use tokio::runtime::Runtime;

use super::super::Bell;
use super::*;
use crate::clock;

#[test]
fn of_two_wishes_the_later_one_counts() {
    let desk = Desk::new(2);
    let first = desk.want(InstanceId(1), true);
    assert!(desk.want(InstanceId(1), false) > first);
    assert_eq!(desk.wants()[0], Want::default());
    assert!(!desk.wants()[1].up);
}

const LO: &str = "lo";
/// Put there by an operator, before us; the second with another prefix than ours.
const THEIRS: [&str; 2] = ["10.0.0.1/32", "10.0.0.2/24"];
/// Two instances, which share an address.
const OURS: [&[&str]; 2] = [&["10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32"], &["10.0.0.3/32", "10.0.0.4/32"]];
/// What both add.
const ADDED: [&str; 3] = ["10.0.0.2/32", "10.0.0.3/32", "10.0.0.4/32"];

fn vip(text: &str) -> Vip {
    let (address, prefix) = text.split_once('/').unwrap();
    Vip { address: address.parse().unwrap(), prefix: prefix.parse().unwrap() }
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).status().expect("`ip` is there");
    assert!(done.success(), "ip {arguments}");
}

/// On a thread in a network namespace of its own; with a folder for the record.
fn in_a_namespace(test: impl FnOnce(&Path) + Send + 'static) {
    let run = || {
        if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
            crate::skip::skip(&format!("no network namespace can be made: {error}"));
            return;
        }
        ip("link set lo up");
        test(tempfile::tempdir().unwrap().path());
    };
    std::thread::spawn(run).join().unwrap();
}

/// One run of the daemon, as far as addresses go. Dropped, it is as dead as after SIGKILL: nothing of it is polled again.
struct Run {
    runtime: Runtime,
    desk: Arc<Desk>,
    clerk: std::pin::Pin<Box<dyn Future<Output = ()>>>,
    told: mpsc::Receiver<Message>,
    up: [bool; 2],
    gone: usize,
    /// What was told last of addresses that others put there.
    not_ours: [Vec<String>; 2],
    /// How often.
    told_of_others: usize,
}

impl Run {
    /// Takes off what the run before left, and waits for wishes.
    fn start(folder: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (messages, told) = mpsc::channel();
        let teller = Teller { messages, bell: Arc::new(Bell::new(clock::now()).unwrap()) };
        let desk = Desk::new(OURS.len());
        let (record, interface) = runtime.block_on(async {
            let mut record = Record::open(folder, "router");
            record.clean().await;
            (record, Interface::open(LO).await.unwrap())
        });
        let spot = |text: &&str| {
            let Vip { address, prefix } = vip(text);
            Spot { interface: 0, place: Place { address, prefix, label: None, scope: 0 } }
        };
        let spots = OURS.iter().map(|list| list.iter().map(spot).collect()).collect();
        let clerk = Clerk { desk: Arc::clone(&desk), interfaces: vec![interface], spots, record, teller };
        Self {
            runtime,
            desk,
            clerk: Box::pin(clerk.serve()),
            told,
            up: [false; 2],
            gone: 0,
            not_ours: Default::default(),
            told_of_others: 0,
        }
    }

    fn want(&mut self, up: [bool; 2]) {
        for (index, up) in (0..).zip(up) {
            self.desk.want(InstanceId(index), up);
        }
        self.up = up;
    }

    /// Goes on until both wishes were told as done, or so many awaits were passed; whether they were.
    fn go(&mut self, awaits: usize) -> bool {
        let (mut done, mut passed) = (0, 0);
        let (clerk, told, gone) = (&mut self.clerk, &self.told, &mut self.gone);
        let (not_ours, before) = (&mut self.not_ours, self.told_of_others);
        let others = &mut self.told_of_others;
        self.runtime.block_on(std::future::poll_fn(|context| {
            if passed == awaits {
                return Poll::Ready(());
            }
            passed += 1;
            let ended = pin!(&mut *clerk).poll(context).is_ready();
            for message in told.try_iter() {
                match message {
                    Message::Addresses { .. } => done += 1,
                    Message::Gone(_) => *gone += 1,
                    Message::NotOurs(instance, list) => {
                        *others += 1;
                        not_ours[usize::from(instance.0)] = list;
                    }
                    Message::Tracked(..) | Message::Unfollowed | Message::Status(_) | Message::Stop => unreachable!(),
                }
            }
            if ended || done == OURS.len() || *gone > 0 || *others > before { Poll::Ready(()) } else { Poll::Pending }
        }));
        done == OURS.len()
    }

    fn reach(&mut self, up: [bool; 2]) {
        self.want(up);
        assert!(self.go(usize::MAX));
    }
}

/// What is on the interface, but for the loopback address itself.
fn found() -> Vec<Vip> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let found = runtime.block_on(async { Interface::open(LO).await.unwrap().addresses().await.unwrap() });
    let mut found: Vec<_> = found.into_iter().filter(|it| it.address != Ipv4Addr::LOCALHOST).collect();
    found.sort();
    found
}

fn vips(texts: &[&str]) -> Vec<Vip> {
    let mut vips: Vec<_> = texts.iter().map(|text| vip(text)).collect();
    vips.sort();
    vips
}

/// Kills a run at each of its awaits on the way to a wish, and lets another one begin; returns how often.
fn killed_at_each_step(folder: &Path, before: Option<[bool; 2]>, wish: [bool; 2]) -> usize {
    for awaits in 0.. {
        let mut run = Run::start(folder);
        assert_eq!(found(), vips(&THEIRS), "what was left is off, and what was not ours is not");
        if let Some(before) = before {
            run.reach(before);
        }
        run.want(wish);
        let done = run.go(awaits);
        drop(run);
        let left = found();
        assert!(vips(&THEIRS).iter().all(|theirs| left.contains(theirs)), "after {awaits}: {left:?}");
        drop(Run::start(folder));
        assert_eq!(found(), vips(&THEIRS), "killed after {awaits} awaits, which left {left:?}");
        if done {
            return awaits;
        }
    }
    unreachable!()
}

#[test]
fn an_address_that_was_there_before_us_stays_wherever_we_are_killed_and_ours_goes() {
    in_a_namespace(|folder| {
        for theirs in THEIRS {
            ip(&format!("address add {theirs} dev lo"));
        }
        let up = killed_at_each_step(folder, None, [true; 2]);
        let down = killed_at_each_step(folder, Some([true; 2]), [false; 2]);
        let over = killed_at_each_step(folder, Some([true, false]), [false, true]);
        // A look, three that are put up; three that are taken off; one off, the shared one stays, one more look, one on.
        assert!(up >= 4 && down >= 3 && over >= 4, "killed at {up}, {down} and {over} places");
    });
}

#[test]
fn an_address_of_two_instances_stays_until_neither_wants_it() {
    in_a_namespace(|folder| {
        let mut run = Run::start(folder);
        run.reach([true, true]);
        assert_eq!(found(), vips(&["10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32", "10.0.0.4/32"]));
        run.reach([false, true]);
        assert_eq!(found(), vips(OURS[1]));
        run.reach([true, false]);
        assert_eq!(found(), vips(OURS[0]));
        run.reach([false, false]);
        assert_eq!(found(), []);
    });
}

#[test]
fn one_that_was_taken_away_and_put_up_by_another_is_no_longer_ours() {
    in_a_namespace(|folder| {
        for theirs in THEIRS {
            ip(&format!("address add {theirs} dev lo"));
        }
        let mut run = Run::start(folder);
        run.reach([true, true]);
        assert_eq!(found(), vips(&[&THEIRS[..], &ADDED].concat()));
        ip("address del 10.0.0.4/32 dev lo");
        run.go(usize::MAX);
        assert_eq!(run.gone, 1, "of the second instance alone");
        ip("address add 10.0.0.4/32 dev lo");
        run.gone = 0;
        run.reach([true, true]);
        run.reach([false, false]);
        assert_eq!(found(), vips(&[&THEIRS[..], &["10.0.0.4/32"]].concat()));
        // And one of theirs that they took away is ours when we put it up.
        ip("address del 10.0.0.1/32 dev lo");
        run.reach([true, true]);
        drop(run);
        assert!(found().contains(&vip("10.0.0.1/32")));
        drop(Run::start(folder));
        assert_eq!(found(), vips(&["10.0.0.2/24", "10.0.0.4/32"]));
    });
}

#[test]
fn what_others_put_up_is_told_while_we_are_not_master_and_no_longer_than_that() {
    in_a_namespace(|folder| {
        for theirs in THEIRS {
            ip(&format!("address add {theirs} dev lo"));
        }
        let mut run = Run::start(folder);
        run.go(usize::MAX);
        // Also with another prefix: it is answered for all the same.
        assert_eq!(run.not_ours, [vec!["10.0.0.1/32 dev lo".to_owned(), "10.0.0.2/24 dev lo".to_owned()], vec![]]);
        ip("address del 10.0.0.2/24 dev lo");
        run.go(usize::MAX);
        assert_eq!(run.not_ours[0], ["10.0.0.1/32 dev lo"]);
        // What the other instance put up is ours, and master has whatever is there.
        run.reach([false, true]);
        ip("address add 10.0.0.2/32 dev lo");
        run.go(usize::MAX);
        assert_eq!(run.not_ours[0], ["10.0.0.1/32 dev lo", "10.0.0.2/32 dev lo"]);
        run.reach([true, true]);
        run.go(usize::MAX);
        assert_eq!(run.not_ours, [vec![], vec![]] as [Vec<String>; 2]);
        run.reach([false, false]);
        run.go(usize::MAX);
        assert_eq!(run.not_ours[0], ["10.0.0.1/32 dev lo", "10.0.0.2/32 dev lo"]);
        assert_eq!(run.told_of_others, 5);
        assert_eq!(found(), vips(&["10.0.0.1/32", "10.0.0.2/32"]), "nothing of theirs is touched");
    });
}
