//! The configuration of a node's daemon.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::node::Node;
use super::state::VIP;
use super::witness::Witness;
use super::{Profile, Side};
use crate::cloud::scenario::ids;

/// Whether the daemon of this tree knows `[kernel] cgroup`: it refuses unknown keys.
///
/// The lab has the cgroups and the witness servers in any case; these are only whether the daemon is told of them.
pub const DAEMON_KNOWS_THE_GATE: bool = true;
/// Whether it knows `[lease]` and `[witness]`.
pub const DAEMON_KNOWS_THE_LEASE: bool = true;

/// Where each node's daemon serves its metrics: nobody else can have this port there.
pub const OBSERVE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9112);

/// How long a witness's word holds.
const TTL: &str = "2s";

/// Settings that the daemons are told where they are given; else their defaults hold.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tuned {
    /// `lease.hang`: for a test whose daemon is away for a moment, on a machine that may be slow to start it again.
    pub hang: Option<String>,
    /// `postgres.sync`.
    pub sync: Option<String>,
    /// `postgres.max_lag`.
    pub max_lag: Option<String>,
    /// `[track]` and `[notify]`: see [`Tells`].
    pub tells: bool,
    /// More lines of `[cloud]`, in a lab that has one: `follow_deadline = "5s"`.
    pub cloud: Vec<String>,
}

/// What a node tracks and tells, in its own folder.
pub struct Tells<'a>(pub Node<'a>);

impl Tells<'_> {
    /// While this file is there, the check of weight 0 fails.
    pub fn broken(&self) -> PathBuf {
        self.0.home().join("broken")
    }

    /// The number in it, times -10, is added to the priority.
    pub fn load(&self) -> PathBuf {
        self.0.home().join("load")
    }

    /// A line for each run of a notify script: its arguments, its user, and the state of its environment.
    pub fn log(&self) -> PathBuf {
        self.0.home().join("told.log")
    }

    fn script(&self) -> PathBuf {
        self.0.home().join("told.sh")
    }

    /// Makes the script, and a log that its user may write.
    pub(super) fn prepare(&self) -> Result<()> {
        let (script, log) = (self.script(), self.log());
        let text = format!("#!/bin/sh\necho \"$* $(id -un) $HARBOR_HA_STATE\" >>{}\n", log.display());
        fs::write(&script, text)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        fs::write(&log, "")?;
        Ok(fs::set_permissions(&log, fs::Permissions::from_mode(0o666))?)
    }

    fn text(&self) -> String {
        let (script, user) = (self.script(), &self.0.state.user.name);
        let run = |key: &str| format!("{key} = [\"{}\", \"{key}\"]\n", script.display());
        let all: String = ["master", "backup", "fault", "stop", "all"].map(run).concat();
        format!(
            "\n[track]\nscripts = [\"check\"]\nfiles = [\"load\"]\n\n\
             [[script]]\nname = \"check\"\ncommand = [\"/usr/bin/test\", \"!\", \"-e\", \"{broken}\"]\n\
             interval = \"200ms\"\ntimeout = \"10s\"\nfall = 2\n\n\
             [[file]]\nname = \"load\"\npath = \"{load}\"\nweight = -10\ninit = 0\n\n\
             [notify]\n{all}user = \"{user}\"\n",
            broken = self.broken().display(),
            load = self.load().display(),
        )
    }
}

