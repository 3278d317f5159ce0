//! `[cloud]`: which HaVip, EIP and instances these are, and how Alibaba Cloud is asked about them.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use super::Endpoint;

/// The HaVip of a pair, or of one instance of the router form, at Alibaba Cloud. No secret is in it: see [`CredentialSource`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cloud {
    /// Such as `cn-hangzhou`; `None`: instance metadata tells.
    pub region: Option<String>,
    /// `havip-…`; `None`: the one that has `address` in the vSwitch.
    pub havip: Option<String>,
    /// The virtual address, which the HaVip must have.
    pub address: Ipv4Addr,
    /// Allocation id of the EIP, `eip-…`; `None`: none is bound by us.
    pub eip: Option<String>,
    /// This node's instance; `None`: instance metadata tells.
    pub instance: Option<String>,
    /// The other node's.
    pub peer_instance: String,
    /// The vSwitch of both; `None`: instance metadata tells.
    pub vswitch: Option<String>,
    /// Where the key pair comes from.
    pub credentials: CredentialSource,
    /// Holds a key pair, with mode 0600.
    pub credentials_file: PathBuf,
    /// Name of the instance's RAM role; `None`: instance metadata tells.
    pub ram_role: Option<String>,
    /// Of the VPC and EIP service; `None`: the region's name inside a VPC.
    pub vpc_endpoint: Option<Endpoint>,
    /// Of ECS; `None`: the region's name inside a VPC.
    pub ecs_endpoint: Option<Endpoint>,
    /// Instance metadata.
    pub metadata_endpoint: Endpoint,
    /// Limit of a connection's making.
    pub connect_timeout: Duration,
    /// Limit of one attempt, connection included.
    pub timeout: Duration,
    /// How long announcing goes on before the one alert.
    pub follow_deadline: Duration,
    /// Between two looks at the master while all is quiet.
    pub poll_interval: Duration,
    /// What is done to a dead peer.
    pub fence: Fence,
}

/// Where the key pair comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// The first of the others that has one.
    Auto,
    /// `ALIBABA_CLOUD_ACCESS_KEY_ID` and its companions.
    Env,
    /// [`Cloud::credentials_file`].
    File,
    /// The role of the instance, by its metadata.
    RamRole,
}

/// What is done to a dead peer, and within which bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Its binding to the HaVip is taken away.
    pub unassociate: bool,
    /// It is stopped.
    pub stop: bool,
    /// Nothing is done: it is told what would be.
    pub dry_run: bool,
    /// At least so long after one fencing nothing follows.
    pub cooldown: Duration,
    /// Times in 24 hours.
    pub limit: u32,
}

impl Fence {
    /// Whether anything is to be done at all.
    pub const fn is_on(&self) -> bool {
        self.unassociate || self.stop
    }
}
