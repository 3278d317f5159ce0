//! A fault point that is armed: the variables of the daemon, the files by which it tells, the program that kills.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};

use super::case::Kind;
use crate::lab::{Lab, Side};

/// One armed point of one node. It is shut while its file exists: a start, and what follows it, passes the same places.
pub struct Trap {
    point: &'static str,
    /// Whose daemon.
    pub side: Side,
    kind: Kind,
    open: AtomicBool,
    once: PathBuf,
    /// What the program did: empty for a node, whose power somebody outside has to cut.
    mark: PathBuf,
    program: Option<PathBuf>,
}

impl Trap {
    /// Shut, for now.
    ///
    /// # Errors
    /// The lab's folder cannot be written.
    pub fn lay(lab: &Lab, name: &str, point: &'static str, kind: Kind, side: Side) -> Result<Self> {
        let folder = lab.state().folder().join("points");
        fs::create_dir_all(&folder)?;
        let (once, mark) = (folder.join(format!("{name}.once")), folder.join(format!("{name}.mark")));
        fs::write(&once, "")?;
        let text = match kind {
            Kind::Daemon => None,
            Kind::Postgres => Some(killer(lab, side, &mark)),
            // The daemon must not go on until it is dead itself.
            Kind::Node => Some(format!("#!/bin/sh\n: > {}\nexec sleep 60\n", mark.display())),
        };
        let program = text.map(|text| executable(folder.join(format!("{name}.sh")), &text)).transpose()?;
        Ok(Self { point, side, kind, open: AtomicBool::new(false), once, mark, program })
    }

    /// What the daemon's environment says.
    pub fn environment(&self) -> Vec<OsString> {
        let word = |name: &str, value: &Path| {
            let mut word = OsString::from(format!("HARBOR_HA_FAULT_POINT{name}="));
            word.push(value);
            word
        };
        let program = self.program.as_ref().map(|program| word("_RUNS", program));
        [word("", Path::new(self.point)), word("_ONCE", &self.once)].into_iter().chain(program).collect()
    }

    /// From now on whoever comes there dies.
    ///
    /// # Errors
    /// Its file cannot be removed.
    pub fn open(&self) -> Result<()> {
        fs::remove_file(&self.once)?;
        self.open.store(true, Ordering::Release);
        Ok(())
    }

    /// Somebody came there.
    pub fn fired(&self) -> bool {
        self.open.load(Ordering::Acquire) && self.once.exists()
    }

    /// Shut again; a daemon that never came there may still be armed.
    ///
    /// # Errors
    /// Its file cannot be written.
    pub fn shut(&self) -> Result<()> {
        Ok(fs::write(&self.once, "")?)
    }

    /// The power of its node is to be cut now.
    pub fn cuts_power(&self) -> bool {
        self.kind == Kind::Node && self.mark.exists()
    }

    /// The process that was to die is gone: who looks from now on does not find it as it was. Of a node, whose power
    /// somebody outside cuts, this says nothing.
    ///
    /// # Errors
    /// It is there still, or nobody has said yet which one it is.
    pub fn ensure_gone(&self) -> Result<()> {
        let file = match self.kind {
            Kind::Node => return Ok(()),
            Kind::Daemon => &self.once,
            Kind::Postgres => &self.mark,
        };
        let words = fs::read_to_string(file).unwrap_or_default();
        let line = words.strip_suffix('\n').context("nobody has said yet who dies")?;
        if line != NOBODY {
            let pid = line.split_whitespace().last().context("no process id")?;
            // Until it is reaped: some of its threads may live longer than others.
            ensure!(!Path::new("/proc").join(pid).exists(), "process {pid} is there");
        }
        Ok(())
    }

    /// What died, for a report.
    pub fn victim(&self) -> String {
        let words = match self.kind {
            Kind::Daemon | Kind::Node => return format!("{} of {}", self.kind.name(), self.side),
            Kind::Postgres => fs::read_to_string(&self.mark).unwrap_or_default(),
        };
        format!("postgres of {}", words.split_whitespace().next().unwrap_or("?"))
    }
}

/// There was no postmaster to kill.
const NOBODY: &str = "nobody";

/// Kills the postmaster of a node, or the other node's. A lock file may be of a dead server, its number somebody else's.
fn killer(lab: &Lab, side: Side, mark: &Path) -> String {
    let mut text = "#!/bin/sh\n".to_owned();
    for side in [side, side.other()] {
        let (data, mark) = (lab.node(side).postgres().data(), mark.display());
        text += &format!(
            "pid=$(head -n 1 {data}/postmaster.pid 2>/dev/null)\n\
             if [ -n \"$pid\" ] && grep -qaF {data} /proc/$pid/cmdline 2>/dev/null && kill -9 $pid; then\n\
             echo {side} $pid > {mark}; exit 0\nfi\n",
            data = data.display()
        );
    }
    text + &format!("echo {NOBODY} > {}\n", mark.display())
}

fn executable(path: PathBuf, text: &str) -> Result<PathBuf> {
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}
