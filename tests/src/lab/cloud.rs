//! The cloud of a lab: the double of Alibaba Cloud on a host of its own, whose master of the HaVip is whoever the bridge
//! has heard announce it.
//!
//! It has the metadata service's own address too, so that a node needs no setting to find that one.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::unistd::Pid;

use super::host::{self, Place};
use super::link::mac_text;
use super::{Lab, Side, netns, node};
use crate::cloud::remote::Remote;
use crate::cloud::scenario::{self, Scenario, ids};

/// Its host.
pub const HOST: &str = "cloud";
/// Its address.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);
/// Of the metadata service, on every instance of Alibaba Cloud.
pub const METADATA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
/// Where VPC and ECS are served.
pub const SERVICE: SocketAddr = SocketAddr::new(IpAddr::V4(ADDRESS), 8080);
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(ADDRESS), 8081);
/// It begins to serve after a fraction of this.
const START_LIMIT: Duration = Duration::from_secs(10);
/// A change in the lab's cloud. The real one names no number; seconds would only make tests long.
const TRANSITION_MS: u64 = 200;

/// The instance that a node is.
pub const fn instance(side: Side) -> &'static str {
    match side {
        Side::A => ids::INSTANCES[0],
        Side::B => ids::INSTANCES[1],
    }
}

impl Lab {
    fn cloud_folder(&self) -> PathBuf {
        self.state().home.join(HOST)
    }

    /// What the double says.
    pub fn cloud_log(&self) -> PathBuf {
        self.cloud_folder().join("cloud.log")
    }

    /// A test's way to the double.
    pub fn cloud(&self) -> Remote {
        Remote { admin: ADMIN, netns: Some(self.state().netns(HOST)) }
    }

    /// What is there at the start: the two nodes as instances, whose power switch is the lab's.
    fn cloud_scenario(&self) -> Result<Scenario> {
        let mut scenario = scenario::pair(Side::BOTH.map(|side| mac_text(self.state().mac(side.name()))));
        scenario.transition_ms = Some(TRANSITION_MS);
        scenario.metadata_of = None;
        let program = node::lab_program()?.display().to_string();
        for side in Side::BOTH {
            let words = [&program, "fault", "--run", self.run(), "node", "--node", side.name()];
            let node = scenario.instance.get_mut(instance(side)).expect("the pair has both");
            node.on_stop = words.map(str::to_owned).to_vec();
        }
        Ok(scenario)
    }

    /// Starts the double unless it runs or the lab has none, and waits until it answers.
    ///
    /// # Errors
    /// It is not built, or does not answer; its log says why.
    pub fn start_cloud(&self) -> Result<()> {
        if !self.state().options.cloud || self.cloud_process().is_some() {
            return Ok(());
        }
        fs::create_dir_all(self.cloud_folder())?;
        let file = self.cloud_folder().join("scenario.json");
        fs::write(&file, serde_json::to_string_pretty(&self.cloud_scenario()?)?)?;
        let words = format!("--listen {SERVICE} --listen {METADATA}:80 --admin {ADMIN} --garp eth0 --scenario");
        let words = words.split(' ').map(Into::into).chain([file.into_os_string()]).collect::<Vec<_>>();
        let place = Place { netns: self.state().netns(HOST), cgroup: None };
        host::start(&place, None, &self.cloud_log(), &node::beside("harbor-ha-cloud")?, &words)?;
        let begun = Instant::now();
        while let Err(why) = self.cloud().state() {
            if begun.elapsed() > START_LIMIT {
                let text = fs::read_to_string(self.cloud_log()).unwrap_or_default();
                bail!("the double of the cloud does not answer: {why:#}\n{text}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn cloud_process(&self) -> Option<Pid> {
        let inode = netns::inode(&self.state().netns(HOST)).ok()?;
        netns::processes(inode).into_iter().find(|pid| !host::is_init(*pid))
    }
}
