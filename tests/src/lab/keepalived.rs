//! A real keepalived on a node of a lab, met as an operator meets it: a configuration, signals, a log.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgid};

use super::host::Host;
use super::state::VIP;
use super::{clock, dropin, host, netns};

/// What to configure; the rest is as in the users' files: one address.
#[derive(Clone, Debug)]
pub struct Setup {
    /// VRRP version, 2 or 3.
    pub version: u8,
    /// `advert_int`, in seconds.
    pub advert_int: &'static str,
    /// `priority`; `state` is always BACKUP, without which keepalived drops `nopreempt`.
    pub priority: u8,
    /// `virtual_router_id`.
    pub vrid: u8,
    /// `false`: `nopreempt`, as in the users' files.
    pub preempt: bool,
    /// `auth_pass`; version 2 only.
    pub password: Option<&'static str>,
    /// Adverts go to 224.0.0.18 instead of to the peers.
    pub multicast: bool,
    /// The hosts that are routers, and so the peers of each other; the users' are `a` and `b`.
    pub routers: &'static [&'static str],
}

/// The keepalived of a node.
#[derive(Clone, Copy)]
pub struct Keepalived<'a> {
    host: Host<'a>,
}

/// What its log says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing yet.
    Init,
    /// `Entering BACKUP STATE`.
    Backup,
    /// `Entering MASTER STATE`.
    Master,
    /// `Entering FAULT STATE`.
    Fault,
}

impl<'a> Keepalived<'a> {
    /// On this host.
    pub fn on(host: impl Into<Host<'a>>) -> Self {
        Self { host: host.into() }
    }

    /// Its log.
    pub fn log(self) -> PathBuf {
        self.host.home().join("keepalived.log")
    }

    /// Writes the configuration and starts it.
    ///
    /// # Errors
    /// It is not installed, or the node's files cannot be written.
    pub fn start(self, setup: &Setup) -> Result<()> {
        self.start_on(&self.config(setup))
    }

    /// Starts it on these words.
    ///
    /// # Errors
    /// It is not installed, or the node's files cannot be written.
    pub fn start_on(self, text: &str) -> Result<()> {
        self.start_with(text, &[], &[])
    }

    /// The same, with more options, and with `NAME=VALUE` words more in its environment.
    ///
    /// # Errors
    /// As [`Self::start_on`].
    pub fn start_with(self, text: &str, options: &[&str], environment: &[OsString]) -> Result<()> {
        let home = self.host.home();
        fs::create_dir_all(&home)?;
        let config = home.join("keepalived.conf");
        fs::write(&config, text)?;
        // -n: no daemon. -P: VRRP only. -l -G: its words go to the file and nowhere else; without a syslog daemon it
        // would write each line to the machine's console, which takes milliseconds.
        let mut arguments: Vec<_> = ["-n", "-P", "-l", "-G", "-D", "-f"].map(Into::into).into();
        arguments.push(config.into_os_string());
        arguments.extend(options.iter().map(Into::into));
        for (option, file) in [("-p", "keepalived.pid"), ("-r", "keepalived-vrrp.pid")] {
            let file = home.join(file);
            // One that was killed may still wait to be reaped, and keepalived takes that for a living one.
            let _ = fs::remove_file(&file);
            arguments.extend([option.into(), file.into_os_string()]);
        }
        let program = super::need::find_program("keepalived").context("keepalived is not installed")?;
        arguments.insert(0, program.into_os_string());
        let (program, arguments) = dropin::private(self.host, environment, arguments)?;
        host::start(&self.host.place(), None, &self.log(), &program, &arguments)
    }

    /// The words of its configuration.
    pub fn config(self, setup: &Setup) -> String {
        let Setup { version, advert_int, priority, vrid, preempt, password, multicast, routers } = setup;
        let nopreempt = if *preempt { "" } else { "    nopreempt\n" };
        let unicast = if *multicast {
            String::new()
        } else {
            let peers: String = self.host.peers(routers).iter().map(|peer| format!("        {peer}\n")).collect();
            format!("    unicast_src_ip {}\n    unicast_peer {{\n{peers}    }}\n", self.host.address())
        };
        let auth = password.map_or(String::new(), |password| {
            format!("    authentication {{\n        auth_type PASS\n        auth_pass {password}\n    }}\n")
        });
        format!(
            "global_defs {{\n    router_id LVS_DEVEL\n    vrrp_skip_check_adv_addr\n}}\n\
             vrrp_instance VI_1 {{\n    state BACKUP\n{nopreempt}    interface eth0\n    virtual_router_id {vrid}\n\
             \x20   priority {priority}\n    version {version}\n    advert_int {advert_int}\n{auth}\
             \x20   garp_master_delay 1\n    garp_master_refresh 5\n{unicast}    virtual_ipaddress {{\n        {VIP}\n    }}\n}}\n"
        )
    }

    /// The state that it entered last.
    pub fn state(self) -> State {
        self.states().last().copied().unwrap_or(State::Init)
    }

    /// Every state that it entered, in order.
    pub fn states(self) -> Vec<State> {
        let text = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let said = text.lines().filter_map(|line| line.split_once("Entering ")?.1.split(' ').next());
        said.filter_map(|word| match word {
            "BACKUP" => Some(State::Backup),
            "MASTER" => Some(State::Master),
            "FAULT" => Some(State::Fault),
            _ => None,
        })
        .collect()
    }

    /// Its processes: the parent and its VRRP child.
    pub fn processes(self) -> Vec<Pid> {
        let Ok(inode) = netns::inode(&self.host.netns()) else { return Vec::new() };
        let named =
            |pid: &Pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "keepalived");
        netns::processes(inode).into_iter().filter(named).collect()
    }

    /// SIGKILL of all its processes at the same instant; returns the one just before.
    ///
    /// By process group: a child that outlives its parent by a moment is told so by the kernel (SIGTERM), and says good
    /// bye with a priority of 0, which no crash does.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(self) -> Result<u64> {
        let groups: Vec<_> = self.processes().into_iter().map(|pid| getpgid(Some(pid))).collect::<Result<_, _>>()?;
        let group = *groups.first().context("no keepalived runs")?;
        ensure!(groups.iter().all(|one| *one == group), "keepalived runs in several process groups: {groups:?}");
        let at = clock::now_ns();
        killpg(group, Signal::SIGKILL)?;
        Ok(at)
    }

    /// SIGTERM to the parent, as systemd sends it; returns the instant just before.
    ///
    /// # Errors
    /// It does not run.
    pub fn terminate(self) -> Result<u64> {
        let file = self.host.home().join("keepalived.pid");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
        let pid = Pid::from_raw(text.trim().parse()?);
        ensure!(self.processes().contains(&pid), "keepalived {pid} does not run");
        let at = clock::now_ns();
        kill(pid, Signal::SIGTERM)?;
        Ok(at)
    }

    /// The version that is installed, as it says it.
    pub fn version() -> String {
        let said = Command::new("keepalived").arg("--version").output().map(|output| output.stderr).unwrap_or_default();
        String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned()
    }
}
