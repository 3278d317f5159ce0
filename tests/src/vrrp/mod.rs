//! Measurements of plain VRRP that take minutes and assert no time: what many instances cost beside a real keepalived, and
//! whether scripts that misbehave delay a takeover, or are the reason of one.

pub mod hang;
pub mod load;
pub mod torture;

use std::time::Duration;

use anyhow::{Result, ensure};
use nix::unistd::Pid;

use crate::lab::dropin::Dropin;
use crate::lab::keepalived::State;

/// Elections of two hundred instances, on a machine that does other things too.
const LIMIT: Duration = Duration::from_secs(60);

fn reached(dropin: Dropin<'_>, state: State) -> Result<()> {
    ensure!(dropin.state() == state, "it is {:?}", dropin.state());
    Ok(())
}

/// What processes have used.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    /// On a processor, in nanoseconds: all threads that still run.
    cpu_ns: u64,
    /// Resident.
    rss_kib: u64,
    /// The same, with shared pages counted by their share.
    pss_kib: u64,
}

/// Of these processes together.
fn usage(processes: &[Pid]) -> Result<Usage> {
    let mut sum = Usage::default();
    for pid in processes {
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            // The first number is the time on a processor (Documentation/scheduler/sched-stats.rst); a thread that has just
            // ended has none any more.
            let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            sum.cpu_ns += text.split(' ').next().and_then(|it| it.parse::<u64>().ok()).unwrap_or_default();
        }
        let memory = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let kib = |name: &str| {
            let line = memory.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default()
        };
        sum.rss_kib += kib("Rss:");
        sum.pss_kib += kib("Pss:");
    }
    Ok(sum)
}

/// The middle one; of an even number, the upper of the two.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_the_median_is_in_the_middle() {
        let me = usage(&[Pid::this()]).unwrap();
        assert!(me.rss_kib >= me.pss_kib && me.pss_kib > 0, "{me:?}");
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert!(median(&[]).is_nan());
    }
}