/// The whole file.
pub(super) fn text(node: Node<'_>) -> String {
    let Node { state, side } = node;
    let (home, options) = (node.home(), &state.options);
    let (home, postgres) = (home.display(), node.postgres());
    let priority = match (options.profile, side) {
        (_, Side::A) => 100,
        (Profile::Harbor, Side::B) => 90,
        (Profile::Seed, Side::B) => 10,
    };
    let heartbeat = match options.profile {
        Profile::Harbor => format!(
            "version = 3\nvrid = 51\npriority = {priority}\n\n[pulse]\ninterval = \"{}\"\nthreshold = {}\n\
             key_file = \"{home}/pulse.key\"\n",
            options.pulse, options.threshold
        ),
        Profile::Seed => format!(
            "version = 2\nvrid = 51\npriority = {priority}\nadvert_interval = \"1s\"\n\
             password_file = \"{home}/vrrp.password\"\n\n[pulse]\nenabled = false\n"
        ),
    };
    let mut text = format!(
        "[node]\ninstance = \"{instance}\"\ninterface = \"eth0\"\naddress = \"{address}\"\npeer = \"{peer}\"\n\
         vips = [\"{VIP}/32\"]\nstate_dir = \"{home}/state\"\nruntime_dir = \"{home}/run\"\nbpffs = \"{bpffs}\"\n\n\
         [vrrp]\n{heartbeat}\n\
         [postgres]\ndata_dir = \"{data}\"\nbin_dir = \"{bin}\"\nsocket_dir = \"{socket}\"\nname = \"node_{side}\"\n\
         peer_name = \"node_{other}\"\nstart_options = \"{start}\"\n{tuned}\n\
         [observe]\nlisten = \"{OBSERVE}\"\n\n\
         [kernel]\nxdp_mode = \"{xdp}\"\n",
        instance = node.instance(),
        address = state.address(side),
        peer = state.address(side.other()),
        bpffs = state.bpffs().display(),
        data = postgres.data().display(),
        bin = postgres.bin().display(),
        socket = postgres.socket_folder().display(),
        other = side.other(),
        start = postgres.start_options(),
        tuned = given(&[("sync", &options.tuned.sync), ("max_lag", &options.tuned.max_lag)]),
        xdp = options.xdp_mode,
    );
    // Still inside `[kernel]`.
    if let (true, Ok(cgroup)) = (DAEMON_KNOWS_THE_GATE, node.cgroup()) {
        text += &format!("cgroup = \"{}\"\n", cgroup.display());
    }
    // Without pulses there is no lease, and nothing to ask a witness.
    if DAEMON_KNOWS_THE_LEASE && options.profile == Profile::Harbor {
        text += &guard(options.witness, options.isolated.name(), &given(&[("hang", &options.tuned.hang)]));
    }
    if options.tuned.tells {
        text += &Tells(node).text();
    }
    if options.cloud {
        text += &cloud(side, &options.tuned.cloud);
    }
    if !options.realtime {
        text += "\n[realtime]\npriority = 0\n";
    }
    text
}

/// The HaVip of the two. Instance, vSwitch and the key of the role are what the metadata service tells, at its own address.
fn cloud(side: Side, tuned: &[String]) -> String {
    let (havip, eip, peer) = (ids::HAVIP, ids::EIP, super::cloud::instance(side.other()));
    let service = super::cloud::SERVICE;
    let lines = format!(
        "\n[cloud]\nhavip = \"{havip}\"\neip = \"{eip}\"\npeer_instance = \"{peer}\"\ncredentials = \"ram-role\"\n\
         vpc_endpoint = \"http://{service}\"\necs_endpoint = \"http://{service}\"\n"
    );
    tuned.iter().fold(lines, |lines, line| lines + line + "\n")
}

/// What a primary does that hears nobody.
fn guard(witness: Witness, isolated: &str, tuned: &str) -> String {
    match witness.says_where() {
        Some(place) => {
            let lease = if tuned.is_empty() { String::new() } else { format!("\n[lease]\n{tuned}") };
            format!("{lease}\n[witness]\nkind = \"{}\"\n{place}\nttl = \"{TTL}\"\n", witness.name())
        }
        None => format!("\n[lease]\nisolated = \"{isolated}\"\n{tuned}"),
    }
}

/// The lines of those settings that are given.
fn given(settings: &[(&str, &Option<String>)]) -> String {
    let line = |(key, value): &(&str, &Option<String>)| value.as_ref().map(|value| format!("{key} = \"{value}\"\n"));
    settings.iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_stands_in_the_configuration_instead_of_a_habit() {
        let etcd = guard(Witness::Etcd, "hold", "");
        assert_eq!(etcd, "\n[witness]\nkind = \"etcd\"\nendpoints = [\"http://10.77.0.4:2379\"]\nttl = \"2s\"\n");
        let redis = guard(Witness::Redis, "hold", "");
        assert_eq!(redis, "\n[witness]\nkind = \"redis\"\nendpoints = [\"redis://10.77.0.4:6379\"]\nttl = \"2s\"\n");
        let hang = given(&[("hang", &Some("9s".into())), ("more", &None)]);
        assert_eq!(guard(Witness::None, "serve", &hang), "\n[lease]\nisolated = \"serve\"\nhang = \"9s\"\n");
    }
}
