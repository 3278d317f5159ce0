//! Nothing breaks, but the machine is busy: who takes over then does so by mistake.
//!
//! stress-ng forks, switches, sends and moves memory beside the two daemons, on the same cores. What is counted is the
//! cluster's own: timelines of PostgreSQL (each promotion begins one), verdicts of the detectors, changes of roles.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::lab::capture::Capture;
use crate::lab::writer::Writer;
use crate::lab::{Lab, Side, clock, need};

/// Mixed, and more than two cores can do: processes, context switches, the network's softirqs, memory.
const STRESS: &str = "--fork 4 --switch 4 --udp 4 --vm 2 --vm-bytes 64M";
/// Above everything that is not real-time, below the daemons (`realtime.priority` 50).
const HOG_PRIORITY: u8 = 10;
/// It is told to stop at the end; should nobody be there to tell it, it ends so many seconds later.
const SPARE_S: u64 = 60;
/// Between two looks at the roles.
const LOOK: Duration = Duration::from_millis(100);
/// After the stress, for the cluster to be as it was.
const AFTER_LIMIT: Duration = Duration::from_secs(60);

/// What the machine does beside the daemons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Nothing.
    Idle,
    /// The mixed load.
    Mixed,
    /// The mixed load, and on each core a real-time process that never sleeps: all that is not real-time, and that is
    /// PostgreSQL and its client too, lives on what the kernel keeps back for it (5 % of the time).
    Hogs,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Promotions.
    pub takeovers: u32,
    /// Of both detectors, adverts and pulses: the peer is dead.
    pub verdicts: u64,
    /// Expiries of both that ran too late to mean anything.
    pub stalled: u64,
    /// Changes of a node's role, as far as looks saw them.
    pub role_changes: u32,
    /// How late each pulse thread was at most.
    pub late_max_ns: [u64; 2],
    /// How the pulse threads were scheduled.
    pub scheduling: [String; 2],
    /// Rows that the client had acknowledged.
    pub acked: usize,
    /// The longest time in which it had none.
    pub gap_ns: u64,
    /// Acknowledged rows that are not there.
    pub lost: usize,
    /// The share of time for which the gate of the serving node was shut, as the daemons count it, if they do.
    pub dark_share: Option<f64>,
    /// How often.
    pub darkenings: Option<u64>,
}

/// Looks on for so long, beside a load.
///
/// # Errors
/// No stress-ng, or the cluster was not well before or after.
pub fn watch(lab: &Lab, time: Duration, load: Load) -> Result<Figures> {
    let capture = Capture::start(lab)?;
    let writer = Writer::start(lab, &capture)?;
    let primary = lab.primary()?;
    lab.wait_serving(primary, AFTER_LIMIT)?;
    let (timeline, before) = (lab.node(primary).postgres().timeline(), counters(lab)?);
    let begun = clock::now_ns();
    let mut loads = Vec::new();
    if load != Load::Idle {
        loads.push(Stress::start(lab, time, "mixed", STRESS)?);
    }
    if load == Load::Hogs {
        let cores = std::thread::available_parallelism()?;
        let hogs = format!("--cpu {cores} --cpu-method loop --sched fifo --sched-prio {HOG_PRIORITY}");
        loads.push(Stress::start(lab, time, "hogs", &hogs)?);
    }
    let mut figures = Figures::default();
    let mut roles = Side::BOTH.map(|_| String::new());
    let mut shown = begun;
    while clock::now_ns() < begun + time.as_nanos() as u64 {
        for (side, known) in Side::BOTH.into_iter().zip(&mut roles) {
            // A node that does not answer in time says nothing about its role.
            let Some(status) = lab.status(side) else { continue };
            let role = status.text("/role").to_owned();
            figures.role_changes += u32::from(!known.is_empty() && *known != role);
            *known = role;
        }
        if clock::now_ns() > shown + 30_000_000_000 {
            shown = clock::now_ns();
            let seconds = (shown - begun) / 1_000_000_000;
            lab.say(&format!("{seconds} s: {} changes of roles so far", figures.role_changes));
        }
        std::thread::sleep(LOOK);
    }
    // At the height of it: how it was once it was over is another question.
    let at_the_end = clock::now_ns();
    for load in loads {
        load.insist()?;
    }
    let primary = lab.primary()?;
    lab.wait_serving(primary, AFTER_LIMIT).context("after the stress")?;
    let after = counters(lab)?;
    figures.takeovers = lab.node(primary).postgres().timeline().saturating_sub(timeline);
    figures.verdicts = after.verdicts.saturating_sub(before.verdicts);
    figures.stalled = after.stalled.saturating_sub(before.stalled);
    (figures.late_max_ns, figures.scheduling) = (after.late_max_ns, after.scheduling);
    if let (Some((first, _)), Some((last, _))) = (before.dark, after.dark) {
        figures.dark_share = Some(last.saturating_sub(first) as f64 / (at_the_end - begun) as f64);
    }
    if let (Some((_, first)), Some((_, last))) = (before.dark, after.dark) {
        figures.darkenings = Some(last.saturating_sub(first));
    }
    let acks = writer.acks();
    figures.acked = acks.iter().filter(|ack| ack.at_ns >= begun).count();
    figures.gap_ns = writer.longest_gap(begun).unwrap_or_default();
    let there = lab.node(primary).postgres().rows()?;
    figures.lost = acks.iter().filter(|ack| !there.contains(&ack.id)).count();
    Ok(figures)
}

