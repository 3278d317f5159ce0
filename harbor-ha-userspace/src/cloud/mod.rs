//! Alibaba Cloud: the HaVip that makes the virtual address real on ECS, its EIP, and the instances behind it.
//!
//! No call moves a HaVip: it follows gratuitous ARP, and the API only tells where it is. So this room serves set-up
//! (`harbor-ha havip`), observation and fencing, and nothing in it may stand between a dead primary and its successor.
//!
//! ```text
//! sign         pure: a request becomes a signed one            pace    pure: when to repeat, how often to call
//! error        what a refusal means                            answer  reads JSON of which every field may be missing
//! metadata     who and where this instance is                  credentials  the key pair, kept fresh, never shown
//! client       one call: signed, limited, repeated             havip, eip, ecs  the calls there are
//! admission    pure: whether security groups let a packet pass
//! ```
//!
//! Promises: every call ends within the time it was given; a change is made once, however often it is repeated; no key
//! is in an error, a log or a core file.

pub mod admission;
mod answer;
pub mod client;
pub mod credentials;
pub mod ecs;
pub mod eip;
pub mod error;
pub mod havip;
mod http;
pub mod metadata;
pub mod pace;
pub mod sign;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::OnceCell;

pub use answer::Status;
use client::{Call, Client, Service};
pub use credentials::CredentialsError;
use credentials::Keeper;
pub use ecs::{Ecs, Instance};
pub use eip::{Eip, Eips};
pub use error::CloudError;
pub use havip::{HaVip, HaVips};
use metadata::Metadata;
pub use metadata::MetadataError;
use pace::{Bucket, Pace};

use crate::config::lookup::{Lookup, System};
use crate::config::settings::Endpoint;
use crate::config::settings::cloud::Cloud as Settings;

/// Calls at once; then one [`EVERY`]. A fifth of the 300 a minute that an account has for most actions: the other node,
/// the console and other tools have theirs.
const BURST: u32 = 20;
const EVERY: Duration = Duration::from_secs(1);

/// The cloud as one node sees it. A clone shares everything but its patience.
#[derive(Clone)]
pub struct Cloud {
    shared: Arc<Shared>,
    /// How long a call may take, repetitions included.
    patience: Duration,
}

struct Shared {
    settings: Settings,
    client: Client,
    metadata: Arc<Metadata>,
    region: OnceCell<String>,
    instance: OnceCell<String>,
    vswitch: OnceCell<String>,
}

impl Cloud {
    /// Prepares; asks nothing yet. Each call may take `patience`, repetitions included. As there are keys from now on,
    /// this process becomes undumpable.
    ///
    /// # Errors
    /// The HTTP client could not be made.
    pub fn new(settings: &Settings, patience: Duration) -> Result<Self, CloudError> {
        Self::with(settings, patience, Arc::new(System), pace::USUAL)
    }

    /// The same, on a host and at a pace of a test's choice.
    pub(crate) fn with(
        settings: &Settings,
        patience: Duration,
        host: Arc<dyn Lookup + Send + Sync>,
        pace: Pace,
    ) -> Result<Self, CloudError> {
        let no_plain = host.env("ALIBABA_CLOUD_IMDSV1_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let metadata = Metadata::new(&settings.metadata_endpoint, !no_plain, settings.timeout);
        let metadata = Arc::new(metadata.map_err(CloudError::Client)?);
        let keeper = Keeper::new(
            settings.credentials,
            &settings.credentials_file,
            settings.ram_role.clone(),
            metadata.clone(),
            host,
        );
        let bucket = Bucket::new(BURST, EVERY);
        let client = Client::new(keeper, settings.connect_timeout, settings.timeout, pace, bucket)?;
        let shared = Shared {
            settings: settings.clone(),
            client,
            metadata,
            region: OnceCell::new(),
            instance: OnceCell::new(),
            vswitch: OnceCell::new(),
        };
        Ok(Self { shared: Arc::new(shared), patience })
    }

    /// The same, for calls that may take another time.
    #[must_use]
    pub fn with_patience(&self, patience: Duration) -> Self {
        Self { shared: Arc::clone(&self.shared), patience }
    }

    /// HaVips.
    pub const fn havip(&self) -> HaVips<'_> {
        HaVips(self)
    }

    /// EIPs.
    pub const fn eip(&self) -> Eips<'_> {
        Eips(self)
    }

    /// Instances and their security groups.
    pub const fn ecs(&self) -> Ecs<'_> {
        Ecs(self)
    }

    /// What was configured.
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// This instance's metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.shared.metadata
    }

    /// Where the keys come from, in words.
    ///
    /// # Errors
    /// There are none.
    pub async fn keys_from(&self) -> Result<String, CredentialsError> {
        self.shared.client.keeper().current(self.settings().timeout).await.map(|(_, from)| from.to_string())
    }

    /// As configured, or as metadata tells.
    ///
    /// # Errors
    /// [`CloudError::Place`].
    pub async fn region(&self) -> Result<&str, CloudError> {
        let learn = async || match &self.shared.settings.region {
            Some(region) => Ok(region.clone()),
            None => self.shared.metadata.region().await.map_err(|source| CloudError::Place { key: "region", source }),
        };
        self.shared.region.get_or_try_init(learn).await.map(String::as_str)
    }

    /// This node's instance, as configured or as metadata tells.
    ///
    /// # Errors
    /// [`CloudError::Place`].
    pub async fn instance(&self) -> Result<&str, CloudError> {
        let learn = async || match &self.shared.settings.instance {
            Some(instance) => Ok(instance.clone()),
            None => {
                self.shared.metadata.instance().await.map_err(|source| CloudError::Place { key: "instance", source })
            }
        };
        self.shared.instance.get_or_try_init(learn).await.map(String::as_str)
    }

    /// The vSwitch of this pair, as configured or as metadata tells.
    ///
    /// # Errors
    /// [`CloudError::Place`].
    pub async fn vswitch(&self) -> Result<&str, CloudError> {
        let learn = async || match &self.shared.settings.vswitch {
            Some(vswitch) => Ok(vswitch.clone()),
            None => self.shared.metadata.vswitch().await.map_err(|source| CloudError::Place { key: "vswitch", source }),
        };
        self.shared.vswitch.get_or_try_init(learn).await.map(String::as_str)
    }

    /// The HaVip of this pair: by its id, or by the address in the vSwitch. `None`: there is none.
    ///
    /// # Errors
    /// It could not be looked up.
    pub async fn our_havip(&self) -> Result<Option<HaVip>, CloudError> {
        match &self.shared.settings.havip {
            Some(id) => self.havip().describe(id).await,
            None => self.havip().find(self.vswitch().await?, self.shared.settings.address).await,
        }
    }

    async fn endpoint(&self, service: Service) -> Result<Endpoint, CloudError> {
        let configured = match service {
            Service::Vpc => &self.shared.settings.vpc_endpoint,
            Service::Ecs => &self.shared.settings.ecs_endpoint,
        };
        match configured {
            Some(endpoint) => Ok(endpoint.clone()),
            None => Ok(service.internal(self.region().await?)),
        }
    }

    async fn call(&self, call: Call) -> Result<Value, CloudError> {
        self.shared.client.call(&self.endpoint(call.service).await?, &call, self.patience).await
    }

    /// A call that names the region, as all but two do.
    async fn regional(&self, service: Service, action: &'static str) -> Result<Call, CloudError> {
        Ok(Call::new(service, action).with("RegionId", self.region().await?))
    }
}

#[cfg(test)]
mod tests;
