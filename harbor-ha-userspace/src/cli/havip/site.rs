//! What a configuration, of whatever form, says of this node as far as the HaVip is concerned.

use std::path::PathBuf;
use std::process::ExitCode;

use super::super::{CONFIG, WithConfig};
use super::End;
use super::judge::{Keys, Node};
use crate::config::keepalived::host;
use crate::config::settings::cloud::Cloud;
use crate::config::{Configuration, Settings, router};
use crate::daemon::{self, Request};

/// A node with a HaVip.
pub(super) struct Site {
    pub cloud: Cloud,
    pub node: Node,
    /// The daemon's.
    socket: PathBuf,
    /// Of the router form: the instance that has the HaVip's address.
    instance: Option<String>,
}

impl Site {
    /// Reads the configuration.
    pub fn of(with: &WithConfig) -> Result<Self, End> {
        let path = with.config.display();
        let lacks = |text: String| {
            eprintln!("harbor-ha: {path} {text}");
            End::Told(ExitCode::from(CONFIG))
        };
        if host::is_keepalived(&with.config, || host::read(&with.config).unwrap_or_default()) {
            return Err(lacks(format!(
                "is keepalived's and knows no HaVip: `harbor-ha import {path} --output FILE.toml`, add [cloud] to that \
                 (docs/cloud.md), and name it by --config, here and for the daemon"
            )));
        }
        let (configuration, _) = with.any()?;
        let site = match configuration {
            Configuration::Pair(settings) => Self::of_pair(*settings),
            Configuration::Router(settings) => Self::of_router(&settings),
        };
        site.ok_or_else(|| {
            lacks("has no [cloud]; packaging/harbor-ha.toml explains it, and docs/cloud.md how to set it up".to_owned())
        })
    }

    fn of_pair(settings: Settings) -> Option<Self> {
        let node = Node {
            address: Some(settings.node.address),
            peer: Some(settings.node.peer),
            pulses: settings.pulse.iter().flat_map(|pulse| [pulse.port, pulse.flows_port]).collect(),
            adverts: settings.vrrp.adverts,
            keys: Keys { address: "node.address", peer: "node.peer", vips: "node.vips" },
        };
        let socket = daemon::socket_path(&settings.node);
        Some(Self { cloud: settings.cloud?, node, socket, instance: None })
    }

    fn of_router(settings: &router::Settings) -> Option<Self> {
        let (_, instance, cloud) = settings.of_havip()?;
        let peer = match instance.peers.as_slice() {
            [peer] => Some(*peer),
            _ => None,
        };
        let node = Node {
            address: instance.source,
            peer,
            pulses: Vec::new(),
            adverts: true,
            keys: Keys { address: "instance.source", peer: "instance.peers", vips: "instance.vips" },
        };
        let socket = daemon::socket_path_of(&settings.router.runtime_dir, &settings.router.name);
        Some(Self { cloud: cloud.clone(), node, socket, instance: Some(instance.name.clone()) })
    }

    /// Whether this node serves, and whether the peer does, by the daemon; `None`: it does not answer.
    pub async fn serves(&self) -> Option<(bool, bool)> {
        let status = daemon::ask(&self.socket, Request::Status).await.ok()?;
        let Some(name) = &self.instance else {
            return Some((status["role"] == "primary", status["peer"]["role"] == "primary"));
        };
        let all = status["instances"].as_array()?;
        let instance = all.iter().find(|instance| instance["name"] == name.as_str())?;
        let another = instance["state"] == "backup" && !instance["master"].is_null();
        Some((instance["state"] == "master", another && self.node.peer.is_some()))
    }
}