#[derive(Default)]
struct Counters {
    verdicts: u64,
    stalled: u64,
    late_max_ns: [u64; 2],
    scheduling: [String; 2],
    /// For how long in all, and how often.
    dark: Option<(u64, u64)>,
}

fn counters(lab: &Lab) -> Result<Counters> {
    let mut sum = Counters::default();
    for (at, side) in Side::BOTH.into_iter().enumerate() {
        let status = lab.node(side).status()?;
        let number = |pointer: &str| status.number(pointer).unwrap_or_default();
        for heard in ["adverts_heard", "pulses_heard"] {
            sum.verdicts += number(&format!("/{heard}/deaths"));
            sum.stalled += number(&format!("/{heard}/stalled"));
        }
        sum.late_max_ns[at] = number("/pulses/late_max_ns");
        status.text("/realtime").clone_into(&mut sum.scheduling[at]);
        // Of the node that serves; the other's gate is shut all the time.
        if status.is_primary() {
            sum.dark = status.number("/gate/dark_ns").zip(status.number("/gate/darkenings"));
        }
    }
    Ok(sum)
}

/// A stress-ng of the lab: it works in the lab's folder, where the teardown finds it.
struct Stress {
    child: Child,
    log: PathBuf,
}

impl Stress {
    fn start(lab: &Lab, time: Duration, name: &str, words: &str) -> Result<Self> {
        let program = need::find_program("stress-ng").context("`stress-ng` is not installed: cargo xtask setup")?;
        let folder = lab.state().folder().join(format!("stress-{name}"));
        std::fs::create_dir_all(&folder)?;
        let path = folder.join("stress-ng.log");
        let log = File::create(&path)?;
        let mut command = Command::new(program);
        command.args(words.split(' ')).arg("--timeout").arg(format!("{}s", time.as_secs() + SPARE_S));
        command.current_dir(&folder).process_group(0);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        lab.say(&format!("stress-ng {words}"));
        Ok(Self { child: command.spawn()?, log: path })
    }

    /// It is at it to the end: a load that ended early proves nothing.
    fn insist(mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        let log = || std::fs::read_to_string(&self.log).unwrap_or_default();
        ensure!(ended.is_none(), "stress-ng ended early:\n{}", log());
        Ok(())
    }
}

impl Drop for Stress {
    fn drop(&mut self) {
        // Its own group: it and its children. Asked first, as it removes what it made.
        let group = Pid::from_raw(self.child.id() as i32);
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = killpg(group, Signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}

/// For a person.
pub fn text(figures: &Figures) -> String {
    let ms = |ns: u64| ns as f64 / 1e6;
    let [a, b] = figures.late_max_ns.map(ms);
    let mut text = format!(
        "{} takeovers, {} changes of roles, {} verdicts of death, {} stalled expiries\n\
         pulse threads: {} / {}, late at most {a:.1} ms / {b:.1} ms\n\
         client: {} rows acknowledged, {} lost, longest time without one {:.1} ms\n",
        figures.takeovers,
        figures.role_changes,
        figures.verdicts,
        figures.stalled,
        figures.scheduling[0],
        figures.scheduling[1],
        figures.acked,
        figures.lost,
        ms(figures.gap_ns),
    );
    if let Some(share) = figures.dark_share {
        let times = figures.darkenings.unwrap_or_default();
        text += &format!("gate shut for {:.4} % of the time, {times} times\n", share * 100.0);
    }
    text
}

/// As JSON.
pub fn json(figures: &Figures) -> Value {
    let ms = |ns: u64| ns as f64 / 1e6;
    json!({
        "takeovers": figures.takeovers, "role_changes": figures.role_changes, "verdicts": figures.verdicts,
        "stalled": figures.stalled, "late_max_ms": figures.late_max_ns.map(ms), "scheduling": figures.scheduling,
        "acked": figures.acked, "lost": figures.lost, "gap_ms": ms(figures.gap_ns), "dark_share": figures.dark_share,
        "darkenings": figures.darkenings,
    })
}

/// Insists that nobody took over.
///
/// # Errors
/// Somebody did, or a row is lost; or hogs tell nothing, as a daemon was not real-time.
pub fn judge(figures: &Figures, load: Load) -> Result<()> {
    let real = figures.scheduling.iter().all(|it| it.starts_with("SCHED_") && it.contains("loop SCHED_FIFO"));
    ensure!(load != Load::Hogs || real, "a daemon is not real-time: {:?}", figures.scheduling);
    ensure!(figures.takeovers == 0, "{} takeovers without a fault", figures.takeovers);
    ensure!(figures.lost == 0, "{} acknowledged rows are lost", figures.lost);
    Ok(())
}
